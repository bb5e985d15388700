"""Names of runs and values of data in Markdown and CSV: no HTML, no formula, no end of a cell."""

from __future__ import annotations

import csv
import dataclasses
import io
import re

from made_results import NASTY, made_results

from recsys_lab.report.escapes import as_csv, plain, prose
from recsys_lab.report.table import Column, Table, markdown
from recsys_lab.study.pages.markdown import as_markdown

BAD = "<img src=x onerror=alert(1)> | <script>alert('&')</script>\n# title"


def test_markdown_holds_no_html() -> None:
    table = markdown(Table([Column("variant"), Column("ndcg", ".1f")], [{"variant": BAD, "ndcg": 0.1}]))
    assert "<" not in table and len(table.splitlines()) == 3
    assert table.splitlines()[2].replace(r"\|", "").count("|") == 3, "it stays in its cell"
    assert plain("a & b < c") == "a &amp; b &lt; c"


def test_csv_holds_no_formula_and_numbers_stay_numbers() -> None:
    rows = [{"variant": text, "difference": -0.5} for text in ("=cmd|' /C calc'!A0", "+1", "-1", "@x", "\tx", "plain")]
    read = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert all(row["variant"][0] not in "=+-@\t" for row in read) and read[-1]["variant"] == "plain"
    assert {float(row["difference"]) for row in read} == {-0.5}


def test_a_report_holds_no_html_but_its_own() -> None:
    """Its name, question, cautions and notes are texts of others, too."""
    results = made_results()
    results = dataclasses.replace(results, name=BAD, question=f"{BAD} Which is better?")
    blocks = [dataclasses.replace(block, title=BAD, notes=[BAD, NASTY]) for block in results.blocks]
    text = as_markdown(dataclasses.replace(results, blocks=blocks))
    tags = set(re.findall(r"<[A-Za-z/!?][^>]*>?", text))
    assert tags <= {"<details>", "<summary>", "</summary>", "</details>"}
    assert [line for line in text.splitlines() if line.startswith("# ")] == [f"# {prose(BAD)}"]


def test_prose_keeps_what_is_no_tag() -> None:
    assert prose("p < .05, a<1,\n3 > 2 & more") == "p < .05, a<1, 3 > 2 & more"
