"""StoredModel: what a model's checkpoint holds, and how a model comes back from one.

Plain data and tensors only, so that a checkpoint loads with `weights_only=True` and without the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from recsys_lab.config import from_config, to_config
from recsys_lab.contracts import DataSpec
from recsys_lab.models import resume, table_files
from recsys_lab.models.base import Base
from recsys_lab.models.checkpoint import accept, read_checkpoint
from recsys_lab.models.item_vectors import ItemVectors
from recsys_lab.models.system import system_of
from recsys_lab.models.warm_start import WarmStart
from recsys_lab.words import RecsysLabError

if TYPE_CHECKING:
    from typing import Self


def named_today(state_dict: Mapping[str, Any], module: torch.nn.Module) -> Mapping[str, Any]:
    """Weights under today's names: an encoder's modules once lay in a module `encoder` of the model."""
    if hasattr(module, "encoder"):
        return state_dict
    return {name.removeprefix("encoder."): value for name, value in state_dict.items()}


def _other_weights(model: torch.nn.Module, held: Mapping[str, Any]) -> str:
    """Why these are not the weights of `model`."""
    own = model.state_dict()
    parts = [
        ("it has no", [name for name in own if name not in held]),
        ("what this version does not know is", [name for name in held if name not in own]),
        ("of another shape is", [name for name in own if name in held and own[name].shape != held[name].shape]),
    ]
    told = "; ".join(f"{what} {', '.join(names[:3])}{', ...' * (len(names) > 3)}" for what, names in parts if names)
    return (
        f"the weights of this checkpoint are not those of {type(model).__name__} as this version builds it: {told}. "
        "Another version wrote it, or other settings made it: train the model again (the data need not be prepared)"
    )


class StoredModel(Base):
    """The part of a `NextItemModule` that reads and writes checkpoints."""

    spec: DataSpec | None
    allow_other_training: bool = False
    trained_on: dict[str, Any] | None = None
    """What it was trained on, where a test asks for something else and may: see `models.checkpoint.check_trained`."""
    vocabulary: dict[str, Any] | None = None
    """Raw ids of the items and the fitted fields, as the data module gives them; of a checkpoint, as it holds them."""
    starts_from: WarmStart | None = None
    started_from: dict[str, Any] | None = None
    """What it began with, as manifest.json says it; see `warm_start`."""
    item_vectors: ItemVectors
    _init_args: dict[str, Any]
    _finite: Any
    _train_tokens: Any
    run_seed: Any

    def warm_start(self, run: str | Path) -> Self:
        """Its fit begins with the weights of an earlier run on a shorter log: `SASRec().warm_start("runs/...")`.

        Args:
            run: a run folder or a checkpoint file.

        Raises:
            RecsysLabError: when it is neither, or of another model. What depends on the data is checked by the fit.
        """
        self.starts_from = WarmStart.of(run)
        self.starts_from.check_model(self)
        return self

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        assert self.spec is not None
        checkpoint["data_spec"] = self.spec.as_dict()
        checkpoint["model_config"] = to_config(self)
        self._keep_vocabulary()
        checkpoint["vocabulary"] = self.vocabulary
        self._finite.look()
        checkpoint["seed"] = self.run_seed
        checkpoint["started_from"] = self.started_from
        if self._trainer is not None:
            checkpoint["system"] = system_of(self)
            resume.save(self._trainer, checkpoint)
        checkpoint["train_tokens"] = self.train_tokens

    def _keep_vocabulary(self) -> None:
        """That of the data at hand, where it is what the tables belong to: a model may be tested on other data."""
        data: Any = getattr(self._trainer, "datamodule", None)
        if not hasattr(data, "vocabulary") or self.spec is None:
            return
        own, there = self.spec, data.spec
        if own.vocabulary_hash == there.vocabulary_hash and own.training_hash == there.training_hash:
            self.vocabulary = data.vocabulary()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        accept(checkpoint, self)
        table_files.fill(checkpoint, self)
        self.vocabulary, self.started_from = checkpoint.get("vocabulary"), checkpoint.get("started_from")
        self.item_vectors.come_with_a_checkpoint(
            self, (checkpoint["model_config"].get("init_args") or {}).get("item_vectors_width")
        )
        if self.item_vectors.width is not None:
            self._init_args["item_vectors_width"] = self.item_vectors.width
        self._train_tokens = checkpoint.get("train_tokens", 0)
        if self._trainer is not None and self._trainer.state.fn == "fit":  # not where a test loads its weights
            self._resumed: dict[str, Any] = {"seed": checkpoint.get("seed"), "loaders": resume.read(checkpoint)}

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As torch's, and under the names of earlier versions. Weights that come before the sizes are known wait for
        `build`: so they come back to a notebook from processes that it spawned, where only the copies in those
        processes were built.

        Raises:
            RecsysLabError: for the weights of another version or another model.
        """
        if self.spec is None:
            self._waiting_weights = dict(state_dict)
            return torch.nn.modules.module._IncompatibleKeys([], [])
        held = named_today(state_dict, self)
        try:
            return super().load_state_dict(held, *args, **kwargs)
        except RuntimeError as error:
            raise RecsysLabError(_other_weights(self, held)) from error

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: Any, map_location: Any = "cpu", allow_classes: Sequence[str] = (), **overrides: Any
    ) -> Any:
        """The model of a checkpoint, ready to score, without the data and without pickle.

        Args:
            checkpoint_path: file written by a Trainer.
            map_location: device.
            allow_classes: classes or packages of others that it may name: you trust them. Imported ones need no leave.
            overrides: constructor arguments to change, e.g. `loss=`.

        Raises:
            RecsysLabError: when it is not a recsys_lab checkpoint, names a class that is not `cls` or below it, or one
                that is not allowed. Nothing that it names was called then.
        """
        checkpoint = read_checkpoint(checkpoint_path, map_location)
        table_files.fill_whole(checkpoint, checkpoint_path)
        config = checkpoint["model_config"]
        if overrides and isinstance(config, dict):
            config = {**config, "init_args": {**config.get("init_args", {}), **overrides}}
        model = from_config(config, cls, allow_classes, where=str(checkpoint_path))
        model.on_load_checkpoint(checkpoint)
        model.load_state_dict(checkpoint["state_dict"])
        return model.eval()
