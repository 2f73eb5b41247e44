"""Figures on a page of the documentation stand between two comments and are written by a script.

``<!-- MARK -->`` opens such a place, the next ``<!-- end -->`` closes it.
"""

from __future__ import annotations

import re


def put_between(page: str, mark: str, text: str) -> str:
    r"""Return the page with this text in the place of that mark.

    Raises:
        SystemExit: the page has none or several such places.

    >>> put_between("<!-- table: a -->\nold\n<!-- end -->", "table: a", "new")
    '<!-- table: a -->\nnew\n<!-- end -->'
    """
    opening = f"<!-- {mark} -->\n"
    pattern = re.compile(f"{re.escape(opening)}.*?(?=<!-- end -->)", re.DOTALL)
    changed, found = pattern.subn(lambda _: f"{opening}{text}\n", page)
    if found != 1:
        raise SystemExit(f"the page has {found} places for {mark!r}")
    return changed
