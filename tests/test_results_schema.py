"""The published schema of ``results.json``: every kind of real run follows it, strictly."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from endpoint import Endpoint
from loopback import Loopback
from misalign_bench.bench.results import SCHEMA_VERSION
from misalign_bench.bench.results_file import problems, results_schema
from misalign_bench.cli.main import main
from misalign_bench.records import DIMENSIONS

ONE = "simulated/judge?sensitivity=0.9&specificity=0.8&malformed=0.05&refusal=0.02&name=one"
OTHER = "simulated/judge?sensitivity=0.7&specificity=0.9&name=other"
WRITER = "simulated/generator?obey=0.7&refusal=0.1&name=writer"
CONDITIONS = ("joint", *DIMENSIONS)

RUNS: dict[str, tuple[str, ...]] = {
    "detect": (
        *("--target", ONE, "--target", OTHER),
        *(part for name in CONDITIONS for part in ("--condition", name)),
    ),
    "percentile": ("--target", ONE, "--interval", "percentile", "--epochs", "1"),
    "paper": ("--target", ONE, "--grain", "paper", "--limit", "20"),
    "logprob": ("--target", ONE, "--method", "logprob"),
    "framings": (
        *("--target", ONE, "--method", "logprob", "--framing", "all"),
        *("--choose-on", "calibration_set"),
    ),
    "until": ("--target", ONE, "--until", "0.2"),
    "own": ("--target", "simulated/judge?name=self", "--allow-shared-roles"),
    "respond": (
        *("--mode", "respond", "--target", WRITER, "--judge", ONE, "--judge", OTHER),
        *("--probes", "6", "--allow-one-family"),
    ),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 prompts in 50 clusters, pairs of two writers, some truth unknown."""
    draw, rows = random.Random(5), []
    for number in range(60):
        held = [name for name in DIMENSIONS if draw.random() < 0.6] or ["value"]
        for generator in ("simulated/judge?name=self", "openai/writer"):
            known: dict[str, bool | None] = {name: name in held for name in DIMENSIONS}
            if number % 7 == 0 and len(held) > 1:
                known[held[0]] = None
            rows.append(
                {
                    "prompt_id": f"p{number}",
                    "cluster_id": f"c{number % 50}",
                    "prompt": f"Number {number} asks about the ferry.",
                    "aligned": f"Fine words {number} of {generator}. [[violates:]]",
                    "misaligned": f"Bad words {number} {generator} [[violates:{','.join(held)}]]",
                    "misaligned_violated": known,
                    "domains": [f"{name}/one" for name in held],
                    "intended": held,
                    "generator": generator,
                    "evaluator": "openai/evaluator",
                }
            )
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def bench(data: Path, out: Path, *options: str) -> dict[str, Any]:
    assert main(["bench", str(data), "--out", str(out), "--quiet", *options]) == 0
    table: dict[str, Any] = json.loads((out / "results.json").read_text())
    return table


@pytest.fixture(scope="module")
def detected(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return bench(data, tmp_path_factory.mktemp("detected"), *RUNS["detect"])


def objects(schema: Any, place: str = "$") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every part of the schema that describes an object."""
    if isinstance(schema, dict):
        if schema.get("type") == "object" or "properties" in schema:
            yield place, schema
        for key, value in schema.items():
            yield from objects(value, f"{place}.{key}")
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from objects(value, f"{place}[{number}]")


def test_the_schema_is_sound_and_of_the_version_that_is_written() -> None:
    schema = results_schema()
    Draft202012Validator.check_schema(schema)
    assert schema["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    assert schema["$id"].endswith(f":{SCHEMA_VERSION}")


def test_the_schema_takes_no_field_that_it_does_not_name() -> None:
    conditional = ("$.if", "$.then", "$.else")
    for place, held in objects(results_schema()):
        if not place.startswith(conditional) and "cross_validated" not in place:
            assert "additionalProperties" in held, place
            assert held["additionalProperties"] is not True, place


@pytest.mark.parametrize("name", RUNS)
def test_a_real_run_follows_the_schema(name: str, data: Path, tmp_path: Path) -> None:
    table = bench(data, tmp_path / "run", *RUNS[name])
    assert list(problems(table)) == []
    assert table["simulated"] is True


def test_a_guardrail_run_follows_the_schema(data: Path, tmp_path: Path) -> None:
    with Endpoint(Loopback(lambda body: "\n\nsafe")) as endpoint:
        target = f"openai/meta-llama/Llama-Guard-3-8B@{endpoint.url}"
        table = bench(data, tmp_path / "run", "--target", target, "--limit", "12")
    assert list(problems(table)) == []
    assert table["targets"][0]["method"] == "guardrail"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("targets", 0, "conditions", 0, "joint", "coverage", "value"), 1.2),
        (("targets", 0, "conditions", 0, "joint", "coverage", "valeu"), 0.5),
        (("targets", 0, "conditions", 0, "epochs"), "3"),
        (("targets", 0, "conditions", 0, "domain", "law/Theft"), {}),
        (("comparisons", "joint", 0, "coverage", "p"), -0.1),
        (("dataset", "content_hash"), "short"),
        (("grain",), "word"),
        (("mode",), "respond"),
    ],
)
def test_a_changed_file_is_found_out(
    place: tuple[str | int, ...], value: Any, detected: dict[str, Any]
) -> None:
    table = json.loads(json.dumps(detected))
    inside = table
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    assert list(problems(table))


def test_validate_checks_results_against_the_schema(
    tmp_path: Path, detected: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(detected))
    assert main(["validate", str(path)]) == 0
    assert "follows the schema: 2 targets, mode detect" in capsys.readouterr().out
    path.write_text(json.dumps(detected | {"seed": "x", "colour": "red"}))
    assert main(["validate", str(path)]) == 2
    said = capsys.readouterr().err
    assert "$.seed: 'x' is not of type 'integer'" in said
    assert "'colour' was unexpected" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "it has no schema_version"),
        ('{"schema_version": 1}', "has schema_version 1; this misalign-bench checks 2"),
        ('{"schema_version": NaN}', "NaN is no JSON"),
    ],
)
def test_what_is_no_results_file_is_one_line(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    assert main(["validate", str(path)]) == 2
    assert message in capsys.readouterr().err
