"""Objects as plain data: an object built from Python or from the command line is written as YAML and built again.

Plain data may come from a stranger: a checkpoint or a run folder. So a name in it is looked up before anything is
called, and called only if it is a class of the type that its place wants (a loss where a loss belongs); and nothing of
another package is imported for it unless the user allows that (`--allow_classes`, `allow_classes=`).
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import inspect
import json
import os
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from recsys_lab.arguments import arguments_of, check_arguments, check_base_is_built, classes_in, defaults_of
from recsys_lab.words import RecsysLabError

if TYPE_CHECKING:
    from typing import Self

OURS = "recsys_lab"
CLASS_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
ALLOW_CLASSES = (
    "--allow_classes NAMES: classes or packages of others (my_package.MyEncoder,other) that a run folder or a "
    "checkpoint may name, since you trust them; without it nothing of them is imported."
)
"""The end of the help of every command that reads run folders."""
_allowed: ContextVar[tuple[str, ...]] = ContextVar("allowed", default=())


def find_own_modules() -> None:
    """Modules that lie beside the user can be imported from now on: `class_path: my_package.MyEncoder`."""
    sys.path.extend({os.getcwd()} - set(sys.path))


def read_yaml(text: str) -> Any:
    """Plain data. As `yaml.safe_load`, and several times faster where libyaml is there."""
    import yaml

    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


class ForeignClassError(RecsysLabError):
    """A class of another package was not imported, or can't be: `class_path`."""

    def __init__(self, text: str, class_path: str) -> None:
        super().__init__(text)
        self.class_path = class_path


class Configurable:
    """Remembers the arguments it was built with, so that `to_config` can write it down as a plain dict; and checks them
    against their annotations (`arguments.py`).

    Subclasses do nothing for it: no `save_hyperparameters`, no `self.x = x` rule.
    """

    settings: SimpleNamespace
    """Every argument of the constructor by name, also those left at their defaults; there before `__init__` runs."""
    _init_args: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        check_base_is_built(cls)
        instance = super().__new__(cls)
        signature = inspect.signature(cls.__init__)
        try:
            bound = signature.bind_partial(instance, *args, **kwargs)  # partial: copy and pickle pass no arguments
        except TypeError as error:
            check_arguments(cls, kwargs)  # names what is not known, and what was probably meant
            raise RecsysLabError(f"{cls.__name__}: {error}") from error
        init_args = dict(list(bound.arguments.items())[1:])
        for parameter in signature.parameters.values():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                init_args.update(init_args.pop(parameter.name, {}))
        check_arguments(cls, init_args)
        object.__setattr__(instance, "_init_args", init_args)
        object.__setattr__(instance, "settings", SimpleNamespace(**{**defaults_of(cls), **init_args}))
        return instance


