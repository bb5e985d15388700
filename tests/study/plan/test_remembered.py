"""What the parser said of a study is remembered as long as nothing that it depends on has changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from own_process import told_without

from recsys_lab.cli import main
from recsys_lab.study.plan import remembered
from recsys_lab.study.plan.keep import keep_identities
from recsys_lab.study.plan.opened import StudyAsked, open_study
from recsys_lab.study.plan.remembered import Resolver
from recsys_lab.study.plan.resolver import ParsingResolver

GRID = [{"model": "SASRec"}, {"model": "SASRec", "model.dropout": 0.5}, {"model": "GRU4Rec", "model.loss": "GBCE"}]
STUDY = "name: s\nbase: {data.dataset: synthetic}\naxes: {model: [SASRec, GRU4Rec], model.loss: [BPR, GBCE]}\n"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every configuration that the parser is asked about."""
    found: list[Any] = []
    check = ParsingResolver.check

    def checked(self: ParsingResolver, configs: list[dict[str, Any]]) -> Any:
        found.extend(configs)
        return check(self, configs)

    monkeypatch.setattr(ParsingResolver, "check", checked)
    return found


def identities(file: Path, *layers: dict[str, Any]) -> list[str]:
    resolver = Resolver(file)
    return [checked.identity for checked in resolver.check([resolver.compose([layer]) for layer in layers])]


def test_a_second_command_asks_nothing(tmp_path: Path, asked: list[Any]) -> None:
    first = identities(tmp_path / "kept.json", *GRID)
    assert len(asked) == 3 and len(set(first)) == 3 and all(first)
    assert identities(tmp_path / "kept.json", *reversed(GRID)) == first[::-1] and len(asked) == 3
    identities(tmp_path / "kept.json", {"model": "SASRec", "model.dropout": 0.6})
    assert len(asked) == 4


def test_other_code_forgets_it(tmp_path: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    identities(tmp_path / "kept.json", GRID[0])
    monkeypatch.setattr(remembered, "_stamp", lambda: "of another version")
    identities(tmp_path / "kept.json", GRID[0])
    assert len(asked) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"stamp": 1}'])
def test_a_damaged_file_is_made_again(text: str, tmp_path: Path, asked: list[Any]) -> None:
    file = tmp_path / "kept.json"
    file.write_text(text)
    assert identities(file, GRID[0]) == identities(file, GRID[0]) and len(asked) == 1


def test_an_error_is_said_every_time(tmp_path: Path) -> None:
    for _ in range(2):
        resolver = Resolver(tmp_path / "kept.json")
        (found,) = resolver.check([resolver.compose([{"model": "SASRec", "model.dropout": 7}])])
        assert "dropout" in found.error and not found.identity


def test_nothing_is_kept_beside_a_class_of_the_users_own(
    tmp_path: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_encoders.py").write_text(
        "from recsys_lab.models import SASRec\n\nclass MyEncoder(SASRec):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = {"model": "my_encoders.MyEncoder", "model.dropout": 0.1}
    for _ in range(2):
        assert all(identities(tmp_path / "kept.json", own, GRID[0]))
    assert len(asked) == 4 and not (tmp_path / "kept.json").exists()


def test_a_place_that_can_not_be_written_to_is_no_error(tmp_path: Path, asked: list[Any]) -> None:
    (tmp_path / "file").write_text("")
    assert identities(tmp_path / "file" / "kept.json", GRID[0]) == identities(tmp_path / "file" / "kept.json", GRID[0])
    assert len(asked) == 2


def test_the_stamp_is_of_the_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    module = tmp_path / "package" / "__init__.py"
    module.write_text("")
    monkeypatch.setattr(remembered.recsys_lab, "__file__", str(module))
    first = remembered._stamp()
    assert remembered._stamp() == first
    module.write_text("x = 1\n")
    assert remembered._stamp() != first


def test_a_field_is_no_class_of_the_users_own(tmp_path: Path, asked: list[Any]) -> None:
    layer = {"model": "SASRec", "data.fields": ["item.genres", "shown.position"]}
    assert identities(tmp_path / "kept.json", layer) == identities(tmp_path / "kept.json", layer) and len(asked) == 1


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study that keeps its values, planned once by a command that writes beside it; nothing else remembers it."""
    monkeypatch.setenv("RECSYS_LAB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "study" / "values").mkdir(parents=True)
    (tmp_path / "study" / "study.yaml").write_text(STUDY)
    plan, resolver = open_study(StudyAsked(str(tmp_path / "study"), str(tmp_path / "runs")))
    keep_identities(plan.study, resolver)
    (tmp_path / "cache" / "studies.json").unlink()
    return tmp_path / "study"


def status_of(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["study", "status", str(folder), "--root", str(folder.parent / "runs")]) == 0
    return capsys.readouterr().out


def test_what_is_kept_beside_a_study_is_believed(
    kept: Path, asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "4 missing" in status_of(kept, capsys) and not asked
    (kept / "values" / "identities.json").unlink()
    assert "4 missing" in status_of(kept, capsys) and len(asked) == 4


def test_an_edited_study_is_asked_about_again(kept: Path, asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    (kept / "study.yaml").write_text(STUDY.replace("data.dataset", "data.max_length: 7, data.dataset"))
    status_of(kept, capsys)
    assert len(asked) == 4


def test_other_numbers_are_asked_about_again(
    kept: Path, asked: list[Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered.recsys_lab, "NUMBERS", remembered.recsys_lab.NUMBERS + 1)
    status_of(kept, capsys)
    assert len(asked) == 4


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"numbers": 1}', '{"numbers": 1, "identities": 3}'])
def test_a_damaged_file_beside_a_study_is_asked_about_again(
    text: str, kept: Path, asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (kept / "values" / "identities.json").write_text(text)
    status_of(kept, capsys)
    assert len(asked) == 4


def test_who_runs_a_study_does_not_believe_what_lies_beside_it(kept: Path, asked: list[Any]) -> None:
    open_study(StudyAsked(str(kept), str(kept.parent / "runs")))
    assert len(asked) == 4


@pytest.mark.parametrize("more", [{"set": ["model.dropout=0.3"]}, {"fast": True}])
def test_only_a_study_as_its_file_says_it_is_kept(kept: Path, more: dict[str, Any]) -> None:
    (file := kept / "values" / "identities.json").unlink()
    plan, resolver = open_study(StudyAsked(str(kept), str(kept.parent / "runs"), **more))
    keep_identities(plan.study, resolver)
    assert not file.exists()


@pytest.mark.process
@pytest.mark.parametrize("command", ["status", "plan"])
def test_a_study_that_was_planned_before_is_told_without_torch(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECSYS_LAB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "study.yaml").write_text(STUDY)
    arguments = ["study", command, str(tmp_path), "--root", str(tmp_path / "runs")]
    assert main(arguments) == 0
    again = told_without("torch", *arguments)
    assert again == capsys.readouterr().out and "4 missing" in again
    kept = json.loads((tmp_path / "cache" / "studies.json").read_text())
    assert len(kept["identities"]) == 4
