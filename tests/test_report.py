"""The page without a browser: what it says, what it refuses, what never reaches it."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import altair
import jsonschema
import pytest

from misalign_bench.bench.results import COMPARABILITY_VERSION
from misalign_bench.cli.main import main
from misalign_bench.errors import UserError
from misalign_bench.report.bench_run import read_bench_run
from misalign_bench.report.build_run import read_build_run
from misalign_bench.report.chart_parts import Chart
from misalign_bench.report.charts import interval_charts, part_charts
from misalign_bench.report.entrants import entrants
from misalign_bench.report.examples import examples
from misalign_bench.report.page import render
from misalign_bench.report.page_data import published
from misalign_bench.report.page_warnings import warnings
from misalign_bench.report.result_tables import COLUMNS, latex, markdown
from misalign_bench.report.runs import Runs, read_runs
from misalign_bench.report.write import write_report
from page_runs import BROKEN, CAREFUL, LEANING, PLANTED, Folders, make_runs


class Parsed(HTMLParser):
    """A page as a browser takes it apart: its tags, its scripts and styles, its visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.code: dict[str, list[str]] = {"script": [], "style": [], "data": []}
        self.text = ""
        self._inside = ""
        self.feed(text)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = "data" if dict(attrs).get("type") == "application/json" else tag
            self.code[self._inside].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.code[self._inside][-1] += data
        else:
            self.text += f"{data} "


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A build and a bench of three targets."""
    folder = tmp_path_factory.mktemp("runs")
    return make_runs(folder, prompts=30, targets=(CAREFUL, BROKEN, LEANING), resamples=100)


@pytest.fixture(scope="module")
def text(made: Folders) -> str:
    """Their page."""
    return render(read_runs([made.build, made.bench]))


@pytest.fixture
def copied(made: Folders, tmp_path: Path) -> Folders:
    """The same run folders, to be changed."""
    for folder in (made.build, made.bench):
        shutil.copytree(folder, tmp_path / folder.name)
    return Folders(tmp_path / made.build.name, tmp_path / made.bench.name)


def change(
    folder: Path, edit: Callable[[dict[str, Any]], None], name: str = "results.json"
) -> Path:
    """Edit a JSON file of a run folder."""
    table = json.loads((folder / name).read_text())
    edit(table)
    (folder / name).write_text(json.dumps(table))
    return folder


def titles(runs: Runs) -> list[str]:
    return [one.title for one in warnings(runs, entrants(runs.benches))]


# What the page says.


def test_the_leaderboard_shows_the_numbers_of_the_results(made: Folders, text: str) -> None:
    shown = Parsed(text).text
    for target in json.loads((made.bench / "results.json").read_text())["targets"]:
        for score in target["conditions"][0]["joint"].values():
            low = score["low"]
            beside = score["note"] if low is None else f"{100 * low:.1f}–{100 * score['high']:.1f}"
            assert f"{100 * score['value']:.1f}% {beside}" in shown


def test_the_false_failure_rate_is_spelled_out_once(text: str) -> None:
    shown = Parsed(text).text
    assert shown.count("False Failure Rate") == 1
    assert shown.count("FFR") > 5


def test_one_sentence_says_what_was_measured(made: Folders, text: str) -> None:
    data = json.loads((made.bench / "results.json").read_text())["dataset"]
    assert (
        f"Three models were each shown {data['items']} responses to 30 prompts,"
        f" {data['misaligned']} of them misaligned, without labels or references, and asked"
        " whether each response violates safety, value or culture."
    ) in Parsed(text).text


def test_the_facts_name_data_set_hash_splits_epochs_and_date(made: Folders, text: str) -> None:
    shown = Parsed(text).text
    manifest = json.loads((made.bench / "manifest.json").read_text())
    data = json.loads((made.bench / "results.json").read_text())["dataset"]
    for fact in (
        data["name"],
        data["content_hash"][:12],
        "train, validation, test",
        "1 (deterministic)",
        manifest["finished"][:10],
    ):
        assert fact in shown


def test_unscored_are_counted_by_reason_beside_the_bounds(made: Folders, text: str) -> None:
    shown = Parsed(text).text
    targets = json.loads((made.bench / "results.json").read_text())["targets"]
    [broken] = [one for one in targets if one["name"] == BROKEN]
    both = broken["conditions"][0]["joint"]["alignment_score"]
    assert set(both["unscored"]) == {"parse", "refusal"}
    counts = " ".join(str(both["unscored"][reason]) for reason in ("parse", "refusal"))
    bounds = " ".join(f"{100 * both[name]:.1f}%" for name in ("value", "scored_only", "best_case"))
    assert f"{counts} {bounds}" in shown


def test_a_cell_without_items_says_so(copied: Folders) -> None:
    def empty(table: dict[str, Any]) -> None:
        cell = table["targets"][0]["conditions"][0]["domain"]["safety/Privacy violation"]
        cell["coverage"] |= {"value": None, "low": None, "high": None, "n": 0, "n_scored": 0}

    page = render(read_runs([change(copied.bench, empty)]))
    assert '<td class="heat empty" data-value="">no items</td>' in page


def test_the_build_shows_domains_drops_and_draws(made: Folders, text: str) -> None:
    shown = Parsed(text).text
    assert "classified expanded deduplicated generated" in shown
    assert "Classify no domain 1" in shown.replace("classify", "Classify")
    run = read_build_run(made.build, "build", {})
    rows = [row for row in run.domains if any(row.counts)]
    assert len(run.domains) == 111
    assert all(row.name.replace("'", "’") in shown.replace("'", "’") for row in rows)
    draws = sum(row.draws for row in run.ledger)
    accepted = sum(row.accepted for row in run.ledger)
    pairs = json.loads((made.build / "manifest.json").read_text())["stages"]["pairs"]
    assert accepted == 2 * pairs["accepted"]
    assert draws == accepted + pairs["draws_rejected"]


def test_a_page_of_a_build_alone_has_no_leaderboard(made: Folders) -> None:
    page = Parsed(render(read_runs([made.build])))
    assert "One data set was built; none was benched." in page.text
    assert ("section", {"id": "leaderboard"}) not in page.tags
    assert ("section", {"id": "build"}) in page.tags


def test_published_figures_are_marked_as_not_measured_here(text: str) -> None:
    shown = Parsed(text).text
    assert "published, not measured here" in shown
    for row in published()["rows"]:
        assert row["group"] in shown
        assert row["source"]


def test_thresholds_framing_and_calibration_stand_with_their_target(text: str) -> None:
    shown = Parsed(text).text
    assert "few shot safety 0.500 value 0.500 culture 0.500" in shown
    assert "AUC 0.91, AS 87.0%" in shown
    assert "240 items, one threshold" in shown


def test_several_conditions_give_the_joint_against_single_picture(tmp_path: Path) -> None:
    made = make_runs(
        tmp_path,
        prompts=24,
        targets=(CAREFUL,),
        conditions=("joint", "safety", "value"),
        epochs=1,
        resamples=20,
    )
    everyone = entrants(read_runs([made.bench]).benches)
    assert [one.measured.condition for one in everyone] == ["joint", "safety", "value"]
    parts = part_charts(everyone)
    assert parts.conditions
    rows = parts.charts[0].specification["data"]["values"]
    joint = {one.measured.condition: one.measured.joint.coverage.value for one in everyone}
    assert {row["part"]: row["value"] for row in rows} == joint
    follow_their_schema(parts.charts)


def test_one_condition_gives_bars_by_dimension(made: Folders) -> None:
    everyone = entrants(read_runs([made.bench]).benches)
    parts = part_charts(everyone)
    assert not parts.conditions
    rows = parts.charts[1].specification["data"]["values"]
    measured = everyone[0].measured
    first = {row["part"]: row["value"] for row in rows if row["target"] == everyone[0].short}
    expected = {"joint": measured.joint.false_failure_rate.value}
    expected |= {k: cell.false_failure_rate.value for k, cell in measured.dimension.items()}
    assert first == expected


def test_interval_charts_hold_the_intervals_of_the_results(made: Folders) -> None:
    everyone = entrants(read_runs([made.bench]).benches)
    chart = interval_charts(everyone)[2]
    rows = chart.specification["data"]["values"]
    expected = [
        (one.short, score.low, score.value, score.high)
        for one in everyone
        for score in [one.measured.joint.alignment_score]
    ]
    assert [(row["target"], row["low"], row["value"], row["high"]) for row in rows] == expected
    assert "$schema" not in chart.specification


def follow_their_schema(charts: Sequence[Chart]) -> None:
    for chart in charts:
        assert altair.Chart.from_dict(chart.specification, validate=True)


def test_every_chart_follows_the_schema_of_its_language(made: Folders) -> None:
    everyone = entrants(read_runs([made.bench]).benches)
    charts = [*interval_charts(everyone), *part_charts(everyone).charts]
    assert len(charts) > 5
    follow_their_schema(charts)
    with pytest.raises(jsonschema.ValidationError):
        altair.Chart.from_dict({**charts[0].specification, "encoding": 3}, validate=True)


# Warnings.


def test_simulated_models_are_the_first_warning(made: Folders) -> None:
    assert titles(read_runs([made.build, made.bench]))[0] == "Simulated models"


def test_much_unscored_is_warned_of(made: Folders) -> None:
    runs = read_runs([made.bench])
    [one] = [
        one for one in warnings(runs, entrants(runs.benches)) if one.title == "Over 5% unscored"
    ]
    assert "judge hasty" in one.text
    assert "judge careful" not in one.text


def test_all_splits_a_limit_and_shared_roles_are_warned_of(copied: Folders) -> None:
    before = titles(read_runs([copied.bench]))
    assert "All splits were benched" in before
    assert not {"Plumbing only", "Only a part of the items"} & set(before)
    change(copied.bench, lambda table: table.update(splits=["test"], limit=20, shared_roles=True))
    after = titles(read_runs([copied.bench]))
    assert "All splits were benched" not in after
    assert {"Plumbing only", "Only a part of the items"} <= set(after)


def test_small_embedded_models_are_warned_of_by_name(copied: Folders) -> None:
    def embedded(table: dict[str, Any]) -> None:
        table["targets"][0]["name"] = "embedded/smollm2-135m"
        table["evaluator"] = "embedded/qwen2.5-coder-0.5b"

    runs = read_runs([change(copied.bench, embedded)])
    [one] = [one for one in warnings(runs, entrants(runs.benches)) if one.title.startswith("Small")]
    assert "qwen2.5-coder-0.5b and smollm2-135m" in one.text


def test_an_unfinished_run_is_warned_of(copied: Folders) -> None:
    change(
        copied.bench,
        lambda body: body.update(status="stopped", reason="the budget is spent"),
        "manifest.json",
    )
    assert "A run did not finish" in titles(read_runs([copied.bench]))


def test_own_items_are_shown_apart(copied: Folders) -> None:
    def own(table: dict[str, Any]) -> None:
        block = table["targets"][0]["conditions"][0]
        block["own_items"] = block["joint"]

    runs = read_runs([change(copied.bench, own)])
    assert "Targets that wrote some of the items" in titles(runs)
    assert "written by the target, not in the headline" in Parsed(render(runs)).text


def test_a_guardrail_without_a_dimension_is_told_apart(copied: Folders) -> None:
    assert "Targets that judge some dimensions only" not in titles(read_runs([copied.bench]))
    change(copied.bench, lambda table: table["targets"][0].update(covers=["safety"]))
    found = warnings(runs := read_runs([copied.bench]), entrants(runs.benches))
    (said,) = [one.text for one in found if one.title == "Targets that judge some dimensions only"]
    assert "no category for value or culture" in said


def test_runs_on_different_items_are_told_apart_and_warned_of(
    made: Folders, copied: Folders
) -> None:
    other = copied.bench.rename(copied.bench.parent / "second")
    change(other, lambda table: table["dataset"].update(content_hash="0" * 64))
    runs = read_runs([made.bench, other])
    assert "Different data sets" in titles(runs)
    names = [one.short for one in entrants(runs.benches)]
    assert max(Counter(names).values()) == 1
    assert {"judge careful · bench", "judge careful · second"} <= set(names)


def test_results_of_other_definitions_are_refused_unless_forced(
    made: Folders, copied: Folders
) -> None:
    other = change(copied.bench, lambda table: table.update(comparability_version=99))
    expected = rf"comparability versions: .*bench {COMPARABILITY_VERSION}, .*bench 99"
    with pytest.raises(UserError, match=expected):
        read_runs([made.bench, other])
    runs = read_runs([made.bench, other], mixed_versions=True)
    assert "Different definitions" in titles(runs)


def test_two_framings_of_a_target_are_told_apart(made: Folders) -> None:
    [run] = read_runs([made.bench]).benches
    first = run.measured[0]
    both = replace(run, measured=(first, replace(first, framing="few_shot")))
    names = {one.short for one in entrants([both])}
    assert names == {"judge careful · violates", "judge careful · few_shot"}


# Examples.


def test_examples_cover_every_outcome_and_target_and_keep_to_the_limit(made: Folders) -> None:
    [run] = read_runs([made.bench]).benches
    chosen = examples(run, 40, [made.build])
    assert len(chosen) == 40
    assert len({(one.item_id, one.target, one.epoch) for one in chosen}) == 40
    assert {one.outcome for one in chosen} == {"missed", "false alarm", "correct", "unscored"}
    assert {one.target for one in chosen} == {CAREFUL, BROKEN, LEANING}
    assert chosen == examples(run, 40, [made.build])


def test_an_example_holds_text_truth_verdict_and_key(made: Folders) -> None:
    [run] = read_runs([made.bench]).benches
    found = [one for one in examples(run, 200, [made.build]) if one.target == LEANING]
    one = next(one for one in found if one.outcome == "false alarm")
    assert not one.misaligned
    assert one.prompt
    assert one.response
    assert one.said[-1].dimension == "joint"
    assert one.said[-1].verdict == "flagged"
    for said in one.said[:-1]:
        assert said.score is not None
        assert said.threshold is not None
        assert (said.score > said.threshold) == (said.verdict == "flagged")
        assert len(said.journal_key.split()) == 1
    assert one.raw[0].startswith("log p(")


def test_without_the_data_set_an_example_shows_what_was_sent(copied: Folders) -> None:
    change(
        copied.bench, lambda body: body.update(command=["misalign-bench", "bench"]), "manifest.json"
    )
    [run] = read_runs([copied.bench]).benches
    chosen = examples(run, 5)
    assert [one.prompt for one in chosen] == [""] * 5
    assert all("[[violates:" in one.sent for one in chosen)


def test_the_data_set_is_found_by_the_command_that_benched_it(made: Folders) -> None:
    [run] = read_runs([made.bench]).benches
    assert all(one.prompt for one in examples(run, 5))


def test_texts_of_another_data_set_are_never_shown(copied: Folders) -> None:
    change(copied.bench, lambda table: table["dataset"].update(content_hash="0" * 64))
    [run] = read_runs([copied.bench]).benches
    assert not any(one.prompt for one in examples(run, 5, [copied.build]))


def test_without_verdicts_or_journal_there_is_still_a_page(copied: Folders) -> None:
    (copied.bench / "verdicts.parquet").unlink()
    (copied.bench / "journal.sqlite").unlink()
    page = Parsed(render(read_runs([copied.bench])))
    assert ("section", {"id": "examples"}) not in page.tags
    assert ("section", {"id": "leaderboard"}) in page.tags


# Safety.


def test_the_policy_allows_exactly_the_code_that_the_page_carries(text: str) -> None:
    page = Parsed(text)
    [policy] = [
        str(held["content"])
        for tag, held in page.tags
        if tag == "meta" and held.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in policy

    def digests(kind: str) -> list[str]:
        digest = (hashlib.sha256(code.encode()).digest() for code in page.code[kind])
        return [f"'sha256-{base64.b64encode(one).decode()}'" for one in digest]

    assert rules["script-src"].split() == digests("script")
    assert rules["style-src"].split() == digests("style")


def test_the_page_names_no_other_file(text: str) -> None:
    for tag, held in Parsed(text).tags:
        assert tag not in ("iframe", "object", "embed", "base", "img")
        for name in ("src", "href", "action", "srcset"):
            assert (held.get(name) or "#").startswith(("#", "data:")), (tag, held)
        assert not [name for name in held if name.startswith("on") or name == "style"]


def rows_of(text: str, start: str, cells: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if cells in line and line.startswith(start)]
    return [line.strip("| ").split(cells) for line in lines]


def test_the_table_as_markdown_has_the_numbers_of_the_results(made: Folders) -> None:
    runs = read_runs([made.bench])
    text = markdown(runs)
    head, *body = rows_of(text, "|", " | ")
    assert head == list(COLUMNS)
    everyone = entrants(runs.benches)
    assert len(body) == len(everyone)
    for row, one in zip(body, everyone, strict=True):
        score = one.measured.joint.alignment_score
        value, low, high = (100 * (part or 0) for part in (score.value, score.low, score.high))
        assert row[4] == rf"{value:.1f} \[{low:.1f}, {high:.1f}\]"
        assert row[5] == f"{score.n:,}"
    assert "**Simulated models.**" in text


def test_the_table_as_latex_is_complete_and_marks_simulated_targets(made: Folders) -> None:
    text = latex(read_runs([made.bench]))
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0].strip().splitlines()
    assert len(body) == len(entrants(read_runs([made.bench]).benches))
    assert all(line.count(" & ") == len(COLUMNS) - 1 and line.endswith(r"\\") for line in body)
    assert all("(simulated)" in line for line in body)
    assert "% Simulated models." in text


def test_a_hostile_name_is_text_in_both_tables(copied: Folders) -> None:
    def rename(table: dict[str, Any]) -> None:
        table["targets"][0]["name"] = "openai/a|b\\input{x}_<b>$1^2$\n% & \u202e"

    runs = read_runs([change(copied.bench, rename)])
    assert r"a\|b\\input\{x\}\_\<b\>\$1^2\$ % \& ⟦U+202E⟧" in markdown(runs)
    said = r"a|b\textbackslash{}input\{x\}\_<b>\$1\textasciicircum{}2\$ \% \& ⟦U+202E⟧"
    assert said in latex(runs)


@pytest.mark.parametrize("ending", [".md", ".tex"])
def test_a_table_needs_a_bench_and_is_written_by_the_ending(
    made: Folders, tmp_path: Path, ending: str
) -> None:
    out = tmp_path / f"results{ending}"
    with pytest.raises(UserError, match="no folder holds a bench"):
        write_report([made.build], out)
    assert not out.exists()
    runs = write_report([made.bench], out)
    assert out.read_text("utf-8") == (latex(runs) if ending == ".tex" else markdown(runs))
    with pytest.raises(UserError, match=r"Use \.html, \.md, \.tex"):
        write_report([made.bench], tmp_path / "results.pdf")


def test_planted_markup_is_data_and_never_a_tag(text: str) -> None:
    assert "<script>window.ran" not in text
    page = Parsed(text)
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 4
    prompts = {one["prompt"] for one in json.loads(page.code["data"][1])["rows"]}
    assert set(PLANTED[:3]) <= prompts
    assert any("invoice⟦U+202E⟧fdp.exe or⟦U+0007⟧ notes" in prompt for prompt in prompts)


def test_a_hostile_name_is_escaped_everywhere(copied: Folders) -> None:
    name = 'openai/"><script>window.ran = 4</script>\u202e'

    def rename(table: dict[str, Any]) -> None:
        table["targets"][0]["name"] = name
        table["dataset"]["name"] = name
        table["totals"][0]["model"] = name

    change(copied.bench, lambda body: body.update(totals=[]), "manifest.json")
    page = render(read_runs([change(copied.bench, rename)]))
    assert "<script>window.ran" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;window.ran = 4&lt;/script&gt;⟦U+202E⟧" in page


def test_a_secret_of_this_machine_never_reaches_the_page(
    copied: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "planted-secret-0123456789"
    monkeypatch.setenv("SOME_API_KEY", secret)
    change(copied.bench, lambda table: table["dataset"].update(name=f"data {secret}"))
    change(copied.bench, lambda body: body["settings"].update(note=secret), "manifest.json")
    assert secret in (copied.bench / "results.json").read_text()
    assert secret not in render(read_runs([copied.bench]))


# Bad input.


def test_a_folder_that_is_no_finished_run_is_refused(made: Folders, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        read_runs([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="it is a file, not a run folder"):
        read_runs([made.bench / "results.json"])
    with pytest.raises(UserError, match=r"neither results\.json nor data/ is in it"):
        read_runs([tmp_path])
    shutil.copy(made.bench / "manifest.json", tmp_path)
    change(tmp_path, lambda body: body.update(status="pending", reason="slow"), "manifest.json")
    with pytest.raises(UserError, match=r"status is pending \(slow\)\. Run the same command"):
        read_runs([tmp_path])


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda table: table.update(schema_version=99), "its layout is version 99"),
        (lambda table: table.update(targets=[]), "it holds no target"),
        (lambda table: table.pop("dataset"), "no complete result"),
        (lambda table: table["targets"][0]["conditions"][0].pop("joint"), "no complete result"),
        (lambda table: table["targets"][0].update(conditions=3), "no complete result"),
    ],
)
def test_a_damaged_result_is_one_line(
    copied: Folders, edit: Callable[[dict[str, Any]], None], what: str
) -> None:
    with pytest.raises(UserError, match=what):
        read_bench_run(change(copied.bench, edit), "bench", {})


def test_broken_files_are_one_line(copied: Folders) -> None:
    (copied.bench / "results.json").write_text("{")
    with pytest.raises(UserError, match="no complete result"):
        read_runs([copied.bench])
    (copied.build / "dropped.parquet").write_text("nothing")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        read_runs([copied.build])


def test_damaged_verdicts_are_one_line(copied: Folders) -> None:
    (copied.bench / "verdicts.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"verdicts\.parquet: cannot be read"):
        render(read_runs([copied.bench]))


@pytest.mark.parametrize("module", ["altair", "vl_convert"])
def test_a_missing_extra_is_named(
    made: Folders, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"pip install 'misalign-bench\[page\]'"):
        render(read_runs([made.bench]))


def test_a_page_is_written_whole_or_not_at_all(made: Folders, tmp_path: Path) -> None:
    out = tmp_path / "new" / "page.html"
    write_report([made.build], out)
    assert out.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError):
        write_report([made.build], tmp_path / "file" / "page.html")


def test_the_command_prints_the_path_of_the_page(
    made: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    asked = ["report", str(made.build), str(made.bench), "--out", str(out), "--title", "Ours"]
    assert main([*asked, "--examples", "7"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    page = Parsed(out.read_text(encoding="utf-8"))
    assert "Ours" in page.text
    assert len(json.loads(page.code["data"][1])["rows"]) == 7


def test_more_examples_than_one_file_bears_ask_for_a_folder(
    made: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    assert main(["report", str(made.bench), "--out", str(out), "--examples", "501"]) == 2
    assert "one file shows 500 examples at most. Make it a folder: --out page" in (
        capsys.readouterr().err
    )
    assert not out.exists()
