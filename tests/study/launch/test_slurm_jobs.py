"""What SLURM jobs do with their runs, in submitit's local and debug executor."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from stub_run import StubJob, starts, stub

from recsys_lab.study.launch.claim import STALE_SECONDS
from recsys_lab.study.launch.job import Job, read_job, state_of
from recsys_lab.study.launch.slurm import Submission, launch_slurm, read_record
from recsys_lab.study.launch.slurm_settings import SlurmSettings

HERE = Path(__file__).parent
PATIENCE = 300.0


@pytest.fixture(autouse=True)
def jobs_find_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """submitit's processes load `StubJob` by name."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def local(jobs: list[Job], tmp_path: Path, **settings: Any) -> list[Submission]:
    chosen = SlurmSettings(**{"cpus_per_task": 2, **settings})
    return launch_slurm(jobs, chosen, tmp_path / "slurm", cluster="local")


def wait_until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE:.0f} s for {what}"
        time.sleep(0.05)


def worker_of(folder: Path) -> int:
    """Pid of the task that has claimed a run."""
    pid: int = json.loads((folder / "claim.json").read_text())["pid"]
    return pid


def test_runs_one_after_another_and_a_failed_one_stops_none(tmp_path: Path) -> None:
    jobs: list[Job] = [stub(tmp_path / "a", fails=[0]), stub(tmp_path / "b"), stub(tmp_path / "c")]
    first, second = local(jobs, tmp_path, runs_per_job=2)
    assert [len(first.jobs), len(second.jobs)] == [2, 1]
    assert read_record(tmp_path / "a")["job_id"] == first.job_id
    assert first.handle.result() == {str(tmp_path / "a"): "failed", str(tmp_path / "b"): "finished"}
    assert second.handle.result() == {str(tmp_path / "c"): "finished"}
    assert starts(tmp_path / "b")[0]["OMP_NUM_THREADS"] == "2"
    assert read_record(tmp_path / "a")["ended"] and "rank 0 fails" in read_job(tmp_path / "a")["error"]


def test_runs_side_by_side_share_the_cores(tmp_path: Path) -> None:
    """The first can end only when the second has, which would be never if they went one after another."""
    jobs: list[Job] = [stub(tmp_path / "a", wait_for=str(tmp_path / "b" / "ranks.parquet")), stub(tmp_path / "b")]
    (job,) = local(jobs, tmp_path, runs_per_job=2, side_by_side=2, cpus_per_task=6)
    assert set(job.handle.result().values()) == {"finished"}
    assert [starts(tmp_path / name)[0]["OMP_NUM_THREADS"] for name in "ab"] == ["3", "3"]


def test_a_job_out_of_time_is_queued_again_with_the_runs_that_are_left(tmp_path: Path) -> None:
    done, failed, stopped, later = (tmp_path / name for name in ("done", "failed", "stopped", "later"))
    jobs: list[Job] = [stub(done), stub(failed, fails=[0]), stub(stopped, wait_for=str(tmp_path / "go")), stub(later)]
    (job,) = local(jobs, tmp_path, runs_per_job=4)
    wait_until(lambda: starts(stopped), "the third run")
    os.kill(worker_of(stopped), signal.SIGUSR2)
    wait_until(lambda: len(starts(stopped)) == 2, "the second attempt")
    assert read_job(stopped)["attempts"] == 2
    (tmp_path / "go").touch()
    assert job.handle.result() == {str(stopped): "finished", str(later): "finished"}
    assert [len(starts(folder)) for folder in (done, failed, stopped, later)] == [1, 1, 2, 1]


def test_a_job_is_not_queued_again_for_ever(tmp_path: Path) -> None:
    """Local jobs count every warning as a time-out."""
    (job,) = local([stub(tmp_path / "a", wait_for="never")], tmp_path, requeues=0, time="3")
    wait_until(lambda: starts(tmp_path / "a"), "the run")
    os.kill(worker_of(tmp_path / "a"), signal.SIGUSR2)
    assert "timed-out too many times" in str(job.handle.exception())
    assert state_of(tmp_path / "a") == "interrupted" and not (tmp_path / "a" / "claim.json").exists()


def test_the_debug_executor_works_in_this_process(tmp_path: Path) -> None:
    handlers = signal.getsignal(signal.SIGUSR2)
    (job,) = launch_slurm([stub(tmp_path / "a")], SlurmSettings(), tmp_path / "slurm", cluster="debug")
    assert job.handle.result() == {str(tmp_path / "a"): "finished"}
    assert signal.getsignal(signal.SIGUSR2) == handlers


