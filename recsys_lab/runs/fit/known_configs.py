"""Configurations that come with the package: `--config ml-100k/sasrec` is a file of `configs/`, from any folder."""

from __future__ import annotations

from pathlib import Path

import recsys_lab
from recsys_lab.words import RecsysLabError, did_you_mean

FOLDER = Path(recsys_lab.__file__).parent / "configs"
OPTIONS = ("--config", "-c")


def known_configs() -> list[str]:
    """Their names, `ml-100k/sasrec`."""
    return sorted(file.relative_to(FOLDER).with_suffix("").as_posix() for file in FOLDER.glob("*/*.yaml"))


def with_known_configs(arguments: list[str]) -> list[str]:
    """The words of a command, with the file in place of each name that follows `--config`. A file of that name in the
    working folder goes first.

    Raises:
        RecsysLabError: where there is neither.
    """
    found, before = [], ""
    for word in arguments:
        option, equals, value = word.partition("=")
        if before in OPTIONS:
            word = _file_of(word, before)
        elif equals and option in OPTIONS:
            word = f"{option}={_file_of(value, option)}"
        found.append(word)
        before = word
    return found


def _file_of(value: str, option: str) -> str:
    if not value or set(value) & set("\n{:") or Path(value).exists():  # settings themselves, or a file
        return value
    name = value.removeprefix("configs/").removesuffix(".yaml")
    known = known_configs()
    if name in known:
        return str(FOLDER / f"{name}.yaml")
    meant = did_you_mean(name, known) or f" The package has: {', '.join(known)}"
    raise RecsysLabError(f"{option} {value}: there is no such file, and no configuration of this name.{meant}")
