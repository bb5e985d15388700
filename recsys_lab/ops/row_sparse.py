"""An optimiser for item tables of millions of rows: a step touches only the rows that its batch touched.

A dense optimiser reads and writes the whole table, its gradient and its moments at every step, whatever the batch.
Here the table's gradients are sparse (`nn.Embedding(sparse=True)`), and one of two rules updates the rows in them:

`sparse_adam`: lazy Adam, as `torch.optim.SparseAdam`. Rows without a gradient keep their weights and moments, which
Adam would go on moving and decaying; the bias correction counts all steps. Two moments per weight, as Adam.

`rowwise_adagrad`: Adagrad with one accumulator per row, the mean of the row's squared gradients: Gupta, Bengio &
Weston 2014, "Training Highly Multiclass Classifiers", and the optimiser of DLRM (Naumov et al. 2019, "Deep Learning
Recommendation Model for Personalization and Recommendation Systems") and of FBGEMM (EXACT_ROWWISE_ADAGRAD). One number
per row, so that the state of a table is 1/D of its size.

All other parameters are updated by a dense Adam of the same step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from recsys_lab.words import RecsysLabError

State = dict[str, Any]


def check(optimizer: str, loss: Any, compile_model: bool) -> None:
    """Raises RecsysLabError for settings that a row-sparse optimiser can't be combined with."""
    if getattr(loss, "all_items", False):
        raise RecsysLabError(
            f"optimization.optimizer {optimizer} updates the rows of a batch only, and {type(loss).__name__} has a "
            "gradient for every item: take a sampled loss (SampledSoftmax, GBCE, ...), or adam"
        )
    if compile_model:
        raise RecsysLabError(
            f"optimization.optimizer {optimizer} needs sparse gradients, which torch.compile can't make: set "
            "compile_model: false"
        )


def make_sparse(model: nn.Module, num_rows: int) -> None:
    """Item tables of the model give sparse gradients from now on: every `nn.Embedding` of at least `num_rows` rows.

    Raises:
        RecsysLabError: when there is none.
    """
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding) and m.num_embeddings >= num_rows]
    if not tables:
        raise RecsysLabError(
            f"{type(model).__name__} has no nn.Embedding with a row for every item: nothing for a row-sparse optimiser "
            "to do; set optimization.optimizer to adam"
        )
    for table in tables:
        table.sparse = True


def sparse_tables(model: nn.Module, divided: bool = True) -> list[Tensor]:
    """divided: those too whose rows are divided among processes, where DDP has nothing to do (`shards.py`)."""
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding) and module.sparse]
    return [table.weight for table in tables if divided or not hasattr(table, "division")]


# -- several processes -------------------------------------------------------------------------------------------------


def adds_sparse_gradients() -> bool:
    """Whether the processes of this run can add sparse gradients themselves: gloo can, NCCL can't."""
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not several or torch.distributed.get_world_size() == 1 or torch.distributed.get_backend() == "gloo"


def keep_from_ddp(model: nn.Module) -> None:
    """DDP leaves the sparse tables alone from now on, and `average_over_processes` has to do it. Their first weights
    are the same on every process: they come from the seed."""
    tables = {id(table) for table in sparse_tables(model, divided=False)}
    names = [name for name, parameter in model.named_parameters() if id(parameter) in tables]
    model._ddp_params_and_buffers_to_ignore = names  # type: ignore[assignment]


def average_over_processes(model: nn.Module) -> None:
    """Gives the gradient of each sparse table its mean over the processes, which pass each other rows and values: they
    need nothing of a backend but a gather of dense tensors."""
    world = torch.distributed.get_world_size()
    for table in sparse_tables(model, divided=False):
        if table.grad is None:
            rows, values = table.new_zeros(0, dtype=torch.int64), table.new_zeros(0, table.shape[1])
        else:
            rows, values = _rows(table.grad)
        count = torch.tensor([len(rows)], device=table.device)
        counts = [int(n) for n in _gathered(count, world)]
        padded_rows, padded_values = rows.new_zeros(max(counts)), values.new_zeros(max(counts), values.shape[1])
        padded_rows[: len(rows)], padded_values[: len(rows)] = rows, values / world
        all_rows = torch.cat([part[:n] for part, n in zip(_gathered(padded_rows, world), counts, strict=True)])
        all_values = torch.cat([part[:n] for part, n in zip(_gathered(padded_values, world), counts, strict=True)])
        table.grad = torch.sparse_coo_tensor(all_rows[None], all_values, table.shape).coalesce()


def _gathered(tensor: Tensor, world: int) -> list[Tensor]:
    parts = [torch.empty_like(tensor) for _ in range(world)]
    torch.distributed.all_gather(parts, tensor)
    return parts


