"""The texts behind a verdict: prompt and response, what the target was sent, what it answered.

Texts come from the data set that the results name by its content hash, else from the requests in
the run's journal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from misalign_bench.errors import UserError
from misalign_bench.records import Item
from misalign_bench.report.bench_run import BenchRun

_LONGEST = 12_000
_LONGEST_RAW = 2_000


def benched_items(run: BenchRun, names: set[str], data: Sequence[Path]) -> dict[str, Item]:
    """The benched items, from the first place whose content is what the results rest on."""
    from misalign_bench.suites.savacu import load_suite

    for place in [*data, *_named_by(run)]:
        try:
            suite = load_suite(place, tuple(run.header.get("splits", ())))
        except UserError:
            continue
        if suite.content_hash == run.dataset["content_hash"]:
            return {item.item_id: item for item in suite.items if item.item_id in names}
    return {}


def _named_by(run: BenchRun) -> list[Path]:
    """Places that the run's command line names: one of them is the data set that it read."""
    command = run.manifest.get("command")
    words = command if isinstance(command, list) else []
    return [Path(word) for word in words if not word.startswith("-") and Path(word).exists()]


class Entries:
    """The run's journal, if it is there and sound; an example without it is still an example."""

    def __init__(self, folder: Path) -> None:
        from misalign_bench.journal.folder import JOURNAL
        from misalign_bench.journal.store import Journal

        self._journal: Journal | None = None
        if (folder / JOURNAL).is_file():
            try:
                self._journal = Journal.open(folder / JOURNAL, read_only=True)
            except UserError:
                self._journal = None

    def __enter__(self) -> Entries:
        return self

    def __exit__(self, *_: object) -> None:
        if self._journal is not None:
            self._journal.__exit__()

    def request(self, keys: Sequence[str]) -> str:
        """What the target was sent last under the first key that the journal knows."""
        for key in keys:
            messages = (self._body(key, "request") or {}).get("messages") or []
            if messages:
                return str(messages[-1][1])
        return ""

    def answer(self, key: str) -> str:
        """What came back under a key: its text, or the log-probabilities that were asked for."""
        body = self._body(key, "response")
        if body is None:
            return ""
        options = body.get("options")
        shown = (
            ", ".join(f"log p({name}) = {value:.3f}" for name, value in options.items())
            if options
            else str(body.get("text", ""))
        )
        return shortened(shown, _LONGEST_RAW)

    def _body(self, key: str, part: str) -> Mapping[str, Any] | None:
        try:
            entry = self._journal.get(key) if self._journal and key else None
        except UserError:
            return None
        body: Mapping[str, Any] | None = getattr(entry, part, None)
        return body


def shortened(text: str, longest: int = _LONGEST) -> str:
    """A text cut to what a page can bear; it says how much is missing."""
    cut = len(text) - longest
    return f"{text[:longest]}\n[{cut:,} more characters are not shown]" if cut > 0 else text
