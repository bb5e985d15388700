"""`recsys-lab prepare`: a public data set by name, or the user's own log, into a prepared data set on disk."""

from __future__ import annotations

import logging
import shlex
from dataclasses import fields
from pathlib import Path

from recsys_lab.arguments import Count, Natural
from recsys_lab.config import find_own_modules
from recsys_lab.data.prepare.prepare_settings import PrepareSettings
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.data.prepare_files import OwnFiles, append_files, prepare_files, prepare_public
from recsys_lab.data.reading.formats import SUFFIXES, bare_name
from recsys_lab.data.sources import source_names
from recsys_lab.runs.interrupts import stopped_by_sigterm
from recsys_lab.runs.messages import show_messages
from recsys_lab.words import RecsysLabError

log = logging.getLogger("recsys_lab")


def prepare(
    dataset: str | None = None,
    *,
    files: OwnFiles,
    append: str | None = None,
    data_dir: str = "data",
    output: str | None = None,
    force: bool = False,
    replace: bool = False,
    shards: Count | None = None,
    shard: Natural | None = None,
    processes: Count = 1,
    settings: PrepareSettings,
) -> None:
    """Turns a public data set (a name of `recsys-lab sources`) or your own log (--input) into a prepared data set. A
    set that was made of the same things is reused.

    Args:
        dataset: name of a public data set, or (with --append) of a prepared one; or the module of a source of your own.
        append: A file with newer events, for the prepared set that is named. Its columns are as those of the set's log.
        data_dir: Folder of raw files and prepared sets.
        output: The prepared folder. Default: in data_dir, by name.
        force: Prepare again even if nothing changed.
        replace: Replace a set of this name that other settings or another file made.
        shards: Also write the set in so many shards of whole users, into a folder of its own: docs/shards.md.
        shard: With --shards, a task of a job array (from 0): it shares the reading of a log of your own with the other
            tasks, and writes this shard. The last call leaves it out.
        processes: With --shards, processes that read a log of your own and write the shards.
    """
    from recsys_lab.data.prepare.prepared_text import prepared_text

    show_messages()
    with stopped_by_sigterm():
        if dataset is not None and append is None:
            _is_no_file(dataset)
        if append is not None:
            name = dataset or files.name
            _can_append(name, files, output, settings)
            if force or replace:
                idle = "force" if force else "replace"
                raise RecsysLabError(f"--append adds to the set in place: leave --{idle} out")
            data = append_files(name, append, files, data_dir, output)
        elif (dataset is None) == (files.input is None):
            raise RecsysLabError(
                "give the name of a public data set (see `recsys-lab sources`) or --input FILE, one of them"
            )
        elif dataset is None:
            if shard is not None and (force or replace):
                raise RecsysLabError(
                    f"each task would begin anew: prepare with --{'force' if force else 'replace'} and without --shard"
                )
            data = prepare_files(files, settings, data_dir, output, force, replace, shards, processes, shard)
        elif own := files.said():
            raise RecsysLabError(f"--{own[0]} describes your own log (--input); {dataset!r} is a public data set")
        elif replace:
            raise RecsysLabError(
                "--replace is for your own data sets: a public one has a folder of its own for each choice of settings"
            )
        else:
            find_own_modules()
            data = prepare_public(dataset, settings, data_dir, output, force)
        if shards is not None:
            if processes > 1 and files.input is None:
                log.info("one process read the log of %s: only files that --input names are read in tasks", data.name)
            data = _in_shards(data.path, shards, shard, processes)
        elif shard is not None:
            raise RecsysLabError("--shard names one of --shards")
        print(prepared_text(data, data_dir))


def _in_shards(folder: Path, shards: int, shard: int | None, processes: int) -> ProcessedDataset:
    """The set in shards; the whole set where only one of them is written."""
    from recsys_lab.data.shards.cut_shards import cut, plan, write_shard

    output = folder.with_name(f"{folder.name}-{shards}-shards")
    if shard is None:
        return cut(folder, output, shards, processes)
    if shard >= shards:
        raise RecsysLabError(f"--shard {shard}: the {shards} shards count from 0")
    if shard in plan(folder, output, shards):
        write_shard(folder, output, shard)
    return ProcessedDataset.open(folder)


def _is_no_file(dataset: str) -> None:
    """Raises RecsysLabError for a path where the name of a public data set is wanted."""
    if dataset.lower().replace("_", "-") in source_names():
        return
    ending = Path(bare_name(dataset)).suffix
    if ending in SUFFIXES or any(sign in dataset for sign in "/*\\") or Path(dataset).exists():
        raise RecsysLabError(
            f"{dataset!r} is no public data set. Your own file is named with --input: "
            f"recsys-lab prepare --input {shlex.quote(dataset)}"
        )


def _can_append(name: str | None, files: OwnFiles, output: str | None, settings: PrepareSettings) -> None:
    if (name is None and output is None) or files.input is not None:
        raise RecsysLabError(
            "--append FILE needs the name of the prepared set, and no --input: prepare shop --append FILE"
        )
    said = [field.name for field in fields(PrepareSettings) if getattr(settings, field.name) != field.default]
    if said:
        raise RecsysLabError(f"--append keeps the settings of the set: leave --{said[0]} out")
