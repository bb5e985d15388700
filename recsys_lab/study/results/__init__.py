"""All numbers of a study, read from its run folders once, for every report of it."""

from recsys_lab.study.results.block import Block, Line, Share
from recsys_lab.study.results.curve import Curve
from recsys_lab.study.results.effects import AxisEffect
from recsys_lab.study.results.facts import AuditFacts
from recsys_lab.study.results.order_agreement import Flip, OrderAgreement
from recsys_lab.study.results.read import read_results
from recsys_lab.study.results.record import Record
from recsys_lab.study.results.results_table import as_table, write_table
from recsys_lab.study.results.study_results import Answer, Caution, StudyResults

__all__ = [
    "Answer",
    "AuditFacts",
    "AxisEffect",
    "Block",
    "Caution",
    "Curve",
    "Flip",
    "Line",
    "OrderAgreement",
    "Record",
    "Share",
    "StudyResults",
    "as_table",
    "read_results",
    "write_table",
]
