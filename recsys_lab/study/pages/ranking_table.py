"""The ranking of a block as a table of the page: the columns that decide first."""

from __future__ import annotations

import math

from recsys_lab.runs.comparison import Row as Compared
from recsys_lab.runs.comparison_table import DETECTABLE
from recsys_lab.study.pages.tables import Cell, Column, Row, SortedTable, difference, number, p_value
from recsys_lab.study.results import Block


def ranking_table(block: Block) -> SortedTable:
    """All rows of a block, best first."""
    comparison = block.comparison
    deciding, cutoff = comparison.deciding, comparison.cutoff
    others = [name for name in comparison.metrics if name != deciding]
    level = f"{100 * (1 - comparison.method.alpha):g} % interval over users"
    best = comparison.rows[comparison.reference].variant
    best = block.lines[comparison.reference].name if block.lines else best
    means = f"mean, {level} of these models; sd over seeds"
    columns = [  # what decides stands first: a narrow window shows no more
        Column("variant"),
        Column(f"{deciding}@{cutoff}", True, means),
        Column("behind best", True, f"{deciding}@{cutoff} of {best} minus this; interval over users and seeds"),
        Column("p", True, "over users and seeds, corrected"),
        Column("group", help="rows that share a letter do not differ significantly"),
        *(Column(f"{name}@{cutoff}", True, means) for name in others),
        Column("d", True, "effect size: difference over its standard deviation over users"),
        Column(DETECTABLE, True, "minimum detectable effect, at the same correction"),
        Column("seeds", True),
        Column("parameters", True),
        Column("seconds", True, "until the fit ended, validation included; mean over seeds"),
        Column("tokens/s", True),
        Column("best epoch", True, "from 0, and how many were trained; mean over seeds"),
        Column("stopped by"),
    ]

    def mean(row: Compared, name: str, is_bold: bool = False) -> Cell:
        low, high = row.intervals[name]
        small = "" if math.isnan(low) else f"[{low:.4f}, {high:.4f}]"
        deviation = row.seed_deviation[name]
        small += f" sd {deviation:.4f}" if deviation is not None and not row.is_counted else ""
        return number(row.estimates[name].mean, small=small, is_bold=is_bold)

    rows = []
    for place, (row, line) in enumerate(zip(comparison.rows, block.lines, strict=True)):
        pair = row.against.get(deciding)
        cells = [
            Cell(line.name, "baseline" if row.is_counted else ""),
            mean(row, deciding, comparison.is_significantly_best(place)),
            difference(pair.turned()) if pair else number(None),
            p_value(pair),
            Cell(line.letters or "\N{EN DASH}"),
            *(mean(row, name) for name in others),
            number(pair.effect_size if pair else None, "+.2f"),
            number(pair.detectable if pair else None),
            number(float(len(row.runs)), ".0f"),
            number(row.mean_of("parameters"), ",.0f"),
            number(row.mean_of("train_seconds"), ",.0f"),
            number(row.mean_of("tokens_per_second"), ",.0f"),
            number(line.best_epoch, ".0f", "" if line.epochs is None else f"of {line.epochs:.0f}"),
            Cell(", ".join(line.stopped_by)),
        ]
        rows.append(Row(cells, row.is_counted))
    return SortedTable(f"Ranking on {block.title}", columns, rows, sorted_by=1)
