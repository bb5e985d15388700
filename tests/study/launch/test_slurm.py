"""Settings, the sbatch script, and what is noted of submitted runs; SLURM's commands are stand-ins."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_slurm import allocation, install
from stub_run import StubJob, starts, stub

from recsys_lab.schema import RecsysLabError
from recsys_lab.study.launch.job import Job, read_job
from recsys_lab.study.launch.slurm import launch_slurm, queued, read_record, sbatch_scripts
from recsys_lab.study.launch.slurm_settings import (
    SlurmSettings,
    add_slurm_options,
    minutes_of,
    shape_of,
    slurm_settings,
)

HERE = Path(__file__).parent


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the stand-ins for SLURM's commands."""
    folder = tmp_path / "cluster"
    for name, value in {**install(folder), "PYTHONPATH": str(HERE)}.items():
        monkeypatch.setenv(name, value)
    return folder


def job(name: str, **trainer: Any) -> Job:
    return Job(Path("runs") / "widths" / name / "seed0", {"trainer": trainer})


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_slurm_options(parser)
    return parser.parse_args(arguments)


# -- settings ----------------------------------------------------------------------------------------------------------


def test_the_command_line_wins_over_the_study_file() -> None:
    section = {
        "partition": "cpu",
        "time": "1-00",
        "setup": "module load a",
        "additional_parameters": {"mail-type": "END"},
    }
    given = ["--slurm.partition", "gpu", "--slurm.cpus_per_task", "8"]
    given += ["--slurm.additional_parameters", "reservation=r", "--slurm.additional_parameters", "overcommit"]
    assert slurm_settings(section, options(*given)) == SlurmSettings(
        partition="gpu",
        time="1-00",
        cpus_per_task=8,
        setup=("module load a",),
        additional_parameters={"reservation": "r", "overcommit": True},
    )
    assert slurm_settings({}, options()) == SlurmSettings()


@pytest.mark.parametrize(
    ("time", "minutes"),
    [("90", 90), ("90:30", 91), ("04:00:00", 240), ("2-00", 2880), ("1-02:30", 1590), ("1-02:30:01", 1591)],
)
def test_times_are_sbatchs(time: str, minutes: int) -> None:
    assert minutes_of(time) == minutes


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({"partitoin": "gpu"}, "unknown key 'partitoin'. Did you mean 'partition'?"),
        ({"time": 14400}, "slurm.time: write"),
        ({"time": "soon"}, "slurm.time: write"),
        ({"time": "2"}, "slurm.time: 2 is 2 minutes, and runs are stopped 120 s before"),
        ({"signal_delay": 30}, "slurm.signal_delay: 30 s is too short"),
        ({"cpus_per_task": 0}, "slurm.cpus_per_task: must be a whole number of at least 1, got 0"),
        ({"gpus_per_node": "eight"}, "slurm.gpus_per_node: must be a whole number of at least 0, got 'eight'"),
        ({"side_by_side": 4}, "slurm.side_by_side is 4, and slurm.runs_per_job 1"),
        ({"additional_parameters": "x"}, "slurm.additional_parameters: must be a mapping"),
    ],
)
def test_what_can_not_be_meant_is_named(section: dict[str, Any], text: str) -> None:
    with pytest.raises(RecsysLabError) as error:
        slurm_settings(section)
    assert text in str(error.value)


# -- the shape of an allocation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trainer", "settings", "shape"),
    [
        ({}, {}, (1, 1, 0)),
        ({"accelerator": "gpu", "devices": 1}, {}, (1, 1, 1)),
        ({"accelerator": "gpu", "devices": 1}, {"runs_per_job": 8, "side_by_side": 8}, (1, 1, 8)),
        ({"accelerator": "gpu"}, {"gpus_per_node": 8, "runs_per_job": 8, "side_by_side": 8}, (1, 1, 8)),
        ({"accelerator": "gpu", "devices": "auto"}, {"gpus_per_node": 8}, (1, 8, 8)),
        ({"accelerator": "gpu", "devices": "8"}, {}, (1, 8, 8)),
        ({"devices": [0, 1], "num_nodes": 4}, {"nodes": 4}, (4, 2, 2)),
        ({"devices": "0,1"}, {}, (1, 2, 2)),
        ({"accelerator": "cpu", "devices": 2}, {}, (1, 2, 0)),
        ({"accelerator": "cpu"}, {}, (1, 1, 0)),
    ],
)
def test_shape_follows_from_the_trainer(
    trainer: dict[str, Any], settings: dict[str, Any], shape: tuple[int, int, int]
) -> None:
    found = shape_of(job("a", **trainer), SlurmSettings(**settings))
    assert (found.nodes, found.processes, found.gpus) == shape


@pytest.mark.parametrize(
    ("trainer", "settings", "text"),
    [
        ({"devices": 8}, {"nodes": 4}, "slurm.nodes is 4, and runs/widths/a/seed0 has trainer.num_nodes 1"),
        ({"devices": 8}, {"gpus_per_node": 4}, "slurm.gpus_per_node is 4, and runs such as runs/widths/a/seed0 need 8"),
        ({"accelerator": "gpu"}, {"gpus_per_node": 0}, "slurm.gpus_per_node is 0"),
        ({"devices": 2}, {"runs_per_job": 2, "side_by_side": 2}, "has 2 processes"),
    ],
)
def test_settings_that_contradict_a_run(trainer: dict[str, Any], settings: dict[str, Any], text: str) -> None:
    with pytest.raises(RecsysLabError) as error:
        shape_of(job("a", **trainer), SlurmSettings(**settings))
    assert text in str(error.value)


