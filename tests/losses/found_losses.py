"""Every loss of the package, found by scanning it, and negatives to try them with."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import torch
from torch import Tensor

import recsys_lab.losses
from recsys_lab.contracts import Loss, Negatives
from recsys_lab.losses.negatives import UniformNegatives


def find_losses() -> list[type[Loss]]:
    found = set()
    for info in pkgutil.walk_packages(recsys_lab.losses.__path__, "recsys_lab.losses."):
        for _, value in inspect.getmembers(importlib.import_module(info.name), inspect.isclass):
            if issubclass(value, Loss) and not inspect.isabstract(value) and value.__module__ == info.name:
                found.add(value)
    return sorted(found, key=lambda cls: cls.__name__)


LOSSES = find_losses()


def draw(num_negatives: int, num_items: int, targets: Tensor, per_position: bool) -> Negatives:
    sampler = UniformNegatives(num_negatives, per_position)
    sampler.prepare(torch.ones(num_items + 1, dtype=torch.int64))
    return sampler.sample(targets, torch.Generator().manual_seed(0))
