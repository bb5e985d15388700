"""Where a run writes: `runs/<study>/<variant>/seed<k>/`, and the names that a folder may have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recsys_lab.words import RecsysLabError

MAX_NAME_BYTES = 120


@dataclass(frozen=True)
class RunSettings:
    """The run folder and the loggers.

    Args:
        root: Folder of all runs.
        study: Runs that are compared with each other. Default: the data set's name.
        variant: What is compared. Default: the configuration file's name, or the model's.
        folder: The run folder itself, instead of root/study/variant/seed.
        overwrite: Replace a run that is in the folder already, once the new one has succeeded.
        test_after_fit: After `fit`, test the best checkpoint.
        retrain: After `fit`, train once more on the training and validation part together, for as many epochs as the
            best one had; that model is tested. See docs/temporal_splits.md.
        logger: Beside the run folder's own files. wandb writes offline unless WANDB_MODE=online is set.
    """

    root: str = "runs"
    study: str | None = None
    variant: str | None = None
    folder: str | None = None
    overwrite: bool = False
    test_after_fit: bool = True
    retrain: bool = False
    logger: Literal["none", "wandb", "tensorboard"] = "none"


def run_folder(settings: RunSettings, seed: int | None) -> Path:
    """The run folder of `settings`.

    Raises:
        RecsysLabError: for a name that can't be a folder's, or that leads somewhere else.
    """
    if settings.folder is not None:
        return _checked_path(settings.folder, "--run.folder")
    for name, option in ((settings.study, "--run.study"), (settings.variant, "--run.variant")):
        _check_name(str(name), option)
    seed_name = "unseeded" if seed is None else f"seed{seed}"
    return _checked_path(settings.root, "--run.root") / str(settings.study) / str(settings.variant) / seed_name


def _check_name(name: str, option: str) -> None:
    if "/" in name or "\\" in name:
        raise RecsysLabError(
            f"{option} {name!r}: one folder's name holds no separators; --run.root or --run.folder takes a path"
        )
    if name.strip() in ("", ".", ".."):
        raise RecsysLabError(f"{option} {name!r} is no folder's name: give one of letters and digits")
    _check_part(name, option)


def _checked_path(text: str, option: str) -> Path:
    path = Path(text)
    if not text:
        raise RecsysLabError(f"{option} is empty: give a folder, or leave it out")
    inner = [part for i, part in enumerate(path.parts) if part == ".." and set(path.parts[:i]) - {".."}]
    if inner:
        raise RecsysLabError(f"{option} {text!r}: '..' may only begin a path: write it without")
    for end, part in enumerate(path.parts, 1):
        if part != path.anchor:
            _check_part(part, option, is_there=_exists(Path(*path.parts[:end])))
    return path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _check_part(name: str, option: str, is_there: bool = False) -> None:
    if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name):
        raise RecsysLabError(
            f"{option}: the name {name!r} holds a control character, such as a line break: leave it out"
        )
    size = len(name.encode(errors="surrogateescape"))
    if size > MAX_NAME_BYTES and not is_there:
        raise RecsysLabError(
            f"{option}: the name that begins with {name[:20]!r} has {size} bytes, and {MAX_NAME_BYTES} are the most: "
            "shorten it"
        )


def variant_name(config: Any) -> str:
    """Of a run that names none: the last configuration file's, or the model's."""
    files = [Path(str(getattr(path, "relative", path))).stem for path in config.get("config") or []]
    return files[-1] if files and files[-1] != "config" else config.model.class_path.rpartition(".")[2].lower()
