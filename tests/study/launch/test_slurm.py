"""SLURM: settings, the sbatch script, the queue, and tasks of the array run here with SLURM's variables set."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_slurm import allocation, install

from recsys_lab.cli import main
from recsys_lab.cli.study import run as study_run
from recsys_lab.cli.typed import parser_of
from recsys_lab.runs import claim
from recsys_lab.study.launch.job import Job, read_job, state_of
from recsys_lab.study.launch.slurm import DEFAULTS, queued, sbatch_scripts, shape_of, slurm_settings, starter, submit
from recsys_lab.words import RecsysLabError

HERE = Path(__file__).parent
STUDY = Path("runs") / "widths"
COMMAND = ["python", "-m", "recsys_lab.cli", "study", "run", "my study.yaml", "--root", "runs"]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the stand-ins for SLURM's commands."""
    folder = tmp_path / "cluster"
    for name, value in install(folder).items():
        monkeypatch.setenv(name, value)
    return folder


def job(name: str, folder: Path = STUDY, **trainer: Any) -> Job:
    return Job(folder / name / "seed0", {"trainer": trainer})


# -- settings ----------------------------------------------------------------------------------------------------------


def test_the_command_line_wins_over_the_study_file() -> None:
    section = {"partition": "cpu", "time": "1-00", "setup": "module load a", "mail-type": "END"}
    given = ["FILE", "--slurm.partition", "gpu", "--slurm.cpus_per_task=8", "--slurm.reservation", "r"]
    found = slurm_settings(section, parser_of(study_run, "recsys-lab study run").parse(given)["slurm"])
    assert found == DEFAULTS | {
        "partition": "gpu",
        "time": "1-00",
        "cpus_per_task": 8,
        "setup": ["module load a"],
        "reservation": "r",
        "mail_type": "END",
    }
    given = ["FILE", "--slurm.setup", "module load a", "--slurm.setup", "module load b"]
    twice = slurm_settings({}, parser_of(study_run, "recsys-lab study run").parse(given)["slurm"])
    assert twice["setup"] == ["module load a", "module load b"]
    assert slurm_settings({}, {}) == DEFAULTS


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({"time": 14400}, "slurm.time: write"),
        ({"time": "soon"}, "slurm.time: write"),
        ({"signal_delay": 30}, "slurm.signal_delay: must be a whole number of at least 61, got 30"),
        ({"cpus_per_task": 0}, "slurm.cpus_per_task: must be a whole number of at least 1, got 0"),
        ({"gpus_per_node": "eight"}, "slurm.gpus_per_node: must be a whole number of at least 0, got 'eight'"),
        ({"nodes": 4}, "slurm.nodes and slurm.ntasks_per_node follow from the run"),
    ],
)
def test_what_can_not_be_meant_is_named(section: dict[str, Any], text: str) -> None:
    with pytest.raises(RecsysLabError) as error:
        slurm_settings(section, {})
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
        ({"devices": [0, 1], "num_nodes": 4}, {}, (4, 2, 2)),
        ({"devices": "0,1"}, {}, (1, 2, 2)),
        ({"accelerator": "cpu", "devices": 2}, {}, (1, 2, 0)),
        ({"accelerator": "cpu"}, {}, (1, 1, 0)),
    ],
)
def test_shape_follows_from_the_trainer(
    trainer: dict[str, Any], settings: dict[str, Any], shape: tuple[int, int, int]
) -> None:
    found = shape_of(job("a", **trainer), slurm_settings({}, settings))
    assert (found.nodes, found.processes, found.gpus) == shape


@pytest.mark.parametrize(
    ("trainer", "settings", "text"),
    [
        ({"devices": 8}, {"gpus_per_node": 4}, "slurm.gpus_per_node is 4, and runs such as runs/widths/a/seed0 need 8"),
        ({"accelerator": "gpu"}, {"gpus_per_node": 0}, "slurm.gpus_per_node is 0"),
        ({"devices": 2}, {"runs_per_job": 2, "side_by_side": 2}, "has 2 processes"),
    ],
)
def test_settings_that_contradict_a_run(trainer: dict[str, Any], settings: dict[str, Any], text: str) -> None:
    with pytest.raises(RecsysLabError) as error:
        shape_of(job("a", **trainer), slurm_settings({}, settings))
    assert text in str(error.value)


# -- the script --------------------------------------------------------------------------------------------------------

