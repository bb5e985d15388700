"""`recsys-lab recommend`: lists for anybody from a run, without its data."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from recsys_lab.arguments import Commas, Count, Range
from recsys_lab.serve.log_file import LogFile
from recsys_lab.serve.reranking import Reranking
from recsys_lab.words import RecsysLabError

log = logging.getLogger("recsys_lab")

SHOWN = 50
"""Rows that are printed where no file is asked for."""
USERS_AT_ONCE = 1 << 17
"""Whose histories are read at once."""


def recommend(
    run: str,
    *,
    history: str | None = None,
    input: str | None = None,
    top: Count = 10,
    candidates: str | None = None,
    exclude: str | None = None,
    keep_history: bool = False,
    unknown: Literal["skip", "error"] = "skip",
    query_time: Annotated[int, Range(at_least=0)] | None = None,
    target_fields: Annotated[list[str], Commas] | None = None,
    index: Literal["exact", "hnsw", "ivf", "ivf-8bit", "ivf-pq"] = "exact",
    data_dir: str | None = None,
    output: str | None = None,
    json: bool = False,
    reading: LogFile,
    reranking: Reranking,
) -> None:
    """Recommends from a trained run, or a counted one, for histories that it may never have seen. Nothing is trained,
    and the prepared data is not needed: titles are shown where it is there. A history without any known item gets the
    most popular items, and the list says so. docs/serving.md has all of it.

    Args:
        run: a run folder, of which the best checkpoint is taken, or a checkpoint.
        history: item ids, oldest first, with commas between them; an id with a comma stands in double quotes.
        input: instead: a log with user_id, item_id and, where there is one, timestamp, as `prepare` reads it.
        top: items in each list.
        candidates: file with the ids that lists are made of: one on each line, or .csv or .parquet with a column
            item_id and, for candidates of each user's own, user_id. `all`: also items without training events, for a
            model that scores them by their fields or vectors.
        exclude: file with ids that nobody is recommended, in the same form.
        keep_history: also recommend items of the history.
        unknown: item ids that the model does not know are skipped, or an error.
        query_time: when the lists are wanted, in seconds since 1970, for a model that reads it, and for items that come
            and go (default: the time of each last event).
        target_fields: of the events to predict, for a model that reads them, NAME=VALUE with commas between several:
            one value for all users (event_type=buy).
        index: how lists are searched for where items are many; all but `exact` need the extra `index`.
        data_dir: folder of prepared sets, for titles (default: as the run says).
        output: write the lists to this file, .parquet, .csv or .jsonl, instead of printing them.
        json: print the lists as JSON, all of them.
    """
    from recsys_lab.report.escapes import as_json
    from recsys_lab.runs.messages import show_messages
    from recsys_lab.serve.list_files import check_output, read_ids, typed_ids, write_lists

    show_messages()
    if (history is None) == (input is None):
        raise RecsysLabError("give a history (--history a,b,c), or a file of events (--input events.csv)")
    if output is not None:
        check_output(output)
    blocked = None if exclude is None else read_ids(exclude)
    if isinstance(blocked, dict):
        raise RecsysLabError(f"--exclude {exclude}: it leaves ids out for everybody, and has a column user_id")
    wanted: Any = candidates if candidates in (None, "all") else read_ids(candidates)

    from recsys_lab.serve.item_index import use_index
    from recsys_lab.serve.predictor import Predictor
    from recsys_lab.serve.questions import target_values
    from recsys_lab.serve.run_data import titles

    predictor = Predictor.load(run, unknown=unknown)
    target = target_values(target_fields or (), predictor)
    use_index(predictor, index)
    asked: Any = reading.read(str(input)) if history is None else [typed_ids(history)]
    if history is not None and isinstance(wanted, dict):
        raise RecsysLabError(f"--candidates {candidates} has a column user_id: it goes with --input")
    names, about = titles(predictor.loaded.folder, predictor.spec, data_dir)
    log.info("%s", about)

    if history is None and unknown == "error":
        predictor.item_ids.rows(asked["item_id"], "histories")  # before the lists of many users are made
    reranked = reranking.way(predictor, top, data_dir)
    gc.enable()  # `only_asks` put it off

    def parts() -> Iterator[Any]:
        hides: Any = None if keep_history else "run"
        length = reranking.length(top)
        for some in [asked] if history is not None else _groups(asked):
            users = 1 if history is not None else some["user_id"].n_unique()
            of_users = {name: [value] * users for name, value in target.items()}
            choice: Any = {"exclude": hides, "blocked": blocked, "candidates": wanted}
            choice |= {"query_time": query_time, "target_fields": of_users}
            found = predictor.recommend_in_parts(some, length, **choice)
            for part in map(reranked, found):
                yield part if names is None else part.join(names, on="item_id", how="left", maintain_order="left")

    if output is not None:
        print(f"written: {write_lists(parts(), output):,} rows in {output}")
        return
    if json:
        print(as_json([row for part in parts() for row in part.to_dicts()]))
        return
    frame = next(parts())
    print(_text(frame, is_one=history is not None))
    users = frame["user"].n_unique()
    if frame.height > SHOWN:
        print(
            f"\nthe first {SHOWN} rows of at least {frame.height:,}, of {users:,} users: all of them with --output FILE"
        )


def _groups(events: Any) -> Iterator[Any]:
    """The events of some users after the other, users in the order of their first event: who reads histories holds
    several copies of them."""

    users = events["user_id"].unique(maintain_order=True)
    if len(users) <= USERS_AT_ONCE:
        yield events
        return
    numbered = users.to_frame().with_row_index("place")
    place = events.select("user_id").join(numbered, on="user_id", how="left", nulls_equal=True, maintain_order="left")
    group = place["place"] // USERS_AT_ONCE
    for number in range(-(-len(users) // USERS_AT_ONCE)):
        yield events.filter(group == number)


def _text(frame: Any, is_one: bool) -> str:
    from recsys_lab.report.table import Column, Table, text

    notes = frame.filter(frame["note"].is_not_null()).unique(["user", "note"], maintain_order=True)
    columns = [Column("rank", ".0f"), Column("item_id", value=lambda row: str(row["item_id"]))]
    columns += [Column("title", value=lambda row: row["title"] or "")] if "title" in frame.columns else []
    columns.append(Column("score", ".4f"))
    if not is_one:
        columns.insert(0, Column("user", value=lambda row: str(row["user"])))
    rows = frame.filter(frame["rank"].is_not_null()).head(SHOWN).to_dicts()
    lines = [text(Table(columns, rows))] if rows else ["no items"]
    for note in notes.head(SHOWN).to_dicts():
        who = "" if is_one else f"user {note['user']}: "
        what = "the most popular items: " if note["source"] == "popularity" else ""
        lines.append(f"{who}{what}{note['note']}")
    return "\n".join(lines)
