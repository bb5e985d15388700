"""The documentation site lacks nothing: every page is in its navigation once, and the reference, which is made of the
code, has every command, every key of a YAML file and every Python name. Needs no MkDocs."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml

from recsys_lab.cli import COMMANDS, GROUPS
from recsys_lab.cli.typed import Option, options_of
from recsys_lab.config import Configurable
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.runs.fit.parse_errors import concrete_subclasses

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "recsys_lab"
BY_FIELD = ("numerics", "served")
"""Keys that hold a mapping from the names of the user's own columns."""
KINDS = {"How to", "Explanation", "Reference", "Results"}


@pytest.fixture(scope="module")
def site() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        yield importlib.import_module("docs_site")


@pytest.fixture(scope="module")
def made(site: ModuleType) -> dict[str, str]:
    found: dict[str, str] = site.made_pages()
    return found


@pytest.fixture(scope="module")
def settings(made: dict[str, str]) -> str:
    return made["reference/settings.md"]


def entries(nav: list[Any]) -> Iterator[str]:
    for entry in nav:
        for below in entry.values() if isinstance(entry, dict) else [entry]:
            if isinstance(below, list):
                yield from entries(below)
            else:
                yield below


def test_every_page_is_in_the_navigation_once(site: ModuleType, made: dict[str, str]) -> None:
    nav = yaml.load((ROOT / "mkdocs.yml").read_text(), yaml.BaseLoader)["nav"]  # it knows no tag of Python
    pages = [str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(entries(site.filled(nav))) == sorted([*pages, *site.beside(), *made])
    assert {title for entry in nav for title in entry} >= KINDS


def test_every_command_and_option_has_a_place(made: dict[str, str]) -> None:
    page = made["reference/commands.md"]
    places = {name: place for name, (place, _) in COMMANDS.items() if name not in GROUPS}
    places |= {f"{group} {name}": place for group, below in GROUPS.items() for name, (place, _) in below.items()}
    assert re.findall(r"^## recsys-lab (.*)$", page, re.MULTILINE) == sorted(places)
    for name, place in places.items():
        text = page.partition(f"\n## recsys-lab {name}\n")[2].partition("\n## ")[0]
        module, _, function = place.partition(":")
        command = getattr(importlib.import_module(module), function)
        if list(inspect.signature(command).parameters) == ["words"]:
            assert f"usage: recsys-lab {name}" in text
            continue
        words = [typed(one) for one in options_of(command)]
        assert not [word for word in words if word not in text], name


def typed(one: Option) -> str:
    """An option as help shows it; one with choices that stands by its place is shown as these."""
    if not one.by_place:
        return f"--{one.name}"
    return f"{{{','.join(get_args(one.hint))}}}" if get_origin(one.hint) is Literal else one.name.upper()


def keys(plain: Any) -> Iterator[str]:
    """The dotted keys of a file; `class_path` and `init_args` are how a class is written, not keys of it."""
    if isinstance(plain, list):
        for value in plain:
            yield from keys(value)
    if isinstance(plain, dict):
        for key, value in plain.items():
            if key not in ("class_path", "init_args"):
                yield key
            if key not in BY_FIELD:
                yield from keys(value)


@pytest.mark.parametrize(
    "file", sorted(ROOT.glob("configs/*/*.yaml")), ids=lambda file: f"{file.parent.name}-{file.stem}"
)
def test_every_key_of_a_configuration_has_a_place(settings: str, file: Path) -> None:
    lost = [key for key in keys(yaml.safe_load(file.read_text())) if not has_place(settings, key)]
    assert not lost


def has_place(settings: str, key: str) -> bool:
    """As an option, as a part of the name of options, or as a key of a class."""
    name = re.escape(key)
    return re.search(rf"--(?:[\w.]+\.)?{name}\b", settings) is not None or f"\n- `{key}` (" in settings


@pytest.mark.parametrize("file", sorted(ROOT.glob("experiments/*/study.yaml")), ids=lambda file: file.parent.name)
def test_every_key_of_a_study_has_a_place(settings: str, file: Path) -> None:
    of_study = settings.partition("## Keys of a study file")[2]
    assert not [key for key in yaml.safe_load(file.read_text()) if f"\n- `{key}`: " not in of_study]


def test_every_class_that_is_configured_has_a_place_and_so_have_its_keys(settings: str, site: ModuleType) -> None:
    reference = importlib.import_module("docs_reference")
    shown = {cls.__name__: cls for found in reference.classes().values() for cls in found}
    assert concrete_subclasses(Configurable, str(PACKAGE)) <= {
        *shown,
        *(base.__name__ for base in NextItemModule.__mro__),
    }
    for name, cls in shown.items():
        assert re.search(rf"^###+ {name}$", settings, re.MULTILINE), name
        own = [
            name
            for name in inspect.signature(cls.__init__).parameters
            if name not in ("self", "base", "args", "kwargs")
        ]
        assert not [key for key in own if not has_place(settings, key)], name
    assert not has_place(settings, "embedding_dimm") and has_place(settings, "embedding_dim")


def test_every_module_has_a_place(made: dict[str, str]) -> None:
    rooms = "\n".join(text for uri, text in made.items() if uri.startswith("reference/python/"))
    there = re.findall(r"^::: ([\w.]+)$", rooms, re.MULTILINE)
    files = [file.relative_to(ROOT).with_suffix("") for file in PACKAGE.rglob("*.py") if file.stem != "__main__"]
    modules = [".".join(file.parts).removesuffix(".__init__") for file in files]
    assert sorted(set(modules) - {"recsys_lab"}) == sorted(set(there)), "scripts/docs_reference.py, rooms"


def test_every_name_that_people_import_is_documented(site: ModuleType, made: dict[str, str]) -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    found = importlib.import_module("docs_reference").public_names(pages)
    rooms = "\n".join(made.values())
    assert "recsys_lab.models.SASRec" in found
    for name, place in found.items():
        module, _, attribute = place.rpartition(".")
        assert f"`{name}`][{place}]" in made["reference/python.md"] and f"::: {module}\n" in rooms
        value = getattr(importlib.import_module(module), attribute)
        assert value.__doc__, f"{name} has no docstring"


def test_links_become_those_of_the_site(site: ModuleType) -> None:
    pages = ["data.md", "costs.svg", "experiments/README.md", "experiments/losses/README.md", "CONTRIBUTING.md"]
    text = (
        "[a](../experiments) [b](costs.svg) [c](../CONTRIBUTING.md#x) [d](https://e.org) [e](../README.md) [f](gone.md)"
    )
    after = "[a](experiments/README.md) [b](costs.svg) [c](CONTRIBUTING.md#x) [d](https://e.org) e [f](gone.md)"
    assert site.linked(text, "data.md", pages) == after
    assert site.linked("[g](../../docs/data.md#h)", "experiments/losses/README.md", pages) == "[g](../../data.md#h)"
    assert site.linked("```\n[a](../experiments)\n```\n", "data.md", pages) == "```\n[a](../experiments)\n```\n"
