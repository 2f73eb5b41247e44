"""What the project rests on is pinned by hash and listed; no key leaves in a traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from script import load_script

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements-dev.lock").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("sbom") / "sbom.json"
    script = [sys.executable, str(ROOT / "scripts" / "sbom.py"), "--out", str(out)]
    first = subprocess.run(script, check=True, capture_output=True, text=True)
    content = out.read_bytes()
    assert str(out) in first.stdout
    subprocess.run(script, check=True, capture_output=True)
    assert out.read_bytes() == content
    found: dict[str, Any] = json.loads(content)
    return found


def test_the_bill_of_materials_has_what_cyclonedx_requires(bill: dict[str, Any]) -> None:
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    parts = [bill["metadata"]["component"], *bill["components"]]
    for part in parts:
        assert part["type"] in ("application", "library")
        assert re.fullmatch(r"pkg:pypi/[a-z0-9-]+@\S+", part["purl"])
        assert part["purl"] == part["bom-ref"] == f"pkg:pypi/{part['name']}@{part['version']}"
    references = [part["bom-ref"] for part in parts]
    assert len(set(references)) == len(references)
    assert {one["ref"] for one in bill["dependencies"]} == set(references)
    assert {ref for one in bill["dependencies"] for ref in one["dependsOn"]} < set(references)


def test_the_bill_names_every_requirement_with_its_installed_version(bill: dict[str, Any]) -> None:
    held = {part["name"]: part["version"] for part in bill["components"]}
    for line in distribution("misalign-bench").requires or ():
        if "extra ==" not in line:
            name = re.split(r"[^A-Za-z0-9_-]", line)[0].lower()
            assert held[name] == distribution(name).version
    assert "attrs" in held, "what a requirement needs itself is missing"
    assert sum("licenses" in part for part in bill["components"]) > 0.8 * len(held)


def test_names_are_compared_in_their_plain_spelling() -> None:
    script = load_script(ROOT / "scripts" / "sbom.py")
    assert script.plain("Ruamel_Yaml.clib") == "ruamel-yaml-clib"


def test_every_package_of_the_lock_is_pinned_by_hash_and_by_no_address() -> None:
    entries = re.split(r"\n(?=[a-z0-9])", re.sub(r"^#.*\n", "", LOCK, flags=re.MULTILINE))
    assert len(entries) > 50
    for entry in entries:
        assert re.match(r"\s*[a-z0-9][a-z0-9._-]*==\S+", entry), entry[:80]
        assert "--hash=sha256:" in entry, entry[:80]
    assert "://" not in LOCK
    assert not re.search(r"--(?:index|extra-index|find-links|trusted)", LOCK)


def test_the_lock_holds_every_requirement_of_the_project() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    needed = re.search(r"^dependencies = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)
    tests = re.search(r"^test = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    assert needed
    assert tests
    names = re.findall(r'"([A-Za-z0-9-]+)', needed[1] + tests[1])
    locked = set(re.findall(r"^([a-z0-9._-]+)==", LOCK, re.MULTILINE))
    assert {name.lower() for name in names} - {"misalign-bench"} <= locked


@pytest.mark.parametrize("kind", ["a defect", "on request"])
def test_a_traceback_holds_no_key_whatever_it_was_caused_by(kind: str) -> None:
    program = (
        "import sys\n"
        "from misalign_bench.cli import domains, main\n"
        "from misalign_bench.errors import UserError\n"
        "from misalign_bench.llm.secrets import from_environment\n"
        "def run(arguments):\n"
        "    key = from_environment('SOME_KEY')\n"
        "    try:\n"
        "        raise ValueError(f'Authorization: Bearer {key} \\x1b[31m')\n"
        "    except ValueError as cause:\n"
        f"        raise {'RuntimeError' if kind == 'a defect' else 'UserError'}(key) from cause\n"
        "domains.run = run\n"
        "sys.argv = ['misalign-bench', 'domains']\n"
        "sys.exit(main.main())\n"
    )
    secret = "planted-secret-0123456789"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "SOME_KEY": secret, "MISALIGN_BENCH_TRACEBACK": "1"},
    )
    assert ran.returncode == 1
    assert "Traceback (most recent call last)" in ran.stderr
    assert "direct cause" in ran.stderr
    assert ran.stderr.count("[redacted]") == 2
    assert secret not in ran.stderr
    assert "\x1b" not in ran.stderr
