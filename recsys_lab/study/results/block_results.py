"""One block measured: its comparison, effects, curves, slices and audit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from recsys_lab.diagnose.slice_values import Sliced, slices
from recsys_lab.runs.comparison import Comparison, compare, deciding
from recsys_lab.runs.comparison_row import Row
from recsys_lab.runs.finished import COMPARED, Run
from recsys_lab.statistics.letters import groups_of, letters_of
from recsys_lab.statistics.pairs import Method
from recsys_lab.study.results.block import SLICES, Block, Line
from recsys_lab.study.results.curve import Curve, read_curve
from recsys_lab.study.results.effects import axis_effects
from recsys_lab.study.results.facts import read_audit
from recsys_lab.study.results.names import Values, block_axes, joined, unique, varying_axes
from recsys_lab.study.results.record import Record
from recsys_lab.study.values import like_kept
from recsys_lab.words import RecsysLabError

Automatic = Callable[[Sequence[Run]], tuple[list[Run], list[str]]]
"""The runs of one block -> untrained baselines on the same targets, and a line for each that could not be had."""
SLICED_ROWS = 6
"""Best rows that are cut into slices, beside the best untrained baseline: more can't be read in one figure."""


@dataclass(frozen=True)
class Setting:
    """What is the same for all blocks."""

    axes: dict[str, list[str]]
    select: str
    cutoff: int
    metrics: tuple[str, ...]
    method: Method


@dataclass(frozen=True)
class Group:
    """Finished runs that are comparable. separating: axes that tell the groups of the study apart."""

    records: list[Record]
    runs: list[Run]
    separating: list[str]


def find_letters(block: Block) -> None:
    """From the corrected pairs of the deciding metric. Rows that were not tested (one seed, all baselines but the best)
    have none."""
    comparison = block.comparison
    tested = [pair for pair in comparison.pairs if pair.metric == comparison.deciding and not pair.untested]
    best_first = sorted({row for pair in tested for row in (pair.a, pair.b)})
    different = [(pair.a, pair.b) for pair in tested if pair.is_significant(comparison.method.alpha)]
    for row, letters in letters_of(best_first, groups_of(best_first, different)).items():
        block.lines[row].letters = letters


def with_parts(records: list[Record], runs: list[Run | None]) -> tuple[list[Record], list[Run | None]]:
    """And each further task of a run of several, as a run of that task alone: it stands in another block, beside
    those."""
    parts = [
        (replace(record), part)
        for record, run in zip(records, runs, strict=True)
        for part in (run.measured if run is not None else ())
    ]
    return [*records, *(record for record, _ in parts)], [*runs, *(part for _, part in parts)]


def group_runs(records: list[Record], runs: list[Run | None]) -> list[Group]:
    """Finished runs by all that must agree for two of them to be comparable, in the order of the plan."""
    first: dict[tuple[str, ...], Run] = {}
    found: dict[tuple[str, ...], tuple[list[Record], list[Run]]] = {}
    for record, run in zip(records, runs, strict=True):
        if run is None:
            continue
        agreed = (*(str(run.evaluation.get(name)) for name in COMPARED), str(run.is_retrained))
        run.share(first.setdefault(agreed, run))
        of_records, of_runs = found.setdefault((*agreed, run.targets_hash), ([], []))
        of_records.append(record)
        of_runs.append(run)
    axes = list(dict.fromkeys(axis for record in records for axis in record.values))
    separating = block_axes(axes, [[record.values for record in of] for of, _ in found.values()])
    return [Group(of_records, of_runs, separating) for of_records, of_runs in found.values()]


def measure_block(group: Group, setting: Setting, automatic: Automatic | None) -> Block:
    """Everything of a block that needs no other block; p values are those of its own comparison until they are
    corrected over the whole study."""
    counted, missing = automatic(group.runs) if automatic is not None else ([], [])
    for run in counted:
        run.share(group.runs[0])
    alike = like_kept([*group.runs, *counted])
    group, counted = replace(group, runs=alike[: len(group.runs)]), alike[len(group.runs) :]
    comparison = compare(group.runs, setting.cutoff, metrics=setting.metrics, method=setting.method, automatic=counted)
    rows, metric = comparison.rows, deciding(setting.metrics)
    lines = _lines(rows, group, setting)
    values: list[Values] = [line.values for line in lines]
    names = [line.name for line in lines]
    (_, sample) = comparison.samples[0]
    evaluation = comparison.evaluation
    first = group.records[0]
    block = Block(
        key="",
        title=_title(group.runs[0]),
        dataset=str(evaluation.get("dataset")),
        split=str(evaluation.get("split")),
        is_retrained=group.runs[0].is_retrained,
        values={axis: first.values[axis] for axis in group.separating if axis in first.values},
        comparison=comparison,
        lines=lines,
        effects=axis_effects(setting.axes, values, sample, metric),
        curves=_curves(comparison, names, setting.select),
        audit=read_audit(group.runs),
        records=_records(rows, lines, group),
        users=rows[0].estimates[metric].users,
        targets=len(rows[0].values[metric]),
        seed_means=_seed_means(rows, setting),
        missing=[f"{_title(group.runs[0])}: {line}" for line in missing],
    )
    comparison.samples.clear()  # the largest thing in memory, and not needed any more
    block.slices = _slices(block, names, setting)
    return block


