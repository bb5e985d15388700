"""ChosenScorer: another scorer over the item table of any encoder (`--model.scorer`)."""

from __future__ import annotations

from typing import Any

from recsys_lab.config import Configurable
from recsys_lab.contracts import Scorer
from recsys_lab.models.blocks.item_table import ItemTable, TiedScorer
from recsys_lab.words import RecsysLabError


class ChosenScorer(Configurable, Scorer):
    """Is made without sizes, as a setting; `attach` gives it the table, and creates its weights."""

    items: ItemTable

    def attach(self, items: ItemTable) -> None:
        self.items = items

    @property
    def num_rows(self) -> int:
        return self.items.num_embeddings

    @property
    def scores_untrained(self) -> bool:  # type: ignore[override]
        return not self.items.is_plain

    def replace_in(self, model: Any) -> None:
        """Takes the place of the scorer of a model that was just built.

        Raises:
            RecsysLabError: where that is not a product with an item table.
        """
        if not isinstance(model.scorer, TiedScorer):
            raise RecsysLabError(
                f"--model.scorer {type(self).__name__}: {type(model).__name__} has a scorer of its own, "
                f"{type(model.scorer).__name__}, and no item table to score with"
            )
        self.attach(model.scorer.items)
        model.scorer = self
