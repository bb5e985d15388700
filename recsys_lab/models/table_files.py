"""A divided item table on disk: beside a checkpoint each process writes its own rows, of the vectors and of what the
optimiser keeps of them, as safetensors, with an index in JSON.

    best.ckpt                    everything else; it names its folder, and the hash of the index
    best-<token>.shards/
        index.json               tensors, their shapes, and which rows each file holds, with its hash
        rank0.safetensors ...

The folder is complete before the checkpoint appears, and earlier folders go when it has: at any moment the checkpoint
that is there names rows that are there. They are read on any number of processes, each of which takes its rows.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recsys_lab.models.blocks.sharded_table import ShardedItemTable
from recsys_lab.models.sharding import OPTION, sharded_tables
from recsys_lab.ops.processes import of_every_process
from recsys_lab.words import RecsysLabError

ENTRY = "item_table"
"""Of a checkpoint: where the rows are."""
INDEX = "index.json"
WEIGHT = "weight"
"""Name of the vectors among the tensors; the others are `OPTIMIZER.PARAMETER.KEY`, numbers and the name of a state."""


def attach(module: Any) -> None:
    """The strategy of the Trainer of `module` saves and removes the rows with each checkpoint: Lightning calls a plugin
    for files on the first process only."""
    strategy = module.trainer.strategy
    if hasattr(strategy, "saves_item_table"):
        return
    save, remove = strategy.save_checkpoint, strategy.remove_checkpoint

    def save_both(checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        if "://" in str(filepath):
            raise RecsysLabError(f"{OPTION} writes checkpoints into a folder that all processes see, not {filepath}")
        _save_rows(strategy.lightning_module, checkpoint, Path(filepath))
        save(checkpoint, filepath, storage_options)
        if strategy.is_global_zero:
            _clear(Path(filepath))

    def remove_both(filepath: Any) -> None:
        remove(filepath)
        if strategy.is_global_zero:
            _clear(Path(filepath))

    strategy.save_checkpoint, strategy.remove_checkpoint = save_both, remove_both
    strategy.saves_item_table = True


def _save_rows(module: Any, checkpoint: dict[str, Any], path: Path) -> None:
    """Takes the rows out of `checkpoint` and writes them; each process calls it, and none goes on before all have."""
    (table,) = sharded_tables(module)
    names, tensors = _taken_out(module, table, checkpoint)
    token = of_every_process(secrets.token_hex(4))[0]
    folder, rank, held = path.with_name(f"{path.stem}-{token}.shards"), table.division.rank, table.division.held
    file, problem, digest = folder / f"rank{rank}.safetensors", "", ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _safetensors("torch").save_file({name: value.contiguous() for name, value in tensors.items()}, file)
        digest = _sha256(file)
    except Exception as error:  # every process has to know
        problem = f"process {rank} could not write {file}: {error}"
    own = {"file": file.name, "rows": [held.start, held.stop], "sha256": digest, "problem": problem}
    files = of_every_process(own)
    problem = next((one["problem"] for one in files if one["problem"]), "")
    if not problem and rank == 0:
        missing = [one["file"] for one in files if not (folder / one["file"]).is_file()]
        problem = f"process 0 does not see {folder / missing[0]}: all need one file system" if missing else ""
    told = of_every_process(problem)[0] or problem
    if told:
        raise RecsysLabError(told)
    for one in files:
        del one["problem"]
    shapes = {name: [table.division.num_rows, *value.shape[1:]] for name, value in tensors.items()}
    index = {"version": 1, "parameters": names, "tensors": shapes, "files": files}
    text = json.dumps(index, indent=2) + "\n"
    if rank == 0:
        partial = folder / f"{INDEX}.partial"
        partial.write_text(text)
        os.replace(partial, folder / INDEX)
    checkpoint[ENTRY] = {"folder": folder.name, "index_sha256": hashlib.sha256(text.encode()).hexdigest()}


def _taken_out(module: Any, table: ShardedItemTable, checkpoint: dict[str, Any]) -> tuple[list[str], dict[str, Tensor]]:
    """Names of the table's parameter, which it has one of for each place that holds it; and name -> rows."""
    held = [name for name, one in module.named_modules(remove_duplicate=False) if one is table]
    names, tensors = [f"{name}.weight" for name in held], {WEIGHT: table.weight.detach()}
    for name in names:
        checkpoint["state_dict"].pop(name, None)
    for number, state in enumerate(checkpoint.get("optimizer_states", ())):
        parameters = [p for group in module.trainer.optimizers[number].param_groups for p in group["params"]]
        place = next((place for place, parameter in enumerate(parameters) if parameter is table.weight), None)
        if place not in state["state"]:
            continue
        kept = dict(state["state"][place])  # a copy: the optimiser itself has this one
        rows = {key: kept.pop(key) for key, value in list(kept.items()) if getattr(value, "ndim", 0) > 0}
        tensors |= {f"{number}.{place}.{key}": value for key, value in rows.items()}
        state["state"] = {**state["state"], place: kept}
    return names, tensors


