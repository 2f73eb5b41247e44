"""``inspect/MODEL``: any model that inspect_ai's model layer knows, by its model string.

The call goes through ``get_model(MODEL).generate`` (https://inspect.aisi.org.uk/models.html) with
inspect's own retries and cache switched off, since the client does both; a provider's own package
may still retry within a call. The output is turned into a Chat Completions body and decoded like
any other.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from misalign_bench.config_model import ModelSettings
from misalign_bench.errors import UserError
from misalign_bench.journal.redaction import without_credentials
from misalign_bench.llm import secrets
from misalign_bench.llm.chat_protocol import decode
from misalign_bench.llm.model import Capabilities, Failure, Reply, Request
from misalign_bench.llm.prices import cost_of, price_of

START, CAP = 16, 256
_FINISH = {"max_tokens": "length", "model_length": "length", "content_filter": "content_filter"}


class InspectModel:
    """A model of inspect_ai; its keys and addresses are configured as inspect_ai says."""

    simulated = False
    capabilities = Capabilities()

    def __init__(self, settings: ModelSettings) -> None:
        self.name = self.weights = settings.model
        model = settings.model.partition("/")[2]
        self.identity = json.dumps(
            {"model": model, "provider": "inspect", "revision": settings.revision}, sort_keys=True
        )
        if settings.revision:
            self.weights = f"{settings.model}@{settings.revision}"
        self.endpoint = without_credentials(settings.base_url)
        self.concurrency = settings.concurrency or START
        self.concurrency_cap = settings.concurrency or CAP
        self._price = price_of(settings)
        secrets.register_environment()
        self._model = _load(model, settings.base_url, self.concurrency_cap)

    async def send(self, request: Request, seed: int) -> Reply | Failure:
        """Send the request once through inspect_ai."""
        try:
            output = await self._model.generate(
                messages_of(request), config=config_of(request, seed), cache=False
            )
        except Exception as error:  # every provider raises its own
            return self._failure(error)
        if output.error:
            return Failure("server_error", str(output.error))
        outcome = decode(body_of(output), request)
        if isinstance(outcome, Failure):
            return outcome
        return replace(outcome, cost=cost_of(self._price, outcome))

    async def close(self) -> None:
        """Close the provider's connections."""
        await self._model.api.aclose()

    def _failure(self, error: Exception) -> Failure:
        """What the provider itself says about its exception, or about the causes of it."""
        api, chain = self._model.api, _chain(error)
        # The text of inspect_ai's own wrapper holds the whole request; its cause does not.
        said = getattr(error, "provider_message", None) or chain[min(1, len(chain) - 1)]
        detail = secrets.redact(f"{type(chain[-1]).__name__}: {said}")[:300]
        if any(api.is_auth_failure(cause) for cause in chain):
            return Failure("unauthorized", detail, passing=False, fatal=True)
        if any(getattr(cause, "status_code", None) == 404 for cause in chain):
            return Failure("unknown_model", detail, passing=False, fatal=True)
        for cause in chain:
            decision = api.should_retry(cause)
            if getattr(decision, "retry", decision):
                limited = getattr(decision, "kind", "") == "rate_limit"
                wait = getattr(decision, "retry_after", None)
                kind = "rate_limited" if limited else "server_error"
                return Failure(kind, detail, retry_after=wait)
        if any(isinstance(cause, OSError) for cause in chain):
            return Failure("connection_lost", detail)
        return Failure("rejected", detail, passing=False)


def _chain(error: Exception) -> list[Exception]:
    """The exception and what caused it, a few steps back."""
    chain = [error]
    while len(chain) < 4 and isinstance(chain[-1].__cause__, Exception):
        chain.append(chain[-1].__cause__)
    return chain


def _load(model: str, base_url: str, cap: int) -> Any:
    """The model of inspect_ai.

    Raises:
        UserError: inspect_ai, the provider's package or its key is missing.
    """
    try:
        from inspect_ai.model import GenerateConfig, get_model
    except ImportError:
        raise UserError(
            "inspect/ models need the package inspect-ai",
            where=f"inspect/{model}",
            mend="Install it: pip install 'misalign-bench[inspect]'.",
        ) from None
    config = GenerateConfig(max_retries=0, max_connections=cap)
    # Without a usage of its own the mock model counts tokens by a file that it downloads.
    mock = model.startswith("mockllm/")
    extra: dict[str, Any] = {"custom_outputs": _mock_output} if mock else {}
    try:
        return get_model(model, config=config, base_url=base_url or None, memoize=False, **extra)
    except Exception as error:  # a missing key, a missing package, an unknown provider
        said = secrets.redact(str(error))
        raise UserError(f"inspect_ai says: {said}", where=f"inspect/{model}") from None


def _mock_output(*_: object) -> Any:
    from inspect_ai.model import ModelOutput, ModelUsage

    output = ModelOutput.from_content("mockllm", "Default output from mockllm/model")
    output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    return output


def messages_of(request: Request) -> list[Any]:
    """The messages of a request as inspect_ai's."""
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser

    kinds = {
        "system": ChatMessageSystem,
        "user": ChatMessageUser,
        "assistant": ChatMessageAssistant,
    }
    return [kinds[message.role](content=message.content) for message in request.messages]


def config_of(request: Request, seed: int | None) -> Any:
    """Sampling, schema and options of a request as inspect_ai's configuration of a call."""
    from inspect_ai.model import GenerateConfig, ResponseSchema
    from inspect_ai.util import JSONSchema

    sampling = request.sampling
    config = GenerateConfig(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=1 if request.options else sampling.max_tokens,
        seed=seed,
    )
    if request.options:
        config.logprobs, config.top_logprobs = True, 20
    if request.schema is not None:
        schema = JSONSchema.model_validate(dict(request.schema))
        config.response_schema = ResponseSchema(name="answer", json_schema=schema, strict=True)
    return config


def body_of(output: Any) -> dict[str, Any]:
    """An output of inspect_ai as a Chat Completions body."""
    if output.error:
        return {"error": {"message": str(output.error)}}
    body: dict[str, Any] = {"choices": [_choice(one) for one in output.choices[:1]]}
    body["model"] = output.model
    if output.usage is not None:
        cached = output.usage.input_tokens_cache_read or 0
        written = output.usage.input_tokens_cache_write or 0
        body["usage"] = {
            # inspect_ai counts cached tokens apart, the protocol among the prompt's.
            "prompt_tokens": output.usage.input_tokens + cached + written,
            "completion_tokens": output.usage.output_tokens,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
    return body


def _choice(choice: Any) -> dict[str, Any]:
    content = choice.message.content
    parts = [] if isinstance(content, str) else content
    message = {"content": choice.message.text}
    if any(getattr(part, "refusal", None) for part in parts):
        message["refusal"] = choice.message.text or "refused"
    return {
        "message": message,
        "finish_reason": _FINISH.get(choice.stop_reason, "stop"),
        "logprobs": choice.logprobs.model_dump() if choice.logprobs else None,
    }
