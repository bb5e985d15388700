"""What is done to vectors of the user's own before a model has them, fitted on the items of the training part."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from recsys_lab.words import RecsysLabError

OPTION = "--model.item_vectors_preprocessing"
FORM = re.compile(r"none|center|zca|unit_norm|pca\((?P<width>[1-9]\d{0,5})\)")
LEAST_VARIANCE = 1e-6
"""Directions with less than this share of the largest variance are noise of rounding: `zca` leaves them out."""


def check(how: str) -> None:
    """Raises RecsysLabError for another text than `none`, `center`, `pca(D)`, `zca` and `unit_norm`."""
    if FORM.fullmatch(how) is None:
        raise RecsysLabError(f"{OPTION} must be none, center, pca(D), zca or unit_norm, not {how!r}: e.g. 'pca(64)'")


def width_after(how: str, width: int) -> int:
    """Numbers of a vector afterwards.

    Raises:
        RecsysLabError: for more components than numbers.
    """
    asked = FORM.fullmatch(how)
    if asked is None or asked["width"] is None:
        return width
    if int(asked["width"]) > width:
        raise RecsysLabError(f"{OPTION} {how}: the vectors have only {width} numbers")
    return int(asked["width"])


def preprocessed(vectors: Tensor, has_vector: Tensor, trains: Tensor, how: str) -> Tensor:
    """The vectors as a model has them; an item without one keeps zeros.

    `center`: less the mean. `pca(D)`: and projected on the D directions of the largest variance. `zca`: less the mean
    and whitened (Bell & Sejnowski 1997), in their own directions; those without variance are left out. The mean square
    of the lengths is 1 afterwards: vectors of variance 1 in each of 64 directions would begin many times as long as
    those of the ids, and a model does not shrink them in time. `unit_norm`: each divided by its length. Mean and
    directions are those of the items of the training part.

    Args:
        vectors: (V, width) float32. has_vector: (V,) bool. trains: (V,) bool: items with a training event.

    Raises:
        RecsysLabError: for too few of those that have a vector.
    """
    if how == "none":
        return vectors
    if how == "unit_norm":
        return vectors / vectors.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    known = vectors[has_vector & trains].double()
    needed = max(2, width_after(how, vectors.shape[1]) if how.startswith("pca") else 2)
    if len(known) < needed:
        raise RecsysLabError(f"{OPTION} {how} needs {needed} items that train and have a vector: {len(known)} do")
    mean = known.mean(0)
    changed = vectors.double() - mean
    if how != "center":
        variance, directions = torch.linalg.eigh((known - mean).T @ (known - mean) / len(known))  # ascending
        if how == "zca":
            is_kept = variance > LEAST_VARIANCE * variance[-1]
            scale = torch.where(is_kept, (variance.clamp_min(1e-300) * is_kept.sum()).rsqrt(), 0.0)
            changed = changed @ (directions * scale) @ directions.T
        else:
            width = width_after(how, vectors.shape[1])
            changed = changed @ _signed(directions[:, -width:].flip(1))
    return (changed * has_vector[:, None]).float()


def _signed(directions: Tensor) -> Tensor:
    """(W, D) columns, each with its largest number above 0: the sign of an eigenvector is nobody's choice."""
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    return directions * largest.sign()
