"""Clicks by their rates: one rate for all, that of the item, that of the user; and a logistic regression over fields.
Counted, for the task `ClickThrough`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recsys_lab.arguments import Count, NotNegative, Positive
from recsys_lab.contracts import Batch, DataSpec, Field, Scorer, State
from recsys_lab.models.baselines.counting import CountingModel
from recsys_lab.models.blocks.field_vectors import FED
from recsys_lab.models.tasks.click_through import ClickThrough
from recsys_lab.words import RecsysLabError

AT_ONCE = 2_048
"""Impressions whose fields are gathered at once."""


class GivenProbabilities(ClickThrough):
    """`ClickThrough` of a model that gives probabilities itself, in place of a state."""

    is_base = True  # no task by itself

    @property
    def name(self) -> str:
        return ClickThrough.__name__

    def build(self, spec: DataSpec, model: Any) -> None:
        return None

    def start_at(self, click_rate: float) -> None:
        return None

    def evaluate(self, state: State, batch: Batch, scorer: Scorer) -> dict[str, Tensor]:
        assert state.query is not None
        return self.outcome(state.query.double(), batch)


class ClickBaseline(CountingModel):
    """A subclass gives `build`, `count(datamodule)` and `query(batch) -> (B, C)`, the probability of each click."""

    is_base = True  # no model by itself
    own_task = GivenProbabilities

    def __init__(self) -> None:
        super().__init__()
        self.task = GivenProbabilities()

    @abstractmethod
    def query(self, batch: Batch) -> Tensor: ...

    def score(self, query: Tensor) -> Tensor:
        raise RecsysLabError(f"{type(self).__name__} says how likely clicks on shown items are, and ranks no catalogue")


class Rows(NamedTuple):
    """The shown items of the training part whose label is known."""

    user: np.ndarray  # (N,) int64, 0-based
    item: np.ndarray  # (N,) int64, 1..num_items
    label: np.ndarray  # (N,) float64
    weight: np.ndarray  # (N,) float64

    @property
    def rate(self) -> float:
        return float((self.label * self.weight).sum() / self.weight.sum())

    def rates(self, code: np.ndarray, number: int, prior: float) -> Tensor:
        """(number,) of each code: its clicks and those of `prior` more shown items at the overall rate; of a code that
        was never shown the overall rate."""
        clicks = np.bincount(code, self.label * self.weight, number)
        shown = np.bincount(code, self.weight, number)
        more = np.where(shown > 0, prior, 1.0)
        return torch.from_numpy((clicks + more * self.rate) / (shown + more)).float()


def training_rows(datamodule: Any) -> Rows:
    dataset = datamodule.impressions("train")
    shown, which = dataset.shown, dataset.impression
    count = np.diff(shown.offsets)[which]
    place = np.repeat(shown.offsets[which] - (np.cumsum(count) - count), count) + np.arange(count.sum())
    label = shown.labels[place].astype(np.float64)
    known = ~np.isnan(label)
    weight = np.ones(len(place)) if shown.weights is None else shown.weights[place].astype(np.float64)
    user = np.repeat(shown.users[which].astype(np.int64), count)
    return Rows(user[known], shown.item_ids[place][known].astype(np.int64), label[known], weight[known])


class ConstantRate(ClickBaseline):
    """The share of clicks among all that was shown in the training part."""

    rate: Tensor

    def build(self, spec: DataSpec) -> None:
        self.register_buffer("rate", torch.zeros(()))

    def count(self, datamodule: Any) -> None:
        self.rate = torch.tensor(training_rows(datamodule).rate, device=self.device)

    def query(self, batch: Batch) -> Tensor:
        assert batch.shown_ids is not None
        return self.rate.expand(batch.shown_ids.shape)


class RateOf(ClickBaseline):
    """The own rate of what a shown item is told by, drawn towards that of all. A subclass gives `number` and `code`."""

    is_base = True
    rates: Tensor

    def __init__(self, prior: NotNegative = 20.0) -> None:
        super().__init__()
        self.prior = prior

    @abstractmethod
    def number(self, spec: DataSpec) -> int:
        """How many codes there are."""

    @abstractmethod
    def code(self, rows: Rows) -> np.ndarray:
        """(N,) int64 of the training part, below `number`."""

    def build(self, spec: DataSpec) -> None:
        self.register_buffer("rates", torch.zeros(self.number(spec)))

    def count(self, datamodule: Any) -> None:
        rows = training_rows(datamodule)
        self.rates = rows.rates(self.code(rows), len(self.rates), self.prior).to(self.device)


class ItemRate(RateOf):
    """The item's own rate, drawn towards that of all.

    Args:
        prior: weight of the rate of all, in shown items.
    """

    def number(self, spec: DataSpec) -> int:
        return spec.num_rows

    def code(self, rows: Rows) -> np.ndarray:
        return rows.item

    def query(self, batch: Batch) -> Tensor:
        assert batch.shown_ids is not None
        return self.rates[batch.shown_ids]


class UserRate(RateOf):
    """The user's own rate, drawn towards that of all; that of all for a user whom the training part shows nothing.

    Args:
        prior: weight of the rate of all, in shown items.
    """

    def number(self, spec: DataSpec) -> int:
        return spec.num_users + 1  # the last is of users from elsewhere, whose `user_index` is -1

    def code(self, rows: Rows) -> np.ndarray:
        return rows.user

    def query(self, batch: Batch) -> Tensor:
        assert batch.shown_ids is not None
        return self.rates[batch.user_index][:, None].expand(batch.shown_ids.shape)


class ClickRegression(ClickBaseline):
    """Logistic regression, as scikit-learn fits it, over what is known of a shown item and its user: which item it is,
    and the fields of shown items, items and users that are fed. It looks at no history.

    Args:
        inverse_penalty: C of scikit-learn, of the squared weights.
        max_iter: steps of its optimiser.
    """

    weights: Tensor
    bias: Tensor

    def __init__(self, inverse_penalty: Positive = 0.1, max_iter: Count = 200) -> None:
        super().__init__()
        self.inverse_penalty, self.max_iter = inverse_penalty, max_iter

    def build(self, spec: DataSpec) -> None:
        self.fields = [field for scope in ("shown", "item", "user") for field in spec.fields_of(scope, *FED)]
        widths = [spec.num_rows, *(columns_of(field) for field in self.fields)]
        self.starts = np.append(0, np.cumsum(widths))
        self.register_buffer("weights", torch.zeros(int(self.starts[-1])))
        self.register_buffer("bias", torch.zeros(()))
        for field in self.fields:
            if field.scope == "item":
                self.register_buffer(f"item_{field.name}", torch.zeros(0))

    def count(self, datamodule: Any) -> None:
        from scipy import sparse

        try:
            from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
        except ModuleNotFoundError:
            raise RecsysLabError(
                "ClickRegression is fitted by scikit-learn, which is not installed: pip install 'recsys_lab[text]'"
            ) from None
        for field in self.fields:
            if field.scope == "item":
                setattr(self, f"item_{field.name}", datamodule.item_fields[field.name].to(self.device))
        dataset, task = datamodule.impressions("train"), GivenProbabilities()
        parts, labels, weights = list[Any](), list[np.ndarray](), list[np.ndarray]()
        for start in range(0, len(dataset), AT_ONCE):
            batch = dataset[np.arange(start, min(start + AT_ONCE, len(dataset)))].to(self.device)
            keep = task.counts(batch)
            columns, values = (x[keep].cpu().numpy() for x in self._features(batch))
            row = np.repeat(np.arange(len(columns)), columns.shape[1])
            entries = (values.ravel().astype(np.float64), (row, columns.ravel()))
            parts.append(sparse.csr_array(entries, shape=(len(columns), len(self.weights))))
            assert batch.labels is not None
            labels.append(batch.labels[keep].cpu().numpy())
            if batch.shown_weights is not None:
                weights.append(batch.shown_weights[keep].cpu().numpy())
        model = LogisticRegression(C=self.inverse_penalty, max_iter=self.max_iter)
        design = sparse.csr_matrix(sparse.vstack(parts))
        model.fit(design, np.concatenate(labels), np.concatenate(weights) if weights else None)
        self.weights = torch.from_numpy(model.coef_[0]).float().to(self.device)
        self.bias = torch.tensor(float(model.intercept_[0]), device=self.device)

    def query(self, batch: Batch) -> Tensor:
        columns, values = self._features(batch)
        return torch.sigmoid((self.weights[columns] * values).sum(-1) + self.bias)

    def _features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, C, F) columns of the design matrix that are not zero, and their values; a value that padding or training
        lacks is 0."""
        assert batch.shown_ids is not None
        shape = batch.shown_ids.shape
        columns, values = [batch.shown_ids[..., None]], [(batch.shown_ids > 0).float()[..., None]]
        for field, start in zip(self.fields, self.starts[1:], strict=False):
            if field.scope == "shown":
                held = batch.shown[field.name]
            elif field.scope == "item":
                held = getattr(self, f"item_{field.name}")[batch.shown_ids]
            else:
                held = batch.user[field.name].unsqueeze(1)
                held = held.expand(*shape, *held.shape[2:])
            column, value = entries_of(field, held)
            columns.append(column + int(start))
            values.append(value)
        return torch.cat(columns, dim=-1), torch.cat(values, dim=-1)


def columns_of(field: Field) -> int:
    """Of the design matrix: one for each value of a category, else one for each number."""
    return field.size if field.kind in ("categorical", "multi") else 2 if field.kind == "numeric" else field.size


def entries_of(field: Field, held: Tensor) -> tuple[Tensor, Tensor]:
    """The tensor of a field (B, C, ...) -> (B, C, F) columns, from 0, and their values."""
    if field.kind in ("categorical", "multi"):
        rows = held if field.kind == "multi" else held[..., None]
        return rows, (rows > 0).float()
    number = torch.arange(held.shape[-1], device=held.device)
    return number.expand(held.shape), held.float()
