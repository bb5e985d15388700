"""The answer of a study in one sentence: which differences are significant, how large, under which protocol."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from recsys_lab.statistics.pairs import ONE_SEED, Difference
from recsys_lab.study.results.block import Block
from recsys_lab.study.results.names import listed, value_name
from recsys_lab.study.results.study_results import Answer, StudyResults

SHOWN = 3
"""Values that the sentence names in a list; the findings name all."""


@dataclass(frozen=True)
class Verdict:
    """What one block says of some values (or variants), by the deciding metric.

    better: value that no other is significantly better than -> the values that it is significantly better than.
    low, high: the smallest and largest of these differences.
    largest: of all tested differences: first value, second value, the difference, what would have been found.
    untested: value in no test -> why.
    """

    better: dict[str, tuple[str, ...]]
    low: float = 0.0
    high: float = 0.0
    largest: tuple[str, str, float, float] | None = None
    untested: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for blocks that say the same."""
        return tuple(sorted(self.better.items())), self.largest is None, self.untested


def find_answer(results: StudyResults) -> Answer:
    name = f"{results.deciding}@{results.cutoff}"
    phrases, findings = [], []
    axes = [axis for axis in results.axes if any(_of_axis(block, axis, results) for block in results.blocks)]
    for axis in axes:
        verdicts = [
            (block, find_verdict(of, results.method.alpha))
            for block in results.blocks
            if (of := _of_axis(block, axis, results))
        ]
        phrases.append(f"{axis}: {_over_blocks(verdicts, name, len(results.blocks))}")
        if len(results.blocks) > 1:
            findings += [f"{block.title}: {axis}: {_phrase(verdict, name)}" for block, verdict in verdicts]
    for block in results.blocks:
        best = _of_variants(block, results)
        if not axes:
            phrases.append(f"{block.title}: {best}" if len(results.blocks) > 1 else best)
        if axes:
            findings.append(f"{block.title}: single variants: {best}")
        findings += [f"{block.title}: {line}" for line in [_against_baseline(block, results)] if line]
    orders = [_order(results)] if _order(results) else []
    finished = sum(record.state == "finished" and not record.is_automatic for record in results.records)
    is_complete = finished == results.planned
    start = "" if is_complete else f"Incomplete ({finished} of {results.planned} runs are finished), so far: "
    sentence = start + "; ".join([*phrases, *orders]) + f" ({_protocol(results)})."
    return Answer(sentence[0].upper() + sentence[1:], findings, is_complete)


def find_verdict(tested: Iterable[tuple[str, str, Difference]], alpha: float) -> Verdict:
    """Of all differences between some values: first value, second value, first minus second in the deciding metric."""
    tested = [one if one[2].difference >= 0 else (one[1], one[0], one[2].turned()) for one in tested]
    significant = [(a, b, of) for a, b, of in tested if of.is_significant(alpha)]
    beaten = {b for _, b, _ in significant}
    of_best = [(a, b, of) for a, b, of in significant if a not in beaten]
    better: dict[str, tuple[str, ...]] = {}
    for a, b, _ in of_best:
        better[a] = (*better.get(a, ()), b)
    known = [one for one in tested if not one[2].untested]
    in_a_test = {value for a, b, _ in known for value in (a, b)}
    untested = {value: of.untested for a, b, of in tested for value in (a, b) if value not in in_a_test}
    largest = max(known, key=lambda one: one[2].difference, default=None)
    return Verdict(
        better,
        min((of.difference for _, _, of in of_best), default=0.0),
        max((of.difference for _, _, of in of_best), default=0.0),
        None if largest is None else (*largest[:2], largest[2].difference, largest[2].detectable),
        tuple(sorted(untested.items())),
    )


def _of_axis(block: Block, axis: str, results: StudyResults) -> list[tuple[str, str, Difference]]:
    return [
        (value_name(axis, effect.a), value_name(axis, effect.b), effect)
        for effect in block.effects
        if effect.axis == axis and effect.metric == results.deciding
    ]


def _of_variants(block: Block, results: StudyResults) -> str:
    """Of the variants that were asked for."""
    name = f"{results.deciding}@{results.cutoff}"
    asked = [i for i, row in enumerate(block.comparison.rows) if not row.is_automatic]
    if len(asked) < 2:
        mean = block.comparison.rows[asked[0]].estimates[results.deciding].mean
        return f"{block.lines[asked[0]].name} alone is there ({mean:.4f} {name}), with nothing to compare it with"
    pairs = [
        (block.lines[pair.a].name, block.lines[pair.b].name, pair)
        for pair in block.comparison.pairs
        if pair.metric == results.deciding and pair.a in asked and pair.b in asked
    ]
    return _phrase(find_verdict(pairs, results.method.alpha), name, SHOWN)


