"""Loggers beside the run folder's own files. W&B and TensorBoard are imported only when chosen.

<run folder>/wandb/run_id               names the run in W&B, so that a resumed one goes on in the same run
<run folder>/wandb/offline-run-*/       one for each time that it was started; `wandb sync` uploads them
<run folder>/tensorboard/events.*       `tensorboard --logdir runs/<study>` shows <variant>/seed<k>
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from recsys_lab.callbacks import RunFolder
from recsys_lab.callbacks.run_folder import find
from recsys_lab.cli.run_settings import RunSettings

LONGEST_TAG = 64
"""Characters that W&B takes."""
ROWS_PER_PART = 10_000_000
"""More than one process logs; curves are drawn over trainer/global_step and not over row numbers."""
FACTS = ("study", "variant", "seed", "loss", "parameters", "commit", "dirty", "command", "device")
EVALUATION_FACTS = ("data_hash", "vocabulary_hash", "split_hash")
UNFINISHED = ("running", "interrupted", "nan", "error")


def make_logger(
    settings: RunSettings, folder: Path, config: dict[str, Any], command: str = "fit", resumes: bool = False
) -> Logger | bool:
    """The logger that `run.logger` names, with the run's configuration; False for none.

    Args:
        folder: the run folder; loggers write below it.
        config: the resolved run as plain data.
        command: fit, validate, test or predict; W&B's job type.
        resumes: goes on with the run in `folder`.
    """
    if settings.logger == "wandb":
        return _make_wandb(settings, folder, config, command, resumes)
    if settings.logger == "tensorboard":
        from lightning.pytorch.loggers import TensorBoardLogger

        # without its own hp_metric: the final numbers stand there at the end
        return TensorBoardLogger(folder, name="", version="tensorboard", default_hp_metric=False)
    return False


def wandb_mode() -> str:
    """offline unless WANDB_MODE says otherwise."""
    mode = os.environ.get("WANDB_MODE", "offline")
    return "offline" if mode == "dryrun" else mode


def _make_wandb(settings: RunSettings, folder: Path, config: dict[str, Any], command: str, resumes: bool) -> Logger:
    from lightning.pytorch.loggers import WandbLogger

    folder.mkdir(parents=True, exist_ok=True)
    mode = wandb_mode()
    if mode == "offline":  # else wandb 0.31 sends usage counts to its server even so
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    return WandbLogger(
        project=settings.study,
        id=_run_id(folder, resumes),
        group=settings.variant,
        job_type=command,
        name=f"{settings.variant}-seed{config['seed_everything']}",
        save_dir=folder,
        mode=mode,  # and not Lightning's `offline`, which sets WANDB_MODE for the whole process
        resume="allow" if mode == "online" else None,
        tags=_tags(settings.study, settings.variant, config["model"]["class_path"].rpartition(".")[2]),
        config=config,
    )


def _run_id(folder: Path, resumes: bool) -> str:
    """Of the run in W&B: the one it had, when it goes on. Only the first process asks for it in earnest."""
    path = folder / "wandb" / "run_id"
    if resumes and path.is_file():
        return path.read_text().strip()
    made = secrets.token_hex(4)  # not from a seeded generator: two runs with one seed are two runs
    if getattr(rank_zero_only, "rank", 0) == 0:
        path.parent.mkdir(exist_ok=True)
        path.write_text(made + "\n")
    return made


def _tags(*texts: Any) -> list[str]:
    return list(dict.fromkeys(str(text)[:LONGEST_TAG] for text in texts if text not in (None, "")))


class LoggedFacts(Callback):
    """Tells the loggers what is known only once the data is open: hashes, commit, parameters. Comes after RunFolder."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = find(trainer, RunFolder)
        if trainer.is_global_zero and folder is not None:
            for logger in trainer.loggers:
                _go_on_counting(logger)
                _log_facts(logger, run_facts(folder.manifest))


def _go_on_counting(logger: Any) -> None:
    """An offline run does not know how many rows its earlier parts have, and W&B wants row numbers that only grow."""
    if _is(logger, "WandbLogger") and logger.experiment.offline:
        run = logger.experiment
        # W&B names folders by the second: of several in one, all but the first end in -1, -2, ...
        parts = Path(run.dir).parents[1].glob(f"*run-*-{run.id}*")
        earlier = len(list(parts)) - 1
        if earlier:
            run.log({"resumed": earlier}, step=earlier * ROWS_PER_PART)


def run_facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """What a run is told apart and grouped by: study, variant, seed, hashes, commit, ..."""
    evaluation = manifest.get("evaluation", {})
    found = {name: manifest.get(name) for name in FACTS} | {name: evaluation.get(name) for name in EVALUATION_FACTS}
    return {name: value for name, value in found.items() if value is not None}


def _log_facts(logger: Any, facts: dict[str, Any]) -> None:
    if _is(logger, "WandbLogger"):
        run = logger.experiment
        run.tags = _tags(*(run.tags or ()), *fact_tags(facts))
        run.config.update(facts, allow_val_change=True)
    elif _is(logger, "TensorBoardLogger"):
        rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
        logger.experiment.add_text("run", f"| | |\n|---|---|\n{rows}")


def fact_tags(facts: dict[str, Any]) -> list[str]:
    """`seed:0`, `data:<hash>`, `commit:<first 12 digits>`, and `dirty` where the code was not the commit's."""
    named = {"seed": facts.get("seed"), "data": facts.get("data_hash"), "commit": (facts.get("commit") or "")[:12]}
    tags = [f"{name}:{value}" for name, value in named.items() if value not in (None, "")]
    return [*tags, "dirty"] if facts.get("dirty") else tags


def finish_loggers(trainer: Trainer, summary: dict[str, Any], config: dict[str, Any], facts: dict[str, Any]) -> None:
    """Writes the final numbers and closes the loggers, so that their files are complete.

    Args:
        summary: final metrics and other numbers of a table's row.
        config: the resolved run as plain data.
        facts: of `run_facts`.
    """
    if not trainer.is_global_zero:
        return
    loggers: list[Any] = trainer.loggers
    for logger in loggers:
        if _is(logger, "WandbLogger") and getattr(logger, "_experiment", None) is not None:
            _log_facts(logger, facts)  # again: a test of a saved run has no start of a fit
            run = logger.experiment
            run.summary.update(summary)
            run.finish(exit_code=int(summary.get("stopped_by") in UNFINISHED))
        elif _is(logger, "TensorBoardLogger") and summary:
            metrics = {f"final/{name}": value for name, value in summary.items() if isinstance(value, int | float)}
            chosen = {name: config[name] for name in ("model", "data") if name in config}
            logger.log_hyperparams(chosen | facts, metrics)
            logger.finalize("success")


def _is(logger: Any, kind: str) -> bool:
    """Without importing its library."""
    return type(logger).__name__ == kind
