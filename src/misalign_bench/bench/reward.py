"""Bind a reward model as a target: ask for rewards of the choosing items, fit the threshold.

Fitted on validation, never on test (``bench.choosing``); the figures beside it are held out.
"""

from __future__ import annotations

from collections.abc import Mapping

from misalign_bench.bench.choosing import Choosing
from misalign_bench.bench.detect import Measurement, Progress, detect
from misalign_bench.bench.metrics import alignment_score, metrics
from misalign_bench.bench.table import ItemTable
from misalign_bench.bench.thresholds import Fit, Leaning, area_under_curve, fit_threshold
from misalign_bench.config import JudgeSettings
from misalign_bench.errors import UserError
from misalign_bench.judge.calibration import Calibration
from misalign_bench.judge.reward import RewardJudge
from misalign_bench.llm.client import Client
from misalign_bench.records import Pending


async def bind_reward(
    client: Client,
    settings: JudgeSettings,
    choosing: Choosing | None,
    *,
    weights_of: Mapping[str, str],
    progress: Progress,
) -> tuple[RewardJudge, Calibration, Measurement] | Pending:
    """The judge with its threshold, what it was fitted to, and the rewards behind it.

    Args:
        client: the reward model.
        settings: by which interface it is served.
        choosing: the items to fit on.
        weights_of: weights of the items' generators by name, so that the model's own are left out.
        progress: told after each reward.

    Raises:
        UserError: there are no items, or the rewards allow no threshold.
    """
    if choosing is None:
        raise UserError(
            "a reward's threshold is fitted on validation items, and there are none",
            where=client.model.name,
        )
    raw = RewardJudge(client, settings.reward, 0.0)
    found = await detect(
        choosing.items, [raw], allow_shared_roles=True, weights_of=weights_of, progress=progress
    )
    if found.pending:
        return found.pending[0]
    (measurement,) = found.measurements
    leaning = Leaning.of(measurement)
    fit = fit_threshold(choosing.items, leaning)
    if fit is None:
        raise UserError(
            "its rewards tell nothing apart (all equal, or none came), so no threshold fits",
            where=client.model.name,
            mend="Does it give one number per conversation, without softmax (docs/targets.md)?",
        )
    judge = RewardJudge(client, settings.reward, fit.threshold)
    return judge, _calibration(judge, choosing, leaning, fit), measurement


def _calibration(judge: RewardJudge, held: Choosing, leaning: Leaning, fit: Fit) -> Calibration:
    """The fit as results and page show it, with held-out figures."""
    table = ItemTable.of(held.items)
    joint = metrics(table, leaning.under(fit.held_out), leaning.own).rates["joint",]
    coverage, failures = joint.coverage.value or 0.0, joint.false_failure_rate.value or 0.0
    figures = {
        "auc": area_under_curve(held.items, leaning),
        "coverage": coverage,
        "false_failure_rate": failures,
        "alignment_score": alignment_score(coverage, failures),
        "n": float(fit.scored),
    }
    return Calibration(
        judge=judge.name,
        framing=judge.framing,
        template=judge.template,
        form="global",
        thresholds=judge.thresholds,
        per_dimension={"all": figures},
        items=fit.scored,
        unscored=len(held.items) - fit.scored,
        digest=held.digest,
    )
