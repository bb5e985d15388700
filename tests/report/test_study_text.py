"""Markdown and LaTeX of a study: every part is there, names that could break them don't."""

from __future__ import annotations

import re

import pytest
from made_results import NASTY, made_results, made_tuning

from recsys_lab.report.escapes import plain, prose
from recsys_lab.study.pages.latex import as_latex, as_macros
from recsys_lab.study.pages.markdown import as_markdown
from recsys_lab.study.pages.tables import MOST_ROWS
from recsys_lab.study.results import StudyResults
from recsys_lab.study.results.names import anchor


@pytest.fixture(scope="module")
def results() -> StudyResults:
    return made_results(blocks=3)


def test_markdown_has_every_part(results: StudyResults) -> None:
    shown = as_markdown(results)
    assert shown.startswith(f"# {prose(results.name)}\n") and f"**{prose(results.answer.sentence)}**" in shown
    for text in (results.question, results.multiplicity, *(caution.text for caution in results.cautions)):
        assert prose(text) in shown
    for block in results.blocks:
        assert f"## {block.title}\n" in shown
        for line, row in zip(block.lines, block.comparison.rows, strict=True):
            assert plain(line.name) in shown and f"{row.estimates['ndcg'].mean:.4f}" in shown
        for record in block.records:
            assert str(record.folder) in shown
    for heading in ("Effect of encoder", "Order of the variants", "Calibration", "Where it comes from"):
        assert heading in shown, heading


def test_a_brief_one_is_for_a_readme(results: StudyResults) -> None:
    brief = as_markdown(results, brief=True)
    assert prose(results.answer.sentence) in brief and "Effect of encoder" in brief
    assert str(results.records[0].folder) not in brief and len(brief) < len(as_markdown(results)) / 1.5


def test_every_table_row_has_as_many_cells_as_its_head(results: StudyResults) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", as_markdown(results), flags=re.MULTILINE)
    assert len(tables) > 8
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


def test_latex_is_balanced_and_escaped(results: StudyResults) -> None:
    shown = as_latex(results)
    code = "\n".join(line for line in shown.splitlines() if not line.startswith("%"))
    for name in ("table", "tabular"):
        assert code.count(rf"\begin{{{name}}}") == code.count(rf"\end{{{name}}}") > len(results.blocks)
    bare = re.sub(r"\\[\\&%$#_{}]", "", code)
    assert bare.count("{") == bare.count("}")
    assert r"\toprule" in code and r"\bottomrule" in code and r"\caption{" in code
    assert NASTY not in code and r"\&amp;" in code and r"\textless{}b" in code
    rows = [line for line in code.splitlines() if line.endswith(r"\\")]
    assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows[:5]}) == 1
    labels = re.findall(r"\\label\{(.*?)\}", code)
    assert len(labels) == len(set(labels)) and all(re.fullmatch(r"tab:[A-Za-z0-9_-]+", label) for label in labels)


def test_numbers_by_name_for_a_paper(results: StudyResults) -> None:
    shown = as_macros(results)
    assert NASTY not in shown and shown.count("providecommand") == 1
    defined = dict(re.findall(r"csname result:([\w@/-]+)\\endcsname\{(-?[\d.]+)\}$", shown, flags=re.MULTILINE))
    rows = sum(len(block.comparison.rows) * len(block.comparison.metrics) for block in results.blocks)
    assert len(defined) == 3 * rows == len(shown.splitlines()) - 2
    block = results.blocks[0]
    row, line = block.comparison.rows[0], block.lines[0]
    key = f"{block.key}/{anchor(line.name)}/ndcg@10"
    assert defined[key] == f"{row.estimates['ndcg'].mean:.4f}"
    assert defined[f"{key}/low"] == f"{row.intervals['ndcg'][0]:.4f}"


def test_a_tuned_study_says_what_its_searches_found(results: StudyResults) -> None:
    tuning = made_tuning()
    shown = as_markdown(results, tuning=tuning)
    assert "## Tuning\n\nThe expected best val/ndcg@10 after all trials is " in shown and "no test." in shown
    assert all(plain(search.label) in shown for search in tuning.searches) and "found settings" in shown


def test_a_caution_of_several_lines_stays_a_comment_in_latex() -> None:
    results = made_results()
    results.answer.sentence = "First.\nSecond % line."
    comments = as_latex(results).partition(r"\begin")[0]
    assert all(line.startswith("%") for line in comments.splitlines() if line)


def test_long_tables_are_cut_and_say_so() -> None:
    results = made_results(variants=MOST_ROWS + 20, blocks=1, seeds=1)
    rows = len(results.blocks[0].lines)
    assert f"(the first {MOST_ROWS} of {rows} rows)" in as_markdown(results)
    assert f"(The first {MOST_ROWS} of {rows} rows.)" in as_latex(results)
