"""`recsys-lab verify`: is a run, or a prepared data set, what it says?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recsys_lab.arguments import Natural, NotNegative

HANGING = " " * 8
"""Behind `ok` or `FAILED`."""


def verify(
    run: str,
    *,
    data_dir: str | None = None,
    tolerance: NotNegative = 1e-6,
    differing_ranks: Natural = 0,
    json: bool = False,
) -> None:
    """Proves a finished run: its prepared data against the hashes they were made with, its settings and target counts,
    its checkpoint, its metrics against its ranks, and metrics and ranks against a new test of the checkpoint. Nothing
    is changed. Exit code 1 when a check fails, 2 for a folder that is no finished run, or whose own classes were not
    imported.

    Args:
        run: a run folder, the `test` folder inside one, or a prepared data set.
        data_dir: folder of raw files and prepared sets (default: as the run says).
        tolerance: largest difference of a metric.
        differing_ranks: ranks that may differ (default 0): near-ties fall otherwise on another kind of machine.
        json: as JSON: what was checked, whether it holds, and what was found.
    """
    from recsys_lab.data.prepare.verify_data import data_folder, verify_data

    is_run = (Path(run) / "config.yaml").is_file()
    if not is_run and (prepared := data_folder(run, data_dir or "data")) is not None:
        lines = verify_data(prepared)
        checks = [{"check": line.removeprefix("ok").strip(), "ok": True} for line in lines[:-1]]
        print(_as_json(run, checks) if json else "\n".join(lines))
        return
    from recsys_lab.runs.verification import Check
    from recsys_lab.runs.verify_run import verify as verify_run

    shown: list[object] = []
    try:
        verify_run(run, data_dir, tolerance, differing_ranks, shown.append if json else _print_line)
    finally:  # what fails is told as well
        done = [{"check": one.field, "ok": one.ok, "found": one.text} for one in shown if isinstance(one, Check)]
        if done:
            print(_as_json(run, done))
    if not json:
        _print_line(f"{run} is what it says")


def _print_line(line: object) -> None:
    from recsys_lab.report.terminal import folded, terminal_width

    print("\n".join(folded(str(line), terminal_width(), HANGING)), flush=True)


def _as_json(run: str, checks: list[dict[str, Any]]) -> str:
    from recsys_lab.report.escapes import as_json

    return as_json({"folder": run, "holds": all(check["ok"] for check in checks), "checks": checks})
