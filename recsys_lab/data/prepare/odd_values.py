"""Ids and times that can be read and may still not be what was meant: what `prepare` says of them."""

from __future__ import annotations

import datetime as dt
import logging

import numpy as np
import polars as pl

from recsys_lab.data.reading.ids import is_null_word
from recsys_lab.data.reading.spelling import again, option
from recsys_lab.words import ITEM_ID

log = logging.getLogger("recsys_lab")

YEAR = 365.25 * 86_400
PLAIN = r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$"
"""Ids of ASCII without white space at an end: most are, and nothing need be asked of them."""
UNSEEN = r"[\x00-\x1f\x7f-\x9f\x{ad}\x{200b}-\x{200f}\x{2060}\x{feff}\x{fffd}]"
SHORTENED = r"^-?\d\.\d+E\+\d+$"
SEVERAL = r"^\w+([ ,;|]+\w+)+$"


def moment(seconds: int) -> str:
    """Unix seconds as a date and time in UTC."""
    text = str(np.datetime64(seconds, "s"))  # datetime ends at the year 9999
    return text.replace("T", " ")


def warn_of_odd_times(first: int, last: int, name: str, is_anew: bool) -> None:
    """Says so where times lie in 1970, in the future, or more than 50 years apart.

    Args:
        first, last: of all events, in unix seconds.
        name: of the data set.
        is_anew: whether the set can be prepared again with another option.
    """
    is_zero = first < YEAR
    is_late = last > dt.datetime.now(dt.UTC).timestamp() + YEAR
    if not is_zero and not is_late and last - first <= 50 * YEAR:
        return
    drop = f" Rows with a time of 0 can be left out: {again(option('bad_times', 'drop'))}"
    log.warning(
        "%s: the times run from %s to %s%s. Is the unit right, and does no time stand for a missing one?%s",
        name, moment(first), moment(last), ", which is in the future" if is_late else "",
        drop if first == 0 and last >= YEAR and is_anew else "",
    )  # fmt: skip


def warn_of_odd_ids(ids: pl.Series, counts: np.ndarray, name: str, is_anew: bool) -> None:
    """Says which ids look like a word for "no id", like one another, like several ids, or were shortened.

    Args:
        ids: each once, of the events that are left.
        counts: events of each.
        name: of the data set.
        is_anew: whether the set can be prepared again with another option.
    """
    if ids.dtype != pl.String:
        return
    leave = f" If it is one, leave those rows out: {again(option('missing_ids', 'drop'))}" if is_anew else ""
    rows = ids.to_frame("id").with_columns(events=counts).filter(is_null_word(pl.col("id")))
    for value, events in rows.iter_rows():
        log.warning("%s: %s %r (%s events) looks like a missing id.%s", name, ids.name, value, f"{events:,}", leave)
    _warn_of_twins(ids, name)
    shortened = ids.filter(ids.str.contains("E+", literal=True))
    shortened = shortened.filter(shortened.str.contains(SHORTENED))
    if len(shortened):
        log.warning(
            "%s: %s of %s %ss look like numbers that a spreadsheet has shortened, such as %r: ids may have been "
            "merged. Export them as text", name, f"{len(shortened):,}", f"{len(ids):,}", ids.name, shortened[0],
        )  # fmt: skip
    several = ids.filter(ids.str.contains(SEVERAL) & ids.str.contains(r"\d")) if ids.name == ITEM_ID else ids.clear()
    if 2 * len(several) > len(ids):
        log.warning(
            "%s: %s of %s %ss look like lists, such as %r. A row is one event: a list of items is a row for each",
            name, f"{len(several):,}", f"{len(ids):,}", ids.name, several[0][:80],
        )  # fmt: skip


def _warn_of_twins(ids: pl.Series, name: str) -> None:
    """Ids that look alike: white space at an end, signs that can't be seen, one letter written in two ways."""
    odd = ids.filter(~ids.str.contains(PLAIN)).to_frame("id")
    seen = pl.col("id").str.normalize("NFKC").str.replace_all(UNSEEN, "").str.strip_chars()
    odd = odd.with_columns(seen=seen)
    twins = odd.filter(
        (pl.col("seen") != pl.col("id")) & pl.col("seen").is_in(ids.implode()) | pl.col("seen").is_duplicated()
    )
    if twins.height:
        log.warning(
            "%s: %s %ss look like others and are not the same, such as %a, shown as %r: white space at an end, signs "
            "that can't be seen, or one letter written in two ways. If they are one, mend the file",
            name, f"{twins.height:,}", ids.name, twins["id"][0], twins["seen"][0],
        )  # fmt: skip
        return
    unseen = odd.filter((pl.col("id").str.strip_chars() != pl.col("id")) | pl.col("id").str.contains(UNSEEN))
    if unseen.height:
        log.warning(
            "%s: %s %ss hold white space at an end or signs that can't be seen, such as %a",
            name, f"{unseen.height:,}", ids.name, unseen["id"][0],
        )  # fmt: skip
