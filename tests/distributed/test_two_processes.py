"""Two processes do what one does: the same steps, every window and every user exactly once, the same numbers."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_process import run_processes
from small_data import quiet_trainer
from two_processes import BATCH, run

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.models import SASRec

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def folder(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `two_processes.py` wrote with two processes, and what it writes with one of twice the batch."""
    output = tmp_path_factory.mktemp("two")
    run_processes("two_processes.py", small_folder, output)
    run(str(small_folder), output, devices=1, batch_size=2 * BATCH)
    return output


def facts(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text())


@pytest.fixture
def ranks(folder: Path) -> list[Any]:
    return [facts(folder, f"2-rank{rank}") for rank in range(2)]


@pytest.fixture
def one(folder: Path) -> Any:
    return facts(folder, "1-rank0")


def windows(epoch: list[Any]) -> Counter[tuple[int, tuple[int, ...]]]:
    return Counter((user, tuple(t for t in targets if t)) for user, targets in epoch)


def test_every_training_window_once_per_epoch(ranks: list[Any], small_folder: Path) -> None:
    data = SequenceDataModule(str(small_folder), max_length=5)
    every: Counter[tuple[int, tuple[int, ...]]] = Counter()
    for batch in data.train_dataloader():
        every += windows(list(zip(batch.user_index.tolist(), batch.target_ids.tolist(), strict=True)))
    assert every.total() == len(data.train_windows)
    for epoch in range(2):
        shares = [windows(rank["train"][epoch]) for rank in ranks]
        assert shares[0] + shares[1] == every and all(shares)
    tokens = sum(rank["train_tokens"] for rank in ranks)
    assert tokens == 2 * int(data.train_windows.lengths.sum())


def test_both_take_as_many_steps_as_one_process(ranks: list[Any], one: Any) -> None:
    assert ranks[0]["steps"] == ranks[1]["steps"] == one["steps"] > 4
    assert [a + b for a, b in zip(ranks[0]["sizes"], ranks[1]["sizes"], strict=True)] == one["sizes"]


def test_the_training_loss_is_the_mean_over_the_targets_of_both(ranks: list[Any], one: Any) -> None:
    assert ranks[0]["train_loss"] == ranks[1]["train_loss"]
    assert ranks[0]["train_loss"] == pytest.approx(one["train_loss"], rel=1e-5)


def test_every_user_is_evaluated_exactly_once(ranks: list[Any], small_folder: Path) -> None:
    result = SequenceDataModule(str(small_folder)).split_result
    assert len(result.test) % 2 == 1
    for stage, targets in (("val", result.val), ("test", result.test)):
        shares = [rank["seen"][stage] for rank in ranks]
        assert sorted(shares[0] + shares[1]) == targets.user_index.tolist()
        assert len(shares[0]) + len(shares[1]) == len(targets) and min(map(len, shares)) > 0


def test_metrics_and_ranks_equal_those_of_one_process(
    ranks: list[Any], folder: Path, small_folder: Path, tmp_path: Path
) -> None:
    assert ranks[0]["metrics"] == ranks[1]["metrics"] and ranks[0]["ranks"] == ranks[1]["ranks"]
    data, evaluation = SequenceDataModule(str(small_folder), max_length=5), RankingEvaluation(cutoffs=(1, 5))
    model = SASRec.load_from_checkpoint(folder / "2.ckpt")
    trainer = quiet_trainer(tmp_path, callbacks=[evaluation])
    alone: dict[str, float] = {}
    for evaluate in (trainer.validate, trainer.test):
        evaluate(model, data, verbose=False)
        alone |= evaluation.last_metrics
    assert alone.keys() == ranks[0]["metrics"].keys() and 0 < alone["test/ndcg@5"] < 1
    for name, value in alone.items():
        assert math.isclose(value, ranks[0]["metrics"][name], rel_tol=0, abs_tol=1e-9), name
    assert np.array_equal(evaluation.last_ranks, np.array(ranks[0]["ranks"]))


def test_two_processes_take_the_steps_of_one_with_twice_the_batch(folder: Path) -> None:
    two, one = (torch.load(folder / f"{n}.ckpt", weights_only=True)["state_dict"] for n in (2, 1))
    assert two.keys() == one.keys()
    for name, value in two.items():
        if name.endswith(
            "qkv.bias"
        ):  # the softmax makes the gradient of the key's bias 0: Adam would scale its rounding
            value, one[name] = (torch.cat(torch.tensor_split(bias, 3)[::2]) for bias in (value, one[name]))
        torch.testing.assert_close(value, one[name], rtol=0, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")
