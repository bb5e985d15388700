"""The local launcher on processes that do not train: side by side, failures, claims, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from stub_run import StubJob, starts, stub

from recsys_lab.runs.claim import FILE, claimed, owner
from recsys_lab.study.launch.job import Execution, Job, Outcome, read_job, state_of
from recsys_lab.study.launch.local import Places, launch_local, make_places
from recsys_lab.words import RecsysLabError

PLACES = Places(({"OMP_NUM_THREADS": "1"}, {"OMP_NUM_THREADS": "2"}))


def execute(job: StubJob) -> Outcome:
    (outcome,) = launch_local([job], Places(PLACES.environments[:1]))
    return outcome


def wait_until(condition: object, seconds: float = 300.0) -> None:
    end = time.time() + seconds
    while not condition():  # type: ignore[operator]
        assert time.time() < end, "it did not happen"
        time.sleep(0.02)


def test_runs_side_by_side_each_with_its_own_place(tmp_path: Path) -> None:
    go = tmp_path / "go"
    jobs = [stub(tmp_path / f"run{i}", str(go)) for i in range(3)]
    both = threading.Thread(target=lambda: (wait_until(lambda: all(starts(j.folder) for j in jobs[:2])), go.touch()))
    both.start()  # the first two wait for each other: they end only if both run at once
    outcomes = launch_local(jobs, PLACES)
    both.join()
    assert [outcome.state for outcome in outcomes] == ["finished"] * 3
    assert {starts(job.folder)[0]["OMP_NUM_THREADS"] for job in jobs[:2]} == {"1", "2"}
    assert all(state_of(job.folder) == "finished" and not (job.folder / FILE).exists() for job in jobs)


def test_a_failed_run_keeps_its_error_and_stops_no_other(tmp_path: Path) -> None:
    jobs = [stub(tmp_path / "bad", fails=[0]), stub(tmp_path / "good")]
    ended: list[str] = []
    outcomes = launch_local(jobs, Places(PLACES.environments[:1]), on_end=lambda job, o: ended.append(job.folder.name))
    assert [outcome.state for outcome in outcomes] == ["failed", "finished"] and ended == ["bad", "good"]
    job = read_job(tmp_path / "bad")
    assert job["exit_code"] == 3 and job["error"] == "rank 0 fails" and state_of(tmp_path / "bad") == "failed"
    assert "rank 0 fails" in (tmp_path / "bad" / "log.txt").read_text()


def test_a_run_waits_for_the_one_that_it_begins_with(tmp_path: Path) -> None:
    go = tmp_path / "go"
    first, other = stub(tmp_path / "first", str(go)), stub(tmp_path / "other")
    second = replace(stub(tmp_path / "second"), after=first.folder)
    ended: list[str] = []

    def on_end(job: Job, outcome: Outcome) -> None:
        ended.append(job.folder.name)
        if job is other:  # there was a place, and `second` did not take it
            assert not starts(second.folder)
            go.touch()

    outcomes = launch_local([first, second, other], PLACES, on_end)
    assert [outcome.state for outcome in outcomes] == ["finished"] * 3 and ended == ["other", "first", "second"]


def test_a_finished_run_is_never_run_again(tmp_path: Path) -> None:
    job = stub(tmp_path / "run")
    assert execute(job).state == "finished" and execute(job).state == "finished"
    assert len(starts(job.folder)) == 1


def test_attempts_are_counted_and_every_log_is_kept(tmp_path: Path) -> None:
    job = stub(tmp_path / "run", fails=[0])
    assert execute(job).state == execute(job).state == "failed"
    assert read_job(job.folder)["attempts"] == 2
    assert (job.folder / "log.txt").read_text().count("rank 0 fails") == 2


def test_exit_code_0_without_results_is_a_failure(tmp_path: Path) -> None:
    class Idle(StubJob):
        def command(self) -> list[str]:
            return [sys.executable, "-c", "pass"]

    outcome = execute(Idle(tmp_path / "run", {}))
    assert outcome.state == "failed" and "without results" in outcome.error


def test_a_killed_run_is_interrupted_and_says_by_what(tmp_path: Path) -> None:
    job = stub(tmp_path / "run", str(tmp_path / "never"))

    def kill() -> None:
        wait_until(lambda: read_job(job.folder).get("pid") and starts(job.folder))
        os.kill(read_job(job.folder)["pid"], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    outcome = execute(job)
    killer.join()
    assert outcome.state == "interrupted" and "SIGKILL" in outcome.error and state_of(job.folder) == "interrupted"


def test_a_claimed_run_is_left_to_its_worker(tmp_path: Path) -> None:
    job = stub(tmp_path / "run")
    with claimed(job.folder) as is_mine:
        assert is_mine and owner(job.folder)["pid"] == os.getpid()  # type: ignore[index]
        assert state_of(job.folder) == "running"
        assert [outcome.state for outcome in launch_local([job], PLACES)] == ["running"]
    assert owner(job.folder) is None and not starts(job.folder)


def test_claims_of_the_dead_are_void(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    claim = {"host": os.uname().nodename, "pid": gone.pid, "process_started": "1", "since": "then"}
    (tmp_path / FILE).write_text(json.dumps(claim))
    assert owner(tmp_path) is None
    (tmp_path / FILE).write_text(json.dumps(claim | {"host": "elsewhere"}))
    assert owner(tmp_path) is not None  # another host's, with a fresh heartbeat
    os.utime(tmp_path / FILE, (time.time() - 1000,) * 2)
    assert owner(tmp_path) is None
    with claimed(tmp_path) as is_mine:
        assert is_mine


def test_a_run_whose_launcher_was_killed_is_not_started_twice(tmp_path: Path) -> None:
    job = stub(tmp_path / "run", str(tmp_path / "go"))
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path; from stub_run import stub; from recsys_lab.study.launch.local import *
launch_local([stub(Path({str(job.folder)!r}), {str(tmp_path / "go")!r})], Places(({{}},)))
"""
    launcher = subprocess.Popen([sys.executable, "-c", code])
    wait_until(lambda: starts(job.folder))
    launcher.kill()
    launcher.wait()
    assert state_of(job.folder) == "running" and execute(job).state == "running"
    (tmp_path / "go").touch()
    wait_until(lambda: state_of(job.folder) == "finished")
    assert len(starts(job.folder)) == 1


