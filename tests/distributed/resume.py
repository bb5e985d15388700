"""Runs and resumed runs on two processes; test_resume_two_processes.py starts it.

    python resume.py <prepared folder> <output folder> <cell> ...

Rank 0 writes, for each cell and each checkpoint that the run went on from, what was not as in the uninterrupted run.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))
from resumed_runs import CELLS, differences, run, starts  # noqa: E402


def main(data_folder: Path, output: Path, names: list[str]) -> None:
    found: dict[str, dict[str, list[str]]] = {}
    for name in names:
        cell, folder = CELLS[name], output / name
        whole = run(cell, data_folder, folder, devices=2)
        found[name] = {}
        every = starts(folder, cell.trainer.get("accumulate_grad_batches", 1))
        place = list(CELLS).index(name)  # test_resume_matrix.py has all on one process: here two of each cell, in turn
        for start in (every[place % len(every)], every[(place + 2) % len(every)]):
            rest = run(cell, data_folder, output / f"{name}-from-{start.stem}", 2, start)
            found[name][start.stem] = differences(whole, rest, with_loss=start.stem.startswith("epoch"))
    (output / f"rank{os.environ.get('LOCAL_RANK', 0)}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
