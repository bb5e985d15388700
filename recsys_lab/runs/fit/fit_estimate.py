"""`recsys-lab estimate`: memory, time and disk of a fit before it runs. The same parser, data and model as `fit`; a few
real steps in one process, or formulas alone; no run folder."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningCLI

import recsys_lab.data
import recsys_lab.losses
import recsys_lab.models
from recsys_lab.config import import_all
from recsys_lab.contracts import DataSpec
from recsys_lab.data.batches.epoch_size import EpochSize, drawn_lengths, epoch_size, evaluation_size
from recsys_lab.data.batches.samplers import TrainBatches
from recsys_lab.data.batches.windows import training_windows
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.models.baselines import CountingModel
from recsys_lab.runs.fit.command_line import CommandLine, Quiet
from recsys_lab.runs.fit.few_steps import PeakMemory, StepClock
from recsys_lab.runs.fit.formulas import ModelSize, formula_seconds, model_size
from recsys_lab.runs.fit.known_configs import with_known_configs
from recsys_lab.runs.fit.run_arguments import expand_run_folder
from recsys_lab.runs.folder_life import Place
from recsys_lab.runs.messages import hush_lightning
from recsys_lab.words import RecsysLabError

MOST_STAND_IN = 5_000_000
"""Events of made data that are prepared for the measured steps; the rest is taken to be like them."""
EVALUATED = 8
"""Batches of validation and test that are measured."""
EXCHANGE = "exchange"
"""Name of the memory in which lies what processes tell each other."""
ROW_BYTES = 30
"""Of a test target in ranks.parquet and values.parquet: 26 to 29 in MovieLens-100K and -1M."""


@dataclass(frozen=True)
class Stated:
    """Sizes of a log that is not prepared yet, as the options of `estimate` say them."""

    users: int
    items: int
    events: int


@dataclass
class Estimate:
    """Bytes, seconds and counts; those of memory and time are of each process."""

    model: str
    dataset: str
    device: str
    processes: int
    measured_steps: int  # 0: nothing was measured
    users: int
    items: int
    events: int
    steps_per_epoch: int
    positions: int  # of an epoch's batches, padding included
    memory: dict[str, int] = field(default_factory=dict)
    memory_total: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    seconds_per_epoch: float = 0.0
    processor_seconds_per_epoch: float | None = None
    spread: float | None = None  # relative standard error of them, from how much the timed steps differ
    epochs: int = 0
    disk: dict[str, int] = field(default_factory=dict)
    disk_total: int = 0
    sent_per_step: int = 0  # bytes that a process tells the others

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Estimating(CommandLine):
    """The command line of `fit` with a fit of a few steps."""

    def __init__(self, words: list[str], held: ExitStack, stated: Stated | None, measure: bool, **how: float) -> None:
        self.stated, self.measure, self.how = stated, measure, how
        self.scratch = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="recsys_lab-estimate-")))
        super().__init__(words, held)

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        trainer = config.trainer
        self.processes = _processes(trainer.devices, str(trainer.accelerator)) * int(trainer.num_nodes)
        self.epochs, self.device = trainer.max_epochs or 1, _device(str(trainer.accelerator))
        trainer.devices, trainer.num_nodes, trainer.strategy = 1, 1, "auto"
        trainer.enable_progress_bar = trainer.enable_model_summary = trainer.enable_checkpointing = False
        trainer.logger, trainer.num_sanity_val_steps, trainer.max_epochs = False, 0, 1
        if not self.measure:
            trainer.accelerator = "cpu"  # nothing runs on it
        self.dataset = config.data.dataset if self.stated is None else "a log that is not prepared"
        if self.stated is not None and self.measure:
            config.data.dataset = str(_stand_in(self.stated, self.scratch))
        super().before_instantiate_classes()
        config.checkpoint.monitor = None

    def _place(self, config: Any) -> Place:
        return Place(self.scratch, self.scratch)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        self.clock = StepClock(self.how["seconds"])
        for name in ("limit_val_batches", "limit_test_batches"):
            if config[name] is None or (isinstance(config[name], float) and config[name]):
                config[name] = EVALUATED
        kept = [one for one in callbacks if isinstance(one, RankingEvaluation)]
        return LightningCLI._instantiate_trainer(self, config, [*kept, Quiet(), self.clock])

    def _run_subcommand(self, subcommand: str) -> None:
        if isinstance(self.model, CountingModel):
            raise RecsysLabError(f"{type(self.model).__name__} counts and trains nothing: there is nothing to estimate")
        self.found = self._estimate(self.model, self.datamodule)

    def _estimate(self, model: Any, data: SequenceDataModule) -> Estimate:
        peak = PeakMemory(self.trainer.strategy.root_device)
        if self.measure:
            self.trainer_call("fit", model=model, datamodule=data)
            started = time.perf_counter(), time.process_time()
            self.trainer.save_checkpoint(self.scratch / "one.ckpt")
            writing, own_writing = time.perf_counter() - started[0], time.process_time() - started[1]
            self.trainer_call("test", model=model, datamodule=data, verbose=False)
            size = model_size(model, self.trainer.optimizers[0])
        else:
            spec = _spec(self.stated, data) if self.stated else data.spec
            with torch.device("meta"):
                model._build(spec)
            size = model_size(model)
        epoch = self._epoch(data)
        found = self._found(model, data, epoch)
        positions = max(epoch.largest, self.clock.largest)
        found.memory = self._memory(model, data, size, peak, positions, found)
        found.memory_total = sum(found.memory.values())
        if self.measure:
            training, own = self.clock.of_training(epoch)
            val, own_val = self.clock.of_evaluation("val", self._evaluated(data))
            found.seconds = {"training": training, "validation": val, "checkpoints": 2 * writing}
            found.processor_seconds_per_epoch = own + own_val + 2 * own_writing
            found.spread = self.clock.spread()
            found.measured_steps = len(self.clock.steps or self.clock.warm_up)
            checkpoint = (self.scratch / "one.ckpt").stat().st_size
        else:
            found.seconds = formula_seconds(model, size, epoch, found, data, self.how["tflops"])
            checkpoint = 3 * size.parameters + size.buffers + 16 * found.items
        found.seconds_per_epoch = sum(found.seconds.values())
        copies = 3 if self._get(self.config_init, "run").retrain else 2
        found.disk = {
            "prepared data": self._store_bytes(data, found),
            "checkpoints": copies * checkpoint,
            "ranks and values": ROW_BYTES * found.users,
        }
        found.disk_total = sum(found.disk.values())
        return found

    def _found(self, model: Any, data: SequenceDataModule, epoch: EpochSize) -> Estimate:
        if self.stated is None:
            log = data.processed
            name, sizes = log.name, (log.num_users, log.num_items, log.num_events)
        else:
            name, sizes = self.dataset, (self.stated.users, self.stated.items, self.stated.events)
        users, items, events = sizes
        return Estimate(
            model=type(model).__name__,
            dataset=name,
            device=self.device,
            processes=self.processes,
            measured_steps=0,
            users=users,
            items=items,
            events=events,
            steps_per_epoch=epoch.steps,
            positions=epoch.positions,
            epochs=self.epochs,
        )

    def _epoch(self, data: SequenceDataModule) -> EpochSize:
        """Of one process of all that the options ask for."""
        settings = (data.batch_size, data.length_bucketing, data.seed, data.batch_tokens, data.bucket_batches)
        if self.stated is None:
            batches = data.train_dataloader().sampler
            if isinstance(batches, TrainBatches):
                return epoch_size(batches, self.processes)
            return EpochSize(-(-len(batches) // self.processes), 0, 0)  # type: ignore[arg-type]
        drawn = min(self.stated.users, 100_000)
        lengths = drawn_lengths(drawn, round(self.stated.events * drawn / self.stated.users))
        begin = np.cumsum(lengths) - lengths
        cut = (data.max_length, data.stride, data.training_mode, data.max_windows_per_user)
        windows = training_windows(begin, begin + lengths - 2, *cut)  # two of each are held out
        return epoch_size(TrainBatches(windows.lengths, *settings), self.processes).times(self.stated.users / drawn)

    def _evaluated(self, data: SequenceDataModule) -> EpochSize:
        """Of one process."""
        if self.measure and not data.retrained:
            held = data.val_dataloader()
            size = evaluation_size(held[0] if isinstance(held, list) else held)
            many = 1.0 if self.stated is None else self.stated.users / data.processed.num_users
            return size.times(many / self.processes)
        return EpochSize(0, 0, 0)

    def _memory(
        self, model: Any, data: SequenceDataModule, size: ModelSize, peak: PeakMemory, positions: int, found: Estimate
    ) -> dict[str, int]:
        parts = self._parts(model, data, size, peak, positions, found)
        rest = 0
        if self.measure:
            saved = self.clock.saved_bytes_per_position or size.bytes_per_position
            unseen = round(saved * max(positions - self.clock.largest, 0))  # a larger batch than those that ran
            rest = peak.bytes() + unseen - sum(value for name, value in parts.items() if name != EXCHANGE)
        if model.shard_items and self.processes > 1:
            part = size.divided(self.processes)
            parts = self._parts(model, data, part, peak, positions, found)
            if size.table.dense:  # a second gradient until both are added up, and what the optimiser makes in a step
                rest = max(rest - 2 * (size.table.vectors - part.table.vectors), 0)
            size = part
        found.sent_per_step = size.sent(round(found.positions / found.steps_per_epoch), self.processes)
        return parts | ({"everything else": rest} if self.measure else {})

    def _parts(
        self, model: Any, data: SequenceDataModule, size: ModelSize, peak: PeakMemory, positions: int, found: Estimate
    ) -> dict[str, int]:
        on_cpu = self.device == "cpu"
        saved = self.clock.saved_bytes_per_position or size.bytes_per_position
        parts = {"program": peak.before} if on_cpu else {}
        parts |= {"parameters": size.parameters + size.buffers, "gradients": size.gradients(positions)}
        parts |= {"optimiser": size.optimiser, "activations": round(saved * positions)}
        parts |= {"loss": size.loss_bytes(positions, found.items, self.device)}
        if self.processes > 1:
            parts[EXCHANGE] = size.exchanged(positions, self.processes)
        if on_cpu:
            windows = 32 * found.steps_per_epoch * self.processes * data.batch_size
            parts["data"] = 12 * found.events + 16 * found.users + windows
        parts["evaluation"] = min(self._get(self.config_init, "evaluation").max_score_bytes, 4 * 512 * found.items)
        return parts

    def _store_bytes(self, data: SequenceDataModule, found: Estimate) -> int:
        if self.stated is not None:  # ids, times and offsets; raw ids take about 8 bytes each in Parquet
            return 12 * found.events + 16 * found.users + 8 * found.items
        return sum(file.stat().st_size for file in data.processed.path.rglob("*") if file.is_file())


def _processes(devices: Any, accelerator: str) -> int:
    """How many of a node `--trainer.devices` means."""
    if isinstance(devices, str) and devices.lstrip("-").isdigit():
        devices = int(devices)
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        return len(devices)
    if isinstance(devices, int) and devices > 0:
        return devices
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.cuda.device_count() if on_gpu else 1


def _device(accelerator: str) -> str:
    if accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available()):
        return "cuda"
    return "cpu" if accelerator == "auto" else accelerator


def _spec(stated: Stated, data: SequenceDataModule) -> DataSpec:
    return DataSpec("stated", stated.items, stated.users, data.max_length, True, 1.0, "", "", data.split.describe())


def _stand_in(stated: Stated, folder: Path) -> Path:
    """A made log of these sizes, or of a part of the users, prepared: each item has an event."""
    share = min(1.0, max(stated.items, 200_000) / stated.events)
    users = max(round(stated.users * share), 2)
    lengths = drawn_lengths(users, max(round(stated.events * share), stated.items))
    events = int(lengths.sum())
    if events > MOST_STAND_IN:
        raise RecsysLabError(
            f"{stated.items:,} items need {events:,} made events to be measured with, and {MOST_STAND_IN:,} are the "
            "most: prepare the log first, or --measure false"
        )
    rng = np.random.default_rng(0)
    items = np.exp(rng.random(events) * np.log(stated.items + 1)).astype(np.int64).clip(1, stated.items)
    items[rng.permutation(events)[: stated.items]] = np.arange(1, min(stated.items, events) + 1)
    frame = {"user_id": np.repeat(np.arange(users), lengths), "item_id": items, "timestamp": np.arange(events)}
    data = SequenceDataModule.from_frames(pl.DataFrame(frame), name="stated", data_dir=folder)
    return Path(data.data_dir) / data.dataset


def estimate(
    words: list[str], stated: Stated | None = None, measure: bool = True, seconds: float = 10.0, tflops: float = 0.1
) -> Estimate:
    """What `recsys-lab fit WORDS` will take. Also in a notebook:
    `estimate(["--config", "configs/ml-100k/sasrec.yaml"]).memory_total`.

    Args:
        words: options of `fit`.
        stated: sizes of the log where it is not prepared; a made one of these sizes is measured.
        measure: take real steps; False = formulas alone.
        seconds: of steps that are timed.
        tflops: without `measure`, what a device computes in a second.
    """
    hush_lightning()
    import_all(recsys_lab.models, recsys_lab.losses, recsys_lab.data)
    with ExitStack() as held:
        line = Estimating(
            expand_run_folder(with_known_configs(["fit", *words])),
            held,
            stated,
            measure,
            seconds=seconds,
            tflops=tflops,
        )
        return line.found
