"""The benchmark page: run folders in, one self-contained HTML file out.

The file loads nothing and lets nothing in: its content security policy allows the two scripts and
the style it carries, by their hashes, and images from data URLs. Whatever a model, a prompt or a
file name says is escaped by the template, or reaches a script as JSON in a data block and is set as
text; characters that cannot be seen are named (``visible``). The page as a folder, for thousands of
examples, is laid out here too; its policy lets in data files as well (``page_folder``).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from misalign_bench import __version__
from misalign_bench.llm.secrets import conceal, register_environment
from misalign_bench.report.chart_parts import Chart, library
from misalign_bench.report.charts import Parts, interval_charts, part_charts
from misalign_bench.report.example_index import ExampleIndex
from misalign_bench.report.examples import of_every_run
from misalign_bench.report.label_reliability import OVER
from misalign_bench.report.page_data import Page, page_data
from misalign_bench.report.page_filters import filters
from misalign_bench.report.runs import Runs
from misalign_bench.report.spread_charts import framing_charts, reliability_charts
from misalign_bench.report.visible import visible, visible_in

if TYPE_CHECKING:
    from jinja2 import Environment

EXAMPLES = 300
"""How many verdicts a page of one file shows, if nobody says otherwise."""

MOST = 500
"""How many it shows at most."""

_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


STYLES = ("page.css", "page_tables.css", "page_examples.css", "page_media.css")
SCRIPTS = (
    *("page_text.js", "page_tables.js", "page_store.js"),
    *("page_card.js", "page_examples.js", "page.js"),
)
"""The page's own script in parts, what others need first."""


def render(runs: Runs, *, title: str = "", limit: int = EXAMPLES) -> str:
    """The page as one text, with at most so many examples in it."""
    # No secret of this machine stands on the page, whoever wrote it into a prompt or an answer.
    register_environment()
    index = ExampleIndex()
    rows: list[dict[str, Any]] = []
    for place, one in sorted(of_every_run(runs, limit), key=lambda pair: pair[0]):
        index.add(place, one, 0, len(rows))
        rows.append(asdict(one))
    return lay_out(runs, title, number=len(rows), embedded={"index": index.table(), "rows": rows})


def lay_out(
    runs: Runs, title: str, *, number: int, embedded: Mapping[str, Any], nonce: str = ""
) -> str:
    """Everything but the choice of examples.

    Args:
        runs: what to report on.
        title: heading; by default it names the data set.
        number: how many examples there are.
        embedded: the examples, or what is needed to load them.
        nonce: the word that data files beside the page are loaded with; empty if there are none.
    """
    from markupsafe import Markup

    page = page_data(runs, title)
    pictures = _pictures(page)
    style = "".join(map(_shipped, STYLES))
    script = f'(() => {{\n"use strict";\n{"".join(map(_shipped, SCRIPTS))}}})();\n'
    drawing = library() if pictures.charts else ""
    scripts = [text for text in (drawing, script) if text]
    charts = [{"id": one.id, "spec": one.specification} for one in pictures.charts]
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            page=page,
            pictures=pictures,
            over=OVER,
            examples=number,
            folder=bool(nonce),
            version=__version__,
            policy=content_policy(scripts, style, nonce=nonce),
            style=Markup(style),
            scripts=[Markup(_script(text)) for text in scripts],
            data={
                "charts": Markup(json_block(charts)),
                "examples": Markup(json_block(embedded)),
            },
            provenance=[_provenance(run.label, run.manifest) for run in runs.everything],
        )
    )


@dataclass(frozen=True, slots=True)
class Pictures:
    """Every chart of the page by its section; ``reliability`` has an entry per build."""

    intervals: tuple[Chart, ...]
    parts: Parts
    framings: tuple[Chart, ...]
    reliability: tuple[tuple[Chart, ...], ...]

    @property
    def charts(self) -> tuple[Chart, ...]:
        """All of them."""
        of_builds = (chart for held in self.reliability for chart in held)
        return (*self.intervals, *self.parts.charts, *self.framings, *of_builds)


def _pictures(page: Page) -> Pictures:
    return Pictures(
        intervals=interval_charts(page.entrants) if page.entrants else (),
        parts=part_charts(page.entrants) if page.entrants else Parts(False, ()),
        framings=framing_charts(page.spreads),
        reliability=tuple(
            reliability_charts(str(number), build.run.reliability)
            for number, build in enumerate(page.builds)
        ),
    )


def content_policy(scripts: Sequence[str], style: str, *, nonce: str = "") -> str:
    """The content security policy that allows exactly these scripts and this style.

    ``nonce``: and scripts that carry this word, whatever their address.
    """
    allowed = " ".join(_digest(_script(text)) for text in scripts)
    allowed += f" 'nonce-{nonce}'" if nonce else ""
    return (
        f"default-src 'none'; script-src {allowed or _NONE}; style-src {_digest(style)};"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )


def json_block(value: Any) -> str:
    r"""JSON for a data block of a page: nothing in it can end the block or be markup.

    >>> json_block({"text": "</script>\u2028&"})
    '{"text":"\\u003c/script\\u003e\\u27e6U+2028\\u27e7\\u0026"}'
    """
    text = json.dumps(visible_in(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    text = conceal(text)
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return text


_NONE = "'none'"


def _script(text: str) -> str:
    """A script as the HTML parser hands it to the hash: nothing ends it, lines end in one way."""
    return text.replace("\r\n", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _digest(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _provenance(label: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a manifest that say how to do it again."""
    kept = ("command", "version", "status", "started", "finished", "seeds", "templates")
    shown = {name: manifest[name] for name in kept if manifest.get(name)}
    ran_on = manifest.get("environment") or {}
    shown |= {name: ran_on[name] for name in ("git", "python", "platform") if ran_on.get(name)}
    if manifest.get("settings_digest"):
        shown["settings_digest"] = manifest["settings_digest"]
    settings = json.dumps(manifest.get("settings", {}), indent=1, ensure_ascii=False)
    return {"run": label, "facts": shown, "settings": settings}


def _shipped(name: str) -> str:
    return resources.files("misalign_bench.report").joinpath(name).read_text(encoding="utf-8")


def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_shipped),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters()
    return environment


def _shown(value: Any) -> Any:
    """What the template puts out: texts with their invisible characters named, no secret."""
    if value is None:
        return ""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return visible(conceal(value))
    return value
