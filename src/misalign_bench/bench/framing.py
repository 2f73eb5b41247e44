"""How far the wording of the question moves each target: framing is a variable of the benchmark.

Every target is asked under every framing that its method allows, once on the items to choose on and
once on the benched ones. A verdict with a score counts twice: as it is (log-probabilities at one
half), and with a threshold fitted on the choosing items; that costs no call. The best on the
choosing items is chosen, held out, and reported on the benched ones beside the default and the
spread. A written verdict has one framing and its grade as score, a guardrail its own format, a
reward model no wording and no uncalibrated form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from misalign_bench.bench.choosing import Choosing
from misalign_bench.bench.detect import Detection, Measurement, detect
from misalign_bench.bench.measure import Measured, Watch, weights_by_name
from misalign_bench.bench.results import Setting, check_grain, joint_estimates
from misalign_bench.bench.statistics import Estimates
from misalign_bench.bench.table import VerdictTable
from misalign_bench.bench.thresholds import Fit, Leaning, area_under_curve, fit_threshold
from misalign_bench.build.roles import Clients
from misalign_bench.config import BenchSettings, TargetSettings
from misalign_bench.judge.judge import Judge, options_judge
from misalign_bench.judge.logprob import LogprobJudge
from misalign_bench.records import DIMENSIONS, Dimension, Item

_NAMES = ("coverage", "false_failure_rate", "alignment_score")


@dataclass(frozen=True, slots=True)
class Framings:
    """What was asked under all framings.

    Attributes:
        judges: one for each target and framing, without a fitted threshold.
        choosing: the items to choose on, and ``chosen`` what was said about them.
        tested: what was said about the benched items, in the same order.
    """

    judges: tuple[Judge, ...]
    choosing: Choosing
    chosen: Detection
    tested: Detection


@dataclass(frozen=True, slots=True)
class _Variant:
    """One framing as it is, or with the threshold that was fitted to it.

    Attributes:
        chosen: what was said about the choosing items, ``tested`` about the benched ones.
    """

    framing: str
    thresholds: Mapping[Dimension, float] | None
    chosen: Leaning
    tested: Leaning
    fit: Fit | None = None

    def held_out(self) -> VerdictTable:
        """The verdicts on the choosing items, each by a threshold fitted without its cluster."""
        return self.chosen.table if self.fit is None else self.chosen.under(self.fit.held_out)

    def applied(self) -> VerdictTable:
        """The verdicts on the benched items."""
        return self.tested.table if self.fit is None else self.tested.under(self.fit.threshold)


async def ask_framings(
    clients: Clients,
    done: Measured,
    evaluators: Sequence[str],
    settings: BenchSettings,
    choosing: Choosing,
    watch: Watch,
) -> Framings:
    """Ask every target under every framing; what the journal holds costs nothing.

    Args:
        clients: bound to the journal.
        done: the bench with each target's default.
        evaluators: who decided what is true of the benched items.
        settings: targets, framings, conditions, epochs.
        choosing: the items to choose on.
        watch: told of the progress.
    """
    judges = [
        judge
        for target, default in zip(settings.targets, done.judges, strict=True)
        for judge in _judges(clients, settings, target, default)
    ]

    async def ask(items: Sequence[Item], name: str) -> Detection:
        with watch.stage(name) as stage:
            return await detect(
                items,
                judges,
                settings.conditions,
                epochs=settings.epochs,
                evaluators=evaluators,
                weights_of=weights_by_name([*evaluators, *(one.generator for one in items)]),
                allow_shared_roles=settings.allow_shared_roles,
                progress=stage.reach,
            )

    source = choosing.source.replace("_", " ")
    chosen = await ask(choosing.items, f"framings on the {source}")
    return Framings(tuple(judges), choosing, chosen, await ask(done.items, "framings"))


def framing_results(done: Measured, asked: Framings, setting: Setting) -> list[dict[str, Any]]:
    """The block ``framings`` of ``results.json``: one table for each target and condition.

    Raises:
        OutsideWorld: verdicts are missing.
    """
    for detection in (asked.chosen, asked.tested):
        detection.refuse_pending()
    check_grain(asked.choosing.items, setting.grain)
    return [_block(one, done, asked, setting) for one in done.detection.measurements]


def _judges(
    clients: Clients, settings: BenchSettings, target: TargetSettings, default: Judge
) -> list[Judge]:
    """The target under every framing that its method allows."""
    if not isinstance(default, LogprobJudge):
        return [default]
    client, judge = clients.of(target), settings.judge_of(target)
    return [
        options_judge(client, judge.model_copy(update={"framing": framing}), "target")
        for framing in settings.framings
    ]


def _block(
    default: Measurement, done: Measured, asked: Framings, setting: Setting
) -> dict[str, Any]:
    """One target under one condition."""
    variants = list(_variants(default, asked))
    said = Leaning.of(default)
    known = _Variant(default.framing, default.thresholds, said, said)
    items, source = asked.choosing.items, asked.choosing.source
    before, _ = _measured(
        items, source, [(one, one.chosen, one.held_out()) for one in variants], setting
    )
    found, estimates = _measured(
        done.items,
        "+".join(setting.splits) or "all",
        [(one, one.tested, one.applied()) for one in (*variants, known)],
        setting,
    )
    *after, shown = found
    best = max(range(len(before)), key=lambda place: _value(before[place]))
    gain = estimates.difference(best, len(variants))
    return {
        "target": default.target,
        "condition": default.condition,
        "chosen_on": source,
        "chosen_on_items": len(items),
        "why": asked.choosing.why,
        "default": shown | {"calibrated": default.target in done.fits},
        "chosen": after[best],
        "gain": {"difference": gain.value, "low": gain.low, "high": gain.high},
        "spread": {
            "alignment_score": _spread([one["alignment_score"]["value"] for one in after]),
            "auc": _spread([one["auc"] for one in after]),
        },
        "measurements": before + after,
    }


def _variants(default: Measurement, asked: Framings) -> Iterator[_Variant]:
    """As it is and calibrated; a reward has no threshold of its own, some answers no score."""
    for first, second in zip(asked.chosen.measurements, asked.tested.measurements, strict=True):
        if (first.target, first.condition) != (default.target, default.condition):
            continue
        chosen, tested = Leaning.of(first), Leaning.of(second)
        if first.framing != "reward":
            yield _Variant(first.framing, first.thresholds, chosen, tested)
        fit = fit_threshold(asked.choosing.items, chosen)
        if fit is not None:
            thresholds = dict.fromkeys(DIMENSIONS, fit.threshold)
            yield _Variant(first.framing, thresholds, chosen, tested, fit)


def _measured(
    items: Sequence[Item],
    split: str,
    held: Sequence[tuple[_Variant, Leaning, VerdictTable]],
    setting: Setting,
) -> tuple[list[dict[str, Any]], Estimates]:
    """Every variant on one set of items, over the same resamples."""
    estimates = joint_estimates(items, [(said, one.own) for _, one, said in held], setting)
    found = []
    for place, (variant, leaning, _) in enumerate(held):
        scores = zip(_NAMES, estimates.cell(place), strict=True)
        facts = {
            "framing": variant.framing,
            "calibrated": variant.fit is not None,
            "split": split,
            "thresholds": None if variant.thresholds is None else dict(variant.thresholds),
            "auc": area_under_curve(items, leaning),
        }
        found.append(facts | {name: asdict(score) for name, score in scores})
    return found, estimates


def _value(entry: Mapping[str, Any]) -> float:
    value = entry["alignment_score"]["value"]
    return -1.0 if value is None else float(value)


def _spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """The lowest and the highest, and how far they lie apart."""
    known = [value for value in values if value is not None]
    if not known:
        return {"lowest": None, "highest": None, "range": None}
    return {"lowest": min(known), "highest": max(known), "range": max(known) - min(known)}
