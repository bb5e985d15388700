"""Offsets and times of the prepared events -> where each user's training stops, and which positions are validation and
test targets: pure functions of arrays. Knows config, arguments and words.
"""

from recsys_lab.data.split.leave_one_out import LeaveOneOut

__all__ = ["LeaveOneOut"]
