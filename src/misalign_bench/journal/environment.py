"""What a run ran on: Python, dependencies, platform and the state of the project's checkout.

No host name, no user name, no absolute path: a manifest is handed on with the results.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import misalign_bench

_DISTRIBUTION = "misalign-bench"
_GIT_SECONDS = 5.0


def environment() -> dict[str, Any]:
    """The part of a manifest that tells what the run ran on."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "packages": packages(),
        "git": checkout(Path(misalign_bench.__file__).parent),
    }


def packages() -> dict[str, str]:
    """Installed versions of what the project depends on, extras included, tests left out."""
    try:
        requirements = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return {}
    versions = {}
    for requirement in requirements:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        if name == _DISTRIBUTION or re.search(r"extra == ['\"]test['\"]", requirement):
            continue
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return dict(sorted(versions.items()))


def checkout(folder: Path) -> dict[str, Any] | None:
    """Commit of the checkout that holds ``folder``, and whether the folder differs from it.

    None outside a checkout, without git, or where another project's checkout surrounds the
    installed package.
    """
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--", ".")
    if commit is None or changes is None:
        return None
    return {"commit": commit, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    # A hook's GIT_DIR would point elsewhere, and reading must not touch the index.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env={**kept, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None
