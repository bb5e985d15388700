"""All numbers of a study, for every report of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from recsys_lab.statistics.pairs import Method
from recsys_lab.study.results.block import Block
from recsys_lab.study.results.order_agreement import OrderAgreement
from recsys_lab.study.results.published import Published
from recsys_lab.study.results.record import Record
from recsys_lab.study.results.trials import Trials


@dataclass(frozen=True)
class Caution:
    """What a reader should know before believing the numbers.

    kind: missing | failed | below | data | commits | dirty | environment | baselines | unconverged | cap |
        stop_reasons | leaky | ties | single_seed | interaction | audit | note.
    severity: `warning` can change a conclusion, `note` is to be known.
    block: `Block.key`, empty for the whole study.
    """

    kind: str
    text: str
    block: str = ""
    severity: Literal["warning", "note"] = "warning"


@dataclass
class Answer:
    """sentence: the answer on top, short enough to be read at a glance. findings: behind it, for each axis over all
    blocks, then for each block. protocol: what was compared on how many users and seeds, and how it was tested."""

    sentence: str
    findings: list[str] = field(default_factory=list)
    is_complete: bool = True  # every planned run is finished
    protocol: str = ""


@dataclass
class StudyResults:
    """What `read_results` found. The first metric of `metrics` that is `deciding` sorts rows; all are at `cutoff`.
    Where blocks are of several tasks, these are of the task that the study selects by; each block's comparison has its
    own."""

    name: str
    question: str
    file: Path
    select: str
    axes: dict[str, list[str]]  # axis -> labels of its values, in the order of the study file; without that of trials
    states: dict[str, int]  # state -> number of planned runs
    planned: int
    commits: list[str]  # of the planned runs, the most common first
    generated: str  # UTC, ISO 8601
    cutoff: int
    metrics: tuple[str, ...]
    deciding: str
    method: Method
    blocks: list[Block]
    answer: Answer
    multiplicity: str = ""  # what is corrected for what, in plain words
    cautions: list[Caution] = field(default_factory=list)
    orders: list[OrderAgreement] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)  # all planned runs, then the counted baselines
    published: list[Published] = field(default_factory=list)  # others' numbers beside ours
    trials: list[Trials] = field(default_factory=list)  # of each system, where the study names an axis of trials

    @property
    def decided_by(self) -> str:
        """The deciding metric with its cutoff; all of them where blocks are of several tasks."""
        return " or ".join(dict.fromkeys(block.decided_by for block in self.blocks))
