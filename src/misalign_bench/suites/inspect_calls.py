"""What a judge needs of a client, through ``generate`` of an inspect_ai solver.

A request becomes messages and options of one call
(https://inspect.aisi.org.uk/reference/inspect_ai.solver.html), its output a Chat Completions body
that is decoded like any other. inspect_ai books the call, retries it and keeps it in its log; a
call that it gave up raises, and the sample is then an error of the log and no verdict.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from misalign_bench.errors import OutsideWorld
from misalign_bench.llm.calls import Answered, keyed
from misalign_bench.llm.chat_protocol import decode
from misalign_bench.llm.inspect import body_of, config_of, messages_of
from misalign_bench.llm.model import Capabilities, Failure, Request
from misalign_bench.records import Verdict

_LIKELIEST = 20

Given = TypeVar("Given")


class Generate(Protocol):
    """The function that inspect_ai gives to a solver: call the model, extend the state."""

    async def __call__(self, state: Any, tool_calls: str = "loop", **config: Any) -> Any:
        """Call the model with the state's messages."""


@dataclass(frozen=True, slots=True)
class _Named:
    """What a judge reads of its client's model."""

    name: str
    weights: str
    simulated: bool = False
    capabilities: Capabilities = field(default_factory=Capabilities)


class InspectClient:
    """Asks the model of one sample.

    Args:
        name: ``provider/model`` as inspect_ai knows it.
        state: the sample's state; its messages and output become those of the last call.
        generate: calls the model.
        seed: from which the calls' seeds derive; None sends none.
        response_schema: whether to ask for the JSON schema of a verdict.
    """

    def __init__(
        self, name: str, state: Any, generate: Generate, seed: int | None, response_schema: bool
    ) -> None:
        self.model = _Named(name, name)
        self._state, self._generate = state, generate
        self._seed, self._response_schema = seed, response_schema

    async def ask(self, request: Request) -> Answered | Failure:
        """The answer to a request."""
        asked = keyed(request, self.model.name, self._seed or 0)
        config = self._config(request)
        if self._seed is not None:
            config["seed"] = asked.seed
        self._state.messages = messages_of(request)
        self._state = await self._generate(self._state, tool_calls="none", **config)
        decoded = decode(body_of(self._state.output), request)
        return decoded if isinstance(decoded, Failure) else Answered(decoded, asked.key, False)

    def reply(self, answered: Answered | Failure) -> Answered:
        """The answer.

        Raises:
            OutsideWorld: there is none, because the model gave no output.
        """
        return _there(answered, self.model.name)

    def given(self, answered: Verdict | Failure) -> Verdict:
        """The verdict.

        Raises:
            OutsideWorld: there is none, because the model gave no output.
        """
        return _there(answered, self.model.name)

    def _config(self, request: Request) -> dict[str, Any]:
        """What the request needs; sampling of a written verdict is the task's and the user's."""
        from inspect_ai.model import ResponseSchema
        from inspect_ai.util import JSONSchema

        if request.options:
            sampling = request.sampling
            return {
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "max_tokens": sampling.max_tokens,
                "logprobs": True,
                "top_logprobs": _LIKELIEST,
            }
        if request.schema is None or not self._response_schema:
            return {}
        schema = JSONSchema.model_validate(dict(request.schema))
        return {"response_schema": ResponseSchema(name="answer", json_schema=schema, strict=True)}


class ModelClient:
    """Asks a model of inspect_ai that is not the one under test, with the request's own sampling.

    Args:
        model: as inspect_ai gives it.
        seed: from which the calls' seeds derive; None sends none.
        response_schema: whether to ask for the JSON schema of a verdict.
    """

    def __init__(self, model: Any, seed: int | None, response_schema: bool) -> None:
        self.model = _Named(str(model), str(model))
        self._model, self._seed, self._response_schema = model, seed, response_schema

    async def ask(self, request: Request) -> Answered | Failure:
        """The answer to a request."""
        asked = keyed(request, self.model.name, self._seed or 0)
        config = config_of(request, None if self._seed is None else asked.seed)
        if not self._response_schema:
            config.response_schema = None
        output = await self._model.generate(messages_of(request), config=config)
        decoded = decode(body_of(output), request)
        return decoded if isinstance(decoded, Failure) else Answered(decoded, asked.key, False)

    def given(self, answered: Verdict | Failure) -> Verdict:
        """The verdict.

        Raises:
            OutsideWorld: there is none, because the model gave no output.
        """
        return _there(answered, self.model.name)


def _there(answered: Given | Failure, name: str) -> Given:
    if isinstance(answered, Failure):
        raise OutsideWorld(f"{answered.kind}: {answered.detail}", where=name)
    return answered
