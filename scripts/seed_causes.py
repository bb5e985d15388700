"""Why seeds of one recipe differ: fits in which one cause varies and the others stay, and what each cause explains.

    python scripts/seed_causes.py --epochs 15 --values experiments/seed-causes/values/15-epochs  # goes on
    python scripts/seed_causes_report.py experiments/seed-causes/values/15-epochs

A fit has three seeds: of the first weights, of the order of the batches, and of the draws (dropout; negatives, where
the loss has some). `all` varies the three together, as `--seed_everything` does; the others vary one and leave 0 to the
rest. The fit with seed 0 belongs to each of the four. Validation and test are ranked after each epoch, so that what
early stopping does is seen without a fit of its own. The test values choose nothing.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import polars as pl
import torch
import yaml

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.evaluation.candidates import candidate_mask
from recsys_lab.evaluation.row_blocks import scored_rows
from recsys_lab.models.encoders.sasrec import SASRec
from recsys_lab.models.optimization import Optimization
from recsys_lab.ops.rank_metrics import ndcg

CAUSES = ("all", "weights", "order", "draws")
CONFIG = Path(__file__).parents[1] / "configs" / "ml-100k" / "sasrec.yaml"
SCORE_BYTES = 64 << 20
LAST = 10
"""Epochs at the end whose weights are averaged, and looked at once more under the epoch number -1."""


@dataclass(frozen=True)
class Seeds:
    """Of one fit."""

    weights: int
    order: int
    draws: int

    @property
    def name(self) -> str:
        return f"{self.weights}-{self.order}-{self.draws}"

    @classmethod
    def of(cls, cause: str, seed: int) -> Seeds:
        return cls(*(seed if cause in ("all", name) else 0 for name in CAUSES[1:]))


class EachEpoch(L.Callback):
    """Gives dropout and negatives their own seed, and keeps the values of the targets after each epoch."""

    def __init__(self, draws: int) -> None:
        self.draws = draws
        self.values: dict[int, dict[str, np.ndarray]] = {}  # epoch from 1 -> part -> (N,) ndcg@10
        self._summed: dict[str, torch.Tensor] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        os.environ["PL_GLOBAL_SEED"] = str(self.draws)  # the weights are there; the model reads it next, for its draws

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        epoch = trainer.current_epoch + 1
        self.values[epoch] = ranked(trainer.datamodule, pl_module)
        last = min(LAST, trainer.max_epochs)
        if epoch > trainer.max_epochs - last:
            for name, value in pl_module.state_dict().items():
                self._summed[name] = self._summed.get(name, 0) + value / last
        if epoch == trainer.max_epochs:
            own = {name: value.clone() for name, value in pl_module.state_dict().items()}
            pl_module.load_state_dict(self._summed)
            self.values[-1] = ranked(trainer.datamodule, pl_module)
            pl_module.load_state_dict(own)


@torch.no_grad()
def ranked(data: Any, model: Any) -> dict[str, np.ndarray]:
    """-> part -> (N,) ndcg@10 of its targets, in the order of the users."""
    was_training, found = model.training, {}
    model.eval()
    for part, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        candidates, found_rows = candidate_mask(data, model, "trained"), []
        for batch in loader:
            blocks = scored_rows(model, model.query(batch), batch, candidates, SCORE_BYTES, "expected")
            for ranks, event in ((rows.ranks, rows.target_event) for rows in blocks):
                values = ndcg(ranks.num_greater.numpy(), ranks.num_ties.numpy(), 10)
                found_rows.append(np.stack([event.numpy(), values]))
        table = np.concatenate(found_rows, axis=1)
        found[part] = table[1, np.argsort(table[0], kind="stable")]
    model.train(was_training)
    return found


def fit(config: dict[str, Any], seeds: Seeds, data_dir: str) -> pl.DataFrame:
    """-> one row per epoch and part, `values` the ndcg@10 of each user."""
    L.seed_everything(seeds.weights, verbose=False)
    data = SequenceDataModule(**config["data"], data_dir=data_dir, seed=seeds.order)
    settings = config["model"]["init_args"]
    model = SASRec(**settings | {"optimization": Optimization(**settings["optimization"])})
    each = EachEpoch(seeds.draws)
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    trainer = L.Trainer(
        **config["trainer"], **quiet, accelerator="cpu", limit_val_batches=0, num_sanity_val_steps=0, callbacks=[each]
    )
    trainer.fit(model, datamodule=data)
    return pl.DataFrame(
        [
            {"epoch": epoch, "part": part, "values": values.astype(np.float32)}
            for epoch, parts in each.values.items()
            for part, values in parts.items()
        ]
    )


def planned(number: int) -> Iterator[Seeds]:
    """Each fit once: seed 0 of all causes first, then the causes in turn, so that a stop leaves them even."""
    done = set()
    for seed in range(number):
        for cause in CAUSES:
            seeds = Seeds.of(cause, seed)
            if seeds not in done:
                done.add(seeds)
                yield seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", type=Path, required=True, help="folder of one Parquet file per fit")
    parser.add_argument("--config", type=Path, default=CONFIG, help="of SASRec, as `recsys-lab fit --config` takes it")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--seeds", type=int, default=10, help="per cause")
    parser.add_argument("--most", type=int, default=None, help="fits of this call")
    parser.add_argument("--epochs", type=int, default=None, help="other than the recipe's")
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    config = yaml.safe_load(arguments.config.read_text())
    if arguments.epochs is not None:
        config["trainer"]["max_epochs"] = arguments.epochs
    arguments.values.mkdir(parents=True, exist_ok=True)
    made = 0
    for seeds in planned(arguments.seeds):
        if made == arguments.most:
            return
        file = arguments.values / f"{seeds.name}.parquet"
        if file.exists():
            continue
        begun, made = time.process_time(), made + 1
        found = fit(config, seeds, arguments.data_dir)
        found.write_parquet(file, compression_level=15)
        last = found.filter(pl.col("epoch") == pl.col("epoch").max())["values"].list.mean().to_list()
        print(seeds.name, *(f"{value:.4f}" for value in last), f"{time.process_time() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
