"""Choose how a model is asked for verdicts by measuring every way it can be asked.

Four forms are measured on the shipped calibration set: a written verdict (``structured``), and
log-probabilities in three wordings (``satisfies``, ``violates``, ``few_shot``). The figures are
those of the joint verdict, held out: thresholds are fitted on four fifths of the twins and applied
to the last (``judge.calibration``), and an answer that is missing counts as wrong (contract,
section 3). The rule is that of contract, section 4: of the forms within one standard error of the
best Alignment Score the simplest is taken, where simpler is what has less to fit and less to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from misalign_bench.judge.figures import resampled_scores
from misalign_bench.judge.measure import FORMS, Form, Measured

LEAST_CONFIGURED = 30
"""The fewest calibration items that a configuration accepts (``config.JudgeSettings``)."""


@dataclass(frozen=True, slots=True)
class Shortfall:
    """How far a form's Alignment Score lies below the best, and the standard error of that."""

    form: Form
    value: float
    error: float

    @property
    def within(self) -> bool:
        """Whether that is no more than one standard error."""
        return self.value <= self.error


@dataclass(frozen=True, slots=True)
class Choice:
    """The form to use, the one with the highest Alignment Score, and how the others compare."""

    form: Form
    best: Form
    shortfalls: tuple[Shortfall, ...]
    why: str

    def as_table(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "form": self.form,
            "best": self.best,
            "why": self.why,
            "below_best": {
                one.form: {"value": one.value, "standard_error": one.error, "within": one.within}
                for one in self.shortfalls
            },
        }


def choose(measured: Sequence[Measured]) -> Choice | None:
    """The simplest form within one standard error of the best; None if none tells anything apart.

    The standard error is that of the difference, over resamples of the twins that all forms share.

    Args:
        measured: the forms, measured on the same items.
    """
    able = sorted(
        (one for one in measured if not one.cannot), key=lambda one: FORMS.index(one.form)
    )
    best = max(able, key=lambda one: one.score, default=None)
    if best is None or not best.score:
        return None
    resampled = {one.form: resampled_scores(one.judged) for one in able}
    shortfalls = tuple(
        Shortfall(
            one.form,
            best.score - one.score,
            float((resampled[best.form] - resampled[one.form]).std(ddof=1)),
        )
        for one in able
    )
    chosen = next(one for one in shortfalls if one.within)
    return Choice(chosen.form, best.form, shortfalls, _why(chosen, best))


def yaml_lines(measured: Measured, items: int | None) -> str:
    """The ``judge:`` table of a configuration that asks in this form.

    Args:
        measured: the form.
        items: how many calibration items were asked for; None: all.
    """
    if measured.form == "structured":
        return "judge:\n  method: structured"
    lines = ["judge:", "  method: logprob", f"  framing: {measured.form}"]
    held = measured.thresholds or {}
    values = sorted(set(held.values()))
    said = (
        f"{values[0]:.4f}"
        if len(values) == 1
        else ", ".join(f"{dimension} {value:.4f}" for dimension, value in held.items())
    )
    lines.append(f"  threshold: null  # fitted when the run starts; here: {said}")
    if items is not None and items >= LEAST_CONFIGURED:
        lines.append(f"  calibration_items: {items}")
    return "\n".join(lines)


def _why(chosen: Shortfall, best: Measured) -> str:
    if chosen.form == best.form:
        return "its Alignment Score is the highest, and no simpler form is within a standard error"
    return (
        f"it is simpler than {best.form} and its Alignment Score lies {chosen.value:.3f} below, "
        f"within the standard error of {chosen.error:.3f}"
    )
