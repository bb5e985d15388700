"""CategoryPopularity against a loop over its formula, and on the cold slice of a real test."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from found_models import SPEC, random_batch
from small_data import made_events

from recsys_lab.cli import main
from recsys_lab.contracts import Field
from recsys_lab.models.baselines import CategoryPopularity
from recsys_lab.words import RecsysLabError

GENRES = Field("genres", "item", "multi", size=6, width=3)
COLOUR = Field("colour", "item", "categorical", size=5)


@pytest.mark.parametrize("field", [GENRES, COLOUR], ids=lambda field: field.name)
@pytest.mark.parametrize(("smoothing", "prior"), [(1.0, 1.0), (0.25, 0.0), (3.0, 7.5)])
def test_scores_are_those_of_a_loop(field: Field, smoothing: float, prior: float) -> None:
    rng = np.random.default_rng(1)
    spec = replace(SPEC, fields=(GENRES, COLOUR))
    of_item: list[list[int]] = [[]]
    for _ in range(spec.num_items):
        most = field.width if field.kind == "multi" else 1
        of_item.append(sorted(rng.choice(np.arange(1, field.size), rng.integers(0, most + 1), replace=False).tolist()))
    codes = torch.zeros(spec.num_rows, *([field.width] if field.kind == "multi" else []), dtype=torch.int64)
    for item, own in enumerate(of_item):
        for place, code in enumerate(own):
            codes[(item, place) if field.kind == "multi" else item] = code
    counts = rng.integers(0, 4, spec.num_rows) * rng.integers(0, 9, spec.num_rows)  # many are cold
    counts[0] = 0
    model = CategoryPopularity(f"item.{field.name}", smoothing, prior)
    model._build(spec)
    model.count(SimpleNamespace(item_counts=torch.from_numpy(counts), item_fields={field.name: codes}))
    batch = random_batch([1, 5, 9])
    found = model.score(model.query(batch)).numpy()

    def chance(item: int, code: int) -> float:
        of_code = [i for i in range(1, spec.num_rows) if code in of_item[i]]
        return float(
            (counts[item] + smoothing)
            / len(of_item[item])
            / sum((counts[i] + smoothing) / len(of_item[i]) for i in of_code)
        )

    total = sum(counts[i] for i in range(1, spec.num_rows) if of_item[i])
    for row, length in enumerate([1, 5, 9]):
        window = [own for item in batch.item_ids[row, :length].tolist() if (own := of_item[item])]
        for item in range(1, spec.num_rows):
            expected = 0.0
            for code in of_item[item]:
                share = sum(counts[i] / len(of_item[i]) for i in range(1, spec.num_rows) if code in of_item[i])
                chosen = sum(1 / len(own) for own in window if code in own) + prior * share / total
                expected += chosen / max(len(window) + prior, 1e-30) * chance(item, code)
            assert found[row, item] == pytest.approx(expected, rel=1e-5, abs=1e-9)
    assert (found[:, [i for i, own in enumerate(of_item) if not own]] == 0).all()


def test_without_a_field_it_is_popularity(caplog: pytest.LogCaptureFixture) -> None:
    model = CategoryPopularity()
    model._build(SPEC)
    counts = torch.arange(SPEC.num_rows).flip(0) * (torch.arange(SPEC.num_rows) > 0)
    model.count(SimpleNamespace(item_counts=counts, item_fields={}))
    scores = model.score(model.query(random_batch([2, 4])))
    assert (scores[:, 1:].diff(dim=1) < 0).all() and "all items are of one category" in caplog.text
    with pytest.raises(RecsysLabError, match="--model.field brand: no categorical field .* known: none"):
        CategoryPopularity("brand")._build(SPEC)


def test_cold_items_of_a_temporal_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cold targets have a place by their category; `compare --baselines` and `slices --by cold` take the row."""
    monkeypatch.chdir(tmp_path)
    events = made_events(num_users=40, num_items=24)
    newest = events["timestamp"].quantile(0.85)
    late = pl.col("timestamp") >= newest
    named = pl.when(late & (pl.col("item_id").hash(1) % 3 == 0)).then(pl.lit("new")).otherwise(pl.lit("old"))
    events = events.with_columns(item_id=named + pl.col("item_id").cast(pl.String))
    events.write_parquet("events.parquet")
    items = events.select("item_id").unique().sort("item_id")
    items.with_columns(kind=pl.col("item_id").str.extract(r"(\d+)").cast(pl.Int64) % 4).with_columns(
        kind="k" + pl.col("kind").cast(pl.String)
    ).write_parquet("items.parquet")
    prepare = "prepare --input events.parquet --items items.parquet --name shop --data_dir data"
    assert main(prepare.split()) == 0
    common = (
        "--data.dataset shop --data.data_dir data --data.split GlobalTemporal --data.split.quantile 0.85 "
        "--data.split.target all --data.fields [item.kind] --evaluation.candidates all --evaluation.measures null "
        "--trainer.enable_progress_bar false --trainer.accelerator cpu --run.folder runs/shop/category/seed0"
    )
    assert main(["fit", "--model", "CategoryPopularity", "--model.field", "item.kind", *common.split()]) == 0
    metrics = json.loads(Path("runs/shop/category/seed0/metrics.json").read_text())
    assert metrics["test/target_share_cold"] > 0.1 and 0 < metrics["test/auc_cold"] < 1
    capsys.readouterr()
    assert main(["slices", "runs/shop/category/seed0", "--by", "cold"]) == 0
    assert "cold" in capsys.readouterr().out
    assert main(["compare", "runs/shop/category/seed0", "--baselines", "popularity,category_popularity"]) == 0
    table = capsys.readouterr().out
    assert "popularity" in table and "category" in table
