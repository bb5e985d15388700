"""sidecar.json: what the numbers of an exported graph mean, so that whoever runs it needs nothing of recsys_lab."""

from __future__ import annotations

from typing import Any

import recsys_lab
from recsys_lab.data.fitting.fitted_fields import FIRST_VALUE, MISSING, FittedField
from recsys_lab.serve.export.graphs import Input, Scores
from recsys_lab.serve.predictor import Predictor

HOW = [
    "Item i has the raw id item_ids[i - 1]; 0 is padding. Histories hold only items that are there.",
    "item_ids is the newest max_length events, oldest first, zeros behind them; lengths says how many there are.",
    "scores has a column for each item, after column 0 for padding. Items without training events have -inf.",
    "Leave out what a user has had already, if that is wanted, and take the largest scores.",
    "A history without any known item has no window: recommend the items with the largest item_counts.",
]
SCALES = {
    "standard": "value",
    "log1p": "sign(value) * log(1 + |value|)",
    "quantile": "value by straight lines between knots [value, share]",
}
MEMORY = (
    "The step takes one event of each row, and memory of the event before; the memory before the first event is zeros."
)


def sidecar(predictor: Predictor, format: str, graphs: dict[str, Scores]) -> dict[str, Any]:
    """Plain data. graphs: by the name of their file."""
    spec, vocabulary = predictor.spec, predictor.loaded.vocabulary
    return {
        "recsys_lab": recsys_lab.__version__,
        "format": format,
        "model": type(predictor.model).__name__,
        "max_length": spec.max_length,
        **_sessions(predictor),
        "how": [*HOW, *([MEMORY] if len(graphs) > 1 else [])],
        "graphs": {name: {"inputs": [_input(one) for one in graph.inputs]} for name, graph in graphs.items()},
        "item_ids": vocabulary.item_ids.to_list(),
        "item_counts": predictor.loaded.item_counts[1:].tolist(),
        "fields": {one.key: field_entry(one) for one in vocabulary.fields if one.scope in ("event", "user")},
        "data": {
            "dataset": spec.dataset,
            "data_hash": spec.data_hash,
            "vocabulary_hash": spec.vocabulary_hash,
            "split": spec.split,
            "training_hash": spec.training_hash,
        },
    }


def field_entry(one: FittedField) -> dict[str, Any]:
    """How the values of a field become the numbers of its input."""
    if one.kind == "numeric":
        found: dict[str, Any] = {"kind": one.kind, "scale": one.scale, "mean": one.mean, "std": one.std}
        if one.scale == "quantile":
            found["knots"] = [list(knot) for knot in one.knots]
        return found | {"numbers": f"[({SCALES[one.scale]} - mean) / std, 0]; missing: [0, 1]; padding: [0, 0]"}
    if one.kind == "vector":
        return {"kind": one.kind, "size": one.dimension, "numbers": "the vector; missing and padding: zeros"}
    several = ", as many as there are, then zeros" if one.kind == "multi" else ""
    return {
        "kind": one.kind,
        "values": one.values.to_list(),
        "first_row": FIRST_VALUE,
        "numbers": f"first_row + place in values{several}; another value and padding: 0; missing: {MISSING}",
    }


def _sessions(predictor: Predictor) -> dict[str, Any]:
    """Of a model that was trained with them: what ends one, a field of the events or a pause."""
    ends = predictor.reader.sessions
    stops = "window_within" in predictor.spec.training
    return {} if ends is None else {"sessions": {"end": ends, "windows_hold_the_last_one_only": stops}}


def _input(one: Input) -> dict[str, Any]:
    shape: list[Any] = list(one.shape)
    shape.insert(one.batch_dim, "rows")
    return {"name": one.name, "of": one.of, "dtype": one.dtype, "shape": shape}
