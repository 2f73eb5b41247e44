"""What a call costs: the user's own price, else the small table in ``prices.yaml``, else unknown.

An unknown price is None all the way to the page. Embedded and simulated models cost nothing.
"""

from __future__ import annotations

import functools
import os
from importlib import resources

from misalign_bench.config_model import ModelSettings
from misalign_bench.llm.model import Price, Reply

FREE = Price(0.0, 0.0, 0.0)


def price_of(settings: ModelSettings) -> Price | None:
    """The price of a configured model, None if unknown.

    The table holds for the public API only: the same name at another base URL is another offer.

    >>> price_of(ModelSettings(model="simulated/echo")) == FREE
    True
    >>> price_of(ModelSettings(model="openai/gpt-4o-mini@http://127.0.0.1:8000/v1")) is None
    True
    """
    if settings.price is not None:
        own = settings.price
        return Price(own.input, own.output, own.cached_input)
    provider, _, name = settings.model.partition("/")
    if provider in ("embedded", "simulated"):
        return FREE
    if settings.base_url or os.environ.get("OPENAI_BASE_URL"):
        return None
    return _table().get(name if provider == "inspect" else settings.model)


def cost_of(price: Price | None, reply: Reply) -> float | None:
    """US dollars for a reply; None if the price or the number of tokens is unknown.

    >>> reply = Reply("", input_tokens=1_000_000, output_tokens=500_000, cached_tokens=400_000)
    >>> cost_of(Price(1.0, 4.0, 0.5), reply)
    2.8
    """
    if price is None:
        return None
    if not reply.input_tokens and not reply.output_tokens:
        return None if price.input or price.output else 0.0
    cached = min(reply.cached_tokens, reply.input_tokens)
    cached_price = price.input if price.cached_input is None else price.cached_input
    dollars = (reply.input_tokens - cached) * price.input + cached * cached_price
    return (dollars + reply.output_tokens * price.output) / 1e6


@functools.lru_cache(maxsize=1)
def _table() -> dict[str, Price]:
    import yaml

    source = resources.files("misalign_bench.llm").joinpath("prices.yaml")
    table = yaml.safe_load(source.read_text(encoding="utf-8"))
    return {name: Price(**price) for name, price in table.items()}
