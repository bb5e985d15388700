"""`recsys-lab verify`: is a run, or a prepared data set, what it says?"""

from __future__ import annotations

from pathlib import Path

from recsys_lab.arguments import Natural, NotNegative


def verify(
    run: str, *, data_dir: str | None = None, tolerance: NotNegative = 1e-6, differing_ranks: Natural = 0
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
    """
    from recsys_lab.data.prepare.verify_data import data_folder, verify_data

    is_run = (Path(run) / "config.yaml").is_file()
    if not is_run and (prepared := data_folder(run, data_dir or "data")) is not None:
        print("\n".join(verify_data(prepared)))
        return
    from recsys_lab.runs.verify_run import verify as verify_run

    verify_run(run, data_dir, tolerance, differing_ranks, lambda line: print(line, flush=True))
    print(f"{run} is what it says")
