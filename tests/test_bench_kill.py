"""``kill -9`` at any moment of a bench, then the same command again: nothing has changed.

Against a deterministic endpoint, verdicts and numbers come out as from an undisturbed bench, and
what the journal held at a kill is not asked again (contract, section 1). Only ``totals`` tell the
runs apart: they count what a run asked and replayed itself.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from endpoint import Endpoint, behave, identity_of
from forked import Forked
from loopback import Loopback
from recompute_metrics import compare

pytestmark = pytest.mark.attack

SHARES = (0.1, 0.4, 0.8)
"""How much of the calls was answered when the bench was killed."""


def start(data: Path, url: str, out: Path) -> Forked:
    targets = [part for name in ("judge-a", "judge-b") for part in ("--target", f"openai/{name}@")]
    targets = [f"{part}{url}" if part.endswith("@") else part for part in targets]
    conditions = ["--condition", "joint", "--condition", "value"]
    typed = ["bench", str(data), *targets, *conditions, "--epochs", "2", "--quiet"]
    return Forked([*typed, "--out", str(out)])


def finish(command: Forked) -> None:
    said = command.finish()
    assert (said.code, said.err) == (0, "")


def numbers(folder: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return {name: value for name, value in table.items() if name != "totals"}


def write(path: Path) -> Path:
    rows = [
        {
            "prompt_id": f"p{number}",
            "cluster_id": f"c{number}",
            "prompt": f"Number {number} asks about the ferry.",
            "aligned": f"Fine words {number}. [[violates:]]",
            "misaligned": f"Bad words {number}. [[violates:value]]",
            "violated": ["value"],
            "domains": ["value/Honesty"],
            "intended": ["value"],
            "generator": "openai/writer",
        }
        for number in range(24)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, int, int]:
    """An undisturbed bench, one killed three times; calls repeated, and the most that may be."""
    folder = tmp_path_factory.mktemp("bench-kill")
    data = write(folder / "pairs.jsonl")
    with Endpoint(Loopback(behave, delay=0.01)) as endpoint:
        server = endpoint.server
        finish(start(data, endpoint.url, folder / "undisturbed"))
        wanted = server.calls
        landed = 0
        for share in SHARES:
            command = start(data, endpoint.url, folder / "disturbed")
            end = time.monotonic() + 120
            while server.calls - wanted < share * wanted and command.alive:
                assert time.monotonic() < end
                time.sleep(0.002)
            landed += command.kill()
        assert landed == len(SHARES)
        assert not (folder / "disturbed" / "results.json").exists()
        finish(start(data, endpoint.url, folder / "disturbed"))
        asked = [str(identity_of(body)) for body in server.bodies]
    assert wanted == len(set(asked)) == 24 * 2 * 2 * 2 * 2
    lost = len(asked) - 2 * wanted
    return folder / "undisturbed", folder / "disturbed", lost, len(SHARES) * server.most_in_flight


def test_verdicts_are_byte_for_byte_those_of_an_undisturbed_bench(
    story: tuple[Path, Path, int, int],
) -> None:
    undisturbed, disturbed, _, _ = story
    first, second = (folder / "verdicts.parquet" for folder in (undisturbed, disturbed))
    assert first.read_bytes() == second.read_bytes()


def test_numbers_are_those_of_an_undisturbed_bench(story: tuple[Path, Path, int, int]) -> None:
    undisturbed, disturbed, _, _ = story
    assert numbers(undisturbed) == numbers(disturbed)


def test_only_calls_in_flight_at_a_kill_are_made_again(
    story: tuple[Path, Path, int, int],
) -> None:
    _, _, repeated, most = story
    assert 0 <= repeated <= most


def test_another_program_finds_the_same_numbers_in_the_resumed_run(
    story: tuple[Path, Path, int, int],
) -> None:
    compared, differences = compare(story[1])
    assert differences == []
    assert compared == 4