def test_ctrl_c_reaches_every_run_and_all_are_waited_for(tmp_path: Path) -> None:
    folders = [tmp_path / f"run{i}" for i in range(3)]
    code = f"""
import signal, sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
from pathlib import Path; from stub_run import stub; from recsys_lab.study.launch.local import *
told = lambda job, outcome: print(job.folder.name, outcome.state, flush=True)
launch_local([stub(Path(f), "/nowhere") for f in {list(map(str, folders))!r}], Places(({{}}, {{}})), on_end=told)
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    launcher = subprocess.Popen([sys.executable, "-c", code], **pipes, text=True)
    wait_until(lambda: all(starts(folder) for folder in folders[:2]))
    launcher.send_signal(signal.SIGINT)
    said = launcher.communicate(timeout=300)
    assert "KeyboardInterrupt" in said[1] and sorted(said[0].splitlines()) == ["run0 interrupted", "run1 interrupted"]
    assert [state_of(folder) for folder in folders] == ["interrupted", "interrupted", "missing"]
    assert read_job(folders[0])["exit_code"] == 130


def test_a_run_can_be_interrupted_where_the_signal_is_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        execution = Execution(stub(tmp_path / "run", "/nowhere"))
        wait_until(lambda: starts(tmp_path / "run"))
        execution.ask_to_stop()
        assert execution.process.wait(30) == 130 and execution.finish().state == "interrupted"
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_places_share_the_cores_out() -> None:
    assert make_places(workers=2, threads=3).environments[0]["OMP_NUM_THREADS"] == "3"
    places = make_places(workers=1)
    assert int(places.environments[0]["OMP_NUM_THREADS"]) == len(os.sched_getaffinity(0))
    for bad in ({"workers": 0}, {"threads": 0}, {"gpus_per_run": 0}):
        with pytest.raises(RecsysLabError, match="must be at least 1"):
            make_places(**bad)


def test_each_worker_has_gpus_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [e["CUDA_VISIBLE_DEVICES"] for e in make_places().environments] == ["0", "1", "2", "3"]
    assert [e["CUDA_VISIBLE_DEVICES"] for e in make_places(gpus_per_run=2).environments] == ["0,1", "2,3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,9,11,13")
    assert make_places(gpus_per_run=2).environments[1]["CUDA_VISIBLE_DEVICES"] == "11,13"
    with pytest.raises(RecsysLabError, match="8 GPUs, and this machine shows 4"):
        make_places(gpus_per_run=8)
