"""The benchmark page: run folders in, one self-contained HTML file out.

The file loads nothing and lets nothing in: its content security policy allows the two scripts and
the style it carries, by their hashes, and images from data URLs. Whatever a model, a prompt or a
file name says is escaped by the template, or reaches a script as JSON in a data block and is set as
text; characters that cannot be seen are named (``visible``).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from typing import TYPE_CHECKING, Any

from misalign_bench import __version__
from misalign_bench.llm.secrets import conceal, register_environment
from misalign_bench.report.charts import interval_charts, library, part_charts
from misalign_bench.report.duration import duration
from misalign_bench.report.entrants import short_name
from misalign_bench.report.examples import Example, examples
from misalign_bench.report.page_data import page_data
from misalign_bench.report.runs import Runs
from misalign_bench.report.visible import visible, visible_in

if TYPE_CHECKING:
    from jinja2 import Environment

EXAMPLES = 300
"""How many verdicts a page shows at most."""

_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def render(runs: Runs, *, title: str = "", limit: int = EXAMPLES) -> str:
    """The page as text."""
    from markupsafe import Markup

    # No secret of this machine stands on the page, whoever wrote it into a prompt or an answer.
    register_environment()
    page = page_data(runs, title)
    chosen = _examples(runs, limit)
    intervals, parts = interval_charts(page.entrants), part_charts(page.entrants)
    charts = [{"id": one.id, "spec": one.specification} for one in (*intervals, *parts.charts)]
    style, script = _shipped("page.css"), _shipped("page.js")
    drawing = library() if page.entrants else ""
    scripts = [text for text in (drawing, script) if text]
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            page=page,
            intervals=intervals,
            parts=parts,
            examples=len(chosen),
            version=__version__,
            policy=content_policy(scripts, style),
            style=Markup(style),
            scripts=[Markup(_script(text)) for text in scripts],
            data={
                "charts": Markup(json_block(charts)),
                "examples": Markup(json_block(_shown_examples(chosen))),
            },
            provenance=[_provenance(run.label, run.manifest) for run in runs.everything],
        )
    )


def content_policy(scripts: Sequence[str], style: str) -> str:
    """The content security policy that allows exactly these scripts and this style."""
    allowed = " ".join(_digest(_script(text)) for text in scripts)
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


def _examples(runs: Runs, limit: int) -> list[Example]:
    """Verdicts of every run, its share of the limit each."""
    data = [run.folder for run in runs.builds]
    found: list[Example] = []
    for place, run in enumerate(runs.benches):
        share = (limit - len(found)) // (len(runs.benches) - place)
        found += examples(run, share, data)
    return found


def _shown_examples(chosen: Sequence[Example]) -> dict[str, Any]:
    """The examples with the names that their targets have on the page."""
    targets = list(dict.fromkeys(one.target for one in chosen))
    short = Counter(map(short_name, targets))
    names = {one: short_name(one) if short[short_name(one)] == 1 else one for one in targets}
    return {"names": names, "rows": [asdict(one) for one in chosen]}


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
    environment.filters |= {
        "percent": percent,
        "interval": interval,
        "points": points,
        "duration": duration,
        "dollars": dollars,
        "heat": heat,
        "short_name": short_name,
        "whole": lambda number: "" if number is None else f"{number:,}",
        "plain_words": lambda name: str(name).replace("_", " "),
    }
    return environment


def _shown(value: Any) -> Any:
    """What the template puts out: texts with their invisible characters named, no secret."""
    if value is None:
        return ""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return visible(conceal(value))
    return value


def percent(share: float | None, digits: int = 1) -> str:
    """A share for people; a missing one is said so, never shown as zero.

    >>> percent(0.8135), percent(None)
    ('81.3%', 'no items')
    """
    return "no items" if share is None else f"{100 * share:.{digits}f}%"


def interval(score: Any) -> str:
    """The interval of a score, or an empty text.

    >>> from misalign_bench.records import Score
    >>> interval(Score(0.5, 0.4, 0.6123, 40, 40))
    '40.0–61.2'
    """
    if score.low is None or score.high is None:
        return ""
    return f"{100 * score.low:.1f}–{100 * score.high:.1f}"


def points(difference: float) -> str:
    """A difference of two shares in points, with its sign.

    >>> points(0.0312), points(-0.2)
    ('+3.1', '−20.0')
    """
    return f"{100 * difference:+.1f}".replace("-", "−")


def heat(share: float) -> int:
    """The step of the colour scale, 0 to 10."""
    return round(10 * min(1.0, max(0.0, share)))


def dollars(cost: float | None) -> str:
    """A cost; an unknown one is named.

    >>> dollars(0.01234), dollars(12.5), dollars(None)
    ('$0.0123', '$12.50', 'no price')
    """
    if cost is None:
        return "no price"
    return f"${cost:,.4f}" if 0 < cost < 1 else f"${cost:,.2f}"
