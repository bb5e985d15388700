"""The wheel is enough: installed in an environment of its own it fits a configuration by name, in an empty folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SMALL = "--data.dataset synthetic --trainer.max_epochs 1 --trainer.limit_train_batches 2 --trainer.accelerator cpu"


def run(*words: object, folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([str(word) for word in words], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made of a copy: a build leaves folders behind, and takes up what it finds in them."""
    source, to = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in ("recsys_lab", "configs"):
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source / file)
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", to, ".", folder=source)
    (found,) = to.glob("*.whl")
    return found


@pytest.mark.slow
def test_what_the_wheel_holds(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (about,) = (archive.read(name).decode() for name in names if name.endswith("/METADATA"))
    there = {file for folder in ("recsys_lab", "configs") for file in (ROOT / folder).rglob("*") if file.is_file()}
    kinds = (".py", ".yaml", ".typed", ".txt", ".css", ".js")
    asked = {file.relative_to(ROOT).as_posix() for file in there if file.suffix in kinds or file.stem == "page"}
    asked = {f"recsys_lab/{name}" if name.startswith("configs/") else name for name in asked}
    assert asked <= names
    assert not [name for name in names if not name.startswith("recsys_lab")]
    said = message_from_string(about)
    assert said["Name"] == "recsys-lab" and said["License-Expression"] == "Apache-2.0"
    assert "Programming Language :: Python :: 3.11" in said.get_all("Classifier", [])


@pytest.mark.slow
def test_the_installed_wheel_fits_a_configuration_by_name(wheel: Path, tmp_path: Path) -> None:
    environment, empty = tmp_path / "environment", tmp_path / "empty"
    empty.mkdir()
    run(sys.executable, "-m", "venv", "--without-pip", environment, folder=tmp_path)
    python = environment / "bin" / "python"
    inside = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=tmp_path).strip())
    (inside / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")  # torch and the rest, as they are here
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--force-reinstall",
        wheel,
        folder=tmp_path,
    )
    place = run(python, "-c", "import recsys_lab; print(recsys_lab.__file__)", folder=empty).strip()
    assert Path(place).is_relative_to(environment)
    command = environment / "bin" / "recsys-lab"
    run(command, "fit", "--config", "ml-100k/sasrec", *SMALL.split(), folder=empty)
    assert (empty / "runs" / "synthetic" / "sasrec" / "seed0" / "ranks.parquet").is_file()
