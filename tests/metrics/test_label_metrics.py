"""Metrics of labels: equal to scikit-learn and torchmetrics, with ties and weights; and the values of single units."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as tm
from sklearn.metrics import accuracy_score, f1_score, log_loss

from recsys_lab.models.tasks.sequence_labels import class_values
from recsys_lab.ops.label_metrics import f1_of_classes


def made(seed: int, num: int = 300, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Logits with many ties, and labels that miss the last class."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 3, (num, classes)).astype(np.float32), rng.integers(0, classes - 1, num)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weighted", [False, True])
def test_equal_to_scikit_learn(seed: int, weighted: bool) -> None:
    logits, label = made(seed, classes=2 + 3 * (seed % 2))
    rng = np.random.default_rng(seed + 100)
    weight = rng.random(len(label)) * (rng.random(len(label)) > 0.2) if weighted else np.ones(len(label))
    values = {name: np.average(v, weights=weight) for name, v in class_values(logits, label, weight).items()}
    predicted, p = logits.argmax(1), torch.tensor(logits).double().softmax(1).numpy()
    kept = weight > 0  # scikit-learn counts the classes of units without weight
    expected = {
        "accuracy": accuracy_score(label, predicted, sample_weight=weight),
        "macro_f1": f1_score(label[kept], predicted[kept], average="macro", sample_weight=weight[kept]),
        "log_loss": log_loss(label, p, sample_weight=weight, labels=range(logits.shape[1])),
    }
    for name, value in expected.items():
        assert abs(values[name] - value) < 1e-9, name


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_torchmetrics(seed: int) -> None:
    logits, label = made(seed)
    values = {name: v.mean() for name, v in class_values(logits, label, np.ones(len(label))).items()}
    p, target, c = torch.tensor(logits).double().softmax(1), torch.tensor(label), logits.shape[1]
    predicted = torch.tensor(logits.argmax(1))
    assert abs(values["macro_f1"] - tm.multiclass_f1_score(predicted, target, c, average="macro").item()) < 1e-6
    assert abs(values["accuracy"] - tm.multiclass_accuracy(predicted, target, c, average="micro").item()) < 1e-6
    logits = logits + 1e-3 * np.arange(c)  # torchmetrics breaks ties its own way
    values = class_values(logits, label, np.ones(len(label)))
    p = torch.tensor(logits).double().softmax(1)
    error = tm.multiclass_calibration_error(p, target, c, n_bins=15, norm="l1").item()
    assert abs(values["calibration_error"].mean() - error) < 1e-6


@pytest.mark.parametrize("metric", ["macro_f1", "calibration_error"])
def test_a_units_value_is_the_metric_and_its_influence(metric: str) -> None:
    """What a little more weight of one unit does to the metric."""
    logits, label = made(7, num=60)
    weight = np.ones(len(label))
    values = class_values(logits, label, weight)[metric]
    for unit in (0, 13, 59):
        more = weight.copy()
        more[unit] += 1e-6
        after = np.average(class_values(logits, label, more)[metric], weights=more)
        slope = (after - values.mean()) / 1e-6
        assert abs(slope - (values[unit] - values.mean()) / len(label)) < 1e-5


def test_spread_of_macro_f1_is_that_of_resampled_units() -> None:
    logits, label = made(11, num=1500)
    values = class_values(logits, label, np.ones(len(label)))["macro_f1"]
    rng, predicted = np.random.default_rng(0), logits.argmax(1)
    drawn = []
    for _ in range(400):
        rows = rng.integers(0, len(label), len(label))
        drawn.append(np.nanmean(f1_of_classes(label[rows], predicted[rows], np.ones(len(rows)), 5)))
    assert 0.85 < values.std() / len(label) ** 0.5 / np.std(drawn) < 1.15


def test_one_class_and_no_unit() -> None:
    one = class_values(np.zeros((4, 3), np.float32), np.zeros(4, np.int64), np.ones(4))
    assert one["macro_f1"].mean() == one["accuracy"].mean() == 1.0
    none = class_values(np.zeros((0, 3), np.float32), np.zeros(0, np.int64), np.ones(0))
    assert all(len(values) == 0 for values in none.values())
    left_out = class_values(np.zeros((2, 3), np.float32), np.zeros(2, np.int64), np.zeros(2))
    assert np.isnan(left_out["macro_f1"]).all()
