"""docs/board.md is what scripts/board.py writes from the kept values."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from recsys_lab.study.plan.opened import StudyAsked, open_study
from recsys_lab.study.results.trials import Trials

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def board() -> ModuleType:
    spec = importlib.util.spec_from_file_location("board", ROOT / "scripts" / "board.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Tried:
    """As much of a study's results as `finalists` reads."""

    def __init__(self, reached: dict[str, tuple[float, float]]) -> None:
        self.trials = []
        for name, (paper, ours) in reached.items():
            chosen = "paper" if paper > ours else "ours"
            tried = {"paper": paper, "ours": ours}
            self.trials.append(Trials(name, tried, chosen, {"data": "d", "encoder": name}))


def test_the_five_best_on_validation_get_seeds_and_three_always_do(board: ModuleType) -> None:
    reached = {"sasrec": (0.1, 0.9), "gru4rec": (0.1, 0.2), "lstm_attention": (0.3, 0.1), "narm": (0.8, 0.1)}
    reached |= {"rnn": (0.7, 0.7), "caser": (0.4, 0.6), "stamp": (0.5, 0.4), "core": (0.45, 0.1)}
    found = board.finalists(Tried(reached))
    assert found == {"d": ["sasrec", "narm", "rnn", "caser", "stamp", "gru4rec", "lstm_attention"]}


@pytest.mark.slow
def test_the_page_is_that_of_the_kept_values(
    board: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And who has three seeds is what `finalists` says, where both trials of every encoder were run."""
    page, committed = tmp_path / "board.md", board.PAGE.read_text(encoding="utf-8")
    above, below = committed.partition(board.MARK)[0], committed.partition(board.END)[2]
    page.write_text(above + board.MARK + board.END + below, encoding="utf-8")
    monkeypatch.setattr(board, "PAGE", page)
    board.main(["--root", str(tmp_path / "runs")])
    assert page.read_text(encoding="utf-8") == committed
    plan, _ = open_study(StudyAsked(str(board.STUDY), root=str(tmp_path / "runs")), only_looks=True)
    results = board.results_of(plan)
    for data, names in board.finalists(results).items():
        tried = [len(one.reached) for one in results.trials if one.values["data"] == data]
        if tried == [2] * len(plan.study.axes["encoder"]):
            runs = [run for run in plan.runs if run.variant.values["data"] == data and run.seed > 0]
            assert {run.variant.values["encoder"] for run in runs} == set(names), data
