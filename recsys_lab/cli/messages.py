"""The library's log on standard error, and Lightning's advertisements off it."""

from __future__ import annotations

import logging
import sys
import warnings


class _StandardError(logging.Handler):
    """Writes to what `sys.stderr` is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def show_messages() -> None:
    log = logging.getLogger("recsys_lab")
    if not log.handlers:
        log.addHandler(_StandardError())
        log.setLevel(logging.INFO)


def hush_lightning() -> None:
    """Advertisements, and advice that does not apply here."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_advertisement)
    for text in (
        "does not have many workers",  # 0 is fastest for memory-mapped data on small machines
        "treespec",  # Lightning calls what torch has deprecated
        "smaller than the logging interval",
        "exists and is not empty",  # a resumed run
        "configure_optimizers` returned `None`",  # models that only count
        "training_step` returned `None`",
    ):
        warnings.filterwarnings("ignore", message=f".*{text}.*")


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()
