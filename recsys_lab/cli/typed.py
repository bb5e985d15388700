"""A typed function as a command: its parameters are the options, its docstring is their help.

    def compare(runs: list[str], *, cutoff: Count = 10, pairs: bool = False) -> None:
        \"\"\"Compares runs ...

        Args:
            runs: run folders, or folders that hold some.
            cutoff: K of the metrics.
            pairs: also the table of all pairs.
        \"\"\"

`recsys-lab compare RUNS... [--cutoff CUTOFF] [--pairs]`. A parameter before the star stands by its place. Ranges stand
in the annotations (`arguments.py`), `Literal` lists choices, a list takes several values, `a b` or `a,b` (`Repeated`:
one each time that the option is given; `Commas`: all in one word), a bool takes true or false, and is a flag where it
is False (`--pairs` is `--pairs true`). An object is named by its class, `--name CLASS`, with `--name.KEY VALUE`
(`class_option.py`). The fields of a dataclass are options as well: commands share some so.

This is argparse and not jsonargparse, which takes a list as `[a,b]` only and not as `compare runs/a runs/b`, writes its
usage above every error, and needs 0.1 s to be imported (`import argparse`: 2 ms).
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import inspect
import re
import sys
import types
import typing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, NoReturn

from recsys_lab.arguments import Commas, PassedOn, Range, Repeated, read_docstring
from recsys_lab.cli.class_option import built, class_path_of, is_class
from recsys_lab.config import CLASS_PATH
from recsys_lab.data.reading.spelling import command_line
from recsys_lab.words import ArgumentError, did_you_mean


class TypedParser(argparse.ArgumentParser):
    """Options may be written with - or _, and an error is a line that names the option as it was typed."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Help, **settings)
        self._typed: dict[str, str] = {}
        self.passed_on: str | None = None  # the parameter that takes the words of another parser

    def known(self) -> list[str]:
        return [name for name in self._option_string_actions if name.startswith("--")]

    def parse(self, words: Sequence[str]) -> dict[str, Any]:
        """The values of all parameters; of an object its class with the texts of `--name.KEY VALUE`."""
        rest, inside, given = [], {name: {} for name in self._objects()}, deque(words)  # type: ignore[var-annotated]
        while given:
            name, equals, value = (word := given.popleft()).partition("=")
            owner, dot, key = name.removeprefix("--").partition(".")
            if name.startswith("--") and dot and owner in inside:
                value = value if equals else given.popleft() if given else ""
                if not value:
                    self.error(f"argument {name}: expected one argument")
                inside[owner].setdefault(key, []).append(value)
                continue
            spelt = "--" + name[2:].replace("-", "_")
            if name.startswith("--") and spelt in self.known():
                self._typed[spelt] = name
                if not equals and self._option_string_actions[spelt].const is True:  # a flag takes no other word
                    is_value = given and given[0].lower() in ("true", "false")
                    equals, value = "=", given.popleft() if is_value else "true"
                word = spelt + equals + value
            rest.append(word)
        found, unknown = self.parse_known_args(rest)
        if self.passed_on is not None:
            return {**vars(found), self.passed_on: unknown}
        if unknown and not unknown[0].startswith("-") and all(action.option_strings for action in self._actions):
            self.error(f"it takes no arguments, got {unknown[0]!r}")
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._meant(unknown[0])}")
        values = vars(found)
        return values | {name: (values[name], keys) for name, keys in inside.items()}

    def error(self, message: str) -> NoReturn:
        for spelt, typed in self._typed.items():
            message = re.sub(rf"(?<!\S){spelt}(?!\w)", typed, message)
        print(f"{self.prog}: error: {message}", file=sys.stderr)
        print(f"All options: {self.prog} --help", file=sys.stderr)
        self.exit(2)

    def _objects(self) -> list[str]:
        actions = (action for action in self._actions if action.dest.endswith(".KEY"))
        return [action.dest.removesuffix(".KEY") for action in actions]

    def _meant(self, word: str) -> str:
        close = difflib.get_close_matches(word.partition("=")[0], self.known(), 1)
        return f". Did you mean {close[0]}?" if close else ""


