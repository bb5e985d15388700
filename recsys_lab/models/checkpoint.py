"""Checkpoints read safely, and checked against the data that they are used on."""

from __future__ import annotations

from typing import Any

import torch

from recsys_lab.schema import DataSpec, RecsysLabError


def check_same_data(expected: DataSpec, actual: DataSpec) -> None:
    """Raises RecsysLabError when a model's tables belong to another data set or vocabulary."""
    for name, what in (("vocabulary_hash", "item vocabulary"), ("data_hash", "data")):
        if getattr(expected, name) != getattr(actual, name):
            raise RecsysLabError(
                f"the checkpoint belongs to another data set: its {what} is {expected.dataset} "
                f"({getattr(expected, name)}), the data module's is {actual.dataset} ({getattr(actual, name)}). "
                "Use the data set (and prepare settings) that it was trained on"
            )


def read_checkpoint(path: Any, map_location: Any = "cpu") -> dict[str, Any]:
    """The checkpoint's dict, read with `weights_only=True`.

    Raises:
        RecsysLabError: when the file is missing, is not a checkpoint, or was not written by recsys_lab.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
    except FileNotFoundError as error:
        raise RecsysLabError(f"no checkpoint at {path}") from error
    except Exception as error:
        raise RecsysLabError(f"{path} is not a readable checkpoint: {error}") from error
    if not isinstance(checkpoint, dict) or "model_config" not in checkpoint:
        raise RecsysLabError(f"{path} was not written by recsys_lab: it holds no model configuration")
    return checkpoint
