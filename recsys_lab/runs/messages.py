"""The library's log on standard error, and Lightning's advertisements off it."""

from __future__ import annotations

import logging
import os
import sys
import warnings


class _StandardError(logging.Handler):
    """Writes to what `sys.stderr` is at that moment, each message once: fit and test open the same data."""

    def __init__(self) -> None:
        super().__init__()
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if text not in self.said:
            self.said.add(text)
            print(text, file=sys.stderr)


def show_messages() -> None:
    """Shows what the library logs; a second command in the same process starts anew."""
    log = logging.getLogger("recsys_lab")
    for handler in [h for h in log.handlers if isinstance(h, _StandardError)]:
        log.removeHandler(handler)
    log.addHandler(_StandardError())
    log.setLevel(logging.INFO if os.environ.get("LOCAL_RANK", "0") == "0" else logging.WARNING)  # one process talks


def hush_lightning() -> None:
    """Advertisements, and advice that does not apply here."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_advertisement)
    for text in (
        "does not have many workers",  # 0 is fastest for memory-mapped data on small machines
        "treespec",  # Lightning calls what torch has deprecated
        "It is recommended to use `self.log",  # ranks are gathered: each process logs the same numbers
        "smaller than the logging interval",
        "exists and is not empty",  # a resumed run
        "configure_optimizers` returned `None`",  # models that only count
        "training_step` returned `None`",
    ):
        warnings.filterwarnings("ignore", message=f".*{text}.*")


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()
