"""`recsys-lab study ...`: ablations planned, run, tuned and reported."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from recsys_lab.arguments import Count, Level, Natural
from recsys_lab.cli.table_options import TableOptions
from recsys_lab.runs.messages import show_messages
from recsys_lab.study.launch.execute import Launch
from recsys_lab.study.plan.opened import Selection, StudyAsked, open_study, select
from recsys_lab.words import RecsysLabError


def plan(study: StudyAsked, selection: Selection, table: TableOptions) -> None:
    """Reads a study, checks every variant (unknown keys, wrong types, two variants alike, a model that can't be built)
    and prints each run with its state and an estimate of its time, from finished runs or from the cap trainer.max_time.
    Changes nothing.
    """
    from recsys_lab.report.escapes import as_json
    from recsys_lab.study.plan.plan_text import plan_record, plan_text

    as_records = table.format() == "json"
    found, _ = open_study(study)
    runs = select(found, selection)
    print(as_json(plan_record(found, runs)) if as_records else plan_text(found, runs, table.shown()))


def status(study: StudyAsked, selection: Selection, *, json: bool = False) -> None:
    """Says how far a study is: how many runs are in which state, what runs now, and what failed why. Changes
    nothing.

    Args:
        json: as JSON, with each run.
    """
    from recsys_lab.report.escapes import as_json
    from recsys_lab.report.terminal import wrapped
    from recsys_lab.study.plan.plan_text import plan_record, status_text

    found, _ = open_study(study, only_looks=True)
    runs = select(found, selection)
    print(as_json(plan_record(found, runs)) if json else wrapped(status_text(found, runs)))


def run(study: StudyAsked, selection: Selection, launch: Launch) -> None:
    """Runs what is missing of a study, each run as its own process with its output in its folder's log.txt. A finished
    run is never run again, one that was interrupted goes on from its last checkpoint, and a failed one stops no other
    (`study retry` runs it again). Ctrl-C leaves a study that the same command continues. Where a folder `values` lies
    beside the study file, what statistics need of each run is kept there as it ends; a run that is kept there counts as
    finished on every machine."""
    from recsys_lab.study.launch.execute import execute, undone
    from recsys_lab.study.plan.keep import keep_identities

    found, resolver = open_study(study)
    keep_identities(found.study, resolver)
    asked = select(found, selection)
    execute(found, undone(asked), resolver, launch, asked=asked)


def retry(study: StudyAsked, selection: Selection, launch: Launch, *, resume: bool = False) -> None:
    """Runs the failed runs of a study again, from the beginning; what they left is removed, their log is kept. With
    --resume they go on from their last checkpoint, where the failure was none of theirs (a full disk, memory).

    Args:
        resume: go on from the last checkpoint where there is one.
    """
    from recsys_lab.study.launch.execute import execute

    found, resolver = open_study(study)
    failed = [one for one in select(found, selection) if one.state == "failed"]
    execute(found, failed, resolver, launch, resume)


def tune(
    study: StudyAsked,
    *,
    trials: Count | None = None,
    workers: Count | None = None,
    threads: Count | None = None,
    gpus_per_run: Natural = 1,
    show: bool = False,
    json: bool = False,
) -> None:
    """Searches good settings for each value of the compared axis (or each variant) with the same number of trials.
    Trial 0 is the study's own settings; trials are compared by the validation metric and never tested. The same command
    goes on with what was interrupted, or with a larger budget, and may be started more than once, also on other
    machines that see the folder: all share the trials. What was found is written to ROOT/<study>/tune/best.yaml, a
    study file that every study command takes.

    Args:
        trials: of each search, instead of the file's budget.
        workers: trials at a time (default: one per GPU, or per 4 cores).
        threads: of each trial (default: the cores shared out).
        gpus_per_run: of each trial, for trainer.devices above 1.
        show: only print what the trials so far have found.
        json: with --show: as JSON, with each trial.
    """
    from recsys_lab.study.launch.local import make_places
    from recsys_lab.study.tune.tuning import tune as tuned
    from recsys_lab.study.tune.tuning import tuned_text

    if json and not show:
        raise RecsysLabError("--json is of what the trials have found: --show --json")
    found, resolver = open_study(study)
    if show:
        print(tuned_text(found, json))
        return
    tuned(found, resolver, trials, make_places(workers, threads, gpus_per_run))


def report(
    study: StudyAsked,
    *,
    output: str | None = None,
    cutoff: Count | None = None,
    alpha: Level = 0.05,
    baselines: Sequence[str] = (),
    no_baselines: bool = False,
    no_figures: bool = False,
    readme: bool = False,
    wandb: bool = False,
) -> None:
    """Writes one HTML page that needs nothing else (report.html), report.md, report.tex, results.parquet and each
    figure as SVG and PNG, from the runs that are finished, and prints where. Counted baselines take part without being
    asked for: they are counted once and kept beside the study's runs. Starts no run.

    Args:
        output: folder to write to (default ROOT/<study>/report).
        cutoff: K of the metrics (default: that of the study's `select`).
        alpha: of tests and intervals.
        baselines: only these counted baselines, as their rows are called, or all of them: all (default: all but EASE
            above 10,000 items).
        no_baselines: without the counted baselines of each data set.
        no_figures: figures on the page only, not as files.
        readme: also beside the study file, to be committed: the brief report in README.md, below what people wrote
            there, with its figure, results.parquet and the values of each run (values/).
        wandb: also as an artifact in the W&B project of the study, offline unless WANDB_MODE=online is set.
    """
    from recsys_lab.runs.run_files import check_place
    from recsys_lab.study.pages.report_files import report as written
    from recsys_lab.study.plan.keep import keep_identities

    if output:
        check_place(Path(output), "--output", is_folder=True)
    found, resolver = open_study(study)
    show_messages()
    names = None if no_baselines else baselines
    answer, files = written(found, output, cutoff, alpha, names, not no_figures, readme, study.data_dir)
    if readme:
        keep_identities(found.study, resolver)
    print(answer, end="\n" if answer else "", file=sys.stderr)
    print("\n".join(files))
    if wandb:
        from recsys_lab.runs.fit.loggers import log_report

        folder = Path(output) if output else found.study.folder / "report"
        print(f"W&B artifact {log_report(found.study.name, folder, found.study.folder)}")
