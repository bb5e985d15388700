"""`recsys-lab study retry FILE`: runs failed runs again."""

from __future__ import annotations

import shutil

from recsys_lab.cli.study.opened import add_selection, open_study, refuse_other_data, select, study_parser
from recsys_lab.cli.study.run import add_launch_options, execute, parse_launch


def run(arguments: list[str]) -> None:
    parser = study_parser(
        "retry",
        "Runs the failed runs of a study again, from the beginning; what they left is removed, their log is kept. With "
        "--resume they go on from their last checkpoint, where the failure was none of theirs (a full disk, memory).",
    )
    add_selection(parser)
    add_launch_options(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint where there is one")
    chosen = parse_launch(parser, arguments[1:])
    plan, resolver = open_study(chosen)
    runs = [one for one in select(plan, chosen) if one.state == "failed"]
    refuse_other_data(plan)
    if not chosen.resume and not chosen.dry_run:
        for one in runs[: chosen.limit]:
            shutil.rmtree(one.folder / "checkpoints", ignore_errors=True)
    execute(plan, runs, resolver, chosen)
