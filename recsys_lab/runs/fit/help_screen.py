"""The first screen of `recsys-lab fit --help` and its like, made of the classes that take the options.

`python -m recsys_lab.runs.fit.help_screen` writes the texts of `recsys_lab/cli/help/`, which the command line prints
without importing any of this; a test holds them equal.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import recsys_lab
import recsys_lab.data
import recsys_lab.losses
import recsys_lab.models
from recsys_lab.arguments import arguments_of, classes_in, read_docstring
from recsys_lab.config import import_all
from recsys_lab.contracts import Loss, NegativeSampler
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.evaluation.recommendations import Recommendations
from recsys_lab.models.baselines import CountingModel
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.models.optimization import Optimization
from recsys_lab.runs.fit.parse_errors import concrete_subclasses
from recsys_lab.runs.fit.run_parser import CALLBACK_DEFAULTS, TRAINER_DEFAULTS
from recsys_lab.runs.run_settings import RunSettings

OURS = str(Path(recsys_lab.__file__).parent)
FOLDER = Path(OURS) / "cli" / "help"
ABOUT = {
    "fit": (
        "recsys-lab fit [RUN_FOLDER] [--config FILE] [--model NAME] [options]",
        "Trains a model, then tests its best checkpoint. With RUN_FOLDER it goes on with a run that was interrupted.",
    ),
    "validate": (
        "recsys-lab validate RUN_FOLDER [options]",
        "Evaluates a run's best checkpoint on the validation targets; results go to RUN_FOLDER/validate.",
    ),
    "test": (
        "recsys-lab test RUN_FOLDER [options]",
        "Evaluates a run's best checkpoint on the test targets; results go to RUN_FOLDER/test.",
    ),
    "predict": (
        "recsys-lab predict RUN_FOLDER [options]",
        "Writes each user's top items to RUN_FOLDER/predict/recommendations.parquet.",
    ),
}
SECTIONS: dict[str, list[tuple[str, type, tuple[str, ...]]]] = {
    "model": [
        ("model", NextItemModule, ()),
        ("model.optimization", Optimization, ("optimizer", "lr", "weight_decay", "warmup_steps", "schedule")),
    ],
    "data": [
        (
            "data",
            SequenceDataModule,
            ("dataset", "data_dir", "split", "max_length", "batch_size", "exclude_seen", "fields"),
        )
    ],
    "evaluation": [("evaluation", RankingEvaluation, ("cutoffs", "cold_targets", "measures"))],
    "recommendations": [("recommendations", Recommendations, ("path", "top_k"))],
    "run": [("run", RunSettings, ("study", "variant", "folder", "overwrite", "retrain", "logger"))],
}
"""Group -> prefix, class, and the arguments that get a line; the others are named below."""
OF_COMMAND = {
    "fit": ("model", "data", "run", "evaluation"),
    "validate": ("data", "evaluation"),
    "test": ("data", "evaluation"),
    "predict": ("data", "recommendations"),
}


def help_screen(command: str) -> str:
    """The text for `recsys-lab COMMAND --help`, for `laid_out` to wrap: a line for each paragraph, and for each option
    one of its own, `option<tab>what it does`.

    Args:
        command: fit, validate, test or predict.
    """
    import_all(recsys_lab.models, recsys_lab.losses, recsys_lab.data)
    usage, about = ABOUT[command]
    lines = [f"usage: {usage}", "", about, ""]
    lines += _row("--config FILE", "settings as YAML, or a name: ml-100k/sasrec; options win; see --print_config")
    if command == "fit":
        lines += _row("--warm_start RUN", "begin with the weights of a run on a shorter log: docs/keeping_up.md")
    else:
        lines += _row("--ckpt_path FILE", "another checkpoint than the best one of the run")
        lines += _row("--allow_other_training true", "also where it was trained on other data or another split")
    lines += _row("--allow_classes NAMES", "classes or packages of others that a run folder may name")
    for section in OF_COMMAND[command]:
        lines += ["", f"{section}:"]
        if section == "model":
            lines += _classes()
        rest: list[str] = []
        for prefix, cls, shown in SECTIONS[section]:
            texts = read_docstring(cls)[1]
            hints = arguments_of(cls)[0]
            for name, default in _arguments(cls):
                if name in shown:
                    value = _default(default, hints[name])
                    lines += _row(f"--{prefix}.{name} {value}", _brief(texts.get(name, ""), hints[name]))
                elif (prefix, name) not in (("model", "loss"), ("model", "negatives"), ("model", "optimization")):
                    rest.append(f"--{prefix}.{name}")
        lines += ["  also: " + ", ".join(rest)] if rest else []
    lines += ["", "Lightning's:", *_lightnings(command), "", *_ways_on(command)]
    return "\n".join(lines) + "\n"


def write_help(folder: Path = FOLDER) -> None:
    for command in ABOUT:
        (folder / f"{command}.txt").write_text(help_screen(command))


def _classes() -> list[str]:
    counted = concrete_subclasses(CountingModel, OURS)
    trained = sorted(concrete_subclasses(NextItemModule, OURS) - counted)
    counting = f"they count and train nothing: {', '.join(sorted(counted))}"
    lines = _row("--model NAME", f"{', '.join(trained)}; or my_package.MyModel; {counting}")
    lines += _row("--model.loss CrossEntropy", ", ".join(sorted(concrete_subclasses(Loss, OURS))))
    lines += _row("--model.negatives NAME", ", ".join(sorted(concrete_subclasses(NegativeSampler, OURS))))
    return lines


def _arguments(cls: type) -> Iterator[tuple[str, Any]]:
    for parameter in list(inspect.signature(cls).parameters.values()):
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            yield parameter.name, parameter.default


def _default(value: Any, hint: Any) -> str:
    if value is None:
        return "NAME" if classes_in(hint) else "TEXT"
    if isinstance(value, bool):
        return str(value).lower()
    return f"'[{', '.join(map(str, value))}]'" if isinstance(value, tuple | list) else str(value)


def _brief(text: str, hint: Any) -> str:
    """The first sentence of what a docstring says of an argument, and its choices where it does not name them."""
    text = re.split(r"\.? (?=None = |Default: )|\. (?=[A-Z])|; |\.$", text)[0].replace("`", "").rstrip(";")
    choices = [str(choice) for choice in get_args(hint)] if get_origin(hint) is Literal else []
    more = "" if all(choice in text for choice in choices) else f": {', '.join(choices)}"
    return (text[:1].lower() + text[1:] if text[1:2].islower() else text) + more


def _row(option: str, text: str) -> list[str]:
    return [f"{option}\t{text}"]


def _lightnings(command: str) -> list[str]:
    lines = _row("--trainer.accelerator auto", "cpu, gpu, mps, ...; also --trainer.devices, .precision, .strategy")
    if command != "fit":
        return lines
    epochs, patience = TRAINER_DEFAULTS["max_epochs"], CALLBACK_DEFAULTS["early_stopping.patience"]
    watched = CALLBACK_DEFAULTS["early_stopping.monitor"]
    lines += _row(f"--trainer.max_epochs {epochs}", "also --trainer.max_steps, --trainer.max_time DD:HH:MM:SS")
    lines += _row(f"--early_stopping.patience {patience}", f"validations without a better {watched}")
    lines += _row("--seed_everything 0", "of weights, dropout, negatives and batches")
    return lines


def _ways_on(command: str) -> Sequence[str]:
    own = "recsys-lab fit --model.help SASRec: the options of one class (also --model.loss.help, --data.split.help)."
    whole = f"recsys-lab {command} --help all: every option, Lightning's too. docs/runs.md explains them."
    return [*([own] if command == "fit" else []), whole]


if __name__ == "__main__":
    write_help(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
