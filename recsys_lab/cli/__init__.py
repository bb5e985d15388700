"""The command line: `recsys-lab COMMAND ...`. Every command is a few lines over the library.

Exit codes: 0 done; 1 training stopped at a NaN loss, or something unforeseen (with a traceback); 2 an error that the
user can mend (its text alone); 3 a fit that ended with neither a validation nor a test value; 130 interrupted by
Ctrl-C.

This file imports nothing heavy, so that `--help` and typing errors answer at once.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence

from recsys_lab import __version__
from recsys_lab.cli.failures import in_words
from recsys_lab.config import allowing
from recsys_lab.words import RecsysLabError

COMMANDS = {
    "fit": ("recsys_lab.cli.trainer_commands", "train a model, then test its best checkpoint"),
    "validate": ("recsys_lab.cli.trainer_commands", "evaluate a checkpoint on the validation targets"),
    "test": ("recsys_lab.cli.trainer_commands", "evaluate a checkpoint on the test targets"),
    "predict": ("recsys_lab.cli.trainer_commands", "write each user's top items"),
    "prepare": ("recsys_lab.cli.prepare", "turn a public data set, or your own log, into a prepared data set"),
    "audit": ("recsys_lab.cli.audit", "what a data set is, and what a split of it leaks"),
    "sources": ("recsys_lab.cli.sources", "list the public data sets that are known by name"),
    "compare": ("recsys_lab.cli.compare", "one table from several run folders, tested over users and seeds"),
    "study": ("recsys_lab.cli.study.dispatch", "ablations: plan, run, status, retry, tune, report"),
    "diagnose": ("recsys_lab.cli.diagnose", "questions to a finished run: does it need the order of events, ..."),
    "slices": ("recsys_lab.cli.slices", "where a metric comes from: history length, popularity, gap, repeat, cold"),
    "verify": ("recsys_lab.cli.verify", "prove a finished run from its checkpoint and its data"),
}

HELP = f"""usage: recsys-lab COMMAND [options]

{os.linesep.join(f"  {name:10s}{text}" for name, (_, text) in COMMANDS.items())}

Examples:
  recsys-lab prepare ml-100k
  recsys-lab fit --config configs/ml-100k/sasrec.yaml --model.embedding_dim 128
  recsys-lab fit runs/ml-100k/sasrec/seed0          (goes on with a run that was interrupted)
  recsys-lab test runs/ml-100k/sasrec/seed0         (tests its best checkpoint again)
  recsys-lab compare runs/ml-100k

A run folder or a checkpoint may name classes of your own packages: nothing of them is imported unless you add
`--allow_classes my_package.MyEncoder` (or `--allow_classes my_package`).

Exit codes: 0 done, 1 failed, 2 a mistake that one line names, 3 a fit without any validation or test value, 130 Ctrl-C.

Each command has its own --help. The manual is README.md."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code.

    Args:
        arguments: what follows `recsys-lab`; None = those of this process.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"recsys-lab {__version__}")
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return _fail(f"unknown command {name!r}.{hint} Known: {', '.join(COMMANDS)}")
    try:
        arguments, allowed = allowed_classes(arguments)
        with allowing(allowed):
            importlib.import_module(COMMANDS[name][0]).run(arguments)
    except KeyboardInterrupt:
        print("recsys-lab: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` has read enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    except SystemExit as stop:  # argument parsers leave this way
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:
        text = in_words(error, name)
        if text is None:  # something unforeseen
            raise
        return _fail(text, getattr(error, "exit_code", 2))
    return 0


def allowed_classes(arguments: list[str]) -> tuple[list[str], list[str]]:
    """`--allow_classes my_package.MyEncoder,other`, which every command takes that reads run folders or checkpoints:
    the other arguments, and what it names."""
    rest, allowed, words = [], [], iter(arguments)
    for word in words:
        option, equals, value = word.partition("=")
        if option not in ("--allow_classes", "--allow-classes") or arguments[0] in ("prepare", "audit", "sources"):
            rest.append(word)
            continue
        names = [name for name in (value if equals else next(words, "")).split(",") if name.strip()]
        if not names or any(name.startswith("-") for name in names):
            raise RecsysLabError(f"{option} needs the names of classes or modules: {option} my_package.MyEncoder")
        allowed += [name.strip() for name in names]
    return rest, allowed


def run() -> None:
    """The `recsys-lab` script."""
    sys.exit(main())


def _fail(text: str, code: int = 2) -> int:
    print(f"recsys-lab: error: {text}", file=sys.stderr)
    return code
