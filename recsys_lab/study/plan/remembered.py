"""What the parser of `fit` said of a study's configurations, remembered from one command to the next.

That parser needs torch and Lightning, which take seconds to be imported, and `study status` asks it the same of the
same files again and again. So the identities of configurations that were found right are kept in the user's cache
(`~/.cache/recsys_lab/studies.json`; RECSYS_LAB_CACHE names another folder), with a stamp of the code: another version
of anything forgets them all. Errors are never kept, nor is anything of a study that names a class of the user's own,
whose file may change. The file may be deleted at any time.

A study that keeps its values beside it keeps the identities there too (`values/identities.json`): on a fresh clone
`study status` then asks the parser nothing. They hold for the study file as it was then, so that one that was edited is
asked about again, and for one version of the numbers, as the values do. Options that a class has got since do not
matter, since that study file sets none of them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import recsys_lab
from recsys_lab.config import CLASS_PATH
from recsys_lab.data.locate import DATA_DIR, DATASET, find_prepared
from recsys_lab.data.prepare.prepare_settings import PrepareSettings
from recsys_lab.runs.run_files import read_json, write_json
from recsys_lab.runs.user_cache import cache_folder
from recsys_lab.study.plan.study_file import Settings
from recsys_lab.study.plan.study_settings import Checked, compose
from recsys_lab.study.values import FOLDER

if TYPE_CHECKING:
    from recsys_lab.study.plan.resolver import ParsingResolver

KNOWN_PACKAGES = re.compile(r"(recsys_lab|lightning|pytorch_lightning|torch)\.")
PARSED_BY = ("torch", "lightning", "jsonargparse")


class Resolver:
    """What a plan must know of run configurations. Asks the parser only what it has not said before.

    Args:
        file: of what is remembered; None = in the user's cache.
        study: file of the study beside which something was kept, which is believed before the parser is asked.
    """

    def __init__(self, file: Path | None = None, study: Path | None = None) -> None:
        self._file = file or cache_folder() / "studies.json"
        kept = {} if study is None else read_json(identities_file(study))
        is_right = study is not None and {name: kept.get(name) for name in _stamp_of(study)} == _stamp_of(study)
        self._beside = kept if is_right and kept.keys() >= self._nothing().keys() else self._nothing()
        self._said = self._nothing()
        self._is_foreign = False

    @staticmethod
    def _nothing() -> dict[str, dict[str, Any]]:
        """`identities` of configurations, and the `options` of classes."""
        return {"identities": {}, "options": {}}

    @cached_property
    def _parser(self) -> ParsingResolver:
        from recsys_lab.study.plan.resolver import ParsingResolver  # imports torch and Lightning

        return ParsingResolver()

    @cached_property
    def _known(self) -> dict[str, dict[str, Any]]:
        empty: dict[str, Any] = {"stamp": _stamp(), **self._nothing()}
        try:
            found = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return empty
        is_ours = isinstance(found, dict) and found.keys() == empty.keys() and found["stamp"] == empty["stamp"]
        return found if is_ours else empty

    def compose(self, settings: list[Settings], start: dict[str, Any] | None = None) -> dict[str, Any]:
        """Settings one over the other, on top of the nested configuration `start`, as a nested run configuration.

        Raises:
            RecsysLabError: when a key can't be set there.
        """
        return compose(settings, self._options, start)

    def check(self, configs: list[dict[str, Any]]) -> list[Checked]:
        """Validates configurations: unknown keys, wrong types, parts that can't be built."""
        self._is_foreign = self._is_foreign or any(_is_foreign(text) for text in _texts(configs))
        keys = [_hash_of(config) for config in configs]
        found = None
        if not self._is_foreign:
            found = _all_of(keys, self._beside["identities"]) or _all_of(keys, self._known["identities"])
        if found is None:
            found = self._parser.check(configs)
            right = {key: one.identity for key, one in zip(keys, found, strict=True) if not one.error}
            self._known["identities"] |= right
            self._keep()
        self._said["identities"] |= {key: one.identity for key, one in zip(keys, found, strict=True)}
        return found

    def keep_beside(self, study: Path) -> None:
        """Writes what was said of a study's configurations beside its file; nothing where a class is the user's own."""
        said = _stamp_of(study) | {name: dict(sorted(of.items())) for name, of in self._said.items()}
        if not self._is_foreign and read_json(identities_file(study)) != said:
            write_json(identities_file(study), said)

    def resolved(self, config: dict[str, Any]) -> Settings:
        """Every setting of a right configuration, its defaults included, by dotted key."""
        return self._parser.resolved(config)

    def data_hash(self, config: dict[str, Any]) -> str | None:
        """Of the prepared data set that a run with this configuration would open now; None when not prepared yet."""
        data = config.get("data") or {}
        prepare = PrepareSettings.from_dict(data["prepare"]) if data.get("prepare") else None
        there = find_prepared(data.get("dataset", DATASET), data.get("data_dir", DATA_DIR), prepare)
        return None if there is None else there.data_hash

    def prepare(self, configs: list[dict[str, Any]]) -> None:
        """Downloads and prepares every data set of the configurations that is not there yet, once and before the runs.

        Raises:
            RecsysLabError: when one can't be had.
        """
        self._parser.prepare(configs)

    def _options(self, class_path: str) -> set[str] | None:
        if _is_foreign(class_path):
            self._is_foreign = True
            return self._parser.options(class_path)
        known = self._beside["options"]
        if class_path not in known:
            known = self._known["options"]
        if class_path not in known:
            found = self._parser.options(class_path)
            known[class_path] = None if found is None else sorted(found)
        self._said["options"][class_path] = known[class_path]
        return None if known[class_path] is None else set(known[class_path])

    def _keep(self) -> None:
        if self._is_foreign:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._file, self._known)
        except OSError:  # a home that can't be written to: the next command asks again
            return


def _stamp() -> str:
    """Of the code that checks configurations: every file of the package, and the versions of what parses."""
    package = Path(recsys_lab.__file__).parent
    files = sorted((str(path), path.stat()) for path in package.rglob("*.py"))
    facts = [(name, of.st_size, of.st_mtime_ns) for name, of in files]
    versions = [importlib.metadata.version(name) for name in PARSED_BY]
    return hashlib.sha256(json.dumps([facts, versions, sys.version]).encode()).hexdigest()


def identities_file(study: Path) -> Path:
    return study.parent / FOLDER / "identities.json"


def _stamp_of(study: Path) -> dict[str, Any]:
    """Of what is kept beside a study file."""
    return {"numbers": recsys_lab.NUMBERS, "study": hashlib.sha256(study.read_bytes()).hexdigest()}


def _hash_of(config: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()


def _all_of(keys: list[str], known: dict[str, str]) -> list[Checked] | None:
    """What is known of each; None where one is not known."""
    return [Checked(known[key]) for key in keys] if all(key in known for key in keys) else None


def _is_foreign(text: str) -> bool:
    """Whether a text may name a class of the user's own: a field (`item.genres`) is in no module."""
    if not CLASS_PATH.fullmatch(text) or KNOWN_PACKAGES.match(text):
        return False
    first = text.partition(".")[0]
    return first in sys.modules or importlib.util.find_spec(first) is not None


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        node = node.values()
    elif isinstance(node, str):
        yield node
        return
    elif not isinstance(node, list | tuple):
        return
    for value in node:
        yield from _texts(value)
