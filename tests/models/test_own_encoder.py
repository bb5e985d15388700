"""A user's own encoder: one file outside the package, trained, stored and loaded like the built-in ones."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from small_data import quiet_trainer
from torch import Tensor

from recsys_lab.config import Configurable, from_config, to_config
from recsys_lab.contracts import AuxiliaryLoss, Batch, DataSpec, Loss, Negatives, NegativeSampler, Scorer, State
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.evaluation.measure import Measure, numbers_of
from recsys_lab.losses import BPR, BPRMax, CrossEntropy
from recsys_lab.models import NextItemModule
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.blocks.scoring import TiedScorer
from recsys_lab.models.tasks.next_item import NextItem
from recsys_lab.words import RecsysLabError

FILE = '''
"""MeanOfHistory: the state at each position is the mean of the items so far, through one layer."""

import torch
from torch import nn

from recsys_lab.models.lightning import NextItemModule
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.blocks.scoring import TiedScorer


class MeanOfHistory(NextItemModule):
    def __init__(self, embedding_dim: int = 32, **base):
        super().__init__(**base)
        self.embedding_dim = embedding_dim

    def build(self, spec):
        self.embedding = EventEmbedding(spec, self.embedding_dim, std=0.1)
        self.layer = nn.Linear(self.embedding_dim, self.embedding_dim)
        self.scorer = TiedScorer(self.embedding.items, bias=True)

    def encode(self, batch):
        x = self.embedding(batch)  # (B, L, D)
        count = torch.arange(1, x.shape[1] + 1, device=x.device)[:, None]
        return self.layer(x.cumsum(dim=1) / count)
'''


@pytest.fixture
def own_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[NextItemModule]:
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").write_text("")
    (tmp_path / "my_package" / "encoder.py").write_text(FILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("my_package", "my_package.encoder"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return from_config({"class_path": "my_package.encoder.MeanOfHistory"}, NextItemModule, ["my_package"]).__class__


def test_train_store_load_and_test(own_class: type[NextItemModule], small_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = SequenceDataModule(str(small_folder), max_length=8, batch_size=64)
    model = own_class(embedding_dim=16, loss=BPRMax(regularization=0.5))
    assert to_config(model) == {
        "class_path": "my_package.encoder.MeanOfHistory",
        "init_args": {
            "embedding_dim": 16,
            "loss": {"class_path": "recsys_lab.losses.pairwise.BPRMax", "init_args": {"regularization": 0.5}},
        },
    }
    trainer = quiet_trainer(tmp_path, max_epochs=20)
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    metrics = trainer.test(model, data, verbose=False)[0]
    loaded = NextItemModule.load_from_checkpoint(tmp_path / "own.ckpt")
    assert type(loaded) is own_class and loaded.loss.regularization == 0.5
    again = quiet_trainer(tmp_path).test(loaded, data, verbose=False)[0]
    assert again == metrics and 0 < metrics["test/auc"] < 1


def test_without_its_file_the_checkpoint_names_the_class(
    own_class: type[NextItemModule], small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = quiet_trainer(tmp_path, limit_val_batches=0)
    trainer.fit(own_class(), SequenceDataModule(str(small_folder)))
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    monkeypatch.setitem(sys.modules, "my_package.encoder", None)
    with pytest.raises(RecsysLabError, match="names the class my_package.*--allow_classes my_package.encoder"):
        NextItemModule.load_from_checkpoint(tmp_path / "own.ckpt")
    with pytest.raises(RecsysLabError, match="can't import class 'my_package.encoder.MeanOfHistory'"):
        NextItemModule.load_from_checkpoint(tmp_path / "own.ckpt", allow_classes=["my_package"])


def test_an_argument_that_can_not_be_written_down_is_named(small_folder: Path, tmp_path: Path) -> None:
    class NotPlain(torch.nn.Module):
        pass

    with pytest.raises(TypeError, match="NotPlain.*can't be written as plain configuration.*Configurable"):
        to_config({"loss": NotPlain()})
    assert issubclass(NextItemModule, Configurable) and not issubclass(NotPlain, Scorer)


def test_a_forgotten_method_is_named(small_folder: Path, tmp_path: Path) -> None:
    class Empty(NextItemModule):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty must define build\(spec\)"):
        quiet_trainer(tmp_path).fit(Empty(), SequenceDataModule(str(small_folder)))


class Own(NextItemModule):
    """Breaks one promise, which `encode` is given by name."""

    def __init__(self, breaks: str = "", embedding_dim: int = 8, **base: Any) -> None:
        super().__init__(**base)

    def build(self, spec: DataSpec) -> None:
        self.embedding = EventEmbedding(spec, self.settings.embedding_dim, std=0.1)
        if self.settings.breaks != "scorer":
            self.scorer = TiedScorer(self.embedding.items)

    def encode(self, batch: Batch) -> Tensor:
        x = self.embedding(batch)  # (B, L, D)
        broken = {
            "shape": lambda: x[:, -1],
            "width": lambda: torch.cat([x, x], dim=-1),
            "causal": lambda: x + x.flip(1),
            "gradient": lambda: x.detach(),
        }
        return broken.get(self.settings.breaks, lambda: x)()


class Unreduced(Loss):
    def forward(self, hidden: Tensor, target_ids: Tensor, *others: Any, weights: Tensor | None = None) -> Tensor:
        return hidden.sum(1)


class Detached(Loss):
    def forward(self, hidden: Tensor, target_ids: Tensor, *others: Any, weights: Tensor | None = None) -> Tensor:
        return hidden.detach().mean()


class TwoArguments(Loss):
    def forward(self, hidden: Tensor, target_ids: Tensor) -> Tensor:  # type: ignore[override]
        return hidden.mean()


class NoBaseLoss(Unreduced):
    def __init__(self, margin: float = 1.0) -> None:
        self.margin = margin


class NoBaseTask(NextItem):
    def __init__(self, margin: float = 1.0) -> None:
        self.margin = margin


class NoBase(NextItemModule):
    def __init__(self, embedding_dim: int = 8) -> None:
        self.embedding_dim = embedding_dim


class More(AuxiliaryLoss):
    def __init__(self, value: Any = 0.0, share: float | None = 0.1) -> None:
        super().__init__()
        self.value = value
        if share is not None:
            self.share = share

    def forward(self, encode: Any, state: State, *others: Any) -> Any:
        assert state.history is not None
        return state.history.mean() if self.value is None else self.value


class OwnNegatives(NegativeSampler):
    """What it draws is `found` of the number of targets."""

    def __init__(self, found: Callable[[int], Any]) -> None:
        self.found = found

    def prepare(self, item_counts: Tensor) -> None:
        pass

    def sample(self, target_ids: Tensor, generator: torch.Generator | None) -> Any:
        return self.found(len(target_ids))


class OwnTask(NextItem):
    def __init__(self, weight: float, number: int | None = None) -> None:
        super().__init__()
        self.weight, self.number = weight, number

    def weights(self, batch: Batch, positions: Tensor) -> Tensor:
        return torch.full((self.number or len(positions),), self.weight)


class OwnMeasure(Measure):
    def __init__(self, found: Any = None) -> None:
        self.found = found

    def start(self, setting: Any) -> None:
        pass

    def add(self, rows: Any) -> None:
        pass

    def finish(self) -> dict[str, float]:
        return self.found


def drawing(found: Callable[[int], Any]) -> dict[str, Any]:
    return {"loss": BPR(), "negatives": OwnNegatives(found)}


def drawn(*shape: int, targets: int = 1, item: int = 1) -> Negatives:
    return Negatives(torch.full(shape, item), torch.zeros(shape), torch.zeros(targets))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"breaks": "scorer"}, r"Own.build\(spec\) must set self.scorer"),
        ({"breaks": "shape"}, r"Own.encode gives a tensor of shape \(\d+, 8\), and not \(B, L, D\)"),
        ({"breaks": "width"}, "Own.encode gives states of width 16, which TiedScorer can't score"),
        ({"breaks": "causal"}, "Own.encode lets a state depend on later events"),
        ({"breaks": "gradient", "loss": CrossEntropy()}, None),  # the table is learned from the scores
        ({"breaks": "gradient", "loss": Detached()}, "Own.encode gives states without a gradient"),
        ({"loss": Detached()}, "the loss Detached gives a value without a gradient"),
        ({"loss": TwoArguments()}, r"TwoArguments.forward can't be called .*: it must take hidden, target_ids, scorer"),
        ({"auxiliary": [More(None)]}, None),
        ({"auxiliary": [More(torch.zeros(3))]}, r"the loss More gives a tensor of shape \(3,\), and not a scalar"),
        ({"auxiliary": [More("much")]}, "the loss More gives str, and not a scalar"),
        ({"auxiliary": [More(torch.zeros(()))]}, "the loss More gives a value without a gradient"),
        ({"auxiliary": [More(None, share=None)]}, "More has no share: set self.share"),
        (drawing(lambda n: torch.ones(3)), r"OwnNegatives.sample gives a tensor of shape \(3,\), and not Negatives"),
        (drawing(lambda n: drawn(2, 5)), r"item_ids of shape \(2, 5\), and not \(C,\) or \(\d+, C\)"),
        (
            drawing(lambda n: drawn(5, targets=1)),
            r"target_log_q of shape \(1,\), and not \(5,\), as item_ids have, and",
        ),
        (drawing(lambda n: drawn(5, targets=n, item=0)), "OwnNegatives.sample gives items 0 to 0: ids are 1 to"),
        (drawing(lambda n: drawn(5, targets=n)), None),
        ({"loss": Unreduced()}, r"the loss Unreduced gives a tensor of shape \(\d+,\), and not a scalar"),
        ({"task": OwnTask(1.0, 3)}, r"OwnTask.weights gives a tensor of shape \(3,\), and not one for each of the"),
        ({"task": OwnTask(-1.0)}, "OwnTask.weights gives weights that are negative"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,  # texts: an object's address differs between processes
)
def test_a_broken_promise_is_one_line(
    settings: dict[str, Any], message: str | None, small_folder: Path, tmp_path: Path
) -> None:
    """None: no promise is broken."""
    data = SequenceDataModule(str(small_folder), max_length=8, batch_size=64)
    with nullcontext() if message is None else pytest.raises(RecsysLabError, match=message):
        quiet_trainer(tmp_path, max_steps=1).fit(Own(**settings), data)


@pytest.mark.parametrize(
    ("made", "base"), [(NoBaseLoss, "Module"), (NoBaseTask, "NextItem"), (NoBase, "NextItemModule")]
)
def test_an_init_that_forgets_its_base_is_named(made: type, base: str) -> None:
    with pytest.raises(RecsysLabError, match=rf"{made.__name__}: its __init__ does not build {base}, .* super\(\)"):
        made()


def test_an_init_that_a_decorator_wraps_builds_its_base() -> None:
    def told(init: Any) -> Any:
        @wraps(init)
        def wrapper(*args: Any, **kwargs: Any) -> None:
            init(*args, **kwargs)

        return wrapper

    class Wrapped(Unreduced):
        @told
        def __init__(self, margin: float = 1.0) -> None:
            super().__init__()
            self.margin = margin

    assert Wrapped(2.0).margin == 2.0


def test_a_kept_promise_changes_no_number(small_folder: Path, tmp_path: Path) -> None:
    class Silent(Own):
        pass

    weights = []
    for module in (Own.__module__, "recsys_lab.models.encoders.own"):  # the package's own are not looked at
        Silent.__module__ = module
        data, model = SequenceDataModule(str(small_folder), max_length=8, batch_size=64), Silent()
        quiet_trainer(tmp_path, max_steps=2).fit(model, data)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*weights)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, "OwnMeasure.finish gives NoneType, and not numbers by name"),
        ({"x": "many"}, "OwnMeasure.finish gives str for 'x', and not a number"),
        ({"ndcg@10": 0.5}, "OwnMeasure.finish gives 'ndcg@10', a metric that is there already"),
    ],
    ids=str,
)
def test_what_a_measure_gives(found: Any, message: str) -> None:
    assert numbers_of(OwnMeasure({"x@10": 0.5}), {"ndcg@10": 0.1}) == {"x@10": 0.5}
    with pytest.raises(RecsysLabError, match=message):
        numbers_of(OwnMeasure(found), {"ndcg@10": 0.1})
