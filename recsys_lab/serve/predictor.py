"""Predictor: a trained or counted model put to use for anybody, from its checkpoint alone.

predictor = Predictor.load("runs/ml-100k/sasrec/seed0")
predictor.recommend([[50, 172, 181], [1]], k=10)   # a frame: user, rank, item_id, score, source, note
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recsys_lab.contracts import Batch
from recsys_lab.evaluation.top_lists import top_lists
from recsys_lab.serve import user_state
from recsys_lab.serve.click_scores import click_scores
from recsys_lab.serve.histories import HistoryReader
from recsys_lab.serve.item_choice import ItemChoice
from recsys_lab.serve.item_ids import ItemIds, Unknown
from recsys_lab.serve.list_frame import Lists, UserLists, check_k
from recsys_lab.serve.list_rules import ListRules, without_unavailable
from recsys_lab.serve.loaded import LoadedModel, load_model
from recsys_lab.serve.popular import PopularItems
from recsys_lab.serve.questions import Questions, reads_times
from recsys_lab.serve.similar import similar_items
from recsys_lab.serve.user_state import UserState
from recsys_lab.words import RecsysLabError

log = logging.getLogger("recsys_lab")

PLACES_AT_ONCE = 1 << 20
"""Places of lists (users times K) that `recommend_in_parts` makes one frame of."""
Exclude = Literal["run", "history"] | Sequence[Any] | None
Candidates = Literal["all"] | Sequence[Any] | Mapping[Any, Any] | None


class Predictor:
    """Lists, scores and similar items. `Predictor.load` makes one.

    Args:
        loaded: the model and what the rows of its tables mean.
        unknown: what happens to item ids that the model does not know: `skip` counts them (`item_ids.skipped`) and
            warns once; `error` refuses them.
        batch_size: histories that are encoded at once.
        max_score_mb: bound on the memory of one block of scores.
    """

    def __init__(
        self, loaded: LoadedModel, unknown: Unknown = "skip", batch_size: int = 512, max_score_mb: int = 64
    ) -> None:
        self.loaded, self.model, self.spec = loaded, loaded.model.eval(), loaded.spec
        self.item_ids = ItemIds(loaded.vocabulary.item_ids, unknown)
        self.fields = loaded.vocabulary.fields
        self.batch_size, self.max_score_bytes = batch_size, max_score_mb << 20
        self.is_trained = loaded.item_counts > 0
        self.can_be_scored = self.is_trained.clone()
        self.can_be_scored[1:] |= self.model.scorer.scores_untrained
        self.popular = PopularItems(loaded.item_counts)
        self.rules = ListRules.of(loaded.vocabulary.lists)
        self.reader = HistoryReader(self.item_ids, self.fields, self.spec, self.rules)
        self.top_lists = top_lists  # `item_index.use_index` sets another
        self._told_times = False

    @classmethod
    def load(
        cls,
        run: str | Path,
        *,
        unknown: Unknown = "skip",
        allow_classes: Sequence[str] = (),
        device: str = "cpu",
        batch_size: int = 512,
        max_score_mb: int = 64,
    ) -> Predictor:
        """The predictor of a run folder (its best checkpoint) or of a checkpoint file. No prepared data is needed.

        Args:
            run: the folder or the file.
            allow_classes: classes or packages of others that the checkpoint may name: you trust them.
            device: of the model. The other arguments are those of the class.

        Raises:
            RecsysLabError: for what is no checkpoint of recsys_lab, or may not be read.
        """
        return cls(load_model(run, allow_classes, device), unknown, batch_size, max_score_mb)

    # -- lists ---------------------------------------------------------------------------------------------------------

    def recommend(
        self,
        histories: Any,
        k: int = 10,
        *,
        times: Any = None,
        fields: Mapping[str, Any] | None = None,
        exclude: Exclude = "run",
        blocked: Sequence[Any] | None = None,
        candidates: Candidates = None,
        query_time: Any = None,
        target_fields: Mapping[str, Any] | None = None,
    ) -> pl.DataFrame:
        """The best k items of each user, best first. Users that were never seen are the normal case.

        Args:
            histories: lists of raw item ids, oldest first, one for each user; the same by user, as a dict; or a frame
                of events (polars or pandas) with `user_id`, `item_id` and, where there is one, `timestamp`, by which a
                user's events are sorted. The model sees the newest `max_length` events that it knows.
            k: length of the lists.
            times: with lists: seconds since 1970 or datetimes of each event. Without them a model that reads times sees
                events that lie the mean gap of its training apart, and a line says so.
            fields: what the model was fed beside items. Of events (`price`) a list for each user; of users
                (`user.age`) a value for each. In a frame they are columns. What is not given is missing.
            exclude: `run` leaves out what the run's own lists do (`data.exclude_seen`, and of the types that
                `data.exclude_seen_types` names); `history` all of a user's own items; None nothing; a list of ids
                leaves out these, and not the history.
            blocked: ids that nobody is recommended, beside what `exclude` says.
            candidates: ids that lists are made of; or a list of ids for each user, or a dict of them by user. None =
                all items with training events, of a run with `data.available` those that can be had when the list is
                wanted. `all`, or an id that is named, takes in items without any, where
                the model scores them by their fields or vectors.
            query_time: when the lists are wanted: one time, or one for each user; for models that read it. Default: the
                time of the last event.
            target_fields: the fields of the event to predict, for models that read them: a value for each user.

        Returns:
            A frame: `user` (as in `histories`, or 0, 1, ..), `rank` from 1, `item_id`, `score`, `source` (`model`, or
            `popularity` where no event of the history is known), `note`: why a list is short or not the model's. A list
            without any item is a row without rank, item and score.

        Raises:
            RecsysLabError: for what can't be histories, times, fields or ids, naming it.
        """
        questions = self.questions(histories, times, fields, query_time, target_fields)
        return pl.concat([part.frame() for part in self.lists(questions, k, exclude, blocked, candidates)])

    def recommend_in_parts(
        self,
        histories: Any,
        k: int = 10,
        *,
        exclude: Exclude = "run",
        blocked: Sequence[Any] | None = None,
        candidates: Candidates = None,
        **asked: Any,
    ) -> Iterator[pl.DataFrame]:
        """`recommend`, in frames of about a million places each, at least one: memory does not grow with the users.

        Args:
            asked: the other arguments of `recommend`.
        """
        for part in self.lists(self.questions(histories, **asked), k, exclude, blocked, candidates):
            yield part.frame()

    def lists(
        self, questions: Questions, k: int, exclude: Exclude, blocked: Any, candidates: Any, query: Tensor | None = None
    ) -> Iterator[UserLists]:
        """What the frames are made of. query: of the only user, where it is known already."""
        check_k(k)
        self.model.check_ranks()
        read = questions.histories
        asked = (read.users, exclude, blocked, candidates, self.rules)
        choice = ItemChoice.of(self.item_ids, self.is_trained, self.can_be_scored, *asked)
        step = max(1, PLACES_AT_ONCE // k)
        for start in range(0, max(1, len(read)), step):
            users = np.arange(start, min(start + step, len(read)))
            lists = self._lists(questions, users, int(k), choice, query)
            yield UserLists(read, users, lists, int(k), choice, self.item_ids)

    def _lists(
        self, questions: Questions, users: np.ndarray, k: int, choice: ItemChoice, query: Tensor | None
    ) -> Lists:
        lists = Lists.empty(len(users), min(k, self.spec.num_rows))
        asked = (self.spec.max_length, self.batch_size, self.model.device, choice.hides, choice.by_types, choice.live)
        for rows, batch, shown in questions.batches_of_lists(users, *asked):
            self._fill(lists, rows, self.model, self.query(batch) if query is None else query, shown, choice, users)
        nothing = np.flatnonzero(questions.histories.known[users] == 0)
        if len(nothing):
            is_one = choice.allowed is None and choice.live is None  # without candidates of their own all are one
            few = nothing[:1] if is_one else nothing
            one, batch = self.popular.asked(len(few))
            if choice.live is not None:
                batch = without_unavailable(batch, choice.live, questions.moments(users[few]))
            self._fill(lists, few, self.popular, one, batch, choice, users)
            lists.repeat(few, nothing)
        return lists

    def _fill(
        self,
        lists: Lists,
        rows: np.ndarray,
        model: Any,
        query: Tensor,
        batch: Batch,
        choice: ItemChoice,
        users: np.ndarray,
    ) -> None:
        """rows: places in `users` of what `query` and `batch` hold."""
        k, allowed = lists.items.shape[1], choice.of_users(users[rows])
        with torch.inference_mode():
            found = self.top_lists(model, query, batch, choice.is_candidate, k, self.max_score_bytes, allowed)
            for part, items, scores in found:
                lists.put(rows[part], items, scores)

    # -- scores --------------------------------------------------------------------------------------------------------

    def score(self, histories: Any, items: Sequence[Any], **asked: Any) -> pl.DataFrame:
        """The scores of chosen items, also of those in the history.

        Args:
            histories: as for `recommend`.
            items: ids, the same for every user.
            asked: `times`, `fields`, `query_time` and `target_fields` of `recommend`; for a model of clicks `shown`.

        Returns:
            A frame: `user`, `item_id`, `score` (of clicks their probability), `source`; users and items as given. An
            item without training events has no score, unless the model knows more than its id.

        Raises: RecsysLabError as `recommend`; and for an item that the model does not know.
        """
        if not self.model.task.samples.windows:
            return click_scores(self, histories, items, **asked)
        read = (questions := self.questions(histories, **asked)).histories
        ids = torch.tensor([self.item_ids.row(raw) for raw in items], dtype=torch.int64, device=self.is_trained.device)
        scores = self.popular.counts[ids].float().repeat(len(read), 1)  # (U, C)
        everybody, device = np.arange(len(read)), self.model.device
        for rows, batch in questions.batches(everybody, self.spec.max_length, self.batch_size, device):
            query = self.query(batch)
            with torch.inference_mode(), torch.autocast(device.type, enabled=False):
                query = query.float() if query.is_floating_point() else query
                scores[torch.from_numpy(rows)] = self.model.scorer.scores(query, ids).float()
        scores[:, ~self.can_be_scored[ids]] = float("nan")
        return pl.DataFrame(
            {
                "user": read.users.gather(np.repeat(everybody, len(ids))),
                "item_id": self.item_ids.at(np.tile(ids.numpy(force=True), len(read))),
                "score": pl.Series(scores.numpy(force=True).ravel()).fill_nan(None),
                "source": np.repeat(np.where(read.known > 0, "model", "popularity"), len(ids)),
            }
        )

    def similar(self, item: Any, k: int = 10) -> pl.DataFrame:
        """The items that are most like one: by the cosine of their vectors, where scores are products with a table of
        them; else those that a history of this item alone is recommended.

        Returns:
            A frame: `rank`, `item_id`, `score`, `by` (`cosine` or `history`).

        Raises:
            RecsysLabError: when the model does not know the item.
        """
        row = self.item_ids.row(item)
        found = similar_items(self.model.scorer, row, self.is_trained, k)
        if found is None:
            lists = self.recommend([[item]], k).filter(pl.col("rank").is_not_null())
            return lists.select("rank", "item_id", "score", by=pl.lit("history"))
        rank, ids = pl.Series(range(1, len(found[0]) + 1), dtype=pl.Int32), self.item_ids.at(found[0])
        return pl.DataFrame({"rank": rank, "item_id": ids, "score": found[1], "by": ["cosine"] * len(ids)})

    # -- one user, an event at a time ----------------------------------------------------------------------------------

    def start(self, user: Any = 0, **fields: Any) -> UserState:
        """The state of a user without events.

        Args:
            user: any name.
            fields: of the user, by key: `**{"user.age": 30}`.
        """
        return user_state.start(self, user, fields)

    def step(self, state: UserState, event: Any) -> UserState:
        """The state after one more event; the one before stays what it was.

        A recurrent model goes on from its state, whatever the length of the history: afterwards it is what `encode`
        gives for the whole history, not for its newest window. One with attention keeps what the next event looks back
        at until its window is full; from then on, and always where a model has no `step`, `top` encodes the newest
        window, as `recommend` does. A state that another predictor made is made anew from its events.

        Args:
            event: an item's id; or a dict with `item_id`, `timestamp` (of each event of a user, or of none) and the
                fields of the event.

        Raises:
            RecsysLabError: for a time before that of the last event, and a field that the model is not fed.
        """
        return user_state.step(self, state, event)

    def top(
        self,
        state: UserState,
        k: int = 10,
        *,
        exclude: Exclude = "run",
        blocked: Sequence[Any] | None = None,
        candidates: Candidates = None,
        **asked: Any,
    ) -> pl.DataFrame:
        """The frame of `recommend` for the user of a state. asked: `query_time` and `target_fields`."""
        questions, query = user_state.questions(self, user_state.of_model(self, state), **asked)
        return next(self.lists(questions, k, exclude, blocked, candidates, query)).frame()

    # -- details -------------------------------------------------------------------------------------------------------

    def query(self, batch: Batch) -> Tensor:
        """What the scores of each row depend on, as evaluation asks for it."""
        with torch.inference_mode(), torch.autocast(self.model.device.type, enabled=False):
            return self.model.query(batch)

    def questions(
        self,
        histories: Any,
        times: Any = None,
        fields: Mapping[str, Any] | None = None,
        query_time: Any = None,
        target_fields: Mapping[str, Any] | None = None,
    ) -> Questions:
        read = self.reader.read(histories, times, fields)
        if not read.has_times and self.spec.has_timestamps:
            if query_time is not None:
                raise RecsysLabError("query_time needs the times of the events, too: times=, or a column timestamp")
            if not self._told_times and self.reads_times:
                gap = self.spec.mean_gap_seconds
                log.warning(
                    "the model reads times, and none are given: events are taken to lie %.0f s apart, the mean gap of "
                    "its training",
                    gap,
                )
            self._told_times = True
        return Questions.of(read, self.fields, query_time, target_fields, self.spec.training)

    @cached_property
    def reads_times(self) -> bool:
        """Whether the model's scores depend on when events were."""
        return reads_times(self)
