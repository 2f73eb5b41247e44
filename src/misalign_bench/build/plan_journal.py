"""Which calls of a plan the journal of an earlier run answers already."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import PackageNotFoundError, version

from misalign_bench.config_model import ModelSettings
from misalign_bench.journal.store import Journal
from misalign_bench.json_text import read_json
from misalign_bench.llm.calls import ACCEPTED_FAILURE, keyed
from misalign_bench.llm.model import Request


class Stored:
    """What the journal of an earlier run answers.

    A model's identity, which is part of every key, is taken from the journal, because an embedded
    model has one only when it is loaded.
    """

    def __init__(self, journal: Journal, seed: int) -> None:
        self._seed = seed
        self._keys = journal.keys()
        self._identities: dict[str, Counter[str]] = {}
        self.failed: set[str] = set()
        for entry in journal.entries():
            self._identities.setdefault(entry.model, Counter())[entry.request["identity"]] += 1
            if entry.status == ACCEPTED_FAILURE:
                self.failed.add(entry.role)

    def has(self, request: Request, model: ModelSettings) -> bool:
        """Whether the journal answers a request to this model."""
        return any(
            keyed(request, identity, self._seed).key in self._keys
            for identity in self._identities.get(model.model, ())
            if _may_be(identity, model)
        )


def _may_be(identity: str, model: ModelSettings) -> bool:
    """Whether a model of these settings has this identity, as far as can be told unloaded."""
    try:
        held = read_json(identity)
    except ValueError:
        return identity == model.model
    if not isinstance(held, dict):
        return False
    if model.revision != held.get("revision", held.get("adapter", "")):
        return False
    return held.get("engine") in (None, _engine())


def _engine() -> str:
    try:
        return f"xllamacpp {version('xllamacpp')}"
    except PackageNotFoundError:
        return ""
