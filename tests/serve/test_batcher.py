"""Batcher: each question gets its own answer, and which questions are answered together."""

from __future__ import annotations

import asyncio

import pytest

from recsys_lab.serve.server.batcher import Batcher, BusyError


def test_a_batcher_answers_each_with_its_own_and_stops() -> None:
    async def run() -> None:
        batcher: Batcher[int, int] = Batcher(lambda all: [ValueError("odd") if n % 2 else n * n for n in all], 4, 9)
        batcher.start()
        found = await asyncio.gather(*(batcher.ask(n, 5) for n in range(9)), return_exceptions=True)
        assert [str(one) for one in found] == ["0", "odd", "4", "odd", "16", "odd", "36", "odd", "64"]
        await batcher.close()
        broken: Batcher[int, int] = Batcher(lambda all: [1 // 0], 4, 1)
        broken.start()
        with pytest.raises(ZeroDivisionError):
            await broken.ask(1, 5)
        await broken.close()
        short: Batcher[int, int] = Batcher(lambda all: all[1:], 4, 9)
        short.start()
        for _ in range(2):  # it goes on
            with pytest.raises(RuntimeError, match="0 answers to 1 questions"):
                await short.ask(1, 5)
        await short.close()
        never: Batcher[int, int] = Batcher(lambda all: all, 4, 1)
        with pytest.raises(TimeoutError):
            await never.ask(1, 0.01)
        with pytest.raises(BusyError):
            await never.ask(2, 0.01)

    asyncio.run(run())


def test_after_a_batch_of_several_the_next_waits_for_company_and_who_asks_alone_does_not() -> None:
    """`apart` is an hour where a wait would be wrong, so that the test would never end."""
    sizes: list[int] = []

    def square(all: list[int]) -> list[int]:
        sizes.append(len(all))
        return [n * n for n in all]

    async def run(apart: float, max_batch: int = 4) -> Batcher[int, int]:
        sizes.clear()
        batcher: Batcher[int, int] = Batcher(square, max_batch, 9, apart=apart)
        batcher.start()
        return batcher

    async def alone_and_full() -> None:
        batcher = await run(3600.0)
        assert [await batcher.ask(n, 60) for n in range(5)] == [0, 1, 4, 9, 16] and sizes == [1] * 5
        await batcher.close()
        batcher = await run(3600.0, max_batch=2)  # as many wait as a batch may hold
        assert await asyncio.gather(*(batcher.ask(n, 60) for n in range(6))) == [0, 1, 4, 9, 16, 25]
        assert sizes == [2, 2, 2]
        await batcher.close()  # in its wait, which ends with it

    async def joined(apart: float) -> list[int]:
        batcher = await run(apart)
        await asyncio.gather(*(batcher.ask(n, 60) for n in range(3)))
        first = asyncio.create_task(batcher.ask(3, 60))
        await asyncio.sleep(0.05)
        assert await asyncio.gather(first, batcher.ask(4, 60)) == [9, 16]
        await batcher.close()
        return list(sizes)

    asyncio.run(alone_and_full())
    assert asyncio.run(joined(0.0)) == [3, 1, 1]
    assert asyncio.run(joined(1.0)) == [3, 2]
