"""Text of models, prompts and files stays text in everything that is written or printed.

Page, tables, card, CSV, LaTeX and terminal, each with texts drawn at random from what is special
there, and read back by a parser of that format where there is one.
"""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from injections import INJECTIONS, INVISIBLE
from misalign_bench.build.csv_cells import line, neutral, restored
from misalign_bench.build.readers import read_table
from misalign_bench.build.statistics_table import DomainRow, as_csv
from misalign_bench.cli.main import main
from misalign_bench.cli.render import json_out, plain, table
from misalign_bench.prompts.visible import UNSEEN, visible
from misalign_bench.report.card import escaped
from misalign_bench.report.page import _environment, json_block
from misalign_bench.report.result_tables import _latex, _markdown

pytestmark = pytest.mark.attack

Captured = pytest.CaptureFixture[str]

FORMULA = "=+-@\t\r\n＝＋－＠"
CORPUS = (
    *("</script><script>window.ran=1</script>", "<!--", "-->", "]]>", "<img src=x onerror=ran()>"),
    *("\" onmouseover='ran()' x=\"", "javascript:ran()", "&lt;b&gt;&amp;", "{{ 7 * 7 }}", "\u2028"),
    *('=HYPERLINK("http://x")', "+1+1", "@SUM(A1)", "-2+3|cmd", "＝1+1", "'=1", "''=1", "\t=1"),
    *(
        "\\input{/etc/passwd}",
        "\\write18{id}",
        "$x^2$",
        "% & # _ ~ ^ { }",
        "[5pt] x",
        "* x",
        "\\\\",
    ),
    *("a|b\n|---|\n# h", "![x](http://y)", "`c` <b>", "- list", "1. list", "+ x", "www.x.org"),
    *("\x1b[2J\x1b]0;title\x07", "\x9b31m", "\x1b]52;c;Y2F0\x07", "a\rb", "\x7f\x08", "\u202etxt"),
    *(one.response for one in INJECTIONS[::7]),
)
SPECIAL = "<>&\"'`/=+-@|#*_[](){}\\$%^~!:.,;\n\r\t0aé＝漢" + "".join(INVISIBLE)
texts = st.one_of(
    st.sampled_from(CORPUS), st.text(st.one_of(st.sampled_from(SPECIAL), st.characters()))
)
many = settings(max_examples=150, deadline=None)


def unseen(text: str) -> bool:
    """Whether something in it would act on a terminal or hide, line ends and tabs aside."""
    return UNSEEN.search(text) is not None


# --- the page


