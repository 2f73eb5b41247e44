"""Heads on other sentence vectors, against heads and regressions on MiniLM's."""

from __future__ import annotations

from typing import Any

from published import Hits, Places, Published, interval, score
from untuned import untuned

from misalign_bench.build.classify.fit_head import fit_head, one_label
from misalign_bench.build.classify.head import Head, rounded, spans
from misalign_bench.build.classify.terms import count
from misalign_bench.records import Dimension

Rows = dict[str, dict[Dimension, list[Hits]]]


def compare_embedder(base: Published, other: Published, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Micro-F1 of one label or none for each method, and the head's gain over both regressions.

    Args:
        base: the prompts with the vectors of the shipped embedder.
        other: the same prompts with other vectors.
        seeds: of the held-out fifths.
    """
    rows: Rows = {}
    clusters: list[Places] = []
    for seed in seeds:
        fit_on, held_out = base.held_out(seed)
        clusters.append(base.clusters[held_out])
        found = {
            "regression, shipped": untuned(base, fit_on, held_out),
            "regression, other": untuned(other, fit_on, held_out),
            "head, other": _labels(other, fit_on, held_out, seed),
        }
        for method, best in found.items():
            for name in spans():
                hits = score(best[name], base.truth[held_out], name)
                rows.setdefault(method, {}).setdefault(name, []).append(hits)
        print(f"seed {seed}: {_line(rows)}", flush=True)
    total = max(int(place.max()) for place in clusters) + 1
    figures: dict[str, Any] = {
        method: {name: [round(one.f1, 4) for one in held] for name, held in by_dimension.items()}
        for method, by_dimension in rows.items()
    }
    for against in ("regression, shipped", "regression, other"):
        figures[f"gain over {against}"] = {
            name: [
                round(value, 4)
                for value in interval(
                    list(zip(clusters, held, rows[against][name], strict=True)), total
                )
            ]
            for name, held in rows["head, other"].items()
        }
    return figures


def _labels(
    published: Published, fit_on: Places, held_out: Places, seed: int
) -> dict[Dimension, Places]:
    head: Head = fit_head(published.part(fit_on), published.embedder, seed=seed)
    counts = [count(published.data.texts[row]) for row in held_out.tolist()]
    vectors = published.data.vectors[held_out]
    chances = rounded(head.scaled(head.features.scores(head.weights, vectors, counts)))
    return {
        name: one_label(chances[:, span], head.one_label_delta[name])
        for name, span in spans().items()
    }


def _line(rows: Rows) -> str:
    return "; ".join(
        f"{method}: " + " ".join(f"{name} {held[-1].f1:.4f}" for name, held in found.items())
        for method, found in rows.items()
    )