class _More(argparse.Action):
    """A list whose option is given twice holds the values of both."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        before = getattr(namespace, self.dest)
        more = [value for one in values for value in (one if isinstance(one, list) else [one])]
        setattr(namespace, self.dest, more if before is self.default else [*before, *more])


LONGEST_CHOICES = 42
"""Characters of choices in the usage of a command; longer ones are in the text of their option."""


def _choices_of(action: argparse.Action) -> list[str]:
    find = getattr(action, "find_choices", None)
    return find() if find is not None else [str(one) for one in action.choices or ()]


class _Help(argparse.HelpFormatter):
    """Each paragraph of a docstring is filled to the width; lines that are indented stay as they are. Choices are
    looked up here, and not whenever a parser is made."""

    def _metavar_formatter(self, action: argparse.Action, default_metavar: str) -> Any:
        choices = _choices_of(action)
        if choices:
            listed = "{" + ",".join(choices) + "}"
            action.metavar = listed if len(listed) <= LONGEST_CHOICES else default_metavar
        return super()._metavar_formatter(action, default_metavar)

    def _expand_help(self, action: argparse.Action) -> str:
        text, choices = super()._expand_help(action), _choices_of(action)
        is_named = len(",".join(choices)) + 2 > LONGEST_CHOICES
        return f"{text.rstrip('.')}. One of {', '.join(choices)}." if is_named else text

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = re.split(r"\n\s*\n", text)
        fill = super()._fill_text
        return "\n\n".join(p if "\n " in p or p[:1] == " " else fill(p, width, indent) for p in paragraphs)


@dataclass(frozen=True)
class OneOf:
    """In `Annotated[str, OneOf("recsys_lab.ops.rank_metrics:RANKING_METRICS")]`: what the library has under that name,
    looked up when a value is given or help is asked for. or_class: or the path of a class, for the command to find."""

    place: str
    or_class: bool = False

    @property
    def names(self) -> list[str]:
        module, _, name = self.place.partition(":")
        return list(getattr(importlib.import_module(module), name))


@dataclass(frozen=True)
class Option:
    """One parameter of a command, or one field of a dataclass that a command takes."""

    name: str
    hint: Any
    default: Any
    text: str
    by_place: bool


def call(function: Callable[..., None], prog: str, words: Sequence[str], epilog: str = "") -> None:
    """Runs `function` with what the words say.

    Args:
        prog: the command as it is typed: `recsys-lab study plan`.
        words: what follows it.
        epilog: the end of its help.
    """
    parser = parser_of(function, prog, epilog)
    given = parser.parse(words)
    arguments = {}
    with command_line():  # messages name options as they are typed
        for name, hint in _parameters(function):
            inner, _ = _inner(hint)
            if _is_group(hint):
                try:
                    arguments[name] = hint(**{field.name: given[field.name] for field in fields(hint)})
                except ArgumentError as error:
                    parser.error(f"argument --{error.argument}: {error.problem}")
            elif is_class(inner):
                arguments[name] = built(name, inner, *given[name])
            else:
                arguments[name] = given[name]
        function(**arguments)


def parser_of(function: Callable[..., None], prog: str, epilog: str = "") -> TypedParser:
    """The parser of the words of a command."""
    about, _ = read_docstring(function)
    parser = TypedParser(prog=prog, description=about, epilog=epilog)
    for option in options_of(function):
        _add(parser, option)
    for name, hint in _parameters(function):
        if PassedOn in _inner(hint)[1]:
            parser.passed_on = name
    return parser


def options_of(function: Callable[..., None]) -> Iterator[Option]:
    """Every option of a command, those inside its dataclasses in their place."""
    _, texts = read_docstring(function)
    signature = inspect.signature(function).parameters
    for name, hint in _parameters(function):
        parameter = signature[name]
        if PassedOn in _inner(hint)[1]:
            continue
        if not _is_group(hint):
            by_place = parameter.kind is not inspect.Parameter.KEYWORD_ONLY
            yield Option(name, hint, parameter.default, texts.get(name, ""), by_place)
            continue
        _, texts_inside = read_docstring(hint)
        hints = typing.get_type_hints(hint, include_extras=True)
        for inside in inspect.signature(hint).parameters.values():
            text, empty = texts_inside.get(inside.name, ""), inside.default is inspect.Parameter.empty
            yield Option(inside.name, hints[inside.name], inside.default, text, empty)


def _is_group(hint: Any) -> bool:
    return is_dataclass(hint)


def _parameters(function: Callable[..., None]) -> list[tuple[str, Any]]:
    hints = typing.get_type_hints(function, include_extras=True)
    return [(name, hints[name]) for name in inspect.signature(function).parameters]


def _add(parser: TypedParser, option: Option) -> None:
    empty = option.default is inspect.Parameter.empty
    default = None if empty else option.default
    shown = not (default is None or default is False or default == () or "default" in option.text)
    words = " ".join(map(str, default)) if isinstance(default, tuple) else "true" if default is True else default
    text = f"{option.text} (default {words})" if shown else option.text
    settings: dict[str, Any] = {"help": text.replace("%", "%%"), "default": default}
    hint, marks = _inner(option.hint)
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if hint is bool and not default:
        settings |= {"nargs": "?", "const": True}
    if is_class(hint):
        parser.add_argument(f"--{option.name}", metavar="CLASS", type=class_path_of(hint), **settings)
        parser.add_argument(f"--{option.name}.KEY", metavar="VALUE", help="an argument of that class")
        return
    is_list = isinstance(origin, type) and issubclass(origin, Sequence)
    if is_list:
        hint, more = _inner(inside[0])
        marks += more
    settings["type"] = _converter(hint, marks)
    if is_list and Repeated in marks:
        settings |= {"action": "append", "default": []}
    elif is_list and option.by_place:
        settings |= {"nargs": "+"}
    elif is_list:  # `a b` and `a,b` are the same, but for `Commas`, of which a word follows
        settings |= {"action": _More, "type": _several(settings["type"])} | ({} if Commas in marks else {"nargs": "+"})
    if option.by_place:
        if not empty and "nargs" not in settings:
            settings["nargs"] = "?"
        action = parser.add_argument(option.name, **{"metavar": option.name.upper()} | settings)
    else:
        action = parser.add_argument(f"--{option.name}", **settings)
    vars(action)["find_choices"] = _choices(hint, marks)


def _inner(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A hint without `Annotated` and `| None`, and what `Annotated` says of it."""
    marks: tuple[Any, ...] = ()
    while True:
        if typing.get_origin(hint) is Annotated:
            hint, *more = typing.get_args(hint)
            marks += tuple(more)
        elif typing.get_origin(hint) in (typing.Union, types.UnionType):
            (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
        else:
            return hint, marks


def _choices(hint: Any, marks: tuple[Any, ...]) -> Callable[[], list[str]] | None:
    """What finds the values that an option may have; None for any value."""
    if typing.get_origin(hint) is Literal:
        return lambda: list(typing.get_args(hint))
    if hint is bool:
        return lambda: ["true", "false"]
    found = [mark for mark in marks if isinstance(mark, OneOf)]
    return (lambda: found[0].names) if found else None


def _converter(hint: Any, marks: tuple[Any, ...]) -> Callable[[str], Any]:
    """Text -> value; what can't be meant is refused in the words of `arguments.py`."""
    allowed = [mark for mark in marks if isinstance(mark, Range)]
    find = _choices(hint, marks)
    or_class = any(mark.or_class for mark in marks if isinstance(mark, OneOf))

    def converted(text: str) -> Any:
        if find is not None:
            text = text.lower() if hint is bool else text
            if or_class and CLASS_PATH.fullmatch(text):
                return text
            if text not in (choices := find()):
                meant = did_you_mean(text, choices)
                raise argparse.ArgumentTypeError(f"must be one of {', '.join(choices)}, not {text!r}.{meant}")
            return text == "true" if hint is bool else text
        if hint not in (int, float):
            return hint(text)
        try:
            value = hint(text)
        except ValueError:
            what = "a whole number" if hint is int else "a number"
            raise argparse.ArgumentTypeError(f"must be {what}, not {text!r}") from None
        for one in allowed:
            if not one.holds(value):
                raise argparse.ArgumentTypeError(f"must be {one.text(value)}, not {text}")
        return value

    return converted


def _several(converter: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """`a,b`, or `[a, b]` as a configuration has it -> [a, b]."""

    def converted(text: str) -> list[Any]:
        in_brackets = text.strip().startswith("[") and text.strip().endswith("]")
        parts = text.strip()[1:-1].split(",") if in_brackets else text.split(",")
        return [converter(part.strip().strip("\"'") if in_brackets else part.strip()) for part in parts]

    return converted
