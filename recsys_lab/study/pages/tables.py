"""The tables of a study's report. A table has the columns of its page and of its texts; who shows it takes his."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from recsys_lab.report.table import UNKNOWN, Cell, Column, Table, show
from recsys_lab.runs.comparison import Row
from recsys_lab.runs.comparison_table import COSTS, DETECTABLE, number_columns, test_columns, trained_on_column
from recsys_lab.statistics.pairs import Difference
from recsys_lab.study.pages.figures.order_change import order_table
from recsys_lab.study.pages.figures.share_heat import share_table, worlds_of
from recsys_lab.study.results import AxisEffect, Block, OrderAgreement, Record, Share, StudyResults
from recsys_lab.study.results.names import value_name
from recsys_lab.study.results.published import REACHED
from recsys_lab.study.results.trials import Trials
from recsys_lab.words import titled

MOST_ROWS = 60
"""Of a table in a text: beyond it the page, or results.parquet, is to be looked at."""
NOT_IN_TEXT = ("axis", "tokens/s", "best epoch", "other way", "changes", "started")
"""Columns that only the page has room for."""
HASHES = ("data", "vocabulary", "split")
SHARES = (
    "The mean of a variant divided by that of the model that knows the world, on the same targets. Intervals are over "
    "users and seeds, or over users where there is one seed."
)
TRIALS = (
    "Each system was trained with each of these settings. The one that is best on validation is its row in the tables "
    "above, and the others are in no test. A cell without a number was not run."
)
PUBLISHED = f"A number counts as reached at {1 - REACHED:.0%} of the published one or more. This is a rule and no test."


def ranking(block: Block, on_page: bool = False) -> Table:
    """Every row of the comparison, best first. On a page what decides stands first: a narrow window shows no more."""
    comparison = block.comparison
    lines = dict(zip(comparison.rows, block.lines, strict=True))
    best = [row for place, row in enumerate(comparison.rows) if comparison.is_significantly_best(place)]

    def name(row: Row) -> Cell:
        style = "bold" if row in best else "soft" if row.is_counted else ""
        return Cell(lines[row].name, "(untrained)" if row.is_counted else "", style=style)

    def best_epoch(row: Row) -> Cell:
        shown, trained = show(lines[row].best_epoch, ".0f"), show(lines[row].epochs, ".0f")
        return shown if trained.value is None else replace(shown, small=f"of {trained}")

    numbers, same = number_columns(comparison), "rows that share a letter do not differ significantly"
    columns = [
        Column("", "d", value=lambda row: comparison.rows.index(row) + 1),
        Column("variant", value=name),
        Column("seeds", "d", value=lambda row: None if row.is_counted else len(row.runs), spare=2),
        *trained_on_column(comparison),
        *numbers,
        Column("group", "", same, lambda row: lines[row].letters or UNKNOWN),
        Column("epochs", ",.0f", value=lambda row: None if row.is_counted else lines[row].epochs),
        Column("best epoch", ".0f", "from 0, and how many were trained; mean over seeds", best_epoch, 2),
        Column("stopped by", value=lambda row: ", ".join(lines[row].stopped_by), spare=2),
    ]
    metrics = [column.title for column in numbers[: len(comparison.metrics)]]
    deciding = titled(comparison.deciding, comparison.cutoff)
    if on_page:
        others = [title for title in metrics if title != deciding]
        order = ["variant", deciding, "behind best", "p", "group", *others, "d", DETECTABLE, "seeds", "trained on"]
        order += [*COSTS, "best epoch", "stopped by"]
    else:
        order = ["", "variant", "seeds", "trained on", *metrics, "group", "behind best", "p", "d", DETECTABLE]
        order += ["parameters", "seconds", "epochs", "stopped by"]
    return Table(columns, comparison.rows, f"Ranking on {block.title}", sorted_by=deciding).only(order)


def effects(block: Block, axes: Sequence[str]) -> Table:
    """Every pair of values of each axis: first those that were tested, the largest differences first."""
    comparison = block.comparison
    alpha, deciding, cutoff = comparison.method.alpha, comparison.deciding, comparison.cutoff
    by_pair: dict[tuple[str, str, str], dict[str, AxisEffect]] = {}  # an axis and two values -> metric -> effect
    for effect in block.effects:
        if effect.axis in axes:
            by_pair.setdefault((effect.axis, effect.a, effect.b), {})[effect.metric] = effect

    def place(of: dict[str, AxisEffect]) -> tuple[int, bool, float]:
        one = of[deciding]
        return axes.index(one.axis), bool(one.untested), -abs(one.difference)

    rows = sorted(by_pair.values(), key=place)

    def column(title: str, format: str, help: str, value: Callable[[AxisEffect], Any], extra: bool = False) -> Column:
        return Column(title, format, help, lambda of: value(of[deciding]), extra * 2)

    def spread(metric: str) -> Callable[[Any], Any]:
        return lambda of: of[metric].spread

    means = "mean over the settings of the other axes, interval over users and seeds"
    decides = f"over users and seeds, after correction; {titled(deciding, cutoff)} decides"
    paired, other = "of the other axes, in which the two values were paired", "significant with the other sign there"
    p, d, detectable = test_columns(lambda of: of[deciding])
    columns = [
        column("axis", "", "", lambda one: one.axis),
        column("difference", "", "", lambda one: f"{value_name(one.axis, one.a)} - {value_name(one.axis, one.b)}"),
        *(Column(titled(m, cutoff), "+.4f", means, spread(m), 3 * (m != deciding)) for m in (rows[0] if rows else ())),
        p,
        column("significant", ">", decides, lambda one: _significant(one, alpha)),
        d,
        column("settings", "d", paired, lambda one: len(one.settings), extra=True),
        column("sd settings", ".4f", "", lambda one: one.setting_deviation, extra=True),
        column("other way", "", other, lambda one: ", ".join(one.reversed_settings) or "none", extra=True),
        detectable,
    ]
    return Table(columns, rows, f"Effects of the axes on {block.title}")


def axes_of(block: Block) -> list[str]:
    """Axes with an effect."""
    return list(dict.fromkeys(effect.axis for effect in block.effects))


def shares(results: StudyResults) -> Table:
    """What each variant reaches of the best possible score in each world."""

    def cell(place: int) -> Callable[[tuple[str, list[Share | None]]], Any]:
        def show_share(row: tuple[str, list[Share | None]]) -> Any:
            share = row[1][place]
            return None if share is None else f"{share.mean:.3f} [{share.low:.3f}, {share.high:.3f}]"

        return show_share

    columns = [Column("variant", value=lambda row: row[0])]
    columns += [Column(world, ">", value=cell(place)) for place, world in enumerate(worlds_of(results))]
    return Table(
        columns, list(share_table(results).items()), f"Share of the best {titled(results.deciding, results.cutoff)}"
    )


def orders(results: StudyResults) -> Table:
    """How far two blocks agree about the order, and which changes of it are significant."""
    titles = {block.key: block.title for block in results.blocks}

    def seeds(one: OrderAgreement) -> str:
        return f"{show(one.seed_tau_a, '.2f')} / {show(one.seed_tau_b, '.2f')}"

    def changes(one: OrderAgreement) -> list[str]:
        return [f"{flip.first} > {flip.second}" for flip in one.flips if flip.is_significant]

    tau = "Kendall's tau-b between the two orders: 1 the same, \N{MINUS SIGN}1 reversed"
    chance = "between the orders of two seeds of the same block: what chance does"
    both = "pairs that differ significantly in both blocks"
    other = "better in the first block, worse in the second, both corrected"
    columns = [
        Column("blocks", value=lambda one: f"{titles[one.a]} / {titles[one.b]}"),
        Column("tau", ".2f", tau),
        Column("tau of seeds", ">", chance, seeds),
        Column("pairs", "d"),
        Column("significant in both", "d", both, lambda one: one.significant_pairs),
        Column("of these in another order", "d", other, lambda one: len(changes(one))),
        Column("changes", value=lambda one: "; ".join(changes(one)) or "none"),
    ]
    return Table(columns, results.orders, "Agreement about the order")


def ranks(results: StudyResults) -> Table:
    """Rank of each shared variant in each block."""
    titles = [block.title for block in results.blocks]
    columns = [Column("variant"), *(Column(title, "d", "rank, 1 = best") for title in titles)]
    rows = [{"variant": name, **dict(zip(titles, of, strict=True))} for name, of in order_table(results).items()]
    return Table(columns, rows, "Rank of each variant that several blocks hold")


def trials(results: StudyResults) -> Table:
    """What each trial reached on validation, and which stands in the tables above."""
    values = list(dict.fromkeys(value for one in results.trials for value in one.reached))
    columns = [
        Column("system"),
        *(Column(value, ".4f", results.select, partial(_reached, value=value)) for value in values),
        Column("spread", ".4f", "between the best and the worst of them"),
        Column("chosen"),
    ]
    return Table(columns, results.trials, f"{results.select} of each trial")


def published(results: StudyResults) -> Table:
    """Others' numbers beside ours. `PUBLISHED` says what `reached` means."""
    columns = [
        Column("variant"),
        Column("metric"),
        Column("published", ".4f", value=lambda one: one.number),
        Column("ours", ".4f", "mean over the seeds"),
        Column("difference", "+.1f %", "relative"),
        Column("reached", value=lambda one: {None: UNKNOWN, True: "yes", False: "no"}[one.reached]),
        Column("source"),
    ]
    return Table(columns, results.published, "Published numbers")