class Tags(HTMLParser):
    """Every tag with its attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@many
@given(texts)
def test_a_text_on_the_page_is_no_markup_and_opens_no_attribute(text: str) -> None:
    source = '<p title="{{ text }}">{{ text }}</p>'
    page = Tags(_environment().from_string(source).render(text=text))
    assert [tag for tag, _ in page.tags] == ["p"]
    assert page.tags[0][1] == {"title": visible(text)}
    assert page.text == visible(text)


@many
@given(texts, texts)
def test_a_data_block_ends_only_where_the_page_ends_it(name: str, text: str) -> None:
    block = json_block({name: [text, {"a": text}]})
    assert not set("<>&") & set(block)
    assert block.isascii()
    assert json.loads(block) == {visible(name): [visible(text), {"a": visible(text)}]}


# --- CSV


@many
@given(texts)
def test_no_cell_of_csv_begins_like_a_formula_and_reading_gives_the_text_back(text: str) -> None:
    cell = neutral(text)
    assert isinstance(cell, str)
    assert cell[:1] not in set(FORMULA)
    assert restored(cell) == text
    assert list(csv.reader([line([text, 1])])) == [[cell, "1"]] or "\0" in text


@pytest.mark.parametrize("sign", FORMULA, ids=ascii)
def test_every_sign_of_a_formula_is_made_text(sign: str) -> None:
    assert neutral(f"{sign}1+1") == f"'{sign}1+1"
    assert neutral(f"1{sign}1") == f"1{sign}1"


@many
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=4))
def test_dedup_writes_csv_that_is_safe_to_open_and_complete(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    from misalign_bench.build.readers import Table
    from misalign_bench.cli.dedup import _write_csv

    path = tmp_path_factory.mktemp("csv") / "out.csv"
    kept = [{"prompt": one, "=id": two} for one, two in rows]
    if any("\0" in text or not _encodes(text) for row in rows for text in row):
        return
    _write_csv(path, Table(["prompt", "=id"], kept))
    with path.open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell[:1] in set(FORMULA)]
    assert read_table(path).rows == kept


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def test_the_commands_write_no_formula(tmp_path: Path, capsys: Captured) -> None:
    prompts = tmp_path / "in.jsonl"
    planted = [
        f"{sign}1+1 is a formula for number {number}" for number, sign in enumerate("=+-@＝")
    ]
    prompts.write_text("".join(json.dumps({"prompt": one}) + "\n" for one in planted))
    assert main(["dedup", str(prompts), "--out", str(tmp_path / "d.csv"), "--verify", "0.99"]) == 0
    capsys.readouterr()
    with (tmp_path / "d.csv").open(encoding="utf-8", newline="") as file:
        cells = [row[0] for row in csv.reader(file)]
    assert cells == ["prompt", *(f"'{one}" for one in planted)]
    assert [row["prompt"] for row in read_table(tmp_path / "d.csv").rows] == planted


def test_classify_writes_no_formula(tmp_path: Path) -> None:
    from misalign_bench.cli.classify import _write_csv
    from misalign_bench.records import LabelledPrompt, Prompt
    from misalign_bench.taxonomy.loader import taxonomy

    row = LabelledPrompt(
        Prompt("@id", "=1+1", "", 0), (), tuple(0.0 for _ in taxonomy().domains), "=cluster"
    )
    _write_csv(tmp_path / "out.csv", [row], {})
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file))[1][:2] == ["'@id", "'=1+1"]


def test_the_table_of_domains_writes_no_formula() -> None:
    written = as_csv([DomainRow("=safety", "\t@name", *[0] * 8)]).decode()
    assert list(csv.reader(io.StringIO(written)))[1][:2] == ["'=safety", "'\t@name"]


# --- LaTeX and Markdown


@many
@given(texts)
def test_a_text_in_latex_holds_no_command_and_no_sign_of_its_own(text: str) -> None:
    shown = _latex(visible(text))
    left = re.sub(
        r"\\text(?:backslash|asciitilde|asciicircum|periodcentered)\{\}|\\ldots\{\}|\\[{}$&#_%]",
        "",
        shown,
    ).removeprefix("{}")
    assert not set("\\{}$&#_%~^\n\r") & set(left)
    assert not shown.startswith(("[", "*", "("))


def _rendered(source: str) -> str:
    markdown = pytest.importorskip("markdown_it", reason="no Markdown parser is installed")
    return str(markdown.MarkdownIt("commonmark").enable("table").render(source))


@pytest.mark.parametrize("write", [_markdown, escaped], ids=["results", "card"])
@many
@given(text=texts)
@example(text="a|b\n|---|\n# <script>")
@example(text="1. - + = x")
def test_a_text_in_a_markdown_table_is_one_cell_without_markup(write: Any, text: str) -> None:
    shown = write(visible(text))
    page = Tags(_rendered(f"| A | B |\n|---|---|\n| {shown} | end |\n"))
    allowed = ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td"]
    assert [tag for tag, _ in page.tags] == allowed
    assert page.text.split() == ["A", "B", *visible(text).split(), "end"]


@many
@given(texts)
def test_a_text_at_the_start_of_a_line_of_markdown_is_a_paragraph(text: str) -> None:
    page = Tags(_rendered(f"{_markdown(visible(text))} end\n"))
    assert [tag for tag, _ in page.tags] == ["p"]
    assert page.text.split() == [*visible(text).split(), "end"]
    assert "://" not in _markdown(text)


# --- the terminal


@many
@given(texts)
def test_a_printed_text_is_one_line_without_control(text: str) -> None:
    shown = plain(text)
    assert len(shown.splitlines()) <= 1
    assert not unseen(shown)
    assert "\t" not in shown


@pytest.mark.parametrize("text", CORPUS, ids=range(len(CORPUS)))
def test_json_on_a_terminal_is_text_and_the_same_value(text: str, capsys: Captured) -> None:
    value = {text: [text, {"deep": text}], "wide": "caf\u00e9 漢 👨\u200d👩"}
    json_out(value)
    shown = capsys.readouterr().out
    assert not unseen(shown)
    assert json.loads(shown) == value
    assert "caf\u00e9 漢 👨\u200d👩" in shown


def test_a_table_on_a_terminal_sends_nothing_of_its_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, follower = pty.openpty()
    monkeypatch.setenv("TERM", "xterm-256color")
    with os.fdopen(follower, "w", encoding="utf-8") as screen:
        monkeypatch.setattr("sys.stdout", screen)
        planted = [one for one in CORPUS if unseen(one)][:6]
        table([[one[:30], 1] for one in planted], ["text", "n"])
        screen.flush()
        monkeypatch.undo()
        sent = os.read(leader, 1 << 16).decode()
    os.close(leader)
    # What rich itself sends for the head of a table: bold and back.
    own = re.sub(r"\x1b\[[0-9;]*m", "", sent).replace("\r\n", "\n")
    assert len(planted) == 6
    assert not unseen(own)
    assert "⟦U+001B⟧" in own


@pytest.mark.parametrize("more", [[], ["--dropped"], ["--json"], ["--dropped", "--json"]])
def test_showing_a_planted_run_sends_no_control(
    tmp_path: Path, capsys: Captured, more: list[str]
) -> None:
    hostile = "".join(INVISIBLE[:-1]) + "\x1b[31m"
    rows = {name: [hostile] for name in ("id", "stage", "reason", "detail")}
    rows["reason"] = ["empty"]
    pq.write_table(pa.table(rows), tmp_path / "dropped.parquet")
    manifest: dict[str, Any] = {
        "status": hostile,
        "reason": hostile,
        "stages": {hostile: {hostile: hostile}},
    }
    manifest |= {"started": hostile, "version": hostile, "totals": [{"model": hostile}]}
    manifest |= {"project": "misalign-bench", "format": 1, "runs": 1, "history": []}
    manifest |= {"settings_digest": hostile}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert main(["show", str(tmp_path), *more]) == 0
    shown = capsys.readouterr()
    assert "U+009B" in shown.out or "\\u009b" in shown.out
    assert not unseen(shown.out + shown.err)


@pytest.mark.parametrize("command", ["stats", "validate", "dedup", "classify", "plan", "report"])
def test_an_error_about_a_planted_file_sends_no_control(
    command: str, tmp_path: Path, capsys: Captured
) -> None:
    name = "\x1b[31m\x9b\u202e\u200b.jsonl"
    path = tmp_path / name
    path.write_text(json.dumps({"\x9btext": "\x1b[2J"}) + "\n{\x1b[31m\n", encoding="utf-8")
    out = ["--out", str(tmp_path / "out.csv")] if command in ("dedup", "classify", "report") else []
    assert main([command, str(path), *out]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert not unseen(shown.out + shown.err)
