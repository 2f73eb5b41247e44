"""JSON from a file or a column, all of whose faults are one kind of error.

A model's answer is read more strictly (``llm.structured``).
"""

from __future__ import annotations

import json
from typing import Any


def read_json(text: str | bytes) -> Any:
    """Return the value that stands in a text.

    Raises:
        ValueError: it is no JSON, no UTF-8, or nested deeper than Python reads.

    >>> read_json('{"a": [1, 2]}')
    {'a': [1, 2]}
    >>> read_json("[" * 100_000)
    Traceback (most recent call last):
        ...
    ValueError: it is nested too deep
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
