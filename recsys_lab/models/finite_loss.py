"""A NaN or infinite loss stops training before the weights are touched."""

from __future__ import annotations

from recsys_lab.schema import RecsysLabError


class NonFiniteLossError(RecsysLabError):
    """Training stopped at a NaN or infinite loss; the last good checkpoint is untouched."""

    exit_code = 1  # of the command line: the run failed, not the way it was called
    stopped_by = "nan"  # in the run's manifest