def calibration(block: Block) -> Table:
    """Of the rows that were measured; the other rows are left out."""
    names = {
        "nll": "log-loss of the next item, in nats",
        "brier": "Brier score",
        "ece": "calibration error of the first item, bins of equal width",
        "ece_equal_mass": "calibration error of the first item, bins of equal mass",
    }

    def mean(row: Row, name: str) -> float | None:
        values = [run.metrics[f"test/{name}"] for run in row.runs if f"test/{name}" in run.metrics]
        return sum(values) / len(values) if values else None

    lines = dict(zip(block.comparison.rows, block.lines, strict=True))
    columns = [Column("variant", value=lambda row: lines[row].name)]
    columns += [
        Column(name, ".4f", f"{text}, mean over seeds", partial(mean, name=name)) for name, text in names.items()
    ]
    return Table(columns, [row for row in lines if mean(row, "nll") is not None], f"Calibration on {block.title}")


def provenance(records: Sequence[Record], title: str = "") -> Table:
    """What each finished run was: everything that is needed to run it again, and to know that it is the same."""

    def run(record: Record) -> Cell:
        return Cell(f"{record.name}, seed {record.seed}", style="soft" if record.is_automatic else "")

    def hash_of(name: str) -> Callable[[Record], Cell]:
        return lambda record: _code(record.evaluation.get(name))

    columns = [
        Column("run", value=run),
        Column("commit", value=lambda one: _code(one.commit[:10], "(changed)" if one.is_dirty else "")),
        *(Column(name, value=hash_of(f"{name}_hash")) for name in HASHES),
        Column("started", value=lambda one: str(one.manifest.get("started", UNKNOWN))[:19].replace("T", " ")),
        Column("device", value=lambda one: str(one.manifest.get("device", UNKNOWN))),
        Column("folder", value=lambda one: _code(one.folder)),
        Column("command", value=lambda one: _code(one.command)),
    ]
    return Table(columns, records, title)


