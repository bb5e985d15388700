"""The finished runs of a study as a page, Markdown, LaTeX, a table and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recsys_lab.report.page import missing_packages
from recsys_lab.runs.finished import Run
from recsys_lab.study.plan import Plan
from recsys_lab.study.plan.opened import refuse_other_data
from recsys_lab.words import RecsysLabError, number_of


class NothingToReportError(RecsysLabError):
    """No run is finished."""

    exit_code = 1


def report(
    plan: Plan,
    output: str | Path | None = None,
    cutoff: int | None = None,
    alpha: float = 0.05,
    baselines: Sequence[str] | None = (),
    figures: bool = True,
    readme: bool = False,
    data_dir: str | None = None,
) -> tuple[str, list[str]]:
    """Writes the report of a study. Counted baselines take part: they are counted once and kept beside its runs.

    Args:
        output: folder; None = `report` in the study's folder of runs.
        cutoff: K of the metrics; None = that of the study's `select`.
        alpha: of tests and intervals.
        baselines: names of the counted baselines that take part, see `automatic_baselines`; None = none.
        figures: also as files.
        readme: also beside the study file, to be committed.
        data_dir: where the data lies; None = what the runs were given.

    Returns:
        the answer in a sentence, and a line for each thing that was written.

    Raises:
        RecsysLabError: when the extra `report` is not installed, the results are of other data, or nothing is finished.
    """
    if missing := missing_packages():
        raise RecsysLabError(f"reports need {missing}")
    from recsys_lab.runs.baselines import automatic_baselines
    from recsys_lab.statistics.pairs import Method
    from recsys_lab.study.pages.readme import write_earlier_readme, write_readme
    from recsys_lab.study.pages.study_page import study_page
    from recsys_lab.study.pages.write import write_report
    from recsys_lab.study.plan.keep import keep_values
    from recsys_lab.study.results import read_results
    from recsys_lab.study.tune.results import read_tuning
    from recsys_lab.study.values import baseline_file, find_kept_baselines, write_values

    refuse_other_data(plan)
    if not plan.in_state("finished"):
        if readme and (earlier := write_earlier_readme(plan)) is not None:
            return "", [str(earlier)]
        states = ", ".join(f"{count} {state}" for state, count in sorted(plan.counts().items()))
        raise NothingToReportError(
            f"no run of the study {plan.study.name!r} in {plan.study.folder} is finished ({states}), so there is "
            f"nothing to report. Run it first: recsys-lab study run {plan.study.file}"
        )

    def counted(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
        kept = find_kept_baselines(plan.study.file, runs)
        made, problems = automatic_baselines([*runs, *kept], data_dir, baselines or ())
        for baseline in made if readme else []:
            write_values(baseline, baseline_file(plan.study.file, baseline), plan.study.select)
        return [*kept, *made], problems

    results = read_results(plan, None if baselines is None else counted, Method(alpha=alpha), cutoff=cutoff)
    folder = Path(output) if output else plan.study.folder / "report"
    tuning = read_tuning(plan.study.folder)
    page = study_page(results, tuning)
    written = write_report(results, page, folder, figures, tuning)
    lines = [str(path) for path in written if path.parent == folder]
    if len(written) > len(lines):
        lines.append(f"{folder / 'figures'} ({number_of(len(written) - len(lines), 'file')})")
    if readme:
        lines += [str(path) for path in write_readme(results, page, plan)]
        if not plan.study.fast:
            keep_values(plan.study, plan.in_state("finished"))
        lines.append(str(plan.study.file.parent / "values"))
    return results.answer.sentence, lines
