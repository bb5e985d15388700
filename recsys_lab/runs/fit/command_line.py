"""A fit, a test or a prediction from words: LightningCLI over SequenceDataModule, any model, and a run folder."""

from __future__ import annotations

import logging
import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.trainer.states import TrainerStatus
from lightning.pytorch.utilities.exceptions import MisconfigurationException

import recsys_lab.data
import recsys_lab.losses
import recsys_lab.models
from recsys_lab.config import ALLOW_CLASSES, import_all, read_yaml
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.evaluation.recommendations import Recommendations
from recsys_lab.models.checkpoint import read_checkpoint
from recsys_lab.models.lightning import NextItemModule, check_precision
from recsys_lab.runs.each_epoch import EachEpoch
from recsys_lab.runs.fit.known_configs import with_known_configs
from recsys_lab.runs.fit.loggers import LoggedFacts, finish_loggers, intervals_of_test, make_logger, run_facts
from recsys_lab.runs.fit.outcome import NoValueError, is_result, last_lines
from recsys_lab.runs.fit.parse_errors import option_of, refused
from recsys_lab.runs.fit.run_arguments import (
    Parser,
    expand_run_folder,
    file_that_is_no_text,
    names_run_folder,
    other_way,
)
from recsys_lab.runs.fit.run_parser import TRAINER_DEFAULTS, add_run_arguments
from recsys_lab.runs.fit.trainer_checks import check_trainer, in_one_line, is_zero, settle_samples
from recsys_lab.runs.fit.trainer_ranges import check_ranges
from recsys_lab.runs.folder import RunFolder, find
from recsys_lab.runs.folder_life import Place, settings_hash, take_place
from recsys_lab.runs.interrupts import restored_interrupt
from recsys_lab.runs.last_step import LastStep
from recsys_lab.runs.messages import hush_lightning, show_messages
from recsys_lab.runs.progress_lines import own_progress
from recsys_lab.runs.retrain import fit_twice
from recsys_lab.runs.run_files import read_json
from recsys_lab.runs.run_settings import RunSettings, run_folder, variant_name
from recsys_lab.runs.saved import OTHER_TRAINING, heed_checkpoint
from recsys_lab.runs.throughput import Throughput
from recsys_lab.runs.trust import find_own_modules, names_own_modules
from recsys_lab.runs.whole_checkpoints import with_whole_checkpoints
from recsys_lab.words import ArgumentError, RecsysLabError, number_of

log = logging.getLogger("recsys_lab")


