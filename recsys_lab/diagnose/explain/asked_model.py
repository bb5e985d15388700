"""AskedModel: one history and one item, as a model is asked about them with others in the place of some events."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from recsys_lab.contracts import Batch
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.blocks.user_token import without_token
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.words import RecsysLabError

EVENTS_AT_ONCE = 1 << 14
"""Rows times events that are encoded at once."""
DRAWS = 8
"""Stand-ins for each event."""
SCORES_AT_ONCE = 1 << 23
"""Rows times items that are scored at once."""


class AskedModel:
    """The log-probability of an item among the candidates, after one history, and with **stand-ins** for some of its
    events. A stand-in has the place and the time of the event, an item that is drawn as often as items train, and the
    fields of another event of the history: what the model might as well have met there. Means are over several draws.

    An empty vector in place of the event is nothing that the model ever met: encoders that normalise their inputs make
    something large of it. And an event that is taken away moves all that came before it.

    Args:
        model: in evaluation mode, of a task that ranks, with one `EventEmbedding`.
        batch: of one row, without padding.
        item: its row in the item table.
        item_counts: (V,) training events of each item.
        is_candidate: (V,) bool: the items that the probability is among; None = those with training events.
        draws: K, of the stand-ins.
        seed: of these.

    Raises:
        RecsysLabError: for a model that encodes no events.
    """

    def __init__(
        self,
        model: NextItemModule,
        batch: Batch,
        item: int,
        item_counts: Tensor,
        is_candidate: Tensor | None = None,
        draws: int = DRAWS,
        seed: int = 0,
    ) -> None:
        self.model, self.item, self.draws, self.seed = model, item, draws, seed
        self.item_counts = item_counts
        self.is_candidate = item_counts > 0 if is_candidate is None else is_candidate
        self.embedding = event_embedding(model)
        # the items that ranking leaves out and their like are nothing to an encoder
        self.batch = batch.windows(torch.zeros(1, dtype=torch.int64, device=batch.item_ids.device))
        self.length = int(batch.lengths[0])

    # -- what the events are made of -----------------------------------------------------------------------------------

    @cached_property
    def parts(self) -> dict[str, Tensor]:
        """Name -> (1, L, D): what the vectors of the events are made of, and a stand-in has others of."""
        return self._read(self.batch)

    @cached_property
    def names(self) -> list[str]:
        """Of `parts`: the item, fields of the items and of the events."""
        with torch.no_grad():
            of_item = self.embedding.items.split(self.batch.item_ids[:, :1])
        return [*of_item, *(field.name for field in self.embedding.event_fields)]

    @cached_property
    def stand_ins(self) -> dict[str, Tensor]:
        """Name -> (K, L, D)."""
        draw = torch.Generator().manual_seed(self.seed)
        shape = (self.draws, self.length)
        items = torch.multinomial(self.item_counts.float().cpu(), self.draws * self.length, True, generator=draw)
        others = torch.randint(self.length, shape, generator=draw)
        rows = torch.arange(self.draws).unsqueeze(1)
        copies = self.batch.windows(torch.zeros(self.draws, dtype=torch.int64, device=self.batch.lengths.device))
        event = {name: values[rows, others] for name, values in copies.event.items()}
        return self._read(replace(copies, item_ids=items.view(shape).to(copies.item_ids.device), event=event))

    def _read(self, batch: Batch) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}

        def read(split: dict[str, Tensor]) -> dict[str, Tensor]:
            found.update({name: split[name][:, : self.length].detach() for name in self.names})
            return split

        with torch.no_grad(), exchanged(self.embedding, read):
            self.model.query(batch)
        return found

    # -- what is asked -------------------------------------------------------------------------------------------------

    @cached_property
    def whole(self) -> float:
        """The log-probability after the history as it is."""
        with torch.no_grad():
            return float(self.log_probability(self.model.query(self.batch))[0])

    @cached_property
    def nothing(self) -> float:
        """The same after a history of stand-ins."""
        return float(self.keeping(torch.zeros(1, self.length, dtype=torch.bool))[0])

    def keeping(self, kept: Tensor, of: str | None = None) -> Tensor:
        """(S, L) bool -> (S,) float64: the mean log-probability with stand-ins for the other events. Many rows go
        through the model at once.

        Args:
            of: the one part of the stand-ins that is taken; None = all.
        """
        names = self.names if of is None else [of]
        row = torch.arange(len(kept)).repeat_interleave(self.draws)  # (S K,)
        draw = torch.arange(self.draws).repeat(len(kept))
        found = []
        with torch.no_grad():
            for rows, draws in zip(row.split(self.rows_at_once), draw.split(self.rows_at_once), strict=True):
                is_own = kept[rows].unsqueeze(2).to(self.batch.item_ids.device)  # (s, L, 1)
                own, others = self.parts, self.stand_ins
                given = {name: torch.where(is_own, own[name], others[name][draws]) for name in names}
                found.append(self.of_parts(given))
        return torch.cat(found).double().cpu().view(len(kept), self.draws).mean(dim=1)

    def of_batch(self, batch: Batch) -> Tensor:
        """(S,) float64 log-probabilities after other histories."""
        with torch.no_grad():
            every = torch.arange(len(batch), device=batch.lengths.device)
            parts = [batch.windows(rows) for rows in every.split(self.rows_at_once)]
            return torch.cat([self.log_probability(self.model.query(part)) for part in parts]).double().cpu()

    def of_parts(self, given: Mapping[str, Tensor]) -> Tensor:
        """Name -> (S, L, D), of some of `names` -> (S,) log-probabilities, through which gradients go."""
        rows = len(next(iter(given.values())))
        batch = self.batch.windows(torch.zeros(rows, dtype=torch.int64, device=self.batch.lengths.device))

        def exchange(split: dict[str, Tensor]) -> dict[str, Tensor]:
            # what an encoder appends to the history, as BERT4Rec does its masked event, stays
            longer = {name: torch.cat([values, split[name][:, self.length :]], dim=1) for name, values in given.items()}
            return split | longer

        with exchanged(self.embedding, exchange):
            return self.log_probability(self.model.query(batch))

    def log_probability(self, query: Tensor) -> Tensor:
        """(S, D) -> (S,) of the item, by the softmax of the candidates' scores."""
        return torch.cat([self._of_rows(rows) for rows in query.float().split(self.scores_at_once)])

    def _of_rows(self, query: Tensor) -> Tensor:
        table = self._table
        if table is None:
            scores = self.model.scorer.all_scores(query)
        else:
            weight, bias = table
            scores = query @ weight.T if bias is None else torch.addmm(bias, query, weight.T)  # (S, V)
        own = scores[:, self.item]
        return own - scores.masked_fill(~self._among, float("-inf")).logsumexp(dim=1)

    @cached_property
    def _among(self) -> Tensor:
        among = self.is_candidate.clone()
        among[self.item] = True
        return among

    @cached_property
    def _table(self) -> tuple[Tensor, Tensor | None] | None:
        """The item table of the scores, made once: (V, D) and (V,)."""
        with torch.no_grad():
            blocks = list(self.model.scorer.linear_blocks() or ())
        if not blocks:
            return None
        weights = [_usable(block.weight) for block in blocks]
        biases = [_usable(block.bias) for block in blocks if block.bias is not None]
        weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        return weight, torch.cat(biases) if biases else None

    @property
    def rows_at_once(self) -> int:
        return max(1, EVENTS_AT_ONCE // self.length)

    @property
    def scores_at_once(self) -> int:
        return max(1, SCORES_AT_ONCE // len(self.item_counts))


def _usable(rows: Tensor) -> Tensor:
    """Rows through which a gradient can go: those that lists were made with before may be of inference mode."""
    return rows.clone() if rows.is_inference() else rows.detach()


def event_embedding(model: Any) -> EventEmbedding:
    """The one that makes the vectors of a model's events.

    Raises:
        RecsysLabError: where there is none, as in counted models, or several.
    """
    found = [module for module in model.modules() if isinstance(module, EventEmbedding)]
    if len(found) == 1:
        return found[0]
    name = type(model).__name__
    if hasattr(model, "is_counted"):
        raise RecsysLabError(f"{name} counts, and encodes no events: nothing of it can be explained event by event")
    raise RecsysLabError(
        f"{name} has {len(found) or 'no'} EventEmbedding (recsys_lab.models.blocks.embedding): an explanation needs "
        "the one that makes the vectors of its events"
    )


@contextmanager
def exchanged(embedding: EventEmbedding, exchange: Any) -> Iterator[None]:
    """While it is open the vectors of events are made of what `exchange` gives for `EventEmbedding.split`: in this
    thread alone, since a server may make lists with the same model beside it."""
    own = threading.get_ident()

    def hook(module: Any, inputs: tuple[Batch], output: Tensor) -> Tensor | None:
        if threading.get_ident() != own:
            return None
        events = without_token(inputs[0]) if embedding.user_first else inputs[0]
        vectors = embedding.joined(exchange(embedding.split(events)))
        return torch.cat([output[:, :1], vectors], dim=1) if embedding.user_first else vectors

    handle = embedding.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def without_events(batch: Batch, kept: Tensor) -> Batch:
    """A batch of one row, and (S, L) bool, as many in each row and one at least -> S rows with these events alone: what
    came before an event that is gone moves up."""
    place = kept.nonzero()[:, 1].view(len(kept), -1).to(batch.item_ids.device)  # (S, K)
    rows = torch.zeros(len(kept), dtype=torch.int64, device=batch.item_ids.device)
    copies = batch.windows(rows)

    def chosen(values: Tensor) -> Tensor:
        index = place.reshape(*place.shape, *[1] * (values.ndim - 2)).expand(*place.shape, *values.shape[2:])
        return values.gather(1, index)

    return replace(
        copies,
        item_ids=chosen(copies.item_ids),
        valid_mask=chosen(copies.valid_mask),
        timestamps=chosen(copies.timestamps),
        lengths=torch.full_like(copies.lengths, place.shape[1]),
        event={name: chosen(values) for name, values in copies.event.items()},
    )
