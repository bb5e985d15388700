"""What decides which events a model trains on, and how they are cut into windows: as plain data, and as one hash. And
what its test numbers depend on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_lab.config import from_config, to_config
from recsys_lab.data.split.leave_one_out import LeaveOneOut
from recsys_lab.data.split.target_types import apply_split
from recsys_lab.data.training_counts import counted
from recsys_lab.words import RecsysLabError

if TYPE_CHECKING:
    from recsys_lab.data.datamodule import SequenceDataModule
    from recsys_lab.data.split.leave_one_out import SplitResult, Targets

NOT_HASHED = ("split_config", "train_until")
"""Kept to apply the same split again, and to see what it trains on; other settings say the same already."""


def training_settings(data: SequenceDataModule, retrained_from: SplitResult) -> dict[str, Any]:
    """Of the training part as it is used. `data_hash` covers the filters, the order of ties and the fields.

    Args:
        retrained_from: the split before the validation part joined the training part: its targets chose the epoch.
    """
    stop = data.split_result.train_stop
    fitted = data.fitted_fields
    own = [
        data.processed.field_hash(one.key) for one in fitted if one.key in data.processed.fields
    ]  # the hash of the data covers ids and times alone
    values = hashlib.sha256(json.dumps(own).encode()).hexdigest()[:16]
    fields = {"fields": [asdict(f) for f in fitted.fields], "fields_hash": fitted.hash, "field_values_hash": values}
    fields = fields if len(fitted) else {}
    return (
        fields
        | _behaviours(data)
        | {
            "data_hash": data.processed.data_hash,
            "split": data.split.describe(),
            "train_hash": hashlib.sha256(np.ascontiguousarray(stop, dtype=np.int64).tobytes()).hexdigest()[:16],
            "val_hash": retrained_from.val.digest(),
            "retrained": data.retrained,
            "max_length": data.max_length,
            "stride": 1 if data.training_mode == "last_position" else data.stride or data.max_length,
            "training_mode": data.training_mode,
            "max_windows_per_user": data.max_windows_per_user,
            "num_event_types": data.processed.num_event_types,
            "has_timestamps": data.processed.has_timestamps,
            "split_config": _config_of(data.split),
            "train_until": _newest(data, stop),
        }
    )


def _behaviours(data: SequenceDataModule) -> dict[str, Any]:
    """What is set of it: runs of before have none."""
    derived = any(one.key not in data.processed.fields for one in data.fitted_fields)  # `same_session`
    named = {
        "target_types": data.target_types,
        "weights": to_config(data.weights),
        "window_within": data.sessions if data.window_within == "session" else None,
        "sessions": data.sessions if derived else None,
        **_shown(data),
        "labels": _labels(data),
    }
    return {name: value for name, value in named.items() if value is not None}


def _shown(data: SequenceDataModule) -> dict[str, Any]:
    """What was shown, where that is what trains and is tested: the hash of the data covers events alone."""
    given = data.impressions_given
    return {} if given is None else {"shown": to_config(given), "shown_hash": data.processed.shown_hash}


def _labels(data: SequenceDataModule) -> list[str] | None:
    """What is predicted, and the hash of the values that the training part has: None where a task asks for none."""
    samples = data.samples
    of = " of the event itself" if samples.with_target_event else ""
    return [*(f"{name}{of}" for name in samples.labels), data.fitted_labels.hash] if samples.labels else None


def _of_test(data: SequenceDataModule) -> dict[str, Any]:
    seen = data.sessions if data.exclude_seen == "session" else None
    named = {
        "target_types": data.target_types,
        "exclude_seen_types": data.exclude_seen_types,
        "exclude_seen_session": seen,
        "available": data.available,
        **_shown(data),
        "labels": _labels(data),
    }
    return {name: value for name, value in named.items() if value is not None}


def evaluation_settings(data: SequenceDataModule, val: Targets) -> dict[str, Any]:
    """`SequenceDataModule.evaluation_settings`. val: the validation targets of the split, whether they train or not."""
    result = data.split_result
    return {
        "dataset": data.spec.dataset,
        "data_hash": data.spec.data_hash,
        "vocabulary_hash": data.spec.vocabulary_hash,
        "tie_order": data.processed.manifest["settings"].get("tie_order"),
        "split": data.spec.split,
        "split_hash": f"{val.digest()}-{result.test.digest()}",
        "split_warning": data.split.warning,
        "retrained": data.retrained,
        "exclude_seen": data.exclude_seen,
        **_of_test(data),
        "val_targets": len(val),
        "test_targets": len(result.test),
        **({} if result.test.query is None else {"test_queries": len(np.unique(result.test.query))}),
        "cold_test_targets": int((data.item_counts[data.events.item_ids[result.test.position]] == 0).sum()),
        "not_evaluated": result.dropped,
        **_best_possible(data),
    }


def _best_possible(data: SequenceDataModule) -> dict[str, Any]:
    """What the best model can expect of the test targets, where the data says it of these."""
    known = data.processed.manifest.get("best_possible")
    is_asked = known is not None and isinstance(data.split, LeaveOneOut) and data.exclude_seen == known["exclude_seen"]
    return {"best_possible": known["test"]} if known is not None and is_asked and data.target_types is None else {}


def training_hash(settings: dict[str, Any]) -> str:
    """16 hex digits."""
    hashed = {name: value for name, value in settings.items() if name not in NOT_HASHED}
    return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:16]


def sees_targets(trained: dict[str, Any], data: SequenceDataModule, stage: str) -> bool:
    """Whether a model that was trained under the settings `trained` knows events that are at or after a target.

    On the same events this is looked at per user: a training event at or after the target, or a target that chose the
    epoch. Where the asked split leaks nothing (one cut in time for all users), an event of *any* user at or after the
    first target counts, too. On other events only their times can tell; where they can't, the answer is yes.

    Args:
        trained: `DataSpec.training` of the checkpoint.
        stage: whose targets, `val` or `test`.
    """
    targets = getattr(data.split_result, stage)
    if not len(targets):
        return False
    before = trained.get("started_from")  # a warm start knows what the run knew that it began with
    if before is not None and sees_targets(before["training"], data, stage):
        return True
    until, times = trained.get("train_until"), data.events.timestamps
    first = int(np.min(times[targets.position])) if data.processed.has_timestamps else None
    is_before = until is not None and first is not None and until < first
    if trained.get("data_hash") != data.processed.data_hash:
        return not is_before
    if not data.split.leaky and not is_before:
        return True
    try:
        split = from_config(trained["split_config"])
        whole = apply_split(split, data.processed, trained.get("target_types"))
        used = whole.final if trained["retrained"] and whole.final is not None else whole
    except (RecsysLabError, KeyError, TypeError):
        return True  # a split that can't be applied again
    chose = stage != "val" and np.isin(targets.position, whole.val.position).any()
    return bool((used.train_stop[targets.user_index] > targets.position).any() or chose)


def _config_of(split: Any) -> Any:
    try:
        return to_config(split)
    except TypeError:  # a split of the user's own with arguments that are no plain data
        return None


def _newest(data: SequenceDataModule, stop: np.ndarray) -> int | None:
    """Time of the newest training event."""
    if not data.processed.has_timestamps:
        return None
    newest: int | None = counted(data.processed, "newest", stop)
    return newest
