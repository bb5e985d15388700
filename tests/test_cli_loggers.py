"""W&B and TensorBoard: what a run stores is read back from its files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_cli_runs import TINY, fit
from wandb_files import offline_runs, stored

from recsys_lab.cli import main
from recsys_lab.runs.fit.loggers import ROWS_PER_PART, _go_on_counting, log_report, make_logger
from recsys_lab.runs.run_settings import RunSettings


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")


VARIANT = "sasrec_" + "x" * 100
"""Longer than what W&B takes as a tag."""


@pytest.fixture(scope="module")
def logged(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with an offline W&B run; tests only read it."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_MODE", raising=False)
        patch.setenv("WANDB_SILENT", "true")
        assert fit(small_folder, root, "--run.logger", "wandb", "--run.variant", VARIANT) == 0
        assert "WANDB_MODE" not in os.environ, "the next run of this process is to choose for itself"
    return root / "small" / VARIANT / "seed0"


@pytest.fixture
def copied(logged: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(logged, tmp_path / "small" / VARIANT / "seed0"))


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_wandb_offline(logged: Path, small_folder: Path) -> None:
    (folder,) = offline_runs(logged)
    run, manifest, metrics = stored(folder), read(logged / "manifest.json"), read(logged / "metrics.json")
    assert run["run"].project == "small" and run["run"].display_name == f"{VARIANT}-seed0"
    assert run["run"].run_group == VARIANT and run["run"].job_type == "fit"
    assert run["config"]["model"]["init_args"]["embedding_dim"] == 8
    assert run["config"]["data"]["dataset"] == str(small_folder)
    assert run["summary"]["test/ndcg@10"] == pytest.approx(metrics["test/ndcg@10"])
    assert run["summary"]["val/ndcg@10"] == pytest.approx(metrics["val/ndcg@10"])
    assert run["summary"]["stopped_by"] == "max_epochs" and run["summary"]["parameters"] == manifest["parameters"]
    assert sum("val/ndcg@10" in row for row in run["history"]) == 2, "one value per epoch"
    for name in ("ndcg", "hit_rate", "mrr"):
        low, high = (run["summary"][f"test/{name}@10_{end}"] for end in ("low", "high"))
        assert low <= metrics[f"test/{name}@10"] <= high and low < high
    assert run["exit_code"] == 0


def test_wandb_knows_seed_data_and_commit(logged: Path) -> None:
    config, manifest = stored(offline_runs(logged)[0])["config"], read(logged / "manifest.json")
    for name in ("data_hash", "split_hash", "vocabulary_hash"):
        assert config[name] == manifest["evaluation"][name]
    assert config.get("commit") == manifest["commit"]
    assert (config["seed"], config["study"], config["variant"]) == (0, "small", VARIANT)


def test_a_resumed_run_is_one_run_in_wandb(copied: Path) -> None:
    """Two offline directories with one id, whose rows `wandb sync` can put behind each other."""
    folder = copied
    assert main(["fit", str(folder), "--trainer.max_epochs", "4"]) == 0
    parts = [stored(part) for part in offline_runs(folder)]
    ids = [part["run"].run_id for part in parts]
    assert len(ids) == 2 and set(ids) == {(folder / "wandb" / "run_id").read_text().strip()}
    rows = [row for part in parts for row in part["history"]]
    steps = [row["_step"] for row in rows]
    assert steps == sorted(set(steps)), "row numbers only grow, or W&B drops rows"
    assert {row["epoch"] for row in rows if "val/ndcg@10" in row} == {0, 1, 2, 3}
    assert parts[1]["summary"]["val/ndcg@10"] == pytest.approx(read(folder / "metrics.json")["val/ndcg@10"])


def test_parts_of_one_second_are_counted(tmp_path: Path) -> None:
    """W&B names directories by the second, and adds -1, -2, ... to what was started in the same one."""
    rows: list[int] = []

    class Run:
        id, offline, dir = "5ec1dc74", True, str(tmp_path / "offline-run-20261124_140003-5ec1dc74-1" / "files")

        def log(self, row: dict[str, Any], step: int) -> None:
            rows.append(step)

    Path(Run.dir).mkdir(parents=True)
    _go_on_counting(Run())
    (tmp_path / "offline-run-20261124_140003-5ec1dc74").mkdir()
    _go_on_counting(Run())
    assert rows == [ROWS_PER_PART]


def test_a_replaced_run_is_another_run(copied: Path, small_folder: Path, tmp_path: Path) -> None:
    folder = copied
    first = (folder / "wandb" / "run_id").read_text()
    replaced = ["--run.logger", "wandb", "--run.variant", VARIANT, "--run.overwrite", "true"]
    assert fit(small_folder, tmp_path, *replaced) == 0
    assert (folder / "wandb" / "run_id").read_text() != first
    assert len(offline_runs(folder)) == 1, "nobody syncs what was replaced"


def test_a_report_is_an_artifact_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "report" / "figures").mkdir(parents=True)
    (tmp_path / "report" / "report.html").write_text("<h1>which?</h1>")
    (tmp_path / "report" / "figures" / "ranking.svg").write_text("<svg/>")
    assert log_report("my losses", tmp_path / "report", tmp_path) == "my-losses-report"
    assert "WANDB_MODE" not in os.environ
    run = stored(offline_runs(tmp_path)[0])
    assert run["run"].project == "my losses" and run["run"].job_type == "report" and run["exit_code"] == 0
    (artifact,) = run["artifacts"]
    assert artifact.name == "my-losses-report" and artifact.type == "report"
    assert {entry.path for entry in artifact.manifest.contents} == {"report.html", "figures/ranking.svg"}


@pytest.mark.process
def test_offline_means_no_connection(small_folder: Path, tmp_path: Path) -> None:
    """Every address that the run could try leads to a server on this machine that counts; an online run calls it."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            requests.append(self.path)
            self.send_error(403)

        do_GET = do_POST = do_PUT = do_CONNECT = answer

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        proxies = {"HTTPS_PROXY": url, "HTTP_PROXY": url, "NO_PROXY": ""}
        environment = {**os.environ, "WANDB_BASE_URL": url, "WANDB_API_KEY": "a" * 40, **proxies}
        command = [sys.executable, "-m", "recsys_lab.cli", "fit", *TINY, "--data.dataset", str(small_folder)]
        command += ["--run.root", str(tmp_path), "--run.logger", "wandb"]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        assert requests == []
        sync = [sys.executable, "-m", "wandb", "sync", str(tmp_path / "small" / "sasrec" / "seed0" / "wandb")]
        subprocess.run(sync, env=environment, cwd=tmp_path, capture_output=True, timeout=300)
        assert requests, "`wandb sync` would have been counted"
        server.shutdown()


