"""Files of a stranger: a run folder or a checkpoint executes nothing. A canary is a file that any try would leave.

SECURITY.md names these tests.
"""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small_data import made_events, prepared

from recsys_lab.cli import main
from recsys_lab.config import from_config
from recsys_lab.contracts import Loss, NegativeSampler
from recsys_lab.losses import CrossEntropy
from recsys_lab.models import SASRec
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.words import RecsysLabError

QUICK = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--trainer.max_epochs", "1"]
TRIED: Counter[str] = Counter()
TINY = ["--model", "SASRec", "--model.embedding_dim", "4", "--model.num_layers", "1", "--data.max_length", "5"]


@pytest.fixture(scope="module")
def made_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run and its data."""
    folder = tmp_path_factory.mktemp("made")
    prepared(folder / "data" / "small", made_events())
    where = ["--data.data_dir", str(folder / "data"), "--data.dataset", "small", "--run.folder", str(folder / "run")]
    assert main(["fit", *TINY, *QUICK, *where]) == 0
    return folder


@pytest.fixture
def place(made_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the run in a working folder of its own, beside a module that leaves the canary when it is imported."""
    shutil.copytree(made_run / "run", tmp_path / "run")
    canary = tmp_path / "canary"
    body = f"open({str(canary)!r}, 'w')\nclass Loss: pass\ndef call(*a, **k): open({str(canary)!r}, 'w')\n"
    (tmp_path / "evil.py").write_text(body)
    (tmp_path / "evil_package").mkdir()
    (tmp_path / "evil_package" / "__init__.py").write_text(body)
    (tmp_path / "sub.yaml").write_text("class_path: evil.Loss\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])  # the worst case: it could be imported
    yield tmp_path
    imported = {"evil", "evil_package"} & sys.modules.keys()
    TRIED["run" if imported or canary.exists() else "refused"] += 1
    assert not imported, "it was imported"
    assert not canary.exists(), "something was run"


def shell(place: Path) -> dict[str, Any]:
    return {"class_path": "os.system", "init_args": {"command": f"touch {place / 'canary'}"}}


TRIES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "os.system": shell,
    "posix.system": lambda p: shell(p) | {"class_path": "posix.system"},
    "subprocess.Popen": lambda p: {
        "class_path": "subprocess.Popen",
        "init_args": {"args": ["touch", str(p / "canary")]},
    },
    "pathlib.Path.touch": lambda p: {"class_path": "pathlib.Path.touch", "init_args": {"self": str(p / "canary")}},
    "builtins.open": lambda p: {"class_path": "builtins.open", "init_args": {"file": str(p / "canary"), "mode": "w"}},
    "builtins.exec": lambda p: {"class_path": "builtins.exec", "init_args": {"source": "import evil"}},
    "importlib.import_module": lambda p: {"class_path": "importlib.import_module", "init_args": {"name": "evil"}},
    "a module beside the user": lambda p: {"class_path": "evil.Loss", "init_args": {}},
    "a package beside the user": lambda p: {"class_path": "evil_package.Loss"},
    "a function of it": lambda p: {"class_path": "evil.call"},
    "through recsys_lab": lambda p: shell(p) | {"class_path": "recsys_lab.runs.fit.trainer_checks.os.system"},
    "importlib through recsys_lab": lambda p: {
        "class_path": "recsys_lab.config.importlib.import_module",
        "init_args": {"name": "evil"},
    },
    "a foreign class of recsys_lab's module": lambda p: {
        "class_path": "recsys_lab.study.launch.job.subprocess.Popen",
        "init_args": {"args": ["touch", str(p / "canary")]},
    },
    "a function of recsys_lab": lambda p: {
        "class_path": "recsys_lab.runs.folder.write_text",
        "init_args": {"path": str(p / "canary"), "text": "x"},
    },
    "a class of recsys_lab of another type": lambda p: {"class_path": "recsys_lab.runs.folder.RunFolder"},
    "torch.load": lambda p: {"class_path": "torch.load", "init_args": {"f": str(p / "evil.pt"), "weights_only": False}},
    "no dotted name": lambda p: {"class_path": "system"},
    "not a text": lambda p: {"class_path": ["os", "system"]},
    "spaces and dots": lambda p: {"class_path": "..evil..Loss"},
}
PLACES = ("model", "loss", "negatives", "optimization", "dropout")


