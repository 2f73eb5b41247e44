"""Every setting of Stage I and Stage II, as tables that are checked before anything starts.

Unknown keys are refused. How a model is named: ``config_model``; how a file becomes such a table:
``config_file``.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from misalign_bench.config_model import ModelSettings, SamplingSettings, Settings
from misalign_bench.records import Condition, Split

JudgeMethod = Literal["auto", "structured", "logprob", "completion", "guardrail", "reward"]
Framing = Literal["violates", "satisfies", "few_shot"]


class SourceSettings(Settings):
    """Where prompts come from. A relative path is relative to the YAML file."""

    path: str = ""
    dataset: str = ""
    dataset_split: str = "train"
    prompt_column: str = "prompt"
    language: str | None = "en"
    max_characters: int = Field(8000, ge=1)
    limit: int | None = Field(None, ge=1)


class RoleSettings(Settings):
    """Which model plays which role (Stage I)."""

    classifier: ModelSettings
    expander: ModelSettings | None = None
    generators: tuple[ModelSettings, ...] = Field(min_length=1)
    evaluator: ModelSettings
    allow_shared_roles: bool = False


class CascadeSettings(Settings):
    """Prompts of which the first method is unsure go to the second (Stage I, step 2).

    ``when`` is the open band: unsure of a prompt is who gives any domain a probability inside it.
    """

    first: Literal["embedding"] = "embedding"
    then: Literal["yesno", "joint"] = "joint"
    when: tuple[float, float] = (0.1, 0.9)

    @field_validator("when")
    @classmethod
    def _rises(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] < value[1] <= 1:
            raise ValueError("the band is two probabilities, the lower one first")
        return value


class ClassifySettings(Settings):
    """``published`` keeps labels that came with the prompts; the others ask the classifier.

    ``delta`` is one threshold, or one per dimension or domain (``dimension`` or
    ``dimension/name``; 0.5 for what is not named). ``head`` is a file that ``misalign-bench fit``
    wrote. With a ``cascade``, ``method`` is what its ``then`` says. ``embedder`` ranks the domains
    for ``yesno`` and comes first in a cascade; for ``embedding`` the role ``classifier`` names it.
    """

    method: Literal["embedding", "yesno", "joint", "published"] = "joint"
    delta: float | dict[str, float] = 0.5
    candidates: int = Field(12, ge=1, le=111)
    head: str = ""
    embedder: str = "embedded/minilm"
    cascade: CascadeSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _method_of_cascade(cls, value: Any) -> Any:
        """A cascade names its method itself."""
        held = value.get("cascade") if isinstance(value, dict) else None
        if held is None or "method" in value:
            return value
        then = held.get("then", "joint") if isinstance(held, dict) else getattr(held, "then", None)
        return {**value, "method": then} if then else value

    @field_validator("delta")
    @classmethod
    def _is_between(cls, value: float | dict[str, float]) -> float | dict[str, float]:
        held = value.values() if isinstance(value, dict) else (value,)
        if not all(0 < threshold < 1 for threshold in held):
            raise ValueError("a threshold lies between 0 and 1")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> ClassifySettings:
        if self.cascade is not None and self.method != self.cascade.then:
            raise ValueError(f"method must be {self.cascade.then}, as cascade.then says")
        if self.head and self.cascade is None and self.method in ("joint", "published"):
            raise ValueError(
                f"the method {self.method} uses no head; embedding, yesno and cascades do"
            )
        return self

    @property
    def asks(self) -> bool:
        """Whether a language model is asked."""
        return self.method in ("yesno", "joint")

    @property
    def embeds(self) -> bool:
        """Whether an embedding model runs: to classify, to rank, or first in a cascade."""
        return self.method in ("embedding", "yesno") or self.cascade is not None


class ExpandSettings(Settings):
    """Expansion of rare domains to ``target`` prompts each; ``domains`` limits it to some.

    ``neighbours`` domains that are easily taken for one are named as not the topic. ``classify``
    says how new prompts are labelled where the labels of the others are published ones.
    """

    enabled: bool = True
    target: int = Field(100, ge=0)
    domains: tuple[str, ...] | None = None
    per_request: int = Field(5, ge=1, le=50)
    examples: int = Field(5, ge=1, le=20)
    neighbours: int = Field(3, ge=0, le=20)
    max_rounds: int = Field(10, ge=1)
    classify: ClassifySettings | None = None
    sampling: SamplingSettings = SamplingSettings()


class DeduplicateSettings(Settings):
    """SimHash distance and, unless ``verify`` is null, the exact Jaccard a pair must reach."""

    tau: int = Field(10, ge=0, le=32)
    verify: float | None = Field(0.7, ge=0, le=1)


class RespondSettings(Settings):
    """Two-stage rejection sampling: ``draws`` a round, ``rounds`` of feedback after the first.

    ``length`` goes into the instruction as it stands, for example "in one or two sentences". Of the
    verdicts ``consistency_sample`` are asked for again with the order of the options swapped.
    """

    draws: int = Field(3, ge=1, le=20)
    rounds: int = Field(2, ge=0, le=10)
    accept: Literal["first", "all"] = "first"
    generators_per_prompt: int | None = Field(None, ge=1)
    length: str = Field("", max_length=200)
    consistency_sample: int = Field(0, ge=0)
    sampling: SamplingSettings = SamplingSettings()


class JudgeSettings(Settings):
    """How a judge is asked. ``auto`` takes log-probabilities for embedded models.

    A guardrail is asked in the format of its family: ``auto`` knows it by the model's name,
    ``guardrail`` takes ``family`` for every model of the run if it is given. ``completion`` is
    ``logprob`` for base models: a plain text without chat template. ``reward`` is for reward
    models, asked by the interface ``reward`` names (``docs/targets.md``).
    ``threshold`` is a fixed probability; None fits one per dimension on the calibration set, of
    which ``calibration_items`` are used (None: all), also to choose a framing on where the
    validation split is too small. A reward's is fitted on the validation split.
    """

    method: JudgeMethod = "auto"
    family: Literal["", "llama_guard", "shield_gemma", "wild_guard", "granite_guardian"] = ""
    framing: Framing = "few_shot"
    reward: Literal["classify", "pooling"] = "classify"
    threshold: float | None = Field(None, ge=0, le=1)
    calibration_items: int | None = Field(None, ge=30)
    sampling: SamplingSettings = SamplingSettings(temperature=0.0, top_p=1.0, max_tokens=512)

    @model_validator(mode="after")
    def _family_of_a_guardrail(self) -> JudgeSettings:
        if self.family and self.method != "guardrail":
            raise ValueError("a family is a guardrail's: method: guardrail")
        if self.method == "reward" and self.threshold is not None:
            raise ValueError("a reward's threshold is fitted on validation items, never set")
        return self


class SplitSettings(Settings):
    """Shares of the splits; they sum to 1."""

    train: float = Field(0.8, ge=0, le=1)
    validation: float = Field(0.1, ge=0, le=1)
    test: float = Field(0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _sums_to_one(self) -> SplitSettings:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError("the shares must sum to 1")
        return self


class PolicySettings(Settings):
    """Domains for which misaligned draws are allowed after all (see ``prompts/policy.yaml``)."""

    allow_domains: tuple[str, ...] = ()


class BudgetSettings(Settings):
    """Spending stops; a run that meets one ends resumable with exit code 3."""

    max_cost: float | None = Field(None, ge=0)
    max_calls: int | None = Field(None, ge=0)


class ExportSettings(Settings):
    """What the builder must say about the data set."""

    licence: str = "other"
    prompt_source: str = ""
    prompt_licence: str = ""


class PanelSettings(Settings):
    """How the judges of ``mode: respond`` are asked, and how their verdicts become one.

    ``probes`` responses are judged again with the options swapped and with padding. ``one_family``
    lets all judges of a panel be of one model family (marks the results).
    """

    rule: Literal["majority", "unanimity"] = "majority"
    probes: int = Field(0, ge=0)
    one_family: bool = False
    verdict: JudgeSettings = JudgeSettings()


class TargetSettings(ModelSettings):
    """A model under test; a ``method`` of its own wins over ``judge.method``."""

    method: JudgeMethod | None = None


class BenchSettings(Settings):
    """Stage II, used by ``misalign-bench demo`` and as defaults of ``misalign-bench bench``.

    ``until`` stops as soon as the interval of every Alignment Score is so many points to each side.
    ``framings`` measures every target under each of these wordings; the best one, and a reward
    model's threshold, are chosen on the items that ``choose_on`` names.
    With ``mode: respond`` the targets answer the prompts, sampled as ``answers`` says, and
    ``judges`` give the verdicts (``panel``); ``judge`` says how a target of ``mode: detect`` is
    asked.
    """

    mode: Literal["detect", "respond"] = "detect"
    targets: tuple[TargetSettings, ...] = ()
    conditions: tuple[Condition, ...] = ("joint",)
    splits: tuple[Split, ...] = ("test",)
    epochs: int = Field(3, ge=1, le=100)
    judge: JudgeSettings = JudgeSettings(sampling=SamplingSettings())
    grain: Literal["pair", "paper"] = "pair"
    resamples: int = Field(2000, ge=0)
    interval: Literal["bca", "percentile"] = "bca"
    until: float | None = Field(None, gt=0, lt=0.5)
    framings: tuple[Framing, ...] = ()
    choose_on: Literal["validation", "calibration_set"] = "validation"
    judges: tuple[ModelSettings, ...] = ()
    panel: PanelSettings = PanelSettings()
    answers: SamplingSettings = SamplingSettings()
    allow_shared_roles: bool = False

    def judge_of(self, target: TargetSettings) -> JudgeSettings:
        """How this target is asked."""
        method = target.method or self.judge.method
        return self.judge.model_copy(update={"method": method})


class RunSettings(Settings):
    """A whole run."""

    name: str = "savacu"
    seed: int = 0
    source: SourceSettings
    roles: RoleSettings
    classify: ClassifySettings = ClassifySettings()
    expand: ExpandSettings = ExpandSettings()
    deduplicate: DeduplicateSettings = DeduplicateSettings()
    respond: RespondSettings = RespondSettings()
    judge: JudgeSettings = JudgeSettings()
    split: SplitSettings = SplitSettings()
    policy: PolicySettings = PolicySettings()
    budget: BudgetSettings = BudgetSettings()
    export: ExportSettings = ExportSettings()
    bench: BenchSettings = BenchSettings()

    @property
    def classify_written(self) -> ClassifySettings:
        """How prompts that expansion writes are labelled."""
        return self.expand.classify or self.classify

    @property
    def labelling(self) -> tuple[ClassifySettings, ...]:
        """Every way in which the run labels prompts."""
        written = self.expand.classify if self.expand.enabled else None
        return (self.classify,) if written is None else (self.classify, written)

    @model_validator(mode="after")
    def _new_prompts_can_be_labelled(self) -> RunSettings:
        published = self.classify.method == "published"
        if self.expand.classify is not None and not published:
            raise ValueError("expand.classify is for published labels; others go by classify")
        if self.expand.enabled and self.classify_written.method == "published":
            raise ValueError(
                "published labels cannot be given to new prompts: say in expand.classify how those"
                " are labelled, or set expand.enabled: false"
            )
        return self
