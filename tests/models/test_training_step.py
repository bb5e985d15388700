"""One training step: which positions it trains on, what it counts, precision, and the compiled step."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from found_models import SPEC, built, random_batch
from small_data import quiet_trainer

from recsys_lab.contracts import Negatives
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.losses import BCE
from recsys_lab.models import GRU4Rec, LSTMAttention, SASRec
from recsys_lab.ops import compilation
from recsys_lab.runs.throughput import Throughput
from recsys_lab.words import RecsysLabError


class WithoutPositions(L.Callback):
    """Takes the targets' places out of each batch, as a batch made by hand has none."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        object.__setattr__(batch, "target_positions", None)


def test_a_batch_that_does_not_say_where_its_targets_are(small_folder: Path, tmp_path: Path) -> None:
    losses = []
    for callbacks in ([], [WithoutPositions()]):
        L.seed_everything(0, verbose=False)
        data = SequenceDataModule(str(small_folder), max_length=6, stride=3, batch_size=8)
        trainer = quiet_trainer(tmp_path, callbacks=callbacks)
        trainer.fit(SASRec(embedding_dim=8), data)
        losses.append(float(trainer.callback_metrics["train/loss_epoch"]))
    assert losses[0] == losses[1]


def test_the_steps_count_real_events(small_folder: Path, tmp_path: Path) -> None:
    data = SequenceDataModule(str(small_folder), max_length=6, batch_size=4)
    model = GRU4Rec(embedding_dim=8)
    trainer = quiet_trainer(tmp_path, max_epochs=3)
    trainer.fit(model, data)
    assert model.train_tokens == 3 * int(data.train_windows.lengths.sum())
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    assert type(torch.load(tmp_path / "model.ckpt", weights_only=True)["train_tokens"]) is int
    assert GRU4Rec.load_from_checkpoint(tmp_path / "model.ckpt").train_tokens == model.train_tokens


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true"])
def test_weights_in_other_precision_are_refused(precision: str, small_folder: Path, tmp_path: Path) -> None:
    if precision == "16-true":
        pytest.skip("Lightning itself refuses it on a CPU")
    trainer = quiet_trainer(tmp_path, precision=precision)
    with pytest.raises(RecsysLabError, match=f"trainer.precision {precision} .*use bf16-mixed"):
        trainer.fit(SASRec(embedding_dim=8), SequenceDataModule(str(small_folder)))


@pytest.mark.parametrize("cls", [SASRec, GRU4Rec, LSTMAttention])
def test_mixed_precision_trains_and_never_ranks(cls: Any, small_folder: Path, tmp_path: Path) -> None:
    data, model = SequenceDataModule(str(small_folder), max_length=8), cls(embedding_dim=16)
    trainer = quiet_trainer(tmp_path, precision="bf16-mixed", max_epochs=2)
    trainer.fit(model, data)
    mixed = trainer.test(model, data, verbose=False)[0]
    assert mixed == quiet_trainer(tmp_path).test(model, data, verbose=False)[0]
    # and the two do differ where nothing forbids it
    batch = next(iter(data.test_dataloader()))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert not torch.equal(model.query(batch), model.test_step(batch, 0))


def both_ways(model: Any) -> tuple[Any, Any]:
    """Encoder and objective, as they are and compiled."""
    plain = (model.training_states, model.task.objective)
    return plain, tuple(compilation.compiled(part, torch.device("cpu")) for part in plain)


# -- torch.compile -----------------------------------------------------------------------------------------------------


def losses_of(model: Any, functions: list[Any], lengths: list[int], seed: int) -> None:
    """The loss and every gradient are the same by each of the functions."""
    batch = random_batch(lengths, seed=seed)
    targets = torch.where(batch.valid_mask, batch.item_ids.roll(1, 0).clamp_min(1), 0)
    batch = dataclasses.replace(batch, target_ids=targets)
    positions = targets.flatten().nonzero().squeeze(1)
    negatives = made_negatives(len(positions), seed)
    results = []
    for encode, objective in functions:
        model.zero_grad()
        loss = objective(encode(batch), positions, targets.flatten()[positions], model.scorer, negatives)
        loss.backward()
        results.append([loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-6)


@pytest.mark.process
def test_a_compiled_step_is_the_eager_one(clock: Any) -> None:
    """Encoder and a loss with negatives in one graph, by the real compiler, for lengths that it was not compiled at."""
    try:
        compilation._require_cpp_compiler()
    except RecsysLabError as error:
        pytest.skip(str(error))
    model = built(SASRec, loss=BCE(), num_layers=1, embedding_dim=8).train()  # the small models have no dropout
    plain, fast = both_ways(model)
    losses_of(model, [plain, fast], [7, 4, 5], 0)
    graphs, seconds = clock.graphs, clock.seconds
    assert graphs > 0 and seconds > 0
    losses_of(model, [plain, fast], [3, 2, 2, 6], 1)
    assert (clock.graphs, clock.seconds) == (graphs, seconds), "another number of rows, another length"


@pytest.mark.slow
@pytest.mark.parametrize("cls", [GRU4Rec, SASRec, LSTMAttention])
def test_an_epoch_of_lengths_is_compiled_once(cls: Any, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """How often is decided before any kernel is written: without that part this is quick."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    model = built(cls, loss=BCE(), num_layers=1).train()
    plain, fast = both_ways(model)
    shapes = [[9, 4, 7], [3, 2, 2, 3], [8, 8], [1, 1, 1], [5, 6, 5, 4, 6], [7, 7, 1], [2, 2], [5]]
    for seed, lengths in enumerate(shapes):
        losses_of(model, [plain, fast], lengths, seed)
    first = clock.graphs
    assert 0 < first <= 24, "parts around an LSTM, each for one row, one event, a full window and what is between"
    for seed, lengths in enumerate(reversed(shapes)):
        losses_of(model, [plain, fast], lengths, seed)
    assert clock.graphs == first


@pytest.fixture
def clock() -> Iterator[Any]:
    torch._dynamo.reset()
    compilation.clock.seconds, compilation.clock.graphs = 0.0, 0
    yield compilation.clock
    torch._dynamo.reset()


def made_negatives(count: int, seed: int) -> Any:
    items = torch.randint(1, SPEC.num_rows, (count, 1), generator=torch.Generator().manual_seed(seed))
    return Negatives(items, torch.zeros(count, 1), torch.zeros(count))


def test_no_compiler_is_an_error_that_says_what_to_do(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    def none() -> str:
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    data = SequenceDataModule(str(small_folder))
    with pytest.raises(RecsysLabError, match="C\\+\\+ compiler.*compile_model: false"):
        quiet_trainer(tmp_path).fit(SASRec(embedding_dim=8, compile_model=True), data)


def test_the_time_of_compiling_is_no_training_time(small_folder: Path, tmp_path: Path) -> None:
    class Slow(SASRec):
        """Its compiler says that it took 100 s in the second step."""

        steps = 0

        @property
        def compile_seconds(self) -> float:
            return 100.0 * (self.steps >= 2) + 50.0  # 50 s before this fit

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.steps += 1
            return super().training_step(batch, batch_idx)

    throughput = Throughput()
    data = SequenceDataModule(str(small_folder), batch_size=4)
    trainer = quiet_trainer(tmp_path, callbacks=[throughput], max_epochs=2)
    trainer.fit(Slow(embedding_dim=8), data)
    assert throughput.compile_seconds == 100.0 and throughput.seconds < 0
    assert Throughput().state_dict()["compile_seconds"] == 0.0
