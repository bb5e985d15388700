"""`recsys-lab study plan FILE`: every run with its state and what the missing ones will cost. Changes nothing."""

from __future__ import annotations

from recsys_lab.cli.study.opened import add_selection, open_study, select, study_parser
from recsys_lab.study.plan.plan_text import cost_line, counts_line, failures, not_counted, plan_table


def run(arguments: list[str]) -> None:
    parser = study_parser(
        "plan",
        "Reads a study, checks every variant (unknown keys, wrong types, two variants alike, a model that can't be "
        "built) and prints each run with its state and an estimate of its time, from finished runs or from the cap "
        "trainer.max_time. Changes nothing.",
    )
    add_selection(parser)
    chosen = parser.parse_args(arguments[1:])
    plan, _ = open_study(chosen)
    runs = select(plan, chosen)
    print(plan_table(plan, runs))
    print(f"\n{plan.study.name}: {counts_line(plan, runs)}")
    print(cost_line(plan, runs))
    for text in (failures(runs), *(f"refused: {line}" for line in plan.refusals), *not_counted(plan)):
        if text:
            print(text)
