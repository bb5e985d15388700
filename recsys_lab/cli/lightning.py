"""`recsys-lab fit | validate | test | predict`: LightningCLI over SequenceDataModule, any model, and a run folder."""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
import shlex
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import yaml
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.trainer.states import TrainerStatus
from lightning.pytorch.utilities.exceptions import MisconfigurationException

import recsys_lab.data
import recsys_lab.losses
import recsys_lab.models
from recsys_lab.callbacks import EachEpoch, RankingEvaluation, Recommendations, RunFolder, Throughput
from recsys_lab.callbacks.run_folder import find
from recsys_lab.cli.errors import explain, mendable
from recsys_lab.cli.loggers import LoggedFacts, finish_loggers, make_logger, run_facts
from recsys_lab.cli.messages import hush_lightning, show_messages
from recsys_lab.cli.retrain import fit_twice
from recsys_lab.cli.run_settings import RunSettings, make_room, run_folder
from recsys_lab.cli.trust import check_saved_config, find_own_modules, names_own_modules
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.metrics import RANKING_METRICS
from recsys_lab.models.base import NextItemModule
from recsys_lab.models.checkpoint import read_checkpoint
from recsys_lab.schema import RecsysLabError

log = logging.getLogger("recsys_lab")

TRAINER_DEFAULTS: dict[str, Any] = {"max_epochs": 200}
CALLBACK_DEFAULTS: dict[str, Any] = {
    "early_stopping.monitor": "val/ndcg@10",
    "early_stopping.mode": "max",
    "early_stopping.patience": 10,
    "checkpoint.monitor": "val/ndcg@10",
    "checkpoint.mode": "max",
    "checkpoint.filename": "best",
    "checkpoint.enable_version_counter": False,
    "evaluation.measures": [{"class_path": "recsys_lab.callbacks.BeyondAccuracy"}],
}


