"""What `prepare` advises works as it is printed: the same command with the advice behind it, or the line alone."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from recsys_lab.cli import main
from recsys_lab.data.prepare.processed import ProcessedDataset

T = 1_600_000_000
EVENTS = [(u, 10 + i, T + 60 * i + u) for u in range(6) for i in range(5)]
OPTION = r"(?:--replace|--(?!replace)\w+ (?:'[^']*'|[\w.,/=-]+))"


def log(header: str = "user_id,item_id,timestamp", row: str = "{u},{i},{t}") -> str:
    return header + "\n" + "".join(row.format(u=u, i=i, t=t) + "\n" for u, i, t in EVENTS)


def advised(text: str) -> list[str]:
    """The first run of options with their values in a message."""
    return shlex.split(re.findall(rf"{OPTION}(?: {OPTION})*", text)[0])


FIRST = f"0,10,{T}"


def with_column(name: str, value: str, first: str) -> str:
    """A further column that has `value` in all rows but the first."""
    return log(f"user_id,item_id,timestamp,{name}", f"{{u}},{{i}},{{t}},{value}").replace(
        f"{FIRST},{value}", f"{FIRST},{first}"
    )


CASES = {
    "a time of 0": (log().replace(FIRST, "0,10,0"), "has the time 0", 29),
    "a time of 0, many years": (log().replace(FIRST, "0,10,0"), "the times run from", 29),
    "a missing time": (log().replace(FIRST, "0,10,"), "can't be read", 29),
    "a time before 1970": (log().replace(FIRST, "0,10,-5"), "before 1970", 29),
    "a missing id": (log().replace(FIRST, f"0,,{T}"), "missing id in", 29),
    "a word for missing": (log(row="u{u},i{i},{t}").replace("u0,i10", "NULL,i10"), "looks like a missing id", 29),
    "labels": (with_column("label", "1", "0"), "only 0 and 1", 29),
    "ratings": (with_column("rating", "1", "0"), "only 0 and 1", 29),
    "types": (with_column("event_type", "a buy", "it's"), "keeps one", 29),
    "no types": (with_column("event_type", "a buy", ""), "null event_type", 29),
    "a column without values": (with_column("x", "", ""), "so it is left out", 30),
    "semicolons": (log().replace(",", ";"), "semicolons", 30),
    "tabs": (log().replace(",", "\t"), "tabs", 30),
    "latin-1": (log().replace(FIRST, f"caf\xe9,10,{T}").encode("latin-1"), "UTF-8", 30),
    "utf-16": (log().encode("utf-16"), "UTF-16", 30),
    "utf-32": (log().encode("utf-32"), "UTF-32", 30),
    "JSON": ('{"user_id": 1, "item_id": 2}\n', "looks like JSON", 1),
}


@pytest.mark.parametrize("name", CASES)
def test_the_advice_works_as_it_is_printed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    content, says, events = CASES[name]
    monkeypatch.chdir(tmp_path)
    Path("log.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    code = main(["prepare", "--input", "log.csv"])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if says in line]
    advice = advised(line)
    assert ("--replace" in advice) == (code == 0), "only what was prepared is replaced"
    assert main(["prepare", "--input", "log.csv", *advice]) == 0, line
    assert ProcessedDataset.open("data/log").num_events == events
    assert says not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "options"), [("shop", ""), ("my shop", ""), ("shop", "--data_dir 'my sets'"), ("shop", "--output 'a set'")]
)
def test_the_line_that_uses_the_set_runs_as_it_is_printed(
    name: str, options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("log.csv").write_text(log())
    assert main(["prepare", "--input", "log.csv", "--name", name, *shlex.split(options)]) == 0
    (line,) = re.findall(r"use it +recsys-lab (.*)", capsys.readouterr().out)
    assert main([*shlex.split(line), "--trainer.max_epochs", "1", "--data.max_length", "5"]) == 0


def test_the_advice_for_a_path_is_a_whole_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my log.csv").write_text(log())
    for words in (["prepare", "my log.csv"], ["fit", "--model", "SASRec", "--data.dataset", "my log.csv"]):
        assert main(words) == 2
        (command,) = re.findall(r"recsys-lab (prepare --input (?:'[^']+'|\S+))", capsys.readouterr().err)
        assert main([*shlex.split(command), "--force"]) == 0
        capsys.readouterr()


def test_a_link_is_followed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("d/deeper").mkdir(parents=True)
    Path("d/a.csv").write_text(log())
    Path("d/deeper/up").symlink_to("../../d")
    Path("d/b.csv").symlink_to("a.csv")
    assert main(["prepare", "--input", "d"]) == 0
    said = capsys.readouterr().err
    assert "d/deeper/up leads back to a folder that is read already" in said
    assert "d/b.csv is the same file as d/a.csv: read once" in said
    assert ProcessedDataset.open("data/d").num_events == 30
    Path("d/c.csv").symlink_to("gone.csv")
    assert main(["prepare", "--input", "d", "--name", "e"]) == 2
    assert "d/c.csv is a link to gone.csv, where there is nothing to read" in capsys.readouterr().err
    assert main(["prepare", "--input", "d/c.csv"]) == 2
    assert "is a link to gone.csv" in capsys.readouterr().err


def test_what_a_set_was_read_with_does_not_hinder_newer_events_of_another_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("log.csv").write_text(log().replace(",", ";"))
    Path("items.csv").write_text("sku,title\n" + "".join(f"{10 + i},t\n" for i in range(5)))
    options = ["--separator", ";", "--items", "items.csv", "--items_column", "sku"]
    assert main(["prepare", "--input", "log.csv", "--name", "shop", *options]) == 0
    Path("newer.jsonl").write_text(f'{{"user_id": 1, "item_id": 10, "timestamp": {T + 10**6}}}\n')
    assert main(["prepare", "shop", "--append", "newer.jsonl"]) == 0
    assert ProcessedDataset.open("data/shop").num_events == 31
