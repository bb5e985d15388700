"""Twenty steps of each encoder and each loss on two processes; test_joined_batch.py starts it.

python joined_batch.py <prepared folder> <output folder>
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor

import recsys_lab.models
from recsys_lab import losses
from recsys_lab.contracts import Batch, Negatives, NegativeSampler
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.losses.negatives import InBatchNegatives
from recsys_lab.models import BERT4Rec
from recsys_lab.models.blocks.masking import with_masks
from recsys_lab.models.module import last_position
from recsys_lab.words import PAD_ID

BATCH, STEPS, ITEMS = 5, 20, 20
"""BATCH: of each process. The last batch of an epoch is an odd one, 5 and 4 windows, or 3 and 2 of the shorter ones."""

ENCODERS = (
    *("BSARec", "Caser", "CORE", "FMLPRec", "GRU4Rec", "HSTU", "LiGR", "LRURec", "LSTM", "LSTMAttention"),
    *("Mamba4Rec", "NARM", "NextItNet", "RNN", "SASRec", "STAMP", "TiSASRec"),
)
"""All but BERT4Rec, whose masks each process draws for itself: see `given_masks`."""


def given_masks(model: Any, batch: Batch, draws: torch.Generator | None) -> Batch:
    """For BERT4Rec: every third item and the last one are masked, in whatever batch they are, on whatever process."""
    whole = model._one_more(batch, last_position(batch.target_ids, batch.lengths))
    targets = F.pad(batch.target_ids != PAD_ID, (1, 0))
    is_last = targets & (targets.flip(1).cumsum(dim=1).flip(1) == 1)
    return with_masks(whole, targets & (whole.item_ids % 3 == 0) | is_last, model.uses_target_fields)


class GivenNegatives(NegativeSampler):
    """Those of a target are the same in whatever batch it is, on whatever process."""

    def __init__(self, shared: bool) -> None:
        self.shared = shared

    def prepare(self, item_counts: Tensor) -> None: ...

    def sample(self, target_ids: Tensor, generator: torch.Generator | None) -> Negatives:
        items = torch.arange(1, 7) if self.shared else (target_ids[:, None] * 7 + torch.arange(4) * 3) % ITEMS + 1
        return Negatives(items, torch.full_like(items, -1.5, dtype=torch.float), torch.full((len(target_ids),), -1.0))


def settings() -> dict[str, dict[str, Any]]:
    """A name -> the encoder, its settings, and batches that make a step."""
    every: dict[str, dict[str, Any]] = {name: {"encoder": name} for name in ENCODERS}
    every["NARM"]["state_dropout"] = 0.0
    every["BERT4Rec, masks as given"] = {"encoder": "BERT4Rec"}
    for name in losses.__all__:
        if name != "CrossEntropy":
            for shared in (False, True):
                negatives = GivenNegatives(shared)
                every[f"{name}, {'shared' if shared else 'own'} negatives"] = {"loss": name, "negatives": negatives}
    every["negatives of all batches"] = {"loss": "SampledSoftmax", "negatives": InBatchNegatives(across_processes=True)}
    every["negatives of the own batch"] = {"loss": "SampledSoftmax", "negatives": InBatchNegatives()}
    every["two batches a step"] = {"batches": 2}
    every["two batches a step, BPR"] = {"loss": "BPR", "negatives": GivenNegatives(shared=True), "batches": 2}
    return every


def trained(data_folder: str, given: dict[str, Any], devices: int) -> dict[str, Tensor]:
    """The weights after twenty steps, `devices` processes sharing a batch."""
    given = {"encoder": "SASRec", "batches": 1, "loss": "CrossEntropy", **given}
    encoder = getattr(recsys_lab.models, given.pop("encoder"))
    batches, loss = given.pop("batches"), getattr(losses, given.pop("loss"))()
    L.seed_everything(0, verbose=False)
    model = encoder(embedding_dim=8, dropout=0.0, loss=loss, **given)
    if isinstance(model, BERT4Rec):
        model.training_batch = partial(given_masks, model)
    # Adam would scale up what is rounding alone, such as the gradient of a key's bias
    model.configure_optimizers = lambda: torch.optim.SGD(model.parameters(), lr=0.05)
    mode: Any = "last_position" if model.last_positions_only else "all_positions"
    size = 2 * BATCH // devices
    data = SequenceDataModule(data_folder, max_length=5, batch_size=size, training_mode=mode, seed=0, num_workers=0)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_steps=STEPS // batches,
        max_epochs=-1,
        accumulate_grad_batches=batches,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data)
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = {name: trained(sys.argv[1], given, devices=2) for name, given in settings().items()}
    torch.save(found, Path(sys.argv[2]) / f"rank{torch.distributed.get_rank()}.pt")
