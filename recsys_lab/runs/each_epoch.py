"""EachEpoch: the newest epoch on disk, so that an interrupted run loses none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint


class EachEpoch(ModelCheckpoint):
    """Keeps the newest epoch in one file. Lightning's own `save_last` writes only where the best epoch is written too:
    a run that is interrupted while it waits for a better one would go back to that.

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

    def state_dict(self) -> dict[str, Any]:
        """Stores nothing of itself: Lightning would miss it where the model is tested."""
        return {}
