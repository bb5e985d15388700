"""How fast the server answers under a load that does not wait for it.

    python scripts/benchmarks/serve_load.py                                  # 300 and 900 requests/s, 60 s each
    python scripts/benchmarks/serve_load.py --rates 300 --seconds 600        # a soak: does its memory grow?

Open loop: requests start at random moments (Poisson) of the given mean rate, whatever became of those before, and the
time of each counts from the moment at which it was due. A slow server so gets no fewer requests, and its queue is in
the numbers. Client and server are processes of one machine and share its cores; `late ms` says how late the client
itself was. Each request asks for 10 items for a history of 20 that was not seen before.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path

from harness import Row, busy_cores, child, groups, head, line, measured, median, not_idle, parser_of, publish, run
from serving import Server, made_checkpoint

MODELS = ("SASRec", "GRU4Rec")
IDLE = 2.0
"""Seconds after which a connection is not used again."""
Pool = deque[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]]
"""Free connections, and since when: those that were used last are used next."""


def make(job: Row) -> Row:
    """The checkpoint, in a process of its own."""
    return {"path": str(made_checkpoint(Path(job["folder"]), job["model"], job["items"]))}


def load(job: Row) -> Row:
    """One rate against one new server."""
    from recsys_lab.runs.environment import describe_environment

    folder = Path(job["folder"])
    place = (Path(job["checkpoint"]), str(folder / "events.sqlite"), folder / "server.txt")
    server = Server(*place, job["threads"])
    try:
        draw = random.Random(job["seed"])
        asyncio.run(_sent(server, draw, 50.0, 2.0, job["items"]))  # warm
        cpu, begun = server.cpu_s(), time.monotonic()
        found = asyncio.run(_sent(server, draw, job["rate"], job["seconds"], job["items"]))
        spent = server.cpu_s() - cpu
        used = {"server_cores": spent / (time.monotonic() - begun), "cpu_ms": 1000 * spent / found["sent"]}
        alive = server.process.poll() is None
        code = server.stop()
    finally:
        server.kill()
    return {**found, **used, "crashed": not alive or code != 0, "environment": describe_environment()}


async def _sent(server: Server, draw: random.Random, rate: float, seconds: float, items: int) -> Row:
    pool: Pool = deque()
    statuses: Counter[str] = Counter()
    waited: list[float] = []
    late: list[float] = []
    rss: list[float] = []

    async def one(due: float, request: bytes) -> None:
        late.append(time.perf_counter() - due)
        try:
            status = await asyncio.wait_for(_asked(server.port, pool, request), 30)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            status = type(error).__name__
        statuses[status] += 1
        if status == "200":
            waited.append(time.perf_counter() - due)

    begin = due = time.perf_counter()
    running: set[asyncio.Task[None]] = set()
    told = begin
    while due - begin < seconds:
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        body = json.dumps({"history": [draw.randrange(items) for _ in range(20)], "k": 10}).encode()
        task = asyncio.create_task(one(due, _request(body)))
        running.add(task)
        task.add_done_callback(running.discard)
        if time.perf_counter() - told > seconds / 20:
            told = time.perf_counter()
            rss.append(server.rss_mb())
        due += draw.expovariate(rate)
    await asyncio.gather(*running)
    for _, writer, _ in pool:
        writer.close()
    return {
        "sent": sum(statuses.values()),
        "statuses": dict(statuses),
        "errors": sum(count for status, count in statuses.items() if status not in ("200", "429")),
        "refused": statuses["429"],
        **{f"p{percent}_ms": _percentile(waited, percent) for percent in (50, 99, 99.9)},
        "late_ms": _percentile(late, 99),
        "rss_mb": rss[len(rss) // 5] if rss else server.rss_mb(),  # after the first fifth
        "rss_end_mb": rss[-1] if rss else server.rss_mb(),
    }


def _request(body: bytes) -> bytes:
    start = "POST /recommend HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{start}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def _asked(port: int, pool: Pool, request: bytes) -> str:
    """The status of one request, on a connection that is free, or a new one."""
    while pool and time.monotonic() - pool[0][2] > IDLE:  # the server closes such ones soon
        pool.popleft()[1].close()
    reader, writer, _ = pool.pop() if pool else (*await asyncio.open_connection("127.0.0.1", port), 0.0)
    try:
        writer.write(request)
        header = await reader.readuntil(b"\r\n\r\n")
        length = int(header.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
    except BaseException:
        writer.close()
        raise
    if b"connection: close" in header.lower():
        writer.close()
    else:
        pool.append((reader, writer, time.monotonic()))
    return header.split(b" ", 2)[1].decode()


def _percentile(seconds: list[float], percent: float) -> float | None:
    return 1000 * sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * percent / 100))] if seconds else None


def main() -> int:
    parser = parser_of(__doc__, "serve_load.jsonl", rounds=1)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--rates", default="300,900", help="requests per second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--items", type=int, default=100_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as base:

        def rows() -> Iterator[Row]:
            for model in args.models.split(","):
                folder = Path(base) / model
                folder.mkdir()
                made = child(__file__, args.threads, kind="make", folder=str(folder), model=model, items=args.items)
                for number in range(args.rounds):
                    for rate in map(float, args.rates.split(",")):
                        job = {"rate": rate, "seconds": args.seconds, "items": args.items, "seed": number}
                        busy = busy_cores()
                        job |= {"checkpoint": made["path"], "folder": str(folder)}
                        row = child(__file__, args.threads, kind="load", **job)
                        yield {"model": model, "rate": rate, "round": number, "busy_cores_before": busy, **row}

        found, lines = measured(rows(), args, items=args.items, seconds=args.seconds)
    lines += head(
        "model",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "429",
        "errors",
        "late ms",
        "cores",
        "CPU ms each",
        "MB",
        "MB at the end",
    )
    names = ("p50_ms", "p99_ms", "p99.9_ms", "refused", "errors", "late_ms", "server_cores")
    names = (*names, "cpu_ms", "rss_mb", "rss_end_mb")
    for (model, rate), own in groups(found, "model", "rate"):
        values = [median(own, name) for name in names]
        lines.append(line(model, f"{rate:,.0f}", *("" if value is None else f"{value:,.1f}" for value in values)))
    crashed = [row for row in found if row["crashed"]]
    lines += ["", f"{len(crashed)} of {len(found)} servers crashed.", *not_idle(found)]
    return publish(lines, args.markdown) or int(bool(crashed))


JOBS = {"make": make, "load": load}

if __name__ == "__main__":
    sys.exit(run(main, JOBS))
