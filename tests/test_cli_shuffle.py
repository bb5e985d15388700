"""`recsys-lab diagnose shuffle`: models that ignore order don't change, Markov collapses; files, errors, Ctrl-C."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_data import made_events, prepared, quiet_trainer
from test_cli_runs import fit
from torch import Tensor

from recsys_lab.cli import main
from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.diagnose import shuffle
from recsys_lab.diagnose.shuffle import Passes, Question, evaluate
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.models import NextItemModule
from recsys_lab.models.baselines import EASE, ItemKNN, Markov
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.blocks.scoring import TiedScorer


class SumOfHistory(NextItemModule):
    """Ignores order. Its numbers are small multiples of 1/8, so that sums are exact in any order of the terms."""

    def build(self, spec: DataSpec) -> None:
        self.embedding = EventEmbedding(spec, 8, std=1.0)
        with torch.no_grad():
            for weight in self.embedding.parameters():
                weight.copy_((weight * 8).round() / 8)
        self.scorer = TiedScorer(self.embedding.items)

    def encode(self, batch: Batch) -> Tensor:
        return self.embedding(batch).cumsum(dim=1)


def diagnosed(model: NextItemModule, folder: Path, tmp_path: Path, seeds: int = 2, **settings: Any) -> Passes:
    data = SequenceDataModule(str(folder), **settings)
    quiet_trainer(tmp_path).test(model, data, verbose=False)  # builds, or counts
    return evaluate(model, data, RankingEvaluation(), Question(seeds=seeds))


@pytest.fixture(scope="module")
def sequential(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 users, no event types; the next item is mostly the last one plus one."""
    frame = made_events(num_users=300, num_items=60, shortest=8, longest=20, event_types=1)
    return prepared(tmp_path_factory.mktemp("sequential") / "sequential", frame).path


@pytest.mark.parametrize("model", [SumOfHistory(), EASE(), ItemKNN()], ids=["sum", "EASE", "ItemKNN"])
def test_a_model_that_ignores_order_does_not_change(model: NextItemModule, sequential: Path, tmp_path: Path) -> None:
    passes = diagnosed(model, sequential, tmp_path, max_length=20, exclude_seen="none")
    assert passes.original.mean() > 0
    for kind in ("all", "all_but_last"):
        for values, overlap in zip(passes.shuffled[kind], passes.jaccard[kind], strict=True):
            assert np.array_equal(values, passes.original) and (overlap == 1).all()


def test_markov_collapses_without_its_last_event(sequential: Path, tmp_path: Path) -> None:
    passes = diagnosed(Markov(), sequential, tmp_path, seeds=3, exclude_seen="none")
    assert passes.original.mean() > 0.7
    for values, overlap in zip(passes.shuffled["all_but_last"], passes.jaccard["all_but_last"], strict=True):
        assert np.array_equal(values, passes.original) and (overlap == 1).all()
    for values, overlap in zip(passes.shuffled["all"], passes.jaccard["all"], strict=True):
        assert values.mean() < 0.4 * passes.original.mean() and overlap.mean() < 0.6


def test_the_size_of_batches_does_not_matter(sequential: Path, tmp_path: Path) -> None:
    one = diagnosed(Markov(), sequential, tmp_path, eval_batch_size=7, max_length=5)
    two = diagnosed(Markov(), sequential, tmp_path, eval_batch_size=512, max_length=5)
    for kind in one.shuffled:
        assert np.array_equal(one.shuffled[kind], two.shuffled[kind])
        assert np.array_equal(one.jaccard[kind], two.jaccard[kind])


def test_cold_targets_count_as_the_run_says(tmp_path: Path) -> None:
    data = SequenceDataModule(str(prepared(tmp_path / "wide", made_events(num_items=90)).path))
    quiet_trainer(tmp_path).test(model := Markov(), data, verbose=False)
    position = data.split_result.test.position
    cold = (data.item_counts.numpy()[data.events.item_ids[position]] == 0).sum()
    assert 0 < cold < len(position)
    for rule, expected in (("miss", len(position)), ("drop", len(position) - cold)):
        evaluation = RankingEvaluation(cold_targets=rule)  # type: ignore[arg-type]
        assert len(evaluate(model, data, evaluation, Question(seeds=1)).original) == expected


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    assert fit(small_folder, root) == 0
    return root / "small" / "sasrec" / "seed0"


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "runs" / "seed0"))


