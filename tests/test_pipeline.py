"""Stage I from a file of prompts to a data set, with simulated models and a real endpoint.

A build is a function of its configuration and its journal: run again it asks nothing, over another
journal it writes the same bytes, and what has no answer yet stops it before anything final.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from builds import CONFIGURATION, data_set
from endpoint import Endpoint, behave, write_config, write_prompts
from loopback import Body, Fault, Loopback
from misalign_bench.build.ingest import content_id
from misalign_bench.cli.main import main
from misalign_bench.journal.store import Entry, Journal
from misalign_bench.judge import structured
from misalign_bench.prompts.loader import parse

Row = dict[str, Any]
PERFECT = "simulated/judge?sensitivity=1&specificity=1"


def configured(folder: Path, prompts: int = 10, **changes: Any) -> Path:
    """A configuration over simulated models, and its prompts beside it; ``changes`` win."""
    folder.mkdir(parents=True, exist_ok=True)
    write_prompts(folder / "prompts.csv", prompts)
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump({**CONFIGURATION, "roles": roles(), **changes}))
    return path


def roles(**changes: Any) -> Row:
    return {
        "classifier": "simulated/classifier",
        "expander": "simulated/expander",
        "generators": ["simulated/generator?name=one", "simulated/generator?name=two&obey=0.6"],
        "evaluator": "simulated/judge?sensitivity=0.8&specificity=0.8",
    } | changes


EXPAND = {"target": 5, "domains": ["value/Honesty", "culture/Festivals"], "per_request": 2}


def build(config: Path, out: Path, *arguments: str) -> int:
    return main(["build", str(config), "--out", str(out), "--quiet", *arguments])


def built(config: Path, out: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> Row:
    """What the build printed; it must have come to its end."""
    capsys.readouterr()
    assert build(config, out, "--json", *arguments) == 0
    said: Row = json.loads(capsys.readouterr().out)
    return said


def rows(out: Path, configuration: str = "pairs") -> list[Row]:
    found: list[Row] = []
    for file in sorted((out / "data" / configuration).glob("*.parquet")):
        found += pq.read_table(file).to_pylist()
    return found


def dropped(out: Path) -> list[Row]:
    found: list[Row] = pq.read_table(out / "dropped.parquet").to_pylist()
    return found


def entries(out: Path) -> list[Entry]:
    with Journal.open(out / "journal.sqlite", read_only=True) as journal:
        return list(journal.entries())


def by_role(out: Path) -> Counter[str]:
    return Counter(entry.role for entry in entries(out))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished build with expansion."""
    folder = tmp_path_factory.mktemp("run")
    config = configured(folder, expand=EXPAND | {"max_rounds": 2})
    assert build(config, folder / "out") == 0
    return folder


# --- determinism and replay


def test_two_builds_over_different_journals_write_the_same_bytes(run: Path, tmp_path: Path) -> None:
    assert build(run / "run.yaml", tmp_path / "other") == 0
    first, second = data_set(run / "out"), data_set(tmp_path / "other")
    assert len(first) == 20
    assert sorted(first) == sorted(second)
    assert [name for name in first if first[name] != second[name]] == []
    assert len(rows(run / "out")) > 5


def test_another_seed_makes_another_data_set(run: Path, tmp_path: Path) -> None:
    table = yaml.safe_load((run / "run.yaml").read_text())
    config = configured(tmp_path, **{**table, "seed": 8})
    assert build(config, tmp_path / "out") == 0
    assert rows(tmp_path / "out") != rows(run / "out")


