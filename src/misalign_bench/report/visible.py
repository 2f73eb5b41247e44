"""Values of any shape made safe to look at; what cannot be seen, and why, is in the prompts' part.

The page and the terminal show a text exactly as a judge is shown it (``prompts.visible``).
"""

from __future__ import annotations

from typing import Any

from misalign_bench.prompts.visible import visible

__all__ = ["visible", "visible_in"]


def visible_in(value: Any) -> Any:
    """A JSON-able value with every text in it made visible, names of fields included."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible_in(key): visible_in(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [visible_in(part) for part in value]
    return value
