"""Results that say less than they seem to say so: at the end of `fit`, of `test`, and under the table."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from small_data import made_events, prepared

from recsys_lab.cli import main
from recsys_lab.runs.remarks import not_above, of_scores, of_targets, remarks

QUIET = ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.enable_progress_bar", "false"]
QUIET += ["--trainer.enable_model_summary", "false", "--trainer.max_epochs", "1"]
GRU = ["--model", "GRU4Rec", "--model.embedding_dim", "8", "--model.hidden_dim", "8", *QUIET]


def ranks(*rows: tuple[int, int, bool, bool]) -> pl.DataFrame:
    """(num_ties, num_candidates, is_cold, is_hidden) of each target."""
    names = {"num_ties": pl.Int64, "num_candidates": pl.Int64, "is_cold": pl.Boolean, "is_hidden": pl.Boolean}
    return pl.DataFrame(list(rows), schema=names, orient="row")


GOOD = (0, 50, False, False)


def events(rows: list[tuple[str, str, int]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


# -- the functions -----------------------------------------------------------------------------------------------------


def test_a_plain_result_has_no_remark() -> None:
    assert remarks(ranks(*[GOOD] * 40, (0, 50, True, False), (0, 50, False, True)), {}, 10) == []


def test_hidden_and_cold_targets() -> None:
    table = ranks(*[GOOD] * 6, *[(0, 50, False, True)] * 3, (0, 50, True, False))
    hidden, cold = of_targets(table, {"exclude_seen": "history", "cold_targets": "miss"}, 10)
    assert "3 of 10 targets (30 %) are hidden" in hidden and "--data.exclude_seen none" in hidden
    assert "1 of 10 targets (10 %) are cold" in cold and "--evaluation.cold_targets drop" in cold
    assert "they are left out" in of_targets(table, {"cold_targets": "drop"}, 10)[1]


def test_no_target_at_all() -> None:
    (line,) = of_targets(ranks((0, 50, True, False)), {"cold_targets": "drop"}, 10)
    assert "no target at all" in line and "all 1 are cold" in line
    assert "no target at all" in of_targets(ranks(), {"cold_targets": "miss"}, 10)[0]
    assert "no target at all" not in of_targets(ranks((0, 50, True, False)), {"cold_targets": "miss"}, 10)[0]


@pytest.mark.parametrize(("candidates", "is_said"), [(9, True), (10, True), (11, False)])
def test_cutoffs_at_or_above_the_candidates(candidates: int, is_said: bool) -> None:
    lines = of_targets(ranks((0, candidates, False, False)), {}, 10)
    assert bool(lines) is is_said and all("hit_rate@10 is 1 there" in line for line in lines)


def test_equal_scores() -> None:
    (line,) = of_scores(ranks((49, 50, False, False), (49, 50, False, False), (0, 50, True, False)))
    assert "2 of 2 targets" in line and "chance" in line
    assert of_scores(ranks((49, 50, False, False), GOOD)) == [], "half of them"
    assert of_scores(ranks((48, 50, False, False))) == []
    assert of_scores(ranks((0, 1, False, False))) == [], "a single candidate is no tie"
    assert of_scores(ranks((49, 50, False, False)).drop("num_ties")) == [], "an old run"


def test_baselines_above() -> None:
    assert not_above("ndcg@10", 0.5, {"popularity": 0.5, "markov": 0.4}) == []
    (line,) = not_above("log_loss", 0.5, {"constant_rate": 0.6, "item_rate": 0.4, "majority_label": 0.45})
    assert line == (
        "log_loss 0.5000 is above what untrained baselines reach on these targets: item_rate 0.4000, "
        "majority_label 0.4500"
    ), "lower is better"
    assert not_above("ndcg@10", 0.00001, {"popularity": 0.00004}) == [], "0.0000 is not below 0.0000"
    (line,) = not_above("ndcg@10", 0.1, {f"b{i}": 0.2 + i / 10 for i in range(5)})
    assert "ndcg@10 0.1000 is below" in line and line.endswith("b4 0.6000, b3 0.5000, b2 0.4000 and 2 more")


# -- fit, test, compare ------------------------------------------------------------------------------------------------


def test_five_items_that_every_user_has_had(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`exclude_seen history` hides all targets; without it K is beyond the candidates."""
    rows = [(f"u{u}", f"i{(u + t) % 5}", 1000 + 10 * t) for u in range(30) for t in range(8)]
    data = prepared(tmp_path / "five", events(rows), "five").path
    fit = ["fit", *GRU, "--data.dataset", str(data), "--run.root", str(tmp_path / "runs")]
    assert main(fit) == 0
    assert "30 of 30 targets (100 %) are hidden" in capsys.readouterr().err
    assert main(["test", str(tmp_path / "runs" / "five" / "gru4rec" / "seed0")]) == 0
    assert "--data.exclude_seen none ranks them" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "runs"), "--no-baselines"]) == 0
    assert capsys.readouterr().out.count("30 of 30 targets (100 %) are hidden") == 1
    assert main([*fit, "--data.exclude_seen", "none", "--run.study", "all", "--run.variant", "gru"]) == 0
    text = capsys.readouterr().err
    assert "hidden" not in text and "among 10 candidates or fewer: hit_rate@10 is 1" in text


