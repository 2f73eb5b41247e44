"""The records that flow through the house, and the values that stand for a failure.

``Prompt -> LabelledPrompt -> Candidate -> Pair -> Item -> Verdict -> Score``; a failure is a
``Dropped``, a ``Pending`` or an ``Unscored``. Definitions: ``docs/contract.md``. All records are
frozen and slotted; a step returns a new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

Dimension = Literal["safety", "value", "culture"]
Kind = Literal["aligned", "misaligned"]
Split = Literal["train", "validation", "test"]
Condition = Literal["joint", "safety", "value", "culture"]

DIMENSIONS: tuple[Dimension, ...] = ("safety", "value", "culture")
KINDS: tuple[Kind, ...] = ("aligned", "misaligned")
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
CONDITIONS: tuple[Condition, ...] = ("joint", *DIMENSIONS)


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message to a model."""

    role: Literal["system", "user", "assistant"]
    content: str


class Reason(str, Enum):
    """Why a row left the pipeline, waits, or has no verdict; the value is what files show."""

    EMPTY = "empty"
    TOO_LONG = "too_long"
    LANGUAGE = "language"
    IDENTICAL = "identical"
    NEAR_DUPLICATE = "near_duplicate"
    NO_DOMAIN = "no_domain"
    POLICY = "policy"
    NOT_A_PROMPT = "not_a_prompt"
    OFF_DOMAIN = "off_domain"
    TARGET_REACHED = "target_reached"
    TOO_SHORT = "too_short"
    REFUSAL = "refusal"
    ECHO = "echo"
    REPETITION = "repetition"
    OFF_TOPIC = "off_topic"
    VIOLATES = "violates"
    DOES_NOT_VIOLATE = "does_not_violate"
    DRAWS_SPENT = "draws_spent"
    DRAW_NOT_IN_JOURNAL = "draw_not_in_journal"
    PARSE = "parse"
    SCHEMA = "schema"
    PROVIDER_FILTER = "provider_filter"
    LENGTH = "length"
    TRANSPORT = "transport"
    NO_LOGPROBS = "no_logprobs"
    UNSCORED = "unscored"
    TIE = "tie"
    NO_QUORUM = "no_quorum"


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that left the pipeline, at which stage and why."""

    id: str
    stage: str
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Pending:
    """A row whose model call has no answer yet; running the same command again continues it."""

    id: str
    stage: str
    reason: Reason = Reason.TRANSPORT
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A user's prompt. ``parents`` are the prompts that an expanded prompt was shown as examples.

    ``published`` holds ``dimension/name`` labels that came with the source, if any.
    """

    id: str
    text: str
    source: str
    row: int
    parents: tuple[str, ...] = ()
    expanded_for: str = ""
    published: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """A named domain that holds for a prompt; ``probability`` in [0, 1]."""

    dimension: Dimension
    name: str
    probability: float

    @property
    def key(self) -> str:
        """``dimension/name``, the form used in files."""
        return f"{self.dimension}/{self.name}"


@dataclass(frozen=True, slots=True)
class LabelledPrompt:
    """A prompt with its labels; ``probabilities`` follow the taxonomy's order (111 floats).

    ``cluster_id`` names the near-duplicate cluster (expansion parents included), ``split`` is
    assigned by its hash before expansion.
    """

    prompt: Prompt
    labels: tuple[Label, ...]
    probabilities: tuple[float, ...]
    cluster_id: str = ""
    split: Split | None = None

    @property
    def active(self) -> tuple[Dimension, ...]:
        """The dimensions in which the prompt has a named label, in the fixed order."""
        held = {label.dimension for label in self.labels}
        return tuple(dimension for dimension in DIMENSIONS if dimension in held)

    def labels_of(self, dimension: Dimension) -> tuple[Label, ...]:
        """The labels of one dimension."""
        return tuple(label for label in self.labels if label.dimension == dimension)


@dataclass(frozen=True, slots=True)
class Answer:
    """One dimension of a verdict.

    ``score`` is the probability of a violation where the method gives one, compared with
    ``threshold``; ``reason``, ``span`` and ``severity`` (0-3) come from structured verdicts.
    """

    flagged: bool
    score: float | None = None
    threshold: float | None = None
    reason: str = ""
    span: str = ""
    severity: int | None = None


@dataclass(frozen=True, slots=True)
class Unscored:
    """No verdict, and why. It stays in the denominator (contract, section 3)."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge's answer to one response in every dimension it was asked about."""

    answers: Mapping[Dimension, Answer | Unscored]
    journal_keys: tuple[str, ...] = ()

    @property
    def joint(self) -> bool | Unscored:
        """Three-valued or: any flagged, else any unscored, else passed.

        >>> Verdict({"safety": Answer(False), "value": Unscored(Reason.PARSE)}).joint
        Unscored(reason=<Reason.PARSE: 'parse'>, detail='')
        """
        if any(isinstance(answer, Answer) and answer.flagged for answer in self.answers.values()):
            return True
        for answer in self.answers.values():
            if isinstance(answer, Unscored):
                return answer
        return False

    def violated(self) -> dict[Dimension, bool | None]:
        """True, false or None (unknown) for each dimension, as an item stores it."""
        return {
            dimension: answer.flagged if isinstance(answer, Answer) else None
            for dimension, answer in self.answers.items()
        }


@dataclass(frozen=True, slots=True)
class Intent:
    """What a misaligned response is asked to violate: dimensions and ``dimension/name`` domains."""

    dimensions: tuple[Dimension, ...] = ()
    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One draw of a response. ``round`` counts feedback rounds, ``index`` the draw within one."""

    prompt_id: str
    generator: str
    kind: Kind
    round: int
    index: int
    text: str
    journal_key: str
    intent: Intent = Intent()


@dataclass(frozen=True, slots=True)
class Accepted:
    """A candidate that passed the rules and the evaluator, with its verdict."""

    candidate: Candidate
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Rejected:
    """A candidate that did not pass: by which rule or verdict, and the feedback drawn from it."""

    candidate: Candidate
    reason: Reason
    detail: str = ""
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """An accepted aligned and an accepted misaligned response to one prompt by one generator."""

    labelled: LabelledPrompt
    generator: str
    aligned: Accepted
    misaligned: Accepted
    history: tuple[Rejected, ...] = ()

    @property
    def id(self) -> str:
        """Stable id: prompt and generator."""
        return f"{self.labelled.prompt.id}:{self.generator}"


@dataclass(frozen=True, slots=True)
class Item:
    """One response to be judged in Stage II, with what is true of it (contract, section 2).

    ``violated`` maps a dimension to True, False or None (unknown). For an aligned response
    ``intended`` and ``intended_domains`` are those of its misaligned twin.
    """

    item_id: str
    prompt_id: str
    cluster_id: str
    prompt: str
    response: str
    misaligned: bool
    active: tuple[Dimension, ...] = ()
    intended: tuple[Dimension, ...] = ()
    intended_domains: tuple[str, ...] = ()
    violated: Mapping[Dimension, bool | None] = field(default_factory=dict)
    domains: tuple[str, ...] = ()
    generator: str = ""
    split: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """An estimate with its 95% interval and what it rests on.

    ``value`` is None for an empty cell ("no items"); ``low``/``high`` are None where there are too
    few clusters for an interval. ``unscored`` counts by reason. ``scored_only`` and ``best_case``
    stand beside the headline, in which unscored counts as wrong.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    n_scored: int
    unscored: Mapping[str, int] = field(default_factory=dict)
    scored_only: float | None = None
    best_case: float | None = None
    clusters: int = 0
    note: str = ""
