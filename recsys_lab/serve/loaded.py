"""A run folder, or a checkpoint -> its model and what the rows of its tables mean; without its prepared data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from recsys_lab.config import allowed_classes
from recsys_lab.contracts import DataSpec
from recsys_lab.data.fitting.vocabulary import Vocabulary, read_vocabulary
from recsys_lab.models.checkpoint import vocabulary_in
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.runs.run_files import check_checkpoint, no_run_folder, read_manifest, warn_of_unfinished
from recsys_lab.serve import run_data
from recsys_lab.serve.huge_pages import use_huge_pages
from recsys_lab.words import RecsysLabError


@dataclass(frozen=True)
class LoadedModel:
    """model: in evaluation mode. item_counts: (V,) training events of each item. folder: the run's, where it has one.
    manifest: of the run; empty without one."""

    model: NextItemModule
    spec: DataSpec
    vocabulary: Vocabulary
    item_counts: Tensor
    checkpoint: Path
    folder: Path | None
    manifest: dict[str, Any]

    def __post_init__(self) -> None:
        use_huge_pages(self.model)


def load_model(run: str | Path, allow_classes: Sequence[str] = (), device: Any = "cpu") -> LoadedModel:
    """Reads what `recsys-lab fit` left.

    Args:
        run: a run folder, of which `checkpoints/best.ckpt` is taken, or a checkpoint file.
        allow_classes: classes or packages of others that the checkpoint may name: you trust them.
        device: of the model.

    Raises:
        RecsysLabError: when it is neither, is damaged, was changed since, names what is not allowed, or was written
            before checkpoints held raw ids.
    """
    path, folder, manifest = Path(run), None, {}
    if path.is_dir():
        folder, path = path, path / "checkpoints" / "best.ckpt"
        if not path.is_file() and not (folder / "config.yaml").is_file():
            raise RecsysLabError(no_run_folder(folder, "checkpoints/best.ckpt"))
    elif path.parent.name == "checkpoints":
        folder = path.parent.parent
    if folder is not None and (folder / "manifest.json").is_file():
        manifest = read_manifest(folder)
        check_checkpoint(folder, manifest)
        warn_of_unfinished(folder, manifest)
    if allowed_classes() or allow_classes:
        from recsys_lab.runs.trust import find_own_modules

        find_own_modules()
    model: NextItemModule = NextItemModule.load_from_checkpoint(path, device, allow_classes).to(device)
    assert model.spec is not None
    vocabulary = read_vocabulary(vocabulary_in({"vocabulary": model.vocabulary}))
    counts = vocabulary.item_counts
    if counts is None:
        counts = run_data.item_counts(folder, model.spec)
    if counts is None:
        raise RecsysLabError(
            f"{path} does not say which items it was trained on: it was written by an earlier version, and the "
            "prepared data of its run is not there. Train the model again, or prepare the data again"
        )
    return LoadedModel(model, model.spec, vocabulary, counts.to(device), path, folder, manifest)
