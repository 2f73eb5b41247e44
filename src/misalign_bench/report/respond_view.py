"""What the page and the tables show of a run in ``mode: respond``: its block read into records.

Nothing is computed here: numbers are those of ``results.json`` (``bench/respond_results.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from misalign_bench.bench.statistics import MUCH_UNSCORED
from misalign_bench.errors import UserError
from misalign_bench.records import DIMENSIONS, Score
from misalign_bench.report.bench_run import RESULTS, BenchRun
from misalign_bench.report.cells import read_score
from misalign_bench.report.entrants import short_name

KRIPPENDORFF_LEAST = 0.667
"""Below it no conclusion is drawn from ratings (``bench/panel_agreement.py``)."""


@dataclass(frozen=True, slots=True)
class Rated:
    """One target: how often its answers are misaligned, and how often it gives none.

    ``answered`` is the joint rate without refusals and empty answers, ``alpha`` the judges'
    agreement on this target, ``alone`` what each judge alone would say.
    """

    run: str
    name: str
    short: str
    simulated: bool
    joint: Score
    answered: Score
    refusal: Score
    dimensions: Mapping[str, Score]
    domains: Mapping[str, Score]
    counts: Mapping[str, int]
    alone: Mapping[str, Score]
    alpha: float | None
    self_judged: bool

    @property
    def unscored(self) -> float:
        """Share of the responses without a verdict."""
        return (self.joint.n - self.joint.n_scored) / self.joint.n if self.joint.n else 0.0


@dataclass(frozen=True, slots=True)
class Agreed:
    """How far the judges agree in one dimension or jointly, over all targets of a run."""

    name: str
    alpha: float | None
    low: float | None
    high: float | None
    units: int
    same: float | None


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """What one change of the question did to the joint verdicts of one judge."""

    judge: str
    probe: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    to_flagged: int
    to_passed: int


@dataclass(frozen=True, slots=True)
class RespondView:
    """One run: its panel in words, what to know before the numbers, and the numbers."""

    label: str
    prompts: int
    facts: tuple[tuple[str, str], ...]
    warnings: tuple[tuple[str, str, str], ...]
    targets: tuple[Rated, ...]
    dimensions: tuple[str, ...]
    domains: tuple[str, ...]
    judges: tuple[str, ...]
    agreement: tuple[Agreed, ...]
    probes: tuple[ProbeRow, ...]


def respond_views(runs: Sequence[BenchRun]) -> tuple[RespondView, ...]:
    """The views of runs that hold answers.

    Raises:
        UserError: a block that is incomplete, with its file.
    """
    return tuple(_read(run) for run in runs)


def respond_sentence(views: Sequence[RespondView]) -> str:
    """What was measured, in one sentence.

    >>> respond_sentence(())
    ''
    """
    if not views:
        return ""
    targets = len({one.name for view in views for one in view.targets})
    judges = len({name for view in views for name in view.judges})
    most = max(view.prompts for view in views)
    return (
        f"{targets} {'model' if targets == 1 else 'models'} answered {most:,} prompts, and"
        f" {judges} {'judge' if judges == 1 else 'judges'} said of each answer whether it violates"
        " safety, value or culture."
    )


def _read(run: BenchRun) -> RespondView:
    try:
        return _view(run, run.header["respond"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"its block 'respond' is incomplete ({type(error).__name__}: {error})",
            where=str(run.folder / RESULTS),
            mend="Run the bench again; finished calls are not repeated",
        ) from None


def _view(run: BenchRun, block: Mapping[str, Any]) -> RespondView:
    panel = block["panel"]
    targets = sorted(
        (_rated(run.label, one) for one in block["targets"]),
        key=lambda one: (one.joint.value if one.joint.value is not None else 2.0, one.name),
    )
    judges = tuple(short_name(str(one["name"])) for one in panel["judges"])
    held = {name for one in targets for name in one.domains}
    agreed = block["agreement"]
    return RespondView(
        label=run.label,
        prompts=int(run.dataset["items"]),
        facts=tuple(_facts(run, panel)),
        warnings=tuple(_warnings(run, panel, targets, agreed)),
        targets=tuple(targets),
        dimensions=tuple(name for name in DIMENSIONS if name in panel["dimensions"]),
        domains=tuple(sorted(held, key=lambda name: (_place(name), name))),
        judges=judges,
        agreement=tuple(Agreed(name=name, **one) for name, one in agreed.items()),
        probes=tuple(row for one in block["probes"]["judges"] for row in _probes(one)),
    )


def _rated(run: str, target: Mapping[str, Any]) -> Rated:
    name = str(target["name"])
    agreed = target["agreement"].get("joint") or {}
    return Rated(
        run=run,
        name=name,
        short=short_name(name),
        simulated=bool(target.get("simulated")),
        joint=read_score(target["joint"]),
        answered=read_score(target["answered_only"]["joint"]),
        refusal=read_score(target["refusal"]),
        dimensions={key: read_score(one) for key, one in target["dimension"].items()},
        domains={key: read_score(one) for key, one in target["domain"].items()},
        counts={key: int(number) for key, number in target["responses"].items()},
        alone={
            short_name(judge): read_score(rates["joint"])
            for judge, rates in target["judges"].items()
        },
        alpha=agreed.get("alpha"),
        self_judged=bool(target["self_judged"]),
    )


def _facts(run: BenchRun, panel: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    data, header = run.dataset, run.header
    yield "Data set", f"{data['name']} ({str(data['content_hash'])[:12]})"
    yield "Splits", ", ".join(header.get("splits", ())) or "not split"
    yield "Prompts", f"{data['items']:,}"
    judges = panel["judges"]
    named = [f"{short_name(str(one['name']))} ({one['family']}, {one['method']})" for one in judges]
    yield ("Judges" if len(named) > 1 else "Judge"), ", ".join(named)
    if len(named) > 1:
        yield "Rule", str(panel["rule"])


def _warnings(
    run: BenchRun,
    panel: Mapping[str, Any],
    targets: Sequence[Rated],
    agreed: Mapping[str, Mapping[str, Any]],
) -> Iterator[tuple[str, str, str]]:
    """(level, title, text), the gravest first."""
    if run.header.get("simulated"):
        yield (
            "danger",
            "Simulated models",
            "Behaviour models with chosen error rates take part. The numbers test the software.",
        )
    own = [one.short for one in targets if one.self_judged]
    if own:
        yield (
            "danger",
            "Judged by itself",
            f"Among the judges of its own answers: {', '.join(own)}.",
        )
    if panel["one_family"]:
        text = "All judges are of one model family, which was allowed. They share their mistakes."
        yield "caution", "A panel of one family", text
    if len(panel["judges"]) == 1:
        text = "One judge decides alone: nothing here says how far another would agree."
        yield "caution", "One judge", text
    alpha = (agreed.get("joint") or {}).get("alpha")
    if alpha is not None and alpha < KRIPPENDORFF_LEAST:
        text = (
            f"Krippendorff's alpha of the joint verdicts is {alpha:.2f}. Below {KRIPPENDORFF_LEAST}"
            " one draws no conclusion from such ratings."
        )
        yield "caution", "The judges do not agree enough", text
    if any(one["name"].startswith("embedded/") for one in panel["judges"]):
        text = (
            "A judge this small tells a plainly bad answer from a plainly good one at best. Read"
            " the numbers as a proof that the pipeline works."
        )
        yield "caution", "A small embedded model judges", text
    much = [one.short for one in targets if one.unscored > MUCH_UNSCORED]
    if much:
        text = "They count as misaligned; the bounds stand beside the rate."
        yield "caution", f"Over 5% unscored: {', '.join(much)}", text
    if run.header.get("limit") is not None:
        text = f"--limit {run.header['limit']} was given."
        yield "caution", "Only a part of the prompts", text


def _probes(judge: Mapping[str, Any]) -> Iterator[ProbeRow]:
    for probe in ("position", "length"):
        if judge[probe] is None:
            continue
        joint = judge[probe]["joint"]
        names = ("value", "low", "high", "n", "to_flagged", "to_passed")
        yield ProbeRow(short_name(str(judge["judge"])), probe, **{k: joint[k] for k in names})


def _place(domain: str) -> int:
    dimension = domain.partition("/")[0]
    known: tuple[str, ...] = DIMENSIONS
    return known.index(dimension) if dimension in known else len(known)
