r"""The results of a study as LaTeX tables for \usepackage{booktabs}."""

from __future__ import annotations

from recsys_lab.report.escapes import latex_text
from recsys_lab.report.table import Table, latex, show
from recsys_lab.runs.comparison_table import DETECTABLE
from recsys_lab.study.pages import tables
from recsys_lab.study.results import StudyResults
from recsys_lab.study.results.names import anchor
from recsys_lab.words import number_of

NOT_SHOWN = ("", "seconds", "epochs", DETECTABLE, "settings", "d", *tables.NOT_IN_TEXT)
"""Columns that a paper's width has no room for; they are in the Markdown."""


def as_latex(results: StudyResults) -> str:
    """Rankings, effects of axes, and the order across blocks: one table environment each, to be put into a
    document that loads booktabs (and graphicx, which makes wide ones fit)."""
    name = results.decided_by
    comments = [
        f"study {results.name}, written {results.generated} by recsys-lab study report",
        results.answer.sentence,
        *(f"{caution.severity}: {caution.text}" for caution in results.cautions),
        results.multiplicity,
        r"\usepackage{booktabs,graphicx}",
    ]
    parts = ["\n".join(f"% {' '.join(comment.split())}" for comment in comments)]
    for block in results.blocks:
        seeds = max(len(row.runs) for row in block.comparison.rows)
        caption = (
            f"{block.title}: {block.targets:,} test targets, full ranking, {number_of(seeds, 'seed')}. "
            f"[low, high] of a row is its {results.method.level} interval over users of these trained models; sd over "
            f"seeds. Rows that share a letter do not differ significantly in {block.decided_by} "
            "(tests over users and seeds, Holm-corrected over the study)."
        )
        parts.append(_table(tables.ranking(block), caption, f"{results.name}-{block.key}"))
        for axis in tables.axes_of(block):
            caption = f"{block.title}: effect of {axis}, mean over the other axes; intervals over users and seeds."
            label = f"{results.name}-{block.key}-{axis}"
            parts.append(_table(tables.effects(block, [axis]), caption, label))
    if results.published:
        caption = f"Published numbers beside ours; {tables.PUBLISHED}"
        parts.append(_table(tables.published(results), caption, f"{results.name}-published"))
    if results.orders:
        caption = f"Order of the variants by {name} across blocks: Kendall's tau."
        parts.append(_table(tables.orders(results), caption, f"{results.name}-order"))
    return "\n\n".join(parts) + "\n"


def as_macros(results: StudyResults) -> str:
    r"""Every number of the rankings by a name, for the text of a paper: `\result{sasrec/ndcg@10}` is 0.0997, and
    `\result{sasrec/ndcg@10/low}` the lower end of its interval over users. In a study of several blocks the block's
    name stands first; the file lists all names."""
    lines = [
        f"% numbers of study {' '.join(results.name.split())}, written {results.generated} by recsys-lab study report",
        r"\providecommand{\result}[1]{\csname result:#1\endcsname}",
    ]
    for block in results.blocks:
        first = f"{block.key}/" if len(results.blocks) > 1 else ""
        for row, line in zip(block.comparison.rows, block.lines, strict=True):
            for name in block.comparison.metrics:
                low, high = row.intervals[name]
                key = f"{first}{anchor(line.name)}/{name}@{block.comparison.cutoff}"
                for part, value in (("", row.estimates[name].mean), ("/low", low), ("/high", high)):
                    lines.append(rf"\expandafter\def\csname result:{key}{part}\endcsname{{{show(value, '.4f')}}}")
    return "\n".join(lines) + "\n"


def _table(table: Table, caption: str, label: str) -> str:
    shown = table.without(NOT_SHOWN).first(tables.MOST_ROWS)
    caption = f"{caption} ({shown.note[0].upper()}{shown.note[1:]}.)" if shown.note else caption
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_text(caption)}}}",
            rf"\label{{tab:{anchor(label)}}}",
            r"\resizebox{\linewidth}{!}{%",
            latex(shown),
            "}",
            r"\end{table}",
        ]
    )
