"""No key, token or authorization header reaches a file, a line or a page of a whole run.

A key is planted where the configuration says to look for it, and a server gives it back wherever it
can: in error bodies, in completions, in reasons, in refusals, in the name of what it serves. Then
everything that build, bench and report have written and said is searched, compressed parts too.
"""

from __future__ import annotations

import html
import json
import os
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

from endpoint import Endpoint, behave, write_config
from loopback import Body, Fault, Loopback, completion
from misalign_bench.journal.store import Journal

VARIABLE = "MISALIGN_BENCH_TEST_KEY"
KEY = 'planted+key/of="somebody"&100%'
USER, PASSWORD = "planted-user", "planted:pass+word"


@dataclass
class Talkative:
    """A server that gives back what it is sent in the Authorization header.

    ``phase`` is ``errors`` (some requests fail), ``refused`` (all do) or ``answers``.
    """

    server: Loopback = field(init=False)
    phase: str = "errors"
    given_back: int = 0

    def __post_init__(self) -> None:
        self.server = Loopback(self.answer, fault_for=self.fault)

    def echo(self) -> str:
        """The header as it came, its secret alone, and that in base64 or out of it."""
        self.given_back += 1
        header = self.server.headers[-1]["Authorization"]
        scheme, _, secret = header.partition(" ")
        other = b64encode(secret.encode()) if scheme == "Bearer" else b64decode(secret)
        return f"you sent Authorization: {header}, that is {secret} or {other.decode()}"

    def fault(self, body: Body) -> Fault | None:
        if self.phase == "refused":
            return Fault(401, {"error": {"message": f"Incorrect key: {self.echo()}"}})
        if self.phase == "errors" and body["model"] == "generator-one":
            plain, said = body["seed"] % 2 == 0, self.echo()
            return Fault(400, said) if plain else Fault(503, {"error": {"message": said}})
        return None

    def answer(self, body: Body) -> Body:
        """What the simulated behaviour says, with the header in it, as it is and as JSON has it."""
        text = behave(body)
        if body["model"].startswith("generator"):
            text = f"{text} And {self.echo()}."
        elif body["model"].startswith("judge"):
            verdict = json.loads(text)
            for dimension in verdict.values():
                dimension["reason"] = dimension["span"] = self.echo()
            text = json.dumps(verdict)
        refusal = {"refusal": self.echo()} if body["seed"] % 7 == 0 else {}
        said = completion(text, **(refusal if body["model"] == "judge-two" else {}))
        return said | {"model": f"served for {self.server.headers[-1]['Authorization']}"}


@dataclass(frozen=True)
class Told:
    """All that a run has written and said, as bytes, by where it stands."""

    secrets: dict[str, str]
    pieces: dict[str, bytes]
    given_back: int


@pytest.fixture(scope="module", params=["key", "login"])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Two builds that fail, one that does not, a bench and a page, each in its own process."""
    folder = tmp_path_factory.mktemp(request.param)
    talkative = Talkative()
    with Endpoint(talkative.server) as endpoint:
        url, environment, secrets = endpoint.url, dict(os.environ), forms(KEY)
        environment.pop(VARIABLE, None)
        if request.param == "key":
            environment[VARIABLE] = KEY
        else:
            login = f"{USER}:{PASSWORD}"
            secrets = forms(PASSWORD) | forms(login)
            url = url.replace("http://", f"http://{USER}:{quote(PASSWORD, safe='')}@")
        config, out, bench = write_config(folder, url), folder / "out", folder / "bench"
        build: list[object] = ["build", config, "--out", out]
        commands = [
            ("errors", 3, build),
            ("refused", 3, build),
            ("answers", 0, [*build, "--json"]),
            ("answers", 0, bench_command(config, url, out, bench)),
            ("answers", 0, ["report", out, bench, "--out", folder / "page.html"]),
        ]
        said = {}
        for number, (phase, code, command) in enumerate(commands):
            talkative.phase = phase
            said[f"what command {number} printed"] = run(code, environment, *command)
    written = [folder / "page.html", *out.rglob("*"), *bench.rglob("*")]
    files = {str(file): file.read_bytes() for file in written if file.is_file()}
    return Told(secrets, said | files | unpacked(out, bench), talkative.given_back)


def bench_command(config: Path, url: str, out: Path, bench: Path) -> list[object]:
    """Bench a target that is configured like the models of the build, key variable included."""
    target = {"model": "openai/judge-two", "base_url": url, "key_variable": VARIABLE}
    path = config.with_name("bench.yaml")
    bench_table = json.dumps({"targets": [target], "epochs": 1})
    path.write_text(f"{config.read_text()}\nbench: {bench_table}\n")
    typed = ["bench", out, "--config", path, "--split", "all", "--out", bench]
    return [*typed, "--target", f"openai/judge-two@{url}"] if "@" in url else typed


def run(code: int, environment: dict[str, str], *command: object) -> bytes:
    ran = subprocess.run(
        [sys.executable, "-m", "misalign_bench.cli.main", *map(str, command)],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        timeout=60,
    )
    assert ran.returncode == code, ran.stdout
    return ran.stdout


def forms(secret: str) -> dict[str, str]:
    """A secret as text, JSON, a page and a URL hold it, and in base64."""
    return {
        f"{secret} as it is": secret,
        f"{secret} in JSON": json.dumps(secret)[1:-1],
        f"{secret} in a page": html.escape(secret),
        f"{secret} in a URL": quote(secret, safe=""),
        f"{secret} in base64": b64encode(secret.encode()).decode(),
    }


def unpacked(*folders: Path) -> dict[str, bytes]:
    """What lies compressed in the run folders: bodies of calls, and tables."""
    pieces = {}
    for folder in folders:
        with Journal.open(folder / "journal.sqlite", read_only=True) as journal:
            pieces[f"{folder.name}: answers"] = texts(list(journal.entries()))
            pieces[f"{folder.name}: attempts"] = texts(list(journal.attempts()))
        for file in folder.rglob("*.parquet"):
            table = pq.read_table(file)
            pieces[f"{file}, unpacked"] = texts([table.to_pylist(), table.schema.metadata])
    return pieces


def texts(value: Any) -> bytes:
    """Every text in it, names included, as it is: ``repr`` and JSON would escape a quote."""
    if isinstance(value, (str, bytes)):
        return value.encode() if isinstance(value, str) else value
    if isinstance(value, Mapping):
        return texts([*value.keys(), *value.values()])
    if is_dataclass(value) and not isinstance(value, type):
        return texts([getattr(value, one.name) for one in fields(value)])
    return b"\n".join(map(texts, value)) if isinstance(value, (list, tuple)) else b""


def test_the_server_gave_the_secret_back_and_it_was_seen(told: Told) -> None:
    """Without this the next test could pass because nothing happened."""
    assert told.given_back > 30
    for piece in ("out: answers", "out: attempts", "bench: answers"):
        assert b"[redacted]" in told.pieces[piece], piece
    for piece in ("what command 0 printed", "what command 1 printed"):
        assert b"[redacted]" in told.pieces[piece], told.pieces[piece]
    assert any(b"[redacted]" in held for name, held in told.pieces.items() if "page.html" in name)


def test_no_secret_stands_in_anything_that_was_written_or_said(told: Told) -> None:
    found = [
        (form, place)
        for form, secret in told.secrets.items()
        for place, held in told.pieces.items()
        if secret.encode() in held
    ]
    assert found == []