@pytest.mark.parametrize("cold_targets", ["miss", "drop"])
def test_all_test_targets_are_cold(cold_targets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(f"u{u}", f"i{(u + t) % 20}", 1000 + 10 * t) for u in range(20) for t in range(6)]
    rows += [(f"u{u}", f"new{u}", 9000 + u) for u in range(20)]  # the last event of each: an item of its own
    data = prepared(tmp_path / "cold", events(rows), "cold").path
    split = ["--data.split", "GlobalTemporal", "--data.split.quantile", "0.8"]
    more = ["--evaluation.cold_targets", cold_targets, "--run.root", str(tmp_path / "runs")]
    assert main(["fit", *GRU, "--data.dataset", str(data), *split, *more]) == 0
    text = capsys.readouterr().err
    expected = {"miss": "20 of 20 targets (100 %) are cold", "drop": "no target at all was ranked: all 20 are cold"}
    assert expected[cold_targets] in text
    code = main(["compare", str(tmp_path / "runs"), "--no-baselines"])
    said = capsys.readouterr()
    assert code == {"miss": 0, "drop": 2}[cold_targets] and expected[cold_targets] in said.out + said.err


def test_a_model_below_popularity_and_one_that_tells_nothing_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = []
    for user in range(60):  # everybody ends with the item that most people have had, but this user has not
        rows += [(f"u{user}", f"i{(7 * user + t) % 40}", 1000 + t) for t in range(4)]
        rows += [(f"u{user}", "hit" if user % 2 else f"i{user % 40}", 2000 + t) for t in range(1)]
        rows += [(f"u{user}", f"j{user % 3}", 3000), (f"u{user}", "other" if user % 2 else "hit", 4000)]
    data = prepared(tmp_path / "hits", events(rows), "hits").path
    root = ["--data.dataset", str(data), "--run.root", str(tmp_path / "runs")]
    untrained = ["--model.optimization.lr", "1e-9", "--trainer.max_epochs", "1"]
    assert main(["fit", *GRU, *root, *untrained]) == 0
    text = capsys.readouterr().err
    assert "is below what untrained baselines reach on these targets: popularity 0." in text
    assert main(["fit", "--model", "RepeatLast", *QUIET, *root]) == 0
    text = capsys.readouterr().err
    assert "the same score" in text and "is below" not in text, "it is a baseline itself"
    assert main(["compare", str(tmp_path / "runs")]) == 0
    said = capsys.readouterr().out
    assert "gru4rec: ndcg@10" in said and "popularity 0." in said and "repeatlast: all candidates" in said
    assert "1 of 1 run was still improving when training stopped; longer training could change gru4rec" in " ".join(
        said.split()
    )
    assert main(["fit", *GRU, *root, *untrained, "--seed_everything", "1"]) == 0
    assert "markov" in capsys.readouterr().err, "counted by the comparison, so that it takes part now"


def test_made_data_has_no_remark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = prepared(tmp_path / "made", made_events(60, 30, 6, 12), "made").path
    arguments = ["--model", "Markov", *QUIET, "--data.dataset", str(data), "--run.root", str(tmp_path / "runs")]
    assert main(["fit", *arguments, "--data.exclude_seen", "none"]) == 0
    text = capsys.readouterr().err
    assert not any(word in text for word in ("hidden", "cold", "below", "candidates"))


def test_a_model_that_reads_the_time_of_the_prediction_is_another_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = prepared(tmp_path / "made", made_events(60, 30, 6, 12), "made").path
    root = ["--data.dataset", str(data), "--run.root", str(tmp_path / "runs"), "--data.training_mode", "last_position"]
    model = ["--model", "LSTMAttention", "--model.embedding_dim", "8", "--model.hidden_dim", "8"]
    query = ["--model.time", "relative", "--model.reference", "query", "--run.variant", "asked"]
    assert main(["fit", *model, *root, *QUIET, *query]) == 0
    assert main(["fit", *model, *root, *QUIET, "--run.variant", "plain"]) == 0
    reads = {path.parts[-3]: json.loads(path.read_text())["reads"] for path in tmp_path.rglob("seed0/manifest.json")}
    assert reads == {"asked": ["query_time"], "plain": []}
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "runs"), "--no-baselines"]) == 0
    said = capsys.readouterr().out
    assert said.count("it reads its time of the event to predict: another task") == 1 and "asked: it reads" in said
