"""Ctrl-C in the test of a fit, while it writes its files."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_run_folder_life import fit, read, run_in

from recsys_lab.cli import main
from recsys_lab.runs import folder as run_folder
from recsys_lab.study.launch.job import state_of


def test_a_test_that_is_stopped_while_it_writes_its_files_is_made_again(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its ranks lie in the folder then, and neither its metrics nor its manifest know of them."""
    told = run_folder.file_sha256

    def stopped(path: Path) -> str:
        if "values" in path.name:
            raise KeyboardInterrupt
        return told(path)

    with monkeypatch.context() as pressed:
        pressed.setattr(run_folder, "file_sha256", stopped)
        assert fit(small_folder, tmp_path) == 130
    folder = run_in(tmp_path)
    assert (folder / "ranks.parquet").is_file() and not (folder / "values.parquet").exists()
    assert read(folder)["stopped_by"] == "max_epochs" and state_of(folder) == "interrupted"
    capsys.readouterr()
    for command in (["compare", str(tmp_path)], ["verify", str(folder)]):
        assert main(command) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert f"its test was stopped before it ended; to test it: recsys-lab fit {folder}" in said, command
    assert main(["fit", str(folder), "--run.test_after_fit", "true"]) == 0
    assert state_of(folder) == "finished" and main(["verify", str(folder)]) == 0
