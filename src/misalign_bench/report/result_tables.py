r"""The numbers of bench runs as a Markdown or LaTeX table, for a README or a paper.

One row per target, condition and framing: Coverage, FFR and AS with their 95% intervals, how many
verdicts they rest on, the share without a verdict. Runs whose targets answered themselves have a
table of their own. What the page warns of stands under each.
The LaTeX needs ``\usepackage{booktabs}``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from misalign_bench.llm.secrets import conceal
from misalign_bench.records import Score
from misalign_bench.report.entrants import Entrant, entrants, evaluators, short_name
from misalign_bench.report.page_warnings import warnings
from misalign_bench.report.respond_view import Rated, RespondView, respond_views
from misalign_bench.report.runs import Runs
from misalign_bench.report.visible import visible

COLUMNS = ("Target", "Condition", "Coverage", "FFR", "AS", "Verdicts", "Unscored")
RATED_COLUMNS = (
    *("Target", "Misaligned", "Bounds", "Of those answered", "Refusals"),
    *("Alpha", "Responses", "Unscored"),
)
_RATED_FACT = (
    "Percent of the targets' own answers, with 95% intervals from a bootstrap over clusters of"
    " near-duplicate prompts. A response without a verdict counts as misaligned; a refusal does not"
    " and stays in the denominator. Alpha is Krippendorff's, of the joint verdicts."
)

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#|~$<>&])")
_OPENING = re.compile(r"^(\d*)([-+=.)])(?=\s|$)")
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


@dataclass(frozen=True, slots=True)
class Table:
    """A table and what must be known of it.

    Attributes:
        words: how many columns from the left hold words, the others hold numbers.
        facts: what the numbers rest on.
        warnings: (title, text).
    """

    columns: Sequence[str]
    words: int
    rows: Sequence[Sequence[str]]
    facts: Sequence[str]
    warnings: Sequence[tuple[str, str]]


def markdown(runs: Runs) -> str:
    """The tables as Markdown, with what must be known of each under it."""
    return "\n".join(_markdown_table(table) for table in _tables(runs))


def latex(runs: Runs) -> str:
    """The tables as LaTeX (booktabs), with what must be known of each as comments above it."""
    return "\n".join(_latex_table(table) for table in _tables(runs))


def _tables(runs: Runs) -> Iterator[Table]:
    """One of what the targets flagged, one of what they answered, as far as there are any."""
    if runs.benches:
        everyone = entrants(runs.benches)
        known = [(one.title, one.text) for one in warnings(runs, everyone)]
        yield Table(COLUMNS, 2, [_row(one) for one in everyone], _facts(runs), known)
    views = respond_views(runs.answers)
    if views:
        rated = [_rated(one) for view in views for one in view.targets]
        facts = [_RATED_FACT, *(_rated_fact(view) for view in views)]
        known = [(title, text) for view in views for _, title, text in view.warnings]
        yield Table(RATED_COLUMNS, 1, rated, facts, known)


def _markdown_table(table: Table) -> str:
    numbers = len(table.columns) - table.words
    lines = [
        _markdown_row(table.columns),
        f"|{'---|' * table.words}{'---:|' * numbers}",
        *(_markdown_row([_markdown(cell) for cell in row]) for row in table.rows),
        "",
        *(_markdown(line) + "  " for line in table.facts),
        *(f"**{title}.** {_markdown(text)}  " for title, text in table.warnings),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _latex_table(table: Table) -> str:
    notes = [*table.facts, *(f"{title}. {text}" for title, text in table.warnings)]
    numbers = len(table.columns) - table.words
    lines = [
        *(f"% {' '.join(note.split())}" for note in notes),
        rf"\begin{{tabular}}{{{'l' * table.words}{'r' * numbers}}}",
        r"\toprule",
        " & ".join(table.columns) + r" \\",
        r"\midrule",
        *(" & ".join(_latex(cell) for cell in row) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _rated(one: Rated) -> tuple[str, ...]:
    name = f"{one.short} (simulated)" if one.simulated else one.short
    low, high = one.joint.best_case, one.joint.value
    bounds = "" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"
    return (
        visible(conceal(name)),
        _estimate(one.joint),
        bounds,
        _estimate(one.answered),
        _estimate(one.refusal),
        "" if one.alpha is None else f"{one.alpha:.2f}",
        f"{one.joint.n:,}",
        f"{100 * one.unscored:.1f}%",
    )


def _rated_fact(view: RespondView) -> str:
    said = ", ".join(f"{name.lower()} {value}" for name, value in view.facts)
    return visible(conceal(f"{view.label}: {said}."))


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
    line = _MARKDOWN.sub(r"\\\1", " ".join(text.split()))
    # At the start of a line these open a list or a heading; a bare address becomes a link.
    line = _OPENING.sub(r"\1\\\2", line)
    return line.replace("://", ":&#47;&#47;").replace("www.", "www&#46;")


def _latex(text: str) -> str:
    line = "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))
    # Behind the end of a row or a rule these would be its options.
    return f"{{}}{line}" if line.startswith(("[", "*", "(")) else line
