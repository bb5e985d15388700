"""What an argument may be: its type and its range, written once in the annotation and checked wherever it is set.

    def __init__(self, num_layers: Annotated[int, Range(at_least=1)] = 2, ...)

`Configurable` classes are checked when they are built, from Python and from the command line alike; a dataclass calls
`check_fields(self)` in its `__post_init__`. The command line's parser reads the type inside `Annotated`.
"""

from __future__ import annotations

import inspect
import math
import numbers
import re
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from recsys_lab.words import ArgumentError, RecsysLabError, did_you_mean


@dataclass(frozen=True)
class Range:
    """The numbers that an argument may be. NaN never is one of them, infinity only where `infinite` says so."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    infinite: bool = False

    def holds(self, value: float) -> bool:
        return (
            not math.isnan(value)
            and (self.infinite or not math.isinf(value))
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        return self.text()

    def text(self, value: float | None = None) -> str:
        """In words. For a `value` outside it without what the value did not break: 0 heads need no word of 65,536."""
        bounds = [("at least", self.at_least), ("above", self.above)]
        if value is None or value >= 1 or max(self.at_most or 0, self.below or 0) <= 1:
            bounds += [("at most", self.at_most), ("below", self.below)]
        words = [f"{word} {bound:,}" for word, bound in bounds if bound is not None]
        finite = value is None or math.isfinite(value)
        return " and ".join(words if words and finite else ["a finite number", *words])

    __repr__ = __str__  # it stands in --help


class Repeated:
    """In `Annotated[Sequence[str], Repeated]`: on the command line the option is given once for each entry."""


class Commas:
    """In `Annotated[list[str], Commas]`: on the command line the entries stand in one word, `a,b`; those of an option
    that is given twice add up."""


class PassedOn:
    """In `Annotated[Sequence[str], PassedOn]`: on the command line the words that are none of the command's own, for
    another parser to read."""


class Filled:
    """In `Annotated[Sequence[int], Filled]`: at least one entry."""


Count = Annotated[int, Range(at_least=1, at_most=10**9)]
"""A number of things, at least one."""
Natural = Annotated[int, Range(at_least=0, at_most=10**12)]
"""A number of things, or none."""
Level = Annotated[float, Range(above=0, below=1)]
"""Of a test or an interval."""
Size = Annotated[int, Range(at_least=1, at_most=2**16)]
"""A width of layers. The bound keeps a slip of the keyboard from taking the machine's memory."""
Sizes = Annotated[Sequence[Size], Filled]
"""Widths of layers that can't do without one."""
Depth = Annotated[int, Range(at_least=1, at_most=1000)]
"""A number of layers."""
Megabytes = Annotated[int, Range(at_least=1, at_most=2**30)]
Seed = Annotated[int, Range(at_least=0, below=2**32)]
DropShare = Annotated[float, Range(at_least=0, below=1)]
Share = Annotated[float, Range(at_least=0, at_most=1)]
NotNegative = Annotated[float, Range(at_least=0)]
Positive = Annotated[float, Range(above=0)]


def check_arguments(cls: type, values: Mapping[str, Any]) -> None:
    """The arguments of a constructor against its annotations, and those that it hands on to its base classes.

    Raises:
        ArgumentError: naming the class and the argument.
    """
    known, takes_any = arguments_of(cls)
    for name, value in values.items():
        if name in known:
            _check(cls.__name__, name, value, known[name])
        elif not takes_any:
            hint = did_you_mean(name, known) or f" It has: {', '.join(sorted(known))}"
            raise ArgumentError(cls.__name__, name, f"is no argument of it.{hint}")


def check_fields(value: Any) -> None:
    """The fields of a dataclass against their annotations; raises ArgumentError."""
    hints = _hints(type(value))
    for field in fields(value):
        _check(type(value).__name__, field.name, getattr(value, field.name), hints.get(field.name, Any))


@cache
def arguments_of(cls: type) -> tuple[dict[str, Any], bool]:
    """The type of each argument of a constructor, and whether it takes others.

    `**base` is looked up in the base classes: SASRec takes what NextItemModule takes. The nearest class decides.
    """
    known: dict[str, Any] = {}
    for owner in cls.__mro__:
        constructor: Any = vars(owner).get("__init__")
        if constructor is None:
            continue
        hints, more = _hints(constructor), False
        for parameter in list(inspect.signature(constructor).parameters.values())[1:]:
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                more = True
            elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
                known.setdefault(parameter.name, hints.get(parameter.name, Any))
        if not more:
            return known, False
    return known, True


