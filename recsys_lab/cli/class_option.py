"""A parameter that is an object: `--split GlobalTemporal --split.quantile 0.9` -> GlobalTemporal(quantile=0.9)."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recsys_lab.arguments import check_arguments
from recsys_lab.config import Configurable, allowing, class_in, find_class, from_config, import_all
from recsys_lab.words import ArgumentError, RecsysLabError, did_you_mean


def is_class(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Configurable)


def class_path_of(base: type) -> Callable[[str], str]:
    """Turns text into a class path: the short name of a class in the package of `base`, or the `package.module.Name` of
    any other, which the user trusts."""

    def converted(text: str) -> str:
        package = base.__module__.rpartition(".")[0]
        if "." in text:
            return text
        import_all(importlib.import_module(package))
        try:
            found = class_in(package, text)
        except AttributeError:
            from recsys_lab.runs.fit.parse_errors import concrete_subclasses

            names = sorted(concrete_subclasses(base))
            meant = did_you_mean(text, names)
            raise argparse.ArgumentTypeError(f"must be one of {', '.join(names)}, not {text!r}.{meant}") from None
        return f"{found.__module__}.{found.__name__}"

    return converted


def built(option: str, base: type, class_path: str | None, given: Mapping[str, Sequence[str]]) -> Any:
    """The object that the words describe; None where they describe none.

    Args:
        given: the texts of each argument; the last counts.

    Raises:
        RecsysLabError: for a class that is none of `base`, and for arguments that it refuses.
    """
    if class_path is None:
        if given:
            raise RecsysLabError(f"--{option}.{next(iter(given))} needs a class: --{option} NAME")
        return None
    with allowing([class_path]):
        cls = find_class(class_path, (base,), f"--{option}")
        names = {name: name.replace("-", "_") for name in given}
        values = {names[name]: _value(cls, names[name], texts[-1]) for name, texts in given.items()}
        return from_config({"class_path": class_path, "init_args": values}, base, where=f"--{option}")


def _value(cls: type, name: str, text: str) -> Any:
    """A number, a list, true or null as JSON has them; text where the argument takes text alone, or where it is none of
    these."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if _takes(cls, name, text) and not _takes(cls, name, value) else value


def _takes(cls: type, name: str, value: Any) -> bool:
    try:
        check_arguments(cls, {name: value})
    except ArgumentError:
        return False
    return True
