"""The examples of scripts/cluster: their scripts run as far as they can without SLURM, their studies plan."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from fake_slurm import allocation, install

from recsys_lab.cli import main

ROOT = Path(__file__).parents[3]
CLUSTER = ROOT / "scripts" / "cluster"
SCRIPTS = sorted(CLUSTER.glob("*.sh"))
STUDIES = sorted(CLUSTER.glob("*.yaml"))
WITH_SRUN = ["one_node_8_gpus.sh", "four_nodes_8_gpus.sh"]


def asked(script: Path) -> dict[str, str]:
    """#SBATCH options of a script."""
    found = re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?", script.read_text(), flags=re.MULTILINE)
    return dict(found)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project's folder as a script sees it, whose runs go elsewhere; `recsys-lab` notes how it was called."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("configs", "recsys_lab"):
        (folder / name).symlink_to(ROOT / name)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "activate").write_text(f'PATH="{programs}:$PATH"\n')
    called = '#!/bin/bash\necho "$@" >> called.txt\n[ -f hang ] || exit 0\nexec sleep 600\n'
    for name in ("recsys-lab", "torchrun"):
        (programs / name).write_text(called)
        (programs / name).chmod(0o755)
    return folder


def start(script: str, project: Path, tasks: int, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    environment = {**os.environ, **install(project.parent / "slurm"), **allocation(tasks), **variables}
    command = ["bash", str(CLUSTER / script), *arguments]
    return subprocess.Popen(command, cwd=project, env=environment, text=True, stderr=subprocess.PIPE)


def called(project: Path) -> list[list[str]]:
    """Arguments of each call of `recsys-lab` or `torchrun`."""
    path = project / "called.txt"
    return [shlex.split(line) for line in path.read_text().splitlines()] if path.is_file() else []


def test_there_are_examples() -> None:
    assert {path.name for path in SCRIPTS} == {*WITH_SRUN, "torchrun.sh"} and len(STUDIES) == 3


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_guide_and_the_head_name_the_script(script: Path) -> None:
    assert subprocess.run(["bash", "-n", script], capture_output=True, text=True).stderr == ""
    assert script.stat().st_mode & 0o111 and f"scripts/cluster/{script.name}" in script.read_text()
    assert script.name in (CLUSTER / "README.md").read_text()


@pytest.mark.parametrize("script", WITH_SRUN)
def test_every_task_starts_the_same_fit(script: str, project: Path) -> None:
    process = start(script, project, 8, "--seed_everything", "7")
    assert process.wait() == 0, process.communicate()
    calls = called(project)
    assert len(calls) == 8 and len(set(map(tuple, calls))) == 1
    options, head = calls[0], asked(CLUSTER / script)
    assert options[:2] == ["fit", "--config"] and options[-2:] == ["--seed_everything", "7"]
    assert options[options.index("--trainer.devices") + 1] == head["ntasks-per-node"] == head["gpus-per-node"]
    assert options[options.index("--trainer.num_nodes") + 1] == head["nodes"]
    assert head["signal"] == "B:USR2@120" and "requeue" in head


@pytest.mark.parametrize("script", WITH_SRUN)
def test_a_script_out_of_time_stops_the_run_and_is_queued_again(script: str, project: Path) -> None:
    (project / "hang").touch()
    process = start(script, project, 2)
    tasks = project.parent / "slurm" / "tasks"
    while not tasks.is_file() or len(tasks.read_text().split()) < 2 or len(called(project)) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR2)  # as `--signal=B:USR2` does
    assert process.wait(120) != 0
    assert (project.parent / "slurm" / "scancel.txt").read_text() == "--signal=INT 1000.0\n"
    assert (project.parent / "slurm" / "scontrol.txt").read_text() == "requeue 1000\n"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_that_starts_again_goes_on(script: Path, project: Path) -> None:
    folder = re.search(r"^folder=(\S+)", script.read_text(), flags=re.MULTILINE)
    assert folder is not None
    run = folder[1].replace("${SLURM_NNODES}x$gpus", "1x8")
    (project / run / "checkpoints").mkdir(parents=True)
    (project / run / "checkpoints" / "last.ckpt").touch()
    process = start(script.name, project, 1)
    assert process.wait() == 0, process.communicate()
    (call,) = called(project)
    assert call[call.index("fit") :] == ["fit", run]


def test_torchrun_is_told_of_nodes_and_gpus(project: Path) -> None:
    process = start("torchrun.sh", project, 1, SLURM_NNODES="4", SLURM_CPUS_PER_TASK="32")
    assert process.wait() == 0, process.communicate()
    (call,) = called(project)
    assert {"--nnodes=4", "--nproc-per-node=8", "--rdzv-endpoint=localhost:29500"} <= set(call)
    assert call[call.index("-m") : call.index("--config")] == ["-m", "recsys_lab.cli", "fit"]
    assert call[call.index("--trainer.num_nodes") + 1] == "4"


def test_the_fit_of_the_scripts_parses(project: Path) -> None:
    process = start("four_nodes_8_gpus.sh", project, 1)
    assert process.wait() == 0, process.communicate()
    command = [sys.executable, "-m", "recsys_lab.cli", *called(project)[0], "--print_config"]
    shown = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    trainer = yaml.safe_load(shown.stdout)["trainer"]
    assert (trainer["accelerator"], int(trainer["devices"]), trainer["num_nodes"]) == ("gpu", 8, 4)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("study_one_node.yaml", ["--array=0-5%64", "--nodes=1", "--ntasks-per-node=8", "--gpus-per-node=8"]),
        ("study_four_nodes.yaml", ["--array=0-5%2", "--nodes=4", "--ntasks-per-node=8", "--gpus-per-node=8"]),
        ("study_many_small.yaml", ["--array=0-1%64", "--nodes=1", "--ntasks-per-node=1", "--gpus-per-node=8"]),
    ],
)
def test_the_studies_ask_for_what_they_say(
    name: str, lines: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the command of their heads and of the guide."""
    command = f"recsys-lab study run scripts/cluster/{name} --launcher slurm --slurm.partition gpu --dry_run"
    assert command in (CLUSTER / name).read_text() and name in (CLUSTER / "README.md").read_text()
    _, *arguments = shlex.split(command.replace("scripts/cluster", str(CLUSTER)))
    assert main([*arguments, "--root", str(tmp_path)]) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out.splitlines()
    assert {f"#SBATCH {line}" for line in ("--partition=gpu", *lines)} <= set(shown)
    assert not list(tmp_path.iterdir())
