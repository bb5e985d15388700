"""Small checkpoints of every model, and the histories of their data as a caller would have them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from made_fields import WithFields
from small_data import quiet_trainer

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.models import NextItemModule
from recsys_lab.models.module import SequenceModel

for near in ("models", "data"):  # found_models, shop_with_types
    sys.path.insert(0, str(Path(__file__).parent.parent / near))

FIELDS = ["price", "colour", "item.tags", "item.image", "item.price", "user.age"]
MAX_LENGTH = 8


def variants(with_states: bool = False) -> list[Any]:
    """Names of `found_models.VARIANTS`: each encoder with its defaults in the first tier, other settings in a later.

    with_states: in the first tier only the encoders that go on from a state, and one of the others.
    """
    from found_models import VARIANTS

    def is_slow(name: str) -> bool:
        goes_on = VARIANTS[name][0].start is not SequenceModel.start
        return "-" in name or (with_states and not goes_on and name != "BERT4Rec")

    return [pytest.param(name, marks=pytest.mark.slow if is_slow(name) else ()) for name in VARIANTS]


def data_of(folder: Path, with_fields: bool = False, **settings: Any) -> SequenceDataModule:
    """Histories of 2 to 14 events, windows of 8."""
    chosen: Any = {"max_length": MAX_LENGTH, "eval_batch_size": 5, **settings}
    data = SequenceDataModule(str(folder), fields=FIELDS if with_fields else None, **chosen)
    if with_fields:
        data.__dict__["processed"] = WithFields(data.processed)
    return data


def checkpoint_of(model: NextItemModule, data: SequenceDataModule, folder: Path, steps: int = 2) -> Path:
    """The file of a model that was trained a little, or counted."""
    trainer = quiet_trainer(folder, limit_val_batches=0, limit_train_batches=steps)
    trainer.fit(model, data)
    trainer.save_checkpoint(folder / "model.ckpt")
    return folder / "model.ckpt"


def events_of(data: SequenceDataModule) -> pl.DataFrame:
    """The whole log, as a frame of events."""
    processed: Any = data.processed
    users = np.repeat(np.arange(processed.num_users), np.diff(processed.offsets))
    frame = pl.DataFrame(
        {
            "user_id": processed.user_ids.gather(users),
            "item_id": processed.item_ids_raw.gather(np.asarray(processed.item_ids) - 1),
            "timestamp": np.asarray(processed.timestamps),
        }
    )
    fed = [one for one in data.fitted_fields if one.scope in ("event", "user") and one.key in processed.fields]
    for key in [one.key for one in fed]:
        if hasattr(processed, "raw") and key in processed.raw:
            values = processed.raw[key]
        elif processed.fields[key].kind == "numeric":
            values = pl.Series(np.array(processed.field_array(key))).fill_nan(None)
        else:
            values = pl.Series([None, *processed.field_values(key)]).gather(np.asarray(processed.field_array(key)))
        frame = frame.with_columns((values if key != "user.age" else values.gather(users)).alias(key))
    return frame


def lists_of(frame: pl.DataFrame) -> tuple[dict[str, list[Any]], dict[str, list[int]]]:
    """Items and times by user, oldest first."""
    by_user = frame.group_by("user_id", maintain_order=True).agg("item_id", "timestamp")
    users = by_user["user_id"].to_list()
    return (
        dict(zip(users, by_user["item_id"].to_list(), strict=True)),
        dict(zip(users, by_user["timestamp"].to_list(), strict=True)),
    )
