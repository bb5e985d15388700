"""Values beside the study file: a study moved to another folder with nothing else goes on, and says the same."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from made_study import QUICK, USERS, ranks_of, write_run

import recsys_lab
from recsys_lab.runs.finished import read_run
from recsys_lab.runs.ranks_file import hash_targets
from recsys_lab.study.plan import Plan, make_plan, read_study
from recsys_lab.study.plan.keep import keep_values
from recsys_lab.study.plan.plan_text import counts_line, plan_text
from recsys_lab.study.plan.study_settings import Checked
from recsys_lab.study.results import StudyResults, as_table, read_results
from recsys_lab.study.values import baseline_file, find_kept_baselines, read_values, values_file, write_values

STUDY = "name: made\nquestion: Which?\naxes: {encoder: [gru, sas]}\nseeds: 3\n"


class FlatResolver:
    def compose(self, settings: list[dict[str, Any]], start: dict[str, Any] | None = None) -> dict[str, Any]:
        return {key: value for layer in [start or {}, *settings] for key, value in layer.items()}

    def check(self, configs: list[dict[str, Any]]) -> list[Checked]:
        return [Checked(sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()) for config in configs]

    def data_hash(self, config: dict[str, Any]) -> str | None:
        return None


def plan_of(folder: Path) -> Plan:
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(STUDY)
    return make_plan(read_study(folder, folder / "runs"), FlatResolver())


def train(plan: Plan, *seeds: int) -> None:
    """Writes the missing ones' folders."""
    for run in plan.in_state("missing"):
        if run.seed in seeds:
            skill = 0.9 if run.variant.label == "sas" else 0.2
            version = {"numbers_version": getattr(recsys_lab, "NUMBERS", 1)}
            ranks = ranks_of(skill, run.seed)
            write_run(run.folder, ranks, run.variant.label, run.seed, command=f"cd {run.folder}", **version)


def told(results: StudyResults) -> tuple[Any, ...]:
    block = results.blocks[0]
    table = as_table(results).drop("block")
    return (
        results.answer,
        [(c.kind, c.text) for c in results.cautions],
        block.comparison.pairs,
        block.effects,
        [str(one.values) for one in block.curves],
        str(block.slices),
        table.to_dicts(),
    )


def test_a_study_goes_on_in_another_folder_from_its_values(tmp_path: Path) -> None:
    here = plan_of(tmp_path / "here")
    train(here, 0, 1)
    here = plan_of(tmp_path / "here")
    written = keep_values(here.study, here.in_state("finished"))
    assert [file.name for file in written] == [f"{e}-seed{s}.parquet" for s in (0, 1) for e in ("gru", "sas")]

    shutil.copytree(tmp_path / "here" / "values", tmp_path / "there" / "values")
    there = plan_of(tmp_path / "there")
    assert counts_line(there, there.runs) == "6 runs of 2 variants: 4 finished, 2 missing"
    assert "there/values/sas-seed1.parquet" in plan_text(there, there.runs)
    assert not (tmp_path / "there" / "runs").exists()
    before = read_results(here, method=QUICK)
    assert told(read_results(there, method=QUICK)) == told(before)

    for name in ("here", "there"):  # the last seed is run, and its folder stands beside the values
        train(plan_of(tmp_path / name), 2)
    there, here = plan_of(tmp_path / "there"), plan_of(tmp_path / "here")
    assert there.counts() == {"finished": 6} and len(list((tmp_path / "there").glob("runs/*/*/seed*"))) == 2
    after = read_results(there, method=QUICK)
    assert told(after) == told(read_results(here, method=QUICK)) and told(after) != told(before)


