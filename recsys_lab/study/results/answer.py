"""The answer of a study in one sentence: which differences hold, how large, under which protocol."""

from __future__ import annotations

from dataclasses import dataclass

from recsys_lab.study.pairs import Pair
from recsys_lab.study.results.block import Block
from recsys_lab.study.results.effects import AxisEffect
from recsys_lab.study.results.names import listed, value_name
from recsys_lab.study.results.study_results import Answer, StudyResults

SHOWN = 3
"""Values that the sentence names in a list; the findings name all."""


@dataclass(frozen=True)
class Verdict:
    """What one block says of one axis, by the deciding metric.

    ahead: values that no other value is ahead of for sure, best first.
    behind: values that the first of `ahead` is ahead of for sure; others: that only another value is ahead of.
    low, high: the smallest and largest difference between the best value and those behind it.
    """

    ahead: tuple[str, ...]
    behind: tuple[str, ...]
    others: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    largest: float = 0.0  # difference between the best value and any other
    detectable: float = 0.0


def find_answer(results: StudyResults) -> Answer:
    name = f"{results.deciding}@{results.cutoff}"
    phrases, findings = [], []
    axes = [axis for axis in results.axes if any(_of(block, axis, results.deciding) for block in results.blocks)]
    for axis in axes:
        verdicts = [
            (block, find_verdict(of, results.method.alpha, results.axes[axis]))
            for block in results.blocks
            if (of := _of(block, axis, results.deciding))
        ]
        phrases.append(f"{axis}: {_over_blocks(axis, verdicts, name, len(results.blocks))}")
        if len(results.blocks) > 1:
            findings += [f"{block.title}: {axis}: {_phrase(axis, verdict, name)}" for block, verdict in verdicts]
    for block in results.blocks:
        best = _best_pair(block, results)
        if not axes:
            phrases.append(f"{block.title}: {best}" if len(results.blocks) > 1 else best)
        if axes:
            findings.append(f"{block.title}: of single variants, {best}")
        findings += [f"{block.title}: {line}" for line in [_against_baseline(block, results)] if line]
    orders = [_order(results)] if _order(results) else []
    finished = sum(record.state == "finished" and not record.is_automatic for record in results.records)
    is_complete = finished == results.planned
    start = "" if is_complete else f"Incomplete ({finished} of {results.planned} runs are finished), so far: "
    sentence = start + "; ".join([*phrases, *orders]) + f" ({_protocol(results)})."
    return Answer(sentence[0].upper() + sentence[1:], findings, is_complete)


def find_verdict(effects: list[AxisEffect], alpha: float, order: list[str]) -> Verdict:
    """Of all effects of one axis in one metric and block."""
    signed: dict[tuple[str, str], tuple[float, AxisEffect]] = {}
    for effect in effects:
        signed[effect.a, effect.b] = effect.difference, effect
        signed[effect.b, effect.a] = -effect.difference, effect
    values = [value for value in order if any(value in pair for pair in signed)]
    wins = {v: sum(d > 0 for (a, _), (d, _) in signed.items() if a == v) for v in values}
    totals = {v: sum(d for (a, _), (d, _) in signed.items() if a == v) for v in values}
    ranked = sorted(values, key=lambda v: (-wins[v], -totals[v]))
    behind = [
        v for v in ranked if any(b == v and d > 0 and effect.holds(alpha) for (_, b), (d, effect) in signed.items())
    ]
    ahead = [v for v in ranked if v not in behind]  # never empty: the best by any count of wins can be, in a circle
    best = (ahead or ranked)[0]
    of_best = {b: (d, effect) for (a, b), (d, effect) in signed.items() if a == best}
    sizes = {v: of_best[v][0] for v in behind if v in of_best and of_best[v][0] > 0 and of_best[v][1].holds(alpha)}
    largest = max(of_best.values(), key=lambda one: one[0])
    return Verdict(
        tuple(ahead or [best]),
        tuple(sizes),
        tuple(v for v in behind if v not in sizes and v != best),
        min(sizes.values(), default=0.0),
        max(sizes.values(), default=0.0),
        largest[0],
        largest[1].smallest_detectable,
    )


def _of(block: Block, axis: str, metric: str) -> list[AxisEffect]:
    return [effect for effect in block.effects if effect.axis == axis and effect.metric == metric]


def _phrase(axis: str, verdict: Verdict, metric: str, most: int = 1000) -> str:
    """most: values named in a list."""
    ahead = [value_name(axis, value) for value in verdict.ahead]
    behind = [value_name(axis, value) for value in verdict.behind]
    if not behind and verdict.others:
        others = listed([value_name(axis, value) for value in verdict.others])
        return f"{listed(ahead)} are not told apart; {others}: behind one of them"
    if not behind:
        return (
            f"no difference holds (the largest, {verdict.largest:+.4f} {metric} for {ahead[0]}, could be chance; "
            f"{verdict.detectable:.4f} would have been found)"
        )
    size = f"{verdict.low:+.4f}" if verdict.low == verdict.high else f"{verdict.low:+.4f} to {verdict.high:+.4f}"
    if verdict.others:
        size += f" (and others of {listed([value_name(axis, value) for value in verdict.others])})"
    if len(ahead) == 1:
        return f"{ahead[0]} is ahead of {listed(behind, most)} by {size} {metric}"
    return f"{listed(ahead)} are not told apart, and {ahead[0]} is ahead of {listed(behind, most)} by {size} {metric}"