def missing(results: StudyResults) -> Table:
    """Planned runs without a result."""
    rows = [record for record in results.records if record.state != "finished"]
    columns = [Column("variant", value=lambda one: one.name), Column("seed", "d"), Column("state"), Column("reason")]
    columns.append(Column("folder", value=lambda one: _code(one.folder)))
    return Table(columns, rows, "Planned runs without a result")


def _reached(one: Trials, value: str) -> float | None:
    return one.reached.get(value)


def _code(value: object, small: str = "") -> Cell:
    return Cell(str(value), small, style="code") if value else Cell(UNKNOWN)


def _significant(tested: Difference, alpha: float) -> str:
    """yes, no, or why that can't be said."""
    return f"not tested ({tested.untested})" if tested.untested else "yes" if tested.is_significant(alpha) else "no"


def legend(results: StudyResults) -> list[str]:
    """How the tables are to be read."""
    name = results.decided_by
    comparisons = [block.comparison for block in results.blocks]
    has_bold = any(of.is_significantly_best(i) for of in comparisons for i in range(len(of.rows)))
    bold = "Bold: significantly better than every other row. " if has_bold else ""
    return [
        f"The brackets of a row are its {results.method.level} interval over users, of these trained models. sd is the "
        f"standard deviation over seeds. Rows that share a letter in the column group do not differ significantly in "
        f"{name}. A row with one seed is in no test. {bold}".rstrip(),
        f"The column behind best is the best row minus this one in {name}. Its interval and p are over users and "
        f"seeds, after correction. d is Cohen's d over users, and {DETECTABLE} is the minimum detectable effect.",
        "Seconds are counted until the fit ended, with validation. Baselines that are marked (untrained) take part in "
        "every comparison, and the best of them is tested with every row.",
        "The effect of an axis is the mean over all settings of the other axes in which both values were run, so only "
        f"this axis varies. The value that is better in {name} comes first. Intervals of other metrics are not "
        "corrected, and decide nothing.",
    ]
