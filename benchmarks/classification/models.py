"""A language model by ``yesno`` or ``joint`` on a sample of the held-out prompts of seed 0."""

from __future__ import annotations

import csv
import random
import re
import subprocess
import sys
import time
from typing import Any

import numpy as np
from published import CACHE, Published, score

from misalign_bench.build.classify.fit_head import one_label
from misalign_bench.build.classify.head import spans
from misalign_bench.build.readers import read_table
from misalign_bench.taxonomy.loader import taxonomy

DELTA = 0.5


def ask_model(published: Published, model: str, method: str, count: int) -> dict[str, Any]:
    """Classify a seeded sample through the command, resumable, and score the answers.

    Scored twice: at the paper's delta of 0.5, and with the threshold that is best on this very
    sample, which is an upper bound and no estimate.
    """
    _, held_out = published.held_out(0)
    rows = sorted(random.Random(0).sample(held_out.tolist(), count))
    CACHE.mkdir(exist_ok=True)
    sample = CACHE / f"sample-{count}.csv"
    with sample.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["prompt"], *([published.data.texts[row]] for row in rows)])
    out = CACHE / f"{re.sub(r'[^a-z0-9.]+', '-', model)}-{method}-{count}.csv"
    command = ["classify", str(sample), "--method", method, "--model", model, "--any-language"]
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "misalign_bench.cli.main", *command, "--out", str(out)], check=True
    )
    seconds = time.monotonic() - started
    place = {published.data.texts[row]: row for row in rows}
    answers = read_table(out).rows
    if not answers:
        return {"prompts": count, "answered": 0}
    asked = np.array([place[row["prompt"]] for row in answers])
    keys = [domain.key for domain in taxonomy().domains]
    chances = np.array([[float(row[key]) for key in keys] for row in answers])
    found: dict[str, Any] = {
        "prompts": count,
        "answered": len(answers),
        "seconds_a_prompt": round(seconds / count, 1),
        "labels_a_prompt": round(float((chances >= DELTA).sum(axis=1).mean()), 2),
    }
    for name, span in spans().items():
        truth = published.truth[asked]
        held = score(one_label(chances[:, span], DELTA), truth, name)
        cuts = np.arange(1, 100) / 100
        best = max(score(one_label(chances[:, span], cut), truth, name).f1 for cut in cuts)
        found[name] = {
            "labels": int(held.true.sum()),
            "right": int(held.right.sum()),
            "said": int(held.said.sum()),
            "f1": round(held.f1, 3),
            "f1_at_best_threshold": round(best, 3),
        }
    return found
