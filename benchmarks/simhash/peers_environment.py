"""The peers' own environment: a virtual environment beside this file, never the package's.

text-dedup is not installed: its 0.4 needs pyspark, datasets and a pinned urllib3. What its SimHash
loop needs is (bitarray, xxhash), and the loop's shape is in ``peer_joins``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / ".peers"
PACKAGES = (
    "simhash==2.1.2",
    "datasketch==2.0.0",
    "rensa==0.5.0",
    "faiss-cpu==1.15.1",
    "bitarray==3.12.3",
    "xxhash==4.1.0",
    "numpy",
)
_VERSIONS = """
import importlib.metadata, json, sys
print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))
"""


def peers_python() -> Path:
    """Return the interpreter of the peers' environment, after making it where it is not yet."""
    wanted = "\n".join(PACKAGES)
    stamp = FOLDER / f"made-{sys.version_info.major}.{sys.version_info.minor}.txt"
    folder = FOLDER / stamp.stem
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        print(f"installing the peers into {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        options = ("--quiet", "--disable-pip-version-check")
        subprocess.run([str(python), "-m", "pip", "install", *options, *PACKAGES], check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return python


def versions(python: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Return the installed versions of packages, as that interpreter sees them."""
    done = subprocess.run(
        [python, "-c", _VERSIONS, *names], check=True, capture_output=True, text=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def peer_names() -> tuple[str, ...]:
    """Return the names of the peers' packages, without their versions."""
    return tuple(package.partition("==")[0] for package in PACKAGES)
