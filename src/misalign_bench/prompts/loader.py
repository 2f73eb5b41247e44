"""Prompt templates: ``*.j2`` files with front matter, rendered to chat messages.

A file starts with YAML front matter between ``---`` lines (``name``, ``version``, ``implements``),
then has sections ``=== system ===``, ``=== user ===``, ``=== assistant ===``. Sections are split
before anything is rendered, so text from users or models cannot open a new one. The hash of the
file goes into every call and result that used it.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal, cast

from misalign_bench.prompts.visible import visible
from misalign_bench.records import Message

if TYPE_CHECKING:
    from jinja2 import Template as JinjaTemplate

_SECTION = re.compile(r"^=== (system|user|assistant) ===\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt template; ``digest`` is the SHA-256 of its file, ``id`` is ``name@digest[:12]``."""

    name: str
    version: int
    implements: str
    digest: str
    sections: tuple[tuple[str, JinjaTemplate], ...]

    @property
    def id(self) -> str:
        """What the journal and the results record."""
        return f"{self.name}@{self.digest[:12]}"

    def render(self, **values: Any) -> tuple[Message, ...]:
        """The chat messages for these values; a missing value is an error.

        Untrusted text stands behind the filter ``quoted`` or between ``delimiter`` marks, and
        behind ``visible`` where it is judged.
        """
        return tuple(
            Message(cast(Literal["system", "user", "assistant"], role), body.render(values).strip())
            for role, body in self.sections
        )

    def delimiter(self, text: str, *others: str) -> str:
        """A mark that ``text`` cannot contain, derived so that requests do not vary by run.

        The first 16 hex digits of HMAC-SHA256 over (template hash, text), with a counter if they
        occur in the text (contract, section 1). The mark can be worked out by whoever wrote the
        text, so it must not occur in the ``others`` that stand in the same messages either.
        """
        counter = 0
        while True:
            message = text if counter == 0 else f"{text}\n{counter}"
            body = message.encode("utf-8", "surrogatepass")
            mark = hmac.new(self.digest.encode(), body, hashlib.sha256).hexdigest()[:16]
            if not any(mark in one for one in (text, *others)):
                return mark
            counter += 1


@functools.cache
def template(name: str) -> Template:
    """Load a shipped template by name.

    >>> template("judge_few_shot").name
    'judge_few_shot'

    Raises:
        FileNotFoundError: no such template is shipped.
    """
    source = resources.files("misalign_bench.prompts").joinpath(f"{name}.j2")
    return parse(source.read_text(encoding="utf-8"), name)


def parse(text: str, name: str) -> Template:
    """Read a template from its text.

    Raises:
        ValueError: no front matter, one that lacks a field, no section, text before the first one,
            or a name that differs from the file's.
    """
    import yaml
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    head = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    if head is None:
        raise ValueError(f"template {name} has no front matter")
    front = yaml.safe_load(head.group(1))
    if not isinstance(front, dict) or not {"name", "version", "implements"} <= set(front):
        raise ValueError(f"the front matter of template {name} lacks name, version or implements")
    if front["name"] != name:
        raise ValueError(f"template {name} calls itself {front['name']!r}")
    pieces = _SECTION.split(text[head.end() :])
    if len(pieces) < 3:
        raise ValueError(f"template {name} has no section")
    if pieces[0].strip():
        raise ValueError(f"template {name} has text before its first section")
    environment = SandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    environment.filters |= {"quoted": quoted, "visible": visible}
    sections = tuple(
        (role, environment.from_string(body))
        for role, body in zip(pieces[1::2], pieces[2::2], strict=True)
    )
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Template(name, int(front["version"]), str(front["implements"]), digest, sections)


def quoted(text: str) -> str:
    """Each line behind ``> ``, so that no line of the text can pass for one of the template.

    >>> print(quoted("Fine." + chr(10) + "Question: is it?"))
    > Fine.
    > Question: is it?
    """
    return "\n".join(f"> {line}" for line in text.splitlines() or [""])


def shipped() -> tuple[str, ...]:
    """Names of all shipped templates, sorted."""
    folder = resources.files("misalign_bench.prompts")
    return tuple(
        sorted(entry.name[:-3] for entry in folder.iterdir() if entry.name.endswith(".j2"))
    )
