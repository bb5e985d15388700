"""The command line: `recsys-lab COMMAND ...`. Every command is a few lines over the library.

Exit codes: 0 done; 1 training stopped at a NaN loss, or something unforeseen (with a traceback); 2 an error that the
user can mend (its text alone); 3 a fit that ended with neither a validation nor a test value; 130 interrupted by
Ctrl-C.

This file imports nothing heavy, so that `--help` and typing errors answer at once.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence

from recsys_lab import __version__
from recsys_lab.cli.failures import in_words
from recsys_lab.cli.help_text import laid_out
from recsys_lab.config import ALLOW_CLASSES, allowing, only_asks
from recsys_lab.words import RecsysLabError, did_you_mean

RUN = "recsys_lab.cli.trainer_commands:run"
COMMANDS = {
    "fit": (RUN, "train a model, then test its best checkpoint"),
    "estimate": ("recsys_lab.cli.estimate:estimate", "memory, time and disk of a fit, before it runs"),
    "validate": (RUN, "evaluate a checkpoint on the validation targets"),
    "test": (RUN, "evaluate a checkpoint on the test targets"),
    "predict": (RUN, "write each user's top items"),
    "recommend": ("recsys_lab.cli.recommend:recommend", "lists for anybody from a run, without its data"),
    "export": ("recsys_lab.cli.export:export", "a trained encoder as a file for other programs: ONNX, torch.export"),
    "serve": ("recsys_lab.cli.serve:serve", "lists, similar items and events of users over HTTP"),
    "prepare": ("recsys_lab.cli.prepare:prepare", "turn a public data set, or your own log, into a prepared data set"),
    "audit": ("recsys_lab.cli.audit:audit", "what a data set is, and what a split of it leaks"),
    "sources": ("recsys_lab.cli.sources:sources", "list the public data sets that are known by name"),
    "compare": ("recsys_lab.cli.compare:compare", "one table from several run folders, tested over users and seeds"),
    "report": (
        "recsys_lab.cli.report_page:report",
        "one page that lists all runs and studies, with links to reports",
    ),
    "study": ("", "ablations: plan, run, status, retry, tune, report"),
    "diagnose": ("", "questions to a finished run: does it need the order of events, ..."),
    "slices": ("recsys_lab.cli.compare:slices", "where a metric comes from: history length, popularity, repeat, cold"),
    "verify": ("recsys_lab.cli.verify:verify", "prove a finished run from its checkpoint and its data"),
    "completion": ("recsys_lab.cli.completion:completion", "what a shell needs to complete commands and options"),
}
"""Name -> module and function, and a line of help. The parameters of a function are its options (`cli/typed.py`); one
whose only parameter is `words` is given them all."""
OF_DATA = ("prepare", "audit", "sources", "completion")
"""They read no run folder and no checkpoint, so they take no `--allow_classes`."""
OF_LISTS = ("predict", "recommend", "serve")
"""They make scores of all items in large blocks, which torch then asks for in memory pages of 2 MB (Linux)."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT, LARGEST = 128 << 20, 32 << 20
"""Of freed memory, and the largest block of which any is kept: glibc takes no more."""
ASKING = ("recommend", "serve")
"""They train no model."""
GROUPS = {
    "study": {
        "plan": ("recsys_lab.cli.study:plan", "every run with its state, and what the missing ones will cost"),
        "run": ("recsys_lab.cli.study:run", "run what is missing, here or on a cluster"),
        "status": ("recsys_lab.cli.study:status", "how far it is: states, failures, the time that is left"),
        "retry": ("recsys_lab.cli.study:retry", "run failed runs again"),
        "report": ("recsys_lab.cli.study:report", "one HTML page, Markdown, LaTeX and figures of the finished runs"),
        "tune": ("recsys_lab.cli.study:tune", "the same search budget for each value of an axis"),
    },
    "diagnose": {
        "shuffle": ("recsys_lab.cli.diagnose:shuffle", "does the model, or the data, need the order of events?"),
        "calibration": (
            "recsys_lab.cli.diagnose:calibration",
            "are the model's probabilities as large as what then happens?",
        ),
        "shortcuts": (
            "recsys_lab.cli.diagnose:shortcuts",
            "could a simple rule find these targets: few successors, similar items, the newest events alone?",
        ),
        "faithfulness": (
            "recsys_lab.cli.explain:faithfulness",
            "are explanations faithful to the model, beside random order and shuffled weights?",
        ),
        "explain": ("recsys_lab.cli.explain:explain", "why does an item stand in somebody's list?"),
    },
}

USAGE = {
    "study": (
        "SUBCOMMAND FILE [options]\n\nFILE is a study.yaml, or a folder that holds one.",
        """Examples:
  recsys-lab study plan experiments/losses
  recsys-lab study run experiments/losses --workers 2
  recsys-lab study report experiments/losses

The manual is docs/studies.md.""",
    ),
    "diagnose": (
        "QUESTION RUN_FOLDER [options]",
        "docs/sequential.md, docs/metrics.md and docs/explain.md explain the answers.",
    ),
}


def _rows(commands: Mapping[str, tuple[str, str]]) -> str:
    return "\n".join(f"{name}\t{text}" for name, (_, text) in commands.items())


