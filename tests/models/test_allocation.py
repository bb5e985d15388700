"""What a step frees stays with the process."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from small_data import quiet_trainer

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.models import GRU4Rec
from recsys_lab.ops import allocation
from recsys_lab.ops.allocation import keep_freed_memory

pytestmark = pytest.mark.process

# Blocks of 20 MB, freed in between: what the system has to hand over anew are page faults.
FAULTS = """
import resource, sys, torch
from recsys_lab.ops.allocation import keep_freed_memory
set_ = keep_freed_memory() if sys.argv[1] == "kept" else None

def step():
    blocks = [torch.ones(5_000_000) for _ in range(3)]
    return sum(float(block[0]) for block in blocks)

for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(set_, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(how: str, **environment: str) -> list[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "LD_PRELOAD"))}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how], env={**env, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_steps_take_no_new_pages_from_the_system() -> None:
    done, kept = run("kept")
    assert done == "True"
    assert int(kept) < 1_000  # of 146,000 pages (4 kB) that are written
    # where every block goes back at once; what glibc does by itself differs from one process to the next
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not huge.exists() or "[always]" not in huge.read_text():  # else a fault brings 2 MB, and there are few
        assert int(run("as it is", MALLOC_MMAP_THRESHOLD_="131072")[1]) > 50_000


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_settings_of_the_environment_stay(name: str) -> None:
    assert run("kept", **{name: "131072"})[0] == "False"


def test_asked_twice_it_answers_the_same() -> None:
    assert keep_freed_memory() == keep_freed_memory()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_what_was_kept_can_be_given_back() -> None:
    code = """
import torch
from recsys_lab.ops.allocation import give_freed_memory_back, keep_freed_memory

def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))

keep_freed_memory()
blocks = [torch.ones(5_000_000) for _ in range(5)]  # 100 MB
del blocks
kept = resident()
give_freed_memory_back()
print(kept - resident())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 80_000  # kB


def test_only_a_run_of_another_kind_gives_it_back(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []
    model, data = GRU4Rec(embedding_dim=8), SequenceDataModule(str(small_folder), max_length=6)
    monkeypatch.setattr(allocation, "give_freed_memory_back", lambda: given.append(str(model.trainer.state.fn)))
    quiet_trainer(tmp_path).fit(model, data)
    for _ in range(2):
        quiet_trainer(tmp_path).test(model, datamodule=data, verbose=False)
    quiet_trainer(tmp_path).validate(model, datamodule=data, verbose=False)
    quiet_trainer(tmp_path).test(model, datamodule=data, verbose=False)
    assert given == ["TrainerFn.FITTING", "TrainerFn.TESTING", "TrainerFn.VALIDATING", "TrainerFn.TESTING"]
