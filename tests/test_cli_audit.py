"""`recsys-lab audit`: what it writes, what it prints, how it fails; and the audit in the run manifest."""

from __future__ import annotations

import hashlib
import html
import inspect
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from small_data import quiet_trainer

from recsys_lab.audit import audit
from recsys_lab.audit.audit_page import audit_page
from recsys_lab.audit.audit_text import answer, duration, headline, percent
from recsys_lab.audit.checks import MENDS, WORTH_A_WORD
from recsys_lab.cli import main
from recsys_lab.cli.audit import audit as audit_command
from recsys_lab.cli.prepare import prepare
from recsys_lab.cli.typed import parser_of
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.locate import locate
from recsys_lab.data.split.leave_one_out import LeaveOneOut
from recsys_lab.models import Popularity
from recsys_lab.runs.audit_entry import audit_entry
from recsys_lab.runs.folder import RunFolder


@pytest.fixture
def folder(small_folder: Path, tmp_path: Path) -> Path:
    """A copy: an audit is written beside the data."""
    return Path(shutil.copytree(small_folder, tmp_path / "small"))


class Balanced(HTMLParser):
    """Holds that every element is closed in order, and collects what is referred to."""

    EMPTY = ("meta",)

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.pictures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]
        self.pictures += tag == "svg"
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag


def test_audit_writes_json_markdown_and_a_page(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert main(["audit", str(folder)]) == 0
    shown = capsys.readouterr().out
    found = json.loads((folder / "audit.json").read_text())
    assert found["card"]["users"] == 13 and found["split"]["name"] == "leave_one_out (leaky)"
    share = percent(found["checks"]["future_events"]["value"])
    page, markdown = (folder / "audit.html").read_text(), (folder / "audit.md").read_text()
    for text in (shown, page, markdown):
        assert share in text
        for name, check in found["checks"].items():
            assert (name in text) == (name != "future_items"), name
            assert (check["meaning"] in text) == (name != "future_items")
    parser = Balanced()
    parser.feed(page)
    assert not parser.open and all(to.startswith("#") for to in parser.references) and parser.pictures == 5
    assert "<script" not in page and "url(" not in page and "@import" not in page
    assert "prefers-color-scheme:dark" in page
    assert not re.search(r"\bnan\b|\binf\b|None", page)


def test_high_shares_come_with_what_to_do_the_worst_first(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert main(["audit", str(folder)]) == 0
    shown = capsys.readouterr().out
    found = json.loads((folder / "audit.json").read_text())["checks"]
    high = {MENDS[name] for name, check in found.items() if (check["value"] or 0) >= WORTH_A_WORD}
    _, advice = shown.split("What to do, the worst first\n")
    page = re.sub("</?code>", "`", html.unescape((folder / "audit.html").read_text()))
    for text in (advice, (folder / "audit.md").read_text(), page):
        assert {what for what in MENDS.values() if what in text} == high
    shares = [float(share) for share in re.findall(r"^ *[<>]? *([\d.]+) %", advice, re.MULTILINE)]
    assert len(shares) == len(high) >= 2 and shares == sorted(shares, reverse=True)
    _, checks = shown.split("Checks (names for --fail-on)\n")
    names = re.findall(r"^  ([a-z_]+) ", checks, re.MULTILINE)
    values = [found[name]["value"] or 0 for name in names]
    assert len(values) == len(MENDS) - 1 and values == sorted(values, reverse=True)


def test_out_of_reach_targets_are_in_the_verdict() -> None:
    checks = {name: {"value": 0.0, "meaning": ""} for name in MENDS}
    checks["seen_targets"]["value"], checks["cold_targets"]["value"] = 0.652, 0.361
    assert headline({"checks": checks, "leakage": {"test": {}}}) == (
        "No training event is later than the earliest test target. Of the test targets 65.20 % were seen before (out "
        "of reach while `exclude_seen` is history) and 36.10 % are cold."
    )


@pytest.mark.parametrize(
    ("future", "seen", "says"),
    [
        (0.991, 0.0, "Not as a forecast: 99.10 % of the training events are later than the earliest test target."),
        (0.0, 0.0, "Yes: no training event is later than the earliest test target."),
        (
            0.0,
            0.652,
            "In part: no training event is later than the test, but of the test targets 65.20 % were seen before.",
        ),
        (None, 0.0, "This can't be known without timestamps."),
    ],
)
def test_the_page_answers_in_a_sentence(future: float | None, seen: float, says: str) -> None:
    checks = {name: {"value": 0.0, "meaning": ""} for name in MENDS}
    checks["future_events"]["value"], checks["seen_targets"]["value"] = future, seen
    assert answer({"checks": checks, "leakage": {"test": {}}}) == says and len(says.split()) <= 25


def test_what_to_do_names_options_that_there_are() -> None:
    known = {
        "prepare": parser_of(prepare, "recsys-lab prepare").known(),
        "audit": parser_of(audit_command, "recsys-lab audit").known(),
        "fit": [f"--data.{name}" for name in inspect.signature(SequenceDataModule).parameters],
    }
    commands = [command for text in MENDS.values() for command in re.findall(r"`([a-z]* ?--[^`]*)`", text)]
    assert len(commands) > 10
    for command in commands:
        name = "audit" if command.startswith("--") else command.partition(" ")[0]
        assert set(re.findall(r"--[\w.]+", command)) <= set(known[name]), command


def test_without_the_extra_there_is_all_but_the_page(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "altair" else name)
    assert main(["audit", str(folder), "--output", str(tmp_path / "out")]) == 0
    shown, said = capsys.readouterr()
    assert "pip install 'recsys-lab[report]'" in said and "audit.html" not in shown
    assert {path.name.partition("-")[0] for path in (tmp_path / "out").iterdir()} == {"audit", "audit.json", "audit.md"}


def test_the_same_audit_has_the_same_hash(folder: Path, tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        assert main(["audit", str(folder), "--output", str(tmp_path / name)]) == 0
        texts.append((tmp_path / name / "audit.json").read_bytes())
    assert texts[0] == texts[1]
    assert not (folder / "audit.json").exists()


def test_thresholds_set_the_exit_code(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(folder), "--fail-on", "future_events=0", "trained_targets=0"]) == 1
    error = capsys.readouterr().err
    assert "future_events is 0." in error and "trained_targets is" not in error and "Traceback" not in error
    assert main(["audit", str(folder), "--fail-on", "future_events=0", "--fail-on", "trained_targets=0"]) == 1
    assert main(["audit", str(folder), "--fail-on", "future_events=1"]) == 0
    temporal = ["audit", str(folder), "--split", "GlobalTemporal", "--split.quantile", "0.7"]
    assert main([*temporal, "--fail-on", "future_events=0"]) == 0
    assert json.loads((folder / "audit.json").read_text())["split"]["config"]["init_args"]["quantile"] == 0.7


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--fail-on", "future=0"], ["'future'", "future_events"]),
        (["--fail-on", "future_events"], ["name=share"]),
        (["--split", "LeaveTwoOut"], ["LeaveOneOut", "GlobalTemporal"]),
        (["--split", "GlobalTemporal", "--split.quantile", "2"], ["quantile", "above 0 and below 1"]),
        (["--recommendations", "gone.parquet"], ["gone.parquet"]),
        (["--outptu", "x"], ["outptu"]),
    ],
)
def test_mistyped(folder: Path, arguments: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(folder), *arguments]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    for part in expected:
        assert part in error


