"""`recsys-lab report FOLDER`: one page of what was run, looked at in a browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from browser import Browser, find_browser
from made_results import NASTY

from recsys_lab.cli import main

PROGRAM = find_browser()
READY = "document.documentElement.dataset.ready === 'yes'"
ROWS = "[...document.querySelectorAll('#runs tbody tr')]"


def made_run(folder: Path, variant: str, seed: int, value: float | None, **more: object) -> None:
    """What the page reads of a run."""
    folder.mkdir(parents=True)
    study = folder.parent.parent.name
    evaluation = {"dataset": "a-long-name-of-data", "split": "global_temporal (q=0.9, target=all)", "split_hash": "1"}
    manifest = {"model": "GRU4Rec", "study": study, "variant": variant, "seed": seed, "evaluation": evaluation}
    manifest |= {"stopped_by": "patience", "started": f"2026-11-2{seed}T10:00:00+0000", "loss": "CrossEntropy"}
    manifest |= {"epochs": 9, "train_seconds": 61.5, "commit": "0123456789abcdef"} | more
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "metrics.json").write_text(json.dumps({} if value is None else {"test/ndcg@10": value}))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gallery") / "runs"
    for seed in range(3):
        made_run(root / "losses" / "a" / f"seed{seed}", "gru4rec", seed, 0.2 + seed / 10)
        made_run(root / "losses" / "b" / f"seed{seed}", NASTY, seed, 0.4)
    made_run(
        root / "shop" / "a-variant-of-some-length-5ec1dc74ab" / "seed0", "broken off", 0, None, stopped_by="interrupted"
    )
    made_run(root / "losses" / "baselines" / "k" / "seed0", "popularity", 0, 0.1, stopped_by="counted")
    (root / "shop" / "y" / "seed0").mkdir(parents=True)
    (root / "shop" / "y" / "seed0" / "manifest.json").write_text("{")
    (root / "losses" / "report").mkdir()
    (root / "losses" / "report" / "report.html").write_text("<title>the report</title>")
    (root / "losses" / "report" / "report.md").write_text("# losses\n\nWhich?\n\n**The second one, by 0.1.**\n\nMore")
    calibration = root / "losses" / "a" / "seed0" / "calibration"
    calibration.mkdir()
    (calibration / "reliability.html").write_text("<title>calibration</title>")
    return root


def test_it_lists_runs_and_studies_and_is_small(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(runs)]) == 0
    assert capsys.readouterr().out.strip() == str(runs / "index.html")
    text = (runs / "index.html").read_text()
    assert len(text) < 100_000 and "vegaEmbed=" not in text and NASTY not in text
    for part in ("2 studies, 7 runs: 6 finished, 1 interrupted.", "The second one, by 0.1.", "0.4000", "is damaged"):
        assert part in text, part
    assert 'href="losses/report/report.html"' in text and "popularity" not in text
    assert 'href="losses/a/seed0/calibration/reliability.html"' in text
    assert main(["report", str(runs / "shop"), "--output", str(runs.parent / "mine.html")]) == 0
    assert "1 study, 1 run: 1 interrupted." in (runs.parent / "mine.html").read_text()
    assert main(["report", str(runs.parent / "none")]) == 2 and not (runs.parent / "none").exists()
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.skipif(PROGRAM is None, reason="no browser here (Debian: apt-get install chromium)")
def test_it_sorts_filters_and_leads_to_reports(runs: Path) -> None:
    assert PROGRAM is not None
    assert main(["report", str(runs)]) == 0
    with Browser(PROGRAM) as browser:
        for width, dark in ((390, True), (1400, False)):
            page = browser.open(runs / "index.html", width, dark=dark, ready=READY)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        hidden = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
        assert page.evaluate(hidden) == 0, "a column that is out of sight on a desk"
        assert page.evaluate(f"{ROWS}.length") == 7
        type_in = "(f => {{ f.value = '{}'; f.dispatchEvent(new Event('input')); }})"
        field = "(document.querySelector('#runs .filter input'))"
        shown = f"{ROWS}.filter(row => row.offsetHeight).map(row => row.cells[0].textContent)"
        page.evaluate(type_in.format("PATIENCE gru4rec") + field)
        assert page.evaluate(shown) == ["gru4rec"] * 3
        assert page.evaluate("document.querySelector('#runs output').textContent") == "3 of 7 rows"
        page.evaluate("document.querySelector('#runs th:nth-child(4) button').click()")  # ndcg@10, the largest first
        assert page.evaluate(f"{ROWS}.filter(r => r.offsetHeight).map(r => r.cells[1].textContent)") == ["2", "1", "0"]
        page.evaluate(type_in.format("") + field)
        assert page.evaluate(f"{ROWS}.at(-1).cells[0].textContent") == "broken off", "without a value comes last"
        assert page.complaints == [] and page.requests == []
        page.evaluate("document.querySelector('#studies a').click()")
        page.wait_for("document.title === 'the report'")
