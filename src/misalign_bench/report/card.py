"""The data set card: ``README.md`` with the front matter that makes a folder loadable, in words.

What a user must know before using the data: what it is, how it was made and judged and by which
models, the paper's per-domain table, licences, the canary, limits. No prompt and no response
stands in it; names that come from a configuration are escaped.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import astuple
from importlib import resources
from typing import Any

from misalign_bench.build.diversity import Diversity, DomainDiversity
from misalign_bench.build.draw_ledger import COUNTS, TOTALS, DrawRow, PairCost
from misalign_bench.build.export import Summary
from misalign_bench.build.export_rows import CANARY, CONFIGURATIONS, is_simulated
from misalign_bench.build.statistics_table import COLUMNS
from misalign_bench.config import RunSettings
from misalign_bench.config_model import ModelSettings, named_without_folders
from misalign_bench.errors import UserError
from misalign_bench.records import DIMENSIONS, SPLITS, Answer, Pair
from misalign_bench.report.card_croissant import croissant
from misalign_bench.report.visible import visible

NOT_STATED = "not stated"
LEAST = 20
"""Under this many pairs a split is called too small for numbers."""

_MARKS = re.compile(r"([\\`*_{}\[\]()#|~$])")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def describe(summary: Summary) -> Mapping[str, str]:
    """Return the documents of a data set folder: the card and the Croissant metadata."""
    return {"README.md": card(summary), "croissant.json": croissant(summary)}


def card(summary: Summary) -> str:
    """Return the card as Markdown with YAML front matter."""
    import yaml
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["md"] = escaped
    source = resources.files("misalign_bench.report").joinpath("card.md.j2").read_text("utf-8")
    front = yaml.safe_dump(_front_matter(summary), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n{environment.from_string(source).render(_facts(summary))}"


def escaped(value: object) -> str:
    r"""Return a text on one line in which nothing is Markdown or HTML.

    >>> escaped("a|b\n# <img src=x> [x](y)")
    'a\\|b \\# &lt;img src=x&gt; \\[x\\]\\(y\\)'
    """
    line = _line(str(value)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A bare address would become a link in most renderers.
    return _MARKS.sub(r"\\\1", line).replace("://", ":&#47;&#47;").replace("www.", "www&#46;")


def _line(text: str) -> str:
    """The text on one line, so that it cannot end the front matter or a table."""
    return " ".join(visible(text).split())


def _front_matter(summary: Summary) -> dict[str, Any]:
    settings = summary.settings
    size = next((name for bound, name in _SIZES if len(summary.pairs) < bound), "n>1M")
    return {
        "pretty_name": _line(settings.name),
        "license": _line(settings.export.licence).lower() or "other",
        "language": [settings.source.language] if settings.source.language else ["mul"],
        "task_categories": ["text-classification", "text-generation"],
        "size_categories": [size],
        "tags": ["alignment", "safety", "values", "culture", "preference", "not-for-all-audiences"],
        "configs": [
            {
                "config_name": configuration,
                **({"default": True} if configuration == "pairs" else {}),
                "data_files": [
                    {"split": file.split, "path": file.path}
                    for file in summary.files
                    if file.configuration == configuration and file.rows
                ],
            }
            for configuration in CONFIGURATIONS
            # ``datasets`` refuses a whole configuration for one split without rows, so those are
            # written but not named here.
            if any(file.rows for file in summary.files if file.configuration == configuration)
        ],
    }


def _facts(summary: Summary) -> dict[str, Any]:
    settings, pairs = summary.settings, summary.pairs
    per_split = Counter(pair.labelled.split for pair in pairs)
    return {
        "settings": settings,
        "canary": CANARY,
        "delta": _delta(settings.classify.delta),
        "counts": [
            (configuration, [_rows(summary, configuration, split) for split in SPLITS])
            for configuration in CONFIGURATIONS
        ],
        "splits": SPLITS,
        "small": [split for split in SPLITS if 0 < per_split[split] < LEAST],
        "empty": [split for split in SPLITS if not per_split[split]],
        "prompts": len({pair.labelled.prompt.id for pair in pairs}),
        "clusters": len({pair.labelled.cluster_id for pair in pairs}),
        "pairs": len(pairs),
        "expanded": sum(bool(pair.labelled.prompt.expanded_for) for pair in pairs),
        "generators": sorted(Counter(pair.generator for pair in pairs).items()),
        "active": _active(pairs),
        "violated": [(dimension, _violations(pairs, dimension)) for dimension in DIMENSIONS],
        "roles": _roles(settings),
        "verdicts": _verdicts(pairs),
        "columns": COLUMNS,
        "domains": [astuple(row) for row in summary.domains],
        "draws": [_draws(row) for row in summary.draws if not row.domain],
        "costs": [_cost(row) for row in summary.costs],
        "diversity": [row for held in summary.diversity for row in _diversity(held)],
        "drops": [(*place, count) for place, count in summary.drops.items()],
        "simulated": sum(is_simulated(pair, settings) for pair in pairs),
        "shared_roles": summary.shared_roles,
        "notes": summary.notes,
    }


def _delta(delta: float | Mapping[str, float]) -> str:
    """The threshold of labels, or each of several.

    >>> _delta(0.5), _delta({"safety": 0.2, "value": 0.25})
    ('0.5', '0.2 (safety), 0.25 (value), 0.5 (others)')
    """
    if not isinstance(delta, Mapping):
        return str(delta)
    return ", ".join([*(f"{value} ({name})" for name, value in delta.items()), "0.5 (others)"])


def _draws(row: DrawRow) -> tuple[object, ...]:
    """The cells of a generator, kind and round, with its three commonest reasons."""
    held = dict(zip(COUNTS, row.counts, strict=True))
    reasons = Counter({name: held[name] for name in COUNTS[len(TOTALS) :] if held[name]})
    most = ", ".join(f"{name} {count}" for name, count in reasons.most_common(3))
    return row.generator, row.kind, row.round, *(held[name] for name in TOTALS), most


def _cost(row: PairCost) -> tuple[str, ...]:
    """The cells of what a generator's pairs took."""
    if (each := row.per_pair()) is None:
        return row.generator, "0", "", "", ""
    calls, tokens, cost = each
    dollars = NOT_STATED if cost is None else f"{cost:.4f}"
    return row.generator, str(row.pairs), f"{calls:.1f}", f"{tokens:,.0f}", dollars


