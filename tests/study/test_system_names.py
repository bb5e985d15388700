"""Names of the systems of one variant: what a person can read of what tells them apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recsys_lab.runs.finished import Run
from recsys_lab.runs.seeds import find_systems

CATEGORY = {"name": "category", "scope": "item", "kind": "categorical", "size": 5, "width": 1, "known_at": "before"}
PRICE = CATEGORY | {"name": "price", "scope": "event", "kind": "numeric"}
GAPS = {"class_path": "recsys_lab.models.blocks.time_features.GapBuckets", "init_args": {}}
HOURS = {"class_path": "recsys_lab.models.blocks.time_features.HourOfDay", "init_args": {"utc_offset": 2}}


def names(*systems: dict[str, Any]) -> tuple[list[str], str]:
    runs = [
        Run(Path(str(place)), {"variant": "gru4rec", "seed": 0, "system": of, "system_hash": str(place)}, {})
        for place, of in enumerate(systems)
    ]
    for run in runs:
        run.manifest["evaluation"] = {}
    found, notes = find_systems(runs)
    return [system.name for system in found], " ".join(notes)


def test_fields_have_the_names_that_are_typed() -> None:
    one = {"data": {"fields_hash": "1a", "fields": [CATEGORY]}, "evaluation": {"candidates": "all"}}
    two = {"data": {"fields_hash": "2b", "fields": [PRICE, CATEGORY]}, "evaluation": {"candidates": "cold"}}
    found, note = names(one, two)
    assert found == [
        "gru4rec (fields=[item.category], candidates=all)",
        "gru4rec (fields=[price, item.category], candidates=cold)",
    ]
    assert "data.fields: [item.category], [price, item.category]; evaluation.candidates: all, cold" in note


def test_a_hash_is_named_where_nothing_else_differs() -> None:
    assert names({"data": {"data_hash": "1a"}}, {"data": {"data_hash": "2b"}})[0][1] == "gru4rec (data_hash=2b)"


def test_classes_have_their_names() -> None:
    found, _ = names({"model": {"inputs": {"time": [GAPS]}}}, {"model": {"inputs": {"time": [GAPS, HOURS]}}})
    assert found[1] == "gru4rec (time=[GapBuckets, HourOfDay(utc_offset=2)])"
