"""Classification against the published labels: every table of ``docs/classification.md``.

``python benchmarks/classification/measure.py`` embeds the published prompts once (minutes), then
measures on a held-out fifth, for three seeds: an untuned logistic regression (scikit-learn's
defaults on the sentence vectors; needs ``pip install scikit-learn``), the zero-shot classifier and
the fitted head; the loss of recall by pre-ranking for ``yesno``; calibration; the cascade; and
disagreements by row number. With ``--sample N --model embedded/NAME`` it asks a language model
about N of the held-out prompts by ``yesno`` and ``joint`` (hours for hundreds on two cores). With
``--embedder embedded/minilm+onnx/FOLDER`` it fits heads on other sentence vectors.
Everything goes to ``results.json`` beside this file; no text of a prompt does.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from embedders import compare_embedder
from published import CACHE, DATA, DIMENSIONS, Array, Hits, Places, Published, interval, load, score
from untuned import untuned

from misalign_bench.build.classify.embedding import EmbeddingClassifier
from misalign_bench.build.classify.fit_head import fit_head, hits, one_label
from misalign_bench.build.classify.head import Head, rounded, save, spans
from misalign_bench.build.classify.reliability import diagrams
from misalign_bench.build.classify.terms import count
from misalign_bench.llm.embedding import load_embedder
from misalign_bench.taxonomy.loader import taxonomy

SEEDS = (0, 1, 2)
KEPT = (5, 8, 12, 20, 30)
BANDS = ((0.4, 0.6), (0.3, 0.6), (0.3, 0.7), (0.25, 0.75), (0.2, 0.8), (0.15, 0.85), (0.1, 0.9))
RESULTS = Path(__file__).parent / "results.json"


def main() -> None:
    """Measure what was asked for and merge it into the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--sample", type=int, default=0, metavar="N")
    parser.add_argument("--model", default="embedded/qwen2.5-coder-0.5b")
    parser.add_argument("--methods", default="yesno,joint")
    parser.add_argument("--embedder", default="", help="compare heads on this one's vectors")
    parser.add_argument("--candidates", type=int, default=6, help="of yesno")
    arguments = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    published = load(arguments.data)
    if arguments.embedder:
        other = load(arguments.data, arguments.embedder)
        found = compare_embedder(published, other, SEEDS)
        results.setdefault("embedders", {})[other.embedder["name"]] = found
    elif arguments.sample:
        from models import ask_model

        for method in arguments.methods.split(","):
            found = ask_model(
                published, arguments.model, method, arguments.sample, arguments.candidates
            )
            results.setdefault("models", {})[f"{arguments.model} {method}"] = found
    else:
        results |= embedding_results(published)
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


def embedding_results(published: Published) -> dict[str, Any]:
    """Everything that needs no language model."""
    zero_shot = _zero_shot(published)
    rows: dict[str, dict[str, list[Hits]]] = {}
    clusters: list[Places] = []
    heads: list[tuple[Head, Places, Array]] = []
    seconds: list[float] = []
    for seed in SEEDS:
        fit_on, held_out = published.held_out(seed)
        started = time.process_time()
        head = fit_head(published.part(fit_on), published.embedder, seed=seed)
        seconds.append(time.process_time() - started)
        CACHE.mkdir(exist_ok=True)
        save(head, CACHE / f"head-{seed}.npz")
        found = _probabilities(head, published, held_out)
        heads.append((head, held_out, found))
        clusters.append(published.clusters[held_out])
        plain = untuned(published, fit_on, held_out)
        truth = published.truth[held_out]
        for name, span in spans().items():
            half = dict.fromkeys(DIMENSIONS, 0.5)
            for method, best in (
                ("untuned logistic regression", plain[name]),
                ("zero-shot", one_label(zero_shot[held_out][:, span], half[name])),
                ("fitted head", one_label(found[:, span], head.one_label_delta[name])),
            ):
                rows.setdefault(method, {}).setdefault(name, []).append(score(best, truth, name))
        print(f"seed {seed}: {_line(rows, -1)}", flush=True)
    return {
        "prompts": len(published.prompts),
        "clusters": int(published.clusters.max()) + 1,
        "one_label": _compared(rows, clusters),
        "fit_processor_seconds": [round(value) for value in seconds],
        "head_bytes": (CACHE / "head-0.npz").stat().st_size,
        "all_labels": _all_labels(published, heads, zero_shot),
        "recall_of_ranking": _ranking(published, heads, zero_shot),
        "calibration": _calibration(published, heads, zero_shot),
        "cascade": _cascade(published, heads),
        "disagreements": _disagreements(published, heads[0]),
    }


def _zero_shot(published: Published) -> Array:
    classifier = EmbeddingClassifier(load_embedder())
    found: Array = classifier._head.probabilities(published.data.vectors.astype(np.float64))
    return found


def _probabilities(head: Head, published: Published, rows: Places) -> Array:
    counts = [count(published.data.texts[row]) for row in rows.tolist()]
    return rounded(
        head.scaled(head.features.scores(head.weights, published.data.vectors[rows], counts))
    )


def _compared(rows: dict[str, dict[str, list[Hits]]], clusters: list[Places]) -> dict[str, Any]:
    total = max(int(place.max()) for place in clusters) + 1
    found: dict[str, Any] = {}
    for method, by_dimension in rows.items():
        found[method] = {
            name: {
                key: [round(getattr(one, key), 4) for one in seeds]
                for key in ("precision", "recall", "f1")
            }
            for name, seeds in by_dimension.items()
        }
    base = rows["untuned logistic regression"]
    found["gain of the fitted head"] = {
        name: dict(
            zip(
                ("mean", "low", "high"),
                (
                    round(value, 4)
                    for value in interval(
                        list(zip(clusters, seeds, base[name], strict=True)), total
                    )
                ),
                strict=True,
            )
        )
        for name, seeds in rows["fitted head"].items()
    }
    return found


