"""How full-ranking evaluation grows: seconds per user over the number of items, and the memory of a large test.

    python scripts/evaluation_scale.py                              the curve: 20,000 users, 1,000 to 100,000 items
    python scripts/evaluation_scale.py --users 1000000 --items 100000

Each measurement is a process of its own that does what a user does: a prepared data set of uniformly drawn events (five
per user), `SequenceDataModule`, SASRec 64 wide with two blocks (untrained: its scores cost the same), `Trainer.test`
with seen items hidden. Peak memory is that of the whole process. Results are appended to --output as they come.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

EVENTS_PER_USER = 5
CURVE = [1_000, 5_000, 10_000, 25_000, 50_000, 100_000]


def prepare_made(job: dict[str, Any]) -> None:
    """Users x EVENTS_PER_USER events, items drawn uniformly, so that every item has training events."""
    import numpy as np
    import polars as pl

    from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
    from recsys_lab.data.reading.file_source import FileSource

    folder = Path(job["folder"])
    rng = np.random.default_rng(1)
    number = job["made_users"] * EVENTS_PER_USER
    log = folder.parent / "log.parquet"
    pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(job["made_users"], dtype=np.int32), EVENTS_PER_USER),
            "item_id": rng.integers(job["items"], size=number, dtype=np.int32),
            "timestamp": np.tile(np.arange(EVENTS_PER_USER, dtype=np.int64), job["made_users"]) * 60 + 1,
        }
    ).write_parquet(log)
    prepare(FileSource(str(log)), PrepareSettings(), folder, folder.parent / "raw")


def measure_test(job: dict[str, Any]) -> dict[str, Any]:
    import lightning as L
    import torch

    from recsys_lab.data.datamodule import SequenceDataModule
    from recsys_lab.evaluation.callback import RankingEvaluation
    from recsys_lab.models import SASRec

    torch.set_num_threads(job["threads"])
    L.seed_everything(0, verbose=False)
    data = SequenceDataModule(job["folder"], max_length=10, eval_batch_size=512)
    evaluation = RankingEvaluation()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[evaluation],
        limit_test_batches=-(-job["users"] // 512),
    )
    model = SASRec(embedding_dim=64, num_layers=2)
    assert data.item_counts.any()  # the data is opened and the split made before the clock starts
    wall, cpu = time.perf_counter(), time.process_time()
    trainer.test(model, data, verbose=False)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert evaluation.last_ranks is not None
    users = len(evaluation.last_ranks)
    return {
        "items": data.spec.num_items,
        "users": users,
        "seconds": round(wall, 2),
        "cpu_seconds": round(cpu, 2),
        "ms_per_user": round(1000 * wall / users, 4),
        "cpu_ms_per_user": round(1000 * cpu / users, 4),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "hit_rate@10": evaluation.last_metrics["test/hit_rate@10"],
        "threads": job["threads"],
    }


def in_own_process(kind: str, job: dict[str, Any]) -> str:
    done = subprocess.run([sys.executable, __file__, "--job", kind, json.dumps(job)], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"the {kind} of {job} failed (exit code {done.returncode})")
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def main() -> None:
    if sys.argv[1:2] == ["--job"]:
        kind, job = sys.argv[2], json.loads(sys.argv[3])
        if kind == "prepare":
            prepare_made(job)
        else:
            print(json.dumps(measure_test(job)))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=20_000, help="users that are tested (default 20,000)")
    parser.add_argument("--items", type=int, nargs="+", default=CURVE, help=f"catalogues (default {CURVE})")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="file of JSON lines to append to")
    chosen = parser.parse_args()
    print("| items | users | s | ms/user | CPU ms/user | CPU ns/user/item | peak MB |\n|---|---|---|---|---|---|---|")
    for items in chosen.items:
        with tempfile.TemporaryDirectory() as temporary:
            # enough events that hardly an item is without one
            job = {
                "folder": f"{temporary}/made",
                "items": items,
                "users": chosen.users,
                "made_users": max(chosen.users, 4 * items),
                "threads": chosen.threads,
            }
            in_own_process("prepare", job)
            line = in_own_process("test", job)
        found = json.loads(line)
        if chosen.output:
            with chosen.output.open("a") as file:
                file.write(line + "\n")
        per_item = 1e6 * found["cpu_ms_per_user"] / found["items"]
        print(
            f"| {found['items']:,} | {found['users']:,} | {found['seconds']} | {found['ms_per_user']} | "
            f"{found['cpu_ms_per_user']} | {per_item:.2f} | {found['peak_mb']:,} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