class Parser(LightningArgumentParser):
    """Says what was wrong in a line or two, instead of after hundreds of lines of usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:  # a parser inside the parser: the outer one names the whole key
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        print(f"recsys-lab: error: {explain(message, self)}", file=sys.stderr)
        print(f"All options: {parser.prog.replace(' [options]', '')} --help", file=sys.stderr)
        self.exit(2)


class CommandLine(LightningCLI):
    """LightningCLI that writes a run folder and tests after fit."""

    def __init__(self, arguments: list[str]) -> None:
        self.arguments = arguments
        # Only the parser of the command in question is built: each takes a good part of a second.
        chosen = {name: skip for name, skip in LightningCLI.subcommands().items() if name == arguments[0]}
        self.subcommands = lambda: chosen  # type: ignore[method-assign]
        super().__init__(
            NextItemModule,
            SequenceDataModule,
            subclass_mode_model=True,
            save_config_callback=None,  # it would overwrite the fit's configuration in a test
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_class=Parser,
            parser_kwargs={"prog": "recsys-lab", "allow_abbrev": False}
            | {name: {"allow_abbrev": False} for name in chosen},
            args=arguments,
        )

    # -- parsing -------------------------------------------------------------------------------------------------------

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(RankingEvaluation, "evaluation")
        parser.add_lightning_class_args(Recommendations, "recommendations")
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_class_arguments(RunSettings, "run")
        parser.set_defaults(CALLBACK_DEFAULTS)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Refuses a missing or foreign checkpoint now and not after the data is prepared."""
        path = self.config[self.config.subcommand].get("ckpt_path")
        if path is not None:
            read_checkpoint(path)
        elif self.config.subcommand != "fit":
            raise RecsysLabError(
                f"{self.config.subcommand} needs a trained model: `recsys-lab {self.config.subcommand} RUN_FOLDER`, or "
                "--ckpt_path FILE beside the --config"
            )

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        run = config.run
        run.study = run.study or Path(config.data.dataset).name
        run.variant = run.variant or _variant(config)
        if self.subcommand == "fit":
            self._validate_first(config)
        self.folder = self._folder(config)
        self.asked = config.clone()  # as it is saved: what follows is of this machine and folder
        self.config_text = self.text_to_save(self.asked, config.data.retrained)
        own = self.folder / "checkpoints" if self.subcommand == "fit" else Path(config.ckpt_path).parent
        config.checkpoint.dirpath = config.checkpoint.dirpath or str(own)
        if self.subcommand == "predict":
            config.recommendations.path = str(self.folder / config.recommendations.path)
        config.trainer.default_root_dir = config.trainer.default_root_dir or str(self.folder)

    def _validate_first(self, config: Any) -> None:
        """A fit needs validation; the saved configuration of a retrained run has none."""
        if config.data.retrained and not config.run.retrain:
            raise RecsysLabError(
                "data.retrained is for the test of a model that was trained on the validation part too: a fit needs "
                "validation to find the best epoch. Use --run.retrain true, which does both"
            )
        config.data.retrained = False

    def text_to_save(self, config: Any, retrained: bool) -> str:
        """Of config.yaml."""
        saved = config.clone()
        saved.ckpt_path = None  # a second run starts from nothing
        saved.run.folder, saved.run.overwrite, saved.data.retrained = None, False, retrained
        text: str = self._parser(self.subcommand).dump(saved, skip_unset=False)
        return text

    def _folder(self, config: Any) -> Path:
        """Where this command writes: the run folder, or a folder inside it for what comes after `fit`."""
        seed = config.seed_everything
        seed = None if isinstance(seed, bool) else seed
        settings = RunSettings(**{name: config.run[name] for name in RunSettings.__dataclass_fields__})
        if self.subcommand == "fit":
            folder = run_folder(settings, seed)
            if int(os.environ.get("LOCAL_RANK", 0)) == 0 and not config.trainer.fast_dev_run:
                make_room(folder, settings.overwrite, config.ckpt_path)
            return folder
        checkpoint = Path(config.ckpt_path)
        inside = checkpoint.parent.name == "checkpoints" and settings.folder is None
        base = checkpoint.parent.parent if inside else run_folder(settings, seed)
        return base / str(self.subcommand)

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:
            raise mendable(error) or error from None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        settings: RunSettings = self._get(self.config_init, "run")
        plain = yaml.safe_load(self.config_text)
        if self._get(self.config_init, "trainer").logger is None:
            resumes = self.config[self.subcommand].get("ckpt_path") is not None
            kwargs["logger"] = make_logger(settings, self.folder, plain, str(self.subcommand), resumes)
        return super().instantiate_trainer(**kwargs)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        facts = {
            "command": shlex.join(["recsys-lab", *self.arguments]),
            "study": self._get(self.config, "run").study,
            "variant": self._get(self.config, "run").variant,
            "seed": self._get(self.config, "seed_everything"),
            "retrained": self._get(self.config, "data").retrained,
        }
        ours: list[Callback] = [Throughput()]
        if not config["fast_dev_run"]:
            ours += [RunFolder(self.folder, self.config_text, facts), LoggedFacts()]
        if self.subcommand == "fit" and config["enable_checkpointing"] is not False:
            ours.append(EachEpoch(Path(self._get(self.config, "checkpoint").dirpath) / "last.ckpt"))
        return super()._instantiate_trainer(config, [*callbacks, *ours])

    # -- commands ------------------------------------------------------------------------------------------------------

    def _run_subcommand(self, subcommand: str) -> None:
        first = self.trainer  # it has the loggers
        try:
            super()._run_subcommand(subcommand)
        finally:
            folder = find(self.trainer, RunFolder) or find(first, RunFolder)
            if folder is not None:
                plain = yaml.safe_load(self.config_text)
                finish_loggers(first, folder.summary(), plain, run_facts(folder.manifest))

    def fit(self, **kwargs: Any) -> None:
        config = self._get(self.config_init, "run")
        if config.retrain and not self._get(self.config, "trainer").fast_dev_run:
            best = fit_twice(self, **kwargs)
        else:
            self.trainer_call("fit", **kwargs)
            best = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        if config.test_after_fit and best:
            self.trainer_call("test", model=self.model, datamodule=self.datamodule, ckpt_path=best, verbose=False)
        log.info("%s\nthe run is in %s", self._results("test/"), self.folder)

    def test(self, **kwargs: Any) -> None:
        self.trainer_call("test", **kwargs)
        log.info("the results are in %s", self.folder)

    def validate(self, **kwargs: Any) -> None:
        self.trainer_call("validate", **kwargs)
        log.info("the results are in %s", self.folder)

    def predict(self, **kwargs: Any) -> None:
        self.trainer_call("predict", **(kwargs | {"return_predictions": False}))  # they go to the file, batch by batch
        log.info("the recommendations are in %s", find(self.trainer, Recommendations).path)

    def _results(self, prefix: str) -> str:
        found = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        asked = {f"{prefix}{metric}@10" for metric in RANKING_METRICS}
        shown = [f"{name} {value:.4f}" for name, value in found.items() if name in asked]
        return "  ".join(shown)

    def trainer_call(self, name: str, **kwargs: Any) -> None:
        try:
            getattr(self.trainer, name)(**kwargs)
        except SystemExit:
            if self.trainer.state.status == TrainerStatus.INTERRUPTED:  # Lightning turned Ctrl-C into exit code 1
                kept = self.folder / "checkpoints" / "last.ckpt"
                if kept.is_file():
                    log.info("epochs so far are kept; go on with: recsys-lab fit %s", self.folder)
                raise KeyboardInterrupt from None
            raise
        except MisconfigurationException as error:
            raise RecsysLabError(str(error)) from error


def run(arguments: list[str]) -> None:
    """Runs `recsys-lab fit ...` and its like; `arguments` begin with the command."""
    show_messages()
    hush_lightning()
    import_all(recsys_lab.models, recsys_lab.losses, recsys_lab.data)
    handler = signal.getsignal(signal.SIGINT)
    try:
        expanded = expand_run_folder(arguments)
        if expanded is arguments or names_own_modules(arguments):
            find_own_modules()
        CommandLine(expanded)
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored after an interrupt


def expand_run_folder(arguments: list[str]) -> list[str]:
    """`test FOLDER ...` -> `test --config FOLDER/config.yaml --ckpt_path FOLDER/checkpoints/best.ckpt ...`.

    `fit FOLDER` goes on from last.ckpt.
    """
    if len(arguments) < 2 or arguments[1].startswith("-"):
        return arguments
    command, folder = arguments[0], Path(arguments[1])
    if not (folder / "config.yaml").is_file():
        raise RecsysLabError(f"{folder} is not a run folder: it holds no config.yaml")
    check_saved_config(folder / "config.yaml")
    found = ["--config", str(folder / "config.yaml")]
    if "--ckpt_path" not in arguments:
        found += ["--ckpt_path", str(folder / "checkpoints" / ("last.ckpt" if command == "fit" else "best.ckpt"))]
    if command == "fit":
        found += ["--run.folder", str(folder)]
    return [command, *found, *arguments[2:]]


def import_all(*packages: Any) -> None:
    """Imports every module of the packages, so that class names are known without their module path."""
    for package in packages:
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)


def _variant(config: Any) -> str:
    files = [Path(str(getattr(path, "relative", path))).stem for path in config.get("config") or []]
    return files[-1] if files and files[-1] != "config" else config.model.class_path.rpartition(".")[2].lower()
