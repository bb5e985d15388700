"""The tables of the page as plain cells: what is shown, and what a column is sorted by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recsys_lab.runs.comparison_table import DETECTABLE, p_text
from recsys_lab.statistics.pairs import Difference
from recsys_lab.study.pages.figures.order_change import order_table
from recsys_lab.study.pages.text.text_tables import significant_text
from recsys_lab.study.results import Block, Record, StudyResults

if TYPE_CHECKING:
    from recsys_lab.study.tune.results import TuningResults


@dataclass(frozen=True)
class Column:
    """help: what the numbers are, in a few words."""

    title: str
    is_number: bool = False
    help: str = ""


@dataclass(frozen=True)
class Cell:
    """text: shown. small: shown smaller behind it. value: what a number column is sorted by; None sorts last."""

    text: str
    small: str = ""
    value: float | None = None
    is_bold: bool = False
    is_code: bool = False


@dataclass(frozen=True)
class Row:
    cells: list[Cell]
    is_baseline: bool = False


@dataclass(frozen=True)
class SortedTable:
    """sorted_by: place of the column that the rows are sorted by as they come; None for none."""

    caption: str
    columns: list[Column]
    rows: list[Row]
    sorted_by: int | None = None
    descends: bool = True
    notes: list[str] = field(default_factory=list)


def number(value: float | None, format: str = ".4f", small: str = "", is_bold: bool = False) -> Cell:
    if value is None or not math.isfinite(value):
        return Cell("\N{EN DASH}")
    return Cell(f"{value:{format}}".replace("-", "\N{MINUS SIGN}"), small, float(value), is_bold)


def p_value(tested: Difference | None) -> Cell:
    """Corrected; where there is none, why."""
    if tested is None or math.isnan(tested.p_corrected):
        return Cell(tested.untested if tested and tested.untested else "\N{EN DASH}")
    return Cell(p_text(tested.p_corrected), value=tested.p_corrected)


def difference(tested: Difference) -> Cell:
    """With its interval, where it was tested."""
    interval = "" if math.isnan(tested.low) else f"[{tested.low:+.4f}, {tested.high:+.4f}]"
    return number(tested.difference, "+.4f", interval)


def effects_table(block: Block) -> SortedTable | None:
    """Every pair of values of every axis, in every metric."""
    if not block.effects:
        return None
    comparison = block.comparison
    cutoff, alpha = comparison.cutoff, comparison.method.alpha
    columns = [
        Column("axis"),
        Column("better \N{MINUS SIGN} other"),
        Column("metric"),
        Column("difference", True, "mean over the settings of the other axes, interval over users and seeds"),
        Column("significant", help=f"over users and seeds, after correction; {comparison.deciding}@{cutoff} decides"),
        Column("p", True, "corrected"),
        Column("d", True, "effect size over users"),
        Column("sd over settings", True),
        Column("settings", True, "of the other axes, in which the two values were paired"),
        Column("other way", True, "settings in which the difference is significant with the other sign"),
        Column(DETECTABLE, True, "minimum detectable effect, at the same correction"),
    ]
    rows = [
        Row(
            [
                Cell(e.axis),
                Cell(f"{e.a} \N{MINUS SIGN} {e.b}"),
                Cell(f"{e.metric}@{cutoff}"),
                difference(e),
                Cell(significant_text(e, alpha) if e.metric == comparison.deciding else "\N{EN DASH}"),
                p_value(e),
                number(e.effect_size, "+.2f"),
                number(e.setting_deviation),
                number(float(len(e.settings)), ".0f"),
                Cell(", ".join(e.reversed_settings) or "none", value=float(len(e.reversed_settings))),
                number(e.detectable),
            ]
        )
        for e in block.effects
    ]
    return SortedTable(f"Effects of the axes on {block.title}", columns, rows)


def ranks_table(results: StudyResults) -> SortedTable:
    """Rank of each shared variant in each block."""
    columns = [Column("variant"), *(Column(block.title, True, "rank, 1 = best") for block in results.blocks)]
    rows = [
        Row([Cell(name), *(number(None if rank is None else float(rank), ".0f") for rank in ranks)])
        for name, ranks in order_table(results).items()
    ]
    return SortedTable("Rank of each variant that several blocks hold", columns, rows)


def agreement_table(results: StudyResults) -> SortedTable | None:
    """How far two blocks agree about the order, and which changes of it are significant."""
    if not results.orders:
        return None
    titles = {block.key: block.title for block in results.blocks}
    columns = [
        Column("first"),
        Column("second"),
        Column("tau", True, "Kendall's tau-b between the two orders: 1 the same, \N{MINUS SIGN}1 reversed"),
        Column("tau of seeds", True, "between the orders of two seeds of the same block: what chance does"),
        Column("pairs", True, "and those that differ significantly in both blocks"),
        Column("significant changes", True, "better in the first block, worse in the second, both corrected"),
    ]
    rows = []
    for one in results.orders:
        flips = [f"{flip.first} > {flip.second}" for flip in one.flips if flip.is_significant]
        seeds = [f"{tau:.2f}" for tau in (one.seed_tau_a, one.seed_tau_b) if tau is not None]
        known = [tau for tau in (one.seed_tau_a, one.seed_tau_b) if tau is not None]
        rows.append(
            Row(
                [
                    Cell(titles.get(one.a, one.a)),
                    Cell(titles.get(one.b, one.b)),
                    number(one.tau, ".2f"),
                    Cell(", ".join(seeds) or "\N{EN DASH}", value=min(known) if known else None),
                    number(float(one.pairs), ".0f", f"{one.significant_pairs} significant in both"),
                    Cell("; ".join(flips) or "none", value=float(len(flips))),
                ]
            )
        )
    return SortedTable("Agreement about the order", columns, rows)


def published_table(results: StudyResults) -> SortedTable:
    """Others' numbers beside ours."""
    columns = [
        Column("variant"),
        Column("metric"),
        Column("published", True),
        Column("ours", True, "mean over the seeds"),
        Column("difference", True, "relative, in %"),
        Column("reached"),
        Column("source"),
    ]
    rows = [
        Row(
            [
                Cell(one.variant),
                Cell(one.metric),
                number(one.number),
                number(one.ours),
                number(one.difference, "+.1f"),
                Cell({None: "\N{EN DASH}", True: "yes", False: "no"}[one.reached]),
                Cell(one.source),
            ]
        )
        for one in results.published
    ]
    return SortedTable("Published numbers", columns, rows)


