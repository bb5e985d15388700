"""The tables of a study's report as cells, for Markdown and LaTeX alike."""

from __future__ import annotations

from collections.abc import Sequence

from recsys_lab.report.layout import Cells
from recsys_lab.runs.comparison_table import DETECTABLE, difference_text, mean_cell, number, p_text
from recsys_lab.statistics.pairs import Difference
from recsys_lab.study.results import AxisEffect, Block, CriticalDifference, Front, Record, StudyResults
from recsys_lab.study.results.names import value_name
from recsys_lab.study.results.published import REACHED

LEFT = (
    "variant",
    "group",
    "difference",
    "trained on",
    "blocks",
    "stopped by",
    "system",
    "check",
    "meaning",
    "run",
    "commit",
    "data",
)
MOST_ROWS = 60
"""Of a table in a text: beyond it the page, or results.parquet, is to be looked at."""


def ranking(block: Block, results: StudyResults) -> list[Cells]:
    """Every row of the comparison, best first."""
    comparison, metric = block.comparison, results.deciding
    found = []
    for i, (line, row) in enumerate(zip(block.lines, comparison.rows, strict=True)):
        is_best = comparison.is_significantly_best(i)
        name = f"{line.name} (untrained)" if row.is_counted else line.name
        cells = {"": str(i + 1), "variant": f"**{name}**" if is_best else name}
        cells["seeds"] = "-" if row.is_counted else str(len(row.runs))
        if any(one.trained_on for one in comparison.rows):
            cells["trained on"] = row.trained_on or "-"
        for one in results.metrics:
            cells[f"{one}@{results.cutoff}"] = mean_cell(
                row.estimates[one].mean, *row.intervals[one], row.seed_deviation[one]
            )
        cells["group"] = line.letters or "-"
        pair = row.against.get(metric)
        cells["behind best"] = difference_text(pair.turned()) if pair else "-"
        cells["p"] = p_text(pair.p_corrected, pair.untested) if pair else "-"
        cells["d"] = number(pair.effect_size, "+.2f") if pair else "-"
        cells[DETECTABLE] = number(pair.detectable) if pair else "-"
        cells["parameters"] = whole(row.mean_of("parameters"))
        cells["seconds"] = whole(row.mean_of("train_seconds"))
        cells["epochs"] = whole(line.epochs) if not row.is_counted else "-"
        cells["stopped by"] = ", ".join(line.stopped_by)
        found.append(cells)
    return found


def effects(block: Block, axis: str, results: StudyResults) -> list[Cells]:
    """Every pair of values of an axis, the largest differences first."""
    by_pair: dict[tuple[str, str], dict[str, AxisEffect]] = {}
    for effect in block.effects:
        if effect.axis == axis:
            by_pair.setdefault((effect.a, effect.b), {})[effect.metric] = effect
    found = []
    for (a, b), of in sorted(by_pair.items(), key=lambda one: -abs(one[1][results.deciding].difference)):
        main = of[results.deciding]
        cells = {"difference": f"{value_name(axis, a)} - {value_name(axis, b)}"}
        for metric, effect in of.items():
            cells[f"{metric}@{results.cutoff}"] = difference_text(effect)
        cells["p"] = p_text(main.p_corrected, main.untested)
        cells["significant"] = significant_text(main, results.method.alpha)
        cells["d"] = number(main.effect_size, "+.2f")
        cells["settings"] = str(len(main.settings))
        cells["sd settings"] = number(main.setting_deviation)
        cells[DETECTABLE] = number(main.detectable)
        found.append(cells)
    return found


def orders(results: StudyResults) -> list[Cells]:
    titles = {block.key: block.title for block in results.blocks}
    return [
        {
            "blocks": f"{titles[one.a]} / {titles[one.b]}",
            "tau": number(one.tau, ".2f"),
            "tau of seeds": f"{number(one.seed_tau_a, '.2f')} / {number(one.seed_tau_b, '.2f')}",
            "pairs": str(one.pairs),
            "significant in both": str(one.significant_pairs),
            "of these in another order": str(sum(flip.is_significant for flip in one.flips)),
        }
        for one in results.orders
    ]


PUBLISHED = f"reached: at least {1 - REACHED:.0%} of the published number; a rule, not a test."


def published(results: StudyResults) -> list[Cells]:
    """Others' numbers beside ours. `PUBLISHED` says what `reached` means."""
    return [
        {
            "variant": one.variant,
            "metric": one.metric,
            "published": number(one.number),
            "ours": number(one.ours),
            "difference": "-" if one.difference is None else f"{one.difference:+.1f} %",
            "reached": {None: "-", True: "yes", False: "no"}[one.reached],
            "source": one.source,
        }
        for one in results.published
    ]


def mean_ranks(diagram: CriticalDifference) -> list[Cells]:
    groups = {
        i: "".join(chr(97 + g % 26) for g, of in enumerate(diagram.groups) if i in of)
        for i in range(len(diagram.names))
    }
    return [
        {"system": name, "mean rank": f"{place:.2f}", "group": groups[i] or "-"}
        for i, (name, place) in enumerate(zip(diagram.names, diagram.places, strict=True))
    ]


def front(of: Front, results: StudyResults) -> list[Cells]:
    """The rows on the front, cheapest first."""
    title = {"train_seconds": "seconds"}.get(of.cost, of.cost)
    return [
        {
            "variant": point.name,
            title: whole(point.cost),
            f"{of.metric}@{results.cutoff}": mean_cell(point.value, point.low, point.high, None),
        }
        for point in sorted(of.points, key=lambda point: point.cost)
        if point.is_on_front
    ]


def calibration(block: Block) -> list[Cells]:
    found = []
    for entry in block.calibration:
        cells = {"variant": entry.name, "seeds": str(entry.seeds)}
        for name in ("nll", "brier", "ece", "ece_equal_mass"):
            cells[name] = number(entry.before.get(name))
            cells[f"{name} fitted"] = number(entry.after.get(name))
        cells["temperature"] = number(entry.temperature, ".3f")
        found.append(cells)
    return found


def provenance(records: Sequence[Record]) -> list[Cells]:
    return [
        {
            "run": f"{record.name}, seed {record.seed}",
            "commit": record.commit[:10] + (" (changed)" if record.is_dirty else "") or "-",
            "data": str(record.evaluation.get("data_hash", "-")),
            "vocabulary": str(record.evaluation.get("vocabulary_hash", "-")),
            "split": str(record.evaluation.get("split_hash", "-")),
            "device": str(record.manifest.get("device", "-")),
            "folder": str(record.folder),
            "command": f"`{record.command}`" if record.command else "-",
        }
        for record in records
    ]


def significant_text(tested: Difference, alpha: float) -> str:
    """yes, no, or why that can't be said."""
    return tested.untested and f"not tested ({tested.untested})" or ("yes" if tested.is_significant(alpha) else "no")


def whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def cut(cells: list[Cells]) -> tuple[list[Cells], str]:
    """The first rows of a long table, and what to say of the rest."""
    if len(cells) <= MOST_ROWS:
        return cells, ""
    return cells[:MOST_ROWS], f"the first {MOST_ROWS} of {len(cells)} rows"


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