def test_values_are_small_and_hold_no_ids_times_or_places(tmp_path: Path) -> None:
    """943 targets, as MovieLens-100K has."""
    users = 943
    draw = np.random.default_rng(0)
    folder = write_run(
        tmp_path / "run", ranks_of(0.5, users=users), "a", 0, command=f"in {tmp_path}", audit={"file": "/x"}
    )
    ranks = pl.read_parquet(folder / "ranks.parquet").with_columns(
        query_time=pl.Series(draw.integers(8 * 10**8, 9 * 10**8, users)),
        gap_seconds=pl.Series(draw.integers(0, 10**7, users)),
        history_length=pl.Series(draw.integers(10, 700, users)),
        num_candidates=pl.Series(draw.integers(900, 1600, users)),
        num_ties=pl.Series(np.zeros(users, dtype=np.int64)),
    )
    ranks.write_parquet(folder / "ranks.parquet")
    run, file = read_run(folder), tmp_path / "values" / "a-seed0.parquet"
    write_values(run, file, "val/ndcg@10", "identity", 3)
    assert file.stat().st_size < 20_000
    kept = pl.read_parquet(file)
    assert not {"target_item_id", "query_time"} & set(kept.columns) and kept["user_id"].to_list() == list(
        range(1, users + 1)
    )
    assert kept["gap_seconds"].n_unique() <= 7  # ends of the slices only
    assert str(tmp_path) not in str(pl.read_parquet_metadata(file))
    again = read_values(file)
    assert (again.identity, again.seed, again.targets_hash) == ("identity", 3, run.targets_hash)
    assert again.metrics == run.metrics and again.manifest["stopped_by"] == "patience"
    assert again.values("ndcg", 10).tolist() == run.values("ndcg", 10).tolist()


def test_the_hash_of_targets_is_of_their_bytes() -> None:
    """Of nothing else: it is compared between machines and versions of polars."""
    frame = pl.DataFrame({"user_id": ["a", "bc"], "target_item_id": [1, 2], "query_time": [5, None]})
    assert hash_targets(frame) == "aa93c1cb064e8ff9"
    assert hash_targets(frame.with_columns(pl.col("target_item_id").cast(pl.Int32))) == hash_targets(frame)
    others = [{"user_id": ["ab", "c"]}, {"target_item_id": [2, 1]}, {"query_time": [5, 0]}]
    assert len({hash_targets(frame.with_columns(**{k: pl.Series(v) for k, v in o.items()})) for o in others}) == 3
    assert hash_targets(frame.with_columns(user_id=pl.Series(["ab", "c"]))) != hash_targets(frame)


def test_values_of_other_code_or_settings_do_not_count_and_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path / "here")
    train(plan, 0)
    plan = plan_of(tmp_path / "here")
    gru, sas = keep_values(plan.study, plan.in_state("finished"))
    shutil.rmtree(tmp_path / "here" / "runs")
    (tmp_path / "here" / "values" / "broken.parquet").write_text("no parquet")
    write_values(read_values(sas), sas, "val/ndcg@10", "of settings that are no more", 0)
    found = plan_of(tmp_path / "here")
    assert found.counts() == {"finished": 1, "missing": 5}
    assert ["unreadable" in line or "no variant" in line for line in found.not_counted] == [True, True]
    monkeypatch.setattr(recsys_lab, "NUMBERS", 1_000, raising=False)
    found = plan_of(tmp_path / "here")
    assert found.counts() == {"missing": 6} and len(found.not_counted) == 3
    assert any("this code has 1000" in line and str(gru) in line for line in found.not_counted)


def test_run_folders_of_other_code_give_way_to_values_of_this(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path / "here")
    train(plan, 0)
    plan = plan_of(tmp_path / "here")
    keep_values(plan.study, plan.in_state("finished"))
    old = plan.in_state("finished")[0].folder / "manifest.json"
    old.write_text(json.dumps(json.loads(old.read_text()) | {"numbers_version": -1}))
    plan = plan_of(tmp_path / "here")
    assert [run.kept is not None for run in plan.in_state("finished")] == [True, False]
    file = values_file(plan.study.file, "gru", 0)
    before = file.read_bytes()
    keep_values(plan.study, plan.in_state("finished"))
    assert file.read_bytes() == before


def test_baselines_are_kept_for_their_targets(tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    version = {"numbers_version": getattr(recsys_lab, "NUMBERS", 1)}
    counted = read_run(write_run(tmp_path / "b", ranks_of(0), "popularity", 0, stopped_by="counted", **version))
    write_values(counted, baseline_file(study, counted), "val/ndcg@10")
    same = read_run(write_run(tmp_path / "a", ranks_of(1), "sas", 0))
    other = read_run(write_run(tmp_path / "c", ranks_of(1), "sas", 0, exclude_seen="none"))
    fewer = read_run(write_run(tmp_path / "d", ranks_of(1, users=USERS - 1), "sas", 0))
    assert [run.variant for run in find_kept_baselines(study, [same])] == ["popularity"]
    assert not find_kept_baselines(study, [other]) and not find_kept_baselines(study, [fewer])
