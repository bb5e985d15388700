"""Finds every model and every loss of the package, and builds small ones: a new file is tested without an edit here."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch

import recsys_lab.losses
import recsys_lab.models
from recsys_lab.contracts import Batch, DataSpec, Field, Loss
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.models import CORE, HSTU, BERT4Rec, LiGR, LSTMAttention, NextItemModule, SASRec
from recsys_lab.models.baselines import ClickBaseline, CountingModel
from recsys_lab.models.baselines.label_rates import LabelRates
from recsys_lab.models.blocks.masking import one_more
from recsys_lab.models.encoders.gru4rec import GRU4Rec
from recsys_lab.models.module import last_position

SMALL = {"embedding_dim": 16, "hidden_dim": 24, "num_layers": 2, "num_heads": 2, "dropout": 0.0, "max_length": 8}
SMALL["last_share"] = 1.0  # a masked model then has the same targets in each epoch, which overfit

SPEC = DataSpec(
    dataset="made",
    num_items=40,
    num_users=5,
    max_length=9,
    has_timestamps=True,
    mean_gap_seconds=100.0,
    data_hash="0" * 16,
    vocabulary_hash="1" * 16,
    split="none",
    fields=(Field("event_type", "event", "categorical", 5),),
)


def classes(package: ModuleType, base: type) -> Iterator[type]:
    """Concrete subclasses of `base` that the package defines."""
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        for _, value in inspect.getmembers(importlib.import_module(info.name), inspect.isclass):
            own = value.__module__ == info.name and value is not base
            if own and issubclass(value, base) and not inspect.isabstract(value) and value is not CountingModel:
                yield value


LOSSES: list[type[Loss]] = sorted(classes(recsys_lab.losses, Loss), key=lambda cls: cls.__name__)
EVERY_MODEL = sorted(classes(recsys_lab.models, NextItemModule), key=lambda cls: cls.__name__)
MODELS = [cls for cls in EVERY_MODEL if not issubclass(cls, ClickBaseline | LabelRates)]
"""Those that rank items. Clicks have impressions for samples: test_click_through.py finds their baselines."""
ENCODERS = [cls for cls in MODELS if not issubclass(cls, CountingModel)]
BASELINES = [cls for cls in MODELS if issubclass(cls, CountingModel)]

VARIANTS: dict[str, tuple[type[NextItemModule], dict[str, Any]]] = {cls.__name__: (cls, {}) for cls in ENCODERS}
"""Each encoder with its defaults, and the settings that change what it computes."""
VARIANTS |= {f"LSTMAttention-{s}": (LSTMAttention, {"similarity": s}) for s in ("dot", "additive", "bilinear")}
VARIANTS |= {f"LSTMAttention-{a}": (LSTMAttention, {"attention": a}) for a in ("narm", "none")}
VARIANTS |= {
    "LSTMAttention-no-time": (LSTMAttention, {"time": "none"}),
    "LSTMAttention-relative": (LSTMAttention, {"time": "relative"}),
    "LSTMAttention-query-time": (LSTMAttention, {"time": "relative", "reference": "query"}),
    "LSTMAttention-window-bias": (LSTMAttention, {"time_window": 10.0, "item_bias": True}),
    "SASRec-positions-from-end": (SASRec, {"positions": "end"}),
    "SASRec-one-head": (SASRec, {"num_heads": 1, "scale_embedding": False, "feed_forward_dim": 20}),
    "SASRec-post-norm": (SASRec, {"norm": "post"}),
    "LiGR-positions-from-start": (LiGR, {"positions": "start"}),
    "LiGR-no-gate": (LiGR, {"gate": False, "feed_forward": "gelu", "norm": "post"}),
    "HSTU-no-bias": (HSTU, {"bias": "none"}),
    "HSTU-decay": (HSTU, {"bias": "decay"}),
    "HSTU-query-time": (HSTU, {"query_time": True}),
    "CORE-mean": (CORE, {"weights": "mean"}),
    "BERT4Rec-positions-from-end": (BERT4Rec, {"positions": "end"}),
    "GRU4Rec-bias": (GRU4Rec, {"item_bias": True, "num_layers": 1, "hidden_dim": None, "residual": True}),
}


def small(cls: type[NextItemModule], **settings: Any) -> NextItemModule:
    """A small model: of the small sizes those that its constructor knows."""
    known = inspect.signature(cls.__init__).parameters
    return cls(**{**{name: value for name, value in SMALL.items() if name in known}, **settings})


def built(cls: type[NextItemModule], spec: DataSpec = SPEC, seed: int = 0, **settings: Any) -> NextItemModule:
    """A small model with its tables, in evaluation mode, without a Trainer."""
    torch.manual_seed(seed)
    model = small(cls, **settings)
    model._build(spec)
    return model.eval()


def asked(model: Any, batch: Batch) -> torch.Tensor:
    """(B, D): the state that a query is read off: of each row's last event, or of a masked one behind it."""
    if isinstance(model, BERT4Rec):
        batch = one_more(batch, model.uses_target_fields, model.uses_query_time)
    return last_position(model.hidden(batch), batch.lengths)


def trained_as(cls: type[NextItemModule], folder: Any, **settings: Any) -> SequenceDataModule:
    """The datamodule that the model needs for training."""
    mode = "last_position" if small(cls).last_positions_only else "all_positions"
    return SequenceDataModule(str(folder), max_length=8, training_mode=mode, **settings)


def random_batch(lengths: list[int], spec: DataSpec = SPEC, seed: int = 0) -> Batch:
    """An evaluation batch of random events with the given lengths."""
    draw = torch.Generator().manual_seed(seed)
    size = torch.tensor(lengths)
    shape = (len(lengths), int(size.max()))
    valid = torch.arange(shape[1]) < size[:, None]
    times = 1_000_000 + torch.randint(1, 200, shape, generator=draw).cumsum(1)
    return Batch(
        item_ids=torch.randint(1, spec.num_rows, shape, generator=draw) * valid,
        target_ids=torch.randint(1, spec.num_rows, (len(lengths),), generator=draw),
        valid_mask=valid,
        timestamps=times * valid,
        event={f.name: torch.randint(1, f.size, shape, generator=draw) * valid for f in spec.fields},
        lengths=size,
        user_index=torch.arange(len(lengths)),
        seen_ids=torch.zeros(0, dtype=torch.int64),
        seen_offsets=torch.zeros(len(lengths) + 1, dtype=torch.int64),
        query_time=times[:, -1] + 1_000,
    )


def row_alone(batch: Batch, row: int) -> Batch:
    """Row `row` without padding, as a batch of one."""
    length = int(batch.lengths[row])
    one = slice(row, row + 1)
    cut = {name: getattr(batch, name)[one, :length] for name in ("item_ids", "valid_mask", "timestamps")}
    cut["event"] = {name: values[one, :length] for name, values in batch.event.items()}
    whole = {name: getattr(batch, name)[one] for name in ("target_ids", "lengths", "user_index", "query_time")}
    return Batch(**cut, **whole, seen_ids=batch.seen_ids, seen_offsets=torch.zeros(2, dtype=torch.int64))
