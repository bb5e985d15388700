"""The words of the project as code: column names, ids, and the errors that a user can mend. No torch: it imports in
milliseconds, and everything else imports it.

Shape letters used in every docstring and trailing comment:

    B  batch            L  window length (inputs)   D  embedding_dim
    H  heads            N  targets or negatives     V  num_items + 1 table rows (row 0 is padding)
    U  users            K  cutoff                   S  seen items of a batch, flat
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

PAD_ID = 0
"""Real items are 1..num_items; row 0 of every item table is padding and is never scored."""

USER_ID = "user_id"
ITEM_ID = "item_id"
TIMESTAMP = "timestamp"
EVENT_TYPE = "event_type"
RATING = "rating"

QUERY = "query"
"""In what a task with several tasks gives to evaluation: what the items are ranked by."""
LOWER_IS_BETTER = ("log_loss", "brier", "calibration_error", "mae", "mse", "rmse")
"""Metrics that rows are sorted by the other way round."""


class RecsysLabError(Exception):
    """An error that the user can mend. The command line prints its text without a traceback and exits with 2."""


class ArgumentError(RecsysLabError, ValueError):
    """An argument is not what it may be. Python reads `SASRec: num_layers must be at least 1, not 0`; the command line
    puts the option in front, as the user types it."""

    def __init__(self, owner: str, argument: str, problem: str, value: Any = None) -> None:
        super().__init__(f"{owner}: {argument} {problem}")
        self.owner, self.argument, self.problem, self.value = owner, argument, problem, value


def titled(metric: str, cutoff: int) -> str:
    """`ndcg@10`; a metric without cutoff (0) is its name alone: `auc`."""
    return f"{metric}@{cutoff}" if cutoff else metric


def number_of(number: int, noun: str, plural: str | None = None) -> str:
    """`1 check`, `2 checks`, `1,000 checks`; `plural` where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def number_of_these(number: int, plural: str) -> str:
    """`1 empty line`, `2 empty lines`: words whose first plural is what is counted."""
    words = re.sub(r"\b([a-z]+)s\b", r"\1", plural, count=1).replace(" are ", " is ", 1) if number == 1 else plural
    return f"{number:,} {words}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?`: what of `known` is most like `name`; empty where nothing is."""
    import difflib

    close = difflib.get_close_matches(name, list(known), 1)
    return f" Did you mean {close[0]!r}?" if close else ""


def resolve_names(names: Iterable[str], known: Iterable[str], what: str) -> list[str]:
    """`names` if each is known.

    Raises:
        RecsysLabError: naming the unknown ones and listing the known ones.
    """
    names, known = list(names), sorted(known)
    unknown = [n for n in names if n not in known]
    if unknown:
        meant = "." + hint if (hint := did_you_mean(unknown[0].lower(), known)) else ""
        raise RecsysLabError(f"unknown {what} {', '.join(map(repr, unknown))}; known: {', '.join(known)}{meant}")
    return names