def to_config(value: Any) -> Any:
    """`value` as plain data (None, bool, numbers, strings, lists, dicts); objects become `class_path` + `init_args`.

    Raises:
        TypeError: for an object that is neither plain, a dataclass nor `Configurable`, naming it.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {str(k): to_config(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [to_config(v) for v in value]
    if isinstance(value, Configurable):
        init_args = value._init_args
    elif is_dataclass(value) and not isinstance(value, type):
        init_args = {f.name: getattr(value, f.name) for f in fields(value) if f.init}
    else:
        raise TypeError(
            f"{type(value).__qualname__} can't be written as plain configuration: derive it from "
            "recsys_lab.config.Configurable (losses, samplers and models do already) or make it a dataclass"
        )
    path = f"{type(value).__module__}.{type(value).__qualname__}"
    return {"class_path": path, "init_args": {k: to_config(v) for k, v in init_args.items()}}


def from_config(
    config: Any,
    expected: type | tuple[type, ...] = (),
    allow_classes: Sequence[str] = (),
    where: str = "the configuration",
) -> Any:
    """The inverse of `to_config`: builds an object of the type `expected`, and those inside it. A string is a string.

    Args:
        config: `class_path` and `init_args`.
        expected: the class that the object must be of; () = `Configurable`, or a dataclass of recsys_lab. For objects
            inside it the annotations of its constructor say the same.
        allow_classes: classes or modules of other packages that may be imported for it. What is imported already, and
            what `allowing` names, needs no leave.
        where: the configuration comes from, for messages.

    Raises:
        RecsysLabError: when a class can't be had, is of another type, or refuses its arguments; nothing was called.
    """
    with allowing(allow_classes):
        return _build(config, expected if isinstance(expected, tuple) else (expected,), where)


def _build(config: Any, expected: tuple[type, ...], where: str) -> Any:
    if isinstance(config, list):
        return [_build(value, expected, where) for value in config]
    if not isinstance(config, dict) or "class_path" not in config:
        return config  # a number, a text, a mapping of them: the constructor looks at it
    named = config["class_path"]
    cls = find_class(moved(named) if isinstance(named, str) else named, expected, where)
    init_args = config.get("init_args") or {}
    if not isinstance(init_args, dict) or not all(isinstance(name, str) for name in init_args):
        raise RecsysLabError(f"{where}: init_args of {cls.__name__} must be a mapping from names to values")
    hints = arguments_of(cls)[0]
    inside = {name: _part(value, hints.get(name, Any), f"{cls.__name__}: {name}") for name, value in init_args.items()}
    try:
        return cls(**inside)
    except TypeError as error:
        raise RecsysLabError(f"{where}: {cls.__name__} can't be built: {error}") from error


def _part(value: Any, hint: Any, where: str) -> Any:
    wanted = classes_in(hint)
    if hint is not Any and not wanted and isinstance(value, dict) and "class_path" in value:
        raise RecsysLabError(f"{where} is no place for a class, and {value['class_path']!r} is not called")
    return _build(value, wanted, where)


@contextmanager
def allowing(names: Iterable[str]) -> Iterator[None]:
    """Classes (`my_package.MyEncoder`) and modules (`my_package`) that the user trusts, while the block runs."""
    token = _allowed.set((*_allowed.get(), *names))
    try:
        yield
    finally:
        _allowed.reset(token)


def allowed_classes() -> tuple[str, ...]:
    """What `allowing` names at this moment."""
    return _allowed.get()


def find_class(class_path: Any, expected: tuple[type, ...], where: str, packages: Sequence[str] = (OURS,)) -> Any:
    """The class that `package.module.Name` names, if it is below one of `expected`. Nothing of it is called.

    Args:
        expected: as for `from_config`.
        where: of the name, for the message.
        packages: whose modules may be imported without the user's leave.

    Raises:
        RecsysLabError: before anything is imported that may not be.
    """
    if not isinstance(class_path, str) or not CLASS_PATH.fullmatch(class_path):
        raise RecsysLabError(f"{where}: {class_path!r} does not name a class: write package.module.Name")
    trusted = _in(class_path, (*packages, *_allowed.get()))
    if not trusted and sys.modules.get(class_path.rpartition(".")[0]) is None:
        raise ForeignClassError(
            f"{where} names the class {class_path}, which is not part of recsys_lab, so it was not imported. If you "
            f"trust it: --allow_classes {class_path} (in Python: import it first, or allow_classes=[{class_path!r}])",
            class_path,
        )
    found = import_class(class_path)
    fits = isinstance(found, type) and issubclass(found, expected or (Configurable,))
    if not fits and not (
        not expected and is_dataclass(found) and isinstance(found, type) and _in(class_path, packages)
    ):
        names = " or ".join(cls.__name__ for cls in expected or (Configurable,))
        raise RecsysLabError(f"{where}: {class_path} is not a class of the type {names}, so it is not called")
    if _in(class_path, packages) and not _in(found.__module__ + ".", packages):
        raise RecsysLabError(f"{where}: {class_path} is not a class of {packages[0]}; name the module that defines it")
    if inspect.isabstract(found):
        raise RecsysLabError(f"{where}: {class_path} is a base class: name one of those below it")
    return found


MOVED = {
    "recsys_lab.evaluation.processes": "recsys_lab.ops.processes",
    "recsys_lab.callbacks": "recsys_lab.evaluation",
    "recsys_lab.callbacks.measures": "recsys_lab.evaluation",
    "recsys_lab.callbacks.measures.beyond_accuracy": "recsys_lab.evaluation.beyond_accuracy",
    "recsys_lab.callbacks.measures.calibration": "recsys_lab.evaluation.calibration",
    "recsys_lab.data.negatives": "recsys_lab.losses.negatives",
    "recsys_lab.data.settings": "recsys_lab.data.prepare.prepare_settings",
    "recsys_lab.data.split": "recsys_lab.data.split.leave_one_out",
    "recsys_lab.data.temporal": "recsys_lab.data.split.temporal",
    "recsys_lab.models.gru4rec": "recsys_lab.models.encoders.gru4rec",
    "recsys_lab.models.lstm_attention": "recsys_lab.models.encoders.lstm_attention",
    "recsys_lab.models.sasrec": "recsys_lab.models.encoders.sasrec",
}
"""Where the classes of a module are now: checkpoints and run folders of before name the old one."""


def moved(class_path: str) -> str:
    """The name of today of a class that a checkpoint or a run folder of before may name."""
    module, _, name = class_path.rpartition(".")
    return f"{MOVED[module]}.{name}" if module in MOVED else class_path


def named_today(plain: Any) -> Any:
    """Plain data with the names of today for the classes in it."""
    if isinstance(plain, dict):
        return {name: named_today(value) for name, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [named_today(value) for value in plain]
    return moved(plain) if isinstance(plain, str) else plain


def one_way(value: Any) -> Any:
    """One way to write equal things: 1 and 1.0, a list and a tuple."""
    if isinstance(value, Mapping):
        return {str(k): one_way(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [one_way(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def hash_of(plain: Mapping[str, Any]) -> str:
    """16 hex digits; equal for settings that are written differently."""
    return hashlib.sha256(json.dumps(one_way(plain), sort_keys=True, default=str).encode()).hexdigest()[:16]


class _MovedModules(MetaPathFinder, Loader):
    """Imports a module of before as the one of today, so that old configurations are read."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        is_package_today = MOVED.get(fullname, "").startswith(f"{fullname}.")
        return ModuleSpec(fullname, self) if fullname in MOVED and not is_package_today else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(MOVED[spec.name])
        spec.loader_state = module.__spec__  # the import system writes the old name over it
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It was executed under its own name, which it keeps."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state or module.__spec__


