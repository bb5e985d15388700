"""Pages without a script: texts of others are escaped, nothing is asked of a network, nothing is wider than a phone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, find_browser
from made_results import NASTY

from recsys_lab.audit import audit
from recsys_lab.audit.audit_page import audit_page
from recsys_lab.data.locate import locate
from recsys_lab.data.split.leave_one_out import LeaveOneOut
from recsys_lab.diagnose.reliability_page import SHOWN, reliability_page
from recsys_lab.diagnose.shuffle_page import answer, shuffle_page
from recsys_lab.report.page import Page

PROGRAM = find_browser()


@pytest.fixture(scope="module")
def pages(small_folder: Path) -> dict[str, Page]:
    found = audit(locate(str(small_folder), "data"), LeaveOneOut())
    found["dataset"]["name"] = found["dataset"]["licence"] = found["split"]["name"] = NASTY
    found["card"]["event_types"] = {NASTY: 5}
    made = {"reliability": reliability_page(made_calibration()), "shuffle": shuffle_page(made_shuffle())}
    return {"audit": audit_page(found)} | made


def made_calibration() -> dict[str, Any]:
    bins = {"confidence": [0.1, 0.4, 0.9], "accuracy": [0.2, 0.3, 0.6], "count": [500, 300, 14], "error": 0.07}
    numbers = dict.fromkeys(SHOWN, 0.25) | {"probability_share": 1.0}
    kinds = {"equal_width": bins, "equal_mass": bins}
    return {
        "run": {"study": NASTY, "variant": NASTY, "seed": 0, "model": NASTY, "loss": "x", "checkpoint": "best.ckpt"},
        "evaluation": {"dataset": NASTY, "split": NASTY},
        "temperature": 1.3,
        "test": {"before": numbers, "after": numbers, "bins": {"before": kinds, "after": kinds}},
        "notes": [NASTY],
    }


def made_shuffle(low: float = -0.6, high: float = -0.4) -> dict[str, Any]:
    of = {"original": 0.2, "shuffled": 0.1, "seed_deviation": 0.01, "per_seed": [0.1, 0.1], "nothing_to_shuffle": 0.0}
    of |= {"change": -0.5, "change_interval": [low, high], "jaccard": 0.3, "jaccard_interval": [0.2, 0.4]}
    rule = {"n": 2, "rules": 9, "rules_shuffled": [1, 2], "change": -0.8, "support_above": 5}
    return {
        "run": {"study": NASTY, "variant": NASTY, "seed": 0, "model": NASTY, "loss": "x", "checkpoint": "best.ckpt"},
        "evaluation": {"dataset": NASTY, "split": NASTY},
        **{"stage": "test", "metric": "ndcg", "cutoff": 10, "scope": "history", "targets": 40, "max_length": 50},
        **{"longer_than_window": 0.1, "seeds": 2, "interrupted": False, "trained_on": None},
        "kinds": {"all": of, "all_but_last": of | {"change": -0.1, "change_interval": [-0.2, 0.05]}},
        "order_rules": [rule, rule | {"n": 3}],
    }


def test_a_shuffle_is_answered_in_a_sentence() -> None:
    says = answer(made_shuffle())
    assert says == "Yes: with all events shuffled, ndcg@10 changes by -50.0 % [-60.0 %, -40.0 %]."
    assert answer(made_shuffle(-0.6, 0.1)).startswith(
        "No sign of it: with all events shuffled, ndcg@10 does not change"
    )
    assert answer(made_shuffle(0.1, 0.2)).startswith("No, it does better without")
    unknown = made_shuffle()
    unknown["kinds"]["all"]["change"] = float("nan")
    assert answer(unknown).startswith("This can't be known")


@pytest.mark.parametrize("name", ["audit", "reliability", "shuffle"])
def test_texts_of_others_are_escaped_and_nothing_runs_or_is_loaded(pages: dict[str, Page], name: str) -> None:
    html = pages[name].html
    assert NASTY not in html and "tanh &lt;b&gt;" in html
    assert "<script" not in html and "script-src" not in html and "<button" not in html
    assert not re.search(r"""(?:src|href)=["'](?!#)|url\(|@import|https?:""", html)
    assert not re.search(r'(?:stroke|fill)="(?:black|#)', html), "a mark that does not follow the page's mode"
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids)) >= 3


@pytest.mark.skipif(PROGRAM is None, reason="no browser here (Debian: apt-get install chromium)")
def test_they_are_readable_on_a_phone_and_on_a_desk(pages: dict[str, Page], tmp_path: Path) -> None:
    assert PROGRAM is not None
    with Browser(PROGRAM) as browser:
        for name, page in pages.items():
            file = tmp_path / f"{name}.html"
            file.write_text(page.html, encoding="utf-8")
            for width, dark in ((390, False), (1400, True)):
                shown = browser.open(file, width, dark=dark)
                assert shown.complaints == [] and shown.requests == []
                assert shown.evaluate("document.documentElement.scrollWidth") <= width
                ink = shown.evaluate("getComputedStyle(document.querySelector('.chart text')).fill")
                assert ink == ("rgb(230, 232, 234)" if dark else "rgb(31, 35, 40)"), "a picture follows the mode"
                over = "[...document.querySelectorAll('.chart')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
                assert shown.evaluate(over) == 0