ASKED: dict[str, Any] = {
    "partition": "gpu",
    "account": "lab",
    "time": "1-00:00:00",
    "mem": "64G",
    "cpus_per_task": 8,
    "array_parallelism": 2,
    "runs_per_job": 2,
    "setup": "module load cuda",
    "mail-type": "END",
}


def test_script_is_the_golden_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array of five runs on 8 GPUs each, two in a task, and one run on 4 nodes. There is no SLURM here."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(tmp_path)
    jobs = [job(f"v{i}", accelerator="gpu", devices=8, num_nodes=4 if i == 5 else 1) for i in range(6)]
    texts = sbatch_scripts(jobs, slurm_settings(ASKED, {}), STUDY, COMMAND)
    assert "\n".join(texts) == (HERE / "slurm_script.golden.sh").read_text()
    assert not list(tmp_path.iterdir()), "showing a script changes nothing"


def test_script_is_bash() -> None:
    (text,) = sbatch_scripts([job("v0"), job("v 1")], slurm_settings({}, {}), STUDY, COMMAND)
    assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).stderr == ""


def test_an_array_holds_what_slurm_takes() -> None:
    texts = sbatch_scripts([job(f"v{i}") for i in range(1001)], slurm_settings({}, {}), STUDY, COMMAND)
    assert ["--array=0-999%64" in texts[0], "--array=0-0%64" in texts[1], len(texts)] == [True, True, 2]


# -- submitting --------------------------------------------------------------------------------------------------------


def scripts(study: Path, *names: str, **settings: Any) -> list[str]:
    return sbatch_scripts([job(name, study) for name in names], slurm_settings({}, settings), study, COMMAND)


def test_no_sbatch_is_an_error_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RecsysLabError, match="sbatch is not installed here.*--dry_run.*--launcher local"):
        submit(scripts(tmp_path, "a"), tmp_path)


def test_a_refused_job_says_why(slurm: Path, tmp_path: Path) -> None:
    (slurm / "refuse").write_text("sbatch: error: invalid partition specified: gpuu\n")
    with pytest.raises(RecsysLabError, match="invalid partition specified: gpuu"):
        submit(scripts(tmp_path, "a"), tmp_path)
    assert not queued(tmp_path)


def test_the_queue_says_which_runs_are_in_it(slurm: Path, tmp_path: Path) -> None:
    study = tmp_path / "runs" / "widths"
    assert submit(scripts(study, "a", "b", "c 1", runs_per_job=2), study) == ["1000"]
    a, b, c = (study / name / "seed0" for name in ("a", "b", "c 1"))
    assert queued(study) == {}
    (slurm / "queue").write_text("999\n1000_0\n1000_1\n")
    assert queued(study) == {a: "1000_0", b: "1000_0", c: "1000_1"}
    assert "--name=widths" in (slurm / "squeue.txt").read_text()
    (slurm / "queue").write_text("999\n1000_1\n")
    assert queued(study) == {c: "1000_1"}
    (slurm / "down").touch()
    with pytest.raises(RecsysLabError, match="squeue does not say .*Socket timed out"):
        queued(study)


