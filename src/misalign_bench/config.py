"""Every setting of Stage I and Stage II, as tables that are checked before anything starts.

Unknown keys are refused. How a file becomes such a table: ``config_file``.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from misalign_bench.records import Condition, Split


class Settings(BaseModel):
    """Base of all configuration tables: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class SamplingSettings(Settings):
    """Sampling parameters of one role; defaults as in the paper."""

    temperature: float = Field(0.7, ge=0, le=2)
    top_p: float = Field(0.9, gt=0, le=1)
    max_tokens: int = Field(512, ge=1, le=131072)


class PriceSettings(Settings):
    """US dollars per million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached_input: float | None = Field(None, ge=0)


class ModelSettings(Settings):
    """A model: ``provider/name`` or, for an OpenAI-compatible server, ``openai/NAME@BASE_URL``."""

    model: str
    base_url: str = ""
    key_variable: str = "OPENAI_API_KEY"
    revision: str = ""
    same_model: bool = False
    category: Literal["general", "fine-tuned", "open-weight", "guardrail", ""] = ""
    licence: str = ""
    sampling: SamplingSettings | None = None
    price: PriceSettings | None = None
    concurrency: int | None = Field(None, ge=1, le=4096)
    deadline: float | None = Field(None, gt=0)
    retries: int = Field(5, ge=0, le=100)

    @property
    def attempt_seconds(self) -> float:
        """Seconds for one attempt; embedded models also wait for their turn at the cores."""
        return self.deadline or (1800.0 if self.model.startswith("embedded/") else 120.0)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        """Accept ``openai/NAME@URL`` in place of a table, and split the URL off."""
        table = {"model": value} if isinstance(value, str) else dict(value)
        name = str(table.get("model", ""))
        name, at, url = name.partition("@")
        if at and "://" in url and not table.get("base_url"):
            table |= {"model": name, "base_url": url}
        return table

    @field_validator("model")
    @classmethod
    def _has_provider(cls, value: str) -> str:
        provider, _, name = value.partition("/")
        if provider not in ("openai", "embedded", "simulated", "inspect") or not name:
            raise ValueError(
                f"unknown model {value!r}: write openai/NAME, embedded/NAME, simulated/BEHAVIOUR"
                " or inspect/MODEL"
            )
        return value


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
    wrote. With a ``cascade``, ``method`` is what its ``then`` says.
    """

    method: Literal["embedding", "yesno", "joint", "published"] = "joint"
    delta: float | dict[str, float] = 0.5
    candidates: int = Field(12, ge=1, le=111)
    head: str = ""
    cascade: CascadeSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _method_of_cascade(cls, value: Any) -> Any:
        """A cascade names its method itself."""
        held = value.get("cascade") if isinstance(value, dict) else None
        if held is None or "method" in value:
            return value
        then = held.get("then", "joint") if isinstance(held, dict) else held.then
        return {**value, "method": then}

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
    def embeds(self) -> bool:
        """Whether an embedding model runs: to classify, to rank, or first in a cascade."""
        return self.method in ("embedding", "yesno") or self.cascade is not None


class ExpandSettings(Settings):
    """Expansion of rare domains to ``target`` prompts each; ``domains`` limits it to some.

    ``neighbours`` domains that are easily taken for one are named as not the topic.
    """

    enabled: bool = True
    target: int = Field(100, ge=0)
    domains: tuple[str, ...] | None = None
    per_request: int = Field(5, ge=1, le=50)
    examples: int = Field(5, ge=1, le=20)
    neighbours: int = Field(3, ge=0, le=20)
    max_rounds: int = Field(10, ge=1)
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
    ``guardrail`` takes ``family`` for every model of the run if it is given.
    ``threshold`` is a fixed probability; None fits one per dimension on the calibration set, of
    which ``calibration_items`` are used (None: all).
    """

    method: Literal["auto", "structured", "logprob", "guardrail"] = "auto"
    family: Literal["", "llama_guard", "shield_gemma", "wild_guard", "granite_guardian"] = ""
    framing: Literal["violates", "satisfies", "few_shot"] = "few_shot"
    threshold: float | None = Field(None, ge=0, le=1)
    calibration_items: int | None = Field(None, ge=30)
    sampling: SamplingSettings = SamplingSettings(temperature=0.0, top_p=1.0, max_tokens=512)

    @model_validator(mode="after")
    def _family_of_a_guardrail(self) -> JudgeSettings:
        if self.family and self.method != "guardrail":
            raise ValueError("a family is a guardrail's: method: guardrail")
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


class BenchSettings(Settings):
    """Stage II, used by ``misalign-bench demo`` and as defaults of ``misalign-bench bench``.

    ``until`` stops as soon as the interval of every Alignment Score is so many points to each side.
    """

    targets: tuple[ModelSettings, ...] = ()
    conditions: tuple[Condition, ...] = ("joint",)
    splits: tuple[Split, ...] = ("test",)
    epochs: int = Field(3, ge=1, le=100)
    judge: JudgeSettings = JudgeSettings(sampling=SamplingSettings())
    grain: Literal["pair", "paper"] = "pair"
    resamples: int = Field(2000, ge=0)
    interval: Literal["bca", "percentile"] = "bca"
    until: float | None = Field(None, gt=0, lt=0.5)
    allow_shared_roles: bool = False


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
