"""EachEpoch: the newest epoch on disk, so that an interrupted run loses none; and the newest step of a fit that is told
to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint

from recsys_lab.runs.interrupts import EndSignals

LOOK_EVERY = 10
"""Steps between two looks at what the processes were told, on an accelerator, which each look waits for."""


class EachEpoch(ModelCheckpoint):
    """Keeps the newest epoch in one file. Lightning's own `save_last` writes only where the best epoch is written too:
    a run that is interrupted while it waits for a better one would go back to that.

    SIGTERM, and SIGUSR1 or SIGUSR2 where nobody else handles them, end a fit: whichever process is told, all of them
    finish their step, write the checkpoint there, and stop as by Ctrl-C. So does a scheduler that takes a node away.

    Args:
        file: the checkpoint, `<folder>/<name>.ckpt`.
    """

    def __init__(self, file: str | Path) -> None:
        file = Path(file)
        super().__init__(
            dirpath=file.parent,
            filename=file.stem,
            monitor=None,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self._signals = EndSignals()

    def state_dict(self) -> dict[str, Any]:
        """Stores nothing of itself: Lightning would miss it where the model is tested."""
        return {}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        self._signals.heed()  # after Lightning, whose handler of SIGTERM talks to other processes at any time

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        on_accelerator = trainer.strategy.root_device.type != "cpu"
        if trainer.fit_loop.epoch_loop._should_accumulate() or (on_accelerator and batch_idx % LOOK_EVERY):
            return
        if trainer.strategy.reduce_boolean_decision(self._signals.told, all=False):
            self._save_checkpoint(trainer, self.format_checkpoint_name({}))
            raise KeyboardInterrupt

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_end(trainer, pl_module)
        self._signals.leave()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        super().on_exception(trainer, pl_module, exception)
        self._signals.leave()