def _all_labels(
    published: Published, heads: list[tuple[Head, Places, Array]], zero_shot: Array
) -> dict[str, Any]:
    """Every label at or above delta, as a build uses them: mean of the seeds."""
    found: dict[str, Any] = {"fitted head": {}, "zero-shot": {}}
    for name, span in spans().items():
        ours, plain = [], []
        for head, rows, chances in heads:
            truth = published.truth[rows][:, span]
            ours.append(
                {"delta": head.delta[name], **hits(chances[:, span] >= head.delta[name], truth)}
            )
            plain.append(hits(zero_shot[rows][:, span] >= 0.5, truth))
        found["fitted head"][name], found["zero-shot"][name] = _mean(ours), _mean(plain)
    return found


def _ranking(
    published: Published, heads: list[tuple[Head, Places, Array]], zero_shot: Array
) -> dict[str, Any]:
    """Share of published labels among the k best-ranked of all 111 domains."""
    found: dict[str, Any] = {}
    for method in ("zero-shot", "fitted head"):
        places: dict[str, slice] = {str(name): span for name, span in spans().items()}
        shares: dict[str, list[list[float]]] = {name: [] for name in ("all", *DIMENSIONS)}
        for _, rows, chances in heads:
            ranked = np.argsort(-(zero_shot[rows] if method == "zero-shot" else chances), axis=1)
            place = np.argsort(ranked, axis=1)
            truth = published.truth[rows]
            for name, kept_shares in shares.items():
                span = places.get(name, slice(None))
                of = place[:, span][truth[:, span]]
                kept_shares.append([float((of < kept).mean()) for kept in KEPT])
        found[method] = {
            name: dict(
                zip(
                    [str(kept) for kept in KEPT],
                    [round(sum(each) / len(each), 4) for each in zip(*values, strict=True)],
                    strict=True,
                )
            )
            for name, values in shares.items()
        }
    return found


def _calibration(
    published: Published, heads: list[tuple[Head, Places, Array]], zero_shot: Array
) -> dict[str, Any]:
    """Expected calibration error on held-out prompts, and the first seed's diagram."""
    found: dict[str, Any] = {}
    for name, span in spans().items():
        kinds = {
            "zero-shot": [(zero_shot[rows], rows) for _, rows, _ in heads],
            "fitted head": [(chances, rows) for _, rows, chances in heads],
        }
        found[name] = {"scaling": [head.manifest["scaling"][name]["kind"] for head, _, _ in heads]}
        for method, held in kinds.items():
            tables = [
                diagrams(chances[:, span], published.truth[rows][:, span]) for chances, rows in held
            ]
            found[name][method] = {
                kind: [table[kind]["expected_calibration_error"] for table in tables]
                for kind in ("best_domain", "pairs")
            }
            if method == "fitted head":
                found[name]["diagram"] = tables[0]["best_domain"]["bins"]
        found[name]["before scaling, out of fold"] = [
            head.manifest["out_of_fold"][name]["reliability_before"]["best_domain"][
                "expected_calibration_error"
            ]
            for head, _, _ in heads
        ]
    return found


def _cascade(published: Published, heads: list[tuple[Head, Places, Array]]) -> list[dict[str, Any]]:
    """Share of prompts sent on against F1, with the published labels as a second that is right.

    ``at_random`` sends the same share of prompts on without looking at probabilities.
    """
    table = []
    for low, high in ((1.0, 1.0), *BANDS):
        rows: list[dict[str, float]] = []
        for head, held_out, chances in heads:
            sent = np.asarray(((chances > low) & (chances < high)).any(axis=1))
            draw = np.random.default_rng(0).permutation(len(sent)) < sent.sum()
            row = {"sent_on": float(sent.mean())}
            for name, span in spans().items():
                truth = published.truth[held_out]
                own = one_label(chances[:, span], head.one_label_delta[name])
                known = truth[:, span]
                right = np.where(known.any(axis=1), known.argmax(axis=1), -1)
                row[name] = score(np.where(sent, right, own), truth, name).f1
                row[f"{name}_at_random"] = score(np.where(draw, right, own), truth, name).f1
            rows.append(row)
        table.append({"when": [low, high] if low < high else None, **_mean(rows)})
    return table


def _disagreements(published: Published, held: tuple[Head, Places, Array]) -> list[dict[str, Any]]:
    """Ten a dimension: where the head is surest of another label than the published one."""
    head, rows, chances = held
    names = [domain.name for domain in taxonomy().domains]
    found = []
    for name, span in spans().items():
        truth = published.truth[rows][:, span]
        best = one_label(chances[:, span], head.one_label_delta[name])
        wrong = np.flatnonzero((best >= 0) & ~truth[np.arange(len(best)), best])
        chance = chances[wrong][:, span].max(axis=1)
        surest: list[int] = wrong[np.argsort(-chance)][:10].tolist()
        for place in surest:
            true: list[int] = np.flatnonzero(np.asarray(truth[place])).tolist()
            found.append(
                {
                    "row": published.prompts[rows[place]].row,
                    "dimension": name,
                    "published": names[span.start + true[0]] if true else "none",
                    "head": names[span.start + int(best[place])],
                    "probability": round(float(chances[place, span].max()), 2),
                }
            )
    return found


def _mean(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]}


def _line(rows: dict[str, dict[str, list[Hits]]], seed: int) -> str:
    return "; ".join(
        f"{method}: " + " ".join(f"{name} {held[seed].f1:.4f}" for name, held in found.items())
        for method, found in rows.items()
    )


if __name__ == "__main__":
    main()