@pytest.mark.parametrize(("restarts", "age", "state"), [("0", 0.0, "running"), ("1", STALE_SECONDS - 3, "finished")])
def test_a_job_that_slurm_started_again_outlives_its_own_old_claim(
    restarts: str, age: float, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim is of another node: a living worker's, or one of a node that was lost almost long enough ago."""
    monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    (tmp_path / "a").mkdir()
    claim = tmp_path / "a" / "claim.json"
    claim.write_text(json.dumps({"host": "lost-node", "pid": 1}))
    (job,) = launch_slurm([stub(tmp_path / "a")], SlurmSettings(), tmp_path / "slurm", cluster="debug")
    os.utime(claim, (time.time() - age, time.time() - age))
    assert job.handle.result() == {str(tmp_path / "a"): state}


# -- runs of several processes -----------------------------------------------------------------------------------------


def distributed(folder: Path, **more: Any) -> Job:
    job = stub(folder, **more)
    return StubJob(folder, {**job.config, "trainer": {"devices": 2, "accelerator": "cpu"}})


def test_every_task_starts_a_process_and_the_first_one_alone_writes(tmp_path: Path) -> None:
    jobs = [distributed(tmp_path / name) for name in "ab"]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "manifest.json").write_text('{"stopped_by": "patience"}')
    (tmp_path / "a" / "ranks.parquet").touch()
    (job,) = local(jobs, tmp_path, runs_per_job=2)
    assert job.handle.results() == [{str(tmp_path / "a"): "finished", str(tmp_path / "b"): "finished"}, {}]
    assert not starts(tmp_path / "a"), "it was finished before"
    found = starts(tmp_path / "b")
    assert {(one["RANK"], one["LOCAL_RANK"], one["WORLD_SIZE"]) for one in found} == {("0", "0", "2"), ("1", "1", "2")}
    assert len({one["MASTER_PORT"] for one in found}) == 1
    assert read_job(tmp_path / "b")["attempts"] == 1


def test_one_process_that_fails_ends_the_run_and_the_next_one_starts(tmp_path: Path) -> None:
    """The first process would wait for the other one for ever."""
    jobs = [distributed(tmp_path / "a", wait_for="never", fails=[1]), distributed(tmp_path / "b")]
    (job,) = local(jobs, tmp_path, runs_per_job=2)
    assert job.handle.results()[0] == {str(tmp_path / "a"): "failed", str(tmp_path / "b"): "finished"}
    assert "process 1 of this run failed on" in read_job(tmp_path / "a")["error"]
    assert len(starts(tmp_path / "b")) == 2


# -- real training -----------------------------------------------------------------------------------------------------

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


def real(folder: Path, data: Path, **trainer: Any) -> Job:
    model = {"class_path": "SASRec", "init_args": {"embedding_dim": 8, "num_layers": 1}}
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    config = {
        "seed_everything": 0,
        "model": model,
        "data": {"dataset": str(data), "max_length": 8, "batch_size": 4},
        "trainer": {"devices": 1, "max_epochs": 4, "num_sanity_val_steps": 0, **quiet, **trainer},
        "run": {"folder": str(folder), "study": "s", "variant": "v"},
    }
    return Job(folder, yaml.safe_load(yaml.safe_dump(config)))


def learned(folder: Path) -> list[str]:
    """Rows of metrics.csv without times."""
    header, *rows = (line.split(",") for line in (folder / "metrics.csv").read_text().splitlines())
    kept = [header.index(name) for name in ("epoch", "step", "train/loss", "val/ndcg@10")]
    return [" ".join(row[i] for i in kept) for row in rows]


@pytest.fixture
def brake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A callback that halts training before its third epoch until the file `go` is there."""
    (tmp_path / "brake.py").write_text(BRAKE)
    monkeypatch.setenv("PYTHONPATH", f"{HERE}{os.pathsep}{tmp_path}")
    return {"class_path": "brake.Brake", "init_args": {"go": str(tmp_path / "go")}}


def stop_after_two_epochs(folder: Path, go: Path) -> None:
    """SLURM's warning to the job of a run with the brake; then the brake is let go."""
    wait_until(lambda: (folder / "metrics.csv").is_file() and len(learned(folder)) == 2, "two epochs")
    os.kill(worker_of(folder), signal.SIGUSR2)
    wait_until(lambda: read_job(folder).get("attempts") == 2, "the second attempt")
    go.touch()


def test_a_fit_out_of_time_resumes_and_ends_as_if_it_had_not_been(
    small_folder: Path, tmp_path: Path, brake: dict[str, Any]
) -> None:
    stopped, straight = tmp_path / "stopped", tmp_path / "straight"
    (job,) = local([real(stopped, small_folder, callbacks=[brake])], tmp_path)
    stop_after_two_epochs(stopped, tmp_path / "go")
    assert job.handle.result() == {str(stopped): "finished"}
    (other,) = local([real(straight, small_folder)], tmp_path)
    assert other.handle.result() == {str(straight): "finished"}
    assert learned(stopped) == learned(straight) and len(learned(stopped)) == 4
    first, second = (line for line in (stopped / "log.txt").read_text().splitlines() if line.startswith("$ "))
    assert "run.yaml" in first and f" fit {stopped} " in second


def test_a_fit_on_two_processes_resumes(small_folder: Path, tmp_path: Path, brake: dict[str, Any]) -> None:
    folder = tmp_path / "two"
    (job,) = local([real(folder, small_folder, devices=2, max_epochs=3, callbacks=[brake])], tmp_path)
    stop_after_two_epochs(folder, tmp_path / "go")
    assert job.handle.results() == [{str(folder): "finished"}, {}]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["device"].startswith("2 x cpu") and len(learned(folder)) == 3
