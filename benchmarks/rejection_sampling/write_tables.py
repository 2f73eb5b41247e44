"""Write the simulated tables of ``docs/rejection-sampling.md`` between their marker comments.

Run: ``python benchmarks/rejection_sampling/write_tables.py`` (about three minutes of one core).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from simulate import Cell, Seen, draws_a_response, given_up, mean, share, simulate

from marked_page import put_between

PAGE = Path(__file__).parents[2] / "docs" / "rejection-sampling.md"
PASSING = (0.3, 0.5, 0.7, 0.9)
EVALUATORS = ((0.95, 0.95), (0.75, 0.67))
OBEY, PLEASE = 0.7, 0.5
ACCEPT = ("first", "all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=1500, metavar="N", help="a setting")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write into")
    arguments = parser.parse_args()
    started = time.process_time()
    tables = {
        # 2% is 3.5 standard errors of the draws a response at p = 0.3, and more above.
        "closed form": closed_form(2 * arguments.prompts),
        **sampling(arguments.prompts),
    }
    text = arguments.page.read_text(encoding="utf-8")
    for name, lines in tables.items():
        text = put_between(text, f"simulated: {name}", "\n".join(["", *lines, ""]))
    arguments.page.write_text(text, encoding="utf-8")
    print(f"{time.process_time() - started:.0f} s of processor time")


def closed_form(prompts: int) -> list[str]:
    """Draws for one response, accept-first, K = 3, no feedback, an evaluator that errs never."""
    cells = [Cell(obey=p) for p in PASSING]
    rows = []
    for cell, seen in zip(cells, simulate(cells, prompts), strict=True):
        found, error = mean([float(one) for one in seen.drawn])
        expected = draws_a_response(cell.obey, cell.draws)
        rows.append(
            (
                f"{cell.obey:.1f}",
                f"{seen.slots:,}",
                f"{found:.3f} ± {error:.3f}",
                f"{expected:.3f}",
                f"{100 * (found / expected - 1):+.1f}%",
                f"{seen.draws / seen.accepted:.3f}",
                f"{1 / cell.obey:.3f}",
            )
        )
    head = ("p", "responses", "draws a response", "closed form", "off by")
    return table((*head, "draws an accepted response", "1/p"), rows)


def sampling(prompts: int) -> dict[str, list[str]]:
    """Calls and purity in every setting, and what accept-first gives up."""
    calls: list[Sequence[str]] = []
    lost: list[Sequence[str]] = []
    for sensitivity, specificity in EVALUATORS:
        cells = [
            Cell(sensitivity, specificity, OBEY, please, accept, 3, rounds)  # type: ignore[arg-type]
            for please in (0.0, PLEASE)
            for rounds in ((2, 1, 0) if not please else (2,))
            for accept in reversed(ACCEPT)
        ]
        seen = dict(zip(cells, simulate(cells, prompts), strict=True))
        ordered = sorted(cells, key=lambda one: (one.please, one.rounds, one.accept == "all"))
        calls += [_calls(cell, seen[cell]) for cell in ordered]
        for first, best in zip(ordered[::2], ordered[1::2], strict=True):
            lost.append(_lost(first, seen[first], seen[best]))
    names = ("evaluator", "feedback", "rounds", "accept", "prompts with a pair")
    counted = ("draws a pair", "verdicts a pair", "aligned pure", "misaligned pure")
    late = "pure after feedback"
    gap = (*names[:3], "purity given up", "calls saved")
    return {
        "calls and purity": table((*names, *counted, late), calls),
        "given up": table(gap, lost),
    }


def _setting(cell: Cell) -> tuple[str, str, str]:
    feedback = "pleases" if cell.please else "same odds"
    evaluator = f"{cell.sensitivity:.2f} / {cell.specificity:.2f}"
    return evaluator, feedback if cell.rounds else "none", str(cell.rounds)


def _calls(cell: Cell, seen: Seen) -> Sequence[str]:
    truth = list(seen.truth.values())
    pure = [share([one[kind] for one in truth]) for kind in (0, 1)]
    return (
        *_setting(cell),
        cell.accept,
        f"{100 * len(truth) / seen.prompts:.1f}%",
        f"{seen.draws / len(truth):.2f}",
        f"{seen.verdicts / len(truth):.2f}",
        *map(_percent, pure),
        _percent(share(seen.late)) if seen.late else "",
    )


def _percent(found: tuple[float, float]) -> str:
    return f"{100 * found[0]:.1f}% ± {100 * found[1]:.1f}"


def _lost(cell: Cell, first: Seen, best: Seen) -> Sequence[str]:
    value, error = given_up(first, best)
    saved = 1 - (first.draws + first.verdicts) / (best.draws + best.verdicts)
    return (*_setting(cell), f"{100 * value:.1f} ± {100 * error:.1f} points", f"{100 * saved:.0f}%")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table, numbers to the right."""
    marks = ["---" if name in ("evaluator", "feedback", "accept") else "---:" for name in head]
    return [_line(head), f"|{'|'.join(marks)}|", *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
