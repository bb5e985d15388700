"""Base: what every model extends: Lightning's module; in a process that only asks models, torch's own.

Lightning and torch's compiler, which it imports, take more than half of the processor time of a server's start.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from recsys_lab import config

if TYPE_CHECKING:
    from typing import Self

if TYPE_CHECKING or config.trains:
    from lightning import LightningModule as Base
else:

    class Base(nn.Module):
        """As much of a LightningModule as a model that is asked needs."""

        _trainer: Any = None

        @cached_property
        def device(self) -> torch.device:
            held = next(self.parameters(), None)
            held = next(self.buffers(), None) if held is None else held
            return torch.device("cpu") if held is None else held.device

        def _apply(self, *args: Any, **kwargs: Any) -> Self:
            self.__dict__.pop("device", None)  # it may be moved
            return super()._apply(*args, **kwargs)


__all__ = ["Base"]
