"""`recsys-lab study report FILE`: the finished runs of a study as a page, Markdown, LaTeX, a table and figures."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from recsys_lab.cli.study.opened import open_study, refuse_other_data, study_parser
from recsys_lab.words import RecsysLabError

NEEDED = {"altair": "altair", "jinja2": "jinja2", "vl_convert": "vl-convert-python"}


class NothingToReportError(RecsysLabError):
    """No run is finished."""

    exit_code = 1


def run(arguments: list[str]) -> None:
    parser = study_parser(
        "report",
        "Writes one HTML page that needs nothing else (report.html), report.md, report.tex, results.parquet and each "
        "figure as SVG and PNG, from the runs that are finished, and prints where. Counted baselines take part without "
        "being asked for: they are counted once and kept beside the study's runs. Starts no run.",
    )
    parser.add_argument("--output", help="folder to write to (default ROOT/<study>/report)")
    parser.add_argument("--cutoff", type=int, help="K of the metrics (default: that of the study's `select`)")
    parser.add_argument("--alpha", type=float, default=0.05, help="of tests and intervals (default 0.05)")
    parser.add_argument("--no-baselines", action="store_true", help="without the counted baselines of each data set")
    parser.add_argument("--no-figures", action="store_true", help="figures on the page only, not as files")
    parser.add_argument(
        "--readme",
        action="store_true",
        help="also beside the study file, to be committed: the brief report in README.md, below what people wrote "
        "there, with its figure, results.parquet and the values of each run (values/)",
    )
    chosen = parser.parse_args(arguments[1:])
    if missing := [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]:
        raise RecsysLabError(f"reports need {', '.join(missing)}: pip install 'recsys-lab[report]'")
    plan, _ = open_study(chosen)
    refuse_other_data(plan)
    if not plan.in_state("finished") and chosen.readme:
        from recsys_lab.study.pages.readme import write_earlier_readme

        if (readme := write_earlier_readme(plan)) is not None:
            print(readme)
            return
    if not plan.in_state("finished"):
        states = ", ".join(f"{count} {state}" for state, count in sorted(plan.counts().items()))
        raise NothingToReportError(
            f"no run of the study {plan.study.name!r} in {plan.study.folder} is finished ({states}), so there is "
            f"nothing to report. Run it first: recsys-lab study run {chosen.file}"
        )

    from recsys_lab.runs.baselines import automatic_baselines
    from recsys_lab.runs.finished import Run
    from recsys_lab.runs.messages import show_messages
    from recsys_lab.statistics.pairs import Method
    from recsys_lab.study.pages.page import study_page
    from recsys_lab.study.pages.readme import write_readme
    from recsys_lab.study.pages.write import write_report
    from recsys_lab.study.plan.keep import keep_values
    from recsys_lab.study.results import read_results
    from recsys_lab.study.tune.results import read_tuning
    from recsys_lab.study.values import baseline_file, find_kept_baselines, write_values

    def counted(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
        kept = find_kept_baselines(plan.study.file, runs)
        made, problems = automatic_baselines([*runs, *kept], chosen.data_dir)
        if chosen.readme:
            for baseline in made:
                write_values(baseline, baseline_file(plan.study.file, baseline), plan.study.select)
        return [*kept, *made], problems

    show_messages()
    results = read_results(
        plan, None if chosen.no_baselines else counted, Method(alpha=chosen.alpha), cutoff=chosen.cutoff
    )
    output = Path(chosen.output) if chosen.output else plan.study.folder / "report"
    page = study_page(results, read_tuning(plan.study.folder))
    written = write_report(results, page, output, not chosen.no_figures)
    files = [path for path in written if path.parent == output]
    print(results.answer.sentence, file=sys.stderr)
    for path in files:
        print(path)
    if len(written) > len(files):
        print(f"{output / 'figures'} ({len(written) - len(files)} files)")
    if chosen.readme:
        for path in write_readme(results, page, plan):
            print(path)
        if not plan.study.fast:
            keep_values(plan.study, plan.in_state("finished"))
        print(f"{plan.study.file.parent / 'values'}")
