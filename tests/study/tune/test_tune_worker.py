"""Searches run with stubs in the place of fits: the budget holds exactly, whatever is killed, stopped or fails."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from tuned_study import attempts, make_study, make_worker, numbers, results_of, start_worker_process, stub_command

from recsys_lab.study.launch.job import Job, read_job
from recsys_lab.study.plan import Study
from recsys_lab.words import RecsysLabError

PATIENCE = 300.0


@pytest.fixture(autouse=True)
def stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Job, "command", stub_command)


def wait_until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE:.0f} s for {what}"
        time.sleep(0.05)


def journal(study: Study) -> dict[str, list[Any]]:
    """First letter of each search -> its trials in Optuna's journal."""
    backend = optuna.storages.journal.JournalFileBackend(str(study.folder / "tune" / "journal.log"))
    storage = optuna.storages.JournalStorage(backend)
    return {
        name[0]: optuna.load_study(study_name=name, storage=storage).trials
        for name in optuna.get_all_study_names(storage)
    }


def folder_of(study: Study, search: str, number: int) -> Path:
    return next((study.folder / "tune").glob(f"{search}-*")) / f"trial{number}"


def test_each_search_has_its_budget_and_a_second_call_does_nothing(tmp_path: Path) -> None:
    study = make_study(tmp_path, base={"model.dropout": 0.3})
    assert make_worker(study, workers=2).run() == {}
    assert numbers(study, "complete") == [[0, 1, 2, 3]] * 2
    first, second = results_of(study).searches
    assert first.default is not None and first.default.settings == {} and first.default.value == pytest.approx(0.4)
    tried = [trial.settings["model.dropout"] for trial in first.trials[1:]]
    assert len(set(tried)) == 3 and all(0 <= value <= 0.5 for value in tried)
    assert [trial.value for trial in first.trials[1:]] == pytest.approx([0.1 + value for value in tried])
    assert first.best is not None and first.best.value == max(trial.value for trial in first.trials)
    assert [trial.settings for trial in second.trials] == [trial.settings for trial in first.trials]  # the same draws
    assert not list((study.folder / "tune").rglob("*.ckpt")) and not list((study.folder / "tune").rglob("claim.json"))
    before = attempts(study)
    make_worker(study).run()
    assert attempts(study) == before and set(before.values()) == {1} and len(before) == 8


def test_the_journal_knows_the_studys_own_settings(tmp_path: Path) -> None:
    study = make_study(tmp_path, {"trials": 1}, base={"model.dropout": 0.3})
    make_worker(study).run()
    (trial,) = journal(study)["a"]
    assert trial.state == TrialState.COMPLETE and trial.params == {"model.dropout": 0.3}
    assert trial.intermediate_values == pytest.approx({0: 0.4 / 3, 1: 0.8 / 3, 2: 0.4})


