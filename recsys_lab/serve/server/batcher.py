"""Batcher: questions that come one by one, answered many at once by one thread, with a bounded queue."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class BusyError(Exception):
    """The queue is full."""


class Batcher(Generic[Question, Answer]):
    """A batch is what has come since the one before began, so it is small where there is little to do.

    Args:
        work: in a thread: questions -> as many answers; an exception among them is that question's answer alone.
        max_batch: questions of one call. max_queue: that may wait beside these.
        seen: told the size of each batch.
        apart: seconds between the beginnings of a batch of several questions and the next: a batch costs much more
            than one question more in it. Who asks alone never waits.
    """

    def __init__(
        self,
        work: Callable[[list[Question]], Sequence[Answer | Exception]],
        max_batch: int,
        max_queue: int,
        seen: Callable[[int], object] = lambda size: None,
        apart: float = 0.0,
    ) -> None:
        self._work, self._max_batch, self._seen, self._apart = work, max_batch, seen, apart
        self._queue: asyncio.Queue[tuple[Question, asyncio.Future[Answer]]] = asyncio.Queue(max_queue)
        self._thread = ThreadPoolExecutor(1)
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    def start(self) -> None:
        """In the event loop that asks."""
        self._task = asyncio.create_task(self._run())

    async def ask(self, question: Question, timeout: float) -> Answer:
        """
        Raises:
            BusyError: when the queue is full. TimeoutError: when there is no answer in time; a question that still
            waits then is dropped.
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((question, future))
        except asyncio.QueueFull:
            raise BusyError from None
        return await asyncio.wait_for(future, timeout)

    async def close(self) -> None:
        """What was begun is finished; what waits is not answered."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._queue.get()]
            while len(batch) < self._max_batch and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            batch = [(question, future) for question, future in batch if not future.done()]  # some have given up
            if not batch:
                continue
            self._seen(len(batch))
            begun = loop.time()
            try:
                answers = await loop.run_in_executor(self._thread, self._work, [question for question, _ in batch])
                if len(answers) != len(batch):
                    raise RuntimeError(f"{len(answers)} answers to {len(batch)} questions")
            except Exception as error:  # of the whole batch
                answers = [error] * len(batch)
            for (_, future), answer in zip(batch, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
            if len(batch) > 1 and self._queue.qsize() < self._max_batch:
                await asyncio.sleep(begun + self._apart - loop.time())
