"""From a study file to its runs, each with its state. Nothing here starts a run."""

from recsys_lab.study.plan.planned import Plan, PlannedRun, make_plan
from recsys_lab.study.plan.study_file import Study, read_study
from recsys_lab.study.plan.variants import Variant

__all__ = ["Plan", "PlannedRun", "Study", "Variant", "make_plan", "read_study"]
