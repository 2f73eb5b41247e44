"""How each kind of request goes over HTTP: to which path, and what its bodies look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from misalign_bench.llm.chat_protocol import Dialect, decode, payload
from misalign_bench.llm.completion_protocol import completion_payload, decode_completion
from misalign_bench.llm.model import Failure, Reply, Request, Wire
from misalign_bench.llm.reward_protocol import decode_reward, reward_payload


@dataclass(frozen=True, slots=True)
class Route:
    """Where requests of one kind go, and how they are written and read.

    Attributes:
        path: below the base URL; ``at_root``: below the base URL without its ``/v1``.
    """

    path: str
    payload: Callable[[Request, int, str, Dialect], dict[str, Any]]
    decode: Callable[[object, Request], Reply | Failure]
    at_root: bool = False

    def below(self, base: str) -> str:
        """The path of a call, for a base URL's path.

        >>> ROUTES["chat"].below("/v1"), ROUTES["classify"].below("/api/v1")
        ('/v1/chat/completions', '/api/classify')
        """
        return (base.removesuffix("/v1") if self.at_root else base) + self.path


ROUTES: Mapping[Wire, Route] = {
    "chat": Route("/chat/completions", payload, decode),
    "completion": Route("/completions", completion_payload, decode_completion),
    "classify": Route("/classify", reward_payload, decode_reward, at_root=True),
    "pooling": Route("/pooling", reward_payload, decode_reward, at_root=True),
}
