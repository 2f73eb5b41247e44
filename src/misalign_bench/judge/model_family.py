"""Which family a model belongs to, as far as its name tells (for panels of different families).

Models of one family share data and training, and so their mistakes; a panel of them agrees with
itself (Verga et al. 2024, *Replacing Judges with Juries*, arXiv 2404.18796, draw their panel from
disjoint families for that reason). A fine-tuned or distilled model belongs to the family of the
weights it started from, where its name says which.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

# The first that matches decides, so what weights started from stands before who tuned them.
_FAMILIES: Mapping[str, re.Pattern[str]] = {
    name: re.compile(rf"(?<![a-z])(?:{words})")
    for name, words in (
        ("qwen", "qwen|qwq|qvq"),
        ("llama", "llama|vicuna|alpaca"),
        ("mistral", "mistral|mixtral|ministral|magistral|codestral|pixtral|wildguard|zephyr"),
        ("google", "gemma|gemini|shieldgemma|codegemma|medgemma|palm"),
        ("deepseek", "deepseek"),
        ("openai", r"gpt|chatgpt|o[134](?![0-9a-z])|davinci|text-davinci"),
        ("anthropic", "claude"),
        ("cohere", "command|aya"),
        ("microsoft", "phi|wizardlm"),
        ("allenai", "olmo|tulu"),
        ("huggingface", "smollm"),
        ("ibm", "granite"),
        ("nvidia", "nemotron|minitron"),
        ("xai", "grok"),
        ("zhipu", "glm|chatglm"),
        ("01-ai", "yi(?![a-z])"),
    )
}
_OTHER = re.compile(r"[a-z]+")


def model_family(model: str) -> str:
    """The family of a model, in lower case.

    A name that is not known is its own family by the word it begins with; a simulated model is by
    its ``name``.

    >>> model_family("openai/Qwen/Qwen2.5-7B-Instruct@http://127.0.0.1:8000/v1")
    'qwen'
    >>> model_family("inspect/together/deepseek-ai/DeepSeek-R1-Distill-Llama-70B")
    'llama'
    >>> model_family("openai/teapot-800m"), model_family("simulated/judge?name=strict")
    ('teapot', 'strict')
    """
    bare, _, query = model.partition("@http")[0].partition("?")
    last = (bare.rpartition("/")[2] or bare).lower()
    if model.startswith("simulated/"):
        return dict(parse_qsl(query)).get("name") or last
    for family, pattern in _FAMILIES.items():
        if pattern.search(last):
            return family
    word = _OTHER.search(last)
    return word.group() if word else last
