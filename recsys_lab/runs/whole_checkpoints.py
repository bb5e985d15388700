"""WholeCheckpoints: a checkpoint is on disk whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any, cast

import torch
from lightning.pytorch.plugins.io import AsyncCheckpointIO, CheckpointIO, TorchCheckpointIO

from recsys_lab.runs.run_files import written


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
        with written(path) as partial, partial.open("wb") as file:
            kept = KeepsError(file)
            try:
                torch.save(checkpoint, cast(IO[bytes], kept))
            except RuntimeError as error:  # torch's own, of its archive: why it came is what the disk said
                raise kept.error or stop_behind(error) or error from None


def stop_behind(error: BaseException) -> BaseException | None:
    """The Ctrl-C (or another stop that is no error) in whose course `error` came up: torch closes its archive and
    finds it half written."""
    under = error.__context__
    while isinstance(under, Exception):
        under = under.__context__
    return under


class KeepsError:
    """A file that keeps the first error of writing, which torch's archive writer hides behind one of its own."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self.file.flush()


def with_whole_checkpoints(plugins: Any) -> list[Any]:
    """The user's plugins, and ours for the checkpoints' files unless they bring one. An `AsyncCheckpointIO` without a
    writer of its own writes as ours does, in its thread."""
    theirs = list(plugins) if isinstance(plugins, list | tuple) else [plugins] if plugins is not None else []
    for plugin in theirs:
        if isinstance(plugin, AsyncCheckpointIO) and plugin.checkpoint_io is None:
            plugin.checkpoint_io = WholeCheckpoints()
    return theirs if any(isinstance(plugin, CheckpointIO) for plugin in theirs) else [*theirs, WholeCheckpoints()]