sys.meta_path.insert(0, _MovedModules())  # before the one of paths, which would execute a file a second time

trains = True
"""Whether this process may train. Where `only_asks()` was called before models were imported they are no modules of
Lightning, whose import takes longer than all else of a start."""


def only_asks() -> None:
    """This process, which is ours alone, asks models and trains none. Python does not search for unreachable cycles
    until `keep_out_of_collections`: what is imported stays, and to go over it again and again is a fifth of a start."""
    global trains
    trains = False
    gc.disable()


def keep_out_of_collections() -> None:
    """What is there stays, so Python's search for unreachable cycles need not go over it: with 100 thousand items that
    takes a seventh of a second each time, in which nobody is answered. It is done once here, when nobody may notice."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.enable()


def import_all(*packages: Any) -> None:
    """Imports every module of the packages, so that class names are known without their module path."""
    for package in packages:
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)


def class_in(package: str, name: str) -> Any:
    """The class of this name that a module of the package defines: a package's `__getattr__`, so that a class in a new
    file is found without an edit.

    Raises:
        AttributeError: where there is none.
    """
    if name[:1].isupper():
        for info in pkgutil.walk_packages(sys.modules[package].__path__, package + "."):
            found = getattr(importlib.import_module(info.name), name, None)
            if isinstance(found, type) and found.__module__ == info.name:
                return found
    raise AttributeError(f"module {package!r} has no attribute {name!r}")


def import_class(class_path: str) -> Any:
    """What `package.module.Name` names. It imports the module: only for names that the user trusts."""
    module, _, name = class_path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # the user's module may fail in any way
        text = f"can't import class {class_path!r}: {error}"
        raise (RecsysLabError(text) if _in(class_path, [OURS]) else ForeignClassError(text, class_path)) from error


def _in(class_path: str, allowed: Iterable[str]) -> bool:
    return any(class_path == name or class_path.startswith(name + ".") for name in allowed)
