"""Studies whose runs are stubs, and workers for them, here or in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from recsys_lab.study.launch.job import Job, can_resume
from recsys_lab.study.launch.local import Places
from recsys_lab.study.plan import Study, read_study
from recsys_lab.study.plan.study_settings import Checked
from recsys_lab.study.plan.variants import make_variants
from recsys_lab.study.tune.best import write_tuning
from recsys_lab.study.tune.journal import Journal
from recsys_lab.study.tune.results import TuningResults, read_tuning
from recsys_lab.study.tune.searches import Search, make_searches
from recsys_lab.study.tune.tune_settings import TuneSettings, read_settings
from recsys_lab.study.tune.worker import Worker

STUB = Path(__file__).with_name("stub_fit.py")
SPACE = {"model.dropout": {"low": 0.0, "high": 0.5}}


def stub_command(job: Job) -> list[str]:
    """In the place of `Job.command`."""
    return [sys.executable, str(STUB), *([] if can_resume(job.folder) else ["--config"]), str(job.folder)]


class FlatResolver:
    """Knows no parser: settings stay dotted. A key is unknown when it ends with `typo`, a value bad when it is -1."""

    def compose(self, settings: list[dict[str, Any]], start: dict[str, Any] | None = None) -> dict[str, Any]:
        found: dict[str, Any] = dict(start or {})
        for layer in settings:
            for file in layer.get("config", []):
                found |= yaml.safe_load(Path(file).read_text())
            found |= {key: value for key, value in layer.items() if key != "config"}
        modes = {"mode": found.pop("checkpoint.mode")} if "checkpoint.mode" in found else {}
        return {**found, "checkpoint": {**found.get("checkpoint", {}), **modes}}

    def check(self, configs: list[dict[str, Any]]) -> list[Checked]:
        found = []
        for config in configs:
            bad = [key for key, value in config.items() if key.endswith("typo") or value == -1]
            text = json.dumps(config, sort_keys=True).encode().hex()
            found.append(Checked(error=f"{bad[0]} can't be") if bad else Checked(text[-400:][::-1]))
        return found

    def resolved(self, config: dict[str, Any]) -> dict[str, Any]:
        return config

    def data_hash(self, config: dict[str, Any]) -> str | None:
        return None


def make_study(folder: Path, tune: dict[str, Any] | None = None, **more: Any) -> Study:
    """A study of two encoders with a search of `model.dropout`, results in `folder/runs/s`."""
    section = {"trials": 4, "space": SPACE, "pruner": "none", **(tune or {})}
    axes = {"encoder": {"a": {"model": "A"}, "b": {"model": "B"}}}
    plain = {"name": "s", "axes": axes, "seeds": [3, 4], **more, "tune": section}
    (folder / "study.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    return read_study(folder, folder / "runs")


def searches_of(study: Study, **budget: Any) -> tuple[list[Search], TuneSettings]:
    settings = read_settings(study, **budget)
    return make_searches(study, make_variants(study, FlatResolver()), settings, FlatResolver()), settings


def make_worker(study: Study, workers: int = 1, **budget: Any) -> Worker:
    """budget: trials, in the place of the file's."""
    searches, settings = searches_of(study, **budget)
    write_tuning(study, settings, searches)
    places = Places(({"OMP_NUM_THREADS": "1"},) * workers)
    return Worker(study, searches, Journal(study.folder, settings), settings.trials, places, FlatResolver())


def results_of(study: Study) -> TuningResults:
    results = read_tuning(study.folder)
    assert results is not None
    return results


def numbers(study: Study, state: str | None = None) -> list[list[int]]:
    """Of the ended trials of each search."""
    return [
        [trial.number for trial in search.trials if state in (None, trial.state)]
        for search in results_of(study).searches
    ]


def attempts(study: Study) -> dict[str, int]:
    """`a/trial0` -> processes that were started for it."""
    return {
        f"{path.parent.parent.name[:1]}/{path.parent.name}": json.loads(path.read_text())["attempts"]
        for path in sorted((study.folder / "tune").glob("*/trial*/job.json"))
    }


def start_worker_process(study: Study, workers: int = 1) -> subprocess.Popen[bytes]:
    """As a second terminal, or another machine, would."""
    return subprocess.Popen([sys.executable, __file__, str(study.file), str(study.root), str(workers)])


if __name__ == "__main__":
    Job.command = stub_command  # type: ignore[method-assign]
    make_worker(read_study(sys.argv[1], sys.argv[2]), int(sys.argv[3])).run()
