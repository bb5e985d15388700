"""ProgressLines: how far a fit or a test is, in one line that is drawn again, and a line that stays for each epoch."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar

from recsys_lab.report.terminal import terminal_width
from recsys_lab.runs.folder import is_trained, logged

CLEAR = "\r\x1b[2K"
"""Back to the start of the line, which is emptied."""


class ProgressLines(ProgressBar):
    """Progress on standard error: rate, remaining time, last metric. Nothing is coloured.

    On a terminal the line of the epoch under way is drawn again in its place and stays within the width. Elsewhere
    (a file, a pipe, `TERM=dumb`) every line is a plain one, and an epoch under way is told rarely. Epochs count from 1.

    Args:
        every_seconds: how often the line is drawn on a terminal.
        plain_seconds: how often an epoch under way is told where it can't be drawn again.
    """

    def __init__(self, every_seconds: float = 0.2, plain_seconds: float = 300.0) -> None:
        super().__init__()
        self.every_seconds, self.plain_seconds = every_seconds, plain_seconds
        self._is_on, self._is_drawn, self._is_validated = True, False, False
        self._drawn_at = self._epoch_began = self._train_began = time.perf_counter()
        self._epochs = 0  # that this process has ended
        self._value: float | None = None
        self._best: float | None = None

    def disable(self) -> None:
        self._is_on = False

    def enable(self) -> None:
        self._is_on = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        self._keep(" ".join(map(str, args)))

    # -- training ------------------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        checkpoint = trainer.checkpoint_callback
        best = checkpoint.best_model_score if isinstance(checkpoint, ModelCheckpoint) else None  # of a run that goes on
        self._value, self._best = None, None if best is None else float(best)
        self._epochs, self._train_began = 0, time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._epoch_began, self._is_validated = time.perf_counter(), False
        self._drawn_at = self._epoch_began - self.every_seconds if is_terminal() else self._epoch_began

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self._is_due() or not is_trained(pl_module):
            return
        share = (batch_idx + 1) / self.total_train_batches
        seconds = time.perf_counter() - self._epoch_began
        rate = trainer.progress_bar_metrics.get("tokens/s")
        speed = f"{short(rate)} tokens/s" if rate else f"{short((batch_idx + 1) / seconds)} batches/s"
        self._draw([_epoch(trainer), _percent(share), speed, *self._left(trainer, share), *self._metrics(trainer)])

    def on_validation_batch_end(self, trainer: Any, *rest: Any) -> None:
        if not trainer.sanity_checking and self._is_due():
            share = (rest[3] + 1) / sum(trainer.num_val_batches)
            where = [_epoch(trainer)] if trainer.state.fn == "fit" else []
            self._draw([*where, "validating", _percent(share), *self._metrics(trainer)])

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._is_validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not is_trained(pl_module):
            return
        values = logged(trainer, ("train/", "val/"))
        name, mark = watched(trainer), ""
        value = values.get(name) if name.startswith("train/") or self._is_validated else None
        if value is not None and math.isfinite(value):
            self._value = value
            is_lower = getattr(trainer.checkpoint_callback, "mode", "max") == "min"
            if self._best is None or (value < self._best if is_lower else value > self._best):
                self._best, mark = value, " best"
        rate = values.get("train/tokens_per_second")
        parts = [_epoch(trainer), f"loss {values['train/loss']:.3f}" if "train/loss" in values else ""]
        parts += [f"{name} {value:.4f}{mark}" if value is not None and name != "train/loss" else ""]
        self._keep(
            fitted([*parts, f"{short(rate)} tokens/s" if rate else "", *self._left(trainer, 1.0)], terminal_width())
        )
        self._epochs += 1

    def _left(self, trainer: L.Trainer, share: float) -> list[str]:
        """Until the last epoch or step that was asked for; early stopping mostly ends a fit before.

        share: of the epoch under way that is done.
        """
        done = self._epochs + share  # epochs of this process, with their validation
        ends = []
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            ends.append(trainer.max_epochs - trainer.current_epoch - share)
        if trainer.max_steps is not None and trainer.max_steps > 0:
            steps = max(1.0, float(trainer.num_training_batches) / trainer.accumulate_grad_batches)  # of an epoch
            ends.append((trainer.max_steps - trainer.global_step) / steps)
        if not ends or not done:
            return []
        seconds = max(0.0, min(ends)) * (time.perf_counter() - self._train_began) / done
        return [f"{clock(seconds)} left"]

    def _metrics(self, trainer: L.Trainer) -> list[str]:
        """The last value of what decides, and the best one."""
        if self._value is None or self._best is None:
            return []
        return [f"{watched(trainer)} {self._value:.4f}", f"best {self._best:.4f}"]

    # -- test and prediction -------------------------------------------------------------------------------------------

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._begin("testing")

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._begin("predicting")

    def on_test_batch_end(self, trainer: Any, *rest: Any) -> None:
        self._share_of("testing", rest[3], sum(trainer.num_test_batches))

    def on_predict_batch_end(self, trainer: Any, *rest: Any) -> None:
        self._share_of("predicting", rest[3], sum(trainer.num_predict_batches))

    def _begin(self, what: str) -> None:
        if self._is_on and self.trainer.is_global_zero:
            self._draw([what])

    def _share_of(self, what: str, batch_idx: int, total: float) -> None:
        if self._is_due():
            self._draw([what, _percent((batch_idx + 1) / total)])

    # -- the line ------------------------------------------------------------------------------------------------------

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._clear()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._clear()

    def _is_due(self) -> bool:
        wait = self.every_seconds if is_terminal() else self.plain_seconds
        return self._is_on and self.trainer.is_global_zero and time.perf_counter() - self._drawn_at >= wait

    def _draw(self, parts: Sequence[str]) -> None:
        self._drawn_at = time.perf_counter()
        line = fitted(parts, terminal_width())
        if not is_terminal():
            print(line, file=sys.stderr, flush=True)
            return
        print(f"{CLEAR}{line}\r", end="", file=sys.stderr, flush=True)  # what is said meanwhile begins at the left
        self._is_drawn = True

    def _keep(self, line: str) -> None:
        """Of this line nothing goes."""
        if self._is_on and self.trainer.is_global_zero:
            self._clear()
            print(line, file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self._is_drawn:
            print(CLEAR, end="", file=sys.stderr, flush=True)
        self._is_drawn = False


def own_progress(settings: Mapping[str, Any]) -> list[L.Callback]:
    """A ProgressLines for a Trainer of these settings, unless it shall show nothing or something else."""
    asked = settings.get("callbacks") or []
    has_one = any(isinstance(one, ProgressBar) for one in (asked if isinstance(asked, list) else [asked]))
    return [] if has_one or settings.get("enable_progress_bar") is False else [ProgressLines()]


def is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def fitted(parts: Sequence[str], width: int) -> str:
    """The parts that there is room for, the first ones before the last; one of them always."""
    line = ""
    for part in filter(None, parts):
        longer = f"{line}  {part}" if line else part
        line = longer if not line or len(longer) < width else line
    return line[: max(1, width - 1)]


def watched(trainer: L.Trainer) -> str:
    """What chooses the best epoch, else the metric that evaluation shows."""
    monitor = getattr(trainer.checkpoint_callback, "monitor", None)
    shown = (name for name in trainer.progress_bar_metrics if name.startswith("val/"))
    return str(monitor or next(shown, "val/"))


def short(number: float) -> str:
    """`950`, `13.2k`, `4.1M`."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return f"{number:.3g}"


def clock(seconds: float) -> str:
    """`0:07`, `12:03`, `1:02:03`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _percent(share: float) -> str:
    return f"{min(1.0, share):4.0%}".replace("%", " %")


def _epoch(trainer: L.Trainer) -> str:
    last = trainer.max_epochs
    return f"epoch {trainer.current_epoch + 1}" + (f"/{last}" if last is not None and last > 0 else "")
