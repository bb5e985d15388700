"""LiveModel: the model that a server answers with at one moment, its items and their titles: replaced as one."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from recsys_lab.data.fitting.fitted_fields import FittedField
from recsys_lab.runs.run_files import file_sha256
from recsys_lab.serve.item_ids import Unknown
from recsys_lab.serve.item_index import Kind, use_index
from recsys_lab.serve.predictor import Predictor
from recsys_lab.serve.run_data import titles
from recsys_lab.words import RecsysLabError

log = logging.getLogger("recsys_lab")


@dataclass(frozen=True)
class LiveModel:
    """name: of the run and its checkpoint. titles: by item id; empty where there are none."""

    predictor: Predictor
    name: str
    titles: dict[Any, str]

    @classmethod
    def load(
        cls,
        run: str | Path,
        unknown: Unknown = "skip",
        data_dir: str | None = None,
        allow_classes: Sequence[str] = (),
        index: Kind = "exact",
    ) -> LiveModel:
        """See `Predictor.load` and `use_index`. A link is followed once, so that all comes from one run."""
        predictor = Predictor.load(Path(run).resolve(), unknown=unknown, allow_classes=allow_classes)
        use_index(predictor, index)
        loaded = predictor.loaded
        found, about = titles(loaded.folder, predictor.spec, data_dir)
        log.info("%s", about)
        known = (
            {}
            if found is None
            else dict(zip(*found.drop_nulls("title").to_dict(as_series=False).values(), strict=True))
        )
        place = loaded.checkpoint if loaded.folder is None else loaded.folder
        predictor.recommend([[predictor.item_ids.raw[0]]], 1)  # what is made at the first question
        return cls(predictor, f"{place.name}-{file_sha256(loaded.checkpoint)[:12]}", known)

    def checked(self, fields: dict[str, Any], scope: str = "event") -> dict[str, Any]:
        """Values by field as a caller gave them, lists of them for fields of events -> as they can be read.

        Raises:
            RecsysLabError: for a field that the model is not fed, and what can't be a value of one.
        """
        reader, found = self.predictor.reader, {}
        reader.check_names(fields, "event" if scope == "one event" else None)
        for key, given in fields.items():
            one = reader.fields[key]
            is_list = scope == "event" and one.scope == "event"
            if is_list and not isinstance(given, list):
                raise RecsysLabError(f"fields: {key!r} is of events: a list with a value for each, not {given!r}")
            values = [fitting(one, value) for value in (given if is_list else [given])]
            for before, after in zip(given if is_list else [given], values, strict=True):
                if after is None and before is not None:
                    raise RecsysLabError(f"fields: {before!r} can't be a value of the {one.kind} field {key!r}")
            found[key] = values if is_list else values[0]
        return found

    def found(self, words: str, limit: int) -> list[tuple[Any, str | None]]:
        """Items whose title, or id, holds the words; those with the most training events first."""
        hits = self._names.filter(pl.col("text").str.contains(words.lower(), literal=True)).head(limit)
        return [(item, self.titles.get(item)) for item in hits["item_id"].to_list()]

    @cached_property
    def to_explain(self) -> Predictor:
        """The same with a model of its own: explanations put other vectors into it, and lists are made beside them."""
        other = copy.copy(self.predictor)
        other.model = copy.deepcopy(self.predictor.model)
        return other

    @cached_property
    def _names(self) -> pl.DataFrame:
        ids = self.predictor.item_ids.raw
        texts = [f"{item} {self.titles.get(item, '')}".lower() for item in ids.to_list()]
        counts = self.predictor.loaded.item_counts[1:].numpy(force=True)
        frame = pl.DataFrame({"item_id": ids, "text": texts, "count": counts})
        return frame.sort("count", descending=True, maintain_order=True)


def fitting(one: FittedField, value: Any) -> Any:
    """A value of JSON as the field can take it, whatever others are beside it; None for what can't be one.

    The events of a user outlive a model: what the next one can't read is missing there, and no error.
    """
    if value is None:
        return None
    if one.kind == "categorical":
        return None if isinstance(value, list) else _text(value)
    if one.kind == "multi":
        flat = value if isinstance(value, list) else [value]
        return None if any(isinstance(part, list) for part in flat) else [_text(v) for v in flat if v is not None]
    if one.kind == "vector":
        is_one = isinstance(value, list) and len(value) == one.dimension and all(map(_is_number, value))
        return value if is_one else None
    return float(value) if _is_number(value) else None


def _text(value: Any) -> str:
    """Numbers and texts of one field are compared as texts."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
