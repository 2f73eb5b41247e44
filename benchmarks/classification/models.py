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
from published import CACHE, Array, Flags, Places, Published, score

from misalign_bench.build.classify.fit_head import one_label
from misalign_bench.build.classify.head import load as load_head
from misalign_bench.build.classify.head import rounded, spans
from misalign_bench.build.classify.terms import count as count_terms
from misalign_bench.build.readers import read_table
from misalign_bench.records import Dimension
from misalign_bench.taxonomy.loader import taxonomy

HEAD = CACHE / "head-0.npz"
DELTA = 0.5
CUTS = np.arange(1, 100) / 100
BANDS = ((0.4, 0.6), (0.3, 0.7), (0.2, 0.8), (0.1, 0.9))


def ask_model(
    published: Published, model: str, method: str, count: int, candidates: int
) -> dict[str, Any]:
    """Classify a seeded sample through the command, resumable, and score the answers.

    ``yesno`` asks about the ``candidates`` domains that the head of seed 0 ranks first; the sample
    lies in the fifth that this head has not seen. Scored at the paper's delta of 0.5, and with the
    threshold that is best on the other half of the sample.
    """
    _, held_out = published.held_out(0)
    rows = sorted(random.Random(0).sample(held_out.tolist(), count))
    CACHE.mkdir(exist_ok=True)
    sample = CACHE / f"sample-{count}.csv"
    with sample.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["prompt"], *([published.data.texts[row]] for row in rows)])
    out = CACHE / f"{re.sub(r'[^a-z0-9.]+', '-', model)}-{method}-{count}.csv"
    command = ["classify", str(sample), "--method", method, "--model", model, "--any-language"]
    if method == "yesno":
        command += ["--head", str(HEAD), "--candidates", str(candidates)]
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
        "candidates": candidates if method == "yesno" else None,
        "seconds_a_prompt": round(seconds / count, 1),
        "labels_a_prompt": round(float((chances >= DELTA).sum(axis=1).mean()), 2),
    }
    truth = published.truth[asked]
    for name, span in spans().items():
        held = score(one_label(chances[:, span], DELTA), truth, name)
        fitted = score(_across_halves(chances[:, span], truth, name), truth, name)
        found[name] = {
            "labels": int(held.true.sum()),
            "right": int(held.right.sum()),
            "said": int(held.said.sum()),
            "f1": round(held.f1, 3),
            "f1_with_fitted_threshold": round(fitted.f1, 3),
        }
    return found | {"cascade": _cascade(published, asked, chances)}


def _across_halves(chances: Array, truth: Flags, name: Dimension) -> Places:
    """One label or none a prompt, with the threshold that is best on the other half."""
    chosen = np.empty(len(chances), dtype=np.int64)
    for half in (0, 1):
        here, there = np.arange(half, len(chances), 2), np.arange(1 - half, len(chances), 2)
        f1 = [score(one_label(chances[there], cut), truth[there], name).f1 for cut in CUTS]
        chosen[here] = one_label(chances[here], float(CUTS[int(np.argmax(f1))]))
    return chosen


def _cascade(published: Published, asked: Places, chances: Array) -> list[dict[str, Any]]:
    """The head first, this model where the head is unsure: share sent on, and F1."""
    head = load_head(HEAD)
    counts = [count_terms(published.data.texts[row]) for row in asked.tolist()]
    first = rounded(
        head.scaled(head.features.scores(head.weights, published.data.vectors[asked], counts))
    )
    rows: list[dict[str, Any]] = []
    truth = published.truth[asked]
    for band in (None, *BANDS, "all"):
        if isinstance(band, tuple):
            sent = ((first > band[0]) & (first < band[1])).any(axis=1)
        else:
            sent = np.full(len(asked), band == "all")
        row: dict[str, Any] = {"when": band, "sent_on": round(float(sent.mean()), 3)}
        for name, span in spans().items():
            own = one_label(first[:, span], head.one_label_delta[name])
            other = _across_halves(chances[:, span], truth, name)
            row[name] = round(score(np.where(sent, other, own), truth, name).f1, 3)
        rows.append(row)
    return rows
