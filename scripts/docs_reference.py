"""Reference pages of the documentation site, made of the code itself: the commands from their parsers, the keys of the
YAML files from the classes that take them, and the Python names from their docstrings. `docs_site.py` adds them to the
site; tests/test_docs_site.py holds that nothing is missing.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import os
import re
import typing
from collections.abc import Iterable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from recsys_lab.arguments import arguments_of, classes_in, read_docstring
from recsys_lab.cli import COMMANDS, GROUPS, HELP, main
from recsys_lab.config import Configurable, import_all

ROOT = Path(__file__).parent.parent
IMPORTS = re.compile(r"^ *from (recsys_lab[\w.]*) import ([\w, ]+)$", re.MULTILINE)


def printed(*words: str) -> str:
    """What a command prints, 100 columns wide."""
    out, columns = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    try:
        with contextlib.redirect_stdout(out):
            main(words)
    finally:
        os.environ.pop("COLUMNS") if columns is None else os.environ.update(COLUMNS=columns)
    return out.getvalue().rstrip()


def block(text: str) -> str:
    return f"```text\n{text}\n```"


# -- commands ----------------------------------------------------------------------------------------------------------


def commands() -> dict[str, str]:
    """Each command as it is typed, and its line of help."""
    found = {name: text for name, (_, text) in COMMANDS.items() if name not in GROUPS}
    return found | {f"{group} {name}": text for group, below in GROUPS.items() for name, (_, text) in below.items()}


def commands_page() -> str:
    parts = [
        "# Commands",
        "What each command prints with `--help`. [A tour](../command_line.md) shows them at work.",
        block(HELP),
    ]
    for name, text in sorted(commands().items()):
        first = text[0].upper() + text[1:]
        parts += [
            f"## recsys-lab {name}",
            first + ("" if first[-1] in "?.!" else "."),
            block(printed(*name.split(), "--help")),
        ]
    return "\n\n".join(parts) + "\n"


# -- keys of YAML files ------------------------------------------------------------------------------------------------


def settings_page() -> str:
    """The keys of a run's file, of its classes and of a study's file."""
    whole = printed("fit", "--help", "all")
    _, _, options = whole.partition("\noptions:\n")
    parts = [
        "# Settings",
        "One YAML file is one run. Each option below is a key of that file: `--model.embedding_dim 64` is "
        "`embedding_dim: 64` under `model:`, and where the file names the class, under its `init_args:`. "
        "`recsys-lab fit --print_config` prints a whole file, resolved.",
        "## The options that matter most",
        block(printed("fit", "--help")),
        "## All options",
        "Those of a class that is named, such as an encoder or a loss, follow below this list.",
        block(options or whole),
        "## Classes and their keys",
    ]
    for base, found in classes().items():
        parts.append(f"### {base.__name__}")
        parts += [class_text(base)] if base not in found and keys_of(base) else []
        parts += [class_text(cls, base) for cls in found]
    parts += ["## Keys of a study file", "[Studies](../studies.md) shows such a file.", study_keys()]
    return "\n\n".join(parts) + "\n"


def classes() -> dict[type, list[type]]:
    """Every class that the settings of a run can hold, below the base that their place names, sorted by name."""
    import recsys_lab
    from recsys_lab.data.datamodule import SequenceDataModule
    from recsys_lab.evaluation.callback import RankingEvaluation
    from recsys_lab.evaluation.recommendations import Recommendations
    from recsys_lab.models.lightning import NextItemModule
    from recsys_lab.runs.run_settings import RunSettings

    import_all(recsys_lab.models, recsys_lab.losses, recsys_lab.data, recsys_lab.evaluation)
    found: dict[type, list[type]] = {}
    open_: list[type] = [NextItemModule, SequenceDataModule, RankingEvaluation, Recommendations, RunSettings]
    while open_:
        base = open_.pop(0)
        if base in found:
            continue
        found[base] = sorted(usable(base), key=lambda cls: cls.__name__)
        hints = [hint for cls in found[base] for hint in keys_of(cls).values()]
        inside = [cls for hint in hints for cls in classes_in(hint)]
        open_ += [cls for cls in inside if cls.__module__.startswith("recsys_lab.") and is_setting(cls)]
    return found


def is_setting(cls: type) -> bool:
    return issubclass(cls, Configurable) or is_dataclass(cls)


def usable(base: type) -> list[type]:
    """`base` and what lies below it, of this package, without what is never used by itself."""
    from recsys_lab.runs.fit.parse_errors import concrete_subclasses

    names = concrete_subclasses(base, str(ROOT / "recsys_lab"))
    below = [cls for cls in below_of(base) if cls.__name__ in names and cls.__module__.startswith("recsys_lab.")]
    return below or [base]


def below_of(base: type) -> list[type]:
    direct = base.__subclasses__()
    return list(dict.fromkeys([*direct, *(cls for one in direct for cls in below_of(one))]))


def keys_of(cls: type) -> dict[str, Any]:
    return arguments_of(cls)[0]


def class_text(cls: type, base: type | None = None) -> str:
    """What a class is, and each of its keys with its values, its default and its text.

    Args:
        base: what the page has above the class; keys that both have are not said again.
    """
    about, _ = read_docstring(cls)
    inherits = (
        base is not None and cls is not base and bool(keys_of(base)) and keys_of(base).items() <= keys_of(cls).items()
    )
    lines = [f"#### {cls.__name__}", ""] if base not in (None, cls) else []
    lines += [about.split("\n\n")[0], ""]
    texts = {name: text for owner in reversed(cls.__mro__) for name, text in read_docstring(owner)[1].items()}
    defaults = defaults_of(cls)
    for name, hint in keys_of(cls).items():
        if inherits and base is not None and name in keys_of(base):
            continue
        default = defaults.get(name, inspect.Parameter.empty)
        said = "required" if default is inspect.Parameter.empty else f"default `{shown(default)}`"
        text = texts.get(name, "")
        lines.append(f"- `{name}` ({hint_text(hint)}; {said})" + (f": {text}" if text else ""))
    if inherits and base is not None:
        lines += ["", f"And the keys of {base.__name__}."]
    return "\n".join(lines)


def defaults_of(cls: type) -> dict[str, Any]:
    """Of each argument, also of those that go on to base classes; the nearest class decides."""
    found: dict[str, Any] = {}
    for owner in reversed(cls.__mro__):
        constructor: Any = vars(owner).get("__init__")
        if constructor is not None and owner is not object:
            found |= {name: one.default for name, one in inspect.signature(constructor).parameters.items()}
    return found


def shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(shown, value)) + "]"
    return str(value) if isinstance(value, str | int | float) else type(value).__name__


def hint_text(hint: Any) -> str:
    """A type as a reader has it: `at least 1`, `one of a, b`, `list of text`, the name of a class."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return ", ".join([hint_text(inside[0]), *(str(mark) for mark in inside[1:] if type(mark).__name__ == "Range")])
    if origin is typing.Literal:
        return " or ".join(f"`{shown(choice)}`" for choice in inside)
    if inside and origin in (typing.Union, type(int | None)):
        return " or ".join(dict.fromkeys(hint_text(part) for part in inside if part is not type(None)))
    if inside and isinstance(origin, type):
        parts = list(dict.fromkeys(hint_text(part) for part in inside if part is not Ellipsis))
        return f"{'mapping' if issubclass(origin, dict | typing.Mapping) else 'list'} of {', '.join(parts)}"
    plain = {int: "whole number", float: "number", str: "text", bool: "`true` or `false`", Path: "path", Any: "any"}
    return plain.get(hint, getattr(hint, "__name__", str(hint)))


