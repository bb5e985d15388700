"""DeepScorer: the same scores whatever the chunk, under every loss, and in place of any encoder's product."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from found_models import ENCODERS, LOSSES, SPEC, built, random_batch, small
from small_data import made_events, prepared, quiet_trainer
from test_fields_of_models import WITH_FIELDS, batch_with_fields, filled

from recsys_lab.contracts import DataSpec
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.losses import BCE, CrossEntropy
from recsys_lab.losses import by_parts as parts
from recsys_lab.models import GRU4Rec, SASRec
from recsys_lab.models.blocks.deep_scorer import DeepScorer
from recsys_lab.models.blocks.scoring import WholeRows
from recsys_lab.models.system import model_settings
from recsys_lab.ops.linear_ranks import linear_target_ranks
from recsys_lab.runs.saved import model_of_checkpoint
from recsys_lab.words import RecsysLabError

KINDS: dict[str, dict[str, Any]] = {
    "feed_forward": {"hidden_dims": [12, 6]},
    "with_product": {"hidden_dims": [12], "add_product": True},
    "convolution": {"network": "convolution", "hidden_dims": [3, 8], "kernel_size": 5},
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def scored(kind: str, spec: DataSpec = SPEC, chunk: int | None = None) -> Any:
    return built(SASRec, spec, scorer=DeepScorer(**KINDS[kind], chunk=chunk)).scorer


@each_kind
def test_chunks_of_one_and_of_all_score_alike(kind: str) -> None:
    state = torch.randn(7, 16, generator=torch.Generator().manual_seed(1))
    own = torch.randint(0, 41, (7, 5), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        scores = scored(kind).all_scores(state)
        assert scores.shape == (7, 41) and scores[:, 1:].std() > 0
        for chunk in (1, 3, 41):
            scorer = scored(kind, chunk=chunk)
            torch.testing.assert_close(scorer.all_scores(state), scores, rtol=0, atol=1e-6)
            torch.testing.assert_close(scorer.scores(state, own), scores.gather(1, own), rtol=0, atol=1e-6)
            shared = torch.tensor([4, 4, 9])
            torch.testing.assert_close(scorer.scores(state, shared), scores[:, shared], rtol=0, atol=1e-6)


def test_the_feed_forward_network_by_hand() -> None:
    scorer, draw = scored("feed_forward"), torch.Generator().manual_seed(0)
    state, item = torch.randn(16, generator=draw), scorer.items.weight[5]
    first = torch.cat([scorer.of_state.weight, scorer.of_item.weight, scorer.of_product.weight], dim=1)
    x = first @ torch.cat([state, item, state * item]) + scorer.of_state.bias
    for layer in scorer.layers:
        x = layer.weight @ x.relu() + layer.bias
    torch.testing.assert_close(scorer.scores(state[None], torch.tensor([5]))[0], x)


@each_kind
@pytest.mark.parametrize("cls", ENCODERS)
def test_in_place_of_every_encoders_product(cls: Any, kind: str) -> None:
    if kind != "with_product" and cls is not SASRec:
        return
    model, batch = built(cls, scorer=DeepScorer(**KINDS[kind])), random_batch([4, 9, 2])
    scores = model.scorer.all_scores(model.hidden(batch)[batch.valid_mask])
    scores.square().sum().backward()
    for name, parameter in model.scorer.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
    assert model.scorer.items is model.embedding.items and torch.isfinite(scores).all()


def test_fast_paths_switch_off() -> None:
    scorer = scored("feed_forward")
    assert scorer.linear_blocks() is None and scorer.one_block() is None
    none = torch.zeros(0, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
    assert linear_target_ranks(torch.randn(2, 16), scorer, torch.tensor([1, 2]), torch.ones(41) > 0, *none) is None


def test_fields_of_the_items_are_in_it() -> None:
    model, batch = filled(built(SASRec, WITH_FIELDS, scorer=DeepScorer())), batch_with_fields([5, 9])
    with torch.no_grad():
        before = model.score(model.query(batch))
        part = model.embedding.items.parts[0]
        part.values.copy_(part.values.roll(1, 0))
        assert not torch.allclose(model.scorer.all_scores(model.query(batch)), before)
    assert model.scorer.scores_untrained and not scored("feed_forward").scores_untrained


def test_cross_entropy_in_parts_is_that_of_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, target = torch.randn(6, 16, requires_grad=True), torch.tensor([1, 5, 40, 2, 2, 7])
    losses = []
    for elements in (8_000_000, 500):
        monkeypatch.setattr(parts, "PART_ELEMENTS", elements)
        scorer = scored("feed_forward")
        loss = CrossEntropy()(hidden, target, scorer)
        losses.append((loss, torch.autograd.grad(loss, [hidden, *scorer.parameters()])))
    expected = torch.nn.functional.cross_entropy(scorer.all_scores(hidden)[:, 1:], target - 1)
    torch.testing.assert_close(losses[0][0], expected)
    for one, other in zip(losses[0][1], losses[1][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", [CrossEntropy, BCE])
def test_it_trains_ranks_and_comes_back(loss: Any, tmp_path: Path) -> None:
    folder = prepared(tmp_path / "many", made_events(num_users=40)).path
    data = SequenceDataModule(str(folder), max_length=8, batch_size=8, eval_batch_size=50)
    model, trainer = (
        small(GRU4Rec, loss=loss(), scorer=DeepScorer(add_product=True)),
        quiet_trainer(tmp_path, max_epochs=2),
    )
    trainer.fit(model, data)
    assert loss in LOSSES and torch.isfinite(trainer.callback_metrics["train/loss_epoch"])
    trainer.save_checkpoint(tmp_path / "m.ckpt")
    loaded = GRU4Rec.load_from_checkpoint(tmp_path / "m.ckpt")
    tested = [quiet_trainer(tmp_path).test(one, data, verbose=False)[0] for one in (model, loaded)]
    assert tested[0] == tested[1] and 0 < tested[0]["test/auc"] < 1

    # a chunk changes memory alone: a test takes the one that is asked, and of the loss that which was trained
    for own in ({"loss": loss()}, {"loss": CrossEntropy() if loss is BCE else BCE()}):
        wanted = small(GRU4Rec, scorer=DeepScorer(add_product=True, chunk=3), **own)
        found = model_of_checkpoint(wanted, tmp_path / "m.ckpt")
        again = quiet_trainer(tmp_path).test(found, data, ckpt_path=str(tmp_path / "m.ckpt"), verbose=False)[0]
        assert found.scorer.chunk == 3 and type(found.loss) is loss
        assert again == pytest.approx(tested[0], abs=1e-6)
    with pytest.raises(RecsysLabError, match=r"--model.scorer.add_product: trained with True, asked False"):
        model_of_checkpoint(small(GRU4Rec, loss=loss(), scorer=DeepScorer(chunk=3)), tmp_path / "m.ckpt")


def test_where_there_is_no_table_it_is_refused() -> None:
    class Counted(GRU4Rec):
        def build(self, spec: DataSpec) -> None:
            super().build(spec)
            self.scorer = WholeRows(lambda state: state, spec.num_rows)

    with pytest.raises(RecsysLabError, match="--model.scorer DeepScorer: Counted has a scorer of its own, WholeRows"):
        built(Counted, scorer=DeepScorer())
    assert "scorer" not in model_settings(SASRec())["init_args"]
