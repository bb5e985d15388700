"""`recsys-lab prepare` on the user's own data: names, what is said, what is never written, and being stopped."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import numpy as np
import polars as pl
import pytest
from test_cli_runs import QUIET
from test_readme import commands

from recsys_lab.cli import main
from recsys_lab.cli.prepare import prepare as prepare_command
from recsys_lab.cli.typed import parser_of
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.data.reading.addresses import fetch_remote, shown, without_secrets

T = 1_600_000_000


def log_of(num_users: int = 12, length: int = 6, gap: int = 60) -> pl.DataFrame:
    rows = [(u, (u + i) % 9, T + gap * i) for u in range(num_users) for i in range(length)]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with log.csv in it."""
    monkeypatch.chdir(tmp_path)
    log_of().write_csv("log.csv")
    return tmp_path


def prepare(*arguments: str) -> int:
    return main(["prepare", *arguments])


# -- one name, one data set --------------------------------------------------------------------------------------------


def test_the_own_data_example_of_the_readme_works_from_an_empty_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepared, fitted = (next(c[1:] for c in commands() if c[1] == name and "shop" in c) for name in ("prepare", "fit"))
    renamed = {"user_id": "customer", "item_id": "article", "timestamp": "bought_at"}
    log_of(30, 12).rename(renamed).write_csv("logs.csv")
    assert main(prepared) == 0
    assert ProcessedDataset.open("data/shop").manifest["settings"]["min_user_events"] == 5
    fitted = [word.replace("$seed", "0") for word in fitted]  # the README has a loop over seeds
    assert main([*fitted, *QUIET, "--trainer.max_epochs", "1", "--data.max_length", "8"]) == 0
    assert list(tmp_path.glob("runs/shop/*/seed0/ranks.parquet"))


def test_another_set_of_the_same_name_is_refused_or_replaces_it(here: Path, capsys) -> None:
    assert prepare("--input", "log.csv", "--name", "shop") == 0
    assert prepare("--input", "log.csv", "--name", "shop") == 0  # the same: reused
    shown = capsys.readouterr()
    assert "reused" in shown.err and "\n  settings  the usual ones" in shown.out
    assert prepare("--input", "log.csv", "--name", "shop", "--min_item_events", "7") == 2
    error = capsys.readouterr().err
    assert "min_item_events changed from 1 to 7" in error and "Choose another --name, or replace it: --replace" in error
    assert ProcessedDataset.open("data/shop").manifest["settings"]["min_item_events"] == 1
    capsys.readouterr()
    assert prepare("--input", "log.csv", "--name", "shop", "--min_item_events", "7", "--replace") == 0
    assert "\n  settings  --min_item_events 7\n" in capsys.readouterr().out
    assert prepare("--input", "log.csv", "--name", "kept", "--keep", "item_id!=1", "--keep", "item_id in 2,3") == 0
    assert "\n  settings  --keep 'item_id!=1' --keep 'item_id in 2,3'\n" in capsys.readouterr().out
    assert ProcessedDataset.open("data/shop").manifest["settings"]["min_item_events"] == 7
    assert main(["verify", "shop"]) == 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--timestamp_column", "user_id"], "timestamp_column changed from none to user_id"),
        (["--format", "csv"], "format changed from none to csv"),
        (["--bad_times", "drop"], "bad_times changed from none to drop"),
        (["--input", "other.csv"], "input changed from log.csv to other.csv"),
    ],
)
def test_other_ways_of_reading_are_told_from_files_that_changed(options, reason, here: Path, capsys) -> None:
    log_of(5).write_csv("other.csv")
    assert prepare("--input", "log.csv", "--name", "shop") == 0
    capsys.readouterr()
    assert prepare("--input", "log.csv", "--name", "shop", *options) == 2
    error = capsys.readouterr().err
    assert reason in error and "files" not in error


def test_files_that_changed_are_read_again(here: Path, capsys) -> None:
    assert prepare("--input", "log.csv") == 0
    log_of(13).write_csv("log.csv")
    assert prepare("--input", "log.csv") == 0
    assert "preparing" in (said := capsys.readouterr().err) and "the files of 'log' changed" in said
    assert ProcessedDataset.open("data/log").num_users == 13


def test_the_same_file_under_another_path_is_the_same_data(here: Path, capsys) -> None:
    assert prepare("--input", "log.csv") == 0
    capsys.readouterr()
    assert prepare("--input", str(here / "log.csv")) == 0
    assert "reused" in capsys.readouterr().err


def test_a_set_of_an_older_version_is_reused_by_its_fingerprint(here: Path, capsys) -> None:
    assert prepare("--input", "log.csv") == 0
    manifest = json.loads(Path("data/log/manifest.json").read_text())
    del manifest["source"]["reading"]
    Path("data/log/manifest.json").write_text(json.dumps(manifest))
    Path("data/log/stamp.json").unlink()
    capsys.readouterr()
    assert prepare("--input", "log.csv") == 0
    assert "reused" in capsys.readouterr().err
    log_of(3).write_csv("log.csv")
    assert prepare("--input", "log.csv") == 2
    assert "--replace" in capsys.readouterr().err


def test_the_output_says_how_to_use_the_set(here: Path, capsys) -> None:
    assert prepare("--input", "log.csv", "--name", "shop", "--data_dir", "sets") == 0
    (line,) = re.findall(r"use it +recsys-lab (.*)", capsys.readouterr().out)
    short = ["--data.max_length", "5", "--trainer.max_epochs", "1", *QUIET]
    assert "--model SASRec" in line
    assert main([*shlex.split(line), "--model", "Popularity", *short]) == 0