# -- the script --------------------------------------------------------------------------------------------------------

ASKED = SlurmSettings(
    partition="gpu",
    account="lab",
    time="1-00:00:00",
    mem="64G",
    cpus_per_task=8,
    array_parallelism=2,
    runs_per_job=2,
    setup=("module load cuda",),
    additional_parameters={"mail-type": "END"},
)


def shown(folder: Path, jobs: list[Job]) -> str:
    text = sbatch_scripts(jobs, ASKED, folder / "widths" / "slurm")
    return text.replace(str(folder), "FOLDER").replace(sys.executable, "PYTHON")


def test_script_is_the_golden_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array of five runs on 8 GPUs each, two in a job, and one run on 4 nodes. There is no SLURM here."""
    monkeypatch.setenv("PATH", "")
    jobs = [job(f"v{i}", accelerator="gpu", devices=8, num_nodes=4 if i == 5 else 1) for i in range(6)]
    assert shown(tmp_path, jobs) == (HERE / "slurm_script.golden.sh").read_text()
    assert not list(tmp_path.iterdir()), "showing a script changes nothing"


def test_script_is_bash(tmp_path: Path) -> None:
    text = shown(tmp_path, [job("v0"), job("v1")])
    assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).stderr == ""


# -- submitting --------------------------------------------------------------------------------------------------------


def test_no_sbatch_is_an_error_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RecsysLabError, match="sbatch is not installed here.*--dry-run.*--launcher local"):
        launch_slurm([job("a")], SlurmSettings(), tmp_path / "slurm")


def test_no_submitit_is_an_error_that_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(RecsysLabError, match=r"pip install 'recsys-lab\[slurm\]'"):
        sbatch_scripts([job("a")], SlurmSettings(), tmp_path / "slurm")


def test_a_refused_job_says_why(slurm: Path, tmp_path: Path) -> None:
    (slurm / "refuse").write_text("sbatch: error: invalid partition specified: gpuu\n")
    with pytest.raises(RecsysLabError, match="invalid partition specified: gpuu"):
        launch_slurm([stub(tmp_path / "a")], SlurmSettings(), tmp_path / "slurm")
    assert not read_record(tmp_path / "a")


def test_runs_in_the_queue_are_not_submitted_twice(slurm: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    jobs: list[Job] = [stub(folder) for folder in folders]
    first = launch_slurm(jobs, SlurmSettings(runs_per_job=2), tmp_path / "slurm")
    assert [one.job_id for one in first] == ["1000_0", "1000_1"]
    assert [read_record(folder)["job_id"] for folder in folders] == ["1000_0", "1000_0", "1000_1"]
    (slurm / "queue").write_text("999\n1000_0\n1000_1\n")
    assert queued(folders) == dict(zip(folders, ["1000_0", "1000_0", "1000_1"], strict=True))
    assert not launch_slurm(jobs, SlurmSettings(), tmp_path / "slurm")
    assert f"--user={getpass.getuser()}" in (slurm / "squeue.txt").read_text()

    (slurm / "queue").write_text("999\n1000_0\n")  # the second job is over
    record = folders[1] / "slurm.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"ended": "now"}))  # the first goes on without b
    assert queued(folders) == {folders[0]: "1000_0"}
    (again,) = launch_slurm(jobs, SlurmSettings(runs_per_job=2), tmp_path / "slurm")
    assert again.job_id == "1001" and [one.folder for one in again.jobs] == folders[1:]
    assert "#SBATCH --array" not in (slurm / "script-1001.sh").read_text()


def test_a_queue_that_can_not_be_asked_submits_nothing(slurm: Path, tmp_path: Path) -> None:
    launch_slurm([stub(tmp_path / "a")], SlurmSettings(), tmp_path / "slurm")
    (slurm / "down").touch()
    with pytest.raises(RecsysLabError, match="squeue does not say .*Socket timed out"):
        launch_slurm([stub(tmp_path / "a")], SlurmSettings(), tmp_path / "slurm")
    assert not (slurm / "script-1001.sh").exists()
    shutil.rmtree(slurm / "bin")
    assert queued([tmp_path / "a"]) == {}, "a machine without SLURM's commands"


# -- the script, run ---------------------------------------------------------------------------------------------------


def test_the_submitted_script_runs_under_srun_with_slurms_variables(slurm: Path, tmp_path: Path) -> None:
    config = {"wait_for": None, "fails": [], "trainer": {"devices": 2, "accelerator": "cpu"}}
    folder = tmp_path / "a"
    (submitted,) = launch_slurm([StubJob(folder, config)], SlurmSettings(cpus_per_task=3), tmp_path / "slurm")
    script = slurm / "script-1000.sh"
    assert "#SBATCH --ntasks-per-node=2" in script.read_text()
    done = subprocess.run(["bash", script], env={**os.environ, **allocation(2)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert submitted.handle.task(0).result() == {str(folder): "finished"}
    found = {one["RANK"]: one for one in starts(folder)}
    assert set(found) == {"0", "1"} and found["1"]["WORLD_SIZE"] == "2" and found["1"]["OMP_NUM_THREADS"] == "3"
    assert read_job(folder)["state"] == "finished" and read_record(folder)["ended"]
