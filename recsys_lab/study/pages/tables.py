"""The tables of a study's report. A table has the columns of its page and of its texts; who shows it takes his."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recsys_lab.report.table import UNKNOWN, Cell, Column, Table, show
from recsys_lab.runs.comparison_table import COSTS, DETECTABLE, metric_columns, row_values, test_columns, test_values
from recsys_lab.statistics.pairs import Difference
from recsys_lab.study.pages.figures.order_change import order_table
from recsys_lab.study.results import AxisEffect, Block, CriticalDifference, Front, Record, StudyResults
from recsys_lab.study.results.names import value_name
from recsys_lab.study.results.published import REACHED

MOST_ROWS = 60
"""Of a table in a text: beyond it the page, or results.parquet, is to be looked at."""
NOT_IN_TEXT = ("axis", "tokens/s", "best epoch", "other way", "changes", "started")
"""Columns that only the page has room for."""
PUBLISHED = f"reached: at least {1 - REACHED:.0%} of the published number; a rule, not a test."


def ranking(block: Block) -> Table:
    """Every row of the comparison, best first."""
    comparison = block.comparison
    rows = []
    for place, (line, row) in enumerate(zip(block.lines, comparison.rows, strict=True)):
        style = "bold" if comparison.is_significantly_best(place) else "soft" if row.is_counted else ""
        of = "" if line.epochs is None else f"of {show(line.epochs, '.0f')}"
        rows.append(
            row_values(row, comparison, "behind best")
            | {
                "": place + 1,
                "variant": Cell(line.name, "(untrained)" if row.is_counted else "", style=style),
                "seeds": None if row.is_counted else len(row.runs),
                "group": line.letters or UNKNOWN,
                "epochs": None if row.is_counted else line.epochs,
                "best epoch": Cell(show(line.best_epoch, ".0f").text, of, line.best_epoch),
                "stopped by": ", ".join(line.stopped_by),
            }
        )
    deciding = f"{comparison.deciding}@{comparison.cutoff}"
    best = block.lines[comparison.reference].name if block.lines else ""
    columns = [Column("", "d"), Column("variant"), Column("seeds", "d")]
    columns += [Column("trained on")] * any(row.trained_on for row in comparison.rows)
    columns += metric_columns(comparison)
    columns.append(Column("group", help="rows that share a letter do not differ significantly"))
    columns.append(
        Column("behind best", "+.4f", f"{deciding} of {best} minus this; interval over users and seeds"),
    )
    costs = {"seconds": "until the fit ended, validation included; mean over seeds"}
    columns += [*test_columns(), *(Column(title, ",.0f", costs.get(title, "")) for title in COSTS)]
    columns.append(Column("epochs", ",.0f"))
    columns.append(Column("best epoch", ".0f", "from 0, and how many were trained; mean over seeds"))
    return Table([*columns, Column("stopped by")], rows, f"Ranking on {block.title}", sorted_by=deciding)


def ranking_of_page(block: Block) -> Table:
    """What decides stands first: a narrow window shows no more."""
    table, comparison = ranking(block), block.comparison
    metrics = sorted(
        (column.title for column in metric_columns(comparison)), key=lambda title: title != table.sorted_by
    )
    first = ["variant", metrics[0], "behind best", "p", "group", *metrics[1:], "d", DETECTABLE, "seeds", "trained on"]
    return table.only([*first, *COSTS, "best epoch", "stopped by"])


def effects(block: Block, axis: str) -> Table:
    """Every pair of values of an axis, the largest differences first."""
    comparison = block.comparison
    alpha, deciding, cutoff = comparison.method.alpha, comparison.deciding, comparison.cutoff
    by_pair: dict[tuple[str, str], dict[str, AxisEffect]] = {}
    for effect in block.effects:
        if effect.axis == axis:
            by_pair.setdefault((effect.a, effect.b), {})[effect.metric] = effect
    rows = []
    for (a, b), of in sorted(by_pair.items(), key=lambda one: -abs(one[1][deciding].difference)):
        main = of[deciding]
        rows.append(
            {
                "axis": axis,
                "difference": f"{value_name(axis, a)} - {value_name(axis, b)}",
                **{f"{metric}@{cutoff}": effect.spread for metric, effect in of.items()},
                **test_values(main),
                "significant": _significant(main, alpha),
                "settings": len(main.settings),
                "sd settings": main.setting_deviation,
                "other way": ", ".join(main.reversed_settings) or "none",
            }
        )
    p, d, detectable = test_columns()
    means = "mean over the settings of the other axes, interval over users and seeds"
    metrics = next(iter(by_pair.values()), {})
    columns = [
        Column("axis"),
        Column("difference"),
        *(Column(f"{metric}@{cutoff}", "+.4f", means) for metric in metrics),
        p,
        Column("significant", ">", f"over users and seeds, after correction; {deciding}@{cutoff} decides"),
        d,
        Column("settings", "d", "of the other axes, in which the two values were paired"),
        Column("sd settings", ".4f"),
        Column("other way", help="settings in which the difference is significant with the other sign"),
        detectable,
    ]
    return Table(columns, rows)


def effects_of_page(block: Block) -> Table | None:
    """Those of all axes."""
    found = [effects(block, axis) for axis in axes_of(block)]
    rows = [row for table in found for row in table.rows]
    return Table(found[0].columns, rows, f"Effects of the axes on {block.title}") if found else None


def axes_of(block: Block) -> list[str]:
    """Axes with an effect."""
    return list(dict.fromkeys(effect.axis for effect in block.effects))


def orders(results: StudyResults) -> Table:
    """How far two blocks agree about the order, and which changes of it are significant."""
    titles = {block.key: block.title for block in results.blocks}
    rows = []
    for one in results.orders:
        flips = [f"{flip.first} > {flip.second}" for flip in one.flips if flip.is_significant]
        rows.append(
            {
                "blocks": f"{titles[one.a]} / {titles[one.b]}",
                "tau": one.tau,
                "tau of seeds": f"{show(one.seed_tau_a, '.2f')} / {show(one.seed_tau_b, '.2f')}",
                "pairs": one.pairs,
                "significant in both": one.significant_pairs,
                "of these in another order": len(flips),
                "changes": "; ".join(flips) or "none",
            }
        )
    columns = [
        Column("blocks"),
        Column("tau", ".2f", "Kendall's tau-b between the two orders: 1 the same, \N{MINUS SIGN}1 reversed"),
        Column("tau of seeds", ">", "between the orders of two seeds of the same block: what chance does"),
        Column("pairs", "d"),
        Column("significant in both", "d", "pairs that differ significantly in both blocks"),
        Column("of these in another order", "d", "better in the first block, worse in the second, both corrected"),
        Column("changes"),
    ]
    return Table(columns, rows, "Agreement about the order")


def ranks(results: StudyResults) -> Table:
    """Rank of each shared variant in each block."""
    titles = [block.title for block in results.blocks]
    columns = [Column("variant"), *(Column(title, "d", "rank, 1 = best") for title in titles)]
    rows = [{"variant": name, **dict(zip(titles, of, strict=True))} for name, of in order_table(results).items()]
    return Table(columns, rows, "Rank of each variant that several blocks hold")


def published(results: StudyResults) -> Table:
    """Others' numbers beside ours. `PUBLISHED` says what `reached` means."""
    columns = [Column("variant"), Column("metric"), Column("published", ".4f")]
    columns += [Column("ours", ".4f", "mean over the seeds"), Column("difference", "+.1f %", "relative")]
    rows = [
        {
            "variant": one.variant,
            "metric": one.metric,
            "published": one.number,
            "ours": one.ours,
            "difference": one.difference,
            "reached": {None: UNKNOWN, True: "yes", False: "no"}[one.reached],
            "source": one.source,
        }
        for one in results.published
    ]
    return Table([*columns, Column("reached"), Column("source")], rows, "Published numbers")


