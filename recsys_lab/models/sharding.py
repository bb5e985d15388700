"""`--model.shard_items true`: what it works with, and what of a training has to know that the item table is divided."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from recsys_lab.contracts import Samples
from recsys_lab.models.blocks.sharded_table import ShardedItemTable
from recsys_lab.models.system import FINDERS, is_a
from recsys_lab.words import RecsysLabError

OPTION = "--model.shard_items true"


def sharded_tables(model: nn.Module) -> list[ShardedItemTable]:
    return [module for module in model.modules() if isinstance(module, ShardedItemTable)]


def divided_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Of which each process has rows of its own."""
    return [table.weight for table in sharded_tables(model)]


def divides(model: Any) -> bool:
    """Whether the tables of `model` are to be divided: several processes work on it. One has the whole table."""
    return bool(model.shard_items and model._trainer is not None and model._trainer.world_size > 1)


def check_setting(model: Any) -> None:
    """Raises RecsysLabError for settings of a model that need the whole table in one process, on any number of
    processes, so that a trial on one finds them."""
    for refused in _refusals(model):
        raise RecsysLabError(f"{OPTION}: {refused}")


def _refusals(model: Any) -> Iterator[str]:
    if model.scores_whole_rows:
        yield f"{type(model).__name__} counts and has no item table: leave it out"
    if model.item_vectors.path is not None:
        yield "vectors of your own (--model.item_vectors) would lie on each process whole: leave one of the two out"
    if model._chosen_scorer[0] is not None:
        name = type(model._chosen_scorer[0]).__name__
        yield f"{name} scores all items from the whole table: leave out --model.scorer"
    if model.compile_model:
        yield "torch.compile can't have the exchange between processes: set --model.compile_model false"
    if model.task.samples != Samples() or not model.task.ranks:
        yield f"{type(model.task).__name__} asks for labels or clicks, and only the next item is there: leave one out"


def check_trainer(model: Any, trainer: Any) -> None:
    """Raises RecsysLabError where the Trainer can't train a divided table.

    Args:
        trainer: of several processes.
    """
    from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

    strategy, precision = trainer.strategy, str(trainer.precision)
    known = type(strategy) in (DDPStrategy, ModelParallelStrategy)
    if not known or getattr(strategy, "_start_method", "popen") != "popen":
        raise RecsysLabError(
            f"{OPTION} works with --trainer.strategy ddp, which copies the encoder to each process, and with "
            f"ModelParallelStrategy, which divides it; {type(strategy).__name__} does so in another way"
        )
    if precision.startswith("16"):
        raise RecsysLabError(
            f"{OPTION}: the loss scale of --trainer.precision {precision} would differ between the processes: take "
            "bf16-mixed or 32-true"
        )
    for callback in trainer.callbacks:
        if is_a(callback, "WeightAveraging", *FINDERS):
            raise RecsysLabError(f"{OPTION}: {type(callback).__name__} copies the whole model: leave it out")
    if model.starts_from is not None:
        raise RecsysLabError(f"{OPTION}: a warm start needs the whole table: start it on one process")


def check_built(model: Any) -> None:
    """Raises RecsysLabError where a model, built for several processes, has no divided table, or more than one."""
    tables, name = sharded_tables(model), type(model).__name__
    if len(tables) != 1 or model.scorer.own_block() is None:
        raise RecsysLabError(
            f"{OPTION}: {name} needs one table, of EventEmbedding or blocks.sharded_table.item_table, that its scorer "
            f"multiplies with (TiedScorer, CosineScorer); it has {len(tables)}, and {type(model.scorer).__name__}"
        )


def keep_from_ddp(model: nn.Module) -> None:
    """DDP neither copies nor averages what differs between processes."""
    divided = {id(parameter) for parameter in divided_parameters(model)}
    names = [name for name, parameter in model.named_parameters() if id(parameter) in divided]
    held: Any = getattr(model, "_ddp_params_and_buffers_to_ignore", [])
    model._ddp_params_and_buffers_to_ignore = [*held, *names]  # type: ignore[assignment]
