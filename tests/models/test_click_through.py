"""ClickThrough: batches of impressions, heads, baselines, and what a run of it leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import lightning as L
import numpy as np
import polars as pl
import pytest
import torch
from found_models import classes
from made_impressions import made_shop, prepared_shop, shop_data
from small_data import quiet_trainer

import recsys_lab.models.baselines
from recsys_lab.contracts import State
from recsys_lab.data.impressions import Impressions
from recsys_lab.data.split.leave_one_out import LeaveOneOut
from recsys_lab.evaluation import OutcomeEvaluation
from recsys_lab.models import BERT4Rec, SASRec
from recsys_lab.models.baselines import ClickBaseline, ClickRegression, ConstantRate, ItemRate, UserRate
from recsys_lab.models.blocks.click_heads import DeepHead, DotHead, TargetAttention
from recsys_lab.models.encoders.gru4rec import GRU4Rec
from recsys_lab.models.tasks import MultiTask, NextItem
from recsys_lab.models.tasks.click_through import ClickThrough
from recsys_lab.words import RecsysLabError

HEADS = {"dot": DotHead, "deep": DeepHead, "din": TargetAttention}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("shop")
    prepared_shop(found)
    return found


def built(folder: Path, task: ClickThrough | None = None, **settings):
    data = shop_data(folder, **settings)
    torch.manual_seed(0)
    model = GRU4Rec(embedding_dim=8, task=task or ClickThrough())
    model._build(data.spec)
    return model.eval(), data


def whole(data, part: str = "test"):
    dataset = data.impressions(part)
    return dataset[np.arange(len(dataset))]


# -- batches -----------------------------------------------------------------------------------------------------------


def test_history_ends_before_the_impression_and_may_be_empty(folder: Path) -> None:
    data = shop_data(folder)
    dataset = data.impressions("train")
    batch = dataset[np.arange(len(dataset))]
    is_empty = batch.item_ids[:, 0] == 0
    assert 0 < is_empty.sum() == dataset.num_without_history < len(batch)
    assert (batch.lengths >= 1).all() and batch.valid_mask[is_empty, 0].all() and (batch.lengths[is_empty] == 1).all()
    before = batch.timestamps < batch.query_time[:, None]  # a click at the second of its list is no history of it
    assert before[~is_empty][batch.valid_mask[~is_empty]].all()
    only_empty = dataset[np.flatnonzero(is_empty.numpy())[:2]]
    assert only_empty.item_ids.shape == (2, 1) and only_empty.valid_mask.all()


def test_parts_follow_the_cuts_in_time(folder: Path) -> None:
    data = shop_data(folder)
    times = [whole(data, part).query_time for part in ("train", "val", "test")]
    assert times[0].max() < data.split_result.cut_time <= times[1].min()
    assert times[1].max() < data.split_result.final.cut_time <= times[2].min()
    retrained = shop_data(folder, retrained=True)
    assert len(whole(retrained, "train")) == len(times[0]) + len(times[1])
    assert len(whole(retrained, "test")) == len(times[2])


def test_items_that_training_lacks_are_not_told_apart(tmp_path: Path) -> None:
    """Whether an item ever has an event is decided by clicks, some of them after the cut."""
    shop = made_shop()
    late = pl.col("timestamp") == shop["impressions"]["timestamp"].max()
    shop["impressions"] = shop["impressions"].with_columns(
        item_id=pl.when(late).then(1_000 + pl.col("position")).otherwise("item_id")
    )
    new = shop["impressions"].filter(late & (pl.col("position") == 1)).select("user_id", "item_id", "timestamp")
    shop["events"] = pl.concat([shop["events"], new])  # one of them is clicked, the others never
    prepared_shop(tmp_path, shop)
    data = shop_data(tmp_path)
    batch = whole(data)
    rows = batch.shown_rows[batch.query_time == batch.query_time.max()]
    raw = data.processed.item_ids_raw.gather(np.asarray(data.processed.arrays["shown/item_ids"])[rows[0]] - 1)
    assert raw.to_list() == [1001, 1002, 1003, 1004]
    assert (batch.shown_ids[batch.query_time == batch.query_time.max()] == 0).all()
    known = data.processed.item_ids_raw.to_list().index(99) + 1  # shown in training, and in no event
    assert (batch.shown_ids == known).any()


def test_propensities_become_weights_up_to_a_bound(folder: Path) -> None:
    batch = whole(shop_data(folder, shown=Impressions("chance", max_weight=3.5)))
    assert batch.shown_weights[0].tolist() == [2.0, 3.0, 3.5, 3.5]
    assert whole(shop_data(folder)).shown_weights is None


def test_shown_items_that_are_in_the_window_are_marked(folder: Path) -> None:
    data = shop_data(folder)
    dataset = data.impressions("test")
    batch = dataset[np.arange(len(dataset))]
    for row in range(0, len(batch), 5):
        history = batch.item_ids[row][batch.valid_mask[row]]
        for place in range(batch.shown_ids.shape[1]):
            item = int(np.asarray(data.processed.arrays["shown/item_ids"])[batch.shown_rows[row, place]])
            expected = [np.log1p(int((history == item).sum())), float(history[-1] == item)]
            assert batch.shown_before[row, place].tolist() == pytest.approx(expected)
    assert 0 < (batch.shown_before[..., 0] > 0).sum() < batch.shown_ids.numel() / 2, "some were had, most were not"


# -- heads -------------------------------------------------------------------------------------------------------------


def layers(network, x: torch.Tensor) -> torch.Tensor:
    for place, layer in enumerate(network.layers):
        x = layer.weight @ (x.relu() if place else x) + layer.bias
    return x


@pytest.mark.parametrize("name", HEADS)
def test_heads_equal_loops(name: str, folder: Path) -> None:
    model, data = built(folder, ClickThrough(HEADS[name]()))
    task, head, batch = model.task, model.task.head, whole(data)
    with torch.no_grad():
        if name == "dot":
            head.alone.normal_()
        hidden = model.encode(batch)
        query = hidden[torch.arange(len(batch)), batch.lengths - 1]
        found = task.logits(query, hidden, batch)
        table = model.embedding.items.weight
        for row in (0, len(batch) // 2, len(batch) - 1):
            for place in range(int((batch.shown_rows[row] >= 0).sum())):
                v = table[batch.shown_ids[row, place]].clone()
                position, price = (module.weight for module in task.fields)
                v += task.of_repeats.weight @ batch.shown_before[row, place]
                v += position[batch.shown["position"][row, place]] + price @ batch.shown["price"][row, place]
                q = query[row]
                if name == "dot":
                    expected = q @ v + head.alone @ v
                elif name == "deep":
                    expected = layers(head.layers, torch.cat([q, v, q * v]))
                else:
                    total = torch.zeros_like(v)
                    for step in range(int(batch.lengths[row])):
                        if batch.item_ids[row, step]:
                            e = table[batch.item_ids[row, step]]
                            first = head.of_event.weight @ e + head.of_event.bias
                            first = first + head.of_shown.weight @ v + head.of_product.weight @ (e * v)
                            total += layers(head.weight, first.relu()) * e
                    expected = layers(head.layers, torch.cat([total, v, q]))
                assert found[row, place].item() == pytest.approx(float(expected + task.bias), abs=1e-5)


def test_without_history_events_change_nothing(folder: Path) -> None:
    for head in HEADS.values():
        model, data = built(folder, ClickThrough(head(), history=False))
        batch = whole(data)
        other = replace(batch, item_ids=batch.item_ids.flip(0).clamp_min(1), shown_before=batch.shown_before + 1)
        a, b = (model._evaluated(one)["probability"] for one in (batch, other))
        assert torch.equal(a, b)
        with_history, _ = built(folder, ClickThrough(head()))
        assert not torch.equal(*(with_history._evaluated(one)["probability"] for one in (batch, other)))


def test_negatives_that_are_not_drawn_are_corrected_for(folder: Path) -> None:
    model, data = built(folder, ClickThrough(keep_negatives=0.25))
    plain, _ = built(folder, ClickThrough())
    plain.load_state_dict(model.state_dict())
    batch = whole(data)
    drawn, every = model._evaluated(batch)["probability"], plain._evaluated(batch)["probability"]
    # He et al. 2014: q = p / (p + (1 - p) / w) turns the rate p of drawn samples into that of all
    assert torch.allclose(drawn, every / (every + (1 - every) / 0.25), atol=1e-12)
    batch = whole(data, "train")
    state = State(None, model.encode(batch))
    totals = [
        float(model.task.loss(state, batch, model.scorer, torch.Generator().manual_seed(s))[1]) for s in range(50)
    ]
    clicks = float(batch.labels.sum())
    assert np.mean(totals) == pytest.approx(clicks + 0.25 * (batch.labels.numel() - clicks), rel=0.03)


def test_unknown_labels_and_weights_count_in_the_loss_as_they_should(folder: Path) -> None:
    model, data = built(folder, shown=Impressions("chance"))
    batch = whole(data, "train")
    labels = batch.labels.clone()
    labels[0, 1] = float("nan")
    batch = replace(batch, labels=labels)
    state = State(None, model.encode(batch))
    mean, total = model.task.loss(state, batch, model.scorer, None)
    mean = mean.detach()
    p = model.task.probabilities(State(state.history[torch.arange(len(batch)), batch.lengths - 1]), batch)
    known = ~labels.isnan()
    each = -torch.where(labels > 0, p, 1 - p).log()
    weight = batch.shown_weights * known
    assert float(total) == pytest.approx(float(weight.sum()), rel=1e-5)
    assert float(mean) == pytest.approx(float((each * weight)[known].sum() / weight.sum()), rel=1e-5)
    assert len(model._evaluated(batch)["unit"]) == int(known.sum())


def test_a_step_encodes_no_more_than_the_head_reads(folder: Path) -> None:
    data = shop_data(folder)
    batch = whole(data, "train")
    losses = []
    for head in (DeepHead(dropout=0.0), TargetAttention(dropout=0.0)):
        torch.manual_seed(0)
        model = SASRec(embedding_dim=8, num_layers=2, dropout=0.0, task=ClickThrough(head))
        model._build(data.spec)
        state = model.training_state(batch)
        assert (state.history is None) == isinstance(head, DeepHead)
        every = State(None, model.encode(batch))
        losses += [[model.task.loss(one, batch, model.scorer, None)[0].item() for one in (state, every)]]
    for one, other in losses:
        assert one == pytest.approx(other, rel=1e-5)


# -- fits --------------------------------------------------------------------------------------------------------------


def fitted(model, data, folder: Path, epochs: int = 1) -> dict[str, float]:
    L.seed_everything(1, verbose=False)
    evaluation = OutcomeEvaluation()
    trainer = quiet_trainer(folder, callbacks=[evaluation], max_epochs=epochs)
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    return evaluation.last_metrics


@pytest.mark.slow
def test_a_sequence_model_learns_whose_half_it_is(folder: Path) -> None:
    """Users like one half of the items, which only their history tells."""
    with_history = fitted(SASRec(embedding_dim=16, num_layers=1, task=ClickThrough()), shop_data(folder), folder, 15)
    without = fitted(ClickRegression(), shop_data(folder), folder)
    constant = fitted(ConstantRate(), shop_data(folder), folder)
    assert with_history["test/auc"] > without["test/auc"] + 0.03 and with_history["test/auc"] > 0.65
    assert with_history["test/log_loss"] < constant["test/log_loss"]
    assert constant["test/auc"] == 0.5 and constant["test/gauc"] == 0.5
    assert constant["test/mean_probability"] == pytest.approx(with_history["test/click_rate"], abs=0.1)
    assert with_history["test/one_class_users"] == 0 == with_history["test/empty_history_share"]


def test_an_encoder_that_fills_in_masked_items_learns_clicks_too(folder: Path, tmp_path: Path) -> None:
    model = BERT4Rec(embedding_dim=8, num_layers=1, num_heads=1, task=ClickThrough())
    trainer = quiet_trainer(tmp_path, limit_val_batches=0)
    trainer.fit(model, shop_data(folder))
    trainer.test(model, shop_data(folder), verbose=False)
    assert 0 < float(trainer.callback_metrics["test/log_loss"]) < 1


def test_a_split_without_impressions_says_what_to_do(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="recsys_lab"):
        shop_data(folder).setup()
        assert not caplog.text
        shop_data(folder, split=LeaveOneOut()).setup()
    assert "gives each user a cut of its own" in caplog.text and "--data.split GlobalTemporal" in caplog.text
    with pytest.raises(RecsysLabError, match="in the val part of leave_one_out .*: --data.split GlobalTemporal"):
        shop_data(folder, split=LeaveOneOut()).impressions("val")


def test_weights_give_the_rate_of_a_policy_that_shows_each_item_alike() -> None:
    """Of 100 lists one policy gave 80 to an item with 40 clicks, and 20 to one with 2."""
    label = np.repeat([1, 0, 1, 0], [40, 40, 2, 18])
    chance = np.repeat([0.8, 0.2], [80, 20])
    same = np.zeros(100, dtype=np.int64)
    outcome = {"label": label, "probability": np.full(100, 0.3), "user": same, "history_length": same, "is_cold": same}
    assert ClickThrough().facts(outcome)["click_rate"] == pytest.approx(0.42)
    assert ClickThrough().facts(outcome | {"weight": 1 / chance})["click_rate"] == pytest.approx((40 / 80 + 2 / 20) / 2)


@pytest.mark.parametrize(
    ("served", "message"),
    [
        ({"position": 99}, r"served position: no shown item .* has shown.position 99; known: 1, 2, 3, 4$"),
        ({"price": "cheap"}, "served price: 'cheap' can't be a value of the numeric shown.price"),
    ],
)
def test_what_is_served_is_a_value_of_the_training_part(served, message: str, folder: Path, tmp_path: Path) -> None:
    for task in (ClickThrough(served=served), MultiTask([NextItem(), ClickThrough(served=served)])):
        with pytest.raises(RecsysLabError, match=message):
            quiet_trainer(tmp_path).fit(GRU4Rec(embedding_dim=4, task=task), shop_data(folder))


def test_labels_are_numbers_or_true_and_false(tmp_path: Path) -> None:
    shop = made_shop(users=10)
    plain = shop["impressions"]["label"].to_list()

    def labels(*text: str) -> np.ndarray:
        shown = shop["impressions"].with_columns(label=pl.col("label").replace_strict([0, 1], text))
        prepared_shop(tmp_path, shop | {"impressions": shown}, name=text[0] or "none")
        return np.asarray(shop_data(tmp_path, text[0] or "none").processed.arrays["shown/labels"])

    assert sorted(labels("false", "True").tolist()) == sorted(plain)
    with pytest.raises(RecsysLabError, match="1 for clicked or 0 for not, and row 1 of the impressions has 'no'"):
        labels("no", "no")
    assert np.isnan(labels("", "")).all()
    with pytest.raises(RecsysLabError, match="'none': no shown item has a label"):
        shop_data(tmp_path, "none").setup()


@pytest.mark.parametrize("keep_negatives", [1.0, 0.25])
def test_a_new_model_begins_with_the_rate_of_clicks(
    folder: Path, tmp_path: Path, keep_negatives: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = shop_data(folder)
    labels = whole(data, "train").labels
    assert data.click_rate == pytest.approx(float(labels.mean()))
    weighted = shop_data(folder, shown=Impressions("chance", max_weight=3.5))
    batch = whole(weighted, "train")
    expected = float((batch.labels * batch.shown_weights).sum() / batch.shown_weights.sum())
    assert weighted.click_rate == pytest.approx(expected) != data.click_rate
    model = GRU4Rec(embedding_dim=8, task=ClickThrough(keep_negatives=keep_negatives))
    trainer = quiet_trainer(tmp_path, limit_train_batches=0, limit_val_batches=0)
    made: list[str] = []
    make = Impressions.dataset
    monkeypatch.setattr(Impressions, "dataset", lambda self, of, part: made.append(part) or make(self, of, part))
    trainer.fit(model, data)
    assert not made, "a rate needs no samples"
    trainer.test(model, data, verbose=False)
    assert float(trainer.callback_metrics["test/mean_probability"]) == pytest.approx(data.click_rate, abs=0.01)


def test_rates_are_shrunk_counts_of_the_training_part(folder: Path) -> None:
    data = shop_data(folder)
    batch = whole(data, "train")
    rate = float(batch.labels.mean())
    for model, code in ((ItemRate(prior=5), batch.shown_ids), (UserRate(prior=5), batch.user_index[:, None])):
        model._build(data.spec)
        model.count(data)
        code = code.expand(batch.labels.shape)
        one = int(code[0, 0])
        mine = batch.labels[code == one]
        expected = (float(mine.sum()) + 5 * rate) / (len(mine) + 5)
        assert float(model.query(batch)[0, 0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("prior", [0.0, 5.0])
def test_what_training_never_saw_has_the_rate_of_all(prior: float, folder: Path) -> None:
    data = shop_data(folder)
    batch = whole(data, "train")
    rate = float(batch.labels.mean())
    by_item, by_user = ItemRate(prior), UserRate(prior)
    for model in (by_item, by_user):
        model._build(data.spec)
        model.count(data)
    assert float(by_item.query(replace(batch, shown_ids=torch.zeros_like(batch.shown_ids)))[0, 0]) == pytest.approx(
        rate
    )
    elsewhere = replace(batch, user_index=torch.full_like(batch.user_index, -1))  # as a predictor's users are
    assert float(by_user.query(elsewhere)[0, 0]) == pytest.approx(rate)


def test_logistic_regression_is_that_of_scikit_learn(folder: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    data = shop_data(folder)
    model = ClickRegression(inverse_penalty=0.5)
    model._build(data.spec)
    model.count(data)
    batch, test = whole(data, "train"), whole(data)

    def design(of) -> np.ndarray:
        item = np.eye(data.spec.num_rows)[of.shown_ids.flatten()][:, 1:]
        position = np.eye(10)[of.shown["position"].flatten()][:, 1:]
        return np.hstack([item, position, of.shown["price"].flatten(0, 1).numpy()])

    other = LogisticRegression(C=0.5, max_iter=200).fit(design(batch), batch.labels.flatten().numpy())
    expected = other.predict_proba(design(test))[:, 1]
    assert np.allclose(model.query(test).flatten().numpy(), expected, atol=1e-3)


def test_every_baseline_is_tested_here(folder: Path) -> None:
    every = {one for one in classes(recsys_lab.models.baselines, ClickBaseline) if "is_base" not in vars(one)}
    assert every == {ConstantRate, ItemRate, UserRate, ClickRegression}
    model = ItemRate()
    with pytest.raises(RecsysLabError, match="ranks no catalogue"):
        model.score(torch.zeros(1))


def test_the_task_says_that_the_samples_are_what_was_shown(folder: Path, tmp_path: Path) -> None:
    """In a notebook as on the command line, where nothing is said of it."""
    found = []
    for shown in (None, Impressions()):
        data, trainer = shop_data(folder, shown=shown), quiet_trainer(tmp_path)
        torch.manual_seed(0)
        trainer.fit(GRU4Rec(embedding_dim=4, task=ClickThrough()), data)
        found.append((trainer.global_step, trainer.callback_metrics["train/loss"].item(), data.spec.training_hash))
    assert found[0] == found[1]
    with pytest.raises(RecsysLabError, match="shown is for ClickThrough, which learns"):
        quiet_trainer(tmp_path).fit(GRU4Rec(embedding_dim=4), shop_data(folder))
