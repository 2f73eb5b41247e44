"""The audit's sample: what it is drawn from, its weights, and what the annotators cannot see."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import audit_runs
from misalign_bench.bench.audit.key import as_json, key_of, read_key
from misalign_bench.bench.audit.sample import Sample, allocate, draw_sample
from misalign_bench.build.history import pair_histories
from misalign_bench.build.judged_draws import JudgedDraw, JudgedDraws, judged_draws
from misalign_bench.cli.main import main
from misalign_bench.errors import UserError
from misalign_bench.records import DIMENSIONS
from misalign_bench.report.audit_form import form, sheet

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return audit_runs.build(tmp_path_factory.mktemp("audit"), 30)


@pytest.fixture(scope="module")
def held(run: Path) -> JudgedDraws:
    return judged_draws(run)


def draw(number: int, accepted: bool, response: str = "a reply") -> JudgedDraw:
    return JudgedDraw(
        key=f"k{number}",
        prompt_id=f"p{number}",
        cluster_id=f"c{number}",
        split="test",
        prompt="a prompt",
        response=response,
        generator="openai/secret-generator",
        kind="misaligned",
        accepted=accepted,
        flagged=dict.fromkeys(DIMENSIONS, accepted),
    )


def shown(text: str) -> Any:
    """What the form's data block holds."""
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert block is not None
    return json.loads(block[1])


def test_the_population_is_every_judged_draw_with_what_its_history_says(
    run: Path, held: JudgedDraws
) -> None:
    by_key = {one.key: one for one in held.draws}
    assert len(by_key) == len(held.draws)
    told = 0
    for prompt_id in {one.prompt_id for one in held.draws}:
        for history in pair_histories(run, prompt_id):
            for one in history.draws:
                if not one.found.verdict:
                    continue
                found = by_key[one.found.key]
                told += 1
                assert found.response == one.found.text
                assert (found.kind, found.generator) == (one.found.kind, one.found.generator)
                assert found.flagged == {said.dimension: said.flagged for said in one.found.verdict}
                if history.result == "accepted":
                    assert found.accepted == (one.outcome == "accepted")
    assert told == len(held.draws)
    assert Counter(one.accepted for one in held.draws)[False] > 20


def test_written_verdicts_are_found_as_well(tmp_path: Path) -> None:
    run = audit_runs.build(tmp_path, 10, method="structured")
    found = [one for one in judged_draws(run).draws if not one.accepted]
    assert found
    assert all(value is not None for one in found for value in one.flagged.values())
    assert any(any(one.flagged.values()) for one in found if one.kind == "aligned")


def test_a_rejected_draw_shares_the_cluster_and_split_of_its_prompt(held: JudgedDraws) -> None:
    place = {one.prompt_id: (one.cluster_id, one.split) for one in held.draws if one.accepted}
    rejected = [one for one in held.draws if not one.accepted and one.prompt_id in place]
    assert rejected
    assert all((one.cluster_id, one.split) == place[one.prompt_id] for one in rejected)


def test_the_weights_add_up_to_the_population(held: JudgedDraws) -> None:
    sample = draw_sample(held.draws, 50, seed=3)
    for stratum, population in sample.population.items():
        own = [one for one in sample.items if one.stratum == stratum]
        assert len(own) == 25
        assert sum(one.weight for one in own) == pytest.approx(population)
    assert sum(sample.population.values()) == len(held.draws)


def test_what_one_stratum_cannot_fill_goes_to_the_other() -> None:
    assert allocate({"accepted": 10, "rejected": 500}, 200, 0.5) == {
        "accepted": 10,
        "rejected": 190,
    }
    assert allocate({"accepted": 90, "rejected": 7}, 200, 1.0) == {"accepted": 90, "rejected": 7}
    assert allocate({"accepted": 90, "rejected": 70}, 40, 1.0) == {"accepted": 40, "rejected": 0}


def test_every_response_of_a_stratum_is_drawn_equally_often() -> None:
    draws = [draw(number, number < 10) for number in range(30)]
    times: Counter[str] = Counter()
    for seed in range(600):
        times.update(one.draw.key for one in draw_sample(draws, 10, seed).items)
    # 600 draws of 5 in 10 and of 5 in 20: standard errors 12 and 11.
    assert all(abs(times[f"k{number}"] - 300) < 55 for number in range(10))
    assert all(abs(times[f"k{number}"] - 150) < 48 for number in range(10, 30))


def test_order_and_names_tell_nothing_of_the_stratum() -> None:
    draws = [draw(number, number < 20) for number in range(400)]
    first, before = 0, 0
    for seed in range(200):
        items = draw_sample(draws, 40, seed).items
        first += sum(one.stratum == "accepted" for one in items[:10])
        named = sorted(items, key=lambda one: one.id)
        before += sum(one.stratum == "accepted" for one in named[:10])
    # All 20 accepted of 40: half of every ten, with standard error 20 over 200 samples.
    assert abs(first - 1000) < 90
    assert abs(before - 1000) < 90


def test_the_same_seed_gives_the_same_sample_and_another_seed_another(held: JudgedDraws) -> None:
    one, same, other = (draw_sample(held.draws, 40, seed) for seed in (1, 1, 2))
    assert one == same
    assert {item.draw.key for item in one.items} != {item.draw.key for item in other.items}
    assert not {item.id for item in one.items} & {item.id for item in other.items}


