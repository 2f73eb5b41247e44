"""Write ``docs/commands.md`` and ``docs/domains.md`` from the code, so that they cannot disagree.

``make docs`` runs it; a test fails while a page is out of date.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from misalign_bench.cli.main import COMMANDS, PROGRAM, command
from misalign_bench.records import DIMENSIONS
from misalign_bench.taxonomy.loader import taxonomy

DOCS = Path(__file__).parents[1] / "docs"


def commands_page() -> str:
    """Every command with its arguments."""
    lines = ["# Commands", "", "Written by `make docs` from the code.", ""]
    for name in COMMANDS:
        module = command(name)
        own = argparse.ArgumentParser(prog=f"{PROGRAM} {name}")
        module.add_arguments(own)
        lines += [f"## {PROGRAM} {name}", "", f"{_sentence(module.HELP)}", "", *_arguments(own)]
    return "\n".join(lines).rstrip() + "\n"


def domains_page() -> str:
    """The taxonomy, a table for each dimension."""
    held = taxonomy()
    lines = [
        "# Domains",
        "",
        "Written by `make docs` from `taxonomy/domains.yaml`. Culture's catch-all is no label.",
        "",
    ]
    for dimension in DIMENSIONS:
        domains = held.of(dimension)
        lines += [f"## {dimension.capitalize()}: {len(domains)} domains", ""]
        lines += ["| domain | group | what is in, what is out |", "|---|---|---|"]
        lines += [
            f"| {_cell(domain.name)} | {_cell(domain.group or '')} | {_cell(domain.definition)} |"
            for domain in domains
        ]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


PAGES: Mapping[str, Callable[[], str]] = {
    "commands.md": commands_page,
    "domains.md": domains_page,
}


def main() -> None:
    """Write all pages."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
        print(f"docs/{name}")


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    """A table of a parser's own arguments, then those of its actions."""
    rows = []
    actions: list[tuple[str, argparse.ArgumentParser]] = []
    for action in parser._actions:  # argparse has no public way to ask
        if isinstance(action, argparse._SubParsersAction):
            actions += action.choices.items()
        elif not isinstance(action, argparse._HelpAction):
            rows.append(f"| {_cell(_name(action))} | {_cell(_help(action))} |")
    if rows:
        yield from ("| argument | meaning |", "|---|---|", *rows, "")
    for name, own in actions:
        yield from (f"### {parser.prog.removeprefix(PROGRAM).strip()} {name}", "")
        yield from _arguments(own)


def _name(action: argparse.Action) -> str:
    shown = action.metavar if isinstance(action.metavar, str) else None
    if action.choices is not None and shown is None:
        shown = "{" + ",".join(map(str, action.choices)) + "}"
    if not action.option_strings:
        return f"`{shown or action.dest}`" + (" …" if action.nargs in ("*", "+") else "")
    takes = "" if action.nargs == 0 else f" {shown or action.dest.upper()}"
    return f"`{action.option_strings[-1]}{takes}`"


def _help(action: argparse.Action) -> str:
    values = {**vars(action), "prog": PROGRAM}
    said = (action.help or "") % values
    return f"{said} (required)" if action.required and action.option_strings else said


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
