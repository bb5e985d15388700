"""What the measurements of the server share: a model of a made catalogue, a server process, a request."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harness import QUIET

LIMIT = 120.0
"""Seconds after which a server that has not started hangs."""


def made_checkpoint(folder: Path, model: str, items: int, dim: int = 64, length: int = 50) -> Path:
    """A checkpoint of a model with that many items, all of which train: one step, since more changes no speed."""
    import lightning as L
    import numpy as np
    import polars as pl

    from recsys_lab.data.datamodule import SequenceDataModule
    from recsys_lab.models import GRU4Rec, SASRec

    per_user = 20
    users = -(-items // (per_user - 2)) + 1  # leave-one-out takes the last two of each user
    user = np.repeat(np.arange(users), per_user)
    place = np.tile(np.arange(per_user), users)
    events = pl.DataFrame(
        {"user_id": user, "item_id": (user * (per_user - 2) + place) % items, "timestamp": place * 60}
    )
    data = SequenceDataModule.from_frames(
        events, name="made", data_dir=folder / "data", max_length=length, batch_size=32
    )
    made = {"SASRec": SASRec, "GRU4Rec": GRU4Rec}[model](embedding_dim=dim)
    trainer = L.Trainer(**QUIET, max_epochs=1, limit_train_batches=1, limit_val_batches=0, default_root_dir=folder)
    trainer.fit(made, data)
    trainer.save_checkpoint(folder / "model.ckpt")
    return folder / "model.ckpt"


class Server:
    """`recsys-lab serve` as a process, ready to answer.

    Args:
        run: what it serves. events: `--events`. log: the file that it writes to.
    """

    def __init__(self, run: Path, events: str, log: Path, threads: int = 1) -> None:
        command = [sys.executable, "-m", "recsys_lab.cli", "serve", str(run), "--port", "0", "--events", events]
        command += ["--threads", str(threads)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
        written = log.stat().st_size if log.exists() else 0
        started = time.monotonic()
        with log.open("ab") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)
        while not (found := re.search(r"at http://127\.0\.0\.1:(\d+)", log.read_text()[written:])):
            if self.process.poll() is not None or time.monotonic() - started > LIMIT:
                self.kill()
                raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")
            time.sleep(0.01)
        self.port = int(found[1])
        while not self._answers():
            if time.monotonic() - started > LIMIT:
                self.kill()
                raise RuntimeError("the server does not answer")
            time.sleep(0.01)
        self.start_s = time.monotonic() - started

    def _answers(self) -> bool:
        try:
            return self.ask("GET", "/health")[0] == 200
        except OSError:
            return False

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request on a connection of its own. Raises OSError or HTTPException without an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def rss_mb(self) -> float:
        """Memory of the process now (Linux)."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024  # type: ignore[index]

    def cpu_s(self) -> float:
        """Processor time that it took so far (Linux)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """As a person stops it. -> its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(60)
        finally:
            self.kill()
