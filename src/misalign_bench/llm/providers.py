"""From a configured model to the provider that runs it, loading only that provider."""

from __future__ import annotations

from misalign_bench.config_model import ModelSettings
from misalign_bench.errors import UserError
from misalign_bench.llm.model import Model


def make_model(settings: ModelSettings) -> Model:
    """The model that these settings name.

    Raises:
        UserError: unknown provider, or what the provider needs (a key, an extra, weights) is not
            there.
    """
    provider = settings.model.partition("/")[0]
    if provider == "openai":
        from misalign_bench.llm.openai import OpenAIModel

        return OpenAIModel(settings)
    if provider == "embedded":
        from misalign_bench.llm.embedded import EmbeddedModel

        return EmbeddedModel(settings)
    if provider == "simulated":
        from misalign_bench.llm.simulated import SimulatedModel

        return SimulatedModel(settings)
    if provider == "inspect":
        from misalign_bench.llm.inspect import InspectModel

        return InspectModel(settings)
    if provider == "onnx":
        raise UserError(
            "an embedding model cannot answer",
            where=settings.model,
            mend="It may be the classifier of the method embedding; name a chat model here",
        )
    raise UserError(
        f"unknown provider {provider!r}",
        where=settings.model,
        mend="Write openai/NAME, embedded/NAME, simulated/BEHAVIOUR or inspect/MODEL.",
    )
