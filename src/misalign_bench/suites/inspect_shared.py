"""What the tasks of inspect_ai share: being known to it, the data they read, errors in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from misalign_bench.errors import UserError
from misalign_bench.records import SPLITS

if TYPE_CHECKING:
    from misalign_bench.suites.savacu import Suite

_F = TypeVar("_F", bound=Callable[..., Any])


def known_as(decorator: Callable[[Any], Any]) -> Callable[[_F], _F]:
    """Make a function known to inspect_ai; without inspect_ai it stays as it is.

    Args:
        decorator: picks inspect_ai's decorator from its package.
    """

    def known(function: _F) -> _F:
        try:
            import inspect_ai.scorer
            import inspect_ai.solver
        except ImportError:
            return function
        return cast(_F, decorator(inspect_ai)(function))

    return known


def suite_of(data: str, split: str | list[str], task: str) -> Suite:
    """The items of a data set's splits.

    Raises:
        UserError: an unknown split, or data that cannot be read; ``task`` says who asked.
    """
    from misalign_bench.suites.savacu import load_suite

    splits = [split] if isinstance(split, str) else list(split)
    if "all" in splits:
        splits = list(SPLITS)
    for name in splits:
        if name not in SPLITS:
            known = ", ".join((*SPLITS, "all"))
            raise UserError(f"split {name!r} is unknown", where=task, mend=known)
    return load_suite(data, splits)


def one_line(error: UserError) -> Exception:
    """The error in the form that inspect_ai's command line prints without a traceback."""
    from rich.text import Text

    try:
        # It has no public name.
        from inspect_ai._util.error import PrerequisiteError
    except ImportError:
        return error
    # As text, because a bare string would be read as markup.
    return cast(Exception, PrerequisiteError(Text(f"misalign-bench: {error}")))
