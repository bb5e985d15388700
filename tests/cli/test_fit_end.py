"""What a fit shows: lines of progress while it trains, and five lines at its end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from small_data import made_events, prepared

from recsys_lab.cli import main
from recsys_lab.models import GRU4Rec
from recsys_lab.runs import progress_lines
from recsys_lab.runs.progress_lines import CLEAR, clock, fitted, short

GRU = ["--model", "GRU4Rec", "--model.embedding_dim", "8", "--model.hidden_dim", "8", "--data.batch_size", "4"]
GRU += ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.max_epochs", "2"]
GRU += ["--trainer.enable_model_summary", "false"]
EPOCH = r"epoch \d/2  loss \d\.\d{3}  val/ndcg@10 0\.\d{4}( best)?  [\d.]+k? tokens/s  0:0\d left"


def fit(data: Path, root: Path, *more: str) -> int:
    return main(["fit", *GRU, "--data.dataset", str(data), "--run.root", str(root), *more])


def summary(text: str) -> dict[str, str]:
    return dict(line.split(None, 1) for line in text.splitlines()[-5:])  # type: ignore[misc]


def test_times_and_rates_as_people_write_them() -> None:
    assert [clock(s) for s in (0.4, 7, 723, 3723)] == ["0:00", "0:07", "12:03", "1:02:03"]
    assert [short(n) for n in (3.456, 950, 13_234, 4_100_000)] == ["3.46", "950", "13.2k", "4.1M"]
    assert fitted(["epoch 1", "much too long", "left"], 14) == "epoch 1  left"
    assert fitted(["much too long"], 6) == "much "


def test_a_fit_in_a_file_has_plain_lines_and_ends_with_five(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, root = prepared(tmp_path / "made", made_events(60, 30, 6, 12), "made").path, tmp_path / "runs"
    assert fit(data, root, "--data.exclude_seen", "none") == 0
    text = capsys.readouterr().err
    assert "\r" not in text and "\x1b" not in text
    assert len(re.findall(rf"^{EPOCH}$", text, flags=re.MULTILINE)) == 2 and "\ntesting\n" in text
    told, run = summary(text), root / "made" / "gru4rec" / "seed0"
    assert list(told) == ["test", "training", "untrained", "run", "next"]
    assert told["run"] == str(run) and re.match(
        r"epoch \d of 2 is best, stopped by max_epochs, 0:0\d", told["training"]
    )
    assert told["next"] == f"recsys-lab compare {root / 'made'}  # 3 seeds make a test: --seed_everything 1"
    assert main(["compare", str(root / "made"), "--json"]) == 0
    rows = {row["variant"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    mine = rows["gru4rec"]
    low, high = mine["ndcg@10_low"], mine["ndcg@10_high"]
    begins = f"ndcg@10 {mine['ndcg@10']:.4f} [{low:.4f}, {high:.4f}] (95 %), hit_rate {mine['hit_rate@10']:.4f}, mrr "
    assert told["test"].startswith(begins)
    for name in ("popularity", "markov-backoff-1.0"):  # the second was counted for these lines alone
        value = rows[name]["ndcg@10"]
        assert f"{name} {value:.4f} ({mine['ndcg@10'] - value:+.4f})" in told["untrained"]
    best = max((row for row in rows if row != "gru4rec"), key=lambda name: rows[name]["ndcg@10"])
    assert best not in ("popularity", "markov-backoff-1.0"), "so that the next line has one more"
    assert (
        fit(data, root, "--data.exclude_seen", "none", "--seed_everything", "1", "--run.test_after_fit", "false") == 0
    )
    told = summary(capsys.readouterr().err)
    assert re.fullmatch(r"val/ndcg@10 0\.\d{4}, not tested", told["test"]) and "untrained" not in told
    assert told["next"] == f"recsys-lab fit {run.with_name('seed1')} --run.test_after_fit true"
    assert main(told["next"].split()[1:]) == 0
    assert f"{best} {rows[best]['ndcg@10']:.4f} (" in summary(capsys.readouterr().err)["untrained"]


def test_a_terminal_of_80_columns_has_one_line_that_is_drawn_again(
    small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_lines, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(progress_lines.ProgressLines.__init__, "__defaults__", (0.0, 300.0))  # each batch is drawn
    assert fit(small_folder, tmp_path) == 0
    text = capsys.readouterr().err
    assert "\x1b" not in text.replace(CLEAR, ""), "no colours"
    drawn = re.findall(r"\x1b\[2K([^\r\n]+)\r", text)
    assert max(map(len, drawn)) < 80
    assert any(re.fullmatch(r"epoch 2/2 +\d+ %  .* 0:0\d left  val/ndcg@10 0\.\d{4}  best 0\.\d{4}", d) for d in drawn)
    assert any(re.match(r"epoch 1/2  validating  100 %", line) for line in drawn)
    kept = re.findall(rf"\x1b\[2K({EPOCH})\n", text)
    assert len(kept) == 2
    rest = text.split(CLEAR)[-1]
    assert not rest.startswith(("epoch", "testing")), "the last line that was drawn is gone before the end is told"


def test_another_progress_bar_takes_its_place(
    small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_epoch = ["--trainer.max_epochs", "1", "--run.test_after_fit", "false"]
    assert fit(small_folder, tmp_path, *one_epoch, "--trainer.callbacks+=TQDMProgressBar") == 0
    said = capsys.readouterr()
    assert "Epoch 0" in said.out + said.err and "epoch 1/1" not in said.err


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_traceback_ends_with_how_to_go_on(epoch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process of a fit that is gone, say. Before the first checkpoint there is nothing to go on with."""

    def broken(self: Any) -> None:
        if self.current_epoch == epoch:
            raise RuntimeError("connection reset by peer")

    monkeypatch.setattr(GRU4Rec, "on_train_epoch_start", broken)
    data, root = prepared(tmp_path / "made", made_events(), "made").path, tmp_path / "my runs"
    with pytest.raises(RuntimeError, match="reset by peer") as caught:
        fit(data, root)
    run = root / "made" / "gru4rec" / "seed0"
    said = f"epochs so far are kept; go on with: recsys-lab fit '{run}'"
    assert getattr(caught.value, "__notes__", []) == [said] * epoch
