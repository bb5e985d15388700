"""read_results: which runs are compared with which, what becomes of those that are not finished, names and records."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_study import QUICK, MadeStudy, ranks_of, write_run

from recsys_lab.runs.finished import Run, read_run
from recsys_lab.study.pages.tables import effects
from recsys_lab.study.plan.study_file import read_study
from recsys_lab.study.results import as_table, read_results, write_table
from recsys_lab.words import RecsysLabError

AXES = {"data": ["one", "two"], "encoder": ["gru", "sas"], "model.dropout": ["0.1", "0.3"]}


@pytest.fixture
def made(tmp_path: Path) -> MadeStudy:
    made = MadeStudy(tmp_path, AXES)
    for data in AXES["data"]:
        for i, encoder in enumerate(AXES["encoder"]):
            for j, dropout in enumerate(AXES["model.dropout"]):
                values = {"data": data, "encoder": encoder, "model.dropout": dropout}
                for seed in (0, 1):
                    ranks = ranks_of(1.5 * i + 0.1 * j, seed + 10 * (data == "two"))
                    made.add(values, seed, ranks, dataset=data, data_hash=data, tie_order="file")
    return made


def test_blocks_names_and_records(made: MadeStudy) -> None:
    results = read_results(made.plan(), method=QUICK)
    assert [(block.dataset, block.values) for block in results.blocks] == [
        ("one", {"data": "one"}),
        ("two", {"data": "two"}),
    ]
    for block in results.blocks:
        assert {line.name for line in block.lines} == {
            f"{encoder} · dropout={dropout}" for encoder in AXES["encoder"] for dropout in AXES["model.dropout"]
        }
        assert [line.match for line in block.lines] == [line.name for line in block.lines]
        assert {effect.axis for effect in block.effects} == {"encoder", "model.dropout"}
        assert block.lines[0].values["encoder"] == "sas" and block.lines[0].seeds == [0, 1]
        assert len(block.records) == 8 and {record.block for record in block.records} == {block.key}
        assert (block.users, block.targets, len(block.curves)) == (200, 200, 8)
    assert len({block.key for block in results.blocks}) == 2
    assert results.planned == 16 and results.states == {"finished": 16} and results.commits == ["c0ffee"]
    assert results.cutoff == 10 and results.deciding == "ndcg" and results.answer.is_complete
    assert results.answer.findings[0].startswith(
        "encoder: on all 2 data sets and splits, sas is significantly better than gru (+0."
    )
    assert re.match(
        r"sas is significantly better than gru on one: \+0\.\d{4} ndcg@10 \[\+0\.\d{4}, \+0\.\d{4}\]; \d of 4",
        results.answer.sentence,
    )


def test_the_sentence_is_of_the_axis_that_the_question_asks_about(made: MadeStudy) -> None:
    plan = made.plan()
    plan.study.report["asks"] = ["model.dropout"]
    assert "dropout=0." in read_results(plan, method=QUICK).answer.sentence
    assert "gru" not in read_results(plan, method=QUICK).answer.sentence


def test_the_sentence_is_of_the_two_values_that_the_question_asks_about(made: MadeStudy) -> None:
    plan = made.plan()
    plan.study.report["asks"] = [{"model.dropout": ["0.1", "0.3"]}]
    sentence = read_results(plan, method=QUICK).answer.sentence
    assert "dropout=0.1" in sentence and "dropout=0.3" in sentence and "gru" not in sentence


def test_the_sentence_is_of_one_value_beside_all_others_that_the_question_asks_about(tmp_path: Path) -> None:
    """`[ids, time, all]`: ids with time and with all, and not time with all, which differ most."""
    made = MadeStudy(tmp_path, {"factor": ["ids", "time", "all"]})
    for factor, skill in (("ids", 0.7), ("time", 0.0), ("all", 1.5)):
        for seed in (0, 1, 2):
            made.add({"factor": factor}, seed, ranks_of(skill, seed))
    plan = made.plan()
    assert "all is significantly better than time: " in read_results(plan, method=QUICK).answer.sentence
    plan.study.report["asks"] = [{"factor": ["ids", "time", "all"]}]
    sentence = read_results(plan, method=QUICK).answer.sentence
    assert sentence.startswith("For factor, all is significantly better than ids: "), "`all` says nothing by itself"
    assert sentence.endswith("of 2 differences to ids are significant."), sentence


def test_no_difference_to_the_value_that_was_asked_about_is_said_of_these_alone(tmp_path: Path) -> None:
    """The largest of all differences, which the findings name, may be another one."""
    made = MadeStudy(tmp_path, {"factor": ["ids", "time", "all"]})
    for factor, skill in (("ids", 0.03), ("time", 0.0), ("all", 0.05)):
        for seed in (0, 1, 2):
            made.add({"factor": factor}, seed, ranks_of(skill, seed))
    plan = made.plan()
    plan.study.report["asks"] = [{"factor": ["ids", "time", "all"]}]
    sentence = read_results(plan, method=QUICK).answer.sentence
    assert sentence.startswith("For factor, no difference to ids is significant; the largest, "), sentence


def test_every_value_that_is_better_than_another_is_named(tmp_path: Path) -> None:
    """Also one that a third is better than; those that none is better than come first. The table has what was tested
    above what was not."""
    made = MadeStudy(tmp_path, {"factor": ["low", "middle", "high", "one"]})
    for factor, skill in (("low", 0.0), ("middle", 0.8), ("high", 1.8), ("one", 3.0)):
        for seed in (0, 1, 2) if factor != "one" else (0,):
            made.add({"factor": factor}, seed, ranks_of(skill, seed))
    results = read_results(made.plan(), method=QUICK)
    (said,) = [line for line in results.answer.findings if line.startswith("factor: ")]
    assert (
        "high is significantly better than low and middle. " in said
        or "high is significantly better than middle and low. " in said
    )
    assert ". middle is significantly better than low. The differences are " in said, said
    untested = [bool(of["ndcg"].untested) for of in effects(results.blocks[0], ["factor"]).rows]
    assert untested == [False] * 3 + [True] * 3


def test_a_question_about_no_axis_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    for asks, why in (("[c]", "two or more values of it"), ("[a, c]", "unknown value in report.asks: encoder 'c'")):
        file.write_text(f"axes: {{encoder: {{a: {{}}, b: {{}}}}}}\nreport: {{asks: [{{encoder: {asks}}}]}}\n")
        with pytest.raises(RecsysLabError, match=why):
            read_study(file)
    file.write_text("axes: {encoder: {a: {}, b: {}}}\nreport: {asks: [encodr]}\n")
    with pytest.raises(RecsysLabError, match="unknown axis in report.asks 'encodr'. Did you mean 'encoder'"):
        read_study(file)


def test_curves_add_up_seconds_and_know_epochs_without_validation(made: MadeStudy) -> None:
    curve = read_results(made.plan(), method=QUICK).blocks[0].curves[0]
    assert curve.seconds.tolist() == [2.5, 4.5, 6.0] and curve.epochs.tolist() == [0, 1, 2]
    assert np.isnan(curve.values[1]) and curve.values[2] == 0.2 and curve.metric == "val/ndcg@10"


def test_a_study_without_a_finished_run_is_an_error(tmp_path: Path) -> None:
    made = MadeStudy(tmp_path, {"encoder": ["gru"]})
    made.add({"encoder": "gru"}, 0, None)
    with pytest.raises(RecsysLabError, match=r"no finished run.*1 missing.*recsys-lab study run"):
        read_results(made.plan())


def test_what_is_not_finished_or_unreadable_is_named(made: MadeStudy) -> None:
    made.add({"data": "one", "encoder": "gru", "model.dropout": "0.9"}, 0, None)
    (made.runs[0].folder / "ranks.parquet").write_text("broken")
    results = read_results(made.plan(), method=QUICK)
    assert not results.answer.is_complete and results.answer.sentence.startswith("So far (15 of 17 runs): ")
    kinds = {caution.kind: caution.text for caution in results.cautions}
    assert (
        "1 of 17 planned runs is in no number here: 1 was not run yet" in kinds["missing"]
        and "one_gru_0.9 seed 0" in kinds["missing"]
    )
    assert (
        "1 of 17 planned runs is in no number here: 1 can't be read (" in kinds["failed"]
        and "unreadable" in results.records[0].reason
    )
    assert sum(record.state == "finished" for record in results.records) == 15


def test_retrained_runs_and_other_targets_are_blocks_of_their_own(tmp_path: Path) -> None:
    made = MadeStudy(tmp_path, {"encoder": ["gru", "sas"], "run": ["plain", "retrained", "fewer"]})
    made.add({"encoder": "gru", "run": "plain"}, 0, ranks_of(0))
    made.add({"encoder": "sas", "run": "plain"}, 0, ranks_of(0.5))
    made.add({"encoder": "sas", "run": "retrained"}, 0, ranks_of(0.6), retrained=True)
    made.add({"encoder": "sas", "run": "fewer"}, 0, ranks_of(0.7, users=150))
    results = read_results(made.plan(), method=QUICK)
    assert [(len(block.lines), block.is_retrained, block.users) for block in results.blocks] == [
        (2, False, 200),
        (1, True, 200),
        (1, False, 150),
    ]
    assert len({block.key for block in results.blocks}) == 3
    assert results.blocks[1].title.endswith("retrained on training and validation part")


def test_names_are_todays_and_not_those_of_the_manifest(tmp_path: Path) -> None:
    made = MadeStudy(tmp_path, {"encoder": ["gru", "sas"]})
    for encoder in ("gru", "sas"):
        run = made.add({"encoder": encoder}, 0, ranks_of(0.1), encoder)
        manifest = json.loads((run.folder / "manifest.json").read_text())
        (run.folder / "manifest.json").write_text(json.dumps(manifest | {"study": "old", "variant": "old label"}))
    (block,) = read_results(made.plan(), method=QUICK).blocks
    assert sorted(line.label for line in block.lines) == ["gru", "sas"]


def test_counted_baselines_take_part(made: MadeStudy, tmp_path: Path) -> None:
    asked = []

    def automatic(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
        asked.append(len(runs))
        evaluation = runs[0].evaluation
        folder = tmp_path / "counted" / evaluation["dataset"]
        facts = {"dataset": evaluation["dataset"], "data_hash": evaluation["data_hash"], "tie_order": "file"}
        found = []
        for name, skill in (("popularity", -1.0), ("item_knn", 0.2)):
            changes = {"stopped_by": "counted", "commit": "later", "model": name, "epochs": 1, "best_epoch": 0, **facts}
            write_run(folder / name, ranks_of(skill), name, 0, **changes)
            found.append(read_run(folder / name))
        return found, ["baseline markov: no memory"]

    results = read_results(made.plan(), automatic, QUICK)
    assert asked == [8, 8]
    block = results.blocks[0]
    counted = {
        line.name: line for line, row in zip(block.lines, block.comparison.rows, strict=True) if row.is_automatic
    }
    assert set(counted) == {"popularity", "item_knn"}
    assert counted["item_knn"].letters and not counted["popularity"].letters  # the best only is tested
    assert not any(effect for effect in block.effects if "popularity" in (effect.a, effect.b))
    assert len(block.curves) == 8
    assert [r.label for r in results.records if r.is_automatic] == [
        line.label for line in block.lines if line.label in counted
    ] * 2
    assert results.commits == ["c0ffee"]
    (other_code,) = [caution for caution in results.cautions if caution.kind == "commits"]
    assert other_code.severity == "note" and "counted with another commit" in other_code.text
    assert any("no memory" in caution.text for caution in results.cautions if caution.kind == "baselines")
    assert any("the best untrained baseline, item_knn" in line for line in results.answer.findings)


def test_equal_columns_are_held_once(made: MadeStudy) -> None:
    results = read_results(made.plan(), method=QUICK)
    runs = [run for row in results.blocks[0].comparison.rows for run in row.runs]
    for run in runs[1:]:
        assert run.ranks["rank"].to_list() == pl.read_parquet(run.folder / "ranks.parquet")["rank"].to_list()
    pointers = {run.ranks["query_time"].to_numpy().__array_interface__["data"][0] for run in runs}
    assert len(pointers) == 1


def test_the_table_has_a_row_for_each_run(made: MadeStudy, tmp_path: Path) -> None:
    made.add({"data": "one", "encoder": "gru", "model.dropout": "0.9"}, 0, None)
    results = read_results(made.plan(), method=QUICK)
    write_table(results, tmp_path / "results.parquet")
    table = pl.read_parquet(tmp_path / "results.parquet")
    assert table.equals(as_table(results)) and len(table) == 16
    row = table.filter(variant="two_sas_0.3", seed=1).row(0, named=True)
    metrics = json.loads((made.plan().runs[15].folder / "metrics.json").read_text())
    assert row["axis/encoder"] == "sas" and row["axis/model.dropout"] == "0.3" and row["block"] == results.blocks[1].key
    assert row["test/ndcg@10"] == metrics["test/ndcg@10"] and row["stopped_by"] == "patience"
    assert (row["epochs"], row["parameters"], row["commit"], row["data_hash"]) == (20, 1000, "c0ffee", "two")
    assert not (tmp_path / "results.parquet.partial").exists()


def test_an_unknown_metric_is_an_error(made: MadeStudy) -> None:
    with pytest.raises(RecsysLabError, match="unknown metric 'precision'"):
        read_results(made.plan(), metrics=("precision",))
