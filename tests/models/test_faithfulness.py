"""Faithfulness: a model whose cause is known by its form, one that learned it in a made world, and the table."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from formulas import shaken
from found_models import ENCODERS, SPEC, VARIANTS, built, random_batch
from small_data import quiet_trainer

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.sources.worlds import Copying
from recsys_lab.diagnose.explain.asked_model import AskedModel, without_events
from recsys_lab.diagnose.explain.attribution import METHODS, attribute
from recsys_lab.diagnose.explain.faithfulness import Case, Faithfulness, curves, likeness, measure, shuffled_weights
from recsys_lab.diagnose.explain.faithfulness_table import faithfulness_table, rows_of, sentences
from recsys_lab.models import LRURec, NextItemModule, Optimization
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.blocks.scoring import TiedScorer
from recsys_lab.report.table import text

SCRIPT = Path(__file__).parents[2] / "scripts" / "explanations.py"
BACK = 3
COUNTS = torch.ones(SPEC.num_rows, dtype=torch.int64)
COUNTS[0] = 0


class Repeats(NextItemModule):
    """Says that the item of `BACK` events ago comes again: nothing of it is learned."""

    def build(self, spec: Any) -> None:
        self.embedding = EventEmbedding(spec, 16, std=1.0)
        self.scorer = TiedScorer(self.embedding.items)

    def encode(self, batch: Any) -> torch.Tensor:
        x = self.embedding(batch)
        return F.pad(x, (0, 0, BACK - 1, 0))[:, : x.shape[1]]


def cases(number: int, length: int = 8) -> list[Case]:
    found = []
    for seed in range(number):
        batch = random_batch([length], seed=seed)
        found.append(Case(batch, int(batch.item_ids[0, -BACK])))
    return found


@pytest.fixture(scope="module")
def repeats() -> Faithfulness:
    return measure(built(Repeats), cases(30), COUNTS, METHODS)


def test_a_cause_that_is_known_comes_first() -> None:
    model = built(Repeats)
    for case in cases(20):
        asked = AskedModel(model, case.batch, case.item, COUNTS)
        for method in ("integrated_gradients", "leave_one_out"):
            found = attribute(asked, method)
            assert found.order[0] == 8 - BACK
            assert np.abs(np.delete(found.events, 8 - BACK)).max() < 1e-5


def test_curves_against_their_definition() -> None:
    case = cases(1)[0]
    asked = AskedModel(built(Repeats), case.batch, case.item, COUNTS, draws=2)
    first, last = np.array([5, 0, 1, 2, 3, 4, 6, 7]), np.array([0, 1, 2, 3, 4, 6, 7, 5])
    (deletion, insertion), worst = curves(asked, [first, last])
    lost = asked.whole - AskedModel(asked.model, case.batch, case.item, COUNTS, draws=2, seed=1).nothing
    assert deletion == pytest.approx(lost, abs=1e-5), "it is lost from the first point on"
    assert insertion == pytest.approx(lost, abs=1e-5) and worst == pytest.approx([0, 0], abs=1e-5)


def test_the_table_of_a_model_that_learned_nothing(repeats: Faithfulness) -> None:
    rows = rows_of([repeats], np.arange(30))
    by_name = {row["method"]: row for row in rows}
    for name in ("integrated_gradients", "leave_one_out"):
        row = by_name[name]
        for curve in ("deletion", "insertion"):
            mean, low, high = row[curve]
            assert 0 < low < mean < high and row[f"{curve}_p"] < 0.001
            assert mean == pytest.approx(repeats.curves[name][:, 0 if curve == "deletion" else 1].mean())
    assert by_name["leave_one_out"]["likeness"][0] > 0.5, "the order of positions is that of any weights"
    assert "deletion" not in by_name["attention"] and "Repeats has no attention" in by_name["attention"]["note"]
    found = {"rows": rows, "alpha": 0.05, "seeds": 1, "largest_gap": 0.001}
    said = sentences(found)
    assert "left out: much the same with shuffled weights: it says little of what was learned." in said
    assert any(line.startswith("attention: none: Repeats has no attention") for line in said)
    assert max(map(len, text(faithfulness_table(rows)).splitlines())) <= 120


def test_one_list_is_no_test(repeats: Faithfulness) -> None:
    one = Faithfulness(repeats.random[:1])
    for name in METHODS:
        one.curves[name], one.likeness[name] = repeats.curves[name][:1], repeats.likeness[name][:1]
        one.notes[name] = ""
    found = {"rows": rows_of([one], np.zeros(1)), "alpha": 0.05, "seeds": 1, "largest_gap": None}
    said = [line for line in sentences(found) if line.startswith("left out")]
    assert said == ["left out: not tested: too few users. --lists asks for more."]


def test_random_explanations_are_reported_as_such() -> None:
    draw = np.random.default_rng(0)
    noise = [
        Faithfulness(
            draw.normal(size=(50, 2)),
            {"leave_one_out": draw.normal(size=(50, 2))},
            {"leave_one_out": draw.normal(size=50) * 0.1},
            notes={"leave_one_out": ""},
        )
        for _ in range(3)
    ]
    rows = rows_of(noise, np.arange(50))
    said = sentences({"rows": rows, "alpha": 0.05, "seeds": 3, "largest_gap": None})
    assert said[0] == "left out: not better than random order in deletion and insertion: not shown to be faithful."
    assert any("over users and seeds" in line for line in said)


def test_likeness() -> None:
    assert likeness(np.array([1.0, 2, 3]), np.array([1.0, 4, 9])) == pytest.approx(1)
    assert np.isnan(likeness(np.array([1.0, 2, 3]), np.zeros(3))) and np.isnan(likeness(None, np.zeros(3)))


@pytest.mark.parametrize("name", [cls.__name__ for cls in ENCODERS])
def test_shuffled_weights_change_an_explanation(name: str) -> None:
    cls, settings = VARIANTS[name]
    model = built(cls, **settings)
    shaken(model)  # STAMP begins with states so small that nothing adds anything
    before = {key: value.clone() for key, value in model.state_dict().items()}
    other = shuffled_weights(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    for (key, own), theirs in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(own.flatten().sort()[0], theirs.flatten().sort()[0], msg=key)
    assert not model.embedding.items.weight[0].any() and not other.embedding.items.weight[0].any()
    case = cases(1)[0]
    found = [
        attribute(AskedModel(one, case.batch, case.item, COUNTS), "leave_one_out").events for one in (model, other)
    ]
    assert not np.allclose(*found)


@pytest.mark.slow
def test_an_encoder_that_learned_a_planted_rule(tmp_path: Path) -> None:
    """The item of four events ago comes again; a cause whose item stands once in the window comes first."""
    world = Copying(back=4, num_users=1500, num_items=30, length=16, noise=0.3)
    prepare(world, PrepareSettings(), tmp_path / "copy", tmp_path / "raw")
    L.seed_everything(1, verbose=False)
    data = SequenceDataModule(str(tmp_path / "copy"), max_length=12, exclude_seen="none", batch_size=64)
    model = LRURec(embedding_dim=32, dropout=0.0, optimization=Optimization(lr=5e-3))
    quiet_trainer(tmp_path, max_epochs=4, limit_val_batches=0).fit(model, data)
    data.setup("test")
    model.eval()
    chosen: list[Case] = []
    for batch in data.test_dataloader():
        with torch.no_grad():
            best = model.score(model.query(batch))[:, 1:].argmax(1) + 1
        for row, length in enumerate(batch.lengths.tolist()):
            ids = batch.item_ids[row, :length]
            if length >= 8 and ids[-4] == best[row] and int((ids == best[row]).sum()) == 1:
                one = batch.windows(torch.tensor([row]))
                real = torch.arange(batch.item_ids.shape[1])[None] < length
                chosen.append(Case(without_events(one, real), int(best[row])))
    assert len(chosen) > 40
    for method in ("integrated_gradients", "leave_one_out"):
        first = [
            attribute(AskedModel(model, one.batch, one.item, data.item_counts), method).order[0]
            == int(one.batch.lengths[0]) - 4
            for one in chosen[:40]
        ]
        assert np.mean(first) >= 0.95, method
    rows = rows_of([measure(model, chosen[:20], data.item_counts, ["leave_one_out"])], np.arange(20))
    assert rows[0]["deletion"][1] > 0 and rows[0]["deletion_p"] < 0.05 and abs(rows[0]["likeness"][0]) < 0.5


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("explanations", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_causes_are_of_lists_that_have_one(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a model that copies without learning, and by one that copies another event."""
    monkeypatch.setattr(script, "CAUSES", 6)
    world = Copying(back=BACK, num_users=200, num_items=30, length=16, noise=0.3)
    prepare(world, PrepareSettings(), tmp_path / "copy", tmp_path / "raw")
    data = SequenceDataModule(str(tmp_path / "copy"), max_length=12, exclude_seen="none")
    model = Repeats()
    model._build(data.spec)
    with torch.no_grad():  # of one length: no item is nearer to another one than to itself
        model.embedding.items.weight.copy_(F.normalize(model.embedding.items.weight, dim=1))
    saved = script.SavedRun(tmp_path, data, script.RankingEvaluation(), {}, tmp_path, model.eval())
    rows, learned = script.causes(saved, BACK, 200, ["leave_one_out"])
    assert learned == 1 and [row["first"] for row in rows] == [True] * 6
    assert script.causes(saved, BACK + 1, 200)[1] < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("cls", ENCODERS, ids=lambda cls: cls.__name__)
def test_the_cause_of_a_planted_rule_comes_first(cls: Any, script: Any, tmp_path: Path) -> None:
    """Every encoder learns to copy the item of some steps ago, and both methods say which event that was."""
    saved, back = script.copier(cls, tmp_path)
    rows, learned = script.causes(saved, back, script.PLANTED, ["integrated_gradients", "leave_one_out"])
    assert learned > 0.7 and len(rows) == 2 * script.CAUSES
    for name in ("integrated_gradients", "leave_one_out"):
        assert np.mean([row["first"] for row in rows if row["method"] == name]) >= 0.95, name


def test_every_encoder_stands_in_the_table_of_causes(script: Any) -> None:
    names = [cls.__name__ for cls in ENCODERS]
    assert sorted(script.encoders()) == sorted(names)
    page = (SCRIPT.parents[1] / "docs" / "explain.md").read_text()
    assert [name for name in names if f"| {name} |" not in page] == []