class RowSparse(Optimizer):
    """A dense Adam, and beside it a rule for the rows of tables.

    Args:
        dense: groups of parameters as `torch.optim.Adam` takes them.
        tables: (V, D) parameters whose gradients are sparse.
        rule: `sparse_adam` or `rowwise_adagrad`.
        lr: of the dense part.
        table_lr: of the tables.
        betas: of Adam, both parts.
        eps: of all.
    """

    def __init__(
        self,
        dense: list[dict[str, Any]],
        tables: Iterable[Tensor],
        rule: str,
        lr: float,
        table_lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self._adam = torch.optim.Adam(dense, lr=lr, betas=betas, eps=eps, fused=True)
        group = {"params": list(tables), "rule": rule, "lr": table_lr, "betas": betas, "eps": eps}
        super().__init__([*self._adam.param_groups, group], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # Both are new objects after `load_state_dict`; schedules write to ours.
        self._adam.param_groups = [group for group in self.param_groups if "rule" not in group]
        self._adam.state = self.state
        self._adam.step()
        for group in self.param_groups:
            if "rule" in group:
                for table in group["params"]:
                    if table.grad is not None:
                        RULES[group["rule"]](table, *_rows(table.grad), self.state[table], group)
        return loss


def rowwise_adagrad(table: Tensor, rows: Tensor, gradient: Tensor, state: State, group: State) -> None:
    """table (V, D), rows (R,) distinct, gradient (R, D)."""
    if not state:
        state["sum"] = table.new_zeros(len(table))  # (V,)
    total = state["sum"][rows] + gradient.square().mean(1)  # (R,)
    state["sum"][rows] = total
    table.index_add_(0, rows, gradient / (total.sqrt() + group["eps"]).unsqueeze(1), alpha=-group["lr"])


def sparse_adam(table: Tensor, rows: Tensor, gradient: Tensor, state: State, group: State) -> None:
    """table (V, D), rows (R,) distinct, gradient (R, D)."""
    if not state:
        state |= {"step": torch.tensor(0.0), "exp_avg": torch.zeros_like(table), "exp_avg_sq": torch.zeros_like(table)}
    state["step"] += 1
    step, (beta1, beta2) = float(state["step"]), group["betas"]
    mean = state["exp_avg"][rows].lerp_(gradient, 1 - beta1)  # (R, D)
    square = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    state["exp_avg"][rows], state["exp_avg_sq"][rows] = mean, square
    step_size = group["lr"] * math.sqrt(1 - beta2**step) / (1 - beta1**step)
    table.index_add_(0, rows, mean.div_(square.sqrt_().add_(group["eps"])), alpha=-step_size)


RULES = {"sparse_adam": sparse_adam, "rowwise_adagrad": rowwise_adagrad}


def _rows(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct rows (R,) and their gradients (R, D)."""
    if not gradient.is_sparse:
        raise RecsysLabError(
            "a row-sparse optimiser got a dense gradient for an item table: the loss or the encoder reads the whole "
            "table in training. Use a sampled loss and nn.Embedding lookups, or set optimization.optimizer to adam"
        )
    gradient = gradient.coalesce()
    return gradient.indices()[0], gradient.values()


def clip_gradients(
    parameters: Iterable[nn.Parameter], value: float, algorithm: str = "norm", divided: Iterable[nn.Parameter] = ()
) -> None:
    """`torch.nn.utils.clip_grad_norm_` or `clip_grad_value_`, which know no sparse gradients, and none of which each
    process has a part.

    Args:
        parameters: whose `.grad` is changed.
        value: the largest norm of all gradients together, or the largest absolute value of one.
        algorithm: `norm` or `value`.
        divided: those of `parameters` of which each process has rows of its own. Every process calls it then.
    """
    parts = {id(parameter) for parameter in divided}
    values: list[Tensor] = []
    of_parts: list[Tensor] = []
    for parameter in parameters:
        if parameter.grad is not None:
            if parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()  # else a row that comes twice counts as two
            gradient = parameter.grad.values() if parameter.grad.is_sparse else parameter.grad
            is_part = hasattr(gradient, "to_local")  # DTensor
            gradient = gradient.to_local() if is_part else gradient  # type: ignore[attr-defined]
            (of_parts if is_part or id(parameter) in parts else values).append(gradient)
    every = [*values, *of_parts]
    if algorithm == "value":
        for gradient in every:
            gradient.clamp_(-value, value)
    elif every or parts:
        norms = [torch.linalg.vector_norm(gradient) for gradient in values]
        if parts:
            square = sum((torch.linalg.vector_norm(gradient).square() for gradient in of_parts), torch.zeros(()))
            square = square.to(next(iter(every)).device) if every else square
            torch.distributed.all_reduce(square)
            norms.append(square.sqrt())
        norm = torch.linalg.vector_norm(torch.stack(norms))
        for gradient in every:
            gradient.mul_((value / (norm + 1e-6)).clamp(max=1.0))
