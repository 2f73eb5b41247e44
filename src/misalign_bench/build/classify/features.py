"""What a head sees of a prompt: its sentence vector, its nearness to landmarks, its terms.

Landmarks are sentence vectors of some of the prompts that are fitted on. Nearness to one is
``exp((cosine - 1) / REACH)``, all of a prompt's together scaled to length 1: a normalised Gaussian
kernel at sampled points (Williams and Seeger 2001), on which a linear map can follow what bends.
Terms are those of ``terms``. Everything else about the head is linear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from misalign_bench.build.classify.reliability import Array
from misalign_bench.build.classify.softmax import Recipe, Weights
from misalign_bench.build.classify.terms import Counts, Floats, Terms
from misalign_bench.build.classify.terms import choose as choose_terms

REACH = 0.1


@dataclass(frozen=True, slots=True)
class Features:
    """What is chosen before weights are fitted."""

    terms: Terms
    landmarks: Floats

    def dense(self, vectors: Floats) -> Floats:
        """Return sentence vectors with their nearness to the landmarks, row by row."""
        near = nearness(vectors @ self.landmarks.T)
        found: Floats = np.concatenate([vectors, near], axis=1)
        return found

    def scores(self, weights: Weights, vectors: Floats, counts: Sequence[Counts]) -> Array:
        """Return the linear scores of many prompts; rows may round by what stands beside them."""
        found = weights.bias + self.dense(vectors) @ weights.dense
        for place, held in enumerate(counts):
            columns, values = self.terms.row(held)
            found[place] += values @ weights.sparse[columns]
        return found.astype(np.float64)


def choose(vectors: Floats, counts: Sequence[Counts], recipe: Recipe, seed: int) -> Features:
    """Choose terms by how many texts hold them, and landmarks at random.

    Landmarks are rounded to 16 bits here already, as a head's file holds them.
    """
    terms = choose_terms(counts, recipe.least_texts)
    random = np.random.default_rng([seed, 1])
    drawn = random.choice(len(vectors), min(recipe.landmarks, len(vectors)), replace=False)
    return Features(terms, vectors[np.sort(drawn)].astype(np.float16).astype(np.float32))


def nearness(cosines: Floats) -> Floats:
    """Return the kernel's values, each row scaled to length 1."""
    near = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / np.float32(REACH))
    length = np.linalg.norm(near, axis=1, keepdims=True)
    found: Floats = (near / length).astype(np.float32, copy=False)
    return found