COLUMN = max(map(len, [*COMMANDS, *(below for group in GROUPS.values() for below in group)])) + 4
"""Of a list of commands: where what they do begins."""
HELP = f"""usage: recsys-lab COMMAND [options]

{_rows(COMMANDS)}

Examples:
  recsys-lab prepare ml-100k
  recsys-lab fit --config ml-100k/sasrec --model.embedding_dim 128
  recsys-lab fit runs/ml-100k/sasrec/seed0    (goes on where it was interrupted)
  recsys-lab test runs/ml-100k/sasrec/seed0   (tests its best checkpoint again)
  recsys-lab compare runs/ml-100k

A run folder or a checkpoint may name classes of your own packages: nothing of them is imported unless you add \
`--allow_classes my_package.MyEncoder` (or `--allow_classes my_package`).

Exit codes: 0 done, 1 failed, 2 a mistake that one line names, 3 a fit without any validation or test value, \
130 Ctrl-C.

Each command has its own --help. The manual is README.md."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code.

    Args:
        arguments: what follows `recsys-lab`; None = those of this process.
    """
    typed = arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(laid_out(HELP, COLUMN))
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"recsys-lab {__version__}")
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        return _fail(f"unknown command {name!r}.{_meant(name, COMMANDS)}")
    try:
        arguments, allowed = allowed_classes(arguments)
        if name in GROUPS and arguments[1:2] in ([], ["-h"], ["--help"]):
            return _of_group(name, bool(arguments[1:]))
        with allowing(allowed):
            _call(arguments)
    except KeyboardInterrupt:
        print(f"recsys-lab: interrupted{_way_on(typed)}", file=sys.stderr)
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


def _way_on(typed: list[str]) -> str:
    """What to type after Ctrl-C, of a command that goes on where it was. `fit` says it by itself."""
    if typed[:2] == ["study", "retry"]:  # what it had begun is interrupted now, and no failed run any more
        resume = [i for i, word in enumerate(typed) if word == "--resume" and typed[i + 1 : i + 2] == ["true"]]
        rest = [word for i, word in enumerate(typed) if not word.startswith("--resume") and i - 1 not in resume]
        typed = ["study", "run", *rest[2:]]
    is_known = typed[:2] in (["study", "run"], ["study", "tune"])
    return f"; to go on: {shlex.join(['recsys-lab', *typed])}" if is_known else ""


def _call(arguments: list[str]) -> None:
    """Runs what `COMMANDS` or `GROUPS` has under the first words."""
    name, rest, place = arguments[0], arguments[1:], COMMANDS[arguments[0]][0]
    if name in GROUPS:
        below, rest = rest[0], rest[1:]
        if below not in GROUPS[name]:
            raise RecsysLabError(f"unknown subcommand {below!r} of {name}.{_meant(below, GROUPS[name])}")
        name, place = f"{name} {below}", GROUPS[name][below][0]
    module, _, function = place.partition(":")
    command = getattr(importlib.import_module(module), function)
    if list(inspect.signature(command).parameters) == ["words"]:
        command(arguments)
    else:
        from recsys_lab.cli.typed import call

        call(command, f"recsys-lab {name}", rest, "" if name in OF_DATA else ALLOW_CLASSES)


def _of_group(name: str, is_asked: bool) -> int:
    """The help of `study` and `diagnose`; without it, what is missing."""
    if is_asked:
        usage, more = USAGE[name]
        text = f"usage: recsys-lab {name} {usage}\n\n{_rows(GROUPS[name])}\n\n{more}\nEach has its own --help."
        print(laid_out(text, COLUMN))
        return 0
    known = ", ".join(GROUPS[name])
    return _fail(f"{name} needs a subcommand: {known}. `recsys-lab {name} --help` explains them")


def _meant(name: str, known: Iterable[str]) -> str:
    return f"{did_you_mean(name, known)} Known: {', '.join(known)}"


def allowed_classes(arguments: list[str]) -> tuple[list[str], list[str]]:
    """`--allow_classes my_package.MyEncoder,other`, which every command takes that reads run folders or checkpoints:
    the other arguments, and what it names."""
    rest, allowed, words = [], [], iter(arguments)
    for word in words:
        option, equals, value = word.partition("=")
        if option not in ("--allow_classes", "--allow-classes") or arguments[0] in OF_DATA:
            rest.append(word)
            continue
        names = [name for name in (value if equals else next(words, "")).split(",") if name.strip()]
        if not names or any(name.startswith("-") for name in names):
            raise RecsysLabError(f"{option} needs the names of classes or modules: {option} my_package.MyEncoder")
        allowed += [name.strip() for name in names]
    return rest, allowed


def run() -> None:
    """The `recsys-lab` script."""
    if sys.argv[1:2] and sys.argv[1] in ASKING and not any("allow" in word for word in sys.argv):
        only_asks()  # a class of others may be made for Lightning
    if sys.argv[1:2] and sys.argv[1] in OF_LISTS:
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read once, before the first tensor
        _keep_freed_memory()
    sys.exit(main())


def _keep_freed_memory() -> None:
    """Blocks of scores come and go many times a second. Where glibc gives each back to Linux, the next one is cleared
    again first, a sixth of the time that lists take. So it keeps up to `KEPT` bytes."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, KEPT)
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGEST)


def _fail(text: str, code: int = 2) -> int:
    print(f"recsys-lab: error: {text}", file=sys.stderr)
    return code
