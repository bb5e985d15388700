"""scripts/benchmarks/costs.py: what it makes of measured points; and one point of small events."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts" / "benchmarks"


@pytest.fixture(scope="module")
def costs() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        spec = importlib.util.spec_from_file_location("costs", SCRIPTS / "costs.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def measured(x: int, factor: float = 1.0) -> dict[str, float]:
    costs = {"prepare_s": 3.0 * x, "epoch_s": 0.1 * x**1.5, "evaluation_s": 2.0, "memory_mb": 0.0}
    return {"sweep": "items", "x": x, **{name: value * factor for name, value in costs.items()}}


def test_exponents_of_medians(costs: ModuleType) -> None:
    rows = [measured(x, factor) for x in (400, 100, 200) for factor in (1.0, 0.5, 7.0)]
    (points,) = costs.medians(rows).values()
    assert [point["x"] for point in points] == [100, 200, 400] and points[0]["prepare_s"] == 300.0
    found = {name: costs.exponent(points, name) for name in costs.COSTS}
    assert found.pop("memory_mb") is None, "there is no logarithm of 0"
    assert found == {"prepare_s": pytest.approx(1.0), "epoch_s": pytest.approx(1.5), "evaluation_s": pytest.approx(0.0)}
    assert costs.exponent(points[:1], "prepare_s") is None
    assert "| **exponent** | **1.00** | **1.50** | **0.00** |  |" in costs.page({"items": points})


def test_figure(costs: ModuleType, tmp_path: Path) -> None:
    points = [measured(x) for x in (100, 200)]
    costs.draw({"items": points, "width": points}, tmp_path / "costs.svg")
    text = (tmp_path / "costs.svg").read_text()
    assert all(word in text for word in ("items", "width", "training epoch", "seconds"))


def test_one_point(costs: ModuleType, tmp_path: Path) -> None:
    point = {"users": 30, "history": 9, "items": 20, "length": 8, "width": 8, "batch_size": 16, "threads": 1}
    point["folder"] = str(tmp_path)
    found = {**costs.measure_prepare(point), **costs.measure_train(point)}
    assert found["targets"] == 30 * 6, "without a user's first event, the validation and the test target"
    assert min(found["prepare_s"], found["epoch_s"], found["evaluation_s"]) > 0 and found["memory_mb"] >= 0
