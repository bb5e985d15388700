"""A run without training, for tests of launchers: a process that notes its start and does what it is told."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from recsys_lab.study.launch.job import Job

NOTED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")


class StubJob(Job):
    """config: `wait_for`, a file without which it goes on for ever; `fails`, ranks that exit with code 3."""

    def command(self) -> list[str]:
        told = {name: self.config[name] for name in ("wait_for", "fails")}
        return [sys.executable, __file__, str(self.folder), json.dumps(told)]


def stub(folder: Path, wait_for: str | None = None, fails: list[int] | None = None) -> StubJob:
    return StubJob(folder, {"wait_for": wait_for, "fails": fails or []})


def starts(folder: Path) -> list[dict[str, str]]:
    """The environment of each process that was started, in their order."""
    path = folder / "starts.txt"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def main(folder: Path, wait_for: str | None, fails: list[int]) -> int:
    rank = int(os.environ.get("RANK", 0))
    with (folder / "starts.txt").open("a") as file:
        file.write(json.dumps({name: os.environ.get(name) for name in NOTED}) + "\n")
    if rank in fails:
        print(f"rank {rank} fails")
        return 3
    try:
        while wait_for and not Path(wait_for).exists():
            time.sleep(0.05)
    except KeyboardInterrupt:
        return 130
    if rank == 0:
        (folder / "ranks.parquet").touch()
        (folder / "manifest.json").write_text('{"stopped_by": "max_epochs"}')
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), **json.loads(sys.argv[2])))
