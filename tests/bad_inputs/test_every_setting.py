"""Every setting of `fit --print_config` with values that nobody means, up to building model, data and trainer: it is
taken where `TAKEN` says so, or one line names the option. What is taken goes through a tiny fit, too."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from case import Case, Outcome, try_case
from fit_cases import TINY
from small_data import made_events, prepared

from recsys_lab.cli import main
from recsys_lab.runs.fit.command_line import CommandLine

HUGE = ("1000000000", "1000000000000")
VALUES = ("-1", "0", "nan", "inf", *HUGE, "'no such word'")
ALIKE = {"nan": "inf", "inf": "nan", HUGE[0]: HUGE[1], HUGE[1]: HUGE[0]}
"""The same checks refuse both values, or take them: a setting is tried with one of the two."""
WHOLE = TINY + (
    "--model.loss SampledSoftmax --model.negatives UniformNegatives --model.negatives.num_negatives 4 "
    "--model.optimization.lr 0.001 --data.split GlobalTemporal --data.prepare.min_length 3 "
)
BILLION = HUGE[:1]
TAKEN: dict[str, Sequence[str]] = {
    # names and places: any text is one
    **dict.fromkeys(("data.dataset", "data.data_dir", "run.root", "run.study", "run.variant", "run.folder"), VALUES),
    **dict.fromkeys(("trainer.default_root_dir", "trainer.model_registry", "recommendations.path"), VALUES),
    **dict.fromkeys(("checkpoint.dirpath", "checkpoint.filename", "model.item_vectors", "data.sessions"), VALUES),
    "data.cache_dir": VALUES,
    # numbers that mean something: none (0), all or no limit (-1, and more than there is)
    **dict.fromkeys(("seed_everything", "data.seed", "data.split.seed", "data.prepare.seed"), ("0", *BILLION)),
    **dict.fromkeys(("model.dropout", "model.attention_dropout", "model.optimization.final_lr_fraction"), ("0",)),
    **dict.fromkeys(("data.batch_size", "data.eval_batch_size", "data.batch_tokens", "data.bucket_batches"), BILLION),
    **dict.fromkeys(("data.stride", "data.max_windows_per_user", "model.negatives.num_negatives"), BILLION),
    **dict.fromkeys(("evaluation.max_score_mb", "recommendations.max_score_mb", "recommendations.top_k"), BILLION),
    **{f"data.prepare.{name}": BILLION for name in ("min_user_events", "min_item_events", "min_length")},
    **{f"trainer.limit_{part}_batches": HUGE for part in ("train", "val")},
    **{f"trainer.limit_{part}_batches": ("0", *HUGE) for part in ("test", "predict")},
    **{
        f"trainer.{name}": ("0", *HUGE)
        for name in ("fast_dev_run", "min_steps", "overfit_batches", "log_every_n_steps")
    },
    **{f"trainer.{name}": ("0", *HUGE) for name in ("gradient_clip_val", "reload_dataloaders_every_n_epochs")},
    "trainer.max_epochs": ("-1", *BILLION),
    "trainer.min_epochs": ("0", *BILLION),
    "trainer.max_steps": ("-1", *HUGE),
    "trainer.val_check_interval": HUGE,
    "trainer.num_sanity_val_steps": ("-1", "0", *HUGE),
    "model.loss.temperature": HUGE,
    "data.cache_gb": HUGE,
    "data.shuffle_shards": BILLION,
    "model.optimization.weight_decay": ("0",),
    "model.optimization.warmup_steps": ("0", *HUGE),
    "data.prepare.min_rating": ("-1", "0", *HUGE),
    "data.num_workers": ("0",),
    "early_stopping.min_delta": ("-1", "0", *HUGE),
    "early_stopping.patience": ("0", *HUGE),
    "early_stopping.stopping_threshold": ("-1", "0", *HUGE),
    "early_stopping.divergence_threshold": ("-1", "0", *HUGE),
    "checkpoint.save_top_k": ("-1", "0", *HUGE),
    "checkpoint.every_n_train_steps": ("0", *HUGE),
    "checkpoint.every_n_epochs": HUGE,
}
TRAINED = (
    "data.batch_size",
    "data.eval_batch_size",
    "data.batch_tokens",
    "data.bucket_batches",
    "data.stride",
    "data.max_windows_per_user",
    "data.seed",
    "data.num_workers",
    "seed_everything",
    "model.dropout",
    "model.attention_dropout",
    "model.loss.temperature",
    "model.negatives.num_negatives",
    "model.optimization.weight_decay",
    "model.optimization.warmup_steps",
    "model.optimization.final_lr_fraction",
    "evaluation.max_score_mb",
    "trainer.max_epochs",
    "trainer.min_epochs",
    "trainer.max_steps",
    "trainer.limit_train_batches",
    "trainer.limit_val_batches",
    "trainer.limit_test_batches",
    "trainer.overfit_batches",
    "trainer.val_check_interval",
    "trainer.num_sanity_val_steps",
    "trainer.gradient_clip_val",
    "trainer.log_every_n_steps",
    "early_stopping.min_delta",
    "early_stopping.patience",
    "early_stopping.stopping_threshold",
    "checkpoint.save_top_k",
    "checkpoint.every_n_epochs",
)
"""The settings that matter most, of those that take any of the values."""


def settings() -> list[str]:
    """Dotted names of all that the printed configuration holds."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        main([*WHOLE.split(), "--print_config"])
    return list(leaves(yaml.safe_load(printed.getvalue())))


