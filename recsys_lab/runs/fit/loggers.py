"""Loggers beside the run folder's own files, each imported only when it is chosen.

`--run.logger wandb | tensorboard` writes into the run folder; `--trainer.logger` takes any logger of Lightning.
"""

from __future__ import annotations

import math
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from recsys_lab.evaluation.callback import RankingEvaluation, shown_cutoff
from recsys_lab.runs.fit.summary import estimates, run_in
from recsys_lab.runs.folder import RunFolder, find
from recsys_lab.runs.run_files import UNFINISHED
from recsys_lab.runs.run_settings import RunSettings
from recsys_lab.words import RecsysLabError

ROWS_PER_PART = 10_000_000
"""An offline run does not know how many rows its earlier parts have, and W&B drops rows whose numbers do not grow."""
FACTS = ("study", "variant", "seed", "loss", "parameters", "commit", "dirty", "command", "device")
EVALUATION_FACTS = ("data_hash", "vocabulary_hash", "split_hash")


def make_logger(
    settings: RunSettings, folder: Path, config: dict[str, Any], command: str = "fit", resumes: bool = False
) -> Logger | bool:
    """The logger that `run.logger` names, with the resolved run `config`; False for none.

    Args:
        folder: the run folder; loggers write below it.
        command: fit, validate, test or predict; W&B's job type.
        resumes: the run in `folder` goes on, and so does its run in W&B.
    """
    if settings.logger == "tensorboard":
        from lightning.pytorch.loggers import TensorBoardLogger

        return TensorBoardLogger(folder, name="", version="tensorboard", default_hp_metric=False)
    if settings.logger != "wandb":
        return False
    from lightning.pytorch.loggers import WandbLogger

    mode = _offline_unless_asked()
    id_file = folder / "wandb" / "run_id"
    id_file.parent.mkdir(parents=True, exist_ok=True)
    # not from a seeded generator: two runs with one seed are two runs
    run_id = id_file.read_text().strip() if resumes and id_file.is_file() else secrets.token_hex(4)
    if getattr(rank_zero_only, "rank", 0) == 0:
        id_file.write_text(run_id + "\n")
    return WandbLogger(
        project=settings.study,
        group=settings.variant,
        job_type=command,
        name=f"{settings.variant}-seed{config['seed_everything']}",
        id=run_id,
        save_dir=folder,
        mode=mode,  # and not Lightning's `offline`, which sets WANDB_MODE for the whole process
        resume="allow" if mode == "online" else None,
        config=config,
    )


class LoggedFacts(Callback):
    """Gives every logger what is known once the data is open: hashes, commit, parameters. Comes after RunFolder."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = find(trainer, RunFolder)
        for logger in trainer.loggers if trainer.is_global_zero and folder is not None else []:
            if _is_wandb(logger):
                _go_on_counting(logger.experiment)  # type: ignore[attr-defined]
            logger.log_hyperparams(run_facts(folder.manifest))


def run_facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """What a run is told apart and grouped by: study, variant, seed, hashes, commit, ..."""
    evaluation = manifest.get("evaluation", {})
    found = {name: manifest.get(name) for name in FACTS} | {name: evaluation.get(name) for name in EVALUATION_FACTS}
    return {name: value for name, value in found.items() if value is not None}


def intervals_of_test(trainer: Trainer) -> dict[str, float]:
    """`test/ndcg@10_low`, `test/ndcg@10_high` and so on: the ends of the 95 % intervals over users of this model, where
    the run was tested."""
    folder, evaluation = find(trainer, RunFolder), find(trainer, RankingEvaluation)
    run = run_in(folder.folder, folder.manifest, folder.metrics) if folder is not None else None
    if run is None or not trainer.is_global_zero:
        return {}
    cutoff, found = shown_cutoff(evaluation.cutoffs) if evaluation is not None else 0, dict[str, float]()
    with suppress(RecsysLabError):
        for name, (_, low, high) in estimates(run, cutoff).items():
            found |= {f"test/{name}_low": low, f"test/{name}_high": high}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def log_report(study: str, folder: Path, root: Path) -> str:
    """Keeps the files of a study's report as an artifact in the W&B project of its runs, offline as they are unless
    WANDB_MODE says otherwise.

    Args:
        folder: of the report. root: the study's folder of runs, in which W&B writes.

    Returns:
        the artifact's name.
    """
    import wandb

    mode = _offline_unless_asked()
    name = re.sub(r"[^\w.-]", "-", f"{study}-report")
    artifact = wandb.Artifact(name, type="report")
    artifact.add_dir(str(folder))
    with wandb.init(project=study, job_type="report", name="report", dir=root, mode=mode) as run:
        run.log_artifact(artifact)
    return name


def _offline_unless_asked() -> Any:
    mode = os.environ.get("WANDB_MODE", "offline")
    if mode in ("offline", "dryrun"):  # else wandb 0.31 sends usage counts to its server even so
        mode = "offline"
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    return mode


def finish_loggers(trainer: Trainer, summary: dict[str, Any], config: dict[str, Any], facts: dict[str, Any]) -> None:
    """Writes the final numbers `summary` beside `config` and the facts, and closes the loggers of `run.logger`."""
    for logger in trainer.loggers if trainer.is_global_zero else []:
        run: Any = getattr(logger, "_experiment", None)
        if _is_wandb(logger) and run is not None:
            logger.log_hyperparams(facts)  # again: a test of a saved run has no start of a fit
            run.summary.update(summary)
            run.finish(exit_code=int(summary.get("stopped_by") in UNFINISHED))
        elif type(logger).__name__ == "TensorBoardLogger" and summary:
            metrics = {f"final/{name}": value for name, value in summary.items() if isinstance(value, int | float)}
            logger.log_hyperparams(
                {name: config[name] for name in ("model", "data") if name in config} | facts, metrics
            )
            logger.finalize("success")


def _go_on_counting(run: Any) -> None:
    # W&B names folders by the second: of several in one, all but the first end in -1, -2, ...
    earlier = len(list(Path(run.dir).parents[1].glob(f"*run-*-{run.id}*"))) - 1
    if run.offline and earlier:
        run.log({"resumed": earlier}, step=earlier * ROWS_PER_PART)


def _is_wandb(logger: Any) -> bool:
    return type(logger).__name__ == "WandbLogger"  # without importing wandb
