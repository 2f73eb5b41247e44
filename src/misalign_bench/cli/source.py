"""The options of commands that read a file of prompts, and the source settings they make."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from misalign_bench.errors import UserError

if TYPE_CHECKING:
    from misalign_bench.config import SourceSettings


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how the file is read."""
    parser.add_argument(
        "--prompt-column",
        default="prompt",
        metavar="NAME",
        help="the column that holds the prompt (default: %(default)s)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N rows only")
    parser.add_argument(
        "--any-language", action="store_true", help="keep prompts that are not in English"
    )


def source_of(arguments: argparse.Namespace) -> SourceSettings:
    """The source that the command line names.

    Raises:
        UserError: a value out of range.
    """
    from pydantic import ValidationError

    from misalign_bench.config import SourceSettings
    from misalign_bench.config_file import explain

    try:
        return SourceSettings(
            path=str(arguments.file),
            prompt_column=arguments.prompt_column,
            limit=arguments.limit,
            language=None if arguments.any_language else "en",
        )
    except ValidationError as error:
        raise UserError(explain(error)) from None