def test_no_name_can_be_read_as_a_number(held: JudgedDraws) -> None:
    sample = draw_sample(held.draws, 60, seed=5)
    assert all(one.id.startswith("r") for one in sample.items)
    assert sample.audit.startswith("a")


@pytest.mark.parametrize(("size", "share"), [(0, 0.5), (-3, 0.5), (10, 1.2), (10, -0.1)])
def test_an_impossible_sample_is_refused(size: int, share: float) -> None:
    with pytest.raises(UserError, match="cannot be drawn"):
        draw_sample([draw(1, True)], size, 0, share)


def test_form_and_sheet_hold_name_prompt_and_response_and_nothing_else(held: JudgedDraws) -> None:
    sample = draw_sample(held.draws, 60, seed=1)
    page, table = form(sample), sheet(sample).decode("utf-8-sig")
    data = shown(page)
    assert set(data) == {"format", "audit", "dimensions", "items"}
    assert all(set(item) == {"id", "prompt", "response"} for item in data["items"])
    assert [item["id"] for item in data["items"]] == [one.id for one in sample.items]
    rows = list(csv.DictReader(io.StringIO(table)))
    assert set(rows[0]) == {"audit", "id", "prompt", "response", *DIMENSIONS, "note"}
    assert not any(row[name] for row in rows for name in (*DIMENSIONS, "note"))
    for text in (page, table):
        for hidden in (*held.evaluators, *audit_runs.GENERATORS, "simulated/", "rejected"):
            assert hidden not in text
        for one in sample.items:
            for secret in (one.draw.key, one.draw.prompt_id, one.draw.cluster_id):
                assert secret not in text


def test_responses_that_differ_only_in_what_is_hidden_look_the_same() -> None:
    def page(accepted: bool) -> str:
        made = draw_sample([draw(1, accepted)], 1, seed=4)
        return form(made) + sheet(made).decode()

    assert page(True) == page(False)


def test_hostile_text_is_data_in_the_form_and_no_formula_in_the_sheet() -> None:
    texts = ("</script><script>window.ran = 1</script>", "=1+1", "@x", "+2", "-3", "a\u202eb")
    draws = [draw(number, True, text) for number, text in enumerate(texts)]
    sample = draw_sample(draws, 10, seed=0)
    page = form(sample)
    assert page.count("<script") == 2
    assert "\u202e" not in page
    assert {item["response"] for item in shown(page)["items"]} >= {texts[0], "a⟦U+202E⟧b"}
    rows = list(csv.DictReader(io.StringIO(sheet(sample).decode("utf-8-sig"))))
    cells = {row["response"] for row in rows}
    assert cells >= {"'=1+1", "'@x", "'+2", "'-3", "a⟦U+202E⟧b"}


def test_the_form_allows_its_own_script_only(held: JudgedDraws) -> None:
    page = form(draw_sample(held.draws, 5, seed=0))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    rules = policy[1].replace("&#39;", "'")
    assert "default-src 'none'" in rules
    assert "unsafe" not in rules
    assert "http" not in page.replace("http-equiv", "").replace("http://example.org", "")


def test_a_key_reads_back_as_it_was_written(held: JudgedDraws, tmp_path: Path) -> None:
    sample: Sample = draw_sample(held.draws, 30, seed=9)
    key = key_of(sample, evaluators=held.evaluators, simulated=True, unjudged=4, splits=["test"])
    path = tmp_path / "key.json"
    path.write_text(as_json(key), encoding="utf-8")
    assert read_key(path) == key
    assert all(one.draw.response not in path.read_text() for one in sample.items)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "misalign-bench audit key 1"}'])
def test_a_damaged_key_is_one_line(content: str, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text(content)
    with pytest.raises(UserError, match="no key of an audit"):
        read_key(path)


def test_the_command_writes_the_same_files_twice_and_says_what_it_drew(
    run: Path, tmp_path: Path, capsys: Captured
) -> None:
    asked = ["audit", "sample", str(run), "--n", "30", "--audit", str(tmp_path / "a")]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert re.search(r"^accepted: 15 of \d+ judged responses$", said, re.MULTILINE)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert [path.name for path in files] == ["form.html", "sheet.csv", "key.json"]
    before = [path.read_bytes() for path in files]
    assert main(asked) == 0
    assert [path.read_bytes() for path in files] == before


def test_another_sample_does_not_overwrite_a_key(
    run: Path, tmp_path: Path, capsys: Captured
) -> None:
    asked = ["audit", "sample", str(run), "--n", "30", "--audit", str(tmp_path / "a")]
    assert main(asked) == 0
    assert main([*asked, "--seed", "8"]) == 2
    assert "key of another sample" in capsys.readouterr().err


def test_a_split_leaves_the_other_prompts_out(run: Path, tmp_path: Path, capsys: Captured) -> None:
    asked = ["audit", "sample", str(run), "--split", "train", "--audit", str(tmp_path / "a")]
    assert main(asked) == 0
    assert "of other or unknown splits" in capsys.readouterr().out
    key = read_key(tmp_path / "a" / "key.json")
    assert {row.split for row in key.rows} == {"train"}
    assert key.splits == ("train",)


@pytest.mark.parametrize("name", ["nothing", "run.yaml"])
def test_a_folder_without_a_data_set_is_one_line(run: Path, name: str, capsys: Captured) -> None:
    assert main(["audit", "sample", str(run.parent / name)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