def test_it_prints_and_writes_what_it_found(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["diagnose", "shuffle", str(folder), "--seeds", "2"]) == 0
    shown = capsys.readouterr().out
    found = json.loads((folder / "shuffle" / "shuffle.json").read_text())
    page = (folder / "shuffle" / "shuffle.md").read_text()
    tested = json.loads((folder / "metrics.json").read_text())["test/ndcg@10"]
    assert found["run"]["model"] == "SASRec" and found["targets"] == 9 and found["interrupted"] is False
    assert [rule["n"] for rule in found["order_rules"]] == [2, 3]
    for kind in ("all", "all_but_last"):
        of = found["kinds"][kind]
        assert of["original"] == pytest.approx(tested, abs=1e-9)  # the same evaluation as the run's own
        assert of["shuffled"] == pytest.approx(np.mean(of["per_seed"])) and len(of["per_seed"]) == 2
        assert of["change"] == pytest.approx(of["shuffled"] / of["original"] - 1)
        for text in (shown, page):
            assert kind in text and f"{100 * of['change']:+.1f} %" in text and f"{of['jaccard']:.3f}" in text
    assert "nan" not in shown + page and "2-gram rules" in shown and "How to read it" in page


def test_the_same_question_has_the_same_answer(folder: Path, tmp_path: Path) -> None:
    checkpoint = str(folder / "checkpoints" / "best.ckpt")
    assert main(["diagnose", "shuffle", str(folder), "--seeds", "2"]) == 0
    assert main(["diagnose", "shuffle", "--checkpoint", checkpoint, "--seeds=2", "--output", str(tmp_path / "o")]) == 0
    assert (folder / "shuffle" / "shuffle.json").read_bytes() == (tmp_path / "o" / "shuffle.json").read_bytes()


@pytest.mark.parametrize(("keep", "kinds"), [("yes", ["all_but_last"]), ("no", ["all"])])
def test_one_kind_only(folder: Path, keep: str, kinds: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--keep-last", keep, "--seeds", "1", "--stage", "val", "--metric", "hit_rate", "--cutoff", "5"]
    assert main(["diagnose", "shuffle", str(folder), *options, "--scope", "window"]) == 0
    found = json.loads((folder / "shuffle" / "shuffle.json").read_text())
    assert list(found["kinds"]) == kinds and found["stage"] == "val"
    assert found["kinds"][kinds[0]]["seed_deviation"] is None
    assert "hit_rate@5 original" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["diagnose needs a subcommand", "shuffle"]),
        (["shufle"], ["Did you mean 'shuffle'?"]),
        (["shuffle"], ["name a run folder", "--checkpoint"]),
        (["shuffle", "gone"], ["gone is not a run folder"]),
        (["shuffle", "--checkpoint", "gone/best.ckpt"], ["does not lie in a run folder"]),
        (["shuffle", "RUN", "--checkpoint", "gone.ckpt"], ["no checkpoint at gone.ckpt"]),
        (["shuffle", "RUN", "--seeds", "0"], ["--seeds: must be at least 1"]),
        (["shuffle", "RUN", "--cutoff", "0"], ["--cutoff: must be at least 1"]),
        (["shuffle", "RUN", "--keep_last", "maybe"], ["--keep_last", "both"]),
        (["shuffle", "RUN", "--output", "RUN/manifest.json/x"], ["can't write", "--output"]),
    ],
)
def test_mistyped(folder: Path, arguments: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", *(a.replace("RUN", str(folder)) for a in arguments)]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    for part in expected:
        assert part in error


def test_other_data_than_the_model_was_trained_on(folder: Path, tmp_path: Path, capsys: Any) -> None:
    other = prepared(tmp_path / "other", made_events(seed=1)).path
    config = (folder / "config.yaml").read_text()
    dataset = next(line for line in config.splitlines() if line.strip().startswith("dataset:"))
    (folder / "config.yaml").write_text(config.replace(dataset, f"  dataset: {other}"))
    assert main(["diagnose", "shuffle", str(folder)]) == 2
    assert "--data.dataset: trained with small" in capsys.readouterr().err


@pytest.mark.parametrize(("stop_at", "kept"), [(1, {}), (2, {}), (3, {"all": 1}), (7, {"all": 3, "all_but_last": 2})])
def test_an_interrupt_keeps_what_is_done(
    folder: Path, stop_at: int, kept: dict[str, int], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    calls = [0]
    whole = shuffle.rank_and_list

    def interrupted(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == stop_at:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(shuffle, "rank_and_list", interrupted)
    assert main(["diagnose", "shuffle", str(folder)]) == 130
    capsys.readouterr()
    path = folder / "shuffle" / "shuffle.json"
    assert path.exists() == bool(kept)
    if kept:
        found = json.loads(path.read_text())
        assert found["interrupted"] and {kind: len(of["per_seed"]) for kind, of in found["kinds"].items()} == kept


def test_help_tells_how_to_read_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "shuffle", "--help"]) == 0
    assert "How to read the numbers" in capsys.readouterr().out
    assert main(["diagnose", "--help"]) == 0
    assert "shuffle" in capsys.readouterr().out
