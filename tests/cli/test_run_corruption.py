"""Every corruption of a run folder, by every command that reads it: noticed in one line, or it does not matter."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from small_data import made_events, prepared

from recsys_lab.cli import main

FIT = ["fit", "--model", "SASRec", "--model.embedding_dim", "16", "--data.max_length", "8", "--trainer.max_epochs", "1"]
QUIET = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


def cut(path: Path, share: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(bytes(content))


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    plain = json.loads(path.read_text())
    path.write_text(json.dumps(change(plain) or plain))


def rewrite(path: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    change(pl.read_parquet(path)).write_parquet(path)


def first_rows(count: int, **values: Any) -> Callable[[pl.DataFrame], pl.DataFrame]:
    def change(frame: pl.DataFrame) -> pl.DataFrame:
        is_first = pl.int_range(pl.len()) < count
        return frame.with_columns(
            pl.when(is_first).then(pl.lit(v)).otherwise(pl.col(k)).cast(frame[k].dtype).alias(k)
            for k, v in values.items()
        )

    return change


ALL = ("fit", "test", "verify", "compare", "predict")
OPENS = ("fit", "test", "verify", "predict")
"""Commands that take a run's configuration."""
ROWS: dict[str, tuple[str, Callable[[Path], Any], tuple[str, ...]]] = {
    "best.ckpt truncated": ("checkpoints/best.ckpt", cut, ALL),
    "best.ckpt one byte flipped": ("checkpoints/best.ckpt", flip, ALL),
    "best.ckpt removed": ("checkpoints/best.ckpt", Path.unlink, OPENS),
    "manifest data_hash edited": (
        "manifest.json",
        lambda p: edit(p, lambda m: m["evaluation"].update(data_hash="0")),
        ALL,
    ),
    "manifest ties edited": (
        "manifest.json",
        lambda p: edit(p, lambda m: m["evaluation"].update(ties="optimistic")),
        ALL,
    ),
    "manifest loss edited": ("manifest.json", lambda p: edit(p, lambda m: m.update(loss="BPR")), ALL),
    "manifest variant edited": ("manifest.json", lambda p: edit(p, lambda m: m.update(variant="other")), ALL),
    "manifest train_seconds edited": ("manifest.json", lambda p: edit(p, lambda m: m.update(train_seconds=1.0)), ALL),
    "manifest {}": ("manifest.json", lambda p: p.write_text("{}"), ALL),
    "manifest []": ("manifest.json", lambda p: p.write_text("[]"), ALL),
    "manifest half written": ("manifest.json", cut, ALL),
    "metrics.json half written": ("metrics.json", cut, ("verify", "compare")),
    "metrics.json []": ("metrics.json", lambda p: p.write_text("[]"), ("verify", "compare")),
    "metrics.json ndcg edited": (
        "metrics.json",
        lambda p: edit(p, lambda m: m.update({"test/ndcg@10": 0.9})),
        ("verify", "compare"),
    ),
    "metrics.csv half written": ("metrics.csv", cut, ALL),
    "metrics.csv gone": ("metrics.csv", Path.unlink, ALL),
    "ranks half of the rows": (
        "ranks.parquet",
        lambda p: rewrite(p, lambda f: f.head(len(f) // 2)),
        ("verify", "compare"),
    ),
    "ranks one edited": (
        "ranks.parquet",
        lambda p: rewrite(p, first_rows(1, num_greater=0, rank=1.0)),
        ("verify", "compare"),
    ),
    "ranks below 1": (
        "ranks.parquet",
        lambda p: rewrite(p, first_rows(9, num_greater=-6, rank=-5.0)),
        ("verify", "compare"),
    ),
    "ranks null": (
        "ranks.parquet",
        lambda p: rewrite(p, first_rows(9, num_greater=None, rank=None)),
        ("verify", "compare"),
    ),
    "ranks no row": ("ranks.parquet", lambda p: rewrite(p, lambda f: f.clear()), ("verify", "compare")),
    "ranks truncated": ("ranks.parquet", cut, ("verify", "compare")),
    "values truncated": ("values.parquet", cut, ("verify", "compare")),
    "values gone": ("values.parquet", lambda p: p.unlink(), ("verify", "compare")),
    "values moved": (
        "values.parquet",
        lambda p: rewrite(p, lambda f: f.with_columns(pl.col("value").shift(1, fill_value=1.0))),
        ("verify", "compare"),
    ),
    **{f"config cut at {n} %": ("config.yaml", partial(cut, share=n / 100), ALL) for n in (5, 20, 35, 50, 65, 80, 95)},
    "config empty": ("config.yaml", lambda p: p.write_text(""), ALL),
    "config gone": ("config.yaml", Path.unlink, ALL),
}
"""What is done to which file of a run, and which commands read it."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    prepared(root / "data" / "small", made_events(num_users=40, shortest=4))
    where = ["--data.dataset", "small", "--data.data_dir", str(root / "data"), "--run.folder", str(root / "run")]
    assert main([*FIT, *QUIET, *where]) == 0
    return root


def answer(command: str, run: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """`noticed`, `silent` or `traceback`, and what was said."""
    more = {"compare": ["--no-baselines"], "verify": []}.get(command, [])
    capsys.readouterr()
    try:
        code: Any = main([command, str(run), *more])
    except SystemExit as end:
        code = end.code
    except Exception as error:  # what would be a traceback on a command line
        return "traceback", repr(error)
    said = capsys.readouterr().err
    return ("silent" if code == 0 else "noticed" if "error: " in said else "traceback"), said


@pytest.mark.parametrize("command", ALL)
def test_each_corruption(command: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[str] = Counter()
    wrong = []
    for number, (name, (file, damage, readers)) in enumerate(ROWS.items()):
        if command not in readers:
            continue
        run = Path(shutil.copytree(made / "run", tmp_path / str(number)))
        damage(run / file)
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        found, said = answer(command, run, capsys)
        counts[found] += 1
        is_plain = not re.search(r"\{['\"]|\w+Error\b|Namespace\(", said)  # no words of Python
        if found != "noticed" or Path(file).stem not in said or not is_plain:
            wrong.append((name, found, said[-300:]))
        assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before, f"{name}: it wrote"
    with capsys.disabled():
        print(f"\n{command}: " + ", ".join(f"{counts[what]} {what}" for what in ("noticed", "traceback", "silent")))
    assert not wrong, wrong


@pytest.mark.parametrize("command", ["fit", "predict"])
def test_ranks_that_a_command_does_not_read_do_not_matter(command: str, made: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made / "run", tmp_path / "run"))
    cut(run / "ranks.parquet")
    assert main([command, str(run)]) == 0
    if command == "fit":  # nothing is left to train; the test is made again
        assert pl.read_parquet(run / "ranks.parquet").equals(pl.read_parquet(made / "run" / "ranks.parquet"))


def test_a_checkpoint_that_was_removed_is_not_one_that_never_was(made: Path, tmp_path: Path, capsys: Any) -> None:
    run = Path(shutil.copytree(made / "run", tmp_path / "run"))
    (run / "checkpoints" / "best.ckpt").unlink()
    assert main(["verify", str(run)]) == 1
    out, said = capsys.readouterr()
    assert "1 check failed" in said and "skipped settings and re-scoring: the checkpoint is not whole" in out
    assert main(["test", str(run), "--ckpt_path", str(run / "checkpoints" / "best.ckpt")]) == 2
    said = capsys.readouterr().err
    assert "no epoch" not in said and "gone" in said


def test_a_checkpoint_that_was_cut_anywhere_is_called_damaged(made: Path, tmp_path: Path, capsys: Any) -> None:
    run = Path(shutil.copytree(made / "run", tmp_path / "run"))
    last = run / "checkpoints" / "last.ckpt"
    whole = last.read_bytes()
    for share in (0.0, 0.001, 0.1, 0.5, 0.9, 0.999):
        last.write_bytes(whole[: int(len(whole) * share)])
        assert main(["fit", str(run), "--trainer.max_epochs", "2"]) == 2
        said = capsys.readouterr().err
        assert "last.ckpt is not a checkpoint of recsys_lab: it is damaged or cut off" in said, said
