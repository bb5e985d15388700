"""The data card and the leakage audit of a prepared data set under a split: `audit(data, split)` -> plain data.

Functions over numpy arrays, one concern per file; 10 million events take seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recsys_lab.audit.card import data_card
from recsys_lab.audit.checks import MEANINGS, checks, failures, parse_thresholds
from recsys_lab.audit.field_facts import cold_items, field_facts
from recsys_lab.audit.leakage import leakage
from recsys_lab.audit.log import Log
from recsys_lab.audit.order import order_facts
from recsys_lab.audit.recommended import recommendation_facts
from recsys_lab.audit.rules import order_rules
from recsys_lab.config import to_config
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.data.split.leave_one_out import Split

__all__ = ["MEANINGS", "audit", "failures", "parse_thresholds"]

FORMAT = "recsys_lab.audit"
FORMAT_VERSION = 1


def audit(data: ProcessedDataset, split: Split, recommendations: Path | None = None) -> dict[str, Any]:
    """Everything that `audit.json` holds. The same data and split give the same content, to the last bit.

    Args:
        recommendations: file of a model's recommendations, see `recommendation_facts`.

    Raises:
        RecsysLabError: when the split can't be applied to this data, or the recommendations don't belong to it.
    """
    log = Log.of(data)
    parts = split.of(data)
    source = data.manifest["source"]
    found: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "dataset": {
            "name": data.name,
            "data_hash": data.data_hash,
            "vocabulary_hash": data.vocabulary_hash,
            "source": source.get("name"),
            "licence": source.get("licence"),
            "settings": data.manifest["settings"],
        },
        "split": {
            "name": split.describe(),
            "leaky": split.leaky,
            "split_hash": f"{parts.val.digest()}-{parts.test.digest()}",
            "config": to_config(split),
        },
        "card": data_card(log, data.event_type_names) | _as_prepared(data),
        "fields": field_facts(data, log, parts),
        "cold_items": cold_items(data, log, parts),
        "order": order_facts(log),
        "rules": order_rules(log),
        "leakage": leakage(log, parts),
        "recommendations": recommendation_facts(data, log, recommendations) if recommendations else None,
    }
    return found | {"checks": checks(found)}


def _as_prepared(data: ProcessedDataset) -> dict[str, Any]:
    """What each filter of `prepare` left, and what was left out before."""
    return {"steps": data.manifest.get("steps", []), "left_out": data.manifest.get("left_out", {})}
