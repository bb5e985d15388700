"""jsonargparse's messages in the user's words: which key, what is known there, what was probably meant."""

from __future__ import annotations

import re
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from recsys_lab.config import import_class
from recsys_lab.words import ArgumentError, RecsysLabError, did_you_mean

MODEL = "recsys_lab.models.lightning.NextItemModule"
BASES = ("config", "contracts", "counting", "lightning", "measure", "source")
"""Files that hold the bases of classes, which are never used by themselves."""

MEANT = dict.fromkeys(("top", "top_k", "topk", "k", "num_items"), "--recommendations.top_k")
"""What users type where the option has a longer name."""

OF_DATA = ("fields", "numerics", "target_types", "weights")
"""Settings that users look for in the model: the data has them, since what is fitted of them is part of it."""

# Lines that describe jsonargparse's search and not the mistake.
_NOISE = re.compile(
    r"^\s*(- )?(Does not validate against any of the Union subtypes|Subtypes: |Errors:|Given value|"
    r"Expected a <class 'NoneType'>|Expected a path but .* either not accessible)"
)
_UNKNOWN_OPTION = re.compile(
    r"Option '(?P<option>[^']+)' is not accepted|Group '(?P<group>[^']*)' does not accept option '(?P<member>[^']+)'"
    r"|does not accept option '(?P<key>[^']+)'|unrecognized arguments: (?:--)?(?P<argument>[^=\s]+)"
)
_UNKNOWN_CLASS = re.compile(r"Expected a dot import path string: (?P<name>\S+)")
_CLASS_PATH = re.compile(r"Problem with given class_path '(?P<path>[^']+)'")
_FILE = re.compile(r"(?:Invalid content in sub-config file|Unexpected import path format:) (?P<file>[^\s:]+)")
_NOT_BELOW = re.compile(r"Import path (?:\S+ )?does not correspond to a subclass of (?P<base>\w+)")
_PARSER_KEY = re.compile(r"Parser key \"(?P<key>[^\"]+)\"")
_KIND = re.compile(r"Expected an? <class '(?P<kind>\w+)'>")
_GIVEN = re.compile(r"(?:Given value: |Expected an? <class '\w+'>\. Got value: )(?P<value>[^\n]*)\s*$")
_GOT = re.compile(r"Expected an? <class '(?!NoneType)\w+'>\. Got value: (?P<value>[^\n]*)")
_KINDS = {"bool": "true or false", "int": "a whole number", "float": "a finite number", "str": "a text"}


def explain(message: str, parser: ArgumentParser) -> str:
    """One or two lines for `message`, an error of `parser`."""
    where = ".".join(_PARSER_KEY.findall(message))
    if message.strip().startswith("Unexpected config:"):
        return "the file of --config holds no settings: it must be a mapping such as `model: {class_path: SASRec}`"
    required = re.search(r"arguments are required: (?:\w+\.)?model$", message.strip())
    if required:
        models = ", ".join(sorted(concrete_subclasses(import_class(MODEL))))
        return f"--model is missing: name a class ({models}), or a file of settings with --config"
    unknown_class = _UNKNOWN_CLASS.search(message)
    if unknown_class:
        if "/" in unknown_class["name"]:
            return f"{where}: {_named_by_a_path(unknown_class['name'])}"
        before = message[: unknown_class.start()]
        base = _in_a_list(before) or _expected_base(before)
        known = sorted(concrete_subclasses(base)) if base else []
        return f"{where}: unknown class {unknown_class['name']!r}.{_suggest(unknown_class['name'], known)}"
    file = _FILE.search(message)
    if file and ("/" in file["file"] or file["file"].endswith(".py")) and not file["file"].endswith((".yaml", ".yml")):
        return f"{where}: {_named_by_a_path(file['file'])}"
    not_below, given = _NOT_BELOW.search(message), _given(message)
    if not_below and given:
        return f"{where}: {given} is no class of the type {not_below['base']}"
    lacks = getattr(_import(given), "__abstractmethods__", None) if given and "but is abstract" in message else None
    if lacks:
        return f"{where}: {given} must define {', '.join(sorted(lacks))}"
    unknown = _UNKNOWN_OPTION.search(message)
    if unknown:
        owner = _CLASS_PATH.findall(message[: unknown.start()])
        name = ".".join(filter(None, (unknown["group"], unknown["member"])))
        name = name or unknown["option"] or unknown["key"] or unknown["argument"]
        return _unknown_key(name, where, owner[-1] if owner else None, parser)
    return _plain(message, where)


