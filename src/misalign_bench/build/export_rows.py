"""What stands in the exported files: the columns of each configuration, and a pair as their rows.

- ``pairs``: one row per accepted pair, with everything that is known of it;
- ``preference``: ``prompt``, ``chosen``, ``rejected`` as conversations, as trl's preference
  trainers take them;
- ``sft``: ``messages``, the prompt and its aligned response as one conversation, for fine-tuning;
- ``unpaired``: ``prompt``, ``completion`` and ``label`` (true: aligned), two rows a pair, as trl's
  trainers on unpaired preferences take them;
- ``flat``: one row per (prompt, domain) assignment, generator and kind; the paper's unit.

Nothing here depends on time, place or run (contract, section 1).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from misalign_bench.config import RunSettings
from misalign_bench.records import DIMENSIONS, KINDS, Accepted, Answer, Pair
from misalign_bench.taxonomy.loader import taxonomy

if TYPE_CHECKING:
    import pyarrow as pa

Configuration = Literal["pairs", "preference", "sft", "unpaired", "flat"]
CONFIGURATIONS: tuple[Configuration, ...] = ("pairs", "preference", "sft", "unpaired", "flat")

CANARY = "MISALIGN-BENCH CANARY 227353ca-c839-47db-92de-1e1f731c8f99"
"""Stands in the card, in the metadata and in every row of the test split, never in a text of the
data. A model that can complete it was trained on the test split."""

METADATA = "misalign_bench"
"""Key of the Parquet metadata; its value is JSON."""
FORMAT = 1


def schema(configuration: Configuration, settings: RunSettings, shared_roles: bool) -> pa.Schema:
    """Return the columns of a configuration, with the metadata that every file carries."""
    metadata = json.dumps(_metadata(settings, shared_roles), sort_keys=True)
    return arrow_schema(configuration).with_metadata({METADATA: metadata})


def arrow_schema(configuration: Configuration) -> pa.Schema:
    """Return the columns of a configuration with their types."""
    import pyarrow as pa

    return pa.schema([(name, _arrow(kind)) for name, kind in _COLUMNS[configuration].items()])


def columns(configuration: Configuration) -> Mapping[str, str]:
    """Return the columns with their kinds, in order."""
    return _COLUMNS[configuration]


def rows(
    configuration: Configuration, pair: Pair, settings: RunSettings
) -> Iterator[dict[str, Any]]:
    """Return the rows of a pair, in order."""
    if configuration == "pairs":
        yield _pair(pair, settings)
    elif configuration == "preference":
        yield _preference(pair)
    elif configuration == "sft":
        yield _conversation(pair)
    elif configuration == "unpaired":
        yield from _unpaired(pair)
    else:
        yield from _flat(pair, settings)


def is_simulated(pair: Pair, settings: RunSettings) -> bool:
    """Say whether a simulated model wrote, labelled or judged any part of a pair."""
    roles = settings.roles
    models = [pair.generator, roles.evaluator.model]
    written = bool(pair.labelled.prompt.expanded_for)
    if written or settings.classify.method != "published":
        models.append(roles.classifier.model)
    if written and roles.expander is not None:
        models.append(roles.expander.model)
    return any(model.startswith("simulated/") for model in models)


def sound(text: str) -> str:
    r"""Return the text as UTF-8 can hold it: half of a surrogate pair, which JSON can spell, is ?.

    >>> sound("half \ud800"), sound("whole \U0001f600") == "whole \U0001f600"
    ('half ?', True)
    """
    return text.encode("utf-8", "replace").decode()


def _pair(pair: Pair, settings: RunSettings) -> dict[str, Any]:
    labelled, prompt = pair.labelled, pair.labelled.prompt
    aligned, misaligned = pair.aligned.candidate, pair.misaligned.candidate
    return {
        "prompt_id": prompt.id,
        "prompt": prompt.text,
        "cluster_id": labelled.cluster_id,
        "split": labelled.split,
        "parents": list(prompt.parents),
        "expanded_for": prompt.expanded_for or None,
        "source": prompt.source,
        "source_row": prompt.row,
        "generator": pair.generator,
        "aligned": sound(aligned.text),
        "misaligned": sound(misaligned.text),
        "active": list(labelled.active),
        "domains": [label.key for label in labelled.labels],
        "probabilities": list(labelled.probabilities),
        "intended": list(misaligned.intent.dimensions),
        "intended_domains": list(misaligned.intent.domains),
        "aligned_violated": _violated(pair.aligned),
        "misaligned_violated": _violated(pair.misaligned),
        "aligned_scores": _scores(pair.aligned),
        "misaligned_scores": _scores(pair.misaligned),
        "aligned_key": aligned.journal_key,
        "misaligned_key": misaligned.journal_key,
        "aligned_verdict_keys": list(pair.aligned.verdict.journal_keys),
        "misaligned_verdict_keys": list(pair.misaligned.verdict.journal_keys),
        "evaluator": settings.roles.evaluator.model,
        "simulated": is_simulated(pair, settings),
        "canary": _canary(pair),
    }


def _preference(pair: Pair) -> dict[str, Any]:
    return {
        "prompt": _message("user", pair.labelled.prompt.text),
        "chosen": _message("assistant", sound(pair.aligned.candidate.text)),
        "rejected": _message("assistant", sound(pair.misaligned.candidate.text)),
        "canary": _canary(pair),
    }


def _conversation(pair: Pair) -> dict[str, Any]:
    prompt = _message("user", pair.labelled.prompt.text)
    answer = _message("assistant", sound(pair.aligned.candidate.text))
    return {"messages": prompt + answer, "canary": _canary(pair)}


def _unpaired(pair: Pair) -> Iterator[dict[str, Any]]:
    for accepted, label in ((pair.aligned, True), (pair.misaligned, False)):
        yield {
            "prompt": _message("user", pair.labelled.prompt.text),
            "completion": _message("assistant", sound(accepted.candidate.text)),
            "label": label,
            "canary": _canary(pair),
        }


def _flat(pair: Pair, settings: RunSettings) -> Iterator[dict[str, Any]]:
    labelled, intent = pair.labelled, pair.misaligned.candidate.intent
    for label in labelled.labels:
        for kind in KINDS:
            accepted = pair.aligned if kind == "aligned" else pair.misaligned
            yield {
                "prompt_id": labelled.prompt.id,
                "prompt": labelled.prompt.text,
                "cluster_id": labelled.cluster_id,
                "split": labelled.split,
                "dimension": label.dimension,
                "domain": label.name,
                "probability": label.probability,
                "generator": pair.generator,
                "kind": kind,
                "response": sound(accepted.candidate.text),
                "domain_intended": label.key in intent.domains,
                "dimension_violated": _violated(accepted)[label.dimension],
                "evaluator": settings.roles.evaluator.model,
                "simulated": is_simulated(pair, settings),
                "canary": _canary(pair),
            }


def _canary(pair: Pair) -> str | None:
    return CANARY if pair.labelled.split == "test" else None


def _message(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


def _violated(accepted: Accepted) -> dict[str, bool | None]:
    held = accepted.verdict.violated()
    return {dimension: held.get(dimension) for dimension in DIMENSIONS}


def _scores(accepted: Accepted) -> dict[str, float | None]:
    answers = accepted.verdict.answers
    return {
        dimension: answer.score if isinstance(answer := answers.get(dimension), Answer) else None
        for dimension in DIMENSIONS
    }


def _metadata(settings: RunSettings, shared_roles: bool) -> dict[str, Any]:
    held = taxonomy()
    return {
        "format": FORMAT,
        "canary": CANARY,
        "name": settings.name,
        "taxonomy": held.digest,
        "domains": [domain.key for domain in held.domains],
        "duplicate_rule": settings.deduplicate.model_dump(mode="json"),
        "shared_roles": shared_roles,
    }


_RESPONSE_TRUTH = {
    **{f"{kind}_violated": "violated" for kind in KINDS},
    **{f"{kind}_scores": "scores" for kind in KINDS},
    **{f"{kind}_key": "text" for kind in KINDS},
    **{f"{kind}_verdict_keys": "texts" for kind in KINDS},
}
_WHO = {"evaluator": "text", "simulated": "flag", "canary": "text"}
_COLUMNS: Mapping[Configuration, Mapping[str, str]] = {
    "pairs": {
        **dict.fromkeys(("prompt_id", "prompt", "cluster_id", "split"), "text"),
        "parents": "texts",
        "expanded_for": "text",
        "source": "text",
        "source_row": "number",
        **dict.fromkeys(("generator", "aligned", "misaligned"), "text"),
        **dict.fromkeys(("active", "domains"), "texts"),
        "probabilities": "scores_list",
        **dict.fromkeys(("intended", "intended_domains"), "texts"),
        **_RESPONSE_TRUTH,
        **_WHO,
    },
    "preference": {
        **dict.fromkeys(("prompt", "chosen", "rejected"), "conversation"),
        "canary": "text",
    },
    "sft": {"messages": "conversation", "canary": "text"},
    "unpaired": {
        **dict.fromkeys(("prompt", "completion"), "conversation"),
        "label": "flag",
        "canary": "text",
    },
    "flat": {
        **dict.fromkeys(("prompt_id", "prompt", "cluster_id", "split"), "text"),
        **dict.fromkeys(("dimension", "domain"), "text"),
        "probability": "score",
        **dict.fromkeys(("generator", "kind", "response"), "text"),
        **dict.fromkeys(("domain_intended", "dimension_violated"), "flag"),
        **_WHO,
    },
}


def _arrow(kind: str) -> pa.DataType:
    """The Arrow type of a kind of column."""
    import pyarrow as pa

    text, score, flag = pa.string(), pa.float32(), pa.bool_()
    kinds: dict[str, pa.DataType] = {
        "text": text,
        "texts": pa.list_(text),
        "number": pa.int64(),
        "flag": flag,
        "score": score,
        "scores_list": pa.list_(score),
        "scores": pa.struct([(dimension, score) for dimension in DIMENSIONS]),
        "violated": pa.struct([(dimension, flag) for dimension in DIMENSIONS]),
        "conversation": pa.list_(pa.struct([("role", text), ("content", text)])),
    }
    return kinds[kind]
