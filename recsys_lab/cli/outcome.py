"""What a fit or a test has to show at its end."""

from __future__ import annotations

import math
from typing import Any

from recsys_lab.schema import RecsysLabError


class NoValueError(RecsysLabError):
    """A fit that came to its end and has nothing to show."""

    exit_code = 3


def is_result(name: str, value: Any) -> bool:
    """A metric of the validation or the test, and not a share of targets."""
    return name.startswith(("val/", "test/")) and not name.endswith("_target_share") and math.isfinite(value)