def test_a_machine_without_slurm_knows_no_queue(slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submit(scripts(tmp_path, "a"), tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert queued(tmp_path) == {}


# -- tasks of the array, run here --------------------------------------------------------------------------------------

BRAKE = """
import time
from collections.abc import Sequence
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


def submitted(file: Path, *more: str) -> str:
    """The script of the one array that `study run --launcher slurm` gives to sbatch."""
    root = ["--root", str(file.parent / "runs")]
    assert main(["study", "run", str(file), *root, "--launcher", "slurm", "--slurm.cpus_per_task", "1", *more]) == 0
    (script,) = (file.parent / "runs" / "widths" / "slurm").glob("*.sh")
    return str(script)


def variables(task: int, processes: int = 1, **more: str) -> dict[str, str]:
    array = {"SLURM_ARRAY_JOB_ID": "1000", "SLURM_ARRAY_TASK_ID": str(task), "SLURM_SUBMIT_DIR": os.getcwd()}
    return {**os.environ, **allocation(processes), **array, **more}


def run_folders(file: Path) -> dict[str, Path]:
    found = sorted((file.parent / "runs" / "widths").glob("*/seed0"))
    return {folder.parent.name.rpartition("-")[0]: folder for folder in found}


@pytest.mark.slow
def test_tasks_of_the_array_run_the_study(slurm: Path, small_folder: Path, tmp_path: Path) -> None:
    """Three runs in two tasks: two that end well, one that fails and stops no other."""
    axes = {
        "e": {"good": {}, "bad": {"model": "LSTMAttention", "model.time": "relative"}, "more": {"data.max_length": 9}}
    }
    file = write_study(tmp_path, small_folder, axes=axes)
    script = submitted(file, "--slurm.runs_per_job", "2")
    codes = [subprocess.run(["bash", script], env=variables(task), capture_output=True).returncode for task in (0, 1)]
    folders = run_folders(file)
    assert {name: state_of(folder) for name, folder in folders.items()} == {
        "good": "finished",
        "bad": "failed",
        "more": "finished",
    }
    assert sorted(codes) == [0, 1] and not (slurm / "scontrol.txt").exists(), "a failed run is not queued again"
    again = variables(0, SLURM_RESTART_COUNT="1")
    assert subprocess.run(["bash", script], env=again, capture_output=True).returncode == 0
    assert [read_job(folder)["attempts"] for folder in folders.values()] == [1, 1, 1]


@pytest.mark.slow
def test_a_run_of_two_processes_out_of_time_is_queued_again_and_goes_on(
    slurm: Path, small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "brake.py").write_text(BRAKE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    monkeypatch.syspath_prepend(str(tmp_path))
    brake = [{"class_path": "brake.Brake", "init_args": {"go": str(tmp_path / "go")}}]
    base = {"trainer.devices": 2, "trainer.max_epochs": 3, "trainer.callbacks": brake}
    file = write_study(tmp_path, small_folder, base=base)
    script = submitted(file)
    assert "#SBATCH --ntasks-per-node=2" in Path(script).read_text()
    process = subprocess.Popen(["bash", script], env=variables(0, processes=2), stderr=subprocess.DEVNULL)
    end = time.monotonic() + 300
    while not any(
        len(path.read_text().splitlines()) == 3 for path in file.parent.glob("runs/widths/*/seed0/metrics.csv")
    ):
        assert process.poll() is None and time.monotonic() < end, "two epochs"
        time.sleep(0.05)
    (folder,) = run_folders(file).values()
    process.send_signal(signal.SIGUSR2)  # as `--signal=B:USR2` does
    assert process.wait(300) != 0
    assert (slurm / "scontrol.txt").read_text() == "requeue 1000_0\n"
    assert state_of(folder) == "interrupted" and not (folder / claim.FILE).exists()
    (tmp_path / "go").touch()
    again = subprocess.run(["bash", script], env=variables(0, processes=2, SLURM_RESTART_COUNT="1"))
    assert again.returncode == 0 and state_of(folder) == "finished" and read_job(folder)["attempts"] == 2
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["device"].startswith("2 x cpu")
    first, second = (line for line in (folder / "log.txt").read_text().splitlines() if line.startswith("$ "))
    assert first.startswith("$ srun ") and "run.yaml" in first and f" fit {folder} " in second


@pytest.mark.parametrize(("restarts", "age", "is_run"), [("0", 0.0, False), ("1", claim.STALE_SECONDS - 3, True)])
def test_a_task_that_slurm_started_again_outlives_its_own_old_claim(
    restarts: str, age: float, is_run: bool, small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim is of another node: a living worker's, or one of a node that was lost almost long enough ago."""
    file = write_study(tmp_path, small_folder, base={"trainer.max_epochs": 1})
    root = ["--root", str(tmp_path / "runs")]
    from recsys_lab.study.launch import execute as command

    launched: list[Path] = []
    monkeypatch.setattr(
        command, "launch_local", lambda jobs, *_, **__: launched.extend(one.folder for one in jobs) or []
    )
    monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    assert main(["study", "run", str(file), *root]) == 0
    (folder,) = launched
    launched.clear()
    folder.mkdir(parents=True)
    (folder / claim.FILE).write_text(json.dumps({"host": "lost-node", "pid": 1}))
    os.utime(folder / claim.FILE, (time.time() - age, time.time() - age))
    name = str(folder.relative_to(tmp_path / "runs" / "widths"))
    assert main(["study", "run", str(file), *root, "--run", name]) == 0
    assert (claim.owner(folder) is None) == is_run and launched == [folder], "launch_local leaves what is claimed"
    assert main(["study", "run", str(file), *root, "--run", "other/seed0"]) == 2


def test_srun_starts_runs_of_several_processes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    assert starter() == ()
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert starter() == ()
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "4")
    assert starter() == ("srun", "--disable-status", "--kill-on-bad-exit=1", "--cpus-per-task=4")
