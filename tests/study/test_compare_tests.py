"""compare: baseline, choice of test, correction, warnings, LaTeX."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from test_compare import EVALUATION, USERS, made_ranks, make_run

from recsys_lab.cli import main
from recsys_lab.runs.comparison import compare
from recsys_lab.runs.comparison_table import render
from recsys_lab.runs.finished import find_runs
from recsys_lab.statistics.pairs import Method
from recsys_lab.words import RecsysLabError


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    for seed in (0, 1, 2):
        make_run(root / "a" / f"seed{seed}", made_ranks(seed, 8), "a_1", seed)
        make_run(root / "b" / f"seed{seed}", made_ranks(seed + 3, 40), "b", seed)
    make_run(root / "c" / "seed0", made_ranks(9, 60), "c & d {50%}", 0)
    return root


def test_a_planted_effect_is_found(runs: Path) -> None:
    comparison = compare(find_runs([runs])[0])
    (pair,) = (p for p in comparison.pairs if (p.a, p.b, p.metric) == (0, 1, "ndcg"))
    assert [row.variant for row in comparison.rows[:2]] == ["a_1", "b"]
    assert pair.difference > 0 and pair.low > 0 and pair.p_corrected < 0.05
    assert 0 < pair.detectable < pair.difference
    against = comparison.rows[1].against["ndcg"]
    assert (against.difference, against.low, against.high) == (-pair.difference, -pair.high, -pair.low)


def test_against_a_baseline(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = find_runs([runs])
    comparison = compare(found, baseline="b")
    assert [(p.a, p.b) for p in comparison.pairs] == [(0, 1)] * 3 + [(1, 2)] * 3
    assert comparison.rows[0].against["ndcg"].difference > 0 and not comparison.rows[1].against
    assert compare(found, baseline=str(runs / "b" / "seed1")).reference == 1
    assert main(["compare", str(runs), "--baseline", "b", "--metrics", "mrr"]) == 0
    shown = capsys.readouterr().out
    assert (
        "vs baseline is this row minus b, in mrr@10" in shown
        and "over 1 pair in mrr@10" in shown
        and "one seed" in shown
    )
    assert main(["compare", str(runs), "--baseline", "a_2"]) == 2
    assert "Did you mean 'a_1'?" in capsys.readouterr().err
    make_run(runs / "b2" / "seed0", made_ranks(5), "b", 0, loss="BPR")
    with pytest.raises(RecsysLabError, match="2 of the rows; give the folder"):
        compare(find_runs([runs])[0], baseline="b")


def test_intervals_are_ordered_and_repeatable(runs: Path) -> None:
    found, _ = find_runs([runs])
    for kind in ("bca", "percentile", "t"):
        first, again = (compare(found, method=Method(interval=kind)) for _ in range(2))  # type: ignore[arg-type]
        for row, same in zip(first.rows, again.rows, strict=True):
            low, high = row.intervals["ndcg"]
            assert low < row.estimates["ndcg"].mean < high and row.intervals == same.intervals


def test_a_bootstrap_needs_enough_resamples(runs: Path) -> None:
    with pytest.raises(RecsysLabError, match="at least 100 resamples"):
        compare(find_runs([runs])[0], method=Method(resamples=10))


def test_item_id_tie_order_draws_a_warning(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = make_run(tmp_path / name, made_ranks(1), name)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["evaluation"]["tie_order"] = "item_id" if name == "a" else None
        (folder / "manifest.json").write_text(json.dumps(manifest))
    # an older manifest does not say; that alone is no difference
    (warning,) = (note for note in compare(find_runs([tmp_path])[0]).notes if "tie_order" in note)
    assert warning.startswith("WARNING: tie_order item_id in a:")


def test_other_targets_under_equal_hashes_are_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "a", made_ranks(1), "a")
    make_run(tmp_path / "b", made_ranks(2)[:20], "b")
    with pytest.raises(RecsysLabError, match="(?s)differ in\n  targets: .* in .*a; .* in .*b"):
        compare(find_runs([tmp_path])[0])


def test_a_seed_that_is_there_twice_counts_once(runs: Path) -> None:
    make_run(runs / "a" / "seed_again", made_ranks(0, 8), "a_1", 0)
    comparison = compare(find_runs([runs])[0])
    assert len(comparison.rows[0].runs) == 3
    assert any(
        "a_1 holds seed 0 more than once" in note and "seed_again is left out" in note for note in comparison.notes
    )
    assert any("one seed" in note and "c & d" in note and "b" not in note.split(": ")[1] for note in comparison.notes)


def test_bold_is_for_what_seeds_do_not_explain(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        make_run(tmp_path / f"a{seed}", np.full(USERS, 1.0 + seed), "a", seed)
        make_run(tmp_path / f"b{seed}", np.full(USERS, 2.0), "b", seed)
        make_run(tmp_path / f"c{seed}", made_ranks(seed, 60), "c", seed)
    comparison = compare(find_runs([tmp_path])[0])
    assert [row.variant for row in comparison.rows[:2]] == ["a", "b"]
    assert not comparison.is_significantly_best(0)  # .08 better, with an sd of .26 over its seeds
    assert "**" not in render(comparison, "markdown")
    clear = compare([run for run in find_runs([tmp_path])[0] if run.variant != "a"])
    assert clear.is_significantly_best(0) and render(clear, "markdown").count("**0.6309") == 1
    assert "significantly better" in render(clear, "markdown")
    single = compare([run for run in find_runs([tmp_path])[0] if run.manifest["seed"] == 0])
    assert not any(single.is_significantly_best(row) for row in range(3))


def test_pairs_in_every_format(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def shown(format: str) -> str:
        assert main(["compare", str(runs), "--pairs", "--format", format, *["--wide"] * (format == "text")]) == 0
        return capsys.readouterr().out

    table = json.loads(shown("json"))
    records = list(csv.DictReader(io.StringIO(shown("csv"))))
    assert (
        len(table["pairs"]) == len(records) == 9
        and table["method"]["resamples"] == 2000
        and {r["is_significant"] for r in records} == {"True", "False"}
    )
    assert float(records[0]["difference"]) == pytest.approx(table["pairs"][0]["difference"])
    assert {r["metric"] for r in records} == {"hit_rate@10", "ndcg@10", "mrr@10"}
    assert "p uncorrected" in shown("text") and shown("markdown").count("\n| ---") == 2


def test_latex_is_balanced(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(runs), "--format", "latex", "--pairs"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("%")]
    source = "\n".join(lines)
    assert re.findall(r"\\begin\{(\w+)\}", source) == re.findall(r"\\end\{(\w+)\}", source) == ["tabular"] * 2
    for rule in ("toprule", "midrule", "bottomrule"):
        assert source.count("\\" + rule) == 2
    bare = re.sub(r"\\[{}&%_#$]", "", source)
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0 and source.isascii()
    for table in bare.split("\\begin{tabular}")[1:]:
        columns = len(re.match(r"\{([lr]+)\}", table).group(1))  # type: ignore[union-attr]
        rows = [line for line in table.splitlines() if line.endswith("\\\\")]
        assert len(rows) >= 3 and {row.count("&") + 1 for row in rows} == {columns}
    assert not re.search(r"[_%#$^~]", bare), "what LaTeX reads as a command must be escaped"
    assert r"c \& d \{50\%\}" in source and EVALUATION["dataset"] not in source


def test_runs_that_trained_on_the_validation_part_are_rows_of_their_own_and_warn(tmp_path: Path) -> None:
    ranks = np.arange(1.0, 41.0)
    make_run(tmp_path / "a" / "seed0", ranks, "a")
    again = make_run(tmp_path / "b" / "seed0", ranks, "a")
    manifest = json.loads((again / "manifest.json").read_text())
    manifest["evaluation"]["retrained"] = True
    (again / "manifest.json").write_text(json.dumps(manifest))
    comparison = compare(find_runs([tmp_path])[0])
    assert [len(row.runs) for row in comparison.rows] == [1, 1]
    assert any("trained on the validation part too" in note for note in comparison.notes)