def fill(checkpoint: dict[str, Any], module: Any) -> None:
    """Puts the rows into a checkpoint of the Trainer that names a folder of them: those that `module`, built, holds, or
    all. Of a checkpoint of one process, which holds the whole table, those are left that `module` holds."""
    tables = sharded_tables(module)
    if ENTRY in checkpoint:
        trainer, held = module.trainer, tables[0].division.held if tables else None
        _fill(checkpoint, held, Path(trainer.ckpt_path).parent, trainer.state.fn == "fit")
    elif tables:
        _divide(checkpoint, module, tables[0])


def _divide(checkpoint: dict[str, Any], module: Any, table: ShardedItemTable) -> None:
    """Leaves of a whole table the rows that are held; what the optimiser keeps of them is known by its shape."""
    held, whole = table.division.held, torch.Size([table.division.num_rows, table.embedding_dim])
    for name in (f"{name}.weight" for name, one in module.named_modules(remove_duplicate=False) if one is table):
        checkpoint["state_dict"][name] = checkpoint["state_dict"][name][held].clone()
    for optimizer in checkpoint.get("optimizer_states", ()):
        for state in optimizer["state"].values():
            for key, value in state.items():
                if getattr(value, "shape", None) == whole or key == "sum":  # of `row_sparse.rowwise_adagrad`
                    state[key] = value[held].clone()


def fill_whole(checkpoint: dict[str, Any], path: Any) -> None:
    """Makes a checkpoint that was read from `path` one that has the whole table; nothing to do where it has."""
    if ENTRY in checkpoint:
        _fill(checkpoint, None, Path(path).parent, False)
        del checkpoint[ENTRY]


def _fill(checkpoint: dict[str, Any], held: slice | None, beside: Path, with_optimizer: bool) -> None:
    folder = beside / Path(checkpoint[ENTRY]["folder"]).name  # a name, and no way out of the folder
    index = _index(folder, checkpoint[ENTRY])
    for name, shape in index["tensors"].items():
        if name != WEIGHT and not with_optimizer:
            continue
        rows = torch.cat([*_rows(folder, index, name, held or slice(0, shape[0]))])
        if name == WEIGHT:
            checkpoint["state_dict"].update(dict.fromkeys(index["parameters"], rows))
        elif "optimizer_states" in checkpoint:
            number, place, key = name.split(".")
            checkpoint["optimizer_states"][int(number)]["state"][int(place)][key] = rows


def _index(folder: Path, entry: Mapping[str, str]) -> dict[str, Any]:
    try:
        text = (folder / INDEX).read_bytes()
    except OSError as error:
        raise RecsysLabError(
            f"the rows of the item table are gone: {folder}. Whoever moves a checkpoint of {OPTION} moves its folder "
            "too"
        ) from error
    if hashlib.sha256(text).hexdigest() != entry["index_sha256"]:
        raise RecsysLabError(f"{folder / INDEX} is damaged, or was changed since the checkpoint was written")
    found: dict[str, Any] = json.loads(text)
    return found


def _rows(folder: Path, index: dict[str, Any], name: str, wanted: slice) -> Iterator[Tensor]:
    for one in index["files"]:
        start, stop = one["rows"]
        first, last = max(start, wanted.start), min(stop, wanted.stop)
        if first >= last:
            continue
        file = folder / Path(one["file"]).name
        if name == WEIGHT and (not file.is_file() or _sha256(file) != one["sha256"]):
            raise RecsysLabError(f"{file} is damaged, or was changed since the checkpoint was written")
        with _safetensors("").safe_open(file, framework="pt") as held:
            yield held.get_slice(name)[first - start : last - start]


def _clear(path: Path) -> None:
    """Removes folders of rows that were written for the checkpoint at `path`, and that no checkpoint there names."""
    folders = [one for one in path.parent.glob("*.shards") if one.name.rpartition("-")[0] == path.stem]
    files = {path, *path.parent.glob("*.ckpt")}
    named = {_named_by(file) for file in files if file.is_file()} if folders else set()
    for folder in folders:
        if folder.name not in named and "?" not in named:
            shutil.rmtree(folder)


def _named_by(file: Path) -> str:
    try:
        held = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # one that can't be read may name any
        return "?"
    return str(held.get(ENTRY, {}).get("folder", ""))


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _safetensors(part: str) -> Any:
    try:
        import safetensors.torch
    except ModuleNotFoundError as error:
        raise RecsysLabError(f"{OPTION} needs the package safetensors: pip install 'recsys-lab[text]'") from error
    return safetensors.torch if part else safetensors
