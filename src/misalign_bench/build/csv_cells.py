"""CSV cells that no spreadsheet runs, and back.

A cell that begins with a sign of a formula is run by the spreadsheet that opens it (CWE-1236). One
apostrophe before it makes it text; reading takes one away again, so that what this program wrote
comes back as it was. Texts for machines are better kept in JSON Lines or Parquet.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

# Signs in their full width too, which spreadsheets take for the narrow ones.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def line(cells: Iterable[object]) -> str:
    r"""One line of CSV, its end included.

    A carriage return is quoted like every other sign that ends a line for somebody; the module
    ``csv`` leaves it bare before Python 3.13, and a row of its own begins there.

    >>> line(["=1+1", 2, "a" + chr(13) + "=b", "c,d"])
    '\'=1+1,2,"a\r=b","c,d"\n'
    """
    out = io.StringIO()
    # What stands in the line's end is quoted.
    csv.writer(out, lineterminator="\r\n").writerow(map(neutral, cells))
    return f"{out.getvalue()[:-2]}\n"


def neutral(value: object) -> object:
    """The cell without anything that a spreadsheet would run as a formula.

    >>> neutral("=1+1"), neutral("-"), neutral(-1), neutral("a=b")
    ("'=1+1", "'-", -1, 'a=b')
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def restored(cell: str) -> str:
    """The text that ``neutral`` made this cell of.

    >>> restored("'=1+1"), restored("''-"), restored("'tis"), restored("-")
    ('=1+1', "'-", "'tis", '-')
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
