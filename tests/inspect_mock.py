"""inspect_ai's mock model, answering by a function, and what a run of it came to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from misalign_bench.llm.model import Reply

try:
    import inspect_ai
    import inspect_ai.model as inspect_model
except ImportError:
    inspect_ai = inspect_model = None

__all__ = [
    "inspect_ai",
    "inspect_model",
    "inspected",
    "mock",
    "needs_inspect",
    "numbers",
    "output",
]

needs_inspect = pytest.mark.skipif(inspect_ai is None, reason="inspect-ai is not installed")


def output(said: Reply) -> Any:
    """The same answer as inspect_ai's providers give it."""
    content: Any = said.text
    if said.status == "refused":
        content = [inspect_model.ContentText(text=said.text, refusal=True)]
    stop = {"length": "max_tokens", "filtered": "content_filter"}.get(said.status, "stop")
    given = inspect_model.ModelOutput.from_content("mockllm/model", content)
    given.choices[0].stop_reason = stop
    # Without a usage of its own the mock model counts tokens by a file that it downloads.
    given.usage = inspect_model.ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    return given


def mock(answer: Callable[[list[Any], Any], Any], name: str = "mockllm/model") -> Any:
    """inspect_ai's mock model, answering by a function of messages and configuration."""
    return inspect_model.get_model(
        name,
        memoize=False,
        custom_outputs=lambda messages, tools, choice, config: answer(messages, config),
    )


async def inspected(task: Any, model: Any, **options: Any) -> Any:
    """The log of a run that succeeded."""
    (log,) = await inspect_ai.eval_async(task, model=model, **options)
    assert log.status == "success", log.error
    return log


def numbers(log: Any) -> dict[str, float]:
    (scored,) = log.results.scores
    return {name: one.value for name, one in scored.metrics.items()}