def _named_by_a_path(file: str) -> str:
    """A class is wanted, and a file was named: which classes it has, as they are typed."""
    path = Path(file)
    module = ".".join(part for part in path.with_suffix("").parts if part not in (".", "..", "/"))
    try:
        classes = re.findall(r"^class (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        classes = []
    names = ", ".join(f"{module}.{name}" for name in classes[:8]) or f"{module.removesuffix('.py')}.NAME"
    return f"{file} is a path, and a class is named with dots, from where you are: {names}"


def _unknown_key(name: str, where: str, owner: str | None, parser: ArgumentParser) -> str:
    """`name` was given to the class `owner` at `where`, or to the parser itself when there is no owner."""
    if owner is None:
        prefix, part, known = _level(name, _options(parser))
        meant = MEANT.get(part) if not prefix else None
        if meant is not None and f"{meant[2:]}" in _options(parser):
            return f"unknown key {part!r}. Did you mean {meant}?"
        return f"unknown key {prefix + part!r}.{_suggest(part, known)}"
    cls = _import(owner)
    subclasses = sorted(concrete_subclasses(cls)) if cls is not None else []
    if subclasses and cls is not None and _is_abstract(cls):
        return f"{where}: name the class first (class_path, or --{where} NAME): {', '.join(subclasses)}"
    prefix, part, known = _level(name, class_options(cls))
    if where == "model" and prefix + part in OF_DATA:
        return f"{where}: {owner.rpartition('.')[2]} has no key {part!r}. Did you mean --data.{part}?"
    return f"{where}: {owner.rpartition('.')[2]} has no key {prefix + part!r}.{_suggest(part, known)}"


def _level(name: str, options: Iterable[str]) -> tuple[str, str, list[str]]:
    """The part of a dotted name that is not known, what stands before it, and the names known at that level."""
    options, prefix = list(options), ""
    for part in name.split("."):
        known = sorted({o[len(prefix) :].split(".")[0] for o in options if o.startswith(prefix)})
        if part not in known:
            return prefix, part, known
        prefix += part + "."
    return "", name, []


def _suggest(name: str, known: list[str]) -> str:
    return did_you_mean(name.rpartition(".")[2], known) + (f"\nKnown: {', '.join(known)}" if known else "")


def _options(parser: ArgumentParser) -> list[str]:
    """Dotted names of what a parser and its subcommands accept."""
    names = []
    for action in parser._actions:
        if isinstance(action.choices, dict):
            names += [name for sub in action.choices.values() for name in _options(sub)]
        elif action.option_strings and action.dest not in ("help", "print_config", "print_shtab"):
            names.append(action.dest)
    return names


def class_options(cls: Any) -> list[str]:
    """Dotted names of what a class takes; none for None."""
    if cls is None:
        return []
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, fail_untyped=False)
    return _options(parser)


def _expected_base(before: str) -> Any:
    """The class whose subclasses were asked for, from the last list of subtypes."""
    listed = re.findall(r"Subtypes: \[(.*)\]", before)
    names = [n for n in re.findall(r"([\w.]+\.\w+)", listed[-1]) if not n.endswith("NoneType")] if listed else []
    return _import(names[0]) if names else None


def _in_a_list(before: str) -> Any:
    """The class that a list holds, where a class of one was asked for: of an argument of the last class named."""
    owners, keys = _CLASS_PATH.findall(before), _PARSER_KEY.findall(before)
    for cls in getattr(_import(owners[-1]) if owners else None, "__mro__", ()):
        hints = typing.get_type_hints(vars(cls)["__init__"]) if "__init__" in vars(cls) and cls is not object else {}
        for kind in (hints.get(keys[-1]), *typing.get_args(hints.get(keys[-1]))):
            if typing.get_origin(kind) is list:
                return typing.get_args(kind)[0]
    return None


def concrete_subclasses(cls: type[Any], folder: str = "") -> set[str]:
    """Names of the concrete classes below `cls` that are imported; with `folder` those of its files only."""
    below: set[str] = set()
    for sub in cls.__subclasses__():
        below |= concrete_subclasses(sub, folder)
        if folder and not str(getattr(sys.modules.get(sub.__module__), "__file__", "")).startswith(folder):
            continue
        if not _is_abstract(sub) and not sub.__name__.startswith("_") and not sub.__module__.startswith("test"):
            below.add(sub.__name__)
    return below


def _is_abstract(cls: type) -> bool:
    """Abstract by `abc`, or a base that is never used by itself: it says so, or is in a file that holds bases."""
    is_base = "is_base" in vars(cls) or cls.__module__.rpartition(".")[2] in BASES
    return is_base or bool(getattr(cls, "__abstractmethods__", None))


def _import(path: str) -> Any:
    try:
        return import_class(path)
    except RecsysLabError:
        return None


def _wrong_kind(message: str) -> str | None:
    """`must be a whole number, not 'few'`, where nothing but the kind of a plain value is wrong."""
    kinds = [kind for kind in _KIND.findall(message) if kind != "NoneType"]
    rest = [line for line in message.splitlines()[1:] if "Expected" in line and not _KIND.search(line)]
    value = _given(message)
    if value is None or rest or not kinds or not all(kind in _KINDS for kind in kinds):
        return None
    if "float" in kinds:
        kinds = [kind for kind in kinds if kind != "int"]
    return f"must be {' or '.join(_KINDS[kind] for kind in dict.fromkeys(kinds))}, not {value!r}"


