"""Made results of a study: every part filled, without a run. Numbers are drawn, so nothing here tests statistics."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np

from recsys_lab.diagnose.slice_values import Part, Slice, Sliced
from recsys_lab.runs.comparison import Comparison, Row, find_against
from recsys_lab.runs.finished import Run
from recsys_lab.statistics.pairs import Method, Pair
from recsys_lab.statistics.rule import Estimate
from recsys_lab.study.results import (
    Answer,
    AuditFacts,
    AxisEffect,
    Block,
    Caution,
    Curve,
    Flip,
    Line,
    OrderAgreement,
    Record,
    StudyResults,
)
from recsys_lab.study.tune.results import SearchResult, Trial, TuningResults

METRICS = ("hit_rate", "ndcg", "mrr")
NASTY = "tanh <b>&amp; </script> 'x'"
"""A name that breaks a page which does not escape it."""
BASELINES = ("popularity", "markov-backoff-1.0", "item_knn-history-last")


def made_results(variants: int = 5, blocks: int = 2, seeds: int = 3, epochs: int = 30) -> StudyResults:
    """`variants` of an encoder x length grid in each of `blocks` data sets, and three counted baselines."""
    draw = np.random.default_rng(0)
    names = [f"encoder=enc{i // 2} · max_length={20 + 30 * (i % 2)}" for i in range(variants - 1)] + [NASTY]
    places = {name: 0.12 - 0.05 * i / variants for i, name in enumerate([*names, *BASELINES])}
    made = [_block(f"data-{b}", names, places, seeds, epochs, draw) for b in range(blocks)]
    return StudyResults(
        name="made <study>",
        question="Which encoder & which length is better?",
        file=Path("experiments/made/study.yaml"),
        select="val/ndcg@10",
        axes={"encoder": ["enc0", "enc1"], "max_length": ["20", "50"]},
        states={"finished": variants * seeds * blocks, "failed": 1},
        planned=variants * seeds * blocks + 1,
        commits=["0123456789abcdef"],
        generated="2026-01-02T03:04:05Z",
        cutoff=10,
        metrics=METRICS,
        deciding="ndcg",
        method=Method(),
        blocks=made,
        answer=Answer("enc0 beats <enc1> by 0.0123 ndcg@10.", ["data-0: enc0 > enc1", "data-1: no difference"], False),
        multiplicity="Holm over 30 pairs.",
        cautions=[
            Caution("unconverged", "2 runs stopped at max_epochs while still improving.", "data-0"),
            Caution("leaky", "leave_one_out trains on the future of its <targets>.", "data-0"),
            Caution("single_seed", "one seed says little.", severity="note"),
        ],
        orders=[_order(a, b, names) for a, b in combinations(made, 2)],
        records=[record for block in made for record in block.records]
        + [Record("enc9", "enc9", {}, 0, "failed", Path("runs/made/enc9/seed0"), reason="ValueError: <boom> & more")],
    )


def made_tuning(searches: int = 3, trials: int = 8) -> TuningResults:
    """Searches of so many trials each, the first one failed, with curves that cross."""
    draw = np.random.default_rng(1)

    def trial(search: int, number: int) -> Trial:
        value = None if number == 0 else 0.08 + 0.01 * search + draw.normal(0, 0.02 / (1 + search))
        state = "failed" if number == 0 else "pruned" if number == 2 else "complete"
        settings = {"model.dropout": 0.1 * number, "model.<odd>": "a & b"} if number else {}
        return Trial(number, settings, state, value, 10, 12.0 + number, folder=Path(f"runs/made/tune/trial{number}"))

    found = [
        SearchResult(
            f"enc{i}" if i else NASTY,
            {"encoder": f"enc{i}"},
            [f"enc{i}"],
            Path("runs/made/tune"),
            [trial(i, k) for k in range(trials)],
            "max",
            {"model.dropout": {"low": 0.0, "high": 0.5}},
            "some data",
        )
        for i in range(searches)
    ]
    where = Path("runs/made/tune")
    return TuningResults("made", where, "val/ndcg@10", ["encoder"], trials, "random", "median", found)


def _block(
    key: str, names: list[str], places: dict[str, float], seeds: int, epochs: int, draw: np.random.Generator
) -> Block:
    means = {name: max(0.001, place + draw.normal(0, 0.004)) for name, place in places.items()}
    order = sorted(means, key=lambda name: -means[name])
    rows = [_row(name, means[name], 1 if name in BASELINES else seeds, name in BASELINES) for name in order]
    comparison = Comparison(rows, 10, rows[0].runs[0].evaluation, [], METRICS, Method())
    for i in range(1, len(rows)):
        for metric in METRICS:
            gap = rows[i].estimates[metric].mean - rows[0].estimates[metric].mean
            pair = Pair(
                a=0,
                b=i,
                metric=metric,
                difference=-gap,
                standard_error=0.002,
                df=4.0,
                users=943,
                effect_size=-10 * gap,
                p_value=0.001,
                low=-gap - 0.004,
                high=-gap + 0.004,
                p_corrected=0.01 if metric == "ndcg" else float("nan"),
                detectable=0.006,
            )
            comparison.pairs.append(pair)
    find_against(comparison)
    letters = ["a" if i < 2 else "ab" if i < 3 else "b" for i in range(len(rows))]
    lines = [
        Line(
            name=name,
            match=name,
            values=dict(part.split("=") for part in name.split(" \u00b7 ") if name.startswith("encoder=")),
            label=f"label{i}",
            letters="" if name in BASELINES else letters[i],
            seeds=list(range(seeds)),
            stopped_by=["counted"] if name in BASELINES else ["max_epochs", "patience"],
            epochs=None if name in BASELINES else float(epochs),
            best_epoch=None if name in BASELINES else epochs - 5.0,
        )
        for i, name in enumerate(order)
    ]
    ours = [i for i, name in enumerate(order) if name not in BASELINES]
    return Block(
        key=key,
        title=f"{key} · leave_one_out (leaky)",
        dataset=key,
        split="leave_one_out (leaky)",
        is_retrained=False,
        values={"data.dataset": key},
        comparison=comparison,
        lines=lines,
        effects=[_effect("encoder", "enc0", "enc1", 0.006), _effect("max_length", "50", "20", 0.001)],
        curves=[_curve(i, order[i], seed, epochs, means[order[i]], draw) for i in ours for seed in range(seeds)],
        slices=_slices(order[:2], rows),
        audit=AuditFacts("data/made/audit.json", None, "audit.json can't be <read>"),
        records=[
            Record(order[i], order[i], {}, seed, "finished", run.folder, "id", key, False, run.manifest, run.metrics)
            for i, row in enumerate(rows)
            for seed, run in enumerate(row.runs)
        ],
        users=943,
        targets=943,
    )


def _row(name: str, mean: float, seeds: int, is_automatic: bool) -> Row:
    manifest = {
        "model": "Markov" if is_automatic else "SASRec",
        "loss": "none" if is_automatic else "CrossEntropy",
        "stopped_by": "counted" if is_automatic else "max_epochs",
        "parameters": 0 if is_automatic else int(1e5 + 4e6 * mean),
        "train_seconds": 1.0 if is_automatic else 600 * mean,
        "tokens_per_second": None if is_automatic else 50_000.0,
        "command": f"recsys-lab fit --config run.yaml --run.variant '{name}'",
        "commit": "0123456789abcdef",
        "dirty": False,
        "device": "cpu",
        "evaluation": {
            "dataset": "made",
            "data_hash": "d" * 16,
            "split": "leave_one_out (leaky)",
            "split_hash": "5" * 16,
            "vocabulary_hash": "e" * 16,
            "test_targets": 943,
            "exclude_seen": "history",
            "ties": "expected",
            "cold_targets": "miss",
        },
    }
    runs = [
        Run(Path(f"runs/made/v/seed{seed}"), {**manifest, "seed": seed}, {"test/nll": 6.1, "test/ece": 0.07})
        for seed in range(seeds)
    ]
    factor = {"hit_rate": 1.9, "ndcg": 1.0, "mrr": 0.7}
    return Row(
        name,
        runs,
        {},
        {metric: Estimate(mean * f, 0.004, 943) for metric, f in factor.items()},
        {metric: None if seeds == 1 else 0.002 for metric in METRICS},
        {metric: (mean * f - 0.008, mean * f + 0.008) for metric, f in factor.items()},
        is_automatic=is_automatic,
    )


def _effect(axis: str, a: str, b: str, difference: float) -> AxisEffect:
    p = 0.001 if abs(difference) > 0.003 else 0.5
    return AxisEffect(
        axis=axis,
        a=a,
        b=b,
        metric="ndcg",
        difference=difference,
        standard_error=0.0015,
        df=4.0,
        users=943,
        effect_size=0.1,
        p_value=p,
        low=difference - 0.003,
        high=difference + 0.003,
        p_corrected=p,
        detectable=0.004,
        settings={"max_length=20": difference},
    )


def _curve(row: int, name: str, seed: int, epochs: int, top: float, draw: np.random.Generator) -> Curve:
    steps = np.arange(epochs)
    values = top * (1 - np.exp(-steps / 6)) + draw.normal(0, 0.001, epochs)
    values[1::7] = np.nan  # an epoch without validation
    return Curve(row, name, seed, "val/ndcg@10", steps, 3.0 * (steps + 1), values, epochs - 5, "max_epochs")


def _slices(names: list[str], rows: list[Row]) -> Sliced:
    def one(dimension: str, label: str, users: int) -> Slice:
        parts = [Part(name, 0.1 + 0.01 * i, 0.08, 0.13, 0.5) for i, name in enumerate(names)]
        return Slice(dimension, label, users, users, users / 943, parts)

    found = [one("history_length", label, 300) for label in ("1-4", "5-9", "10+")]
    found += [one("popularity", str(k), 90 if k > 1 else 12) for k in range(1, 11)]
    return Sliced("ndcg", 10, Method(), one("all", "all", 943), found, rows[0].runs[0].evaluation)


def _order(a: Block, b: Block, names: list[str]) -> OrderAgreement:
    flips = [Flip(names[0], names[1], 0.01, -0.01, True)]
    pairs = len(names) * (len(names) - 1) // 2
    return OrderAgreement(a.key, b.key, "ndcg", names, 0.8, pairs, 0.9, 0.85, 3, flips, ["dataset"])