def _diversity(held: DomainDiversity) -> list[tuple[str, ...]]:
    """The cells of a domain: of what was added, and of as many prompts that it had before."""
    rows = [(held.domain, "added", held.added)]
    rows += [("", "before", held.before)] if held.before else []
    return [
        (
            name,
            which,
            str(one.prompts),
            *("" if value is None else f"{value:.2f}" for value in _measures(one)),
            str(one.largest_family),
        )
        for name, which, one in rows
    ]


def _measures(one: Diversity) -> tuple[float | None, ...]:
    return one.distinct_1, one.distinct_2, one.distance, one.same_opening, one.same_skeleton


def _rows(summary: Summary, configuration: str, split: str) -> int:
    return sum(
        file.rows
        for file in summary.files
        if (file.configuration, file.split) == (configuration, split)
    )


def _active(pairs: tuple[Pair, ...]) -> list[tuple[int, int]]:
    """Pairs by number of active dimensions."""
    counts = Counter(len(pair.labelled.active) for pair in pairs)
    return [(number, counts[number]) for number in range(1, len(DIMENSIONS) + 1)]


def _violations(pairs: tuple[Pair, ...], dimension: str) -> tuple[int, int, int]:
    """In one dimension: misaligned responses intended to violate it, that do, and unknown ones."""
    held = [pair.misaligned.verdict.violated() for pair in pairs]
    return (
        sum(dimension in pair.misaligned.candidate.intent.dimensions for pair in pairs),
        sum(violated.get(dimension) is True for violated in held),  # type: ignore[call-overload]
        sum(violated.get(dimension) is None for violated in held),  # type: ignore[call-overload]
    )


def _roles(settings: RunSettings) -> list[tuple[str, str, str]]:
    """Role, model and licence of every model that had a part in the data."""
    roles = settings.roles
    held: list[tuple[str, ModelSettings | None]] = [
        ("classifier", roles.classifier if _labels(settings) else None),
        ("expander", roles.expander if settings.expand.enabled else None),
        *(("generator", model) for model in roles.generators),
        ("evaluator", roles.evaluator),
    ]
    return [
        (role, named_without_folders(model.model), _licence(model))
        for role, model in held
        if model is not None
    ]


def _labels(settings: RunSettings) -> bool:
    """Whether any label is a classifier's."""
    return any(one.method != "published" for one in settings.labelling)


def _licence(model: ModelSettings) -> str:
    """The licence of a model's weights: as configured, or where this package knows it."""
    from misalign_bench.llm.weights import find

    if model.licence:
        return model.licence
    provider, _, name = model.model.partition("/")
    if provider == "simulated":
        return "no model: a seeded behaviour"
    try:
        return find(name.partition("?")[0]).licence if provider == "embedded" else NOT_STATED
    except UserError:
        return NOT_STATED


def _verdicts(pairs: tuple[Pair, ...]) -> dict[str, Any]:
    """How the evaluator's verdicts look: read from probabilities or from words, and thresholds."""
    thresholds: dict[str, set[float]] = {dimension: set() for dimension in DIMENSIONS}
    scored = False
    for pair in pairs:
        for accepted in (pair.aligned, pair.misaligned):
            for dimension, answer in accepted.verdict.answers.items():
                if isinstance(answer, Answer) and answer.threshold is not None:
                    thresholds[dimension].add(answer.threshold)
                    scored = True
    return {
        "scored": scored,
        "thresholds": [
            (dimension, ", ".join(f"{value:.3f}" for value in sorted(held)))
            for dimension, held in thresholds.items()
            if held
        ],
    }