def _given(message: str) -> str | None:
    """The value that was given, as far as the message says it."""
    got = list(_GOT.finditer(message))  # says more than the whole value that was given, where both are there
    given = got[-1] if got else _GIVEN.search(message)
    if given is None:
        return None
    value = given["value"].strip()
    nested = re.fullmatch(r"NestedArg\(key='[\w.]+', val=(['\"]?)(.*)\1\)", value)  # of an argument of a class
    return nested[2] if nested else value


def _no_list(message: str) -> str | None:
    """`must be a list such as '[a]', not 'a'`, where a list or a mapping is wanted, and a plain word was given."""
    value, ways = _given(message), []
    for expected in re.findall(r"^[ -]*Expected an? (?!path )(.+?)(?:\. Got value: .*)?$", message, re.MULTILINE):
        if re.fullmatch(r"<class '(list|tuple|collections\.abc\.Sequence)'>", expected):
            ways.append(f"a list such as '[{value}]'")
        elif expected == "<class 'dict'>":
            ways.append("a mapping such as '{NAME: VALUE}'")
        elif literal := re.fullmatch(r"typing\.Literal\[(.*)\]", expected):
            ways.append(literal[1].replace(", ", " or "))
        elif expected != "<class 'NoneType'>":
            return None
    is_word = value is not None and re.match(r"[\[{]", value) is None
    is_wanted = any(way.startswith("a ") for way in ways)
    return f"must be {' or '.join(dict.fromkeys(ways))}, not {value!r}" if is_word and is_wanted else None


def _plain(message: str, where: str) -> str:
    """The lines that say what is wrong, behind the full name of the key."""
    wrong_kind = _wrong_kind(message) or _no_list(message)
    if wrong_kind is not None:
        return f"--{where} {wrong_kind}"
    lines = [
        line.strip().removeprefix("- ") for line in message.splitlines() if line.strip() and not _NOISE.match(line)
    ]
    lines = [line for line in (_PARSER_KEY.sub("", line).removeprefix(":").strip() for line in lines) if line]
    text = re.sub(r"a typing\.Literal\[([^\]]*)\]", r"one of \1", " ".join(lines))
    text = re.sub(r"(a )?<class '([\w.]+)'>", r"\2", text)
    text = re.sub(r"Problem with given class_path '[\w.]+': ", "", text)
    text = re.sub(r"Expected (?:a )?float(.*\b(?:nan|inf)\b)", r"Expected a finite number\1", text, flags=re.IGNORECASE)
    return f"{where + ': ' if where else ''}{text}"


def mendable(error: BaseException) -> RecsysLabError | None:
    """The error for the user under the parser's own: where a class of the configuration refused its arguments."""
    under: BaseException | None = error
    while under is not None and not isinstance(under, RecsysLabError):
        under = under.__cause__ or under.__context__
    return under


def option_of(error: ArgumentError, config: Mapping[str, Any]) -> str:
    """The text of `error` with the option in front as the user types it: `--model.num_layers must be ...`.

    Args:
        config: nested settings: the place where the argument has the bad value.
    """
    places = list(_places(config, error.argument))
    path = next((path for path, value, owner in places if value == error.value and owner in (error.owner, None)), None)
    path = path or next((path for path, value, _ in places if value == error.value), None)
    return f"--{path} {error.problem}" if path else str(error)


def _places(config: Any, name: str, path: str = "", owner: str | None = None) -> Iterator[tuple[str, Any, str | None]]:
    """Everything called `name` in nested settings: its dotted option, its value, and the class whose argument it is."""
    for key, value in dict(config).items():
        here = path if key in ("init_args", "class_path") else f"{path}.{key}".lstrip(".")
        if key == name:
            yield here, value, owner
        if key == "init_args" and isinstance(value, Mapping):
            yield from _places(value, name, path, str(config.get("class_path", "")).rpartition(".")[2])
        elif isinstance(value, Mapping):
            yield from _places(value, name, here)


def refused(error: Exception, config: Mapping[str, Any]) -> RecsysLabError:
    """What a class of the configuration said when it was built, behind the option that it is about.

    Args:
        config: the nested settings that were built.
    """
    own = mendable(error)
    if isinstance(own, ArgumentError):
        return RecsysLabError(option_of(own, config))
    if own is not None:
        return own
    text = " ".join(str(error).split())
    trainer = config.get("trainer") or {}
    named = [name for name in trainer if re.search(rf"\b{name}\b", text)]
    named = named or [name for name, value in trainer.items() if isinstance(value, str) and repr(value) in text]
    options = ", ".join(f"--trainer.{name}" for name in named)
    return RecsysLabError(f"{options}: {text}" if options else text)
