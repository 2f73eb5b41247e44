"""What is loaded when: the package alone loads nothing, and asking for help nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from misalign_bench.cli.main import COMMANDS

# Each of these costs more than the 0.6 seconds of a whole `misalign-bench --help`, or a part of it.
HEAVY = frozenset(
    {
        *("numpy", "pyarrow", "pandas", "scipy", "numba", "datasets"),
        *("aiohttp", "pydantic", "jsonschema", "jinja2", "yaml", "rich"),
        *("onnxruntime", "tokenizers", "xllamacpp", "altair", "vl_convert", "inspect_ai"),
        *("sqlite3", "playwright"),
    }
)


def loaded_after(code: str) -> set[str]:
    """Names of the modules that a fresh interpreter loads to run ``code``."""
    script = (
        "import sys\n"
        "before = set(sys.modules)\n"
        f"try:\n    {code}\nexcept SystemExit:\n    pass\n"
        "print('loaded:', *sorted(set(sys.modules) - before))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return set(ran.stdout.splitlines()[-1].split()[1:])


def test_importing_the_package_loads_nothing_of_it() -> None:
    assert {name for name in loaded_after("import misalign_bench") if "misalign" in name} == {
        "misalign_bench"
    }


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not loaded_after("import misalign_bench") & HEAVY


def test_help_loads_nothing_heavy() -> None:
    loaded = loaded_after("from misalign_bench.cli.main import main; main(['--help'])")
    assert not loaded & HEAVY
    assert {f"misalign_bench.cli.{name}" for name in COMMANDS} <= loaded


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_asked_for_help_loads_nothing_heavy_and_no_other_command(name: str) -> None:
    loaded = loaded_after(f"from misalign_bench.cli.main import main; main([{name!r}, '--help'])")
    others = {f"misalign_bench.cli.{other}" for other in COMMANDS if other != name}
    assert not loaded & HEAVY
    assert not loaded & others
