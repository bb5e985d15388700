"""`--config ml-100k/sasrec` names a configuration that comes with the package, from any folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys_lab.cli import main
from recsys_lab.runs.fit.known_configs import known_configs

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_configuration_of_the_repository_is_known() -> None:
    files = (ROOT / "configs").glob("*/*.yaml")
    assert known_configs() == sorted(str(file.relative_to(ROOT / "configs").with_suffix("")) for file in files)
    assert "ml-100k/sasrec" in known_configs()


@pytest.mark.parametrize(
    "words",
    [
        ["--config", "ml-100k/sasrec"],
        ["--config=ml-100k/sasrec.yaml"],
        ["-c", "configs/ml-100k/sasrec.yaml"],
        ["--config", "ml-100k/sasrec", "--config", "mine.yaml"],
    ],
)
def test_a_known_name_is_its_file(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text("model: {init_args: {num_heads: 2}}\n")
    assert main(["fit", *words, "--print_config"]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "warmup_steps: 100" in printed and "dataset: ml-100k" in printed
    assert f"num_heads: {2 if 'mine.yaml' in words else 1}" in printed


def test_a_file_of_that_name_goes_first(capsys: pytest.CaptureFixture[str]) -> None:
    Path("ml-100k").mkdir()
    Path("ml-100k/sasrec.yaml").write_text("model: GRU4Rec\n")
    assert main(["fit", "--config", "ml-100k/sasrec.yaml", "--print_config"]) == 0
    assert "GRU4Rec" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["--config", "ml-100k/sasrek"], ["--config=ml-100k/sasrek"], ["-c", "ml-100k/sasrek"]]
)
def test_a_name_that_is_neither(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    option = words[0].partition("=")[0]
    assert f"{option} ml-100k/sasrek: there is no such file" in line and "Did you mean 'ml-100k/sasrec'?" in line


def test_a_name_like_no_other_is_told_where_the_known_ones_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", "x.yaml"]) == 2
    assert "amazon-beauty/sasrec_temporal" in capsys.readouterr().err