def leaves(node: dict[str, Any], above: str = "") -> Iterator[str]:
    for key, value in node.items():
        name = above if key == "init_args" else f"{above}.{key}".lstrip(".")
        if isinstance(value, dict) and value:
            yield from leaves(value, name)
        elif key != "class_path":
            yield name


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("places")
    prepared(folder / "data" / "small", made_events())
    return {"DATA": str(folder / "data")}


def tried(setting: str, value: str, command: str, folder: Path, places: dict[str, str]) -> Outcome:
    names = {"ckpt_path": "no checkpoint at"}
    says = names.get(setting, rf"{setting.rpartition('.')[2]}\b")
    return try_case(Case(f"--{setting} {value}", f"{command} --{setting}={value}", says, may_leave=()), folder, places)


def is_tried(place: int, setting: str, value: str) -> bool:
    """Of two that are alike one, unless one is taken and the other is not."""
    other, taken = ALIKE.get(value), TAKEN.get(setting, ())
    return other is None or (value in taken) != (other in taken) or (place % 2 == 0) is (value < other)


QUICK = 4
"""Every fourth setting is tried in the default tier, with nan or infinity."""


@pytest.mark.parametrize(
    ("values", "quick"),
    [(("nan", "inf"), True), *(pytest.param((value,), False, marks=pytest.mark.slow) for value in VALUES)],
)
def test_up_to_the_trainer(
    values: tuple[str, ...], quick: bool, places: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CommandLine, "_run_subcommand", lambda self, name: None)
    found = settings()
    assert len(found) > 130 and set(TAKEN) <= set(found)
    every = [(place, setting, value) for place, setting in enumerate(found) for value in values]
    asked = [one for one in every if is_tried(*one) and (one[0] % QUICK == 0 and one[2] in ("nan", "inf")) is quick]
    wrong = []
    for place, setting, value in asked:
        outcome = tried(setting, value, WHOLE, tmp_path / str(place), places)
        wanted = "silent" if value in TAKEN.get(setting, ()) else "clear"
        if outcome.verdict != wanted or outcome.left:
            wrong.append(f"{wanted} was wanted of {outcome}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("setting", TRAINED)
def test_through_a_fit(setting: str, places: dict[str, str], tmp_path: Path) -> None:
    """What is taken trains to a finite loss and says what it found, or is refused then, in one line."""
    command = WHOLE.replace("--data.split GlobalTemporal --data.prepare.min_length 3 ", "")
    command += "--trainer.max_time 00:00:00:20 --early_stopping.patience 1 --run.folder run"
    for value in TAKEN[setting]:
        folder = tmp_path / value
        outcome = tried(setting, value, command, folder, places)
        assert outcome.verdict in ("silent", "clear") and not outcome.left, str(outcome)
        rows = folder / "work" / "run" / "metrics.csv"
        if outcome.verdict == "silent" and rows.is_file():
            names, *values = (line.split(",") for line in rows.read_text().splitlines())
            assert all(math.isfinite(float(row[names.index("train/loss")])) for row in values), str(outcome)