def _seed_means(rows: list[Row], setting: Setting) -> list[dict[int, float]]:
    """Seed -> mean of the deciding metric, of each row; a row that counts has the same in every seed of the block."""
    metric, found = deciding(setting.metrics), []
    for row in rows:
        found.append({_seed(run): float(run.values(metric, setting.cutoff).mean()) for run in row.runs})
    seeds = {seed for means in found for seed in means}
    return [
        dict.fromkeys(seeds, next(iter(means.values()))) | means if row.is_counted else means
        for row, means in zip(rows, found, strict=True)
    ]


def _seed(run: Run) -> int:
    return int(run.manifest.get("seed") or 0)


def _title(run: Run) -> str:
    title = f"{run.evaluation.get('dataset')} · {run.evaluation.get('split')}"
    return f"{title} · retrained on training and validation part" if run.is_retrained else title


def _lines(rows: list[Row], group: Group, setting: Setting) -> list[Line]:
    by_label = {record.label: record.values for record in group.records}
    varying = varying_axes(list(setting.axes), list(by_label.values()))
    shared = [axis for axis in setting.axes if axis not in group.separating]
    lines = []
    for row in rows:
        values = {} if row.is_automatic else by_label[row.label]
        name = joined(values, varying) or (
            row.variant if row.is_automatic or len(by_label) > 1 else row.texts_of("model")
        )
        name += row.variant.removeprefix(row.label)  # what tells two systems of one variant apart
        line = Line(name, joined(values, shared) or (name if values else row.variant), values, row.label)
        line.seeds = sorted({_seed(run) for run in row.runs})
        line.stopped_by = sorted({str(run.manifest.get("stopped_by")) for run in row.runs})
        line.epochs, line.best_epoch = row.mean_of("epochs"), row.mean_of("best_epoch")
        lines.append(line)
    for name, match, line in zip(
        unique([one.name for one in lines]), unique([one.match for one in lines]), lines, strict=True
    ):
        line.name, line.match = name, match
    return lines


def _records(rows: list[Row], lines: list[Line], group: Group) -> list[Record]:
    planned = {run.folder: record for record, run in zip(group.records, group.runs, strict=True)}
    found = []
    for row, line in zip(rows, lines, strict=True):
        for run in sorted(row.runs, key=_seed):
            record = planned.get(run.folder)
            if record is None:
                record = Record(line.label, line.name, {}, _seed(run), "finished", run.folder, is_automatic=True)
                record.manifest, record.metrics = run.manifest, run.metrics
            record.name = line.name
            found.append(record)
    return found


def _curves(comparison: Comparison, names: list[str], metric: str) -> list[Curve]:
    found: list[Curve | None] = []
    for i, row in enumerate(comparison.rows):
        if not row.is_counted:
            own = [run for run in row.runs if not run.evaluation.get("name")]  # else chosen by another task's metric
            found += [read_curve(i, names[i], run, metric) for run in own]
    return [curve for curve in found if curve is not None]


def _slices(block: Block, names: list[str], setting: Setting) -> Sliced | None:
    """Of the best rows; None with a note where ranks.parquet holds too little."""
    rows = block.comparison.rows
    chosen = [row for row in rows if not row.is_automatic][:SLICED_ROWS]
    chosen += [row for row in rows if row.is_automatic][:1]
    try:
        found = slices(
            [run for row in chosen for run in row.runs],
            metric=deciding(setting.metrics),
            cutoff=setting.cutoff,
            method=setting.method,
        )
    except RecsysLabError as error:
        block.notes.append(f"{SLICES}none, since {error}")
        return None
    shown = [names[rows.index(row)] for row in chosen]  # the order of the runs is that of the rows
    for one in (found.overall, *found.slices):
        one.parts[:] = [replace(part, variant=name) for part, name in zip(one.parts, shown, strict=True)]
    if len(chosen) < len(rows):
        block.notes.append(f"{SLICES}the {len(chosen)} best of {len(rows)} rows, one untrained baseline among them")
    return found