def mean_ranks(diagram: CriticalDifference) -> Table:
    groups = {
        i: "".join(chr(97 + g % 26) for g, of in enumerate(diagram.groups) if i in of)
        for i in range(len(diagram.names))
    }
    rows = [
        {"system": name, "mean rank": place, "group": groups[i] or UNKNOWN}
        for i, (name, place) in enumerate(zip(diagram.names, diagram.places, strict=True))
    ]
    return Table([Column("system"), Column("mean rank", ".2f"), Column("group")], rows)


def front(of: Front, results: StudyResults) -> Table:
    """The rows on the front, cheapest first."""
    cost, metric = {"train_seconds": "seconds"}.get(of.cost, of.cost), f"{of.metric}@{results.cutoff}"
    rows = [
        {"variant": point.name, cost: point.cost, metric: (point.value, point.low, point.high)}
        for point in sorted(of.points, key=lambda point: point.cost)
        if point.is_on_front
    ]
    return Table([Column("variant"), Column(cost, ",.0f"), Column(metric, ".4f")], rows)


def calibration(block: Block) -> Table:
    names = {
        "nll": "log-loss of the next item, in nats",
        "brier": "Brier score",
        "ece": "calibration error of the first item, bins of equal width",
        "ece_equal_mass": "calibration error of the first item, bins of equal mass",
    }
    columns = [Column("variant"), Column("seeds", "d")]
    for name, meaning in names.items():
        columns += [Column(name, ".4f", meaning), Column(f"{name} fitted", ".4f", "with the fitted temperature")]
    rows = [
        {
            "variant": entry.name,
            "seeds": entry.seeds,
            **{name: entry.before.get(name) for name in names},
            **{f"{name} fitted": entry.after.get(name) for name in names},
            "temperature": entry.temperature,
        }
        for entry in block.calibration
    ]
    columns.append(Column("temperature", ".3f", "fitted on the validation targets"))
    return Table(columns, rows, f"Calibration on {block.title}")


