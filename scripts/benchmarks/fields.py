#!/usr/bin/env python3
"""What fields cost in training, in turn with RePlay on the same windows, targets and fields.

    scripts/benchmarks/fields.py --folder data/ml-1m-fields --fields item.genres,item.year,user.age,user.gender
    scripts/benchmarks/fields.py --folder ... --fields ... --replay VENVS/replay/bin/python --replay-batches 8

SASRec in the configuration of `peers.py`: 64 wide, 2 blocks, 2 heads, feed-forward 64, dropout 0.2, full
cross-entropy, Adam 1e-3, 128 windows a batch, each user's newest window. Targets per second are the median over the
epochs after the first, making the batches included. Every measurement is a process of its own; in each round they run
one after the other, and the ratios are medians over the rounds.

RePlay gets the fields in its feature schema: categories as sequence features, whose vectors it sums, lists by their
mean; fields of items and users stand at each position, as it has no others. Its length bucketing is on. It reads fields
of items in the input alone; in ours they are part of the scores too. PYTHON is that of an environment of its own with
`replay-rec[torch]==0.22.0`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import (
    OURS,
    QUIET,
    Row,
    busy_cores,
    child,
    groups,
    head,
    last_json,
    line,
    measured,
    median,
    not_idle,
    parser_of,
    peak_mb,
    publish,
    ratio,
    run,
    shown,
)

HERE = Path(__file__).resolve().parent
IDS = "ids alone"
BUCKET = 32
"""Windows that RePlay's length bucketing reads together."""


def main() -> int:
    args = parse_args()
    chosen = {name: getattr(args, name) for name in ("length", "batch_size", "epochs", "batches", "replay_batches")}
    with tempfile.TemporaryDirectory() as folder:
        rows, lines = measured(measurements(args, Path(folder)), args, folder=args.folder.name, **chosen)
    return publish([*lines, *not_idle(rows), *table(rows)], args.markdown)


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__, "benchmark_fields.jsonl")
    add = parser.add_argument
    add("--folder", type=Path, required=True, help="a prepared data set")
    add("--fields", required=True, metavar="A,B", help="categorical and multi fields of its events, items and users")
    add("--replay", type=Path, metavar="PYTHON", help="of RePlay's environment; without it only ours is measured")
    add("--length", type=int, default=200, help="events of a window (default 200)")
    add("--batch-size", type=int, default=128, help="windows of a step (default 128)")
    add("--epochs", type=int, default=3, help="the first is warm-up (default 3)")
    add("--batches", type=int, default=0, help="of ours in an epoch; 0 = all")
    add("--replay-batches", type=int, default=0, help="of RePlay's in an epoch; 0 = all")
    args = parser.parse_args()
    args.fields = args.fields.split(",")
    return args


def measurements(args: argparse.Namespace, folder: Path) -> Iterator[Row]:
    job = {"folder": str(args.folder.resolve()), "max_length": args.length, "batch_size": args.batch_size, "seed": 42}
    job |= {"epochs": args.epochs, "max_windows_per_user": 1}
    exported: Row = {}
    if args.replay:
        file = str(folder / "windows.parquet")
        exported = child(__file__, args.threads, **job, kind="export", fields=args.fields, file=file)
    for number in range(args.rounds):
        for fields in ([], args.fields):
            row = {"round": number, "fields": ", ".join(fields) or IDS}
            ours = {"kind": "train", "model": "SASRec", "max_batches": args.batches, "max_test_batches": 1}
            busy = busy_cores(1.0)
            yield {
                **row, "who": OURS, "busy_cores_before": busy,
                **child(HERE / "our_side.py", args.threads, **job, **ours, fields=fields),
            }  # fmt: skip
            if args.replay:
                theirs = {**job, **exported, "kind": "replay", "max_batches": args.replay_batches}
                theirs |= {"fields": fields, "threads": args.threads}
                busy = busy_cores(1.0)
                command = [str(args.replay.absolute()), __file__, "--job", json_of(theirs)]
                yield {**row, "who": "RePlay", "busy_cores_before": busy, **last_json(command, args.threads, folder)}


def json_of(job: Row) -> str:
    import json

    return json.dumps(job)


def table(rows: list[Row]) -> list[str]:
    lines = head("who", "fields", "targets/s", "of its ids alone", "ours by RePlay", "peak MB", "cores used")
    for (who, fields), here in groups(rows, "who", "fields"):
        alone = [row for row in rows if row["who"] == who and row["fields"] == IDS]
        theirs = [row for row in rows if row["who"] != OURS and row["fields"] == fields]
        against = ratio(here, theirs, "targets_per_s") if who == OURS else None
        cells = (shown(median(here, "targets_per_s"), ",.0f"), shown(ratio(here, alone, "targets_per_s"), ".2f"))
        rest = (
            shown(against, ".1f"),
            shown(median(here, "peak_rss_mb"), ",.0f"),
            shown(median(here, "cores_used"), ".1f"),
        )
        lines.append(line(who, fields, *cells, *rest))
    return lines


# -- in a process of its own -------------------------------------------------------------------------------------------


