"""The answer of a study: one short sentence, and what stands behind it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from recsys_lab.report.table import show
from recsys_lab.statistics.pairs import ONE_SEED, Difference
from recsys_lab.study.results.block import Block
from recsys_lab.study.results.names import listed, sentences, value_name
from recsys_lab.study.results.study_results import Answer, StudyResults
from recsys_lab.words import LOWER_IS_BETTER, number_of

SHOWN = 2
"""Values that a line over all blocks names in a list; lines of one block name all."""
SAID_BY_VALUES = ("encoder", "loss", "model")
"""Axes whose values say what they are; a value of another axis, such as `both`, says it with the name of its axis."""


@dataclass(frozen=True)
class Verdict:
    """What one block says of some values (or variants), by the deciding metric.

    said: equal for blocks that say the same.
    sizes: of the differences that it names.
    largest: where no difference is significant, the largest of them, in words.
    """

    said: str
    sizes: list[float] = field(default_factory=list)
    largest: str = ""
    untested: str = ""

    def text(self, metric: str) -> str:
        low, high = min(self.sizes, default=0.0), max(self.sizes, default=0.0)
        span = f"{_signed(low)} {metric}" if low == high else f"{_signed(low)} to {_signed(high)} {metric}"
        size = f". The differences are {span}" if ". " in self.said else f" ({span})"
        return self.said + (size if self.sizes else self.largest) + self.untested


def find_answer(results: StudyResults, asked: Sequence[str | dict[str, Sequence[str]]] = ()) -> Answer:
    """asked: axes that the question is about, or of one a value and those to compare with it: the sentence is of them;
    otherwise of all axes."""
    only: dict[str, list[str]] = {}  # of an axis the names of these values
    for one in asked:
        if isinstance(one, dict):
            only |= {axis: [value_name(axis, str(value)) for value in some] for axis, some in one.items()}
    several = len(results.blocks) > 1
    names = {block.title: block.decided_by for block in results.blocks}
    phrases, findings = [], []
    axes = [axis for axis in results.axes if any(_of_axis(block, axis, results) for block in results.blocks)]
    for axis in axes:
        found = {block.title: of for block in results.blocks if (of := _of_axis(block, axis, results))}
        shown = {title: find_verdict(of, results, SHOWN) for title, of in found.items()}
        phrases.append(f"{axis}: {_over_blocks(shown, names, len(results.blocks))}")
        if several:
            findings += [
                f"{title}: {axis}: {find_verdict(of, results).text(names[title])}" for title, of in found.items()
            ]
    for block in results.blocks:
        best = _of_variants(block, results)
        if axes:
            findings.append(f"{block.title}: of single variants: {best}")
        else:
            phrases.append(f"{block.title}: {best}" if several else best)
        findings += [f"{block.title}: {line}" for line in [_against_baseline(block, results)] if line]
    finished = sum(record.state == "finished" and not record.is_automatic for record in results.records)
    is_complete = finished == results.planned
    start = "" if is_complete else f"So far ({finished} of {results.planned} runs): "
    sentence = _sentence(results, [axis for axis in axes if axis in asked or axis in only] or axes, only)
    if start and sentence.startswith(("The ", "No ", "For ")):
        sentence = sentence[0].lower() + sentence[1:]
    return Answer(start + sentence, [*phrases, *findings, *_order(results)], is_complete, _protocol(results))


def _sentence(results: StudyResults, axes: list[str], only: dict[str, list[str]]) -> str:
    """The largest difference that is significant, or that none is, with its interval: at most 25 words and names.

    only: of some axes the values that the question is about: the first is compared with each of the others.
    """
    tested, axis_of = [], {}
    for block in results.blocks:
        for axis in axes:
            for one in _in_block(block, _of_axis(block, axis, results)):
                if axis not in only or _is_asked({one[1], one[2]}, only[axis]):
                    tested.append(one)
                    axis_of[id(one[3])] = axis
    if all(one[3].untested for one in tested):  # single variants may have the seeds that a whole axis has not
        axes = []
        pairs = [one for block in results.blocks for one in _in_block(block, _variant_pairs(block, results))]
        tested = pairs or tested
    if not tested:
        return _of_variants(results.blocks[0], results) + "."
    known = [one for one in tested if not one[3].untested]
    if not known:
        return f"The differences were {not_tested(tested[0][3].untested)}."
    significant = [one for one in known if one[3].is_significant(results.method.alpha)]
    block, a, b, of = max(significant or known, key=lambda one: abs(one[3].difference))
    where = f" on {_short_title(block, results)}" if len(results.blocks) > 1 else ""
    size = f"{_signed(of.difference)} {block.decided_by} [{_signed(of.low)}, {_signed(of.high)}]"
    axis = axis_of.get(id(of), "")
    of_axis = f"For {axis}, " if axis and axis not in SAID_BY_VALUES and "=" not in a else ""
    are = "is" if len(significant) == 1 else "are"
    first = only[axes[0]][0] if len(axes) == 1 and axes[0] in only else ""  # all of these differences are to it
    if significant:
        of_all = f"{len(known)} differences{f' to {first}' if first else ''}"
        others = f"; {len(significant)} of {of_all} {are} significant" if len(known) > 1 else ""
        return f"{of_axis}{a} is significantly better than {b}{where}: {size}{others}."
    if len(known) == 1 and only and axes:
        return f"{of_axis}{a} and {b} do not differ significantly{where}: {size}."
    if not axes:
        what = "No variant is significantly better"
    elif first:
        what = f"{of_axis}no difference to {first} is significant"
        what = what[0].upper() + what[1:]
    else:
        what = f"The choice of {' or '.join(axes)} makes no significant difference"
    return f"{what}; the largest, {a} minus {b}{where}, is {size}."


def _is_asked(pair: set[str], asked: Sequence[str]) -> bool:
    """Whether it is the first of the values and another of them."""
    return asked[0] in pair and len(pair & set(asked)) == 2


def _in_block(block: Block, pairs: list[tuple[str, str, Difference]]) -> list[tuple[Block, str, str, Difference]]:
    """Each with the better of the two first."""
    return [(block, *_better_first(one)) for one in pairs]


def _better_first(one: tuple[str, str, Difference]) -> tuple[str, str, Difference]:
    a, b, of = one
    is_better = of.difference <= 0 if of.metric in LOWER_IS_BETTER else of.difference >= 0
    return (a, b, of) if is_better else (b, a, of.turned())


def _short_title(block: Block, results: StudyResults) -> str:
    """The name of its data set, with that of the split where another block has the same data and metric."""
    others = [one for one in results.blocks if one.decided_by == block.decided_by]  # the sentence names the metric
    if sum(one.dataset == block.dataset for one in others) == 1:
        return block.dataset
    short = f"{block.dataset} {block.split.split()[0]}"
    alike = sum(f"{one.dataset} {one.split.split()[0]}" == short for one in others)
    return short if alike == 1 else block.title


def find_verdict(tested: Iterable[tuple[str, str, Difference]], results: StudyResults, most: int = 1000) -> Verdict:
    """Of all differences between some values: first value, second value, first minus second in the deciding metric.

    Args:
        most: values named in a list.
    """
    tested = [_better_first(one) for one in tested]
    known = [one for one in tested if not one[2].untested]
    in_a_test = {value for a, b, _ in known for value in (a, b)}
    reasons: dict[str, list[str]] = {}  # why -> values that are in no test
    for a, b, of in tested:
        for value in sorted({a, b} - in_a_test):
            reasons.setdefault(of.untested, []).append(value)
    if not known:
        return Verdict(" and ".join(map(not_tested, reasons)))
    left_out = [f"{not_tested(reason)}: {listed(values, most)}" for reason, values in reasons.items()]
    untested = sentences(["", *left_out])
    significant = [one for one in known if one[2].is_significant(results.method.alpha)]
    beaten = {b for _, b, _ in significant}
    better: dict[str, list[str]] = {}  # a value -> those that it beats; first the values that none beats
    for a, b, _ in sorted(significant, key=lambda one: one[0] in beaten):
        better.setdefault(a, []).append(b)
    if better:
        texts = [f"{a} is significantly better than {listed(b, most)}" for a, b in better.items()]
        sizes = [of.difference for _, _, of in significant]
        left = len(texts) - most
        more = (
            [f"{number_of(left, 'more variant')} {'is' if left == 1 else 'are'} significantly better than others"]
            if left > 0
            else []
        )
        return Verdict(". ".join([*texts[:most], *more]), sizes, untested=untested)
    a, b, of = max(known, key=lambda one: abs(one[2].difference))
    metric = next(block.decided_by for block in results.blocks if block.comparison.deciding == of.metric)
    largest = (
        f". The largest, {a} minus {b}, is {_signed(of.difference)} {metric}. The test finds a difference of "
        f"{of.detectable:.4f} with 80 % power"
    )
    return Verdict("no difference is significant", largest=largest, untested=untested)


def _of_axis(block: Block, axis: str, results: StudyResults) -> list[tuple[str, str, Difference]]:
    return [
        (value_name(axis, effect.a), value_name(axis, effect.b), effect)
        for effect in block.effects
        if effect.axis == axis and effect.metric == block.comparison.deciding
    ]


def _of_variants(block: Block, results: StudyResults) -> str:
    """Of the variants that were asked for."""
    name = block.decided_by
    asked = [i for i, row in enumerate(block.comparison.rows) if not row.is_automatic]
    if len(asked) < 2:
        mean = block.comparison.rows[asked[0]].estimates[block.comparison.deciding].mean
        return f"{block.lines[asked[0]].name} ({mean:.4f} {name}) is the only variant, so nothing was compared"
    return find_verdict(_variant_pairs(block, results), results, SHOWN).text(name)


def _variant_pairs(block: Block, results: StudyResults) -> list[tuple[str, str, Difference]]:
    """Those of the variants that were asked for."""
    asked = {i for i, row in enumerate(block.comparison.rows) if not row.is_automatic}
    return [
        (block.lines[pair.a].name, block.lines[pair.b].name, pair)
        for pair in block.comparison.pairs
        if pair.metric == block.comparison.deciding and pair.a in asked and pair.b in asked
    ]


def not_tested(reason: str) -> str:
    """Why there is no p, in words for a sentence."""
    return f"not tested over seeds, because there is {ONE_SEED}" if reason == ONE_SEED else f"not tested ({reason})"


def _over_blocks(verdicts: dict[str, Verdict], metrics: dict[str, str], blocks: int) -> str:
    """Title of a block -> its verdict: blocks that say the same together, the most common first."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for title, verdict in verdicts.items():
        alike.setdefault((verdict.said, verdict.untested, metrics[title]), []).append(title)
    if blocks == 1:
        ((title, verdict),) = verdicts.items()
        return verdict.text(metrics[title])
    texts = []
    for (said, untested, metric), titles in sorted(alike.items(), key=lambda one: -len(one[1])):
        where = f"on all {blocks} data sets and splits" if len(titles) == blocks else f"on {listed(titles, SHOWN)}"
        sizes = [size for title in titles for size in verdicts[title].sizes]
        texts.append(f"{where}, {Verdict(said, sizes, untested=untested).text(metric)}")
    return sentences(texts)