def test_the_run_manifest_names_the_audit(folder: Path, tmp_path: Path) -> None:
    def manifest(run: str) -> dict:
        trainer = quiet_trainer(tmp_path, callbacks=[RunFolder(tmp_path / run)])
        trainer.fit(Popularity(), SequenceDataModule(str(folder)))
        return json.loads((tmp_path / run / "manifest.json").read_text())

    assert manifest("before")["audit"] is None
    assert main(["audit", str(folder)]) == 0
    entry = manifest("after")["audit"]
    assert entry["sha256"] == hashlib.sha256((folder / "audit.json").read_bytes()).hexdigest()
    assert entry["split"] == "leave_one_out (leaky)" and entry["same_data"] and entry["same_split"]
    assert main(["audit", str(folder), "--split", "GlobalTemporal"]) == 0
    first, entry = entry, manifest("other")["audit"]  # the audit of another split leaves that of this one alone
    assert entry == first and entry["file"].endswith(f"audit-{first_split(folder)}.json")
    for own in folder.glob("audit-*.json"):
        own.unlink()
    entry = manifest("latest")["audit"]
    assert entry["same_data"] and not entry["same_split"] and entry["file"].endswith("audit.json")


def first_split(folder: Path) -> str:
    return str(SequenceDataModule(str(folder)).evaluation_settings()["split_hash"])


def test_a_broken_audit_does_not_stop_a_run(tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text("{}")
    entry = audit_entry(tmp_path, "a", "b")
    assert entry is not None and "KeyError" in entry["error"]


def test_words_for_numbers() -> None:
    assert [percent(v) for v in (0, 1, 1e-9, 1 - 1e-9, 0.12345, None)] == [
        "0 %", "100 %", "< 0.01 %", "> 99.99 %", "12.35 %", "not known",
    ]  # fmt: skip
    assert [duration(v) for v in (1, 90, 7200, 86400)] == ["1 s", "1.5 min", "2 h", "1 days"]


def test_the_pictures_show_the_numbers(folder: Path) -> None:
    data = locate(str(folder), "data")
    found = audit(data, LeaveOneOut())
    figures = {figure.name: figure for figure in audit_page(found).figures}
    assert sorted(figures) == ["deciles", "history", "popularity", "rules", "when"]
    picture = figures["history"].still()
    bars = re.findall(r'<path aria-label="([^"]*)"[^>]*d="M[-\d.,]*h[\d.]*v([\d.]*)', picture)
    counts = found["card"]["history_length"]["histogram"]["counts"]
    tall = [float(height) for _, height in bars]
    assert len(bars) == len(counts) > 2
    assert tall == pytest.approx([count * max(tall) / max(counts) for count in counts])
    names = re.findall(r"<title>(.*?)</title>", picture)
    assert names == [name for name, _ in bars], "a pointer that rests on a bar is told what it is"
    assert "var(--accent)" in picture and not re.search(r"#[0-9a-f]{6}", picture), "it follows the mode of its page"
    untimed = audit(data, LeaveOneOut())
    untimed["leakage"]["when"] = None
    assert "when" not in [figure.name for figure in audit_page(untimed).figures]
