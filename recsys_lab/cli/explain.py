"""`recsys-lab diagnose explain` and `faithfulness`: why an item stands in a list, and how far to believe it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from recsys_lab.arguments import Commas, Count, Range
from recsys_lab.words import RecsysLabError

log = logging.getLogger("recsys_lab")


def explain(
    run: str,
    *,
    user: str | None = None,
    history: str | None = None,
    item: str | None = None,
    method: Sequence[Literal["attention", "integrated_gradients", "leave_one_out", "removal"]] = (),
    query_time: Annotated[int, Range(at_least=0)] | None = None,
    target_fields: Annotated[list[str], Commas] | None = None,
    page: str | None = None,
    data_dir: str | None = None,
    json: bool = False,
) -> None:
    """Why does an item stand in a list? Prints what each event of a history adds to the item's log-probability, the
    newest event first: by the model's own attention or gates, by integrated gradients, and by leaving each event out.
    Where events have fields, what each field adds. Nothing is trained. docs/explain.md says how far each method is to
    be believed; `recsys-lab diagnose faithfulness` measures it for a run.

    Args:
        run: a run folder, of which the best checkpoint is taken, or a checkpoint.
        user: an id of the run's prepared data, with all events that it has of that user.
        history: instead: item ids, oldest first, with commas between them; an id with a comma stands in double quotes.
        item: which item (default: the first that is recommended).
        method: attention, integrated_gradients (needs the extra `explain`), leave_one_out, removal; several with commas
            between them (default: the first three).
        query_time: when the list is wanted, in seconds since 1970, for a model that reads it (default: the time of the
            last event).
        target_fields: of the event to predict, for a model that reads them, NAME=VALUE with commas between several.
        page: also write a page to this file.
        data_dir: folder of prepared sets, for users and titles (default: as the run says).
        json: print all of it as JSON.
    """
    from recsys_lab.diagnose.explain.explained_page import explained_page
    from recsys_lab.diagnose.explain.explained_text import as_text
    from recsys_lab.report.escapes import as_json
    from recsys_lab.report.page import missing_packages
    from recsys_lab.report.terminal import terminal_width
    from recsys_lab.runs.messages import show_messages
    from recsys_lab.runs.run_files import check_place, write_results

    show_messages()
    if user is None and history is None:
        raise RecsysLabError("give a user of the data (--user ID), or a history (--history a,b,c)")
    if user is not None and history is not None:
        raise RecsysLabError(f"--user {user} and --history {history}: an explanation is of one of them: leave one out")
    if history is not None and query_time is not None:
        raise RecsysLabError(
            f"--query_time {query_time}: a typed history has no times to compare it with: use --user ID, or "
            "recsys_lab.serve.explaining.explain with times="
        )
    if page is not None and (missing := missing_packages()):
        raise RecsysLabError(f"--page needs {missing}")
    if page is not None:
        check_place(to := Path(page), "--page")

    from recsys_lab.serve.explaining import explain as explained
    from recsys_lab.serve.list_files import typed_ids
    from recsys_lab.serve.predictor import Predictor
    from recsys_lab.serve.questions import target_values
    from recsys_lab.serve.run_data import history_of, titles

    predictor = Predictor.load(run)
    folder = predictor.loaded.folder
    events = history_of(folder, user, data_dir) if history is None else typed_ids(history)
    names, about = titles(folder, predictor.spec, data_dir)
    log.info("%s", about)
    asked: dict[str, Any] = {"item": item, "methods": method or None, "titles": names, "query_time": query_time}
    target = {name: [value] for name, value in target_values(target_fields or (), predictor).items()}
    found = explained(predictor, events, target_fields=target, **asked)
    print(as_json(found) if json else as_text(found, terminal_width()))
    if page is not None:
        write_results(to.parent, {to.name: explained_page(found, run).html}, "--page")
        print(f"\nwritten: {page}", file=sys.stderr if json else sys.stdout)


def faithfulness(
    run_folders: Sequence[str],
    *,
    lists: Count = 200,
    method: Sequence[Literal["attention", "integrated_gradients", "leave_one_out", "removal"]] = (),
    data_dir: str | None = None,
    output: str | None = None,
    json: bool = False,
) -> None:
    """Are explanations of a run's lists faithful to its model? Events are taken out, and put in, in the order of each
    explanation and in random order: one row for each method, with its difference to random order, an interval and a
    test. Beside it, how alike the explanations of shuffled weights are. Nothing is trained. Writes
    faithfulness/faithfulness.json and faithfulness.md into the first run folder. docs/explain.md.

    Args:
        run_folders: finished runs, seeds of one system; with several the test is over users and seeds.
        lists: of the test, drawn; their first item is explained.
        method: attention, integrated_gradients (needs the extra `explain`), leave_one_out, removal (default: all).
        data_dir: folder of raw files and prepared sets (default: as the run says).
        output: where to write (default: faithfulness/ in the first run folder). A smaller answer does not replace a
            larger one there.
        json: print faithfulness.json.
    """
    from recsys_lab.diagnose.explain.faithfulness_table import as_markdown, as_text
    from recsys_lab.diagnose.explain.run_faithfulness import check_covers, faithfulness_of, open_seeds
    from recsys_lab.report.escapes import as_json
    from recsys_lab.report.terminal import terminal_width, wrapped
    from recsys_lab.runs.messages import show_messages
    from recsys_lab.runs.run_files import output_folder, write_results

    show_messages()
    runs = open_seeds(run_folders, data_dir)
    to = output_folder(output, Path(run_folders[0]) / "faithfulness")
    check_covers(to / "faithfulness.json", run_folders, lists, method)
    found = faithfulness_of(runs, lists, method or None)
    write_results(to, {"faithfulness.json": as_json(found) + "\n", "faithfulness.md": as_markdown(found)})
    print(as_json(found) if json else as_text(found, terminal_width()))
    said = wrapped(f"written: faithfulness.json and faithfulness.md in {to}")
    print(said, file=sys.stderr if json else sys.stdout)