def test_lists_with_commas() -> None:
    def parsed(*words: str) -> dict[str, object]:
        found = parser_of(prepare_command, "recsys-lab prepare").parse(words)
        return {
            name: value for name, value in found.items() if value and name in ("names", "event_types", "keep", "fields")
        }

    assert parsed("--names", "a,b", "--event_types=x, y", "--input", "a,b") == {
        "names": ["a", "b"],
        "event_types": ["x", "y"],
    }
    assert parsed("--keep", "a in b,c", "--fields=x=text,y=drop", "--keep=r>=4", "--fields", "z=drop") == {
        "keep": ["a in b,c", "r>=4"],
        "fields": ["x=text", "y=drop", "z=drop"],
    }


# -- what is never written ---------------------------------------------------------------------------------------------

SECRETS = ("anna", "geheim", "abc123")


def test_no_user_name_password_or_token_is_written(here: Path, capsys) -> None:
    url = "memory://anna:geheim@host/bucket/log.csv?token=abc123"
    remote = fsspec.core.url_to_fs(url)[1]
    with fsspec.filesystem("memory").open(remote, "wb") as out:
        out.write(Path("log.csv").read_bytes())
    assert prepare("--input", url, "--name", "shop") == 0
    assert prepare("--input", url + "x", "--name", "other") == 2  # there is no such file
    said = capsys.readouterr()
    written = {p: p.read_bytes() for p in Path("data").rglob("*") if p.is_file()}
    assert len(written) > 8
    for secret in SECRETS:
        assert secret not in said.out + said.err
        assert not [p for p, content in written.items() if secret.encode() in content or secret in str(p)]


def test_a_note_of_an_older_version_loses_its_secrets(tmp_path: Path) -> None:
    with fsspec.open("memory://host/a.csv", "w") as out:
        out.write("x")
    copy = fetch_remote("memory://host/a.csv", tmp_path)
    note = copy.with_name("a.csv.version")
    note.write_text('{"name": "memory://anna:geheim@host/a.csv"}')
    fsspec.filesystem("memory").rm("host/a.csv")
    assert fetch_remote("memory://host/a.csv", tmp_path) == copy
    assert "geheim" not in note.read_text()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://anna:geheim@host/a.csv?token=abc123#x", "https://host/a.csv?..."),
        ("s3://bucket/key.csv", "s3://bucket/key.csv"),
        ("ftp://anna@host/a.csv", "ftp://host/a.csv"),
        ("simplecache::https://anna:geheim@host/a.csv", "simplecache::https://host/a.csv"),
        ("folder/a?b@c.csv", "folder/a?b@c.csv"),
    ],
)
def test_an_address_is_shown_without_secrets(address: str, expected: str) -> None:
    assert shown(address) == expected


def test_errors_of_other_libraries_lose_the_secrets() -> None:
    address = "https://anna:ge%20heim@host/a.csv?token=abc123&user=me"
    text = without_secrets(f"404, url={address}; login anna / ge heim; ge%20heim; token abc123", address)
    assert not [s for s in ("anna", "heim", "abc123") if s in text] and "404" in text


# -- stopped -----------------------------------------------------------------------------------------------------------


def test_sigterm_leaves_nothing_half_written(here: Path) -> None:
    rng = np.random.default_rng(0)
    num = 3_000_000
    log = pl.DataFrame({"user_id": rng.integers(0, 40_000, num), "item_id": rng.integers(0, 5_000, num)})
    log.with_columns(timestamp=T + pl.int_range(num)).write_parquet("big.parquet")
    command = [sys.executable, "-c", "from recsys_lab.cli import run; run()", "prepare", "--input", "big.parquet"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    assert child.stderr is not None
    end = time.monotonic() + 300
    while not list(Path("data").glob(".big.tmp-*")) and child.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    child.send_signal(signal.SIGTERM)
    said = child.communicate(timeout=300)[1]
    assert child.returncode == 130 and "interrupted" in said, said
    assert [p.name for p in Path("data").iterdir() if p.name != ".big.lock"] in ([], ["raw"])


# -- reports -----------------------------------------------------------------------------------------------------------


def test_an_audit_that_can_not_be_written_is_printed(here: Path, capsys, monkeypatch) -> None:
    assert prepare("--input", "log.csv") == 0
    capsys.readouterr()
    write = Path.write_text

    def read_only(self: Path, *arguments, **more):
        if "audit" in self.name:
            raise OSError(30, "Read-only file system", str(self))
        return write(self, *arguments, **more)

    monkeypatch.setattr(Path, "write_text", read_only)
    assert main(["audit", "log"]) == 0
    shown_text = capsys.readouterr()
    assert "leave_one_out" in shown_text.out
    assert "Read-only file system" in shown_text.err and "--output" in shown_text.err
    assert main(["audit", "log", "--output", "there"]) == 2


def test_verify_of_prepared_data(here: Path, capsys) -> None:
    assert prepare("--input", "log.csv", "--name", "shop") == 0
    for name in ("shop", "data/shop"):
        assert main(["verify", name]) == 0
        assert "ok  item_ids.npy: sha256 as prepared" in capsys.readouterr().out
    content = bytearray(Path("data/shop/timestamps.npy").read_bytes())
    content[-3] ^= 1
    Path("data/shop/timestamps.npy").write_bytes(content)
    assert main(["verify", "shop"]) == 1
    assert "timestamps.npy differs from what was prepared" in capsys.readouterr().err
