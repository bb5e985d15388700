"""A Predictor gives what `predict` gives, for every encoder and baseline, with and without fields, from the checkpoint
alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from small_data import made_events, prepared, quiet_trainer
from trained import checkpoint_of, data_of, events_of, lists_of, variants

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.evaluation.recommendations import Recommendations
from recsys_lab.models import NextItemModule
from recsys_lab.serve import Predictor

from found_models import BASELINES, VARIANTS, small  # isort: skip  trained.py makes it known

K = 5


@pytest.fixture(scope="module")
def plain_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("serve") / "plain", made_events(event_types=1)).path


def predicted(model: NextItemModule, data: SequenceDataModule, folder: Path) -> pl.DataFrame:
    """What `recsys-lab predict` writes."""
    recommendations = Recommendations(folder / "best.parquet", top_k=K)
    quiet_trainer(folder, callbacks=[recommendations]).predict(model, data, return_predictions=False)
    return pl.read_parquet(recommendations.path)


def check_same(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert found["note"].null_count() == len(found) and set(found["source"]) == {"model"}
    assert found["user"].to_list() == expected["user_id"].to_list()
    assert found["rank"].to_list() == expected["position"].to_list()
    assert found["item_id"].to_list() == expected["item_id"].to_list()
    np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-5, atol=1e-6)


def check(model: NextItemModule, data: SequenceDataModule, folder: Path) -> None:
    path, events = checkpoint_of(model, data, folder), events_of(data)
    if hasattr(model, "session_of_user"):  # to `predict` the user's own session is known, and no neighbour
        model.session_of_user.fill_(-1)
    expected = predicted(model, data, folder)
    predictor = Predictor.load(path, batch_size=4)
    found = predictor.recommend(events.sample(fraction=1, shuffle=True, seed=1).sort("timestamp"), K)
    order = {user: place for place, user in enumerate(data.processed.user_ids)}
    by_user = found.sort(pl.col("user").replace_strict(order), "rank")
    check_same(by_user, expected)


@pytest.mark.parametrize("name", variants())
def test_an_encoder_with_fields_of_every_kind(name: str, plain_folder: Path, tmp_path: Path) -> None:
    cls, settings = VARIANTS[name]
    model = small(cls, **settings)
    mode: Any = "last_position" if model.last_positions_only else "all_positions"
    check(model, data_of(plain_folder, with_fields=True, training_mode=mode), tmp_path)


@pytest.mark.parametrize("cls", BASELINES)
def test_a_baseline(cls: type[NextItemModule], plain_folder: Path, tmp_path: Path) -> None:
    check(cls(), data_of(plain_folder), tmp_path)


@pytest.mark.parametrize("cls", [cls for cls in BASELINES if cls.__name__ in ("ItemKNN", "Markov", "RepeatLast")])
def test_lists_that_hold_the_history(cls: type[NextItemModule], plain_folder: Path, tmp_path: Path) -> None:
    """What is left out of the lists is not left out of what the model sees."""
    data = data_of(plain_folder, exclude_seen="none")
    model = cls()
    path = checkpoint_of(model, data, tmp_path)
    histories, times = lists_of(events_of(data))
    found = Predictor.load(path).recommend(histories, K, times=times, exclude=None)
    check_same(found, predicted(model, data, tmp_path))


def test_data_without_times(plain_folder: Path, tmp_path: Path) -> None:
    frame = made_events(event_types=1).drop("timestamp")
    folder = SequenceDataModule.from_frames(frame, data_dir=tmp_path / "data", name="untimed").processed.path
    data = data_of(folder)
    model = small(VARIANTS["LSTMAttention"][0])
    path = checkpoint_of(model, data, tmp_path)
    histories, _ = lists_of(events_of(data))
    check_same(Predictor.load(path).recommend(histories, K), predicted(model, data, tmp_path))