def _signed(difference: float) -> str:
    """With its sign, and without a minus before a zero."""
    return show(difference, "+.4f").text


def _against_baseline(block: Block, results: StudyResults) -> str:
    """The best trained model and the best untrained one."""
    rows = block.comparison.rows
    untrained = [i for i, row in enumerate(rows) if row.is_counted]
    trained = [i for i, row in enumerate(rows) if not row.is_counted]
    if not untrained or not trained:
        return ""
    best, baseline = block.lines[trained[0]].name, block.lines[untrained[0]].name
    pair = block.pair_of(trained[0], untrained[0], block.comparison.deciding)
    if pair is None:
        return f"{best} and the best untrained baseline, {baseline}, were not compared"
    difference = pair.difference if pair.a == trained[0] else -pair.difference
    size = f"the difference is {_signed(difference)} {block.decided_by}"
    if pair.untested:
        return f"{best} and the best untrained baseline, {baseline}: {size}, {not_tested(pair.untested)}"
    if not pair.is_significant(results.method.alpha):
        return f"{best} and the best untrained baseline, {baseline}, do not differ significantly ({size})"
    how = "better" if (difference > 0) != (block.comparison.deciding in LOWER_IS_BETTER) else "worse"
    return f"{best} is significantly {how} than the best untrained baseline, {baseline} ({size})"