class Quiet(Callback):
    """Hushes Lightning in processes that were spawned, too."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        hush_lightning()


class CommandLine(LightningCLI):
    """LightningCLI that writes a run folder and tests after fit."""

    def __init__(self, arguments: list[str], held: ExitStack) -> None:
        self.arguments, self.held = arguments, held
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
            | {name: {"allow_abbrev": False, "epilog": ALLOW_CLASSES} for name in chosen},
            args=arguments,
        )

    # -- parsing -------------------------------------------------------------------------------------------------------

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        add_run_arguments(parser)
        if "fit" not in self.subcommands():
            parser.add_argument("--allow_other_training", type=bool, default=False, help=OTHER_TRAINING)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        try:
            self.config = parser.parse_args(args)
        except UnicodeDecodeError as error:
            raise RecsysLabError(f"{file_that_is_no_text(args)}: {error.reason}, so that it is no YAML file") from error

    def _set_seed(self) -> None:
        check_ranges(self.config[self.config.subcommand].as_dict())  # the seed's too
        super()._set_seed()

    def _parse_ckpt_path(self) -> None:
        """Refuses a missing or foreign checkpoint now and not after the data is prepared."""
        path = self.config[self.config.subcommand].get("ckpt_path")
        if path is not None:
            try:
                read_checkpoint(path)
            except RecsysLabError as error:
                raise RecsysLabError(f"{error}{other_way(self.config.subcommand, Path(path))}") from None
        elif self.config.subcommand != "fit":
            raise RecsysLabError(
                f"{self.config.subcommand} needs a trained model: `recsys-lab {self.config.subcommand} RUN_FOLDER`, or "
                "--ckpt_path FILE beside the --config"
            )

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        settle_samples(config)
        check_trainer(str(self.subcommand), config, self.arguments)
        run = config.run
        run.study = run.study or Path(config.data.dataset).name
        run.variant = run.variant or variant_name(config)
        if self.subcommand == "fit":
            self._validate_first(config)
        self.asked = config.clone()  # as it is saved: what follows is of this machine and folder
        self.config_text = self.text_to_save(self.asked, config.data.retrained)
        self.place = self._place(config)
        self.folder, config.ckpt_path = self.place.folder, self.place.resumes_from
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
        saved.pop("allow_other_training", None)  # fit does not know it
        saved.run.folder, saved.run.overwrite, saved.data.retrained = None, False, retrained
        text: str = self._parser(self.subcommand).dump(saved, skip_unset=False, skip_validation=True)  # parsed just now
        return text

    def _dump_config(self) -> None:
        """Hyperparameters, for a model of the user's own that asks Lightning for them: those of config.yaml, since
        writing all settings once more would take as long as building the model."""
        if not hasattr(self, "config_dump"):
            self.config_dump = read_yaml(self.config_text)

    def _place(self, config: Any) -> Place:
        """Where this command writes: the run folder, or a folder inside it for what comes after `fit`."""
        seed = config.seed_everything
        seed = None if isinstance(seed, bool) else seed
        settings = RunSettings(**{name: config.run[name] for name in RunSettings.__dataclass_fields__})
        if self.subcommand == "fit":
            folder = run_folder(settings, seed)
            if config.trainer.fast_dev_run:  # writes nothing
                return Place(folder, folder, config.ckpt_path)
            hashed = settings_hash(self.config_text)
            return take_place(folder, settings.overwrite, config.ckpt_path, hashed, self.held)
        checkpoint = Path(config.ckpt_path)
        inside = checkpoint.parent.name == "checkpoints" and settings.folder is None
        base = checkpoint.parent.parent if inside else run_folder(settings, seed)
        return Place(base, base / str(self.subcommand), config.ckpt_path)

    def instantiate_classes(self) -> None:
        config = self.config[self.subcommand].as_dict()
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, RecsysLabError, MisconfigurationException) as error:
            raise refused(error, config) from error
        except ModuleNotFoundError as error:  # of an accelerator, a strategy: Lightning names what to install
            if error.name is not None:
                raise
            raise in_one_line(error) from error
        check_precision(str(self.trainer.precision))  # the model does so too, when the data are prepared
        self.model = heed_checkpoint(self, self.config[self.subcommand])

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        settings: RunSettings = self._get(self.config_init, "run")
        if self._get(self.config_init, "trainer").logger is None:
            resumes = self.config[self.subcommand].get("ckpt_path") is not None
            plain = read_yaml(self.config_text)
            kwargs["logger"] = make_logger(settings, self.folder, plain, str(self.subcommand), resumes)
        return super().instantiate_trainer(**kwargs)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        facts = {
            "command": shlex.join(["recsys-lab", *self.arguments]),
            "study": self._get(self.config, "run").study,
            "variant": self._get(self.config, "run").variant,
            "seed": self._get(self.config, "seed_everything"),
            "retrained": self._get(self.config, "data").retrained,
            "settings_hash": settings_hash(self.config_text),
        }
        ours: list[Callback] = [Quiet(), LastStep(), Throughput()]
        if not config["fast_dev_run"]:
            ours += [RunFolder(self.folder, self.config_text, facts), LoggedFacts()]
        if config["enable_checkpointing"] is False:
            callbacks = [callback for callback in callbacks if not isinstance(callback, ModelCheckpoint)]
        elif self.subcommand == "fit":
            ours.append(EachEpoch(Path(self._get(self.config, "checkpoint").dirpath) / "last.ckpt"))
        ours += own_progress(config)  # last: it tells what the others have logged
        config["plugins"] = with_whole_checkpoints(config["plugins"])
        return super()._instantiate_trainer(config, [*callbacks, *ours])

    # -- commands ------------------------------------------------------------------------------------------------------

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            self._run_logged(subcommand)
        except (RecsysLabError, OSError) as error:
            if isinstance(error, OSError):
                error.add_note(f"writing a file in {self.folder}")  # a logger's error may name none
            if subcommand == "fit" and not (self.trainer.global_step or self._get(self.config, "trainer").fast_dev_run):
                self.place.drop()
            raise
        except Exception as error:  # unforeseen, as another process that is gone: the traceback ends with what to type
            if subcommand == "fit" and self.place.has_epochs and not self._get(self.config, "trainer").fast_dev_run:
                error.add_note(self.place.way_on())
            raise
        if subcommand == "fit" and self.trainer.is_global_zero:
            self.place.finish()
            if self.ends_without_a_value:
                raise NoValueError(
                    f"the fit in {self.place.home} ended with neither a validation nor a test value: train longer or "
                    "validate more often (--trainer.max_epochs, --trainer.val_check_interval), or test what there is: "
                    f"recsys-lab test {self.place.home} --ckpt_path {self.place.home / 'checkpoints' / 'last.ckpt'}"
                )

    def _run_logged(self, subcommand: str) -> None:
        first = self.trainer  # it has the loggers
        try:
            super()._run_subcommand(subcommand)
        finally:
            folder = find(self.trainer, RunFolder) or find(first, RunFolder)
            if folder is not None:
                plain = read_yaml(self.config_text)
                numbers = folder.summary() | (intervals_of_test(self.trainer) if first.loggers else {})
                finish_loggers(first, numbers, plain, run_facts(folder.manifest))

    def fit(self, **kwargs: Any) -> None:
        config, trainer = self._get(self.config_init, "run"), self._get(self.config, "trainer")
        self.ends_without_a_value = False
        if trainer.fast_dev_run:
            self.trainer_call("fit", **kwargs)
            log.info("a trial of %s: nothing was written", number_of(int(trainer.fast_dev_run), "batch", "batches"))
            return
        if config.retrain:
            tested: str | None = fit_twice(self, **kwargs)
        else:
            self.trainer_call("fit", **kwargs)
            tested = self._to_test()
        if config.test_after_fit and not is_zero(trainer.limit_test_batches):
            self.trainer_call("test", model=self.model, datamodule=self.datamodule, ckpt_path=tested, verbose=False)
        folder = find(self.trainer, RunFolder)
        self.ends_without_a_value = not any(is_result(name, value) for name, value in folder.metrics.items())
        log.info("%s", "\n".join(last_lines(self.trainer, self.place.home, "fit")))

    def _to_test(self) -> str | None:
        """The best epoch; the last one where none was validated; None = the weights as they are."""
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        last = self.folder / "checkpoints" / "last.ckpt"
        if best:
            return str(best)
        if self._get(self.config, "trainer").enable_checkpointing is False:
            log.info("no checkpoints were written: the last epoch is tested, whether it was the best or not")
            return None
        log.info("no epoch was validated: the last one is tested")
        return str(last) if last.is_file() else None

    def test(self, **kwargs: Any) -> None:
        self.trainer_call("test", **(kwargs | {"verbose": False}))  # its table has a hundred rows, of 17 digits each
        log.info("%s", "\n".join(last_lines(self.trainer, self.place.home, "test")))

    def validate(self, **kwargs: Any) -> None:
        self.trainer_call("validate", **(kwargs | {"verbose": False}))
        log.info("%s", "\n".join(last_lines(self.trainer, self.place.home, "validate")))

    def predict(self, **kwargs: Any) -> None:
        self.trainer_call("predict", **(kwargs | {"return_predictions": False}))  # they go to the file, batch by batch
        log.info("the recommendations are in %s", find(self.trainer, Recommendations).path)

    def trainer_call(self, name: str, **kwargs: Any) -> None:
        try:
            getattr(self.trainer, name)(**kwargs)
            folder = find(self.trainer, RunFolder)
            if folder is not None and type(self.trainer.strategy.launcher).__name__ == "_MultiProcessingLauncher":
                # ddp_spawn: its processes have ended, and this one saw nothing of what they wrote
                folder.manifest, folder.metrics = (
                    read_json(folder.folder / f"{part}.json") for part in ("manifest", "metrics")
                )
        except SystemExit:
            if self.trainer.state.status == TrainerStatus.INTERRUPTED:  # Lightning turned Ctrl-C into exit code 1
                if self.subcommand == "fit":
                    log.info("%s", self.place.way_on())
                raise KeyboardInterrupt from None
            raise
        except MisconfigurationException as error:
            raise in_one_line(error) from error
        except ArgumentError as error:  # of a setting that is checked against the data
            raise RecsysLabError(option_of(error, self.config[self.subcommand].as_dict())) from error
        except (RuntimeError, ValueError) as error:  # Lightning's own, of settings that it checks late
            if not any(text in str(error) for text in ("Early stopping conditioned on metric", "`val_check_interval`")):
                raise
            raise in_one_line(error) from error


def run(words: list[str]) -> None:
    """What `recsys-lab fit ...` and its like do; `words` begin with the command. Also in a notebook:
    `run(["fit", "--config", "configs/ml-100k/sasrec.yaml"])`."""
    show_messages()
    hush_lightning()
    import_all(recsys_lab.models, recsys_lab.losses, recsys_lab.data)
    with ExitStack() as held, restored_interrupt():
        if not names_run_folder(words) or names_own_modules(words):
            find_own_modules()  # first: the run folder's classes are looked up in them
        expanded = expand_run_folder(with_known_configs(words))
        CommandLine(expanded, held)
