"""`recsys-lab fit | validate | test | predict`: their first screen of help, or what `runs/fit/command_line.py` does."""

from __future__ import annotations

from pathlib import Path

from recsys_lab.cli.help_text import laid_out

HELP = Path(__file__).parent / "help"
"""Texts of `runs/fit/help_screen.py`: they are printed without importing torch, in the width of the terminal."""


def run(words: list[str]) -> None:
    """Runs the words of a command; `--help` is one screen, `--help all` what the parser says of every option."""
    asked = next((place for place, word in enumerate(words) if word in ("-h", "--help")), None)
    if asked is not None and words[asked + 1 : asked + 2] != ["all"]:
        print(laid_out((HELP / f"{words[0]}.txt").read_text(encoding="utf-8")))
        return
    from recsys_lab.runs.fit.command_line import run as run_words

    run_words(words if asked is None else [words[0], "--help"])
