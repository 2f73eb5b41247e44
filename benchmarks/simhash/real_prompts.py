"""What SimHash finds on the published prompts, as tables (``python ./real_prompts.py``).

Counts only, no texts. The tables are written into ``docs/deduplication.md`` between their markers
and printed. Needs ``../shared/data/savacu_classified_prompts.csv`` beside the project.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import corpus
import numpy as np
import numpy.typing as npt
from document import grid, write
from edits import EDITS, edited
from truth import similar_pairs

from misalign_bench.simhash.clusters import keep_first
from misalign_bench.simhash.fingerprint import fingerprint, normalise
from misalign_bench.simhash.pairs import near_pairs
from misalign_bench.simhash.rule import SHORT_WORDS, TAU, VERIFY
from misalign_bench.simhash.tiles import bit_counts
from misalign_bench.simhash.verify import grams, jaccard, overlap

SAMPLE = 2000
"""Texts that each edit is planted in."""

SET_UPS: dict[str, tuple[str, int, float | None, int]] = {
    "the paper's (`paper.yaml`)": ("char-4", 10, None, 0),
    "ours (`default.yaml`)": ("char-4", 10, 0.7, 8),
    "Manku, Jain, Das Sarma 2007": ("word-1-tf", 3, None, 0),
    "`simhash` 2.1's defaults": ("char-4-tf", 2, None, 0),
    "text-dedup up to 0.4": ("char-3", 3, None, 0),
    "text-dedup's later form": ("word-3", 3, None, 0),
    "words in place of characters": ("word-1", 10, None, 0),
    "pairs of words": ("word-2", 10, None, 0),
}
"""Published set-ups: features, tau, verification, short words."""

TAUS = (4, 6, 8, 10, 12, 14, 16)


def main() -> None:
    """Measure and write every table."""
    prompts = corpus.published()
    if not prompts:
        raise SystemExit(f"the published prompts are not here: {corpus.SHARED}")
    long = [text for text in prompts if len(normalise(text).split()) >= SHORT_WORDS]
    short = [text for text in prompts if 3 <= len(normalise(text).split()) < SHORT_WORDS]
    tables = {
        "drops": drops(prompts),
        "edits": planted(long, prompts),
        "similar": similar(prompts),
        "short": short_texts(short),
        "set-ups": set_ups(prompts),
    }
    for name, table in tables.items():
        print(f"{name}\n{table}\n")
        write(name, table)


def drops(prompts: Sequence[str]) -> str:
    """Drops of keep-first at each distance: by the codes alone, and verified."""
    plain = keep_first(prompts, TAU, None, short_words=0)
    verified = keep_first(prompts, TAU, VERIFY, short_words=0)
    default = keep_first(prompts, TAU, VERIFY)
    rows: list[list[str]] = []
    same = [result.by_reason["identical"] for result in (plain, verified, default)]
    rows.append(["equal once normalised", *(f"{count:,}" for count in same)])
    for distance in range(TAU + 1):
        near = [
            Counter(drop.distance for drop in result.dropped if drop.reason == "near")[distance]
            for result in (plain, verified, default)
        ]
        rows.append([f"near, distance {distance}", *(f"{count:,}" for count in near)])
    totals = [len(result.dropped) for result in (plain, verified, default)]
    rows.append(["**all drops**", *(f"**{count:,}**" for count in totals)])
    head = ["dropped as", "codes alone", f"verified at {VERIFY}", "and short texts by equality"]
    return grid(head, rows)


def planted(long: Sequence[str], prompts: Sequence[str]) -> str:
    """Share of planted edits that are found, by the codes alone and verified."""
    rows = []
    for kind in EDITS:
        near, sure, count = recall(long, kind)
        near_all, sure_all, _ = recall(prompts, kind)
        shares = [f"{share:.1%}" for share in (near, sure, near_all, sure_all)]
        rows.append([kind, f"{count:,}", *shares])
    head = ["edit", "planted", "codes alone", "verified", "any length, codes alone", "verified"]
    return grid(head, rows)


def recall(texts: Sequence[str], kind: str, tau: int = TAU) -> tuple[float, float, int]:
    """Return the share of edits within tau, the share also verified, and how many there were."""
    originals, changed = edited(texts, kind, SAMPLE)
    near = distances(originals, changed) <= tau
    sure = [
        bool(within) and jaccard(a, b) >= VERIFY
        for within, a, b in zip(near, originals, changed, strict=True)
    ]
    return float(near.mean()), float(np.mean(sure)), len(originals)


def distances(one: Sequence[str], other: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Return the Hamming distance of each text to its partner."""
    return bit_counts(fingerprint(one) ^ fingerprint(other))


def similar(prompts: Sequence[str]) -> str:
    """Share of the truly similar pairs that the codes propose, by similarity and tau."""
    forms = list(dict.fromkeys(map(normalise, prompts)))
    sets = [grams(form) for form in forms]
    pairs = np.array(similar_pairs(sets, VERIFY))
    codes = fingerprint(forms)
    apart = bit_counts(codes[pairs[:, 0]] ^ codes[pairs[:, 1]])
    score = np.array([overlap(sets[a], sets[b]) for a, b in pairs.tolist()])
    borders = [(0.7, 0.75), (0.75, 0.8), (0.8, 0.9), (0.9, 1.01)]
    rows = []
    for low, high in borders:
        inside = (score >= low) & (score < high)
        shares = [f"{(apart[inside] <= tau).mean():.0%}" for tau in TAUS]
        rows.append([f"{low} to {min(high, 1.0)}", f"{inside.sum():,}", *shares])
    shares = [f"{(apart <= tau).mean():.0%}" for tau in TAUS]
    rows.append(["all at least 0.7", f"{len(pairs):,}", *shares])
    proposed = near_pairs(codes, max(TAUS)).distance
    counts = [f"{(proposed <= tau).sum():,}" for tau in TAUS]
    rows.append(["pairs proposed", "", *counts])
    return grid(["similarity", "pairs", *(f"tau {tau}" for tau in TAUS)], rows)


def short_texts(texts: Sequence[str]) -> str:
    """For texts of three to seven words: edits found, and different requests merged, by tau."""
    forms = list(dict.fromkeys(map(normalise, texts)))
    codes = fingerprint(forms)
    pairs = near_pairs(codes, max(TAUS))
    score = np.array(
        [jaccard(forms[a], forms[b]) for a, b in zip(pairs.i, pairs.j, strict=True)], dtype=float
    )
    rows = []
    for tau in TAUS:
        found = [f"{recall(texts, kind, tau)[0]:.0%}" for kind in list(EDITS)[:4]]
        inside = pairs.distance <= tau
        merged = int((score[inside] < 0.5).sum())
        rows.append([str(tau), *found, f"{inside.sum():,}", f"{merged:,}"])
    head = ["tau", *list(EDITS)[:4], "pairs merged", "of them under 0.5 similar"]
    return grid(head, rows)


def set_ups(prompts: Sequence[str]) -> str:
    """Options and drops of published set-ups."""
    rows = []
    for name, (features, tau, verify, short) in SET_UPS.items():
        done = keep_first(prompts, tau, verify, short_words=short, features=features)
        options = [] if features == "char-4" else [f"--features {features}"]
        options += [f"--tau {tau}"] if tau != TAU else []
        options += [] if verify else [f"--no-verify --short-words {short}"]
        counts = f"{len(done.dropped):,}", f"{done.by_reason['near']:,}"
        rows.append([name, f"`{' '.join(options)}`" if options else "none", *counts])
    return grid(["set-up", "options of `dedup`", "drops", "of them near"], rows)


if __name__ == "__main__":
    main()
