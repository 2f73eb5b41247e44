"""What the page shows, as records that the template only has to lay out.

Nothing is computed here that is a result: numbers come from ``results.json``, ``stats.csv`` and
the manifests as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from misalign_bench.records import CONDITIONS, DIMENSIONS
from misalign_bench.report.bench_run import BenchRun, Compared
from misalign_bench.report.build_run import BuildRun
from misalign_bench.report.build_view import BuildView, Fact, build_view, run_date, run_name
from misalign_bench.report.cells import Cell
from misalign_bench.report.entrants import (
    Entrant,
    by_category,
    entrants,
    evaluators,
    headline,
    short_name,
)
from misalign_bench.report.framing_spread import Spread
from misalign_bench.report.page_warnings import Warned, marks, warnings
from misalign_bench.report.respond_view import RespondView, respond_sentence, respond_views
from misalign_bench.report.runs import Runs

_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True, slots=True)
class HeatRow:
    """A domain and its cell for each column of the heat map; None where a target has none."""

    name: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, slots=True)
class Breakdown:
    """A part of the joint figures of one entrant: by active dimensions, generator, own items."""

    entrant: Entrant
    parts: tuple[tuple[str, str, Cell], ...]


@dataclass(frozen=True, slots=True)
class Spent:
    """What one role and model took in one run."""

    run: str
    role: str
    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost: float | None
    unpriced: int
    seconds: float
    errors: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Page:
    """Everything on the page but its charts and examples.

    Attributes:
        marks: words that stand over every part of the page, such as "simulated".
        board: the entrants of the headline condition by category.
        singles: all entrants, each target's conditions together, if there are several conditions.
        repeated: those asked in several epochs.
        spreads: what other wordings of the question reach.
    """

    title: str
    sentence: str
    facts: tuple[tuple[str, tuple[Fact, ...]], ...]
    warnings: tuple[Warned, ...]
    marks: tuple[str, ...]
    board: tuple[tuple[str, tuple[Entrant, ...]], ...]
    singles: tuple[Entrant, ...]
    repeated: tuple[Entrant, ...]
    spreads: tuple[Spread, ...]
    entrants: tuple[Entrant, ...]
    heat_columns: tuple[Entrant, ...]
    heat: tuple[tuple[str, tuple[HeatRow, ...]], ...]
    reasons: tuple[str, ...]
    breakdowns: tuple[Breakdown, ...]
    compared: tuple[Compared, ...]
    spent: tuple[Spent, ...]
    builds: tuple[BuildView, ...]
    answers: tuple[RespondView, ...]
    published: Mapping[str, Any]


def page_data(runs: Runs, title: str = "") -> Page:
    """Lay out what was read."""
    everyone = entrants(runs.benches)
    shown = headline(everyone)
    reasons = {reason for one in everyone for reason in one.measured.joint.alignment_score.unscored}
    return Page(
        title=title or _title(runs),
        sentence=_sentence(runs, everyone),
        facts=tuple((run.label, tuple(_bench_facts(run))) for run in runs.benches),
        warnings=tuple(warnings(runs, everyone)),
        marks=tuple(marks(runs)),
        board=tuple(by_category(shown)),
        singles=tuple(_by_target(everyone)) if len(everyone) > len(shown) else (),
        repeated=tuple(one for one in everyone if len(one.measured.per_epoch) > 1),
        spreads=tuple(spread for run in runs.benches for spread in run.framings),
        entrants=tuple(everyone),
        heat_columns=tuple(shown),
        heat=tuple(_heat(shown)),
        reasons=tuple(sorted(reasons)),
        breakdowns=tuple(_breakdown(one) for one in shown),
        compared=tuple(pair for run in runs.benches for pair in run.compared),
        spent=tuple(row for run in runs.everything for row in _spent(run)),
        builds=tuple(build_view(run) for run in runs.builds),
        answers=respond_views(runs.answers),
        published=published(),
    )


def published() -> Mapping[str, Any]:
    """The figures of the paper that the page shows beside measured ones."""
    import yaml

    text = resources.files("misalign_bench.report").joinpath("published.yaml").read_text("utf-8")
    table: Mapping[str, Any] = yaml.safe_load(text)
    return table


def _title(runs: Runs) -> str:
    benched = (*runs.benches, *runs.answers)
    names = list(dict.fromkeys(str(run.dataset["name"]) for run in benched))
    if len(runs.builds) == 1 and len(names) < 2:
        # A build knows what its data set is called, a bench only the name of its folder.
        names = [run_name(runs.builds[0])]
    return f"Safety, value and culture at once: {', '.join(names or map(run_name, runs.builds))}"


def _sentence(runs: Runs, everyone: Sequence[Entrant]) -> str:
    """What was measured, in one sentence."""
    if not runs.benches and runs.answers:
        return respond_sentence(respond_views(runs.answers))
    if not runs.benches:
        return (
            f"{_many(len(runs.builds), 'data set was', 'data sets were')} built; none was benched."
        )
    targets = len({one.measured.target for one in everyone})
    asked = {one.measured.condition for one in everyone}
    what = "safety, value or culture" if "joint" in asked else " or ".join(sorted(asked))
    return (
        f"{_many(targets, 'model was', 'models were')}{'' if targets == 1 else ' each'} shown"
        f" {_size(runs.benches)}, without labels or references, and asked whether each response"
        f" violates {what}."
    )


def _size(benches: Sequence[BenchRun]) -> str:
    """How many responses to how many prompts, as far as it is the same for all runs."""
    sizes = sorted({run.dataset["items"] for run in benches})
    if len(sizes) > 1:
        return f"{sizes[0]:,} to {sizes[-1]:,} responses"
    first = benches[0]
    known = {run.prompts for run in benches}
    to = f" to {first.prompts:,} prompts" if len(known) == 1 and first.prompts else ""
    bad = {run.dataset.get("misaligned") for run in benches}
    some = f", {bad.pop():,} of them misaligned" if len(bad) == 1 and None not in bad else ""
    return f"{sizes[0]:,} responses{to}{some}"


def _many(number: int, one: str, several: str) -> str:
    word = _WORDS[number] if number < len(_WORDS) else f"{number:,}"
    return f"{word.capitalize()} {one if number == 1 else several}"


def _bench_facts(run: BenchRun) -> list[Fact]:
    data, header = run.dataset, run.header
    content = str(data["content_hash"])
    prompts, clusters = run.prompts, data.get("clusters")
    facts = [
        Fact("Data set", str(data["name"])),
        Fact("Content hash", content[:12], content),
        Fact("Splits", ", ".join(header.get("splits", ())) or "not split"),
        Fact("Responses", f"{data['items']:,}", _halves(data)),
    ]
    if prompts is not None:
        whole = f"in {clusters:,} clusters of near-duplicates" if clusters else ""
        facts.append(Fact("Prompts", f"{prompts:,}", whole))
    epochs = list(dict.fromkeys(one.epochs_shown.removeprefix("epochs: ") for one in run.measured))
    facts.append(Fact("Epochs", "; ".join(epochs)))
    if date := run_date(run.manifest):
        facts.append(Fact("Measured on", date))
    generators = [short_name(name) for name in data.get("generators", ())]
    if generators:
        facts.append(Fact("Responses by", ", ".join(generators)))
    if deciders := [short_name(name) for name in evaluators(run)]:
        facts.append(Fact("Truth decided by", ", ".join(deciders)))
    return facts


def _halves(data: Mapping[str, Any]) -> str:
    if "misaligned" not in data:
        return ""
    return f"{data['misaligned']:,} misaligned, {data['aligned']:,} aligned"


def _heat(shown: Sequence[Entrant]) -> list[tuple[str, tuple[HeatRow, ...]]]:
    """Domains by dimension, in the order of the taxonomy; unknown ones after them."""
    from misalign_bench.taxonomy.loader import taxonomy

    places = {domain.key: place for place, domain in enumerate(taxonomy().domains)}
    keys = {key for one in shown for key in one.measured.domain}
    ordered = sorted(keys, key=lambda key: (places.get(key, len(places)), key))
    return [
        (
            dimension,
            tuple(
                HeatRow(key.partition("/")[2], tuple(one.measured.domain.get(key) for one in shown))
                for key in ordered
                if key.partition("/")[0] == dimension
            ),
        )
        for dimension in DIMENSIONS
        if any(key.startswith(f"{dimension}/") for key in ordered)
    ]


def _by_target(everyone: Sequence[Entrant]) -> list[Entrant]:
    """Targets in the order of the leaderboard, each with its conditions in their order."""
    names = list(dict.fromkeys(one.short for one in everyone))
    order: dict[str, int] = {name: place for place, name in enumerate(CONDITIONS)}
    return sorted(everyone, key=lambda one: (names.index(one.short), order[one.measured.condition]))


def _breakdown(one: Entrant) -> Breakdown:
    measured = one.measured
    parts = [
        ("Active dimensions", number, cell) for number, cell in sorted(measured.by_active.items())
    ]
    parts += [("Responses by", short_name(name), cell) for name, cell in measured.generator.items()]
    if measured.macro_domains:
        number = measured.macro_domains
        parts.append(
            ("Mean over", f"{number} domains" if number > 1 else "1 domain", measured.macro)
        )
    if measured.own_items:
        parts.append(
            ("Own items", "written by the target, not in the headline", measured.own_items)
        )
    return Breakdown(one, tuple(parts))


def _spent(run: BenchRun | BuildRun) -> list[Spent]:
    """Totals of the run's journal; of the last run alone where the manifest has none."""
    rows = run.manifest.get("totals") or []
    if not rows and isinstance(run, BenchRun):
        rows = run.header.get("totals", ())
    return [
        Spent(
            run=run.label,
            role=str(row.get("role", "")),
            model=str(row.get("model", "")),
            calls=int(row.get("calls", 0)),
            input_tokens=int(row.get("input_tokens", 0)),
            output_tokens=int(row.get("output_tokens", 0)),
            # A sum without a single known price is not zero.
            cost=row.get("cost") if row.get("unpriced", 0) < max(1, row.get("calls", 0)) else None,
            unpriced=int(row.get("unpriced", 0)),
            seconds=float(row.get("seconds", 0.0)),
            errors=dict(row.get("errors") or {}),
        )
        for row in rows
    ]