def with_config(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["model_config"] = change(copy.deepcopy(checkpoint["model_config"]))
    torch.save(checkpoint, path)


def put(config: dict[str, Any], where: str, what: dict[str, Any]) -> dict[str, Any]:
    return what if where == "model" else {**config, "init_args": {**config["init_args"], where: what}}


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("name", TRIES)
def test_a_checkpoint_names_a_callable(name: str, where: str, place: Path) -> None:
    path = place / "run" / "checkpoints" / "best.ckpt"
    with_config(path, lambda config: put(config, where, TRIES[name](place)))
    for cls in (NextItemModule, SASRec):
        with pytest.raises(RecsysLabError):
            cls.load_from_checkpoint(path)


@pytest.mark.parametrize("command", ["verify", "diagnose shuffle", "diagnose calibration", "test", "predict", "fit"])
@pytest.mark.parametrize("where", ["model", "loss"])
def test_commands_read_such_a_checkpoint(
    command: str, where: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in ("best.ckpt", "last.ckpt"):
        with_config(place / "run" / "checkpoints" / file, lambda config: put(config, where, TRIES["os.system"](place)))
    main([*command.split(), "run"])  # the fixture looks whether anything was run
    assert "Traceback" not in capsys.readouterr().err


CONFIG_PLACES = {
    "model": ("model",),
    "loss": ("model", "init_args", "loss"),
    "negatives": ("model", "init_args", "negatives"),
    "optimization": ("model", "init_args", "optimization"),
    "split": ("data", "split"),
    "prepare": ("data", "prepare"),
    "measures": ("evaluation", "measures"),
    "callbacks": ("trainer", "callbacks"),
    "logger": ("trainer", "logger"),
    "strategy": ("trainer", "strategy"),
    "accelerator": ("trainer", "accelerator"),
    "plugins": ("trainer", "plugins"),
    "profiler": ("trainer", "profiler"),
    "max_epochs": ("trainer", "max_epochs"),
    "whole section": ("data",),
}
FORMS: dict[str, Callable[[Path], Any]] = {
    "class_path": lambda p: {"class_path": "evil.Loss"},
    "shell": shell,
    "in a list": lambda p: [{"class_path": "evil.Loss"}],
    "a text": lambda p: "evil.Loss",
    "a text with a list": lambda p: "[evil.Loss]",
    "a text with a mapping": lambda p: "{class_path: evil.Loss}",
    "a file of settings": lambda p: "sub.yaml",
    "below a class of ours": lambda p: {
        "class_path": "recsys_lab.losses.BPRMax",
        "init_args": {"regularization": {"class_path": "evil.Loss"}},
    },
    "dict_kwargs": lambda p: {
        "class_path": "lightning.pytorch.loggers.CSVLogger",
        "init_args": {"save_dir": "x"},
        "dict_kwargs": {"more": {"class_path": "evil.Loss"}},
    },
    "a hook": lambda p: {
        "class_path": "lightning.pytorch.callbacks.LambdaCallback",
        "init_args": {"on_test_start": "evil.call"},
    },
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("where", CONFIG_PLACES)
def test_a_run_folder_names_a_callable(where: str, form: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place / "run" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    *above, last = CONFIG_PLACES[where]
    node = config
    for name in above:
        node = node[name]
    node[last] = FORMS[form](place)
    path.write_text(yaml.safe_dump(config))
    commands = (
        ["test"] if form != "class_path" else ["test", "predict", "validate", "fit", "verify", "diagnose shuffle"]
    )
    for command in commands:
        code = main([*command.split(), "run"])
        said = capsys.readouterr().err
        # what a command does not read, it need not refuse: `verify` takes its model from the checkpoint
        assert code in (1, 2) or command in ("verify", "diagnose shuffle"), said
        assert "Traceback" not in said


YAML_TAGS = (
    "!!python/object/apply:os.system ['touch canary']",
    "!!python/object/new:os.system ['touch canary']",
    "!!python/name:evil.call",
    "!!python/module:evil",
    "!!python/object:evil.Loss {}",
    "!!python/object/apply:subprocess.Popen [[touch, canary]]",
)


@pytest.mark.parametrize("tag", YAML_TAGS)
def test_yaml_tags(tag: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"model: {tag}\ndata: {{dataset: small}}\n"
    (place / "run" / "config.yaml").write_text(text)
    (place / "mine.yaml").write_text(text)
    study = f"question: x\nbase: {tag}\naxes: {{model: [{tag}]}}\n"
    (place / "study.yaml").write_text(study)
    for arguments in (
        ["fit", "--config", "mine.yaml"],
        ["test", "run"],
        ["fit", "run"],
        ["verify", "run"],
        ["diagnose", "shuffle", "run"],
        ["study", "plan", "study.yaml"],
    ):
        assert main(arguments) in (1, 2)
        assert "Traceback" not in capsys.readouterr().err


class Shell:
    def __reduce__(self) -> Any:
        return os.system, ("touch canary",)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("how", ["load", "test", "predict", "verify", "fit", "weights_only false"])
def test_pickles(how: str, legacy: bool, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("best.ckpt", "last.ckpt"):
        path = place / "run" / "checkpoints" / name
        checkpoint = torch.load(path, weights_only=True)
        checkpoint["hyper_parameters"] = Shell()
        torch.save(checkpoint, path, _use_new_zipfile_serialization=not legacy)
    if how == "load":
        with pytest.raises(RecsysLabError) as caught:
            NextItemModule.load_from_checkpoint(path)
        said = str(caught.value)
    else:
        more = ["--weights_only", "false"] if how == "weights_only false" else []
        assert main(["test" if more else how, "run", *more]) in (1, 2)
        said = capsys.readouterr().err
    assert "Traceback" not in said and "Re-running" not in said and "WeightsUnpickler" not in said
    assert len(said.strip().splitlines()) <= 12 and "weights_only=False" not in said


def test_a_plain_pickle_is_no_checkpoint(place: Path) -> None:
    path = place / "plain.ckpt"
    path.write_bytes(pickle.dumps(Shell()))
    with pytest.raises(RecsysLabError, match="plain.ckpt is not a checkpoint of recsys_lab"):
        NextItemModule.load_from_checkpoint(path)


def test_what_is_allowed_is_imported_and_what_is_of_the_wrong_type_is_not_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_me.py").write_text(
        "from recsys_lab.losses import BPRMax\nclass Mine(BPRMax): pass\ndef make(): raise SystemExit('called')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RecsysLabError, match="--allow_classes beside_me.Mine"):
        from_config({"class_path": "beside_me.Mine"}, Loss)
    assert "beside_me" not in sys.modules
    assert type(from_config({"class_path": "beside_me.Mine"}, Loss, ["beside_me.Mine"])).__name__ == "Mine"
    with pytest.raises(RecsysLabError, match="is not a class of the type NegativeSampler"):
        from_config({"class_path": "beside_me.Mine"}, NegativeSampler, ["beside_me"])
    with pytest.raises(RecsysLabError, match="is not a class of the type Loss"):
        from_config({"class_path": "beside_me.make"}, Loss, ["beside_me"])
    assert isinstance(from_config({"class_path": "recsys_lab.losses.CrossEntropy"}, Loss), CrossEntropy)
    monkeypatch.delitem(sys.modules, "beside_me")


def test_an_encoder_of_the_user_runs_from_its_folder_with_leave(
    made_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_own.py").write_text("from recsys_lab.models import SASRec\nclass Mine(SASRec): pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    where = ["--data.data_dir", str(made_run / "data"), "--data.dataset", "small", "--run.folder", "own"]
    assert main(["fit", "--model", "my_own.Mine", *TINY[2:], *QUICK, *where]) == 0
    monkeypatch.delitem(sys.modules, "my_own")
    capsys.readouterr()
    as_console_script = [path for path in sys.path if path not in ("", str(tmp_path))]  # it has no current folder
    for command in ("test", "validate", "predict", "verify", "fit"):
        monkeypatch.setattr(sys, "path", list(as_console_script))
        assert main([command, "own"]) == 2, command
        out, err = capsys.readouterr()
        assert "my_own.Mine" in err and "--allow_classes my_own.Mine" in err and "my_own" not in sys.modules
        assert "is not what it says" not in err and "RecsysLabError" not in out + err and "FAILED" not in out
        assert main([command, "own", "--allow_classes", "my_own.Mine"]) == 0, capsys.readouterr().err
        monkeypatch.delitem(sys.modules, "my_own")


@pytest.mark.parametrize("command", ["fit", "test", "verify", "diagnose shuffle", "compare", "slices", "study plan"])
def test_help_names_the_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    assert "--allow_classes" in capsys.readouterr().out


SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "AWS_ACCESS_KEY_ID": "AKIAMADEUPFORTESTS00",
    "AWS_SECRET_ACCESS_KEY": "madeup/secret+for/tests0123456789abcdefghij",
    "AWS_SESSION_TOKEN": "madeup-session-token",
    "HF_TOKEN": "hf_madeupfortests",
    "DATABASE_URL": "postgresql://anna:geheim-madeup@host/db",
}


@pytest.mark.process
def test_keys_of_the_environment_stand_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run with each logger, its test, its recommendations, and a study with its report."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_MODE", "offline")
    prepared(tmp_path / "data" / "small", made_events())
    monkeypatch.chdir(tmp_path)
    where = ["--data.data_dir", "data", "--data.dataset", "small"]
    for logger in ("tensorboard", "wandb"):
        assert main(["fit", *TINY, *QUICK, *where, "--run.folder", logger, "--run.logger", logger]) == 0
    assert main(["predict", "tensorboard"]) == 0
    (tmp_path / "study.yaml").write_text(
        "name: s\nbase: {model: SASRec, model.embedding_dim: 4, model.num_layers: 1, data.dataset: small, "
        "data.data_dir: data, data.max_length: 5, trainer.max_epochs: 1, trainer.accelerator: cpu}\nseeds: 1\n"
        "axes: {layers: {one: {model.num_layers: 1}}}\n"
    )
    assert main(["study", "run", "study.yaml", "--workers", "1"]) == 0
    assert main(["study", "report", "study.yaml", "--no-baselines"]) == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 30
    for path in files:
        content = path.read_bytes()
        for name, value in SECRETS.items():
            assert value.encode() not in content, f"{name} stands in {path.relative_to(tmp_path)}"


def test_the_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """Last in this file: of the tries above that this process made."""
    with capsys.disabled():
        print(f"\nfolders and checkpoints that name code: {TRIED['refused']} tries refused, {TRIED['run']} run")
    assert not TRIED["run"]