def export_windows(job: Row) -> Row:
    """The training windows as RePlay reads them: a row each, with lists over its events; ids and codes from 0."""
    import polars as pl
    from our_side import make_data

    data = make_data(job, fields=job["fields"])
    sizes: dict[str, Row] = {}
    columns: dict[str, list[Any]] = {"user_id": [], "item_id": []}
    of_items = {}
    for field in data.spec.fields:
        name = f"{field.scope}_{field.name}"
        if field.kind not in ("categorical", "multi"):
            sys.exit(f"benchmark: {name} is {field.kind}; categorical and multi fields can be compared")
        sizes[name] = {"size": field.size, "width": field.width if field.kind == "multi" else None}
        columns[name] = []
        if field.scope == "item":
            of_items[name] = data.item_fields[field.name]
    for batch in data.train_dataloader():
        for row, length in enumerate(batch.lengths.tolist()):
            items = [*batch.item_ids[row, :length].tolist(), int(batch.target_ids[row, length - 1])]
            columns["user_id"].append(len(columns["user_id"]))
            columns["item_id"].append([item - 1 for item in items])
            for field in data.spec.fields:
                name = f"{field.scope}_{field.name}"
                if field.scope == "item":
                    codes = of_items[name][items].tolist()
                elif field.scope == "user":
                    codes = [batch.user[field.name][row].tolist()] * len(items)
                else:
                    own = batch.event[field.name][row, :length].tolist()
                    codes = [*own, own[-1]]  # the target's own is cut off, as it is not read
                if field.kind == "multi":
                    codes = [[code for code in of_one if code] or [0] for of_one in codes]
                columns[name].append(codes)
    pl.DataFrame(columns).write_parquet(job["file"])
    return {"file": job["file"], "num_items": data.spec.num_rows - 1, "sizes": sizes}


def measure_replay(job: Row) -> Row:
    """In RePlay's environment."""
    from importlib.metadata import version

    import lightning as L
    import torch
    from replay.data import FeatureHint, FeatureSource, FeatureType
    from replay.data.nn import TensorFeatureInfo, TensorFeatureSource, TensorSchema
    from replay.data.nn.parquet import ParquetModule
    from replay.nn.lightning import LightningModule
    from replay.nn.lightning.optimizer import OptimizerFactory
    from replay.nn.sequential import SasRec
    from replay.nn.sequential.length_bucket import LengthBucketedQueryEncoder
    from replay.nn.transform.template.sasrec import make_default_sasrec_transforms

    class Clock(L.Callback):
        """As that of `our_side.py`."""

        def __init__(self) -> None:
            self.epochs: list[tuple[float, float, int]] = []

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            self.wall, self.cpu, self.targets = time.perf_counter(), time.process_time(), 0

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            self.targets += int(batch["target_padding_mask"].sum())

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.epochs.append((time.perf_counter() - self.wall, time.process_time() - self.cpu, self.targets))

    torch.set_num_threads(job["threads"])
    L.seed_everything(job["seed"], verbose=False)
    length, width, items = job["max_length"], 64, job["num_items"]
    names = [field.replace(".", "_") if "." in field else f"event_{field}" for field in job["fields"]]
    infos = [
        TensorFeatureInfo(
            "item_id", FeatureType.CATEGORICAL, is_seq=True, feature_hint=FeatureHint.ITEM_ID, embedding_dim=width,
            cardinality=items, padding_value=items,
            feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, "item_id")],
        )
    ]  # fmt: skip
    metadata: dict[str, Any] = {"user_id": {}, "item_id": {"shape": length + 1, "padding": items}}
    for name in names:
        size, several = job["sizes"][name]["size"], job["sizes"][name]["width"]
        kind = FeatureType.CATEGORICAL_LIST if several else FeatureType.CATEGORICAL
        source = [TensorFeatureSource(FeatureSource.INTERACTIONS, name)]
        infos.append(
            TensorFeatureInfo(
                name, kind, is_seq=True, embedding_dim=width, cardinality=size, padding_value=size,
                feature_sources=source,
            )
        )  # fmt: skip
        metadata[name] = {"shape": [length + 1, several] if several else length + 1, "padding": size}
    schema = TensorSchema(infos)
    data = ParquetModule(
        batch_size=job["batch_size"],
        metadata={"train": metadata},
        transforms={"train": make_default_sasrec_transforms(schema)["train"]},
        train_path=job["file"],
    )
    network = SasRec.from_params(
        schema=schema, embedding_dim=width, num_heads=2, num_blocks=2, max_sequence_length=length, dropout=0.2,
        categorical_list_feature_aggregation_method="mean",
    )  # fmt: skip
    network.body.encoder = LengthBucketedQueryEncoder(network.body.encoder, BUCKET)
    model, clock = LightningModule(network, optimizer_factory=OptimizerFactory(learning_rate=1e-3)), Clock()
    limit = {"limit_train_batches": job["max_batches"]} if job["max_batches"] else {}
    trainer = L.Trainer(max_epochs=job["epochs"], limit_val_batches=0, callbacks=[clock], **limit, **QUIET)
    trainer.fit(model, datamodule=data)
    timed = clock.epochs[1:] or clock.epochs  # the first is warm-up
    return {
        "version": version("replay-rec"),
        "targets_per_epoch": clock.epochs[-1][2],
        "epoch_s": [round(wall, 4) for wall, _, _ in clock.epochs],
        "targets_per_s": statistics.median(targets / wall for wall, _, targets in timed),
        "cores_used": statistics.median(cpu / wall for wall, cpu, _ in timed),
        "loss": float(trainer.callback_metrics.get("train_loss", float("nan"))),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "peak_rss_mb": peak_mb(),
    }


if __name__ == "__main__":
    sys.exit(run(main, {"export": export_windows, "replay": measure_replay}))
