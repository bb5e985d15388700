"""The tables of a study's report as cells, for Markdown and LaTeX alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

from recsys_lab.study.layout import Cells
from recsys_lab.study.results import AxisEffect, Block, CriticalDifference, Front, Record, StudyResults
from recsys_lab.study.results.names import value_name
from recsys_lab.study.results.published import REACHED
from recsys_lab.study.table import mean_cell

LEFT = ("variant", "group", "difference", "blocks", "stopped by", "system", "check", "meaning", "run", "commit", "data")
MOST_ROWS = 60
"""Of a table in a text: beyond it the page, or results.parquet, is to be looked at."""


def ranking(block: Block, results: StudyResults) -> list[Cells]:
    """Every row of the comparison, best first."""
    comparison, metric = block.comparison, results.deciding
    found = []
    for i, (line, row) in enumerate(zip(block.lines, comparison.rows, strict=True)):
        is_best = comparison.is_clearly_best(i, metric)
        name = f"{line.name} (counted)" if row.is_automatic else line.name
        cells = {"": str(i + 1), "variant": f"**{name}**" if is_best else name}
        cells["seeds"] = "-" if row.is_counted else str(len(row.runs))
        for one in results.metrics:
            cells[f"{one}@{results.cutoff}"] = mean_cell(
                row.estimates[one].mean, *row.intervals[one], row.seed_deviation[one]
            )
        cells["group"] = line.letters.get(metric) or "-"
        pair = row.against.get(metric)
        cells["vs best"] = f"{pair.difference:+.4f}" if pair else "-"
        cells["p"] = p_text(pair.p_corrected) if pair else "-"
        cells["d"] = f"{pair.effect_size:+.2f}" if pair else "-"
        cells["could see"] = f"{pair.smallest_detectable:.4f}" if pair else "-"
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
            text = f"{effect.difference:+.4f} [{effect.low:+.4f}, {effect.high:+.4f}], p {p_text(effect.p_corrected)}"
            cells[f"{metric}@{results.cutoff}"] = text
        cells["holds"] = "yes" if main.holds(results.method.alpha) else "no"
        cells["d"] = f"{main.effect_size:+.2f}"
        cells["sd seeds"] = number(main.seed_deviation)
        cells["settings"] = str(len(main.settings))
        cells["sd settings"] = number(main.setting_deviation)
        cells["could see"] = f"{main.smallest_detectable:.4f}"
        found.append(cells)
    return found


def orders(results: StudyResults) -> list[Cells]:
    titles = {block.key: block.title for block in results.blocks}
    return [
        {
            "blocks": f"{titles[one.a]} / {titles[one.b]}",
            "tau": number(one.tau, 2),
            "tau of seeds": f"{number(one.seed_tau_a, 2)} / {number(one.seed_tau_b, 2)}",
            "pairs": str(one.pairs),
            "told apart in both": str(one.significant_pairs),
            "of these flipped": str(sum(flip.is_significant for flip in one.flips)),
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
        cells["temperature"] = number(entry.temperature, 3)
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


def p_text(value: float) -> str:
    return "-" if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


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
    return [
        f"[low, high]: {level} interval over users; sd: over seeds. Rows that share a letter in `group` do not differ "
        f"in {name}. vs best, p, d, could see: {name} against the best variant, p after correction, Cohen's d over "
        "users, the smallest true difference found with power .8. Bold: best by more than a seed sd. seconds: until "
        "the fit ended, with validation. (counted): a baseline that takes part in every comparison; the best of them "
        "is tested against every row, the others are not.",
        "Effect of an axis: mean over all settings of the other axes in which both values were run, so that only this "
        "axis varies. holds: significant after correction, and larger than its sd over seeds.",
    ]
