"""All fields of a prepared set: of its events, items and users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from recsys_lab.data.fields.coding import Coding
from recsys_lab.data.fields.kinds import Column
from recsys_lab.data.fields.stored import Scope, StoredField, file_names
from recsys_lab.data.fields.table_fields import table_columns, write_table_fields
from recsys_lab.data.fields.wishes import Wishes
from recsys_lab.data.fields.writing import FieldWriter
from recsys_lab.data.prepare.events import Events
from recsys_lab.data.prepare.latest import write_latest
from recsys_lab.data.prepare.sorted_events import Block
from recsys_lab.data.prepare.store import FolderWriter
from recsys_lab.data.reading.spelling import option
from recsys_lab.words import EVENT_TYPE, RecsysLabError


@dataclass(frozen=True)
class WrittenFields:
    """The fields that were written, and the tables of users and items with the text that came from events."""

    fields: list[StoredField]
    users: pl.DataFrame
    items: pl.DataFrame


def write_fields(
    events: Events, users: pl.DataFrame, items: pl.DataFrame, wishes: Wishes, source: str, writer: FolderWriter
) -> WrittenFields:
    """Writes the further columns of the events that are left, and of the tables of users and items.

    Raises:
        RecsysLabError: where a column can't be what the user says, or two would be one field.
    """
    log, of_events = events.sorted, events.fields
    names = [EVENT_TYPE] if EVENT_TYPE in log.columns else []
    of_log = list(of_events.of_scope("event").values())
    files = file_names([*names, *(column.name for column in of_log)])
    fields = [] if wishes.of("event", EVENT_TYPE).drop else _write_event_types(events, wishes, files, writer)
    fields += of_events.write(log, files, writer)
    item = np.cumsum(log.item_counts > 0) - 1  # item code -> row
    user = np.cumsum(log.user_counts > 0) - 1
    tables: dict[Scope, pl.DataFrame] = {"item": items, "user": users}
    for scope, table in tables.items():
        columns = table_columns(table, scope, wishes, source)
        from_events = list(of_events.of_scope(scope).values())
        no_twins([column.key for column in (*of_log, *columns, *from_events)], source)
        files = file_names(column.name for column in (*columns, *from_events))
        fields += write_table_fields(table, columns, files, writer)

        def owner(block: Block, scope: Scope = scope) -> np.ndarray:
            return item[block.kept("item")] if scope == "item" else user[block.kept_users()]

        found, text = write_latest(of_events, scope, log, owner, table.height, files, writer)
        fields += found
        tables[scope] = table.with_columns(text)
    return WrittenFields(fields, tables["user"], tables["item"])


def _write_event_types(
    events: Events, wishes: Wishes, files: dict[str, str], writer: FolderWriter
) -> list[StoredField]:
    """Codes stay as they are: the data hash, which results are compared by, is of them."""
    log = events.sorted
    if EVENT_TYPE not in log.columns:
        return []
    column = Column(EVENT_TYPE, "event", "event", "categorical", pl.String(), wish=wishes.of("event", EVENT_TYPE))
    coding = Coding(pl.Series(events.event_type_names, dtype=pl.String))
    field = FieldWriter(writer, column, coding, files[EVENT_TYPE])
    return [field.write(lambda: (block.kept(EVENT_TYPE) for block in log.blocks()), log.num_kept, keep_all=True)]


def no_twins(keys: list[str], source: str) -> None:
    """
    Raises:
        RecsysLabError: where two columns would be one field: a column of the log may be named `item.brand`, too.
    """
    twin = next((key for key in keys if keys.count(key) > 1), None)
    if twin is not None:
        raise RecsysLabError(
            f"{source!r}: {twin!r} would be two fields, one of its own table and one of the events; leave one out: "
            f"{option('fields', f'{twin}=drop')}"
        )
