"""The life of a run folder: claimed, started over, gone on with, replaced; and the names that it may have."""

from __future__ import annotations

import json
import os
import shutil
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from recsys_lab.cli import main
from recsys_lab.runs import claim, folder_life
from recsys_lab.runs.claim import FIT, claimed, owner
from recsys_lab.runs.finished import find_runs
from recsys_lab.runs.whole_checkpoints import WholeCheckpoints

TINY = ["--model", "SASRec", "--model.embedding_dim", "8", "--model.num_layers", "1", "--data.max_length", "8"]
TINY += ["--data.batch_size", "4", "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"]
TINY += ["--trainer.devices", "1", "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
TINY += ["--trainer.num_sanity_val_steps", "0"]
OVERWRITE = ["--run.overwrite", "true"]


class Stop(L.Callback):
    """Breaks a fit off: the files are then as after a kill, or as after an error."""

    armed = True

    def __init__(self, epoch: int = 0, how: str = "kill") -> None:
        self.epoch, self.how = epoch, how

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if self.armed and trainer.current_epoch == self.epoch:
            raise {"kill": Killed, "interrupt": KeyboardInterrupt}[self.how]("broken off")


class Killed(BaseException):
    """As if the process were gone: no callback gets to say how it ended."""


@pytest.fixture(autouse=True)
def killed_leaves_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    from recsys_lab.runs.folder import RunFolder

    told = RunFolder.on_exception

    def on_exception(self: Any, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if not isinstance(exception, Killed):
            told(self, trainer, pl_module, exception)

    monkeypatch.setattr(RunFolder, "on_exception", on_exception)


def fit(data: Path, root: Path, *more: str) -> int:
    return main(["fit", *TINY, "--data.dataset", str(data), "--run.root", str(root), *more])


def broken_off(data: Path, root: Path, epoch: int = 0, how: str = "kill", *more: str) -> Path:
    stop = ["--trainer.callbacks", f"{__name__}.Stop", "--trainer.callbacks.epoch", str(epoch)]
    stop += ["--trainer.callbacks.how", how]
    with suppress(Killed):
        assert fit(data, root, *stop, *more) != 0
    return run_in(root)


def run_in(root: Path) -> Path:
    return root / "small" / "sasrec" / "seed0"


def read(folder: Path, name: str = "manifest.json") -> Any:
    return json.loads((folder / name).read_text())


def metric(folder: Path) -> float:
    return float(read(folder, "metrics.json")["test/ndcg@10"])


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def finished(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    assert fit(small_folder, root) == 0
    return run_in(root)


# -- claims ------------------------------------------------------------------------------------------------------------


def test_a_second_fit_in_a_folder_is_refused_before_it_writes(
    small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_in(tmp_path)
    with claimed(folder, FIT):
        for more in ([], OVERWRITE):
            assert fit(small_folder, tmp_path, *more) == 2
            text = capsys.readouterr().err
            assert f"another fit works in {folder}" in text and str(os.getpid()) in text
        assert [p.name for p in folder.iterdir()] == [FIT]
    assert fit(small_folder, tmp_path) == 0
    assert owner(folder, FIT) is None and not (folder / FIT).exists()


def test_a_claim_is_held_from_before_the_first_file_until_after_the_test(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    told = L.LightningModule.log
    monkeypatch.setattr(
        L.LightningModule, "log", lambda *a, **k: (seen.append(owner(run_in(tmp_path), FIT)), told(*a, **k))[1]
    )
    assert fit(small_folder, tmp_path, "--trainer.max_epochs", "1") == 0
    assert seen and all(who is not None and who["pid"] == os.getpid() for who in seen)


def test_a_study_leaves_a_run_alone_that_was_started_by_hand(tmp_path: Path) -> None:
    from recsys_lab.study.launch.job import state_of

    with claimed(tmp_path, FIT):
        assert state_of(tmp_path, ignore_claim=True) == "running"
    assert state_of(tmp_path, ignore_claim=True) == "missing"


def test_other_processes_of_a_run_share_its_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variables in ({"LOCAL_RANK": "1"}, {"RANK": "8", "LOCAL_RANK": "0"}, {"NODE_RANK": "1"}):
        with monkeypatch.context() as environment, claimed(tmp_path, FIT), ExitStack() as held:
            for name, value in variables.items():
                environment.setenv(name, value)
            assert folder_life.take_place(tmp_path, False, None, "x", held).folder == tmp_path
    monkeypatch.setenv("SLURM_PROCID", "3")
    assert folder_life.is_first_process(), "a shell inside an allocation is not a task of four"
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert not folder_life.is_first_process()


def test_a_file_system_without_hard_links_has_claims_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(claim.os, "link", refuse)
    with claimed(tmp_path, FIT) as first, claimed(tmp_path, FIT) as second:
        assert first and not second
    assert not (tmp_path / FIT).exists()


def test_a_refusal_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data.dataset", "no-such-data", "--data.data_dir", str(tmp_path / "data")]
    assert main(["fit", *TINY, *arguments, "--run.root", str(tmp_path / "runs")]) == 2
    assert not (tmp_path / "runs").exists()


# -- restarts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"])
def test_a_restart_goes_on(
    variable: str, small_folder: Path, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = broken_off(small_folder, tmp_path, 1)
    config = (folder / "config.yaml").read_text()
    again = ["fit", "--config", str(tmp_path / "asked.yaml")]
    (tmp_path / "asked.yaml").write_text(config)
    monkeypatch.setenv(variable, "0")
    assert main(again) == 2, "no restart: there is a run already"
    monkeypatch.setenv(variable, "1")
    assert main([*again, "--trainer.max_epochs", "3"]) == 2, "another run is not this one's restart"
    rows = (folder / "metrics.csv").read_text()
    with pytest.raises(Killed):  # the same command; it dies again where it died
        main(again)
    assert (folder / "metrics.csv").read_text() == rows, "the first epoch was not trained again"


# -- starting over -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill", "interrupt"])
def test_a_run_without_a_checkpoint_starts_over(
    how: str,
    small_folder: Path,
    tmp_path: Path,
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = broken_off(small_folder, tmp_path, 0, how)
    assert read(folder)["stopped_by"] == {"kill": "running", "interrupt": "interrupted"}[how]
    if how == "interrupt":
        assert "the same command starts again" in capsys.readouterr().err
        monkeypatch.setattr(Stop, "armed", False)
        assert main(["fit", str(folder)]) == 0
    else:
        assert fit(small_folder, tmp_path) == 0
    assert metric(folder) == metric(finished)
    assert read(folder)["stopped_by"] == "max_epochs"


def test_a_nan_in_the_first_epoch_and_a_bad_setting_do_not_block_the_folder(
    small_folder: Path, tmp_path: Path, finished: Path
) -> None:
    poison = ["--trainer.callbacks", "poison.Poison", "--trainer.callbacks.epoch", "0"]
    assert fit(small_folder, tmp_path, *poison) == 1
    assert read(run_in(tmp_path))["stopped_by"] == "nan"
    assert fit(small_folder, tmp_path, "--checkpoint.every_n_epochs", "-3") != 0
    assert fit(small_folder, tmp_path) == 0
    assert metric(run_in(tmp_path)) == metric(finished)


def test_a_truncated_checkpoint_names_the_way_out(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    last, best = folder / "checkpoints" / "last.ckpt", folder / "checkpoints" / "best.ckpt"
    last.write_bytes(last.read_bytes()[:5000])
    assert main(["fit", str(folder)]) == 2
    text = capsys.readouterr().err
    assert f"recsys-lab fit {folder} --ckpt_path {best}" in text and f"fit {folder} --run.overwrite true" in text
    last.unlink()
    assert main(["fit", str(folder)]) == 2
    assert f"recsys-lab fit {folder} --run.overwrite true" in capsys.readouterr().err
    assert main(["fit", str(folder), *OVERWRITE, "--trainer.max_epochs", "1"]) == 0
    assert read(folder)["epochs"] == 1 and last.is_file()


# -- replacing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill", "interrupt"])
def test_the_old_run_is_there_until_the_new_one_has_succeeded(
    how: str, finished: Path, small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_in(tmp_path)
    shutil.copytree(finished, folder)
    (folder / "log.txt").write_text("a study's")
    before = files(folder)
    broken_off(small_folder, tmp_path, 1, how, *OVERWRITE)
    now = files(folder)
    assert {name: now[name] for name in before} == before
    assert find_runs([tmp_path])[0][0].folder == folder and len(find_runs([tmp_path])[0]) == 1
    if how == "interrupt":
        said = capsys.readouterr().err
        assert f"recsys-lab fit {folder / 'replacement'}" in said and f"still in {folder}" in said
    more = ["--trainer.max_epochs", "1", "--seed_everything", "0"]
    assert fit(small_folder, tmp_path, *more, *OVERWRITE) == 0
    assert read(folder)["epochs"] == 1 and not (folder / "replacement").exists()
    assert set(files(folder)) == set(before) and (folder / "log.txt").read_text() == "a study's"


def test_an_interrupted_replacement_can_be_gone_on_with(
    finished: Path, small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_in(tmp_path)
    shutil.copytree(finished, folder)
    (folder / "test").mkdir()
    (folder / "test" / "metrics.json").write_text("of the old run")
    broken_off(small_folder, tmp_path, 1, "interrupt", *OVERWRITE)
    monkeypatch.setattr(Stop, "armed", False)
    assert main(["fit", str(folder / "replacement")]) == 0
    assert not (folder / "replacement").exists() and not (folder / "test").exists()
    assert metric(folder) == metric(finished) and read(folder)["epochs"] == 2


def test_an_exchange_that_was_killed_is_ended_by_the_next_fit(finished: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "run", tmp_path / "other"
    shutil.copytree(finished, new)
    for state in (folder_life.DONE, folder_life.MOVING):
        shutil.copytree(finished, old)
        (old / "metrics.json").write_text("{}")
        shutil.copytree(new, old / state)
        if state == folder_life.MOVING:  # killed when the old one was away and the first file had come
            folder_life.clear(old)
            os.replace(old / state / "config.yaml", old / "config.yaml")
        folder_life.finish_replacement(old)
        assert files(old) == files(new)
        shutil.rmtree(old)


def test_a_replaced_run_goes_on_as_if_it_had_always_been_there(
    finished: Path, small_folder: Path, tmp_path: Path
) -> None:
    """Lightning keeps in the checkpoint where the best one lies, and forgets the best where that has changed."""
    folder = run_in(tmp_path)
    shutil.copytree(finished, folder)
    assert fit(small_folder, tmp_path, *OVERWRITE, "--early_stopping.min_delta", "0.0") == 0
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]
    best = next(value for value in state.values() if value.get("best_model_score") is not None)
    assert "replacement" in best["dirpath"]
    assert main(["fit", str(folder), "--trainer.max_epochs", "3", "--model.optimization.lr", "0.001"]) == 0
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]
    again = next(value for value in state.values() if value.get("best_model_score") is not None)
    assert again["best_model_score"] >= best["best_model_score"]
    assert again["dirpath"] == str(folder / "checkpoints") and list(again["best_k_models"]) == [
        again["best_model_path"]
    ]


# -- checkpoints are whole ---------------------------------------------------------------------------------------------


def test_a_checkpoint_is_whole_or_the_old_one_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, files = tmp_path / "checkpoints" / "best.ckpt", WholeCheckpoints()
    files.save_checkpoint({"state": torch.ones(3)}, path)
    before = path.read_bytes()

    def full(value: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        files.save_checkpoint({"state": torch.zeros(3)}, path)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == ["best.ckpt"]


def test_ctrl_c_while_a_checkpoint_is_written_is_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch ends its archive all the same, and says that it is not whole."""
    path = tmp_path / "checkpoints" / "best.ckpt"

    def stopped(*_: Any) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("unexpected pos 33472 vs 33392")

    monkeypatch.setattr(torch, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        WholeCheckpoints().save_checkpoint({"state": torch.ones(3)}, path)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize(
    "plugin", [[], ["--trainer.plugins", "lightning.pytorch.plugins.io.AsyncCheckpointIO"]], ids=["", "in a thread"]
)
def test_every_checkpoint_of_a_fit_is_written_so(
    plugin: list[str], small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    told = WholeCheckpoints.save_checkpoint
    monkeypatch.setattr(
        WholeCheckpoints,
        "save_checkpoint",
        lambda self, checkpoint, path, **k: (written.append(Path(path).name), told(self, checkpoint, path, **k))[1],
    )
    extra = ["--trainer.callbacks", "ModelCheckpoint", "--trainer.callbacks.filename", "mine", *plugin]
    extra += ["--trainer.callbacks.dirpath", str(tmp_path / "mine")]
    assert fit(small_folder, tmp_path, *extra, "--trainer.max_epochs", "1") == 0
    assert set(written) == {"best.ckpt", "last.ckpt", "mine.ckpt"}


# -- names and links ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--run.variant", "a/b"], ["--run.variant", "separators"]),
        (["--run.variant", "../../esc"], ["--run.variant", "separators"]),
        (["--run.variant", "a\\b"], ["--run.variant", "separators"]),
        (["--run.study", ".."], ["--run.study", "'..'"]),
        (["--run.study", "../esc"], ["--run.study", "separators"]),
        (["--run.variant", "a\nb"], ["--run.variant", "control character"]),
        (["--run.variant", "a\x7fb"], ["--run.variant", "control character"]),
        (["--run.variant", "v" * 121], ["--run.variant", "121 bytes", "120"]),
        (["--run.variant", "é" * 61], ["--run.variant", "122 bytes"]),
        (["--run.variant", " "], ["--run.variant"]),
        (["--run.folder", "runs/../../x"], ["--run.folder", "'..'"]),
        (["--run.folder", "runs/a\tb"], ["--run.folder", "control character"]),
        (["--run.folder", "x" * 300], ["--run.folder", "300 bytes"]),
        (["--run.folder", ""], ["--run.folder", "empty"]),
        (["--run.root", "r" * 200], ["--run.root", "200 bytes"]),
    ],
)
def test_names_that_no_folder_should_have(
    arguments: list[str],
    expected: list[str],
    small_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *TINY, "--data.dataset", str(small_folder), *arguments]) == 2
    text = capsys.readouterr().err
    assert all(part in text for part in expected) and len(text.splitlines()) == 1, text
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_one_line(
    small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main(["fit", *TINY, "--data.dataset", str(small_folder), "--run.folder", str(folder)]) == 2
        text = capsys.readouterr().err
        assert f"can't make the run folder {folder}" in text and len(text.splitlines()) == 1


def test_folders_that_are_links_are_read(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to(finished)
    (tmp_path / "study").symlink_to(finished.parent)
    (tmp_path / "circle").symlink_to(tmp_path)
    runs, problems = find_runs([tmp_path])
    assert [run.folder.resolve() for run in runs] == [finished.resolve()] and not problems
    runs, _ = find_runs([tmp_path / "one", finished])
    assert len(runs) == 1


def test_a_fit_in_another_thread(small_folder: Path, tmp_path: Path) -> None:
    codes: list[int] = []
    work = threading.Thread(target=lambda: codes.append(fit(small_folder, tmp_path, "--trainer.max_epochs", "1")))
    work.start()
    work.join()
    assert codes == [0] and (run_in(tmp_path) / "ranks.parquet").is_file()
