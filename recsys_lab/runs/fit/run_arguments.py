"""The words of `recsys-lab fit` and its like: a run folder in place of its options, mistakes in a line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from recsys_lab.runs.fit.parse_errors import explain
from recsys_lab.runs.folder_life import holds_run
from recsys_lab.runs.run_files import no_run_folder
from recsys_lab.runs.saved import check_run_folder
from recsys_lab.runs.trust import check_saved_config
from recsys_lab.words import RecsysLabError


class Parser(LightningArgumentParser):
    """Says what was wrong in a line or two, instead of after hundreds of lines of usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:  # a parser inside the parser: the outer one names the whole key
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        words = parser.prog.replace(" [options]", "").split()
        if len(words) == 1 and self._subcommands_action is not None:  # of the one command whose parser was built
            words += list(self._subcommands_action.choices)[:1]
        print(f"recsys-lab: error: {explain(message, self)}", file=sys.stderr)
        print(f"All options: {' '.join(words)} --help", file=sys.stderr)
        self.exit(2)


def names_run_folder(arguments: list[str]) -> bool:
    """`test FOLDER ...`, and not `test --config FILE ...`."""
    return len(arguments) > 1 and not arguments[1].startswith("-")


def expand_run_folder(arguments: list[str]) -> list[str]:
    """`test FOLDER ...` -> `test --config FOLDER/config.yaml --ckpt_path FOLDER/checkpoints/best.ckpt ...`.

    `fit FOLDER` goes on from last.ckpt, or starts from the beginning where no epoch was finished.
    """
    if not names_run_folder(arguments):
        return arguments
    command, folder = arguments[0], Path(arguments[1])
    if not (folder / "config.yaml").is_file():
        hint = "; a run that was killed before it wrote one starts with its first command" if command == "fit" else ""
        raise RecsysLabError(f"{no_run_folder(folder, 'config.yaml')}{hint}")
    if not (command == "fit" and _overwrites(arguments[2:])):
        check_run_folder(folder)
    check_saved_config(folder / "config.yaml")
    found, more = ["--config", str(folder / "config.yaml")], arguments[2:]
    checkpoint = folder / "checkpoints" / ("last.ckpt" if command == "fit" else "best.ckpt")
    if command == "fit":
        found += ["--run.folder", str(folder)]
    if any(word == "--ckpt_path" or word.startswith("--ckpt_path=") for word in more):
        return [command, *found, *more]
    if command != "fit" or (checkpoint.is_file() and not _overwrites(more)):
        found += ["--ckpt_path", str(checkpoint)]
    elif not _overwrites(more) and holds_run(folder):
        raise RecsysLabError(
            f"{folder} has no checkpoints/last.ckpt to go on from; start from the beginning: recsys-lab fit {folder} "
            "--run.overwrite true, or go on from another: --ckpt_path FILE"
        )
    return [command, *found, *more]


def other_way(command: str, path: Path) -> str:
    """What to type where the checkpoint that a run would go on from is of no use."""
    if command != "fit" or path.name != "last.ckpt":
        return ""
    folder = path.parent.parent
    best = path.with_name("best.ckpt")
    other = f"; go on from its best epoch: recsys-lab fit {folder} --ckpt_path {best}" if best.is_file() else ""
    return f"{other}; start from the beginning: recsys-lab fit {folder} --run.overwrite true"


def file_that_is_no_text(arguments: list[str]) -> str:
    """The file of `--config` that can't be read as text."""
    for option, value in zip(arguments, [*arguments[1:], ""], strict=True):
        path = Path(option.removeprefix("--config=") if option.startswith("--config=") else value)
        if option.startswith("--config") and path.is_file():
            try:
                path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                return str(path)
    return "a file of settings"


def _overwrites(arguments: list[str]) -> bool:
    words = " ".join(arguments).replace("=", " ").lower()
    return "--run.overwrite true" in words