def _over_blocks(axis: str, verdicts: list[tuple[Block, Verdict]], metric: str, blocks: int) -> str:
    """Blocks that say the same together, the most common first."""
    if blocks == 1:
        return _phrase(axis, verdicts[0][1], metric, SHOWN)
    alike: dict[tuple[tuple[str, ...], ...], list[tuple[Block, Verdict]]] = {}
    for block, verdict in verdicts:
        key = (
            tuple(tuple(sorted(of)) for of in (verdict.ahead, verdict.behind, verdict.others)) if verdict.behind else ()
        )
        alike.setdefault(key, []).append((block, verdict))
    texts = []
    for group in sorted(alike.values(), key=len, reverse=True):
        where = "in every block" if len(group) == blocks else "on " + listed([block.title for block, _ in group], 3)
        first = group[0][1]
        if not first.behind:
            largest = max(group, key=lambda one: one[1].largest)[1]
            texts.append(f"{where} no difference holds (largest {largest.largest:+.4f} {metric})")
            continue
        low, high = min(v.low for _, v in group), max(v.high for _, v in group)
        merged = Verdict(first.ahead, first.behind, first.others, low, high)
        texts.append(f"{where} {_phrase(axis, merged, metric, SHOWN)}")
    return "; ".join(texts)


def _holds(block: Block, pair: Pair, alpha: float) -> bool:
    rows = [block.comparison.rows[i] for i in (pair.a, pair.b)]
    spread = max(row.seed_deviation[pair.metric] or 0.0 for row in rows)
    return pair.p_corrected < alpha and abs(pair.difference) > spread


def _best_pair(block: Block, results: StudyResults) -> str:
    """The best variant against the next one, of those that were asked for."""
    asked = [i for i, row in enumerate(block.comparison.rows) if not row.is_automatic]
    name = f"{results.deciding}@{results.cutoff}"
    if len(asked) < 2:
        mean = block.comparison.rows[asked[0]].estimates[results.deciding].mean
        return f"{block.lines[asked[0]].name} alone is there ({mean:.4f} {name}), with nothing to compare it with"
    best = block.lines[asked[0]].name
    alike = [
        i
        for i in asked[1:]
        if (pair := block.pair_of(asked[0], i, results.deciding)) is None
        or not _holds(block, pair, results.method.alpha)
    ]
    next_pair = block.pair_of(asked[0], asked[1], results.deciding)
    gap = f"{abs(next_pair.difference):.4f} {name}" if next_pair else "an unknown difference"
    behind = listed([block.lines[i].name for i in asked[1:] if i not in alike], 3)
    others = listed([block.lines[i].name for i in alike], 3)
    if not alike:
        return f"{best} is ahead of {behind}: of the next by {gap}"
    if not behind:
        return f"none is ahead for sure: {best} is the best by {gap}, not told apart from {others}"
    return f"{best} is not told apart from {others}, and is ahead of {behind}"


def _against_baseline(block: Block, results: StudyResults) -> str:
    """Whether the best trained model is better than the best one that counts."""
    rows = block.comparison.rows
    counted = [i for i, row in enumerate(rows) if row.is_counted]
    trained = [i for i, row in enumerate(rows) if not row.is_counted]
    if not counted or not trained:
        return ""
    best, baseline = block.lines[trained[0]].name, block.lines[counted[0]].name
    pair = block.pair_of(trained[0], counted[0], results.deciding)
    name = f"{results.deciding}@{results.cutoff}"
    if pair is None:
        return f"{best} was not tested against the best counted baseline, {baseline}"
    difference = pair.difference if pair.a == trained[0] else -pair.difference
    if not _holds(block, pair, results.method.alpha):
        return f"{best} and the best counted baseline, {baseline}, are not told apart ({difference:+.4f} {name})"
    how = "better" if difference > 0 else "worse"
    return f"{best} is {how} than the best counted baseline, {baseline} ({difference:+.4f} {name})"


def _order(results: StudyResults) -> str:
    """What becomes of the order where only the split differs."""
    found = [one for one in results.orders if one.differs_in == ["split"]]
    if not found:
        return ""
    flips = sum(flip.is_significant for one in found for flip in one.flips)
    pairs = sum(one.significant_pairs for one in found)
    taus = [one.tau for one in found]
    tau = f"tau {taus[0]:.2f}" if len(taus) == 1 else f"tau {min(taus):.2f} to {max(taus):.2f}"
    if not pairs:
        return f"whether the order changes with the split can't be said: no pair is told apart under both ({tau})"
    changes = f"changes for {flips}" if flips else "does not change for any"
    return f"the order of models {changes} of the {pairs} pairs told apart under both splits ({tau})"


def _protocol(results: StudyResults) -> str:
    blocks = results.blocks
    seeds = sorted({len(row.runs) for block in blocks for row in block.comparison.rows if not row.is_counted})
    if not seeds or seeds == [1]:
        trained = "one seed: this is about these trained models, not about training"
    else:
        trained = f"{seeds[0]} seeds" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    data = blocks[0].title if len(blocks) == 1 else f"{len(blocks)} data sets and splits, each by itself"
    users = sorted(block.users for block in blocks)
    spread = f"{users[0]:,}" if users[0] == users[-1] else f"{users[0]:,} to {users[-1]:,}"
    return f"{data}; {spread} users, full ranking, {trained}; tests paired over users, Holm-corrected over the study"
