"""scripts/cluster: its scripts run here, with SLURM's variables set and stand-ins for its commands."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import warm_program
import yaml
from fake_slurm import allocation, install

from recsys_lab.cli import main
from recsys_lab.runs import claim
from recsys_lab.study.launch import execute as command
from recsys_lab.study.launch.job import read_job, state_of

ROOT = Path(__file__).parents[3]
CLUSTER = ROOT / "scripts" / "cluster"
SCRIPTS = sorted(CLUSTER.glob("*.sh"))


def asked(script: str) -> dict[str, str]:
    """#SBATCH options of a script."""
    return dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?", (CLUSTER / script).read_text(), flags=re.MULTILINE))


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the stand-ins for SLURM's commands."""
    folder = tmp_path / "cluster"
    for name, value in install(folder).items():
        monkeypatch.setenv(name, value)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project's folder as a script sees it, whose runs go elsewhere; `recsys-lab` notes how it was called."""
    folder = tmp_path / "project"
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("configs", "recsys_lab"):
        (folder / name).symlink_to(ROOT / name)
    (programs / "activate").write_text(f'PATH="{programs}:$PATH"\n')
    for name in ("recsys-lab", "torchrun"):
        (programs / name).write_text('#!/bin/bash\necho "$@" >> called.txt\n[ -f hang ] || exit 0\nexec sleep 600\n')
        (programs / name).chmod(0o755)
    return folder