def calibration_table(block: Block) -> SortedTable | None:
    if not block.calibration:
        return None
    names = {
        "nll": ("log-loss (nats)", "of the next item"),
        "brier": ("Brier score", ""),
        "ece": ("ECE", "calibration error of the first item, bins of equal width"),
        "ece_equal_mass": ("ECE, equal mass", ""),
    }
    shown = [name for name in names if any(name in entry.before for entry in block.calibration)]
    columns = [Column("variant"), Column("seeds", True)]
    for name in shown:
        columns += [Column(names[name][0], True, names[name][1] or "as given")]
    has_after = any(entry.after for entry in block.calibration)
    if has_after:
        columns += [Column(f"{names[name][0]}, T fitted", True, "on the validation targets") for name in shown]
        columns.append(Column("temperature", True))
    rows = []
    for entry in block.calibration:
        cells = [Cell(entry.name), number(float(entry.seeds), ".0f")]
        cells += [number(entry.before.get(name)) for name in shown]
        if has_after:
            cells += [number(entry.after.get(name)) for name in shown]
            cells.append(number(entry.temperature, ".3f"))
        rows.append(Row(cells))
    return SortedTable(f"Calibration on {block.title}", columns, rows)


def records_table(caption: str, records: Sequence[Record]) -> SortedTable:
    """What each finished run was: everything that is needed to run it again, and to know that it is the same."""
    columns = [Column(title) for title in ("variant", "seed", "commit", "data", "split", "items", "started", "device")]
    columns += [Column("folder"), Column("command")]
    rows = []
    for record in records:
        found, evaluation = record.manifest, record.evaluation
        cells = [
            Cell(record.name, "baseline" if record.is_automatic else ""),
            Cell(str(record.seed)),
            Cell(record.commit[:10] or "\N{EN DASH}", "with changes" if record.is_dirty else "", is_code=True),
            *(Cell(str(evaluation.get(n, "")), is_code=True) for n in ("data_hash", "split_hash", "vocabulary_hash")),
            Cell(str(found.get("started", ""))[:19].replace("T", " ")),
            Cell(str(found.get("device", ""))),
            Cell(str(record.folder), is_code=True),
            Cell(record.command, is_code=True),
        ]
        rows.append(Row(cells, record.is_automatic))
    return SortedTable(caption, columns, rows)


def missing_table(results: StudyResults) -> SortedTable | None:
    """Planned runs without a result."""
    missing = [record for record in results.records if record.state != "finished"]
    if not missing:
        return None
    columns = [Column("variant"), Column("seed"), Column("state"), Column("reason"), Column("folder")]
    rows = [
        Row([Cell(r.name), Cell(str(r.seed)), Cell(r.state), Cell(r.reason), Cell(str(r.folder), is_code=True)])
        for r in missing
    ]
    return SortedTable("Planned runs without a result", columns, rows)


def tuning_table(tuning: TuningResults) -> SortedTable:
    """What each search found, by validation, and what the found settings came to on the test targets."""
    columns = [
        Column("search"),
        Column("trials", True, "that have ended"),
        Column(f"best {tuning.select}", True, "on the validation targets: the maximum of noisy values, so too high"),
        Column("default", True, "the study's own settings"),
        Column("pruned", True),
        Column("failed", True),
        Column("seconds", True),
        Column("found settings"),
    ]
    rows = []
    for search in tuning.searches:
        best, default = search.best, search.default
        settings = "" if best is None else ", ".join(f"{key} = {_short(v)}" for key, v in best.settings.items())
        rows.append(
            Row(
                [
                    Cell(search.label),
                    number(float(len(search.trials)), ".0f"),
                    number(best.value if best else None, small=f"trial {best.number}" if best else ""),
                    number(default.value if default else None),
                    number(float(search.count("pruned")), ".0f"),
                    number(float(search.count("failed")), ".0f"),
                    number(search.seconds, ",.0f"),
                    Cell(settings or ("its own settings" if best else "none yet"), is_code=bool(settings)),
                ]
            )
        )
    return SortedTable("Searches", columns, rows)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
