"""`recsys-lab prepare`: a public data set by name, or the user's own log, into a prepared data set on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from recsys_lab.cli.options import Parser, underscores
from recsys_lab.data.locate import RAW, own_folder, prepared_folder
from recsys_lab.data.prepare.append import append
from recsys_lab.data.prepare.pipeline import PrepareSettings, moment, prepare
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.data.reading.file_source import Format
from recsys_lab.data.reading.spelling import command_line
from recsys_lab.data.sources import Columns, FileSource, Source, get_source, source_names
from recsys_lab.runs.messages import show_messages
from recsys_lab.words import RecsysLabError

COLUMN_OPTIONS = [f.name for f in dataclasses.fields(Columns)]
LISTS = ("names", "event_types", "fields")
REPEATED = ("keep", "fields")
"""Options that may be given several times: each adds to the list. A condition (`keep`) may hold commas."""


@dataclass(frozen=True)
class Where:
    """Where data comes from and where it goes.

    Args:
        input: Your own file, folder, glob or address, instead of a name.
        append: A file with newer events, for the prepared set that is named. Its columns are as those of the set's log.
        items: A file with a row per item, with your own log.
        items_column: Column of the item id in that file. Default: as in the log.
        users: A file with a row per user, with your own log.
        users_column: Column of the user id in that file. Default: as in the log.
        impressions: A file with a row per shown item: impression_id, user, item, time, label.
        format: Format of your own log. Default: by the file name.
        separator: Between the fields of a csv or tsv, if not comma or tab.
        encoding: Of a text file, if not UTF-8: latin-1, utf-16, ...
        names: Columns of a csv or tsv without a header line: user_id,item_id,timestamp
        missing_ids: Rows without a user or an item: an error, or drop them.
        bad_times: Rows without a usable time: an error, or drop them.
        name: What to call your own data set. Default: the file's name.
        data_dir: Folder of raw files and prepared sets.
        output: The prepared folder. Default: in data_dir, by name.
    """

    input: str | None = None
    append: str | None = None
    items: str | None = None
    items_column: str | None = None
    users: str | None = None
    users_column: str | None = None
    impressions: str | None = None
    format: Format | None = None
    separator: str | None = None
    encoding: str | None = None
    names: list[str] | None = None
    missing_ids: Literal["error", "drop"] = "error"
    bad_times: Literal["error", "drop"] = "error"
    name: str | None = None
    data_dir: str = "data"
    output: str | None = None


def make_parser() -> Parser:
    parser = Parser(
        prog="recsys-lab prepare",
        allow_abbrev=False,
        description="Turns a public data set (a name of `recsys-lab sources`) or your own log (--input) into a "
        "prepared data set. A set that was made of the same things is reused.",
    )
    help = "name of a public data set, or (with --append) of a prepared one"
    parser.add_argument("dataset", nargs="?", type=str, default=None, help=help)
    parser.add_class_arguments(Where, None, as_group=True)
    parser.add_argument("--force", action="store_true", help="prepare again even if nothing changed")
    parser.add_argument(
        "--replace", action="store_true", help="replace a set of this name that other settings or another file made"
    )
    for column in COLUMN_OPTIONS:
        parser.add_argument(f"--{column}_column", type=str, default=None, help=f"your log's column of the {column}")
    parser.add_class_arguments(PrepareSettings, None, as_group=True)
    return parser


def run(words: list[str]) -> None:
    """Runs `recsys-lab prepare ...`; options may be written with - or _."""
    chosen = make_parser().parse_args(comma_lists(underscores(words[1:])))
    show_messages()
    where = Where(**{f.name: chosen[f.name] for f in dataclasses.fields(Where)})
    columns = Columns(**{name: chosen[f"{name}_column"] for name in COLUMN_OPTIONS})
    with command_line(), stopped_by_sigterm():
        if where.append is not None:
            said = [f.name for f in dataclasses.fields(PrepareSettings) if chosen[f.name] != f.default]
            _print(_appended(chosen["dataset"], where, columns, said), where)
            return
        source = _source(chosen["dataset"], where, columns)
        defaults = PrepareSettings(**source.default_settings)
        given = {f.name: chosen[f.name] for f in dataclasses.fields(PrepareSettings)}
        plain = PrepareSettings()
        chosen_by_user = {name: value for name, value in given.items() if value != getattr(plain, name)}
        settings = PrepareSettings(**{**defaults.as_dict(), **chosen_by_user})
        data_dir = Path(where.data_dir)
        output = _output(source, where, settings, defaults)
        replace = chosen["replace"] or not source.is_own
        try:
            data = prepare(source, settings, output, data_dir / RAW, chosen["force"], replace)
        except (FileExistsError, NotADirectoryError) as error:
            raise RecsysLabError(
                f"{error.filename or data_dir} is a file, not a folder; choose another --data_dir"
            ) from error
        _print(data, where)


def comma_lists(arguments: list[str]) -> list[str]:
    """`--names a,b` -> `--names=["a", "b"]`, the form that the parser takes; a list in brackets stays as it is."""
    given, result, repeated = list(arguments), [], dict[str, list[str]]()
    while given:
        name, equals, value = given.pop(0).partition("=")
        plain = name.removeprefix("--")
        if plain not in (*LISTS, *REPEATED) or not name.startswith("--"):
            result.append(name + equals + value)
            continue
        if not equals and given:
            value = given.pop(0)
        if plain in REPEATED and value and not value.lstrip().startswith("["):
            repeated.setdefault(name, []).extend(value.split(",") if plain in LISTS else [value])
            continue
        if not value.lstrip().startswith("[") and value:
            value = json.dumps([part.strip() for part in value.split(",")])
        result.append(f"{name}={value}")
    return result + [f"{name}={json.dumps([value.strip() for value in values])}" for name, values in repeated.items()]


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM (a time limit, a scheduler) stops as Ctrl-C does: what is half written is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _output(source: Source, where: Where, settings: PrepareSettings, defaults: PrepareSettings) -> Path:
    if where.output:
        return Path(where.output)
    if source.is_own:
        return own_folder(source.name, Path(where.data_dir))
    return prepared_folder(source.name, Path(where.data_dir), settings, defaults)


def _appended(dataset: str | None, where: Where, columns: Columns, settings: list[str]) -> ProcessedDataset:
    """The prepared set with newer events, which are read as its own log was where nothing else is said."""
    name = dataset or where.name
    if name is None and where.output is None or where.input is not None:
        raise RecsysLabError(
            "--append FILE needs the name of the prepared set, and no --input: prepare shop --append FILE"
        )
    if settings:
        raise RecsysLabError(f"--append keeps the settings of the set: leave --{settings[0]} out")
    if name is not None and where.output is None and name in source_names():
        raise RecsysLabError(
            f"{name!r} is a public data set, which stays as published: give your own copy another name"
        )
    folder = Path(where.output) if where.output else own_folder(str(name), Path(where.data_dir))
    before = ProcessedDataset.open(folder).manifest["source"].get("reading", {})
    known = {column: before.get(f"{column}_column") for column in COLUMN_OPTIONS}
    known |= {column: value for column, value in vars(columns).items() if value is not None}
    plain = Where()
    how = {n: getattr(where, n) for n in ("format", "separator", "encoding", "missing_ids", "bad_times")}
    how = {n: before.get(n, value) if value == getattr(plain, n) else value for n, value in how.items()}
    names = tuple(where.names or ()) or tuple(filter(None, before.get("names", "").split(",")))
    tables = {n: getattr(where, n) for n in ("items", "users", "impressions")}
    keys = {n: getattr(where, n) or before.get(n) for n in ("items_column", "users_column")}
    newer = FileSource(path=str(where.append), columns=Columns(**known), names=names, **how, **tables, **keys)
    return append(folder, newer, Path(where.data_dir) / RAW)


def _source(dataset: str | None, where: Where, columns: Columns) -> Source:
    if (dataset is None) == (where.input is None):
        raise RecsysLabError(
            "give the name of a public data set (see `recsys-lab sources`) or --input FILE, one of them"
        )
    if where.input is not None:
        return FileSource(
            path=where.input,
            columns=columns,
            items=where.items,
            format=where.format,
            separator=where.separator,
            names=tuple(where.names or ()),
            name=where.name or "",
            encoding=where.encoding,
            items_column=where.items_column,
            users=where.users,
            users_column=where.users_column,
            impressions=where.impressions,
            missing_ids=where.missing_ids,
            bad_times=where.bad_times,
        )
    plain = Where()
    ours = [f.name for f in dataclasses.fields(Where) if f.name not in ("input", "data_dir", "output")]
    own = [name for name in ours if getattr(where, name) != getattr(plain, name)]
    own += [f"{name}_column" for name in COLUMN_OPTIONS if getattr(columns, name) is not None]
    if own:
        raise RecsysLabError(f"--{own[0]} describes your own log (--input); {dataset!r} is a public data set")
    assert dataset is not None
    return get_source(dataset)


def _print(data: ProcessedDataset, where: Where) -> None:
    manifest: dict[str, Any] = data.manifest
    print(f"{data.name}: {data.num_users:,} users, {data.num_items:,} items, {data.num_events:,} events")
    if not data.has_timestamps:
        print("  time      none: the order in the file, or the order column, stands in")
    elif manifest.get("first_time") is not None:
        print(f"  time      {moment(manifest['first_time'])} to {moment(manifest['last_time'])} (UTC)")
    for what, count in manifest.get("left_out", {}).items():
        print(f"  left out  {count:,} {what}")
    for scope, fields in groupby(data.fields.values(), lambda field: field.scope):
        of = "shown items" if scope == "shown" else f"{scope}s"
        print(f"  fields    of {of}: {', '.join(f'{field.name} ({field.kind})' for field in fields)}")
    print(f"  folder    {data.path}")
    print(f"  hash      data {data.data_hash}, items {data.vocabulary_hash}")
    print(f"  settings  {json.dumps(manifest.get('settings', {}))}")
    print(f"  use it    recsys-lab fit --data.dataset {_handle(data.path, where.data_dir)}")


def _handle(folder: Path, data_dir: str) -> str:
    """What `--data.dataset` takes for this folder, from where the command was given."""
    if folder.parent == Path(data_dir).absolute():
        return folder.name + ("" if data_dir == "data" else f" --data.data_dir {data_dir}")
    return os.path.relpath(folder)