def start(script: str, project: Path, tasks: int, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    array = {"SLURM_ARRAY_JOB_ID": "1000", "SLURM_ARRAY_TASK_ID": "0"}
    environment = {**os.environ, **allocation(tasks), **array, **variables}
    words = ["bash", str(CLUSTER / script), *arguments]
    return subprocess.Popen(words, cwd=project, env=environment, text=True, stderr=subprocess.PIPE)


def calls_of(process: subprocess.Popen[str], project: Path) -> list[list[str]]:
    """Arguments of each call of `recsys-lab` or `torchrun` in a script that ends well."""
    assert process.wait() == 0, process.communicate()
    return [shlex.split(line) for line in (project / "called.txt").read_text().splitlines()]


def wait_until(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)


# -- the scripts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_guide_and_the_head_name_the_script(script: Path) -> None:
    assert subprocess.run(["bash", "-n", script], capture_output=True, text=True).stderr == ""
    assert script.stat().st_mode & 0o111 and f"scripts/cluster/{script.name}" in script.read_text()
    assert script.name in (CLUSTER / "README.md").read_text() and "requeue" in asked(script.name)


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("nodes", ["1", "4"])
def test_every_task_starts_the_same_fit(nodes: str, project: Path) -> None:
    calls = calls_of(start("fit_8_gpus.sh", project, 8, "--seed_everything", "7", SLURM_NNODES=nodes), project)
    assert len(calls) == 8 and len(set(map(tuple, calls))) == 1
    options, head = calls[0], asked("fit_8_gpus.sh")
    assert options[:2] == ["fit", "--config"] and options[-2:] == ["--seed_everything", "7"]
    assert options[options.index("--trainer.devices") + 1] == head["ntasks-per-node"] == head["gpus-per-node"]
    assert options[options.index("--trainer.num_nodes") + 1] == nodes and head["signal"] == "B:USR2@120"


@pytest.mark.parametrize("script", ["fit_8_gpus.sh", "torchrun.sh"])
def test_a_fit_out_of_time_is_stopped_and_queued_again(script: str, slurm: Path, project: Path) -> None:
    (project / "hang").touch()
    process = start(script, project, 2)
    called, tasks = project / "called.txt", slurm / "tasks"
    wait_until(process, lambda: called.is_file() and len(called.read_text().splitlines()) == 2)
    wait_until(process, lambda: tasks.is_file() and len(tasks.read_text().split()) == 2)
    process.send_signal(signal.SIGUSR2)  # as `--signal=B:USR2` does
    assert process.wait(120) != 0
    assert (slurm / "scancel.txt").read_text() == "--signal=TERM 1000.0\n"
    assert (slurm / "scontrol.txt").read_text() == "requeue 1000\n"


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("script", ["fit_8_gpus.sh", "torchrun.sh"])
def test_a_script_that_starts_again_goes_on(script: str, project: Path) -> None:
    folder = re.search(r"^folder=(\S+)", (CLUSTER / script).read_text(), flags=re.MULTILINE)
    assert folder is not None
    run = folder[1].replace("${SLURM_NNODES}", "1").replace("$gpus", "8")
    (project / run / "checkpoints").mkdir(parents=True)
    (project / run / "checkpoints" / "last.ckpt").touch()
    (call,) = calls_of(start(script, project, 1), project)
    assert call[call.index("fit") :] == ["fit", run]


@pytest.mark.usefixtures("slurm")
def test_torchrun_is_told_of_nodes_and_gpus(project: Path) -> None:
    (call,) = calls_of(start("torchrun.sh", project, 1, SLURM_NNODES="4", SLURM_CPUS_PER_TASK="32"), project)
    assert {"--nnodes=4", "--nproc-per-node=8", "--rdzv-endpoint=localhost:29500"} <= set(call)
    assert call[call.index("-m") : call.index("--config")] == ["-m", "recsys_lab.cli", "fit"]
    assert call[call.index("--trainer.num_nodes") + 1] == "4"


@pytest.mark.usefixtures("slurm")
def test_the_fit_of_the_scripts_parses(project: Path) -> None:
    (call,) = calls_of(start("fit_8_gpus.sh", project, 1, SLURM_NNODES="4"), project)
    words = [sys.executable, "-m", "recsys_lab.cli", *call, "--print_config"]
    shown = subprocess.run(words, cwd=project, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    trainer = yaml.safe_load(shown.stdout)["trainer"]
    assert (trainer["accelerator"], int(trainer["devices"]), trainer["num_nodes"]) == ("gpu", 8, 4)


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize(
    ("arguments", "gpus", "more"),
    [
        ([], None, ["--index", "3", "--workers", "1", "--gpus_per_run", "1"]),
        (["--fast"], "8", ["--fast", "--index", "3", "--workers", "1", "--gpus_per_run", "8"]),
        (["--workers", "8"], "8", ["--workers", "8"]),
    ],
)
def test_a_task_executes_the_run_of_its_number(
    arguments: list[str], gpus: str | None, more: list[str], project: Path
) -> None:
    variables = {"SLURM_ARRAY_TASK_ID": "3"} | ({"SLURM_GPUS_ON_NODE": gpus} if gpus else {})
    calls = calls_of(start("study.sh", project, 1, "study.yaml", *arguments, **variables), project)
    assert calls == [["study", "run", "study.yaml", *more]]


# -- tasks of an array, with a study that trains -----------------------------------------------------------------------

BRAKE = """
import time
from pathlib import Path
import lightning

class Brake(lightning.Callback):
    def __init__(self, go: str):
        self.go = Path(go)

    def on_train_epoch_start(self, trainer, pl_module):
        while trainer.current_epoch == 2 and not self.go.exists():
            time.sleep(0.05)
"""


def write_study(folder: Path, data: Path, **more: Any) -> Path:
    quiet = {"trainer.enable_progress_bar": False, "trainer.enable_model_summary": False, "trainer.accelerator": "cpu"}
    plain = {
        "name": "widths",
        "base": {"model": "SASRec", "model.num_layers": 1, "model.embedding_dim": 8, "data.dataset": str(data)}
        | {"data.max_length": 8, "data.batch_size": 4, "trainer.devices": 1, "trainer.num_sanity_val_steps": 0}
        | {"trainer.max_epochs": 1, **quiet, **more.pop("base", {})},
        "seeds": [0],
        **more,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    return folder / "study.yaml"


def real(project: Path) -> Path:
    """The project with a `recsys-lab` that works."""
    warm_program.install(project / ".venv" / "bin")
    return project


def run_folders(project: Path) -> dict[str, Path]:
    found = sorted((project / "runs" / "widths").glob("*/seed0"))
    return {folder.parent.name.rpartition("-")[0]: folder for folder in found}


@pytest.mark.slow
def test_tasks_of_the_array_run_the_study(slurm: Path, small_folder: Path, project: Path) -> None:
    """Three runs: two that end well, one that fails and stops no other."""
    axes = {
        "e": {"good": {}, "bad": {"model": "LSTMAttention", "model.time": "relative"}, "more": {"data.max_length": 9}}
    }
    file = str(write_study(project.parent, small_folder, axes=axes))
    real(project)
    codes = [start("study.sh", project, 1, file, SLURM_ARRAY_TASK_ID=str(task)).wait() for task in (0, 1, 2)]
    folders = run_folders(project)
    states = {name: state_of(folder) for name, folder in folders.items()}
    assert states == {"good": "finished", "bad": "failed", "more": "finished"}
    assert codes == [0, 1, 0] and not (slurm / "scontrol.txt").exists(), "a failed run is not queued again"
    assert start("study.sh", project, 1, file, SLURM_ARRAY_TASK_ID="1", SLURM_RESTART_COUNT="1").wait() == 0
    assert [read_job(folder)["attempts"] for folder in folders.values()] == [1, 1, 1]


@pytest.mark.slow
def test_a_run_of_two_processes_out_of_time_is_queued_again_and_goes_on(
    slurm: Path, small_folder: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = project.parent
    (here / "brake.py").write_text(BRAKE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(here), os.environ.get("PYTHONPATH")])))
    brake = [{"class_path": "brake.Brake", "init_args": {"go": str(here / "go")}}]
    base = {"trainer.devices": 2, "trainer.max_epochs": 3, "trainer.callbacks": brake}
    file = str(write_study(here, small_folder, base=base))
    process = start("study.sh", real(project), 2, file)
    pattern = "runs/widths/*/seed0/metrics.csv"
    wait_until(process, lambda: any(len(p.read_text().splitlines()) == 3 for p in project.glob(pattern)))
    (folder,) = run_folders(project).values()
    process.send_signal(signal.SIGUSR2)  # as `--signal=B:USR2` does
    assert process.wait(300) != 0
    assert (slurm / "scontrol.txt").read_text() == "requeue 1000_0\n"
    assert state_of(folder) == "interrupted" and not (folder / claim.FILE).exists()
    (here / "go").touch()
    again = start("study.sh", project, 2, file, SLURM_RESTART_COUNT="1")
    assert again.wait() == 0 and state_of(folder) == "finished" and read_job(folder)["attempts"] == 2
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["device"].startswith("2 x cpu")
    first, second = (line for line in (folder / "log.txt").read_text().splitlines() if line.startswith("$ "))
    assert first.startswith("$ srun ") and "run.yaml" in first and f" fit {folder.relative_to(project)} " in second


HOLD = """
import os, time
from pathlib import Path
import lightning

class Hold(lightning.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        place = (trainer.fit_loop.epoch_progress.current.processed, batch_idx)
        go, there = (Path(os.environ["HOLD"], name) for name in ("go", f"there{trainer.global_rank}"))
        while place == (1, 1) and not go.exists():
            there.touch()
            time.sleep(0.05)
"""


@pytest.mark.slow
def test_a_fit_that_is_taken_away_keeps_its_step_and_goes_on_bit_by_bit(
    slurm: Path, small_folder: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes that SLURM starts, in the second step of the second epoch when their time is up."""
    here = project.parent
    (here / "hold.py").write_text(HOLD)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(here), os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("HOLD", str(here))
    small = {"data.dataset": str(small_folder), "data.max_length": "8", "data.batch_size": "4"}
    small |= {"data.bucket_batches": "100", "model.embedding_dim": "8", "trainer.max_epochs": "3"}
    small |= {"trainer.num_sanity_val_steps": "0", "run.test_after_fit": "false", "trainer.callbacks": "hold.Hold"}
    every = ["--trainer.accelerator", "cpu", "--trainer.devices", "2"]
    first = [*every, *(word for name, value in small.items() for word in (f"--{name}", value))]
    process = start("fit_8_gpus.sh", real(project), 2, *first)
    wait_until(process, lambda: all((here / f"there{rank}").exists() for rank in range(2)))
    process.send_signal(signal.SIGUSR2)  # as `--signal=B:USR2` does
    wait_until(process, lambda: (slurm / "scancel.txt").exists())
    (here / "go").touch()
    assert process.wait(300) != 0 and (slurm / "scontrol.txt").read_text() == "requeue 1000\n"
    last = project / "runs" / "cluster" / "sasrec-1x8" / "seed0" / "checkpoints" / "last.ckpt"
    steps = torch.load(last, weights_only=True)["global_step"]
    again = start("fit_8_gpus.sh", project, 2, *every, "--allow_classes", "hold", SLURM_RESTART_COUNT="1")
    assert again.wait(300) == 0
    found = torch.load(last, weights_only=True)
    (project / "runs").rename(project / "taken_away")
    assert start("fit_8_gpus.sh", project, 2, *first).wait(300) == 0
    whole = torch.load(last, weights_only=True)
    assert steps == whole["global_step"] // 3 + 2, "the step in which it was told"
    assert found["global_step"] == whole["global_step"]
    assert all(torch.equal(value, found["state_dict"][name]) for name, value in whole["state_dict"].items())


@pytest.mark.parametrize(("restarts", "age", "is_run"), [("0", 0.0, False), ("1", claim.STALE_SECONDS - 0.6, True)])
def test_a_task_that_slurm_started_again_outlives_its_own_old_claim(
    restarts: str, age: float, is_run: bool, small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim is of another node: a living worker's, or one of a node that was lost almost long enough ago."""
    words = ["study", "run", str(write_study(tmp_path, small_folder)), "--root", str(tmp_path / "runs")]
    launched: list[Path] = []
    monkeypatch.setattr(
        command, "launch_local", lambda jobs, *_, **__: launched.extend(one.folder for one in jobs) or []
    )
    monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    assert main(words) == 0
    (folder,) = launched
    launched.clear()
    folder.mkdir(parents=True)
    (folder / claim.FILE).write_text(json.dumps({"host": "lost-node", "pid": 1}))
    os.utime(folder / claim.FILE, (time.time() - age, time.time() - age))
    assert main([*words, "--index", "0"]) == 0
    assert (claim.owner(folder) is None) == is_run and launched == [folder] * is_run


def test_a_number_beyond_the_runs_and_the_old_section_are_refused(
    small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(tmp_path, small_folder)
    assert main(["study", "run", str(file), "--root", str(tmp_path / "runs"), "--index", "1"]) == 2
    assert "--index 1: the study has 1 run, numbered from 0" in capsys.readouterr().err
    assert main(["study", "plan", str(write_study(tmp_path, small_folder, slurm={"time": "1-00"}))]) == 2
    assert "sbatch --array" in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_srun_starts_runs_of_several_processes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    assert command.starter() == ()
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert command.starter() == ()
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "4")
    assert command.starter() == ("srun", "--disable-status", "--kill-on-bad-exit=1", "--cpus-per-task=4")