def study_keys() -> str:
    from recsys_lab.study.plan.study_file import KEYS, Study

    said = re.findall(r"^(\w[\w, ]*): (.*(?:\n .*)*)", inspect.cleandoc(Study.__doc__ or ""), re.MULTILINE)
    texts = {name: text for names, text in said for name in names.split(", ")}
    texts |= {"fast": "settings of the smoke test, on top of those of `--fast`."}
    return "\n".join(f"- `{key}`: {' '.join(texts.get(key, '').split())}".rstrip(": ") for key in KEYS)


# -- Python ------------------------------------------------------------------------------------------------------------


def rooms() -> list[str]:
    """Modules on the ground and folders of the package, as they stand below `recsys_lab.`; folders in them as well."""
    package = ROOT / "recsys_lab"
    ground = [path.stem for path in package.glob("*.py") if path.name != "__init__.py"]
    folders = [path.parent.relative_to(package) for path in package.rglob("__init__.py") if path.parent != package]
    return sorted([*ground, *(".".join(folder.parts) for folder in folders)])


def public_names(pages: Iterable[Path]) -> dict[str, str]:
    """What people import, `recsys_lab.models.SASRec`, and where it is defined: all that a room's `__init__` lists in
    `__all__`, and all that code on a page imports."""
    asked = [
        (module, name.strip())
        for page in pages
        for module, names in IMPORTS.findall(page.read_text())
        for name in names.split(",")
    ]
    for room in rooms():
        module = importlib.import_module(f"recsys_lab.{room}")
        asked += [(module.__name__, name) for name in getattr(module, "__all__", ())]
    found = {}
    for module_name, name in sorted(set(asked)):
        value = getattr(importlib.import_module(module_name), name)
        owner = getattr(value, "__module__", module_name)
        found[f"{module_name}.{name}"] = f"{owner if owner.startswith('recsys_lab') else module_name}.{name}"
    return found


def python_page(pages: Iterable[Path]) -> str:
    lines = ["# Python", "", "## Names that people import", ""]
    lines += [f"- [`{name}`][{place}]" for name, place in public_names(pages).items()]
    lines += ["", "## Every room of the package", ""]
    for room in rooms():
        about = inspect.cleandoc(importlib.import_module(f"recsys_lab.{room}").__doc__ or "")
        first = re.split(r"(?<=\.)\s", " ".join(about.split("\n\n")[0].split()))[0]
        lines.append(f"- [`recsys_lab.{room}`](python/{room}.md): {first}")
    return "\n".join(lines) + "\n"


def room_page(room: str) -> str:
    """The text of a room and its modules; the folders in it have pages of their own."""
    folder = ROOT.joinpath("recsys_lab", *room.split("."))
    parts = [f"# recsys_lab.{room}", f"::: recsys_lab.{room}\n    options: {{show_submodules: false}}"]
    modules = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
    return "\n\n".join([*parts, *(f"::: recsys_lab.{room}.{module}" for module in modules)]) + "\n"
