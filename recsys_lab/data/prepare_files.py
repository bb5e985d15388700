"""From the user's own files, or the name of a public data set, to a prepared set: what `recsys-lab prepare` does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal

from recsys_lab.arguments import Commas
from recsys_lab.data.locate import RAW, own_folder, prepared_folder
from recsys_lab.data.prepare.append import append
from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.data.reading.file_source import Format
from recsys_lab.data.reading.spelling import option
from recsys_lab.data.shards.raw_tasks import prepare_in_tasks, tasks_folder
from recsys_lab.data.sources import Columns, FileSource, get_source, own_source, source_names
from recsys_lab.words import RecsysLabError


@dataclass(frozen=True)
class OwnFiles:
    """The user's own files, and how they are read.

    Args:
        input: Your own file, folder, glob or address, instead of a name.
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
        user_column: Your log's column of the user.
        item_column: Your log's column of the item.
        timestamp_column: Your log's column of the time.
        event_type_column: Your log's column of the kind of event.
        rating_column: Your log's column of the rating.
        order_column: Your log's column of a number that orders the events.
    """

    input: str | None = None
    items: str | None = None
    items_column: str | None = None
    users: str | None = None
    users_column: str | None = None
    impressions: str | None = None
    format: Format | None = None
    separator: str | None = None
    encoding: str | None = None
    names: Annotated[list[str], Commas] | None = None
    missing_ids: Literal["error", "drop"] = "error"
    bad_times: Literal["error", "drop"] = "error"
    name: str | None = None
    user_column: str | None = None
    item_column: str | None = None
    timestamp_column: str | None = None
    event_type_column: str | None = None
    rating_column: str | None = None
    order_column: str | None = None

    def said(self) -> list[str]:
        """The names of what is not as by default."""
        return [field.name for field in fields(self) if getattr(self, field.name) != field.default]

    def source(self) -> FileSource:
        """What reads them."""
        return FileSource(
            path=str(self.input),
            columns=Columns(**{field.name: getattr(self, f"{field.name}_column") for field in fields(Columns)}),
            items=self.items,
            format=self.format,
            separator=self.separator,
            names=tuple(self.names or ()),
            name=self.name or "",
            encoding=self.encoding,
            items_column=self.items_column,
            users=self.users,
            users_column=self.users_column,
            impressions=self.impressions,
            missing_ids=self.missing_ids,
            bad_times=self.bad_times,
        )

    def read_as(self, data: ProcessedDataset) -> OwnFiles:
        """These files, read as the log of a prepared set was where nothing else is said."""
        reading = data.manifest["source"].get("reading", {})
        kept = ("input", "items", "users", "impressions", "name")
        before = {field.name: reading[field.name] for field in fields(self) if field.name in reading}
        before = {name: value for name, value in before.items() if name not in (*kept, *self.said())}
        if "names" in before:
            before["names"] = [name for name in before["names"].split(",") if name] or None
        idle = replace(self, **before).source().idle()  # the newer file may be of another format, or without tables
        return replace(self, **{name: value for name, value in before.items() if name not in idle})


def prepare_files(
    files: OwnFiles,
    settings: PrepareSettings | None = None,
    data_dir: str | Path = "data",
    output: str | Path | None = None,
    force: bool = False,
    replace: bool = False,
    shards: int | None = None,
    processes: int = 1,
    shard: int | None = None,
) -> ProcessedDataset:
    """Prepares the user's own files, or opens what is there if it was made of the same things.

    Args:
        files: with `input`.
        settings: filters and tie order; None keeps every event.
        data_dir: folder of raw files and prepared sets.
        output: the prepared folder; None = in `data_dir`, by name.
        force: prepare again even if nothing changed.
        replace: replace a set of this name that other settings or another file made.
        shards, processes, shard: in how many parts other processes may share the work: see `prepare_in_tasks`.

    Raises:
        RecsysLabError: for whatever is wrong with the files; see `prepare`.
    """
    source, data_dir = files.source(), Path(data_dir)
    settings = settings or PrepareSettings()
    _no_idle(settings, settings)
    folder = Path(output) if output else own_folder(source.name, data_dir)
    with _folders(data_dir):
        if shards is not None and (processes > 1 or shard is not None or tasks_folder(folder.absolute()).exists()):
            return prepare_in_tasks(
                source, settings, folder, data_dir / RAW, shards, processes, shard, force, replaces=replace
            )
        return prepare(source, settings, folder, data_dir / RAW, force, replace)


def prepare_public(
    dataset: str,
    settings: PrepareSettings | None = None,
    data_dir: str | Path = "data",
    output: str | Path | None = None,
    force: bool = False,
) -> ProcessedDataset:
    """Prepares a public data set by name, or opens what is there if it was made of the same things.

    Args:
        dataset: a name of `recsys-lab sources`; or a module with a source of your own, see `own_source`.
        settings: those that differ from the defaults; what is left at its default is as the set's source says.
        data_dir, output, force: as of `prepare_files`.
    """
    is_module = all(word.isidentifier() for word in dataset.partition(":")[0].split(".")) and "." in dataset
    source = own_source(dataset) if is_module else get_source(dataset)
    data_dir, plain = Path(data_dir), PrepareSettings()
    defaults = PrepareSettings(**source.default_settings)
    said = settings or plain
    given = {name: value for name, value in vars(said).items() if value != getattr(plain, name)}
    settings = PrepareSettings(**{**defaults.as_dict(), **given})
    _no_idle(said, settings)
    folder = Path(output) if output else prepared_folder(source.name, data_dir, settings, defaults)
    with _folders(data_dir):
        return prepare(source, settings, folder, data_dir / RAW, force)


def append_files(
    dataset: str | None,
    newer: str | Path,
    files: OwnFiles | None = None,
    data_dir: str | Path = "data",
    output: str | Path | None = None,
) -> ProcessedDataset:
    """Adds newer events to a prepared set, which are read as its own log was where nothing else is said.

    Args:
        dataset: the name of the set; None where `output` is its folder.
        newer: a file with newer events.
        files: how it is read, and further tables.
        data_dir, output: as of `prepare_files`.

    Raises:
        RecsysLabError: for a public data set, and for what can't be appended; see `append`.
    """
    if dataset is not None and output is None and dataset in source_names():
        raise RecsysLabError(
            f"{dataset!r} is a public data set, which stays as published: give your own copy another name"
        )
    folder = Path(output) if output else own_folder(str(dataset), Path(data_dir))
    of_newer = replace(files or OwnFiles(), input=str(newer), name=None)
    return append(folder, of_newer.read_as(ProcessedDataset.open(folder)).source(), Path(data_dir) / RAW)


def _no_idle(said: PrepareSettings, settings: PrepareSettings) -> None:
    """Raises RecsysLabError where something that was `said` changes nothing, given all `settings`."""
    if said.seed is not None and settings.tie_order not in ("hash", "random"):
        raise RecsysLabError(
            f"{option('seed')} changes nothing with {option('tie_order', settings.tie_order)}: it is for the orders of "
            "ties hash and random"
        )
    if not said.k_core_iterate and settings.min_user_events == settings.min_item_events == 1:
        raise RecsysLabError(
            f"{option('k_core_iterate', 'false')} changes nothing without {option('min_user_events')} or "
            f"{option('min_item_events')} above 1"
        )


@contextmanager
def _folders(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise RecsysLabError(
            f"{error.filename or data_dir} is a file, not a folder; choose another {option('data_dir')}"
        ) from error
