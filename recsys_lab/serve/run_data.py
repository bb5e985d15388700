"""What a checkpoint does not hold and a run's prepared data has: titles of the items, and counts for old checkpoints.
Nothing is downloaded or prepared for it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import yaml
from torch import Tensor

from recsys_lab.contracts import DataSpec
from recsys_lab.data.locate import find_prepared
from recsys_lab.data.prepare.decoded import decoded_user
from recsys_lab.data.prepare.prepare_settings import PrepareSettings
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.serve.item_ids import ItemIds
from recsys_lab.words import ITEM_ID, RecsysLabError

if TYPE_CHECKING:
    from recsys_lab.data.datamodule import SequenceDataModule

log = logging.getLogger("recsys_lab")

TITLES = ("title", "name", "item_name", "product_name", "movie_title")
"""Columns of the item table that people read; the first that is there, in any case of its letters."""


def open_data(folder: Path | None, data_dir: str | None = None) -> SequenceDataModule | None:
    """The data of a run folder, where it is prepared; else None.

    Raises:
        RecsysLabError: for a config.yaml that can't be trusted or read, and for damaged data.
    """
    if folder is None or not (folder / "config.yaml").is_file():
        return None
    from recsys_lab.runs.saved import open_saved_data  # jsonargparse: a third of a second that few need

    data = open_saved_data(folder, data_dir).data
    there = find_prepared(data.dataset, data.data_dir, data.prepare_settings)
    return None if there is None else data


def item_counts(folder: Path | None, spec: DataSpec) -> Tensor | None:
    """(V,) training events of each item, counted anew; None where the data is not there, or is another."""
    data = open_data(folder)
    if data is None:
        return None
    for retrained in (data.retrained, True):
        again: Any = data if retrained == data.retrained else _retrained(data)
        if again.spec.training_hash == spec.training_hash:
            log.info("the checkpoint is of an earlier version: its candidates are counted in the data of its run")
            counts: Tensor = again.item_counts
            return counts
    return None


def prepared_of(folder: Path | None, data_dir: str | None = None) -> ProcessedDataset | None:
    """The prepared set of a run folder, where there is one; else None. No class that its config.yaml names is made, and
    Lightning is not imported for it.

    Raises:
        RecsysLabError: for a config.yaml that can't be read, and for damaged data.
    """
    if folder is None or not (folder / "config.yaml").is_file():
        return None
    path = folder / "config.yaml"
    try:
        config = yaml.safe_load(path.read_text())
        data = config["data"]
        dataset, there = str(data["dataset"]), str(data["data_dir"] if data_dir is None else data_dir)
        settings = None if data.get("prepare") is None else PrepareSettings(**data["prepare"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise RecsysLabError(f"{path} can't be read: {' '.join(str(error).split())}") from error
    return find_prepared(dataset, there, settings)


def item_table(folder: Path | None, spec: DataSpec, data_dir: str | None = None) -> tuple[pl.DataFrame | None, str]:
    """The table of the items, and the name of its data set; or None, and why there is none."""
    try:
        processed = prepared_of(folder, data_dir)
    except RecsysLabError as error:
        return None, str(error)
    if processed is None:
        return None, "a checkpoint holds none" + ("" if folder is None else ", and the data of the run is gone")
    if processed.vocabulary_hash != spec.vocabulary_hash:
        return None, f"the items in {processed.path} are others than the model's"
    return processed.item_table, processed.name


def titles(folder: Path | None, spec: DataSpec, data_dir: str | None = None) -> tuple[pl.DataFrame | None, str]:
    """Columns `item_id` and `title` of the item table, and a line that says where they come from, or why not."""
    table, name = item_table(folder, spec, data_dir)
    if table is None:
        return None, f"no titles: {name}"
    by_lower = {name.lower(): name for name in reversed(table.columns)}
    column = next((by_lower[name] for name in TITLES if name in by_lower), None)
    if column is None:
        return None, f"no titles: the item table of {name} has no column {', '.join(TITLES[:-1])}"
    found = table.select(pl.col(ITEM_ID), pl.col(column).cast(pl.String).alias("title"))
    return found, f"titles from the item table of {name}, column {column!r}"


def history_of(folder: Path | None, user: Any, data_dir: str | None = None) -> pl.DataFrame:
    """All events of a user of a run's prepared data, as `Predictor.recommend` takes them.

    Raises:
        RecsysLabError: where the data is not there, and for an unknown user.
    """
    processed = prepared_of(folder, data_dir)
    if processed is None:
        raise RecsysLabError(
            f"--user {user}: the prepared data of the run is not there; name its folder with --data_dir, or give the "
            "events: --history a,b,c"
        )
    row = int(ItemIds(processed.user_ids).rows_of(pl.Series([str(user)]))[0]) - 1
    if row < 0:
        raise RecsysLabError(
            f"--user {user}: {processed.name} has no such user; its ids are like {processed.user_ids[0]!r}"
        )
    return decoded_user(processed, row)


def _retrained(data: SequenceDataModule) -> SequenceDataModule:
    """The same data with validation in its training part."""
    again: SequenceDataModule = type(data)(**{**data._init_args, "retrained": True})
    return again
