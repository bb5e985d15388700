"""`--model.shard_items true` with `ModelParallelStrategy`: the rows of the item table lie as with `ddp`, and of each
other weight, its gradient and what the optimiser keeps of it, each process has a part too (FSDP2).

A training step gathers the weights beside the table, and an evaluation does so once, at its start: processes may have
different numbers of batches there. Checkpoints are those of `ddp`: any number of processes reads them, with any
strategy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from recsys_lab.models.sharding import OPTION, check_built, divided_parameters
from recsys_lab.words import RecsysLabError

ONE_KERNEL = {"fused": True, "foreach": None}
"""Of a group of Adam's, as `ddp` has it. Parts and rows of the table are of two kinds; no kernel takes both at once."""


def begin(model: Any) -> None:
    """Of a model whose table is divided, in each process before a fit or an evaluation.

    Raises:
        RecsysLabError: where the model has not one table; unless each process has batches of its own.
    """
    if not is_divided(model):
        check_built(model)
    strategy, processes = model.trainer.strategy, model.trainer.world_size
    if type(strategy).__name__ != "ModelParallelStrategy":
        return
    if strategy._data_parallel_size != processes:
        raise RecsysLabError(
            f"{OPTION}: each process trains on batches of its own: --trainer.strategy.data_parallel_size {processes} "
            "--trainer.strategy.tensor_parallel_size 1"
        )
    _attach(strategy)
    if not is_divided(model):
        _divide_encoder(model)


def _divide_encoder(model: Any) -> None:
    """Divides what is not in the item table."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    kind = type(model)
    mesh = model.trainer.strategy.device_mesh["data_parallel"]
    fully_shard(model, mesh=mesh, ignored_params=set(divided_parameters(model)))
    register_fsdp_forward_method(model, "training_step")
    for name in ("__name__", "__qualname__", "__module__"):  # the model got a class of its own: a checkpoint names it
        setattr(type(model), name, getattr(kind, name))


def gather(model: Any) -> None:
    """Before an evaluation: all weights beside the table are on each process."""
    if is_divided(model):
        model.unshard()


def release(model: Any) -> None:
    if is_divided(model):
        model.reshard()


def is_divided(model: Any) -> bool:
    return hasattr(model, "unshard")


def is_part(value: Any) -> bool:
    """Whether a weight, a gradient or a state of one is a part (DTensor)."""
    return hasattr(value, "full_tensor")


def _attach(strategy: Any) -> None:
    """The strategy writes and reads whole weights in one file, as `ddp` does. Its own ways
    write a folder with pickle, or name the optimiser's state in another way."""
    from lightning.pytorch.strategies import Strategy

    if hasattr(strategy, "writes_whole_weights"):
        return

    def state_dict() -> dict[str, Any]:
        return {name: _whole(value) for name, value in strategy.lightning_module.state_dict().items()}

    def optimizer_state(optimizer: Any) -> dict[str, Any]:
        found: Any = Strategy.optimizer_state(strategy, optimizer)
        kept = {place: {key: _whole(value) for key, value in held.items()} for place, held in found["state"].items()}
        groups = [group | (ONE_KERNEL if group.get("fused") is False else {}) for group in found["param_groups"]]
        return {"state": kept, "param_groups": groups}

    def load_model(checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        own = strategy.lightning_module.state_dict()
        given = {name: _like(value, own.get(name)) for name, value in checkpoint["state_dict"].items()}
        strategy.lightning_module.load_state_dict(given, strict=strict)
        if strategy.lightning_module.trainer.state.fn == "fit":  # Lightning leaves the optimisers to this strategy
            load_optimizers(checkpoint)

    def load_optimizers(checkpoint: Mapping[str, Any]) -> None:
        given: list[dict[str, Any]] = checkpoint["optimizer_states"]
        for optimizer, found in zip(strategy.optimizers, given, strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            state: Any = found["state"]
            for place, held in state.items():
                held.update({key: _like(value, parameters[place]) for key, value in held.items()})
            kernels = [{key: group[key] for key in ONE_KERNEL if key in group} for group in optimizer.param_groups]
            groups = [group | own for group, own in zip(found["param_groups"], kernels, strict=True)]
            optimizer.load_state_dict({"state": state, "param_groups": groups})

    for name in ("save_checkpoint", "remove_checkpoint", "load_checkpoint"):
        setattr(strategy, name, getattr(Strategy, name).__get__(strategy))
    strategy.lightning_module_state_dict, strategy.optimizer_state = state_dict, optimizer_state
    strategy.load_model_state_dict = load_model
    strategy.writes_whole_weights = True


def _whole(value: Any) -> Any:
    """Every process calls it for the same values."""
    return value.full_tensor() if is_part(value) else value


def _like(value: Any, own: Any) -> Any:
    """A whole value as the part that `own` is."""
    if not is_part(own) or not isinstance(value, Tensor) or value.shape != own.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, own.device_mesh, own.placements, src_data_rank=None)
