"""All runs and studies below a folder as one page: what there is, what came out, and where its reports are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote

from recsys_lab.report.page import Card, Page, Section
from recsys_lab.report.table import Cell, Column, Table
from recsys_lab.runs.finished import run_folders
from recsys_lab.runs.run_files import UNFINISHED, ChangedRunError, read_json, read_manifest
from recsys_lab.words import RecsysLabError, number_of

REPORT, CALIBRATION = Path("report") / "report.html", Path("calibration") / "reliability.html"
"""Where `study report` and `diagnose calibration` write their pages: in a study's folder, in a run's."""
METRICS = ("ndcg@10", "hit_rate@10", "mrr@10")
LONGEST_ANSWER = 200


@dataclass(frozen=True)
class Shown:
    """One run as the page shows it."""

    folder: Path
    manifest: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def study(self) -> str:
        return str(self.manifest.get("study") or self.folder.parent.parent.name)

    @property
    def variant(self) -> str:
        return str(self.manifest.get("variant") or self.manifest["model"])

    @property
    def data(self) -> str:
        about = self.manifest["evaluation"]
        return f"{about.get('dataset', '?')}, {about.get('split', '?')}"

    @property
    def state(self) -> str:
        why = str(self.manifest.get("stopped_by", "unknown"))
        if why in UNFINISHED:
            return why
        return "finished" if self.test(METRICS[0]) is not None else "not tested"

    def test(self, metric: str) -> float | None:
        value = self.metrics.get(f"test/{metric}")
        return float(value) if isinstance(value, int | float) else None

    @property
    def is_counted(self) -> bool:
        return self.manifest.get("stopped_by") == "counted"


def gallery(root: Path) -> Page:
    """The page of the runs below `root`; links lead to pages that are there, relative to `root`.

    Baselines that comparisons have counted and trials of searches are left out: a study's own page has them.

    Raises:
        RecsysLabError: where there is no run.
    """
    runs, broken = _read(root)
    if not runs and not broken:
        what = "holds no run folder (none has a manifest.json of a run)" if root.exists() else "does not exist"
        raise RecsysLabError(f"{root} {what}: `recsys-lab fit` makes one, or name another folder")
    studies: dict[str, list[Shown]] = {}
    for run in runs:
        studies.setdefault(run.study, []).append(run)
    states = Counter(run.state for run in runs)
    told = ", ".join(f"{count} {state}" for state, count in states.most_common())
    sections = [
        Section("studies", "Studies", [Card(tables_first=[_studies_table(root, studies)])]),
        Section("runs", "Runs", [Card(tables_first=[_runs_table(root, runs)])]),
    ]
    return Page(
        "Runs in",
        str(root),
        "What was run, and what came out?",
        f"{number_of(len(studies), 'study', 'studies')}, {number_of(len(runs), 'run')}: {told}.",
        sections,
        "Made from manifest.json and metrics.json of each run; `recsys-lab report` makes it again. The best numbers of "
        "different data or splits can't be compared, and a difference between two rows is no test: that is `recsys-lab "
        "compare`.",
        cautions=[("warning", "", line) for line in broken],
        is_live=True,
    )


def _read(root: Path) -> tuple[list[Shown], list[str]]:
    runs, broken = [], []
    for folder in run_folders(root):
        try:
            runs.append(Shown(folder, read_manifest(folder), read_json(folder / "metrics.json")))
        except (ChangedRunError, OSError) as error:
            broken.append(f"left out: {error}")
    runs.sort(key=lambda run: str(run.manifest.get("started", "")), reverse=True)
    return runs, broken


def _studies_table(root: Path, studies: dict[str, list[Shown]]) -> Table:
    rows = []
    for name, runs in studies.items():
        folder = _study_folder(runs[0])
        finished = sum(run.state == "finished" for run in runs)
        best = _best(runs)
        rows.append(
            {
                "study": _linked(root, name, folder / REPORT),
                "answer": _answer(folder) or "no report yet",
                "data": "; ".join(sorted({run.data for run in runs})),
                "best": best[0] if best else None,
                METRICS[0]: best[1] if best else None,
                "runs": len(runs),
                "finished": finished,
                "newest": _when(runs),
            }
        )
    columns = [
        Column("study", help="its report, where there is one"),
        Column("answer", help="of its report"),
        Column("best", value=lambda row: row["best"] or "-", help="variant with the best mean over seeds"),
        Column(METRICS[0], ".4f", "test, mean over seeds; only where all runs have the same data and split"),
        Column("runs", "d", spare=2),
        Column("finished", "d"),
        Column("data"),
        Column("newest", help="start of the newest run, UTC"),
    ]
    return Table(columns, rows, "Studies", has_filter=True)


def _runs_table(root: Path, runs: Sequence[Shown]) -> Table:
    def pages(run: Shown) -> Cell:
        return _linked(root, "calibration" if (run.folder / CALIBRATION).is_file() else "", run.folder / CALIBRATION)

    def of(name: str) -> Callable[[Shown], Any]:
        return lambda run: run.manifest.get(name)

    def tested(metric: str) -> Callable[[Shown], Any]:
        return lambda run: run.test(metric)

    columns = [
        Column("variant", value=lambda run: Cell(run.variant, style="soft" if run.is_counted else "")),
        Column("seed", "d", value=of("seed")),
        Column("study", value=lambda run: run.study),
        *(Column(name, ".4f", "test", value=tested(name), spare=3 * (name != METRICS[0])) for name in METRICS),
        Column("state", value=lambda run: run.state),
        Column("started", value=lambda run: _minute(run)),
        Column("data", value=lambda run: run.data),
        Column("loss", value=lambda run: str(run.manifest.get("loss", "-")), spare=3),
        Column("epochs", "d", value=of("epochs"), spare=3),
        Column("seconds", ",.0f", "until the fit ended", value=of("train_seconds"), spare=3),
        Column("stopped by", value=lambda run: str(run.manifest.get("stopped_by", "-")), spare=3),
        Column("commit", value=lambda run: Cell(str(run.manifest.get("commit") or "-")[:10], style="code"), spare=3),
        Column("pages", value=pages),
        Column("folder", value=lambda run: Cell(os.path.relpath(run.folder, root), style="code")),
    ]
    return Table(columns, runs, "Runs", has_filter=True)


def _study_folder(run: Shown) -> Path:
    above = run.folder.parent.parent
    return above if above.name == run.manifest.get("study") else run.folder.parent


def _best(runs: Iterable[Shown]) -> tuple[str, float] | None:
    """The variant with the highest mean of the first metric; None where runs are of different data or splits."""
    tested = [run for run in runs if run.state == "finished"]
    if len({(run.data, run.manifest["evaluation"].get("split_hash")) for run in tested}) != 1:
        return None
    values: dict[str, list[float]] = {}
    for run in tested:
        values.setdefault(run.variant, []).append(run.test(METRICS[0]) or 0.0)
    name = max(values, key=lambda variant: fmean(values[variant]))
    return name, fmean(values[name])


def _answer(folder: Path) -> str:
    """The bold line of report.md, as `study report` wrote it."""
    file = (folder / REPORT).with_suffix(".md")
    if not file.is_file():
        return ""
    lines = file.read_text(encoding="utf-8").splitlines()
    found = next((line.strip("*") for line in lines if line.startswith("**") and line.endswith("**")), "")
    return found if len(found) <= LONGEST_ANSWER else f"{found[:LONGEST_ANSWER].rsplit(' ', 1)[0]} ..."


def _when(runs: Sequence[Shown]) -> str:
    return max(map(_minute, runs))


def _minute(run: Shown) -> str:
    """`2026-11-29 11:40`"""
    return str(run.manifest.get("started", ""))[:16].replace("T", " ") or "-"


def _linked(root: Path, text: str, file: Path) -> Cell:
    """`text`, with a link where `file` is there."""
    href = quote(os.path.relpath(file, root).replace(os.sep, "/")) if text and file.is_file() else ""
    return Cell(text or "-", href=href)