def provenance(records: Sequence[Record], title: str = "") -> Table:
    """What each finished run was: everything that is needed to run it again, and to know that it is the same."""

    def code(value: Any, small: str = "") -> Cell:
        return Cell(str(value), small, style="code") if value else Cell(UNKNOWN)

    names = {"data": "data_hash", "vocabulary": "vocabulary_hash", "split": "split_hash"}
    rows = [
        {
            "run": Cell(f"{record.name}, seed {record.seed}", style="soft" if record.is_automatic else ""),
            "commit": code(record.commit[:10], "(changed)" if record.is_dirty else ""),
            **{title: code(record.evaluation.get(name)) for title, name in names.items()},
            "started": str(record.manifest.get("started", UNKNOWN))[:19].replace("T", " "),
            "device": str(record.manifest.get("device", UNKNOWN)),
            "folder": code(record.folder),
            "command": code(record.command),
        }
        for record in records
    ]
    titles = ("run", "commit", *names, "started", "device", "folder", "command")
    return Table([Column(title) for title in titles], rows, title)


def missing(results: StudyResults) -> Table:
    """Planned runs without a result."""
    rows = [
        {
            "variant": record.name,
            "seed": record.seed,
            "state": record.state,
            "reason": record.reason,
            "folder": Cell(str(record.folder), style="code"),
        }
        for record in results.records
        if record.state != "finished"
    ]
    columns = [Column("variant"), Column("seed", "d"), Column("state"), Column("reason"), Column("folder")]
    return Table(columns, rows, "Planned runs without a result")


def _significant(tested: Difference, alpha: float) -> str:
    """yes, no, or why that can't be said."""
    return f"not tested ({tested.untested})" if tested.untested else "yes" if tested.is_significant(alpha) else "no"


def legend(results: StudyResults) -> list[str]:
    """How the tables are to be read."""
    level = f"{100 * (1 - results.method.alpha):g} %"
    name = f"{results.deciding}@{results.cutoff}"
    comparisons = [block.comparison for block in results.blocks]
    has_bold = any(of.is_significantly_best(i) for of in comparisons for i in range(len(of.rows)))
    bold = "Bold: significantly better than every other row. " if has_bold else ""
    return [
        f"[low, high] of a row: {level} interval over users of these trained models; sd: over seeds. group: rows that "
        f"share a letter do not differ significantly in {name}. behind best: the best row minus this one in {name}, "
        f"with interval and p over users and seeds, after correction; d: Cohen's d over users; {DETECTABLE}: the "
        f"minimum detectable effect. {bold}A row with one seed is in no test. seconds: until the fit ended, with "
        "validation. (untrained): a baseline without training; such baselines take part in every comparison, and the "
        "best of them is tested with every row.",
        "Effect of an axis: mean over all settings of the other axes in which both values were run, so that only this "
        f"axis varies; the better value in {name} comes first. Other metrics than {name} have uncorrected intervals "
        "and decide nothing.",
    ]
