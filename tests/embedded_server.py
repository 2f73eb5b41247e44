"""The embedded engine's own OpenAI-compatible server, on a free loopback port.

One slot, fixed batch, no prefix reuse: an answer is a function of the request.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from misalign_bench.errors import OutsideWorld
from misalign_bench.llm import weights


@contextmanager
def embedded_server(name: str) -> Iterator[str]:
    """Its base URL while it runs; the test is skipped where engine or weights cannot be had."""
    xllamacpp = pytest.importorskip("xllamacpp", reason="the embedded engine is not installed")
    try:
        path = weights.get(name)
    except OutsideWorld as error:
        pytest.skip(f"the weights of {name} cannot be had: {error}")
    from misalign_bench.llm.embedded import CONTEXT, Recipe, parameters

    running = xllamacpp.Server(parameters(Recipe(path, 1, CONTEXT, deterministic=True)))
    yield f"{running.listening_address}/v1"
    del running
