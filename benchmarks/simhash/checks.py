"""What a contender found, against what is true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from contender import Rows, Task
from corpus import TAU
from inputs import Inputs
from plan import Job
from truth import Keys, agreement, groups, keys, similar_pairs, touching

from misalign_bench.simhash.fingerprint import normalise
from misalign_bench.simhash.verify import grams

LEAST = 0.7


class Checks:
    """The checks of one size.

    Joins are held against the tiled brute force, which runs first; where it does not run, against
    the pairs that were planted. Pairs of similar texts are held against an exact search.
    """

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._true_joins: Keys | None = None
        self._true_similar: Keys | None = None

    def of(self, job: Job, measured: dict[str, Any]) -> dict[str, Any]:
        """Return the counts of true pairs, found ones, wrong ones, and planted ones found."""
        if "failed" in measured or job.group == "fingerprints":
            return {}
        file = Path(measured["pairs_file"])
        pairs: Rows = np.load(file)
        file.unlink()
        rows = Task(TAU, codes=np.zeros(measured["rows"], np.uint64)).rows[: measured["done"]]
        if job.group == "pairs":
            return self._similar(pairs, rows)
        return self._join(job, pairs, rows, whole=measured["done"] == measured["rows"])

    def _join(self, job: Job, pairs: Rows, rows: Rows, *, whole: bool) -> dict[str, Any]:
        inputs = self._inputs
        group = groups(np.load(inputs.uniform if job.uniform else inputs.codes))
        planted_pairs = inputs.uniform_planted if job.uniform else inputs.planted
        found = keys(group, pairs)
        checked: dict[str, Any] = {"found": len(found)}
        if job.whole and whole:
            self._true_joins = found
        elif self._true_joins is not None and not job.uniform:
            true = self._true_joins if whole else touching(self._true_joins, group, rows)
            checked["check"] = agreement(found, true)
        if whole and planted_pairs.size:
            planted = agreement(found, keys(group, planted_pairs))
            checked["planted"] = {"true": planted["true"], "hits": planted["hits"]}
        return checked

    def _similar(self, pairs: Rows, rows: Rows) -> dict[str, Any]:
        texts = json.loads(self._inputs.texts.read_text(encoding="utf-8"))
        number: dict[str, int] = {}
        group = np.array([number.setdefault(normalise(text), len(number)) for text in texts])
        if self._true_similar is None:
            exact = similar_pairs([grams(form) for form in number], LEAST)
            low, high = np.array(exact, dtype=np.uint64).reshape(-1, 2).T
            self._true_similar = np.unique(low << np.uint64(32) | high)
        found = keys(group, pairs)
        true = touching(self._true_similar, group, rows)
        return {"found": len(found), "check": agreement(found, true)}