def defaults_of(cls: type) -> dict[str, Any]:
    """Arguments of `cls` with their defaults, those that it hands on as `**kwargs` among them."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if "__init__" not in base.__dict__:
            continue
        parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
        for parameter in parameters:
            if parameter.default is not inspect.Parameter.empty:
                found.setdefault(parameter.name, parameter.default)
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
            break
    return found


def check_divides(owner: object, of: str, number: int, name: str, divisor: int) -> None:
    """Raises ArgumentError where the argument `name` is not a divisor of the argument `of`."""
    if number % divisor:
        raise ArgumentError(type(owner).__name__, name, f"must divide {of} {number}, not {divisor}", divisor)


def read_docstring(documented: Any) -> tuple[str, dict[str, str]]:
    """What a docstring says before its `Args:`, and the text of each entry of that section."""
    about, _, arguments = inspect.cleandoc(documented.__doc__ or "").partition("\nArgs:\n")
    about = re.split(r"\n(?:Raises|Returns):\n", about)[0]
    arguments = re.split(r"\n(?=\S)", arguments)[0]
    entries = re.split(r"(?:^|\n)    (?=\w+: )", arguments)[1:]
    return about.strip(), {name: " ".join(text.split()) for name, _, text in (e.partition(": ") for e in entries)}


def classes_in(hint: Any) -> tuple[type, ...]:
    """The classes whose objects an annotation wants, also as members of a list: (Loss,) for `Loss | None`."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return classes_in(inside[0])
    if origin in (Union, types.UnionType) or (isinstance(origin, type) and issubclass(origin, Collection)):
        return tuple(cls for part in inside if part is not Ellipsis for cls in classes_in(part))
    plain = (Any, bool, int, float, complex, str, bytes, type(None), object, Path)
    if isinstance(hint, type) and hint not in plain and not issubclass(hint, list | tuple | dict | set):
        return (hint,)
    return ()


def _hints(of: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(of, include_extras=True)
    except Exception:  # a user's annotation that can't be read here: its class is then not checked
        return {}


def _check(owner: str, name: str, value: Any, hint: Any) -> None:
    problem = _problem(value, hint)
    if problem is not None:
        raise ArgumentError(owner, name, problem, value)


def _problem(value: Any, hint: Any) -> str | None:
    """What is wrong with a value; None where it is right, or where the annotation says too little to know."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        if Filled in inside and isinstance(value, Collection) and not value:
            return "must hold at least one value, not none"
        return _problem(value, inside[0]) or next(
            (
                f"must be {r.text(value)}, not {value!r}"
                for r in inside[1:]
                if isinstance(r, Range) and not r.holds(value)
            ),
            None,
        )
    if origin in (Union, types.UnionType):
        problems = [_problem(value, part) for part in inside if part is not type(None)]
        if (value is None and type(None) in inside) or None in problems:
            return None
        near = [_problem(value, part) for part in inside if part is not type(None) and _fits(value, part)]
        return near[0] if near else _wanted(value, hint)  # of the right kind: then it is its range
    if origin is Literal:
        return None if value in inside else f"must be one of {', '.join(map(repr, inside))}, not {value!r}"
    if isinstance(origin, type) and issubclass(origin, Sequence | AbstractSet):
        if isinstance(value, str | bytes) or not isinstance(value, Collection):
            return _wanted(value, hint)
        parts = [p for p in inside if p is not Ellipsis]
        if issubclass(origin, tuple) and Ellipsis not in inside:
            if len(value) != len(parts):
                return f"must hold {len(parts)} values, not {len(value)}"
            pairs = zip(value, parts, strict=True)
        else:
            pairs = zip(value, parts * len(value), strict=False) if len(parts) == 1 else zip([], [], strict=True)
        problems = [problem for problem in (_problem(v, part) for v, part in pairs) if problem]
        return f"holds a wrong value: each {problems[0]}" if problems else None
    return None if _fits(value, hint) else _wanted(value, hint)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the kind that an annotation names, its range aside."""
    if typing.get_origin(hint) is Annotated:
        return _fits(value, typing.get_args(hint)[0])
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if hint is float:
        return not isinstance(value, bool) and isinstance(value, numbers.Real) and not math.isnan(float(value))
    if hint is None or hint is type(None):
        return value is None
    if isinstance(hint, type) and hint is not Any and not getattr(hint, "_is_protocol", False):  # Any is a class, too
        return isinstance(value, hint)
    return True


def _wanted(value: Any, hint: Any) -> str:
    names = {bool: "True or False", int: "a whole number", float: "a finite number", str: "a text", Path: "a path"}
    parts = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    words = []
    for part in parts:
        base = typing.get_args(part)[0] if typing.get_origin(part) is Annotated else part
        if base is type(None):
            words.append("None")
        elif base in names:
            words.append(names[base])
        elif isinstance(base, type) and typing.get_origin(base) is None:
            words.append(f"an object of the class {base.__name__}")
        elif isinstance(origin := typing.get_origin(base), type) and issubclass(origin, Collection):
            inner = typing.get_args(base)[0]
            words.append("a list" + {str: " of texts", int: " of whole numbers"}.get(inner, ""))
        else:
            words.append(str(base).replace("typing.", ""))
    got = f"the text {value!r}" if isinstance(value, str) else repr(value)
    return f"must be {' or '.join(dict.fromkeys(words))}, not {got if len(got) < 80 else type(value).__name__}"


def check_base_is_built(cls: type) -> None:
    """Raises RecsysLabError for a class whose `__init__` does not name that of the class that it extends: torch and
    Lightning would say much later that something is missing."""
    own = inspect.unwrap(cls.__dict__.get("__init__", object.__init__))
    names = getattr(getattr(own, "__code__", None), "co_names", ("__init__",))
    base = next((one for one in cls.__mro__[1:] if one is not object and "__init__" in vars(one)), None)
    if base is not None and "__init__" not in names:
        raise RecsysLabError(
            f"{cls.__module__}.{cls.__qualname__}: its __init__ does not build {base.__name__}, which it extends: "
            "begin it with super().__init__()"
        )
