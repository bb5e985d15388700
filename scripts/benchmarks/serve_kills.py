"""Kills the server by SIGKILL while events are written, starts it again, and looks for each event that it acknowledged.

    python scripts/benchmarks/serve_kills.py                          # 20 kills, one Markdown table
    python scripts/benchmarks/serve_kills.py --kills 3 --items 500    # fewer
    python scripts/benchmarks/serve_kills.py --events redis://127.0.0.1:6379/0

Four writers post events with ids of their own, without a pause. After the kill every acknowledged event must be there,
once. What was posted without an answer is posted again, and must then be there once, too. The exit code is 1 if an
event is lost or there twice.
"""

from __future__ import annotations

import argparse
import http.client
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from harness import head, line
from serving import Server, made_checkpoint

WRITERS = 4
WITHIN = 5.0
"""Seconds in which it should be up again."""


class Writer(threading.Thread):
    """Posts events of one user until the server is gone.

    acknowledged: ids that were answered with 200. open: the events whose answer did not come.
    """

    def __init__(self, server: Server, user: str, items: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.server, self.user, self.draw, self.items = server, user, random.Random(seed), items
        self.acknowledged: list[str] = []
        self.open: list[dict[str, Any]] = []

    def run(self) -> None:
        number = 0
        while True:
            size = self.draw.randint(1, 5)
            events = [
                {"id": f"{self.user}-{number + n}", "item_id": self.draw.randrange(self.items), "timestamp": number + n}
                for n in range(size)
            ]
            number += size
            try:
                status, _ = self.server.ask("POST", "/events", {"user": self.user, "events": events})
            except (OSError, http.client.HTTPException, ValueError):
                self.open = events
                return
            if status == 200:
                self.acknowledged += [str(event["id"]) for event in events]


class Kills:
    """The server that is killed, and the next one. Arguments as for `Server`."""

    def __init__(self, run: Path, events: str, log: Path, items: int, seed: int) -> None:
        self.run, self.events, self.log, self.items = run, events, log, items
        self.draw, self.name = random.Random(seed), log.parent.name
        self.server = Server(run, events, log)

    def one(self, number: int) -> dict[str, Any]:
        """One kill. -> what was found after it."""
        first = number * WRITERS
        names = [f"{self.name}-{place}" for place in range(first, first + WRITERS)]
        writers = [Writer(self.server, name, self.items, self.draw.randrange(1 << 30)) for name in names]
        for writer in writers:
            writer.start()
        moment = 0.1 + 1.4 * self.draw.random()
        time.sleep(moment)
        self.server.kill()
        for writer in writers:
            writer.join(60)
        server = self.server = Server(self.run, self.events, self.log)
        lost = twice = kept = 0
        for writer in writers:
            found = stored(server, writer.user)
            kept += sum(event["id"] in found for event in writer.open)
            if writer.open:
                status, _ = server.ask("POST", "/events", {"user": writer.user, "events": writer.open})
                assert status == 200, status
                found = stored(server, writer.user)
            wanted = [*writer.acknowledged, *(str(event["id"]) for event in writer.open)]
            lost += sum(id not in found for id in wanted)
            twice += sum(count > 1 for count in found.values())
        return {
            "moment": moment,
            "acknowledged": sum(len(writer.acknowledged) for writer in writers),
            "unanswered": sum(len(writer.open) for writer in writers),
            "kept": kept,
            "lost": lost,
            "twice": twice,
            "up_s": server.start_s,
        }


def stored(server: Server, user: str) -> Counter[str]:
    """How often each id is stored."""
    status, said = server.ask("GET", f"/users/{user}/events")
    return Counter(event["id"] for event in said["events"]) if status == 200 else Counter()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--events", help="as of `recsys-lab serve` (default: a file of its own)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    asked = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="serve-kills-") as base:
        folder = Path(base)
        run = made_checkpoint(folder, "SASRec", asked.items)
        events = asked.events or str(folder / "events.sqlite")
        kills = Kills(run, events, folder / "server.txt", asked.items, asked.seed)
        titles = ("kill", "after", "acknowledged", "lost", "unanswered, of these stored", "twice", "up again after")
        print(*head(*titles)[1:], sep="\n", flush=True)
        try:
            for number in range(asked.kills):
                row = kills.one(number)
                rows.append(row)
                cells = [number + 1, f"{row['moment']:.2f} s", f"{row['acknowledged']:,}", row["lost"]]
                cells += [f"{row['unanswered']}, {row['kept']}", row["twice"], f"{row['up_s']:.1f} s"]
                print(line(*cells), flush=True)
            code = kills.server.stop()
        finally:
            kills.server.kill()
    lost, twice = sum(row["lost"] for row in rows), sum(row["twice"] for row in rows)
    slow = sum(row["up_s"] > WITHIN for row in rows)
    print(f"\n{sum(row['acknowledged'] for row in rows):,} events acknowledged, {lost} lost, {twice} stored twice.")
    print(f"Up again within {WITHIN:g} s after {len(rows) - slow} of {len(rows)} kills.")
    return int(bool(lost or twice or code))


if __name__ == "__main__":
    sys.exit(main())
