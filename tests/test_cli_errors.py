"""What a user who mistypes reads: the key, what was probably meant, what is known; exit code 2 and no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys_lab.cli import main


def failing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The error text of a command that must fail with exit code 2."""
    code = main(arguments)
    text = capsys.readouterr().err
    assert code == 2, text
    assert "Traceback" not in text
    assert len(text.splitlines()) <= 6, "an error is a few lines, not a usage dump"
    return text


TEMPORAL = ["--model", "SASRec", "--run.root", "nowhere", "--data.split", "GlobalTemporal"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--model", "SASRec", "--model.embeding_dim", "8"], ["'embeding_dim'", "Did you mean 'embedding_dim'?"]),
        (
            ["--model", "SASRec", "--model.embedding_dim", "wide"],
            ["--model.embedding_dim must be a whole", "'wide'"],
        ),
        (["--model", "SASRek"], ["unknown class 'SASRek'", "Did you mean 'SASRec'?", "GRU4Rec", "LSTMAttention"]),
        (["--model", "my_package.MyEncoder"], ["model", "my_package"]),
        (["--model", "SASRec", "--model.loss", "CrossEntropi"], ["model.loss", "Did you mean 'CrossEntropy'?"]),
        (["--model", "SASRec", "--data.max_lenght", "9"], ["'data.max_lenght'", "Did you mean 'max_length'?"]),
        (["--model", "SASRec", "--data.max_length", "long"], ["data.max_length", "long"]),
        (["--model", "SASRec", "--data.split", "LeaveTwoOut"], ["data.split", "LeaveOneOut", "GlobalTemporal"]),
        ([*TEMPORAL, "--data.split.users", "hot"], ["data.split.users", "'all', 'warm'", "hot"]),
        (
            [*TEMPORAL, "--data.split.test_window", "week"],
            ["data.split.test_window must be", "like 7d", "'week'"],
        ),
        ([*TEMPORAL, "--data.split.quantile", ".9", "--data.split.test_window", "7d"], ["quantile and test_window"]),
        (["--model", "SASRec", "--trainer.max_epoch", "9"], ["'trainer.max_epoch'", "Did you mean 'max_epochs'?"]),
        (["--model", "SASRec", "--modle.dropout", "0.1"], ["'modle'", "Did you mean 'model'?"]),
        (["--model", "SASRec", "--data.exclude_seen", "all"], ["data.exclude_seen", "history"]),
        (["--model.embedding_dim", "8"], ["name the class first", "SASRec"]),
        (["--model", "SASRec", "--model.optimization.lrr", "1"], ["model.optimization", "'lrr'", "Did you mean 'lr'?"]),
        (["--model", "SASRec", "--data.prepare.min_length_", "1"], ["'min_length_'", "Did you mean 'min_length'?"]),
        ([], ["model"]),
        (["--config", "no_such.yaml"], ["no_such.yaml"]),
        (["no_such_run"], ["no_such_run", "config.yaml"]),
    ],
)
def test_mistyped_options(arguments: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    text = failing(["fit", *arguments], capsys)
    for part in expected:
        assert part in text


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        ("model: {class_path: SASRec, init_args: {embeding_dim: 3}}", ["SASRec has no key 'embeding_dim'", "dropout"]),
        ("model: {class_path: SASRec}\ntrainer: {max_epoch: 3}", ["'trainer.max_epoch'", "'max_epochs'"]),
        ("modle: {class_path: SASRec}", ["'modle'", "'model'"]),
        ("model: {class_path: SASRec, init_args: {loss: {class_path: BPRR}}}", ["model.loss", "'BPRR'", "BPR"]),
        ("model: {class_path: SASRec", ["mapping"]),
    ],
)
def test_mistyped_files(yaml: str, expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.yaml").write_text(yaml)
    text = failing(["fit", "--config", str(tmp_path / "run.yaml")], capsys)
    for part in expected:
        assert part in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["fitt"], ["unknown command 'fitt'", "'fit'", "compare"]),
        (["prepare"], ["--input"]),
        (["prepare", "ml-100kk"], ["'ml-100kk'", "ml-100k"]),
        (["prepare", "ml-100k", "--user-column", "u"], ["--user_column", "--input"]),
        (["prepare", "ml-100k", "--min-user-event", "5"], ["--min-user-event", "--min_user_events"]),
        (["prepare", "ml-100k", "--tie-order", "alphabet"], ["--tie-order", "hash", "alphabet"]),
        (["compare", "nowhere"], ["nowhere", "does not exist"]),
        (["sources", "all"], ["no arguments"]),
        (["test", "--model", "SASRec"], ["RUN_FOLDER", "--ckpt_path"]),
        (["test", "--model", "SASRec", "--ckpt_path", "gone.ckpt"], ["no checkpoint at gone.ckpt"]),
    ],
)
def test_other_commands(arguments: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    text = failing(arguments, capsys)
    for part in expected:
        assert part in text


def test_unknown_data_set_is_found_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fit", "--model", "SASRec", "--data.dataset", "ml-99k", "--data.data_dir", str(tmp_path)]
    text = failing([*arguments, "--run.root", str(tmp_path / "runs")], capsys)
    assert "'ml-99k'" in text and "ml-100k" in text


def test_foreign_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "some.ckpt").write_bytes(b"not a checkpoint")
    assert "some.ckpt" in failing(["test", "--model", "SASRec", "--ckpt_path", str(tmp_path / "some.ckpt")], capsys)


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "compare" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("recsys-lab ")
    assert main([]) == 2
    assert main(["fit", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--trainer.max_epochs" in shown and "--data.max_length" in shown and "--run.variant" in shown


def test_sources_lists_every_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sources"]) == 0
    shown = capsys.readouterr().out
    for name in ("ml-100k", "ml-1m", "steam", "synthetic", "yoochoose"):
        assert f"\n{name}\n  licence  " in shown


CLASS = "from recsys_lab.contracts import Loss\n\nclass Small(Loss):\n    pass\n\nclass Other:\n    pass\n"


@pytest.mark.parametrize(
    ("option", "typed", "expected"),
    [
        ("model", "mine/own.py", "model: mine/own.py is a path, and a class is named with dots, from where you are: "
         "mine.own.Small, mine.own.Other"),
        ("model", "./mine/own.py", "from where you are: mine.own.Small, mine.own.Other"),
        ("model", "mine/own.py:Small", "from where you are: mine.own.Small, mine.own.Other"),
        ("model", "mine/other.py", "mine/other.py is a path, and a class is named with dots, from where you are: "
         "mine.other.NAME"),
        ("model", "mine/own", "mine/own is a path, and a class is named with dots, from where you are: mine.own.NAME"),
        ("model.loss", "mine/own.py", "model.loss: mine/own.py is a path"),
        ("model.negatives", "mine/own.py", "model.negatives: mine/own.py is a path"),
        ("model.task", "mine/own.py", "model.task: mine/own.py is a path"),
        ("data.split", "mine/own.py", "data.split: mine/own.py is a path"),
        ("evaluation.metrics+", "mine/own.py", "evaluation.metrics: mine/own.py is a path"),
        ("evaluation.measures+", "mine/own.py", "evaluation.measures: mine/own.py is a path"),
        ("model", "mine.own.Other", "model: mine.own.Other is no class of the type NextItemModule"),
        ("model.loss", "mine.own.Small", "model.loss: mine.own.Small must define forward"),
    ],
)  # fmt: skip
def test_own_classes_that_are_named_wrongly(
    option: str, typed: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own.py").write_text(CLASS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    model = [] if option == "model" else ["--model", "SASRec"]
    assert expected in failing(["fit", *model, f"--{option}", typed], capsys)
