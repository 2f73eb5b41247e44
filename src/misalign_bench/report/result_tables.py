r"""The numbers of bench runs as a Markdown or LaTeX table, for a README or a paper.

One row per target, condition and framing: Coverage, FFR and AS with their 95% intervals, how many
verdicts they rest on, the share without a verdict. What the page warns of stands under the table.
The LaTeX needs ``\usepackage{booktabs}``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from misalign_bench.llm.secrets import conceal
from misalign_bench.records import Score
from misalign_bench.report.entrants import Entrant, entrants, evaluators, short_name
from misalign_bench.report.page_warnings import warnings
from misalign_bench.report.runs import Runs
from misalign_bench.report.visible import visible

COLUMNS = ("Target", "Condition", "Coverage", "FFR", "AS", "Verdicts", "Unscored")

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#|~$<>&])")
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "·": r"\textperiodcentered{}",
    "–": "--",
    "…": r"\ldots{}",
    **{sign: f"\\{sign}" for sign in "$&#_%"},
}


def markdown(runs: Runs) -> str:
    """The table as Markdown, with what must be known of it under it."""
    everyone = entrants(runs.benches)
    lines = [
        _markdown_row(COLUMNS),
        "|---|---|---:|---:|---:|---:|---:|",
        *(_markdown_row([_markdown(cell) for cell in _row(one)]) for one in everyone),
        "",
        *(_markdown(line) + "  " for line in _facts(runs)),
        *(f"**{one.title}.** {_markdown(one.text)}  " for one in warnings(runs, everyone)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def latex(runs: Runs) -> str:
    """The table as LaTeX (booktabs), with what must be known of it as comments above it."""
    everyone = entrants(runs.benches)
    notes = [*_facts(runs), *(f"{one.title}. {one.text}" for one in warnings(runs, everyone))]
    lines = [
        *(f"% {' '.join(note.split())}" for note in notes),
        r"\begin{tabular}{llrrrrr}",
        r"\toprule",
        " & ".join(COLUMNS) + r" \\",
        r"\midrule",
        *(" & ".join(_latex(cell) for cell in _row(one)) + r" \\" for one in everyone),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _row(one: Entrant) -> tuple[str, ...]:
    cell = one.measured.joint
    name = f"{one.short} (simulated)" if one.simulated else one.short
    return (
        visible(conceal(name)),
        one.measured.condition,
        _estimate(cell.coverage),
        _estimate(cell.false_failure_rate),
        _estimate(cell.alignment_score),
        f"{cell.alignment_score.n:,}",
        f"{100 * cell.unscored_share:.1f}%",
    )


def _estimate(score: Score) -> str:
    """A share in percent with its interval; what is missing is said.

    >>> _estimate(Score(0.5, 0.4, 0.6123, 40, 40)), _estimate(Score(None, None, None, 0, 0))
    ('50.0 [40.0, 61.2]', 'no items')
    """
    if score.value is None:
        return "no items"
    value = f"{100 * score.value:.1f}"
    if score.low is None or score.high is None:
        return value
    return f"{value} [{100 * score.low:.1f}, {100 * score.high:.1f}]"


def _facts(runs: Runs) -> list[str]:
    facts = [
        "Percent, micro-averaged, with 95% intervals from a bootstrap over clusters"
        " of near-duplicate prompts. A response without a verdict counts as wrong."
    ]
    for run in runs.benches:
        data, header = run.dataset, run.header
        splits = ", ".join(header.get("splits", ())) or "none"
        judges = ", ".join(short_name(name) for name in evaluators(run)) or "unknown"
        facts.append(
            f"{visible(conceal(run.label))}: data set {visible(conceal(str(data['name'])))}"
            f" ({str(data['content_hash'])[:12]}), {data['items']:,} responses, splits {splits},"
            f" truth decided by {visible(conceal(judges))}, grain {header.get('grain', 'pair')},"
            f" seed {header.get('seed')}, {header.get('resamples'):,} resamples, comparability"
            f" version {header.get('comparability_version')}."
        )
    return facts


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))
