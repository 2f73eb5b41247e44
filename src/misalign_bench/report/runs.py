"""Run folders as the page takes them: which kind each is, and what it is called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from misalign_bench.errors import UserError
from misalign_bench.journal.manifest import read_manifest
from misalign_bench.report.bench_run import RESULTS, BenchRun, read_bench_run
from misalign_bench.report.build_run import DROPPED, STATS, BuildRun, read_build_run


@dataclass(frozen=True, slots=True)
class Runs:
    """What was given to report on, in the order given.

    Attributes:
        answers: bench runs whose targets answered themselves (``mode: respond``).
    """

    benches: tuple[BenchRun, ...]
    builds: tuple[BuildRun, ...]
    answers: tuple[BenchRun, ...] = ()

    @property
    def everything(self) -> tuple[BuildRun | BenchRun, ...]:
        """Builds, then benches, then answers."""
        return (*self.builds, *self.benches, *self.answers)


def read_runs(folders: Sequence[Path], *, mixed_versions: bool = False) -> Runs:
    """Read bench and build run folders, in any order and mixture.

    A folder that was benched in place is both.

    Args:
        folders: the run folders.
        mixed_versions: take results whose numbers are defined differently; they are warned of.

    Raises:
        UserError: a folder is missing, unfinished, damaged or no run folder, or the results are of
            different comparability versions.
    """
    benches: list[BenchRun] = []
    builds: list[BuildRun] = []
    folders = list(dict.fromkeys(folders))
    for folder, label in zip(folders, _labels(folders), strict=True):
        manifest = _manifest(folder)
        benched = (folder / RESULTS).is_file()
        built = any((folder / name).exists() for name in ("data", STATS, DROPPED))
        if benched:
            benches.append(read_bench_run(folder, label, manifest))
        if built:
            builds.append(read_build_run(folder, label, manifest))
        if not (benched or built):
            raise _no_run(folder, manifest)
    if not mixed_versions:
        _refuse_mixture(benches)
    asked, answered = ([run for run in benches if run.answers is one] for one in (False, True))
    return Runs(tuple(asked), tuple(builds), tuple(answered))


def _refuse_mixture(benches: Sequence[BenchRun]) -> None:
    versions = {str(run.header.get("comparability_version")): run.label for run in benches}
    if len(versions) > 1:
        shown = ", ".join(f"{label} {version}" for version, label in sorted(versions.items()))
        raise UserError(
            f"the runs define a number differently (comparability versions: {shown})",
            mend="Bench again with one version, or add --mixed-versions",
        )


def _manifest(folder: Path) -> dict[str, object]:
    if not folder.is_dir():
        what = "it is a file, not a run folder" if folder.exists() else "no such folder"
        raise UserError(what, where=str(folder), mend="Name the --out folder of a bench or build")
    return read_manifest(folder) or {}


def _no_run(folder: Path, manifest: dict[str, object]) -> UserError:
    if manifest:
        reason = f" ({manifest['reason']})" if manifest.get("reason") else ""
        return UserError(
            f"its run has written no result yet; its status is {manifest.get('status')}{reason}",
            where=str(folder),
            mend="Run the same command again to finish it",
        )
    return UserError(
        f"it is no run folder: neither {RESULTS} nor data/ is in it",
        where=str(folder),
        mend="Name the --out folder of a bench or build",
    )


def _labels(folders: Sequence[Path]) -> list[str]:
    """The folders' names, with the parent's where two are called the same; never a whole path."""
    resolved = [folder.resolve() for folder in folders]
    times = Counter(folder.name for folder in resolved)
    return [
        folder.name if times[folder.name] == 1 else f"{folder.parent.name}/{folder.name}"
        for folder in resolved
    ]
