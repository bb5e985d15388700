"""A full disk, and a limit on the size of files: every command says it in a line, and leaves nothing half-written."""

from __future__ import annotations

import errno
import os
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_data import made_events, prepared

sys.path.insert(0, str(Path(__file__).parents[1] / "bad_inputs"))
import case as cases
from case import Case, Outcome, try_case
from fit_cases import TINY

from recsys_lab.cli import main
from recsys_lab.study.plan.opened import StudyAsked, open_study

LOG = "user_id,item_id,timestamp\n" + "".join(f"{u},{i},{1_600_000_000 + i}\n" for u in range(40) for i in range(9))
STUDY = """name: s
question: Which is better?
base:
  model: {class_path: SASRec, init_args: {embedding_dim: 8, num_layers: 1}}
  data: {dataset: small, data_dir: $DATA, max_length: 5}
  trainer: {max_epochs: 1, accelerator: cpu}
seeds: [0]
axes:
  width: {8: {model.embedding_dim: 8}, 16: {model.embedding_dim: 16}}
"""
FIT = TINY + "--run.folder run"
WHOLE = (
    "run/config.yaml",
    "run/manifest.json",
    "run/metrics.*",
    "run/ranks.parquet",
    "run/values.parquet",
    "run/checkpoints/*.ckpt",
    "run/*/config.yaml",
)
"""What a command may have finished before the disk was full."""
COMMANDS = {
    "prepare": "prepare --input log.csv --name mine",
    "fit": FIT,
    "going on": "fit run --trainer.max_epochs 2",
    "fit with TensorBoard": f"{FIT} --run.logger tensorboard",
    "test": "test run",
    "validate": "validate run",
    "predict": "predict run",
    "compare": "compare run --baselines popularity",
    "audit": "audit small --data_dir $DATA --output out",
    "diagnose shuffle": "diagnose shuffle run --seeds 1",
    "diagnose calibration": "diagnose calibration run",
    "study run": "study run s.yaml --root r",
    "study report": "study report s.yaml --root $ROOT --output out --no-baselines",
}
FULL: list[Any] = [
    # command, the largest file in bytes, what can't be written
    ("prepare", 64, "data/mine"),
    ("prepare", 700, "data/mine"),
    ("fit", 64, "run: file too large|the run folder run"),
    ("fit", 700, r"run/(config\.yaml|manifest\.json)"),
    ("fit", 3_000, "run/manifest.json"),
    ("fit", 8_000, r"run/checkpoints/\w+\.ckpt"),
    ("fit", 30_000, r"run/checkpoints/\w+\.ckpt"),
    ("going on", 64, r"write run/fit_claim\.json: file too large; raise the limit"),
    ("compare", 64, "baselines/.*, or leave the untrained baselines out with --no_baselines"),
    ("audit", 64, "out"),
    ("audit", 30_000, "out"),
    ("study run", 64, "r/s/.*claim.json"),
    pytest.param("fit with TensorBoard", 3_000, "run", marks=pytest.mark.slow),
    pytest.param("test", 64, "run/test/config.yaml", marks=pytest.mark.slow),
    pytest.param("validate", 4_500, "run/validate/ranks.parquet", marks=pytest.mark.slow),
    pytest.param("predict", 64, "run/predict/config.yaml", marks=pytest.mark.slow),
    pytest.param("diagnose shuffle", 64, "run/shuffle", marks=pytest.mark.slow),
    pytest.param("diagnose calibration", 64, "run/calibration", marks=pytest.mark.slow),
    pytest.param("study report", 64, "out/report.html", marks=pytest.mark.slow),
    pytest.param("study report", 30_000, "out/report.html", marks=pytest.mark.slow),
]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes: EFBIG, which every library meets as it would a full disk.
    Python meanwhile compiles to no file: it would leave the first `size` bytes of one, which nobody can import."""
    before, compiles = resource.getrlimit(resource.RLIMIT_FSIZE), sys.dont_write_bytecode
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = compiles
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """$DATA: prepared data; $RUN: a finished run on it; $ROOT: the finished runs of a study."""
    folder = tmp_path_factory.mktemp("places")
    found = {"RUN": str(folder / "run"), "DATA": str(folder / "data"), "ROOT": str(folder / "root")}
    prepared(folder / "data" / "small", made_events())
    assert main(f"{TINY} --run.folder $RUN".replace("$RUN", found["RUN"]).replace("$DATA", found["DATA"]).split()) == 0
    return found


@pytest.fixture
def reported(places: dict[str, str]) -> None:
    """The runs of the study, in this process and not each in its own."""
    root = Path(places["ROOT"])
    if root.exists():
        return
    study = root.parent / "s.yaml"
    study.write_text(STUDY.replace("$DATA", places["DATA"]))
    plan, _ = open_study(StudyAsked(str(study), str(root)))
    for run in plan.runs:
        config = root.parent / f"{run.variant.label}.yaml"
        config.write_text(yaml.safe_dump(run.config))
        assert main(["fit", "--config", str(config)]) == 0


def tried(name: str, says: str, folder: Path, places: dict[str, str]) -> Outcome:
    """A command in a folder that has a log, a study file and, where it needs one, a copy of the finished run."""
    files: dict[str, str | bytes | None] = {"log.csv": LOG, "s.yaml": STUDY}
    if name in ("going on", "test", "validate", "predict", "compare") or name.startswith("diagnose"):
        for path in Path(places["RUN"]).rglob("*"):
            if path.is_file():
                files[str("run" / path.relative_to(places["RUN"]))] = path.read_bytes()
    may_leave = ("data/.*.lock", "run/tensorboard/**", "baselines/**", *WHOLE)
    return try_case(Case(name, COMMANDS[name], rf"can't .*({says})", files, may_leave=may_leave), folder, places)


def half_written(folder: Path) -> list[str]:
    wrong = re.compile(r"\.partial$|\.tmp|\.part$|scratch|claim\.json")
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if wrong.search(path.name)]


@pytest.mark.parametrize(("name", "limit", "says"), FULL)
def test_files_can_not_grow(
    name: str,
    limit: int,
    says: str,
    places: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    if name == "study report":
        request.getfixturevalue("reported")

    def limited(arguments: list[str]) -> int:
        with largest_file(limit):
            return main(arguments)

    monkeypatch.setattr(cases, "main", limited)
    outcome = tried(name, says, tmp_path / "case", places)
    assert outcome.verdict == "clear" and not outcome.left, str(outcome)
    assert not half_written(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_any_file_of_a_fit_may_be_the_last_that_fits(
    number: int, places: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 1st, 2nd, ... file that is put in place fails; then a command that a message names ends the run."""
    replace, left = os.replace, 10**9

    def failing(source: Any, target: Any, **more: Any) -> None:
        nonlocal left
        left -= str(target).find("run/") >= 0
        if left == 0:
            raise OSError(number, os.strerror(number), str(source), None, str(target))
        replace(source, target, **more)

    monkeypatch.setattr(os, "replace", failing)
    failed = 0
    for place in (1, 2, 3, 4, 5, 6, 8, 10, 12):
        left = place
        outcome = tried("fit", os.strerror(number), tmp_path / str(place), places)
        if left > 0:  # there are not so many
            break
        failed += 1
        left = 10**9
        assert outcome.verdict == "clear" and not outcome.left, f"{place}: {outcome}"
        assert not half_written(tmp_path)
        monkeypatch.chdir(tmp_path / str(place) / "work")
        ways_on = (FIT.replace("$DATA", places["DATA"]), "fit run", "fit run --run.overwrite true")
        assert any(main(way.split()) == 0 for way in ways_on), place
        assert Path("run/ranks.parquet").is_file()
    assert failed >= 5