def _order(results: StudyResults) -> list[str]:
    """What becomes of the order where only the split differs; a phrase at most."""
    found = [one for one in results.orders if one.differs_in == ["split"]]
    if not found:
        return []
    flips = sum(flip.is_significant for one in found for flip in one.flips)
    pairs = sum(one.significant_pairs for one in found)
    taus = [one.tau for one in found]
    tau = f"tau {taus[0]:.2f}" if len(taus) == 1 else f"tau {min(taus):.2f} to {max(taus):.2f}"
    if not pairs:
        return [
            f"no pair of models differs significantly under both splits, so it is not known whether the order changes "
            f"with the split ({tau})"
        ]
    changes = f"changes for {flips}" if flips else "does not change for any"
    return [f"the order of models {changes} of the {pairs} pairs that differ significantly under both splits ({tau})"]


def _protocol(results: StudyResults) -> str:
    blocks = results.blocks
    seeds = sorted({len(row.runs) for block in blocks for row in block.comparison.rows if not row.is_counted})
    if not seeds or seeds == [1]:
        trained = "one seed"
    else:
        trained = number_of(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    data = blocks[0].title if len(blocks) == 1 else f"{len(blocks)} data sets and splits, each tested by itself"
    users = sorted(block.users for block in blocks)
    spread = f"{users[0]:,}" if users[0] == users[-1] else f"{users[0]:,} to {users[-1]:,}"
    tests = "Tests are over users and seeds, with Holm's correction over the whole study."
    return f"{data}; {spread} users, full ranking, {trained}. {tests}"
