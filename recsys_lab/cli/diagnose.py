"""`recsys-lab diagnose ...`: questions to a finished run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from recsys_lab.arguments import Count
from recsys_lab.cli.compare import Metric
from recsys_lab.runs.messages import show_messages
from recsys_lab.runs.run_files import output_folder, write_results

if TYPE_CHECKING:
    from recsys_lab.report.page import Page
    from recsys_lab.report.shown_columns import Shown
    from recsys_lab.runs.finished import Run

log = logging.getLogger("recsys_lab")


def shuffle(
    run_folder: str | None = None,
    *,
    checkpoint: str | None = None,
    seeds: Count = 5,
    keep_last: Literal["both", "yes", "no"] = "both",
    stage: Literal["test", "val"] = "test",
    metric: Metric = "ndcg",
    cutoff: Count = 10,
    scope: Literal["history", "window"] = "history",
    allow_other_training: bool = False,
    data_dir: str | None = None,
    output: str | None = None,
    json: bool = False,
) -> None:
    """Does the model, or the data, need the order of events? The trained model is evaluated again on the same targets,
    with each history shuffled before the window is cut: all of it (`all`), and all but the most recent event
    (`all_but_last`). Nothing is trained. Writes shuffle.json, shuffle.md and shuffle.html into the run's folder
    shuffle/; Ctrl-C writes the shuffles so far.

    How to read the numbers: a change near 0 % says that the model does as well without the order of events, near -100 %
    that nothing of its score is left without it. Jaccard near 1 says that its lists stay the same. A small change of
    `all_but_last` beside a large one of `all` says that it reads the last event and little else of the order.

    The data's own 2- and 3-gram rules are counted in the original and in shuffled order, without any model. Published
    (Klenitskiy et al., RecSys 2024), ndcg@10 of GRU4Rec, all shuffled: 30Music -96 %, MovieLens-20M -67 %, Amazon
    Beauty -26 %, Steam -9 %, Gowalla -2 %. More, and what we measured: docs/sequential.md.

    Args:
        run_folder: a finished run; its best checkpoint is taken.
        checkpoint: another checkpoint; alone, one that lies in a run folder.
        seeds: shuffles of each kind.
        keep_last: yes: only all_but_last; no: only all.
        stage: whose targets.
        metric: of the targets.
        cutoff: K of the metric and of Jaccard.
        scope: shuffle the whole history, or only the events in the model's window.
        allow_other_training: also where the checkpoint was trained on other data or another split; the results say so.
        data_dir: folder of raw files and prepared sets (default: as the run says).
        output: where to write (default: shuffle/ in the run folder).
        json: print shuffle.json.
    """
    from recsys_lab.diagnose.shuffle import Question, folder_of
    from recsys_lab.diagnose.shuffle import shuffle as shuffled
    from recsys_lab.diagnose.shuffle_page import shuffle_page
    from recsys_lab.diagnose.shuffle_table import as_markdown, as_text
    from recsys_lab.report.escapes import as_json

    show_messages()
    folder = Path(run_folder) if run_folder else folder_of(checkpoint)
    to = output_folder(output, folder / "shuffle")
    kinds: tuple[Any, ...] = {"yes": ("all_but_last",), "no": ("all",)}.get(keep_last, ("all", "all_but_last"))
    found = shuffled(
        folder, checkpoint, data_dir, Question(stage, metric, cutoff, seeds, kinds, scope), allow_other_training
    )
    files = {"shuffle.json": as_json(found) + "\n", "shuffle.md": as_markdown(found)}
    write_results(to, files | _page("shuffle.html", lambda: shuffle_page(found)))
    _say(found, as_text(found, _shown("shuffle.md")), json, f"shuffle.json, shuffle.md and shuffle.html in {to}")
    if found["interrupted"]:
        raise KeyboardInterrupt


def calibration(
    run_folder: str,
    *,
    checkpoint: str | None = None,
    num_bins: Count = 15,
    allow_other_training: bool = False,
    data_dir: str | None = None,
    output: str | None = None,
    json: bool = False,
) -> None:
    """Are the model's next-item probabilities (softmax of its scores over the candidates) as large as what then
    happens? Fits one temperature on the validation targets, evaluates the test targets with and without it, and writes
    calibration/calibration.json and calibration/reliability.html into the run folder. Nothing is trained.
    docs/metrics.md defines each number. Of a run of ClickThrough or SequenceLabels it is the probabilities of clicks or
    labels, as they are, by length of the history and by position or label too. Of a run of several tasks it is both,
    those of each further task in calibration/<task>.

    Args:
        run_folder: a finished run; its best checkpoint is taken.
        checkpoint: another checkpoint.
        num_bins: of the calibration error.
        allow_other_training: also where the checkpoint was trained on other data or another split; the results say so.
        data_dir: folder of raw files and prepared sets (default: as the run says).
        output: where to write (default: calibration/ in the run folder).
        json: print calibration.json.
    """
    from recsys_lab.diagnose.calibrate import calibrate
    from recsys_lab.diagnose.click_calibration import is_of_clicks
    from recsys_lab.diagnose.label_calibration import is_of_classes
    from recsys_lab.diagnose.reliability_page import calibration_text, reliability_page
    from recsys_lab.report.escapes import as_json
    from recsys_lab.runs.finished import read_run
    from recsys_lab.runs.measured import OUTCOMES

    show_messages()
    to = output_folder(output, Path(run_folder) / "calibration")
    answers: list[tuple[Path, dict[str, Any], str, Callable[[dict[str, Any]], Page]]] = []
    also: dict[str, Any] = {}
    shown = _shown("calibration.json")
    run = read_run(Path(run_folder)) if (Path(run_folder) / OUTCOMES).is_file() else None
    if run is None or run.has_cutoff:
        found = calibrate(run_folder, checkpoint, data_dir, num_bins, allow_other_training)
        answers.append((to, found, calibration_text(found, shown), reliability_page))
    for one in () if run is None else run.measured or [run]:
        name = str(one.evaluation.get("name", ""))
        if name and not (is_of_clicks(one) or is_of_classes(one)):
            log.info("%s: numbers, which have no probabilities", name)
            continue
        found, said, page = _of_outcomes(one, num_bins, shown)
        answers.append((to / name, found, said, page))
        also |= {name: found} if name else {}
    for where, found, said, page in answers:
        files = {"calibration.json": as_json(found) + "\n"} | _page("reliability.html", partial(page, found))
        write_results(where, files)
        if not json:
            _say(found, said, json, f"{', '.join(files)} in {where}")
    if json:
        places = ", ".join(str(where) for where, *_ in answers)
        _say(answers[0][1] | ({"also": also} if also else {}), "", json, f"{', '.join(files)} in {places}")


def _of_outcomes(run: Run, num_bins: int, shown: Shown) -> tuple[dict[str, Any], str, Callable[[dict[str, Any]], Page]]:
    """Of a task that does not rank: what was found, in words, and its page."""
    from recsys_lab.diagnose.click_calibration import click_calibration, click_page, click_text
    from recsys_lab.diagnose.label_calibration import is_of_classes, label_calibration, label_page, label_text

    if is_of_classes(run):
        return (found := label_calibration(run, num_bins)), label_text(found, shown), label_page
    return (found := click_calibration(run, num_bins)), click_text(found, shown), click_page


def shortcuts(
    run_folder: str,
    *,
    checkpoint: str | None = None,
    stage: Literal["test", "val"] = "test",
    metric: Metric = "ndcg",
    cutoff: Count = 10,
    item_vectors: str | None = None,
    allow_other_training: bool = False,
    data_dir: str | None = None,
    output: str | None = None,
    json: bool = False,
) -> None:
    """Could a simple rule find these targets? Three measures, after Han et al. 2026: how many items follow an item and
    how many transitions away the targets are; how similar a target is to the item before it; and what the trained model
    reaches where it sees only the newest events. Nothing is trained. Writes shortcuts/shortcuts.json and
    shortcuts/shortcuts.md into the run folder. docs/sequential.md says how to read them.

    Args:
        run_folder: a finished run; its best checkpoint is taken.
        checkpoint: another checkpoint.
        stage: whose targets.
        metric: of the targets.
        cutoff: K of the metric.
        item_vectors: file with vectors of the items, as --model.item_vectors of fit takes it (default: those that the
            model has learned).
        allow_other_training: also where the checkpoint was trained on other data or another split; the results say so.
        data_dir: folder of raw files and prepared sets (default: as the run says).
        output: where to write (default: shortcuts/ in the run folder).
        json: print shortcuts.json.
    """
    from recsys_lab.diagnose.shortcuts import shortcuts as find
    from recsys_lab.diagnose.shortcuts_table import as_markdown, as_text
    from recsys_lab.report.escapes import as_json

    show_messages()
    to = output_folder(output, Path(run_folder) / "shortcuts")
    found = find(run_folder, checkpoint, data_dir, stage, metric, cutoff, item_vectors, allow_other_training)
    write_results(to, {"shortcuts.json": as_json(found) + "\n", "shortcuts.md": as_markdown(found)})
    _say(found, as_text(found), json, f"shortcuts.json and shortcuts.md in {to}")


def _page(name: str, make: Callable[[], Page]) -> dict[str, str]:
    """The file of a page; none, and a line that says why, where the extra `report` is not installed."""
    from recsys_lab.report.page import missing_packages

    if missing := missing_packages():
        log.warning("without %s, which needs %s", name, missing)
        return {}
    return {name: make().html}


def _shown(file: str) -> Shown:
    """The columns that the terminal has room for."""
    from recsys_lab.report.shown_columns import Shown
    from recsys_lab.report.terminal import terminal_width

    return Shown(width=terminal_width(), rest=f"all are in {file}")


def _say(found: Any, text: str, json: bool, written: str) -> None:
    """The answer as text or as JSON, and which files hold it: on standard error beside JSON."""
    from recsys_lab.report.escapes import as_json
    from recsys_lab.report.terminal import wrapped

    print(as_json(found) if json else f"{wrapped(text)}\n")
    print(wrapped(f"written: {written}"), file=sys.stderr if json else sys.stdout)
