"""Scorers beyond one table: a table in two blocks, and scores that are no product, through losses, ranks, lists and
predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import torch.nn.functional as F
import whole_rows
from loss_scorers import Distances, TableScorer, TwoBlocks
from small_data import made_events, prepared, quiet_trainer

from recsys_lab.contracts import DataSpec
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.evaluation import RankingEvaluation
from recsys_lab.evaluation.recommendations import Recommendations
from recsys_lab.losses import BCE, CrossEntropy, SampledSoftmax
from recsys_lab.losses import by_parts as parts
from recsys_lab.models import GRU4Rec
from recsys_lab.models.blocks.item_table import ItemTable
from recsys_lab.models.blocks.scoring import TiedScorer
from recsys_lab.ops import linear_ranks
from recsys_lab.ops.linear_ranks import linear_target_ranks
from recsys_lab.words import RecsysLabError

COUNTS = torch.tensor([0, 5, 0, 9, 1, 0, 0, 2, 40, 3, 0])
CANDIDATES = [1, 3, 4, 7, 8, 9]
TARGETS = torch.tensor([9, 1, 8, 8, 3, 7, 4])


@pytest.mark.parametrize("kind", [TwoBlocks, Distances])
@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("elements", [1, 20, 10_000])
def test_cross_entropy_by_parts_is_that_of_all_logits(
    kind: type[TableScorer], cold: bool, smoothing: float, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_ELEMENTS", elements)
    hidden = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    table = TableScorer.random(10, 4, bias=True, dtype=torch.float64)
    scorer = kind(table.weight.detach(), table.bias.detach())  # type: ignore[union-attr]
    loss, wanted = CrossEntropy(smoothing, 0.7), [hidden, *scorer.parameters()]
    if cold:
        loss.prepare(COUNTS)
    columns = CANDIDATES if cold else list(range(1, 11))
    logits = scorer.all_scores(hidden)[:, columns] / 0.7
    expected = F.cross_entropy(logits, torch.tensor([columns.index(t) for t in TARGETS]), label_smoothing=smoothing)
    got = loss(hidden, TARGETS, scorer)
    torch.testing.assert_close(got, expected)
    for ours, theirs in zip(torch.autograd.grad(got, wanted), torch.autograd.grad(expected, wanted), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_parts_hold_no_more_logits_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_ELEMENTS", 21)
    sizes = []

    class Watched(Distances):
        def scores(self, state: Any, items: Any) -> Any:
            found = super().scores(state, items)
            sizes.append(found.numel())
            return found

    CrossEntropy()(torch.randn(7, 4), TARGETS, Watched(torch.randn(11, 4))).backward()
    assert max(sizes) <= 21


def test_a_target_without_training_events_is_an_error() -> None:
    loss = CrossEntropy()
    loss.prepare(COUNTS)
    with pytest.raises(IndexError, match="out of the candidates"):
        loss(torch.ones(1, 4), torch.tensor([2]), Distances(torch.randn(11, 4)))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("part", [300, 1 << 19])
def test_ranks_of_two_blocks(bias: bool, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_ranks, "BLOCK_SCORES", part)
    draw = torch.Generator().manual_seed(0)
    weight = torch.randint(3, (60, 6), generator=draw).float()  # whole numbers: exact in any order, and many ties
    scorer = TwoBlocks(weight, torch.randint(3, (60,), generator=draw).float() if bias else None)
    query = torch.randint(3, (40, 6), generator=draw).float()
    targets, is_candidate = torch.randint(1, 60, (40,), generator=draw), torch.rand(60, generator=draw) > 0.1
    is_candidate[0] = False
    seen, offsets = torch.arange(1, 41), torch.arange(41)
    got = linear_target_ranks(query, scorer, targets, is_candidate, seen, offsets)
    expected = whole_rows.target_ranks(scorer.all_scores(query), targets, is_candidate, seen, offsets, "expected")
    assert got is not None
    for name in ("num_greater", "num_ties", "num_candidates", "is_hidden"):
        assert torch.equal(getattr(got, name), getattr(expected, name)), name


class Other(GRU4Rec):
    """GRU4Rec with another scorer over its table."""

    kind: type[Any] = TwoBlocks

    def build(self, spec: DataSpec) -> None:
        super().build(spec)
        items = self.embedding.items
        self.scorer = self.kind(items.weight.detach())
        items.weight = self.scorer.weight


class Far(Other):
    kind = Distances


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frame = made_events(num_users=70, num_items=40, shortest=4)
    return prepared(tmp_path_factory.mktemp("prepared") / "many", frame).path


@pytest.mark.parametrize("loss", [CrossEntropy, SampledSoftmax, BCE])
@pytest.mark.parametrize("cls", [Other, Far])
def test_trains_ranks_and_predicts(cls: type[Other], loss: Any, many: Path, tmp_path: Path) -> None:
    folder = many
    data = SequenceDataModule(str(folder), max_length=8, eval_batch_size=50, batch_size=8)
    torch.manual_seed(0)
    evaluation, model = RankingEvaluation(), cls(embedding_dim=16, loss=loss())
    file = tmp_path / "lists.parquet"
    trainer = quiet_trainer(tmp_path, callbacks=[evaluation, Recommendations(file, top_k=5)])
    trainer.fit(model, data)
    assert torch.isfinite(trainer.callback_metrics["train/loss_epoch"])
    trainer.test(model, data, verbose=False)
    ranks = evaluation.last_ranks
    assert ranks is not None and len(ranks) == 70
    batch = next(iter(data.test_dataloader()))
    with torch.no_grad():
        query = model.eval().query(batch)
        scores, own = model.score(query), model.scorer.scores(query, batch.target_ids[:, None])
    torch.testing.assert_close(own, scores.gather(1, batch.target_ids[:, None]))
    trainer.predict(model, data)
    lists = pl.read_parquet(file)
    assert lists["user_id"].n_unique() == 70 and lists.group_by("user_id").len()["len"].max() == 5


def test_one_table_scores_alike_in_one_block_and_in_two(many: Path, tmp_path: Path) -> None:
    """Another way through the loss: the same training to rounding."""
    folder = many
    losses = []
    for cls in (GRU4Rec, Other):
        data = SequenceDataModule(str(folder), max_length=8, batch_size=8)
        trainer = quiet_trainer(tmp_path, max_epochs=2)
        trainer.fit(cls(embedding_dim=16), data)
        losses.append(float(trainer.callback_metrics["train/loss_epoch"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_score_of_its_own_is_refused_where_nobody_would_ask_it() -> None:
    with pytest.raises(RecsysLabError, match="Shifted defines score.*scorer"):

        class Shifted(GRU4Rec):
            def score(self, query: Any) -> Any:
                return super().score(query) + 1

    assert TiedScorer(ItemTable(4, 2)).one_block() is not None
    assert TwoBlocks(torch.randn(4, 2)).one_block() is None and Distances(torch.randn(4, 2)).one_block() is None
