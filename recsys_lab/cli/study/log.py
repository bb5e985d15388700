"""`recsys-lab study log FILE`: what `study report` wrote, as artifacts of Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recsys_lab.cli.loggers import wandb_mode
from recsys_lab.cli.study.opened import open_study, study_parser
from recsys_lab.schema import RecsysLabError
from recsys_lab.study.plan import Plan

REPORT = "report"
"""Where `study report` writes, in the study's folder of results."""
SHOWN_ROWS = 1000


def run(arguments: list[str]) -> None:
    parser = study_parser(
        "log",
        "Logs the files that `study report` wrote to Weights & Biases, as one artifact with a version for each call; "
        "the page and the table of results are shown in its run too. Offline unless WANDB_MODE=online is set; "
        "`wandb sync` uploads what was logged offline.",
    )
    parser.add_argument(
        "--report", type=Path, metavar="FOLDER", help=f"that `study report` wrote (default ROOT/<study>/{REPORT})"
    )
    chosen = parser.parse_args(arguments[1:])
    plan, _ = open_study(chosen)
    folder = chosen.report or plan.study.folder / REPORT
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "wandb" not in path.parts)
    if not files:
        raise RecsysLabError(f"{folder} holds no report: `recsys-lab study report {chosen.file}` writes it")
    where = log_report(plan, folder, files)
    print(f"logged {len(files)} files" + (f"; `wandb sync {where}` uploads them" if wandb_mode() == "offline" else ""))


def log_report(plan: Plan, folder: Path, files: Iterable[Path]) -> Path:
    """One W&B run with the report's files as an artifact, in the group of the study's reports.

    Returns:
        The W&B folder, for `wandb sync`.
    """
    study = plan.study
    study.folder.mkdir(parents=True, exist_ok=True)
    place = study.folder / "wandb"
    os.environ.setdefault("WANDB_DATA_DIR", str(place.resolve()))  # an offline artifact waits there, and not in $HOME
    if wandb_mode() == "offline":
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    hashes = sorted({str(run.manifest.get("evaluation", {}).get("data_hash")) for run in plan.in_state("finished")})
    commits = sorted({str(run.manifest.get("commit"))[:12] for run in plan.in_state("finished")})
    mode: Any = wandb_mode()
    facts = {"study": study.name, "question": study.question, "runs": plan.counts(), "select": study.select}
    with wandb.init(
        dir=study.folder,
        mode=mode,
        project=study.name,
        group="report",
        job_type="report",
        name=f"{study.name}-report",
        tags=[study.name, *[f"data:{one}" for one in hashes], *[f"commit:{one}" for one in commits]][:20],
        config={**facts, "data_hashes": hashes, "commits": commits},
    ) as logged:
        artifact = wandb.Artifact(f"{_name(study.name)}-report", type="study-report", metadata=facts)
        for path in files:
            artifact.add_file(str(path), name=str(path.relative_to(folder)))
            if path.suffix == ".html":
                logged.log({path.stem: wandb.Html(path.read_text(), inject=False)})
            elif path.suffix == ".parquet":
                logged.log({path.stem: _table(path)})
        logged.log_artifact(artifact)
    return place


def _table(path: Path) -> Any:
    """The first rows of a results file as a W&B table."""
    import polars as pl
    import wandb

    frame = pl.read_parquet(path, n_rows=SHOWN_ROWS)
    plain = frame.select(pl.col(name) for name, kind in frame.schema.items() if not kind.is_nested())
    return wandb.Table(columns=[*plain.columns], data=[list(row) for row in plain.rows()])


def _name(study: str) -> str:
    """W&B takes letters, digits, dashes, underscores and dots."""
    return "".join(c if c.isalnum() and c.isascii() or c in "-_." else "_" for c in study)
