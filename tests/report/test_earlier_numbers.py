"""README of a study whose committed numbers have no values here: they stay, and nothing is claimed of them."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

from recsys_lab.study.pages.earlier import earlier_rows, earlier_text
from recsys_lab.study.pages.readme import MARK, write_earlier_readme
from recsys_lab.study.plan import Plan, PlannedRun, Study, Variant

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def plan_of(folder: Path, finished: tuple[str, ...] = ()) -> Plan:
    variants = [Variant(label, {}, {}, label, (0, 1)) for label in ("gru", "sas")]
    runs = [
        PlannedRun("made", of, seed, folder / of.label, "finished" if of.label in finished else "missing")
        for of in variants
        for seed in of.seeds
    ]
    return Plan(Study(folder / "study.yaml", "made", "Which?"), variants, runs)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [("gru", 0, 0.1), ("gru", 1, 0.2), ("sas", 0, 0.9), ("gone", 0, 0.5), ("popularity", 0, 0.05)]
    pl.DataFrame(
        [
            {
                "block": "data-loo",
                "variant": variant,
                "seed": seed,
                "is_automatic": variant == "popularity",
                "stopped_by": "counted" if variant == "popularity" else "patience",
                "commit": "0123456789abcdef",
                **{f"test/{name}": value for name in ("ndcg@10", "hit_rate@10", "mrr@10")},
            }
            for variant, seed, value in rows
        ]
    ).write_parquet(tmp_path / "results.parquet")
    (tmp_path / "README.md").write_text(f"# made\n\nBy hand.\n\n{MARK}\n\n**Sas is ahead of gru.**\n")
    return tmp_path


def test_numbers_without_values_stay_and_claim_nothing(folder: Path) -> None:
    assert write_earlier_readme(plan_of(folder)) == folder / "README.md"
    shown = (folder / "README.md").read_text()
    assert shown.startswith("# made\n\nBy hand.\n") and "ahead" not in shown and "**" not in shown
    assert "| sas | 1 | 0.9000 | 0.9000 | 0.9000 | one seed, not tested; commit 0123456789, before the rule |" in shown
    assert (
        "| gru | 2 | 0.1500 (sd 0.0707) |" in shown and "| popularity | - | 0.0500 |" in shown and "gone" not in shown
    )


def test_what_is_finished_now_is_no_earlier_number(folder: Path) -> None:
    rows = earlier_rows(folder, plan_of(folder, ("gru",)), {"data-loo"})
    assert rows["variant"].to_list() == ["sas"]
    assert not earlier_text(rows.clear(), ["ndcg@10"])
    assert write_earlier_readme(plan_of(folder / "elsewhere")) is None


@pytest.mark.parametrize("readme", sorted(EXPERIMENTS.glob("*/README.md")), ids=lambda path: path.parent.name)
def test_no_standing_study_names_a_winner_that_was_not_tested(readme: Path) -> None:
    earlier = readme.read_text().partition("## Earlier numbers, not tested")[2]
    assert not re.search(r"\*\*|ahead of|significantly", earlier)
    for line in re.findall(r"^\|.*\|$", earlier, flags=re.MULTILINE):
        assert re.search(r"before the rule|\| variant \||---", line), line
