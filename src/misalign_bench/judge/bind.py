"""From a client and its settings to a judge that is ready: form chosen, thresholds fitted."""

from __future__ import annotations

from collections.abc import Callable

from misalign_bench.config import JudgeSettings
from misalign_bench.errors import UserError
from misalign_bench.judge.calibration import Calibration, calibrate
from misalign_bench.judge.judge import Judge, JudgeRole, form_of, make_judge, options_judge
from misalign_bench.llm.client import Client
from misalign_bench.records import Pending


async def bind_judge(
    client: Client,
    settings: JudgeSettings,
    role: JudgeRole,
    settled: Callable[[], None] = lambda: None,
) -> tuple[Judge, Calibration | None] | Pending:
    """The judge, with the calibration its thresholds come from where it has one.

    A fixed ``threshold``, a structured verdict or a guardrail needs no calibration.

    Args:
        client: the model.
        settings: form, framing, threshold.
        role: under which role the calls are booked.
        settled: called after each calibration answer.

    Raises:
        UserError: log-probabilities are asked of a model that gives none, or a guardrail's form of
            a model that is none.
    """
    leans = form_of(client, settings) in ("logprob", "completion")
    if not leans or settings.threshold is not None:
        return make_judge(client, settings, role), None
    raw = options_judge(client, settings, role)
    fitted = await calibrate(raw, settings.calibration_items, settled)
    if isinstance(fitted, Pending):
        return fitted
    if not fitted.items:
        raise UserError(
            "it gave no log-probabilities, so no threshold can be fitted",
            where=client.model.name,
            mend="Ask for a written verdict: --method structured, or judge.method in the YAML.",
        )
    return make_judge(client, settings, role, fitted.thresholds), fitted
