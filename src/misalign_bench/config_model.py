"""How a configuration names a model: its sampling, prices and limits; the base of all tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


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


_JOIN = re.compile(r"\+(?=embedded/|onnx/)")


def embedder_names(name: str) -> list[str]:
    """Return the names of embedders that one name joins by ``+``.

    >>> embedder_names("embedded/minilm+onnx/models/a+b")
    ['embedded/minilm', 'onnx/models/a+b']
    """
    return _JOIN.split(name)


def named_without_folders(name: str) -> str:
    """Return the name with the last part of each embedder's folder only: no file names a path.

    >>> named_without_folders("embedded/minilm+onnx//models/mpnet")
    'embedded/minilm+onnx/mpnet'
    """
    return with_folders(name, lambda folder: PurePath(folder).name)


def with_folders(name: str, change: Callable[[str], str]) -> str:
    """Return the name with the folder of each ``onnx/FOLDER`` in it changed."""
    return "+".join(
        f"onnx/{change(part.removeprefix('onnx/'))}" if part.startswith("onnx/") else part
        for part in embedder_names(name)
    )


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
        if not isinstance(value, str | dict):
            return value
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
        if provider not in ("openai", "embedded", "simulated", "inspect", "onnx") or not name:
            raise ValueError(
                f"unknown model {value!r}: write openai/NAME, embedded/NAME, simulated/BEHAVIOUR,"
                " inspect/MODEL or, to embed, onnx/FOLDER"
            )
        return value
