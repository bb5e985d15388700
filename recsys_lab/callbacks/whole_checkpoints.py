"""WholeCheckpoints: a checkpoint is on disk whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO, TorchCheckpointIO


class WholeCheckpoints(TorchCheckpointIO):
    """Writes beside the target and renames. Lightning's own way writes into the folder for temporary files and moves:
    from another file system that is a copy, and a full disk or a kill in its middle leaves half a checkpoint in place
    of the good one. Addresses (`s3://...`) are left to Lightning."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        try:
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def with_whole_checkpoints(plugins: Any) -> list[Any]:
    """The user's plugins, and ours for the checkpoints' files unless they bring one."""
    theirs = list(plugins) if isinstance(plugins, list | tuple) else [plugins] if plugins is not None else []
    return theirs if any(isinstance(plugin, CheckpointIO) for plugin in theirs) else [*theirs, WholeCheckpoints()]
