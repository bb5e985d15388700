"""WarmStart: a fit that begins with the weights of an earlier run, whose log was shorter.

Rows of tables are matched by what they mean: those of items by raw id, those of a field by raw value. A row that the
earlier run did not train begins with the mean of those that it did; where items have fields, their vectors are added to
it as to any other. Everything else is taken as it is. The optimiser begins anew.
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recsys_lab.contracts import DataSpec, Field
from recsys_lab.models.checkpoint import read_checkpoint, settings_in, spec_of, vocabulary_in
from recsys_lab.models.system import RESOLVED, differing, model_settings, system_hash
from recsys_lab.models.table_files import fill_whole
from recsys_lab.words import RecsysLabError

log = logging.getLogger("recsys_lab")

OPTION = "--warm_start"
ITEMS, USERS = "items", "users"
"""Axes of tables beside those of fields, which are named by scope and name."""
MAY_DIFFER = tuple(f"model.{name}" for name in (*RESOLVED, "compile_model", "item_vectors"))
"""Settings of a model that leave its weights what they are."""
OF_TRAINING = ("task.", "auxiliary.")
"""Weights of losses, which may be others now."""
SMALLEST = 7
"""Rows of each table of the small models whose shapes are compared."""


@dataclass(frozen=True, eq=False)
class WarmStart:
    """What a fit begins with.

    run: the run folder or checkpoint file, as it was given.
    file: the checkpoint. held: what is in it.
    """

    run: str
    file: Path
    held: dict[str, Any]

    @classmethod
    def of(cls, run: str | Path) -> WarmStart:
        """run: a run folder, of which `checkpoints/best.ckpt` is taken, or a checkpoint file.

        Raises:
            RecsysLabError: when it is neither, or holds no raw ids.
        """
        file = Path(run)
        if file.is_dir():
            if not (file / "config.yaml").is_file() and not (file / "checkpoints").is_dir():
                raise RecsysLabError(f"{OPTION} {run} is not a run folder: it holds no checkpoints/best.ckpt")
            file = file / "checkpoints" / "best.ckpt"
        try:
            held = read_checkpoint(file)
            vocabulary_in(held)
            fill_whole(held, file)
            held = {name: value for name, value in held.items() if name not in ("optimizer_states", "callbacks")}
        except RecsysLabError as error:
            raise RecsysLabError(f"{OPTION} {run}: {error}") from error
        return cls(str(run), file, held)

    @property
    def spec(self) -> DataSpec:
        """Of the data that the earlier run was trained on."""
        return spec_of(self.held)

    def check_model(self, model: Any) -> None:
        """Raises RecsysLabError where the weights are of another model than `model`, naming the settings."""
        if model.scores_whole_rows:
            raise RecsysLabError(f"{OPTION}: {type(model).__name__} counts all events anew in each fit: leave it out")
        if "pca" in model.item_vectors.preprocessing:
            raise RecsysLabError(
                f"{OPTION}: the directions of --model.item_vectors_preprocessing pca are found anew on each log, so "
                "that weights learned on the earlier ones mean nothing: train a new model"
            )
        found = differing(settings_in(self.held)["model"], model_settings(model), "model")
        texts = [f"--{name}: {old} there, {new} here" for name, old, new in found if not name.startswith(MAY_DIFFER)]
        if texts:
            raise RecsysLabError(
                f"{OPTION} {self.run} is of another model than is asked. {'; '.join(texts)}. Take its settings, or "
                "train a new model"
            )

    def check_data(self, data: Any) -> None:
        """Raises RecsysLabError where the earlier run knows events at or after a target of this one, or was fed other
        fields.

        Args:
            data: the data module.
        """
        for stage, name in (("val", "validation"), ("test", "test")):
            if data.sees_targets(self.spec.training, stage):
                raise RecsysLabError(
                    f"{OPTION} {self.run} was trained on events at or after {name} targets of this run, which it must "
                    "not know. Take a run that was trained on earlier events; or cut this log later: --data.split "
                    "GlobalTemporal --data.split.val_date DATE --data.split.test_date DATE"
                )
        before, now = ({_axis(f): f.kind for f in spec.fields} for spec in (self.spec, data.spec))
        if before != now:
            raise RecsysLabError(
                f"{OPTION} {self.run} was fed other fields: {_listed(before)} there, and {_listed(now)} here "
                "(--data.fields)"
            )

    @torch.no_grad()
    def fill(self, model: Any, data: Any) -> dict[str, Any]:
        """Puts the weights into `model`, which was just built for `data`, and names in its spec what it began with.

        Args:
            model: with what the data brings by itself, such as values of item fields, in its place.
            data: the data module.

        Returns:
            Of manifest.json: the run, its hashes, how many items kept their weights.

        Raises:
            RecsysLabError: see `check_model` and `check_data`; where a weight has no place.
        """
        self.check_model(model)
        self.check_data(data)
        rows: dict[str, Tensor] = data.earlier_rows(vocabulary_in(self.held))
        axes, weights, of_data = axes_of(model), self.held["state_dict"], _of_the_data(model)
        own = model.item_vectors
        keeps_new = own.path is not None and own.mode in ("init", "delta")  # their own vectors say where they begin
        for name, tensor in model.state_dict().items():
            if name in of_data or name.startswith(OF_TRAINING):
                continue
            if name not in weights:
                raise RecsysLabError(f"{OPTION} {self.run} has no {name}, which {type(model).__name__} needs")
            found = weights[name].to(tensor.device)
            for dim, axis in axes.get(name, {}).items():
                if axis == USERS:
                    raise RecsysLabError(
                        f"{OPTION}: {name} has a row for each user, and a checkpoint holds no users to match them by"
                    )
                found = _taken(found, dim, rows[axis], axis, tensor if keeps_new and axis == ITEMS else None)
            if found.shape != tensor.shape:
                raise RecsysLabError(
                    f"{OPTION} {self.run}: {name} is {tuple(found.shape)} there and {tuple(tensor.shape)} here"
                    + self._why(data.spec)
                )
            tensor.copy_(found)
        return self._facts(model, data, rows[ITEMS])

    def _why(self, spec: DataSpec) -> str:
        before, now = self.spec.max_length, spec.max_length
        return f" (--data.max_length: {before} there, {now} here)" if before != now else ""

    def _facts(self, model: Any, data: Any, item_rows: Tensor) -> dict[str, Any]:
        spec, kept = self.spec, int((item_rows[1:] >= 0).sum())
        hashed = system_hash(settings_in(self.held))
        model.spec = replace(
            model.spec,
            training=model.spec.training | {"started_from": {"system_hash": hashed, "training": spec.training}},
        )
        found = {
            "run": self.run,
            "dataset": spec.dataset,
            "data_hash": spec.data_hash,
            "training_hash": spec.training_hash or None,
            "system_hash": hashed,
            "seed": self.held.get("seed"),
            "trained_until": spec.training.get("train_until"),
            "items_kept": kept,
            "items_new": len(item_rows) - 1 - kept,
        }
        log.info("%s: %d items keep their weights, %d are new", self.run, kept, found["items_new"])
        plain: dict[str, Any] = json.loads(json.dumps(found))
        return plain


def axes_of(model: Any) -> dict[str, dict[int, str]]:
    """Which dimensions of a model's tensors are rows of what: name -> dimension -> `items`, `users` or a field.

    Two small models of these settings are built, whose tables differ in size; whatever grows with a table belongs to
    it. So it is found for any encoder, also one of the user's own.
    """
    spec: DataSpec = model.spec
    coded = [field for field in spec.fields if field.kind in ("categorical", "multi")]
    names = [ITEMS, USERS, *map(_axis, coded)]
    more = {name: place for place, name in enumerate(names, 1)}  # a number of rows of its own for each

    def shapes(grown: bool) -> dict[str, torch.Size]:
        def size(name: str) -> int:
            return SMALLEST + grown * more[name]

        fields = tuple(replace(f, size=size(_axis(f))) if f in coded else f for f in spec.fields)
        sized = replace(spec, num_items=size(ITEMS), num_users=size(USERS), fields=fields)
        small = type(model)(**copy.deepcopy(model._init_args))
        small._build(sized)
        return {name: tensor.shape for name, tensor in small.state_dict().items()}

    with torch.random.fork_rng(devices=[]):
        first, second = shapes(False), shapes(True)
    axis = {number: name for name, number in more.items()}
    found: dict[str, dict[int, str]] = {}
    for name, shape in first.items():
        for dim, (few, many) in enumerate(zip(shape, second[name], strict=True)):
            if few != many:
                if many - few not in axis:
                    raise RecsysLabError(f"{OPTION}: what dimension {dim} of {name} has a row for can't be told")
                found.setdefault(name, {})[dim] = axis[many - few]
    return found


def _taken(old: Tensor, dim: int, rows: Tensor, axis: str, new: Tensor | None) -> Tensor:
    """`old` with its rows along `dim` in a new order.

    Args:
        rows: (R,) the row of `old` that each is; -1 where there is none.
        axis: what the rows are of.
        new: (.., R, ..) where rows without an old one begin; None = with the mean of those that have one.
    """
    rows = rows.to(old.device)
    found, place = old.index_select(dim, rows.clamp_min(0)), (rows < 0).nonzero().squeeze(1)
    if new is not None:
        return found.index_copy(dim, place, new.index_select(dim, place))
    first = 1 if axis == ITEMS else 2  # row 0 is padding; row 1 of a field is a missing value
    known = rows[first:][rows[first:] >= 0]
    mean = old.index_select(dim, known).sum(dim, keepdim=True) / max(1, len(known))
    return found.index_copy(dim, place, mean.to(old.dtype).expand_as(found.index_select(dim, place)))


def _of_the_data(model: Any) -> set[str]:
    """Names of tensors that the data fills: values of item fields, vectors of the user's own."""
    return {
        f"{name}.{tensor}" if name else tensor
        for name, module in model.named_modules(remove_duplicate=False)  # the scorer holds the table, too
        for tensor in getattr(module, "from_data", ())
    }


def _axis(field: Field) -> str:
    return f"{field.scope} {field.name}"


def _listed(fields: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in sorted(fields.items())) or "none"
