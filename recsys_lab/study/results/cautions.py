"""What a reader should know before believing the numbers of a study."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from recsys_lab.runs.comparison_row import SAW_TARGETS
from recsys_lab.runs.remarks import BELOW, COLD, IMPROVING, is_unconverged
from recsys_lab.statistics.pairs import ONE_SEED
from recsys_lab.study.results.block import Block
from recsys_lab.study.results.names import listed
from recsys_lab.study.results.record import Record
from recsys_lab.study.results.study_results import Caution, StudyResults
from recsys_lab.words import LOWER_IS_BETTER, titled

MANY_COLD = 0.05
FIRST = ("failed", "below", "unconverged", "missing")
"""Kinds of warnings that come before the others: what most often changes a conclusion."""
BROKEN = ("failed", "unreadable")
"""States of runs that did not only not end yet."""


def find_cautions(results: StudyResults, refusals: list[str]) -> list[Caution]:
    """Warnings first, of them those that most often change a conclusion; then those of the whole study, then of each
    block."""
    found = [*_unfinished(results), *(Caution("data", line) for line in refusals), *_code(results)]
    for block in results.blocks:
        found += [Caution("baselines", f"an untrained baseline is missing: {line}") for line in block.missing]
        if not any(row.is_counted for row in block.comparison.rows):
            text = "no untrained baseline takes part, so it is not known whether any model is better than one"
            found.append(Caution("baselines", text, block.key))
        found += [*_training(block), *_below(block), *_evaluation(block), *_reversals(block, block.comparison.deciding)]
    if results.select.rpartition("/")[2] != titled(results.deciding, results.cutoff):
        compared = titled(results.deciding, results.cutoff)
        text = f"the epoch of each run was chosen by {results.select}, and variants are compared by {compared}"
        found.append(Caution("note", text, severity="note"))
    order = {kind: place for place, kind in enumerate(FIRST)}
    return sorted(
        _merged(found, results.blocks), key=lambda one: (one.severity == "note", order.get(one.kind, len(FIRST)))
    )


def _merged(cautions: list[Caution], blocks: list[Block]) -> list[Caution]:
    """What is said of several blocks in the same words is said once; block titles come before the text."""
    titles = {block.key: block.title for block in blocks}
    of_text: dict[tuple[str, str, str], list[Caution]] = {}
    for caution in cautions:
        of_text.setdefault((caution.kind, caution.text, caution.severity), []).append(caution)
    found = []
    for (_, text, _), same in of_text.items():
        keys = [caution.block for caution in same if caution.block]
        where = f"{listed([titles[key] for key in keys], 2)}: " if len(blocks) > 1 and keys else ""
        found.append(replace(same[0], text=where + text, block=keys[0] if len(keys) == 1 else ""))
    return found


def _unfinished(results: StudyResults) -> Iterator[Caution]:
    by_state: dict[str, list[Record]] = {}
    for record in results.records:
        if record.state != "finished":
            by_state.setdefault(record.state, []).append(record)
    told: dict[str, list[str]] = {}  # kind -> what became of the runs of each state
    for state, records in by_state.items():
        kind = "failed" if state in BROKEN else "missing"
        runs = listed([f"{record.label} seed {record.seed}" for record in records], 2)
        reasons = listed([record.reason.strip().rpartition("\n")[2] for record in records], 2)
        of_runs = f"{runs}: {reasons}" if kind == "failed" else runs
        told.setdefault(kind, []).append(f"{len(records)} {_fate(state, len(records))} ({of_runs})")
    for kind, texts in told.items():
        number = sum(len(records) for state, records in by_state.items() if (state in BROKEN) == (kind == "failed"))
        is_now = "is" if number == 1 else "are"
        yield Caution(kind, f"{number} of {results.planned} planned runs {is_now} in no number here: {listed(texts)}")


def _fate(state: str, number: int) -> str:
    """What became of runs, as the end of a sentence."""
    was, is_now = ("was", "is") if number == 1 else ("were", "are")
    said = {"missing": f"{was} not run yet", "running": f"{is_now} still running", "interrupted": f"{was} interrupted"}
    return said.get(state, "can't be read" if state == "unreadable" else state)


def _code(results: StudyResults) -> Iterator[Caution]:
    finished = [record for record in results.records if record.state == "finished" and not record.is_automatic]
    if len(results.commits) > 1:
        counts = [
            f"{commit[:10]} ({sum(record.commit == commit for record in finished)} runs)" for commit in results.commits
        ]
        yield Caution("commits", f"the runs were made with {len(counts)} different commits: {listed(counts)}")
    dirty = [record.label for record in finished if record.is_dirty]
    if dirty:
        text = f"{len(dirty)} of {len(finished)} runs were made with changes that were not committed: {listed(dirty)}"
        yield Caution("dirty", text)
    counted = [record for record in results.records if record.is_automatic]
    if any(record.is_dirty or record.commit not in results.commits for record in counted):
        yield Caution("commits", "the untrained baselines were counted with another commit than the runs", "", "note")
    for what, severity in (("device", "note"), ("precision", "warning")):
        values = sorted({str(r.manifest.get(what)) for r in finished if r.manifest.get(what)})
        if len(values) > 1:
            text = f"the runs had more than one {what} ({listed(values)}), so their seconds can't be compared"
            yield Caution("environment", text, "", severity)  # type: ignore[arg-type]
    versions = {str(record.manifest["versions"]) for record in finished if record.manifest.get("versions")}
    if len(versions) > 1:
        yield Caution("environment", f"the runs had {len(versions)} different sets of library versions", "", "note")


def _training(block: Block) -> Iterator[Caution]:
    trained = [record for record in block.records if record.manifest.get("stopped_by") != "counted"]
    reasons: dict[str, list[str]] = {}
    for record in trained:
        reasons.setdefault(str(record.manifest.get("stopped_by")), []).append(record.name)
    cut = [record for record in trained if is_unconverged(record.manifest)]
    if cut:
        yield Caution(
            "unconverged",
            f"{len(cut)} of {len(trained)} runs {'was' if len(cut) == 1 else 'were'} {IMPROVING}, "
            f"since the best epoch is among the last: {listed([record.name for record in cut], 3)}. With "
            "longer training the order of the variants could change",
            block.key,
        )
    if "max_time" in reasons:
        names = reasons["max_time"]
        yield Caution(
            "cap",
            f"the wall-time cap ended {len(names)} of {len(trained)} runs: {listed(names)}. They are "
            "compared at that time, on that machine",
            block.key,
        )
    for row in block.comparison.rows:
        if row.trained_on:
            known = "; it knows events at or after the targets, so it is in no test"
            more = known if row.untested == SAW_TARGETS else ""
            yield Caution("trained_on", f"{row.variant}: trained on {row.trained_on}{more}", block.key)
    if len(reasons) > 1:
        text = "; ".join(f"{reason}: {len(names)} ({listed(names, 2)})" for reason, names in reasons.items())
        yield Caution("stop_reasons", f"training ended for different reasons: {text}", block.key)


def _evaluation(block: Block) -> Iterator[Caution]:
    evaluation = block.evaluation
    if evaluation.get("split_warning"):
        yield Caution("leaky", str(evaluation["split_warning"]), block.key)
    elif block.is_leaky:
        yield Caution(
            "leaky",
            "the models were trained on events that are later than the test targets of other users, which no model in "
            "use can have (Ji et al. 2023)",
            block.key,
        )
    targets = evaluation.get("test_targets") or block.targets
    trained_only = not evaluation.get("task") and evaluation.get("candidates") in (None, "trained")
    cold = (evaluation.get("cold_test_targets") or 0) / targets if trained_only else 0
    if cold > MANY_COLD and not any(COLD in note for note in block.comparison.notes):
        then = "are left out" if evaluation.get("cold_targets") == "drop" else "count as misses"
        text = f"{100 * cold:.1f} % of the test targets have no event in training, and {then}"
        yield Caution("data", text, block.key, "note")
    for note in block.comparison.notes:
        text = note.removeprefix("WARNING: ")
        if BELOW in text or IMPROVING in text:
            continue  # `_below` and `_training` say it of all rows at once
        if "tie_order" in text:
            yield Caution("ties", text, block.key)
        elif text.startswith("not tested over seeds"):
            rows = zip(block.lines, block.comparison.rows, strict=True)
            single = [line.name for line, row in rows if row.untested == ONE_SEED]
            is_all = len(single) == sum(not row.is_counted for row in block.comparison.rows)
            names = "all trained variants" if is_all else listed(single)
            yield Caution("single_seed", f"these have one seed, so they were not tested over seeds: {names}", block.key)
        else:
            yield Caution("note", text, block.key, "warning" if text != note else "note")
    if block.audit.note:
        yield Caution("audit", block.audit.note, block.key, "note")


def _below(block: Block) -> Iterator[Caution]:
    """Which variants the best untrained baseline beats: a warning where it beats all of them."""
    comparison, name = block.comparison, block.decided_by
    sign = -1 if comparison.deciding in LOWER_IS_BETTER else 1
    rows = list(zip(comparison.rows, block.lines, strict=True))
    values = {line.name: sign * round(row.estimates[comparison.deciding].mean, 4) for row, line in rows}
    counted = [line.name for row, line in rows if row.is_counted]
    trained = [line.name for row, line in rows if not row.is_counted]
    if not counted or not trained:
        return
    best = max(counted, key=lambda one: values[one])
    below = [one for one in trained if values[one] < values[best]]
    if below:
        is_all = len(below) == len(trained)
        who = "all trained variants" if is_all else f"{len(below)} of {len(trained)} trained variants ({listed(below)})"
        side = "worse than" if sign < 0 else "below"
        text = f"{who} {'are' if is_all or len(below) > 1 else 'is'} {side} the best untrained baseline, "
        text += f"{best} {abs(values[best]):.4f} {name}"
        yield Caution("below", text, block.key, "warning" if is_all else "note")


def _reversals(block: Block, metric: str) -> Iterator[Caution]:
    for effect in block.effects:
        if effect.metric == metric and effect.reversed_settings:
            yield Caution(
                "interaction",
                f"{effect.axis}: {effect.a} minus {effect.b} is {effect.difference:+.4f} on average, but the "
                f"difference significantly has the other sign with {listed(effect.reversed_settings)}",
                block.key,
            )