def test_a_larger_budget_goes_on(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    make_worker(study, trials=2).run()
    assert numbers(study) == [[0, 1]] * 2
    make_worker(study, trials=3).run()
    assert numbers(study) == [[0, 1, 2]] * 2 and set(attempts(study).values()) == {1}


def test_without_a_space_there_is_the_own_setting_alone(tmp_path: Path) -> None:
    study = make_study(tmp_path, {"spaces": {"a": {"model.dropout": None}}})
    make_worker(study).run()
    assert numbers(study) == [[0], [0, 1, 2, 3]]


def test_a_trial_that_looks_worse_is_interrupted(tmp_path: Path) -> None:
    """Trial 3 waits for ever after a bad first epoch, and so would the test if it was not pruned."""
    stub = {"stub.values": {0: 0.1, 1: 0.5, 2: 0.6, 3: 0.2}, "stub.waits": [3], "stub.gate": str(tmp_path / "never")}
    study = make_study(tmp_path, {"pruner": {"median": {"n_startup_trials": 2, "n_warmup_steps": 0}}}, base=stub)
    make_worker(study).run()
    assert numbers(study, "pruned") == [[3], [3]]  # and not trial 0, which is as bad
    trial = results_of(study).searches[0].trials[3]
    assert trial.epochs == 1 and trial.value == pytest.approx(0.2 / 3)
    assert json.loads((trial.folder / "manifest.json").read_text())["stopped_by"] == "interrupted"
    assert [one.state for one in journal(study)["a"]][3] == TrialState.PRUNED


def test_the_own_settings_are_never_pruned(tmp_path: Path) -> None:
    """Two at a time: trial 0 waits until the others are done, and is the worst of them."""
    gate = tmp_path / "gate"
    stub = {"stub.values": {0: 0.1, 1: 0.5, 2: 0.6}, "stub.waits": [0], "stub.gate": str(gate)}
    pruner = {"median": {"n_startup_trials": 0, "n_warmup_steps": 0}}
    study = make_study(tmp_path, {"pruner": pruner, "trials": 3}, base=stub, axes={}, variants={"only": {"model": "A"}})
    worker = make_worker(study, workers=2)
    worker.on_end = lambda search, record: gate.touch() if record.number == 2 else None
    worker.run()
    assert numbers(study, "complete") == [[0, 1, 2]]


def test_a_failed_trial_is_spent_and_stops_nothing(tmp_path: Path) -> None:
    study = make_study(tmp_path, base={"stub.fails": [1]})
    assert make_worker(study).run() == {}
    assert numbers(study, "failed") == [[1], [1]] and numbers(study, "complete") == [[0, 2, 3]] * 2
    assert "the stub fails" in results_of(study).searches[0].trials[1].error
    assert [one.state for one in journal(study)["a"]][1] == TrialState.FAIL


def test_own_settings_that_fail_hold_up_their_search_only_and_are_tried_again(tmp_path: Path) -> None:
    axes = {"encoder": {"a": {"model": "A", "stub.fails": [0]}, "b": {"model": "B"}}}
    study = make_study(tmp_path, axes=axes)
    broken = make_worker(study).run()
    assert set(broken) == {"a"} and "the stub fails" in broken["a"]
    assert numbers(study) == [[], [0, 1, 2, 3]]
    config = folder_of(study, "a", 0)
    assert set(make_worker(study).run()) == {"a"}
    assert read_job(config)["attempts"] == 2 and len(journal(study)["a"]) == 1


def test_a_metric_that_no_epoch_has_is_an_error_that_names_it(tmp_path: Path) -> None:
    study = make_study(tmp_path, base={"stub.metric": "val/loss"})
    assert "no number under val/ndcg@10" in make_worker(study).run()["a"]


def test_a_run_that_is_killed_once_goes_on_and_one_that_always_is_fails(tmp_path: Path) -> None:
    study = make_study(tmp_path, base={"stub.dies": [1], "stub.always_dies": [2]})
    make_worker(study).run()
    assert numbers(study, "complete") == [[0, 1, 3]] * 2 and numbers(study, "failed") == [[2], [2]]
    found = attempts(study)
    assert found["a/trial1"] == 2 and found["a/trial2"] == 3 and found["a/trial3"] == 1
    trial = journal(study)["a"][1]
    assert sorted(trial.intermediate_values) == [0, 1, 2] and trial.user_attrs["losses"] == 1
    assert "killed 3 times" in results_of(study).searches[0].trials[2].error


def test_ctrl_c_leaves_trials_that_the_next_call_goes_on_with(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    study = make_study(tmp_path, base={"stub.waits": [1], "stub.gate": str(gate)})
    worker = make_worker(study, workers=2)

    def stop(taken: Any) -> None:
        """The one trial 1 waits after an epoch, and the other is about to start."""
        if [live.job.folder.name for live in worker.live] == ["trial1"]:
            wait_until((worker.live[0].job.folder / "metrics.csv").is_file, "an epoch")
            raise KeyboardInterrupt

    worker.on_start = stop
    with pytest.raises(KeyboardInterrupt):
        worker.run()
    assert numbers(study) == [[0], [0]] and not list((study.folder / "tune").rglob("claim.json"))
    gate.touch()
    make_worker(study, workers=2).run()
    assert numbers(study, "complete") == [[0, 1, 2, 3]] * 2
    assert sorted(attempts(study)[f"{name}/trial1"] for name in "ab") == [1, 2]


def test_a_killed_workers_trial_is_taken_up_and_its_live_run_is_left_to_end(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    study = make_study(tmp_path, base={"stub.waits": [1], "stub.gate": str(gate)})
    process = start_worker_process(study, workers=2)
    wait_until(lambda: len(list((study.folder / "tune").glob("*/trial1/metrics.csv"))) == 2, "both trials 1 to work")
    process.kill()
    process.wait()
    lives_on, killed = (read_job(folder_of(study, name, 1))["pid"] for name in "ab")
    os.kill(killed, signal.SIGKILL)
    worker = make_worker(study, workers=2)
    worker.on_end = lambda search, record: gate.touch() if record.number == 2 else None
    worker.run()
    assert numbers(study, "complete") == [[0, 1, 2, 3]] * 2
    found = attempts(study)
    assert found["a/trial1"] == 1 and found["b/trial1"] == 2 and sum(found.values()) == 9
    assert results_of(study).searches[0].trials[1].seconds == 1000  # nobody watched it: by its own count
    with pytest.raises(ProcessLookupError):
        os.kill(lives_on, 0)


def test_two_processes_share_the_trials(tmp_path: Path) -> None:
    study = make_study(tmp_path, {"trials": 6, "sampler": "random"})
    other = start_worker_process(study)
    make_worker(study).run()
    assert other.wait(PATIENCE) == 0
    assert numbers(study, "complete") == [[0, 1, 2, 3, 4, 5]] * 2
    assert set(attempts(study).values()) == {1} and len(attempts(study)) == 12
    assert all(len({tuple(one.params.values()) for one in trials}) == 6 for trials in journal(study).values())


ONE: dict[str, Any] = {"axes": {}, "variants": {"only": {"model": "A"}}}


def test_a_search_with_one_worker_can_be_repeated(tmp_path: Path) -> None:
    """Beyond the ten random trials with which TPE begins: from then on it looks at what has ended."""
    found = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        study = make_study(tmp_path / name, {"trials": 13, "pruner": "median"}, base={"model.dropout": 0.3}, **ONE)
        make_worker(study).run()
        (search,) = results_of(study).searches
        found.append([(trial.settings, trial.state, trial.value, trial.epochs) for trial in search.trials])
    assert found[0] == found[1] and len(found[0]) == 13


def test_hyperband_keeps_the_budget_too(tmp_path: Path) -> None:
    study = make_study(tmp_path, {"pruner": "hyperband", "trials": 5}, base={"stub.epochs": 9}, **ONE)
    make_worker(study, workers=2).run()
    (states,) = ([trial.state for trial in search.trials] for search in results_of(study).searches)
    assert len(states) == 5 and states[0] == "complete" and set(states) <= {"complete", "pruned"}


def test_choices_may_be_lists_and_null(tmp_path: Path) -> None:
    choices = [[1, 2], {"class_path": "B"}, None]
    study = make_study(tmp_path, {"space": {"model.layers": choices}, "trials": 9, "sampler": "random"}, **ONE)
    make_worker(study, workers=2).run()
    tried = [trial.settings["model.layers"] for trial in results_of(study).searches[0].trials[1:]]
    assert all(value in choices for value in tried) and len({str(value) for value in tried}) > 1


def test_without_optuna_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(RecsysLabError, match=r"pip install 'recsys-lab\[tune\]'"):
        make_worker(make_study(tmp_path))