@pytest.mark.process
def test_two_processes_make_one_wandb_run(small_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recsys_lab.cli", "fit", *TINY, "--data.dataset", str(small_folder)]
    command += ["--run.root", str(tmp_path), "--run.logger", "wandb"]
    command += ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (folder,) = offline_runs(tmp_path / "small" / "sasrec" / "seed0")
    run = stored(folder)
    assert run["run"].run_id == (folder.parent / "run_id").read_text().strip()
    assert run["exit_code"] == 0 and "test/ndcg@10" in run["summary"]


@pytest.mark.parametrize("given", ["online", "disabled", "dryrun", "offline", None])
def test_mode(given: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if given is not None:
        monkeypatch.setenv("WANDB_MODE", given)
    config = {"seed_everything": 0, "model": {}}
    logger: Any = make_logger(RunSettings(study="s", variant="v", logger="wandb"), tmp_path, config)
    meant = given if given in ("online", "disabled") else "offline"
    assert logger._wandb_init["mode"] == meant
    assert logger._wandb_init["resume"] == ("allow" if meant == "online" else None)


def test_any_logger_of_lightning_gets_the_facts(small_folder: Path, tmp_path: Path) -> None:
    given = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", str(tmp_path / "csv")]
    assert fit(small_folder, tmp_path, *given) == 0
    manifest = read(tmp_path / "small" / "sasrec" / "seed0" / "manifest.json")
    (file,) = (tmp_path / "csv").rglob("hparams.yaml")
    facts = yaml.safe_load(file.read_text())
    assert facts["data_hash"] == manifest["evaluation"]["data_hash"] and facts["seed"] == 0


def test_tensorboard(small_folder: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    assert fit(small_folder, tmp_path, "--run.logger", "tensorboard") == 0
    folder = tmp_path / "small" / "sasrec" / "seed0"
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    manifest, metrics = read(folder / "manifest.json"), read(folder / "metrics.json")
    assert [event.value for event in events.Scalars("final/test/ndcg@10")] == [pytest.approx(metrics["test/ndcg@10"])]
    assert len(events.Scalars("val/ndcg@10")) == 2
    low, high = (events.Scalars(f"final/test/ndcg@10_{end}")[0].value for end in ("low", "high"))
    assert low <= metrics["test/ndcg@10"] <= high and low < high
    start = HParamsPluginData.FromString(events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
    values = start.session_start_info.hparams
    assert values["variant"].string_value == "sasrec" and values["seed"].number_value == 0
    assert values["data_hash"].string_value == manifest["evaluation"]["data_hash"]
    assert values["model/init_args/embedding_dim"].number_value == 8
    assert fit(small_folder, tmp_path, "--run.logger", "tensorboard", "--run.overwrite", "true") == 0
    again = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert len(again.Scalars("val/ndcg@10")) == 2, "no curve of the replaced run"


@pytest.mark.process
def test_loggers_are_imported_only_when_chosen() -> None:
    code = "import sys, recsys_lab.runs.fit.command_line; print({'wandb', 'tensorboard'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_unknown_logger(small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(small_folder, tmp_path, "--run.logger", "wandbb") == 2
    assert "run.logger" in capsys.readouterr().err
    assert main(["fit", "--model", "SASRec", "--run.logger", "wandb", "--print_config"]) == 0
