"""``manifest.json``: what a run was asked, on what it ran, how far it came.

It is written whole and atomically at the start, after each stage and at the end, so that it can
be read after any crash; ``status`` then still says ``running``. Times and versions live here and
never in a data set file (contract, section 1).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from misalign_bench import __version__
from misalign_bench.errors import UserError
from misalign_bench.journal.entries import Totals
from misalign_bench.journal.environment import environment
from misalign_bench.journal.failures import from_system
from misalign_bench.journal.redaction import public, public_line, without_credentials
from misalign_bench.json_text import read_json

NAME = "manifest.json"
FORMAT = 1
_PROJECT = "misalign-bench"

Status = Literal["running", "done", "pending", "stopped", "failed"]
RunTotals = Mapping[tuple[str, str], Totals]


class Manifest:
    """The manifest of the run that is going on. Every change is on disk when its method returns."""

    def __init__(
        self,
        folder: Path,
        command: str | Sequence[str],
        settings: Mapping[str, Any],
        write: Callable[[str, bytes], object],
    ) -> None:
        """Write the manifest of a run that begins.

        Args:
            folder: the run folder; its earlier configurations become the history.
            command: the arguments as written, or a name for them.
            settings: the resolved configuration.
            write: writes a file of the folder whole or not at all.

        Raises:
            UserError: the folder's manifest is not one of ours.
            OutsideWorld: full disk or input/output error.
        """
        self._folder = folder
        self._write = write
        self._arguments = [command] if isinstance(command, str) else list(command)
        self._body = _begin(folder, self._arguments, settings)
        self._save()

    @property
    def status(self) -> Status:
        """How the run stands."""
        status: Status = self._body["status"]
        return status

    def describe(
        self, *, seeds: Mapping[str, int] | None = None, templates: Mapping[str, str] | None = None
    ) -> None:
        """Record seeds by name and prompt template hashes by template name."""
        self._body["seeds"].update(seeds or {})
        self._body["templates"].update(templates or {})
        self._save()

    def stage(self, name: str, counts: Mapping[str, int], totals: RunTotals | None = None) -> None:
        """Record a stage that ended: its counts, and the journal's totals so far."""
        self._body["stages"][name] = dict(counts)
        self._sum(totals)
        self._save()

    def finish(self, status: Status, reason: str = "", totals: RunTotals | None = None) -> None:
        """Record how the run ended, with the line that says why where it is not ``done``."""
        line = public_line(reason, self._folder, self._arguments)
        self._body.update(status=status, reason=line, finished=_now())
        self._sum(totals)
        self._save()

    def _sum(self, totals: RunTotals | None) -> None:
        if totals is not None:
            self._body["totals"] = [
                {"role": role, "model": without_credentials(model), **asdict(sums)}
                for (role, model), sums in sorted(totals.items())
            ]

    def _save(self) -> None:
        text = json.dumps(self._body, indent=2, ensure_ascii=True)
        self._write(NAME, f"{text}\n".encode())


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest in a run folder, or None where there is none.

    Raises:
        UserError: it is not one of ours, damaged, or of a newer format.
    """
    path = folder / NAME
    try:
        body = read_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise from_system(error, path) from None
    except ValueError:
        body = None
    if not isinstance(body, dict) or body.get("project") != _PROJECT or not _complete(body):
        raise UserError(
            "it is no manifest of misalign-bench", str(path), "Move it away, or name another folder"
        )
    if body["format"] > FORMAT:
        raise UserError(
            f"it was written by misalign-bench {body['version']}",
            where=str(path),
            mend="Upgrade misalign-bench, or name another folder",
        )
    return body


def settings_digest(settings: Mapping[str, Any]) -> str:
    """SHA-256 of the settings as a manifest shows them: equal digests, equal configurations."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _begin(folder: Path, arguments: list[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    shown = [without_credentials(part) for part in arguments]
    if len(shown) > 1:
        # The program's own path is where this machine keeps it, not what was written.
        shown[0] = Path(shown[0]).name
    resolved = public(settings, folder, arguments)
    digest = settings_digest(resolved)
    previous = read_manifest(folder)
    seed = settings.get("seed")
    return {
        "project": _PROJECT,
        "format": FORMAT,
        "version": __version__,
        "command": shown,
        "status": "running",
        "reason": "",
        "started": _now(),
        "finished": None,
        "runs": 1 + (previous["runs"] if previous else 0),
        "settings_digest": digest,
        "settings": resolved,
        "seeds": {"run": seed} if isinstance(seed, int) else {},
        "templates": {},
        "stages": {},
        "totals": [],
        "environment": environment(),
        "history": _history(previous, digest),
    }


def _complete(body: Mapping[str, Any]) -> bool:
    kinds = {"format": int, "runs": int, "version": str, "settings_digest": str, "history": list}
    return all(isinstance(body.get(name), kind) for name, kind in kinds.items())


def _history(previous: Mapping[str, Any] | None, digest: str) -> list[Any]:
    """Earlier configurations, oldest first; running the same one again adds nothing."""
    if previous is None:
        return []
    history: list[Any] = previous["history"]
    if previous["settings_digest"] == digest:
        return history
    kept = ("settings_digest", "settings", "command", "version", "status", "started", "finished")
    return [*history, {name: previous.get(name) for name in kept}]


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
