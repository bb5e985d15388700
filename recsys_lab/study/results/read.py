"""From a plan to its results."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations

from recsys_lab.runs.comparison import deciding, find_against, metrics_of
from recsys_lab.runs.finished import Run, UnreadableRunError
from recsys_lab.statistics.pairs import Difference, Method, correct
from recsys_lab.study.plan import Plan, PlannedRun
from recsys_lab.study.results.answer import find_answer
from recsys_lab.study.results.block import Block
from recsys_lab.study.results.block_results import (
    Automatic,
    Setting,
    find_letters,
    group_runs,
    measure_block,
    with_parts,
)
from recsys_lab.study.results.cautions import find_cautions
from recsys_lab.study.results.effects import find_reversals
from recsys_lab.study.results.names import anchor, unique
from recsys_lab.study.results.order_agreement import OrderAgreement, agreement
from recsys_lab.study.results.published import find_published
from recsys_lab.study.results.record import Record
from recsys_lab.study.results.shares import find_shares
from recsys_lab.study.results.study_results import Answer, StudyResults
from recsys_lab.study.results.trials import Trials, keep_best
from recsys_lab.words import RecsysLabError


def read_results(
    plan: Plan,
    automatic: Automatic | None = None,
    method: Method | None = None,
    cutoff: int | None = None,
    metrics: Sequence[str] = (),
) -> StudyResults:
    """Reads every finished run of a plan once and compares what is comparable.

    Args:
        plan: of `make_plan`.
        automatic: gives the counted baselines of a block; None leaves them out.
        method: of intervals and tests.
        cutoff: K of the metrics; None = that of the study's `select`.
        metrics: which are shown; none = the usual ones of the study's task.

    Raises:
        RecsysLabError: when no run is finished, or for an unknown metric.
    """
    study, method = plan.study, method or Method()
    records = [_record(run) for run in plan.runs]
    runs, compared = _read_runs(plan, records), records
    trials: list[Trials] = []
    axes = {axis: [value.label for value in values] for axis, values in study.axes.items()}
    if best_of := study.report.get("best_of"):
        compared, runs, trials = keep_best(records, runs, best_of, study.select)
        del axes[best_of]
    groups = group_runs(*with_parts(compared, runs))
    if not groups:
        states = ", ".join(f"{count} {state}" for state, count in sorted(plan.counts().items()))
        raise RecsysLabError(
            f"the study {study.name!r} has no finished run, so there is nothing to report ({states}). "
            f"Run it first: recsys-lab study run {study.file}"
        )
    settings = [
        Setting(
            axes=axes,
            select=study.select,
            cutoff=(cutoff or _cutoff(study.select)) if group.runs[0].has_cutoff else 0,
            metrics=metrics_of(group.runs, metrics),
            method=method,
        )
        for group in groups
    ]
    selected = study.select.rpartition("/")[2].partition("@")[0]
    setting = next((one for one in settings if selected in one.metrics), settings[0])
    decide = dict.fromkeys(deciding(one.metrics) for one in settings)
    blocks = [measure_block(group, of, automatic) for group, of in zip(groups, settings, strict=True)]
    _name_blocks(blocks)
    correct([pair for block in blocks for pair in block.comparison.pairs], method.alpha, *decide)
    correct([effect for block in blocks for effect in block.effects], method.alpha, *decide)
    for block in blocks:
        find_against(block.comparison)
        find_reversals(block)
        find_letters(block)
        block.shares = find_shares(block)
    commits = Counter(record.commit for record in records if record.state == "finished" and record.commit)
    blocks_of = {one.folder: one.block for one in compared}
    for record in records:
        record.block = blocks_of.get(record.folder, "")  # of a chosen trial, whose record here is another one
    records += [record for block in blocks for record in block.records if record.is_automatic]
    results = StudyResults(
        name=study.name,
        question=study.question,
        file=study.file,
        select=study.select,
        axes=setting.axes,
        states=plan.counts(),
        planned=len(plan.runs),
        commits=[commit for commit, _ in commits.most_common()],
        generated=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        cutoff=setting.cutoff,
        metrics=setting.metrics,
        deciding=deciding(setting.metrics),
        method=method,
        blocks=blocks,
        orders=_orders(blocks, method.alpha),
        records=records,
        multiplicity=multiplicity(blocks, method),
        answer=Answer(""),
        published=find_published(plan, blocks),
        trials=trials,
    )
    results.cautions = find_cautions(results, plan.refusals)
    results.answer = find_answer(results, plan.study.report.get("asks", ()))
    return results


def multiplicity(blocks: list[Block], method: Method) -> str:
    """What is corrected for what."""

    def count(tested: Iterable[Difference]) -> int:
        return sum(not math.isnan(one.p_corrected) for one in tested)

    pairs = count(pair for block in blocks for pair in block.comparison.pairs)
    effects = count(effect for block in blocks for effect in block.effects)
    metric = " or ".join(dict.fromkeys(block.decided_by for block in blocks))
    alpha = 100 * method.alpha
    lines = [
        f"All {pairs:,} tests of pairs of variants in {metric}, on all data sets and splits, are one family. Holm's "
        f"method corrects them together, so the chance of even one false difference among them is at most {alpha:g} %. "
        "Letters, and what is said of single variants and of their order, are from these tests."
    ]
    if effects:
        lines.append(
            f"All {effects:,} tests of axis effects in {metric} are a second family, which is corrected by itself. So "
            "the number of variants does not weaken the test of an axis. Over both families the chance of a false "
            f"difference is at most {2 * alpha:g} %."
        )
    lines.append(
        "The interval of a difference is at the level of its step in Holm's procedure, so it excludes 0 exactly when "
        "the difference is significant. Other metrics are nearly the same number again. They are shown with "
        "uncorrected intervals, and decide nothing. Slices, calibration, curves and fronts are for exploring, and "
        "their differences are not corrected over the study. A difference is tested over users and seeds together: its "
        "variance is that of the paired differences over users, averaged over seeds, plus that over the seeds of each "
        "system. A variant with one seed is in no test."
    )
    return " ".join(lines)


def _cutoff(select: str) -> int:
    found = re.search(r"@(\d+)$", select)
    return int(found[1]) if found else 10


def _record(run: PlannedRun) -> Record:
    variant = run.variant
    record = Record(variant.label, variant.label, variant.values, run.seed, run.state, run.folder, variant.identity)
    if run.state != "finished":
        record.manifest = run.manifest
        record.reason = run.error or {"missing": "not run yet", "running": "is running"}.get(run.state, run.state)
    return record


def _read_runs(plan: Plan, records: list[Record]) -> list[Run | None]:
    """The finished ones; what can't be read becomes a record in the state `unreadable`."""
    found: list[Run | None] = []
    for planned, record in zip(plan.runs, records, strict=True):
        run: Run | None = None
        if record.state == "finished":
            try:
                run = planned.read()
                # names of today's study file: a renamed variant keeps its folder and the manifest that lies there
                run.manifest.update(study=plan.study.name, variant=record.label, seed=record.seed)
                record.manifest, record.metrics = run.manifest, run.metrics
            except UnreadableRunError as error:
                record.state, record.reason = "unreadable", str(error)
        found.append(run)
    return found


def _name_blocks(blocks: list[Block]) -> None:
    titles: list[str] = []
    keys = unique([anchor(f"{block.dataset}--{block.split}{'-retrained' * block.is_retrained}") for block in blocks])
    for block, key in zip(blocks, keys, strict=True):
        block.key = key
        tasks = {one.decided_by for one in blocks if one.title == block.title}
        titles.append(f"{block.title} · {block.decided_by}" if len(tasks) > 1 else block.title)
        for record in block.records:
            record.block = key
    for block, title in zip(blocks, titles, strict=True):
        block.title = title


def _orders(blocks: list[Block], alpha: float) -> list[OrderAgreement]:
    alike = [(a, b) for a, b in combinations(blocks, 2) if a.decided_by == b.decided_by]
    found = [agreement(a, b, a.comparison.deciding, alpha) for a, b in alike]
    return [one for one in found if one is not None]
