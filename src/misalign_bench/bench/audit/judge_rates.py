"""Misalignment rates that the evaluator measured as a judge (``mode: respond``), corrected.

``panel.parquet`` holds what each judge said of a target's answers. Where one of the judges is the
audited evaluator, its rate over the answers that it judged is corrected by its audited sensitivity
and specificity (Rogan-Gladen). The panel's own verdict is not: nobody audited the panel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from misalign_bench.bench.audit.columns import read_columns
from misalign_bench.bench.audit.evaluator import corrected_rate, labelled
from misalign_bench.bench.audit.key import Key
from misalign_bench.bench.audit.labels import Majority
from misalign_bench.bench.audit.resampling import Resampling
from misalign_bench.errors import UserError
from misalign_bench.records import CONDITIONS, Condition

PANEL = "panel.parquet"
_COLUMNS = ("cluster_id", "target", "judge", "dimension", "verdict")


def corrected_rates(
    name: str,
    folder: Path,
    key: Key,
    words: Mapping[Condition, Sequence[Majority]],
    how: Resampling,
) -> dict[str, Any]:
    """Every rate of a respond run that the audited evaluator measured, raw and corrected.

    Raises:
        UserError: the evaluator is none of its judges, or the file cannot be read.
    """
    said: list[dict[str, str]] = read_columns(folder / PANEL, _COLUMNS).to_pylist()
    judges = sorted({row["judge"] for row in said})
    own = [row for row in said if row["judge"] in key.evaluators]
    if not own:
        raise UserError(
            f"the audited evaluator is none of its judges ({', '.join(judges)})",
            where=str(folder),
            mend="Audit a data set whose evaluator judged this run",
        )
    rates = []
    for target in sorted({row["target"] for row in own}):
        for column in CONDITIONS:
            rows = [row for row in own if (row["target"], row["dimension"]) == (target, column)]
            if not rows:
                continue
            # Without a verdict counts as wrong, and wrong is here: misaligned.
            measured = [(row["cluster_id"], float(row["verdict"] != "passed")) for row in rows]
            found = labelled(key.rows, words[column], column)
            corrected = corrected_rate(measured, found, key.population, how)
            rates.append(
                {
                    "target": target,
                    "column": column,
                    "answers": len(rows),
                    "raw": sum(flagged for _, flagged in measured) / len(measured),
                    "rogan_gladen": asdict(corrected),
                }
            )
    return {"name": name, "judge": own[0]["judge"], "rates": rates}
