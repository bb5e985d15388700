"""Numbers before they are standardised: log1p and quantiles, fitted on the training part alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_fitted_fields import fielded, folder, training_mask  # noqa: F401

from recsys_lab.cli import main
from recsys_lab.data.batches.field_columns import rescaled
from recsys_lab.data.fitting.fit_fields import _knots
from recsys_lab.data.fitting.vocabulary import read_vocabulary
from recsys_lab.words import RecsysLabError


def of(folder: Path, numerics: Any) -> Any:  # noqa: F811
    return fielded(folder, ["price", "colour", "user.age"], numerics=numerics)


@pytest.mark.parametrize("scale", ["log1p", "quantile"])
def test_a_scale_by_hand(scale: Any, folder: Path) -> None:  # noqa: F811
    data = of(folder, {"price": scale})
    trains, price = training_mask(data), np.asarray(data.processed.field_array("price"), dtype=np.float64)
    known = price[trains & ~np.isnan(price)]
    if scale == "log1p":
        changed, mine = np.log1p(known), np.log1p(price)
    else:
        changed = np.array([((known < v).mean() + (known <= v).mean()) / 2 for v in known])
        mine = np.interp(price, np.sort(known), np.sort(changed))
    expected = (mine - changed.mean()) / changed.std()
    batch = next(iter(data.train_dataloader()))
    got = data.events.fields["price"].take(np.arange(len(price)), np.ones(len(price), dtype=bool))
    is_known = ~np.isnan(price)
    tolerance = 1e-4 if scale == "log1p" else 0.05  # hundredths of the numbers, not each of them
    np.testing.assert_allclose(got[is_known, 0], expected[is_known], atol=tolerance)
    assert got[~is_known].tolist() == [[0.0, 1.0]] * int((~is_known).sum())
    assert batch.event["price"].shape[-1] == 2 and data.fitted_fields["user.age"].scale == "standard"


@pytest.mark.parametrize("scale", ["standard", "log1p", "quantile"])
def test_nothing_of_what_is_held_out_is_fitted(scale: Any, folder: Path) -> None:  # noqa: F811
    """A planted leak: the held-out prices are enormous. What training sees must not move."""
    data, other = of(folder, scale), of(folder, scale)
    array = other.processed._arrays["price"]
    array[~training_mask(other)] = 1e9
    assert data.fitted_fields.hash == other.fitted_fields.hash
    for mine, theirs in zip(data.train_dataloader(), other.train_dataloader(), strict=True):
        assert torch.equal(mine.event["price"], theirs.event["price"])
    held_out = next(iter(other.test_dataloader())).target["price"]
    assert held_out[:, 0].max() > data.fitted_fields["price"].std
    array[np.flatnonzero(training_mask(other))[:5]] = 7e6
    again = of(folder, scale)
    again.processed._arrays["price"] = array
    assert again.fitted_fields.hash != data.fitted_fields.hash


def test_the_hash_of_plain_numbers_is_what_it_was(folder: Path) -> None:  # noqa: F811
    plain = of(folder, "standard")
    hashes = {of(folder, scale).fitted_fields.hash for scale in ("log1p", "quantile", {"price": "log1p"})}
    assert len(hashes | {plain.fitted_fields.hash}) == 4
    assert plain.fitted_fields.hash == fielded(folder, ["price", "colour", "user.age"]).fitted_fields.hash
    assert of(folder, {}).fitted_fields.hash == plain.fitted_fields.hash
    held = read_vocabulary(of(folder, "quantile").vocabulary()).fields
    assert held["price"].knots and held.hash == of(folder, "quantile").fitted_fields.hash


def test_knots_of_few_and_of_equal_numbers() -> None:
    assert _knots(np.zeros(0)) == ()
    assert _knots(np.array([3.0, 3.0])) == ((3.0, 0.5),)
    assert rescaled(np.array([1.0, np.nan]), "quantile", ((3.0, 0.5),))[0] == 0.5
    assert rescaled(np.array([-np.e + 1]), "log1p")[0] == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("numerics", "text"),
    [
        ({"prise": "log1p"}, "'prise' is no field of the data; numeric fields that are fed: price, user.age"),
        ({"colour": "log1p"}, "'colour' is categorical; numeric"),
        ({"item.price": "log1p"}, "'item.price' is not fed"),
    ],
)
def test_a_name_that_is_no_numeric_field(numerics: Any, text: str, folder: Path) -> None:  # noqa: F811
    with pytest.raises(RecsysLabError, match=f"--data.numerics: {text}"):
        assert of(folder, numerics).fitted_fields


def test_an_unknown_scale_is_refused_by_the_parser(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--model", "SASRec", "--data.numerics", "log", "--print_config"]) == 2
    assert "data.numerics" in capsys.readouterr().err