def test_running_again_asks_nothing_and_changes_nothing(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, calls = data_set(run / "out"), len(entries(run / "out"))
    said = built(run / "run.yaml", run / "out", capsys)
    assert said["calls"] == {"asked": 0, "replayed": calls}
    assert data_set(run / "out") == before
    assert len(entries(run / "out")) == calls


def test_expanded_prompts_are_answered_and_stay_in_their_parents_split(run: Path) -> None:
    pairs = rows(run / "out", "pairs")
    expanded = [row for row in pairs if row["prompt"].startswith("What is a good way to handle")]
    assert expanded
    splits: dict[str, set[str]] = {}
    for file in sorted((run / "out" / "data" / "pairs").glob("*.parquet")):
        for row in pq.read_table(file).to_pylist():
            splits.setdefault(row["cluster_id"], set()).add(file.name.partition("-")[0])
    assert all(len(held) == 1 for held in splits.values())


def test_every_accepted_pair_is_what_it_claims_to_be(run: Path) -> None:
    for row in rows(run / "out"):
        assert set(row["intended"]) <= set(row["active"])
        assert row["intended"]
        assert any(row["misaligned_violated"][dimension] for dimension in row["intended"])
        assert set(row["aligned_violated"].values()) == {False}


def test_every_prompt_and_generator_ends_as_a_pair_or_a_drop(run: Path) -> None:
    """Nothing is lost on the way: what was drawn for is in the files once."""
    generators = {"simulated/generator?name=one", "simulated/generator?name=two&obey=0.6"}
    ends = Counter(f"{row['prompt_id']}:{row['generator']}" for row in rows(run / "out"))
    ends.update(row["id"] for row in dropped(run / "out") if row["stage"] == "resample")
    assert set(ends.values()) == {1}
    drawn = {identity.partition(":")[0] for identity in ends}
    assert set(ends) == {f"{prompt}:{name}" for prompt in drawn for name in generators}
    asked = {entry.model for entry in entries(run / "out") if entry.role == "generator"}
    assert asked == generators


# --- judging again


def test_another_text_of_the_judges_template_reuses_every_draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(tmp_path, roles=roles(evaluator=PERFECT))
    out = tmp_path / "out"
    assert build(config, out) == 0
    before, first = by_role(out), rows(out)
    shipped = files("misalign_bench.prompts").joinpath("judge_structured.j2").read_text()
    changed = parse(
        shipped.replace("You judge one reply", "You assess one reply"), "judge_structured"
    )
    monkeypatch.setattr(structured, "template", lambda name: changed)
    assert build(config, out) == 0
    after = by_role(out)
    assert after["generator"] == before["generator"] > 0
    assert after["classifier"] == before["classifier"]
    assert after["evaluator"] == 2 * before["evaluator"]
    # The judge errs never, so that the pairs are the same under either wording.
    assert texts(rows(out)) == texts(first)


def texts(held: list[Row]) -> list[tuple[str, ...]]:
    names = ("prompt_id", "generator", "aligned", "misaligned")
    return [tuple(row[name] for name in names) for row in held]


def test_judging_again_without_new_draws_asks_no_generator_and_drops_what_lacks_a_draw(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    assert build(configured(tmp_path, roles=roles(evaluator=PERFECT)), out) == 0
    before = by_role(out)
    drawn = {entry.response["text"].strip() for entry in entries(out) if entry.role == "generator"}
    harsher = configured(tmp_path, roles=roles(evaluator=f"{PERFECT}&name=b&malformed=0.3"))
    assert build(harsher, out, "--no-new-draws") == 0
    after = by_role(out)
    assert after["generator"] == before["generator"]
    assert after["evaluator"] > before["evaluator"]
    reasons = {row["reason"] for row in dropped(out) if row["stage"] == "resample"}
    assert "draw_not_in_journal" in reasons <= {"draw_not_in_journal", "draws_spent"}
    kept = rows(out)
    assert kept
    assert {text for row in kept for text in (row["aligned"], row["misaligned"])} <= drawn


def test_without_a_journal_no_new_draws_drops_every_pair(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert build(configured(tmp_path, 4), out, "--no-new-draws") == 0
    assert rows(out) == []
    assert by_role(out)["generator"] == 0
    reasons = Counter(row["reason"] for row in dropped(out) if row["stage"] == "resample")
    assert set(reasons) == {"draw_not_in_journal"}
    assert reasons["draw_not_in_journal"] >= 4


# --- pending rows


class Sick:
    """Fails for whatever a body holds these words, while it is sick."""

    def __init__(self, role: str, words: str = "") -> None:
        self.role, self.words, self.sick = role, words, True

    def __call__(self, body: Body) -> Fault | None:
        struck = body["model"].startswith(self.role) and self.words in json.dumps(body["messages"])
        return Fault(503, "overloaded") if self.sick and struck else None


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(Loopback(behave)) as held:
        yield held


def over(endpoint: Endpoint, folder: Path, **changes: Any) -> Path:
    """A configuration over the endpoint that tries each call once."""
    folder.mkdir(parents=True, exist_ok=True)
    path = write_config(folder, endpoint.url, 4, **changes)
    table = yaml.safe_load(path.read_text())
    for held in table["roles"].values():
        for model in held if isinstance(held, list) else [held]:
            model["retries"] = 0
    path.write_text(yaml.safe_dump(table))
    return path


@pytest.mark.parametrize(
    ("role", "words", "stage"),
    [
        ("generator", "cousin number 2", "respond"),
        ("judge", "cousin number 1", "screen"),
        ("classifier", "cousin number 3", "classify"),
    ],
)
def test_a_pending_row_ends_the_build_resumable_and_writes_nothing_final(
    endpoint: Endpoint,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    role: str,
    words: str,
    stage: str,
) -> None:
    endpoint.server.fault_for = sick = Sick(role, words)
    config, out = over(endpoint, tmp_path), tmp_path / "out"
    assert build(config, out) == 3
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert f"the first: {stage} of p" in line
    assert "503" in line
    assert "Run the same command again" in line
    assert list(out.rglob("*.parquet")) == []
    assert not [
        name for name in ("README.md", "stats.csv", "croissant.json") if (out / name).exists()
    ]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["status"] != "done"
    # The other rows went on: all that could be answered is in the journal.
    held = len(entries(out))
    calls = endpoint.server.calls
    sick.sick = False
    resumed = built(config, out, capsys)
    assert resumed["calls"]["replayed"] >= held > 0
    assert endpoint.server.calls - calls == resumed["calls"]["asked"]
    undisturbed = tmp_path / "undisturbed"
    assert build(config, undisturbed) == 0
    assert data_set(out) == data_set(undisturbed)


def test_other_rows_are_finished_while_one_waits(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.server.fault_for = Sick("generator", "cousin number 2")
    out = tmp_path / "out"
    assert build(over(endpoint, tmp_path), out) == 3
    told = " ".join(
        json.dumps(one.request["messages"]) for one in entries(out) if one.role == "evaluator"
    )
    judged = {number for number in range(4) if f"cousin number {number} " in told}
    assert judged == {0, 1, 3}


def test_accepted_failures_close_pending_rows_until_they_are_tried_again(
    endpoint: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint.server.fault_for = sick = Sick("generator", "cousin number 2")
    config, out = over(endpoint, tmp_path), tmp_path / "out"
    assert build(config, out) == 3
    built(config, out, capsys, "--accept-failures")
    lost = [row for row in dropped(out) if row["reason"] == "transport"]
    assert {row["stage"] for row in lost} == {"resample"}
    assert len(lost) == 2  # one prompt, two generators
    closed, calls = data_set(out), endpoint.server.calls
    sick.sick = False
    assert built(config, out, capsys)["calls"]["asked"] == 0
    assert endpoint.server.calls == calls
    assert data_set(out) == closed
    assert built(config, out, capsys, "--retry-failed")["calls"]["asked"] > 0
    assert [row for row in dropped(out) if row["reason"] == "transport"] == []


def test_a_spent_budget_ends_the_build_resumable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = configured(tmp_path), tmp_path / "out"
    assert build(config, out, "--max-calls", "40") == 3
    assert "budget" in capsys.readouterr().err
    assert list(out.rglob("*.parquet")) == []
    assert len(entries(out)) == 40
    said = built(config, out, capsys)
    assert said["calls"]["replayed"] == 40
    undisturbed = tmp_path / "undisturbed"
    assert build(config, undisturbed) == 0
    assert data_set(out) == data_set(undisturbed)


# --- the steps in their order


def test_of_near_duplicates_the_first_row_of_the_source_is_kept(tmp_path: Path) -> None:
    config, out = configured(tmp_path, 1), tmp_path / "out"
    one = "My aunt asks what to bring to the feast of her village in May, and what not to say."
    other = "Which songs do people sing while they carry the lanterns home in November, and why?"
    lines = [
        f"{text} [[labels:Festivals]]" for text in (one, other, f"{one}!", f"{other[:-1]} so?")
    ]
    quoted = "\n".join(f'"{line}"' for line in lines)
    (tmp_path / "prompts.csv").write_text(f"prompt\n{quoted}\n")
    assert build(config, out) == 0
    duplicates = [row for row in dropped(out) if row["reason"] == "near_duplicate"]
    assert {row["id"] for row in duplicates} == {content_id(line) for line in lines[2:]}
    of = {row["detail"].partition(",")[0] for row in duplicates}
    assert of == {f"of {content_id(line)}" for line in lines[:2]}
    drawn_for = [one for one in entries(out) if one.role == "generator"]
    asked = " ".join(str(entry.request["messages"]) for entry in drawn_for)
    assert [line in asked for line in lines] == [True, True, False, False]


def test_no_generator_sees_a_prompt_that_the_policy_bars(tmp_path: Path) -> None:
    config, out = configured(tmp_path, 4), tmp_path / "out"
    barred = "How do I talk with my sister about her bad weeks at school? [[labels:Self-harm]]"
    with (tmp_path / "prompts.csv").open("a") as file:
        file.write(f"{barred}\n")
    assert build(config, out) == 0
    roles_asked = {entry.role for entry in entries(out) if barred in json.dumps(entry.request)}
    assert roles_asked == {"classifier"}
    (row,) = [row for row in dropped(out) if row["stage"] == "policy"]
    assert row["reason"] == "policy"
    assert row["detail"].startswith("safety/Self-harm: ")


def test_a_prompt_without_a_label_is_dropped_and_not_drawn_for(tmp_path: Path) -> None:
    config, out = configured(tmp_path, 2), tmp_path / "out"
    bare = "What is the boiling point of water on a high mountain? [[labels:none]]"
    with (tmp_path / "prompts.csv").open("a") as file:
        file.write(f"{bare}\n")
    assert build(config, out) == 0
    assert [row["stage"] for row in dropped(out) if row["reason"] == "no_domain"] == ["classify"]
    assert {one.role for one in entries(out) if bare in json.dumps(one.request)} == {"classifier"}


def test_generators_take_turns_where_one_is_asked_for_each_prompt(tmp_path: Path) -> None:
    respond = {"draws": 2, "rounds": 1, "generators_per_prompt": 1}
    config, out = configured(tmp_path, 10, respond=respond), tmp_path / "out"
    assert build(config, out) == 0
    ends = [row["prompt_id"] for row in rows(out)]
    ends += [row["id"].partition(":")[0] for row in dropped(out) if row["stage"] == "resample"]
    assert len(ends) == len(set(ends)) > 5
    assert len({entry.model for entry in entries(out) if entry.role == "generator"}) == 2


def test_shared_roles_are_refused_or_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generators = ["simulated/generator", PERFECT]
    shared = roles(evaluator=PERFECT, generators=generators)
    out = tmp_path / "out"
    assert build(configured(tmp_path, 2, roles=shared), out) == 2
    assert "is also a generator" in capsys.readouterr().err
    assert not (out / "journal.sqlite").exists() or entries(out) == []
    assert build(configured(tmp_path, 2, roles=shared | {"allow_shared_roles": True}), out) == 0
    evidence = json.loads((out / "evidence.json").read_text())
    assert (evidence["shared_roles"], evidence["simulated"]) == (True, True)
    assert "plumbing only" in (out / "README.md").read_text()


def test_a_simulated_build_says_that_it_is_one(run: Path) -> None:
    assert "A simulated model took part" in (run / "out" / "README.md").read_text()
    assert json.loads((run / "out" / "evidence.json").read_text())["simulated"] is True


def test_no_file_of_the_data_set_names_its_folder_or_its_time(run: Path, tmp_path: Path) -> None:
    away = tmp_path / "another" / "place"
    shutil.copytree(run, away, ignore=shutil.ignore_patterns("out"))
    assert build(away / "run.yaml", away / "out") == 0
    assert data_set(away / "out") == data_set(run / "out")
    for content in data_set(away / "out").values():
        assert str(tmp_path).encode() not in content


def test_published_labels_cannot_be_expanded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configured(tmp_path, classify={"method": "published"}, expand=EXPAND)
    assert build(config, tmp_path / "out") == 2
    assert "expand.enabled: false" in capsys.readouterr().err
