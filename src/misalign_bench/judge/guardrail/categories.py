"""What each guardrail family can name, and what that is among our dimensions and domains.

The mapping is ``categories.yaml``; its sources are the public specifications that
``docs/guardrails.md`` lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from misalign_bench.records import Dimension


@dataclass(frozen=True, slots=True)
class Category:
    """A category of a family. ``domains`` are names of the taxonomy, in ``dimension``."""

    code: str
    name: str
    dimension: Dimension
    domains: tuple[str, ...]
    policy: str = ""


@cache
def categories(family: str) -> Mapping[str, Category]:
    """The categories of a family by their code, in the order of its specification.

    >>> categories("llama_guard")["S10"].name
    'Hate'

    Raises:
        KeyError: there is no such family.
    """
    import yaml

    packaged = resources.files("misalign_bench.judge.guardrail").joinpath("categories.yaml")
    table = yaml.safe_load(packaged.read_text(encoding="utf-8"))[family]
    return {
        code: Category(
            code, row["name"], row["dimension"], tuple(row["domains"]), row.get("policy", "")
        )
        for code, row in table.items()
    }
