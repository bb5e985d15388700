"""What is predicted, one file each: targets, loss, and what evaluation is given. Knows the ground floor; no encoder, no
data, and losses only by name.
"""

from __future__ import annotations

from recsys_lab.models.tasks.multi_task import MultiTask
from recsys_lab.models.tasks.next_item import NextItem
from recsys_lab.models.tasks.sequence_labels import SequenceLabels

__all__ = ["MultiTask", "NextItem", "SequenceLabels"]