def not_tested(reason: str) -> str:
    """Why there is no p, in words for a sentence."""
    return f"not tested over seeds ({ONE_SEED})" if reason == ONE_SEED else f"not tested ({reason})"


def _phrase(verdict: Verdict, metric: str, most: int = 1000) -> str:
    """most: values named in a list."""
    if verdict.largest is None:
        return " and ".join(dict.fromkeys(not_tested(reason) for _, reason in verdict.untested))
    if verdict.better:
        size = f"{verdict.low:+.4f}" if verdict.low == verdict.high else f"{verdict.low:+.4f} to {verdict.high:+.4f}"
        texts = [f"{a} is significantly better than {listed(b, most)}" for a, b in verdict.better.items()]
        said = f"{listed(texts, most)} ({size} {metric})"
    else:
        a, b, difference, detectable = verdict.largest
        said = (
            f"no significant difference (the largest, {a} - {b}, is {difference:+.4f} {metric}; {detectable:.4f} would "
            "be found with 80 % power)"
        )
    for reason in dict.fromkeys(reason for _, reason in verdict.untested):
        said += f"; {not_tested(reason)}: {listed([value for value, of in verdict.untested if of == reason], most)}"
    return said


def _over_blocks(verdicts: list[tuple[Block, Verdict]], metric: str, blocks: int) -> str:
    """Blocks that say the same together, the most common first."""
    if blocks == 1:
        return _phrase(verdicts[0][1], metric, SHOWN)
    alike: dict[tuple[object, ...], list[tuple[Block, Verdict]]] = {}
    for block, verdict in verdicts:
        alike.setdefault(verdict.key, []).append((block, verdict))
    texts = []
    for group in sorted(alike.values(), key=len, reverse=True):
        where = "in every block" if len(group) == blocks else "on " + listed([block.title for block, _ in group], 3)
        first = group[0][1]
        largest = max((v.largest for _, v in group if v.largest), key=lambda one: one[2], default=None)
        low, high = min(v.low for _, v in group), max(v.high for _, v in group)
        texts.append(f"{where} {_phrase(Verdict(first.better, low, high, largest, first.untested), metric, SHOWN)}")
    return "; ".join(texts)


def _against_baseline(block: Block, results: StudyResults) -> str:
    """The best trained model and the best untrained one."""
    rows = block.comparison.rows
    untrained = [i for i, row in enumerate(rows) if row.is_counted]
    trained = [i for i, row in enumerate(rows) if not row.is_counted]
    if not untrained or not trained:
        return ""
    best, baseline = block.lines[trained[0]].name, block.lines[untrained[0]].name
    pair = block.pair_of(trained[0], untrained[0], results.deciding)
    if pair is None:
        return f"{best} and the best untrained baseline, {baseline}, were not compared"
    difference = pair.difference if pair.a == trained[0] else -pair.difference
    size = f"{best} - {baseline} {difference:+.4f} {results.deciding}@{results.cutoff}"
    if pair.untested:
        return f"{best} and the best untrained baseline, {baseline}: {not_tested(pair.untested)}; {size}"
    if not pair.is_significant(results.method.alpha):
        return f"{best} and the best untrained baseline, {baseline}, do not differ significantly ({size})"
    how = "better" if difference > 0 else "worse"
    return f"{best} is significantly {how} than the best untrained baseline, {baseline} ({size})"


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
        return f"whether the order changes with the split can't be said: no pair differs significantly in both ({tau})"
    changes = f"changes for {flips}" if flips else "does not change for any"
    return f"the order of models {changes} of the {pairs} pairs that differ significantly under both splits ({tau})"


def _protocol(results: StudyResults) -> str:
    blocks = results.blocks
    seeds = sorted({len(row.runs) for block in blocks for row in block.comparison.rows if not row.is_counted})
    if not seeds or seeds == [1]:
        trained = "one seed"
    else:
        trained = f"{seeds[0]} seeds" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    data = blocks[0].title if len(blocks) == 1 else f"{len(blocks)} data sets and splits, each by itself"
    users = sorted(block.users for block in blocks)
    spread = f"{users[0]:,}" if users[0] == users[-1] else f"{users[0]:,} to {users[-1]:,}"
    return f"{data}; {spread} users, full ranking, {trained}; tests over users and seeds, Holm-corrected over the study"
