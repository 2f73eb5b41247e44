"""The optional extra ``fast``: whether to use Numba's compiled kernels, and how they are compiled.

Kernels give the results of the NumPy paths bit for bit, so this only decides about time. Loading
Numba takes about a second, and a machine compiles each kernel once (it keeps them on disk), so
small inputs stay with NumPy.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

WORTH_IT = 10_000
"""From this many texts or codes on, kernels are used if they can be had."""

_Function = TypeVar("_Function", bound=Callable[..., Any])
_said: set[str] = set()


def use_kernels(size: int) -> bool:
    """Say whether an input of this many texts or codes goes to the kernels.

    The first large input that meets no Numba logs, once per process, how it would be faster.
    """
    if size < WORTH_IT:
        return False
    if numba() is not None:
        return True
    if not _said:
        _said.add("missing")
        logging.getLogger(__name__).warning(
            "near-duplicate search runs on NumPy alone; "
            "pip install 'misalign-bench[fast]' makes large inputs many times faster, "
            "with equal results"
        )
    return False


def numba() -> Any | None:
    """Return the Numba module, or None if it is absent or does not fit this NumPy."""
    try:
        return importlib.import_module("numba")
    except ImportError:
        return None


def workers() -> int:
    """Return how many kernels to run at once: the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def compiled(function: _Function) -> _Function:
    """Compile a function at its first call, without the interpreter's lock, and keep it on disk.

    Without Numba the function stays as it is, so that its module can be imported.
    """
    compiler = numba()
    if compiler is None:
        return function
    options = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
    try:
        return cast(_Function, compiler.njit(cache=True, **options)(function))
    except RuntimeError:  # no folder here can be written to keep it in
        return cast(_Function, compiler.njit(**options)(function))
