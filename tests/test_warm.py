"""Processes that start warm are processes as ever."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import warm_program
from warm import COLD

ROOT = Path(__file__).parent.parent
WARM = {name: value for name, value in os.environ.items() if name != COLD}
STARTS = [pytest.param(WARM, id="warm"), pytest.param(WARM | {COLD: "1"}, id="cold", marks=pytest.mark.process)]
SCRIPT = """
import atexit, json, os, subprocess, sys
atexit.register(print, "at exit")
facts = {"arguments": sys.argv[1:], "name": __name__, "folder": os.getcwd(), "place": sys.path[0], "file": __file__}
facts |= {"word": os.environ.get("WORD"), "read": sys.stdin.read(), "leads": os.getsid(0) == os.getpid()}
facts["warm"] = "lightning.pytorch" in sys.modules
print(json.dumps(facts))
print("to standard error", file=sys.stderr)
match sys.argv[1]:
    case "exit": sys.exit(int(sys.argv[2]))
    case "say": sys.exit("said at the end")
    case "fail": raise LookupError("not found")
    case "start": print(subprocess.run([sys.executable, __file__, "exit", "5"], stdin=subprocess.DEVNULL).returncode)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "script.py").write_text(SCRIPT)
    return tmp_path / "place" / "script.py"


@pytest.mark.parametrize("environment", STARTS)
def test_what_a_process_is_given(environment: dict[str, str], script: Path, tmp_path: Path) -> None:
    command: dict[str, Any] = {"env": environment | {"WORD": "a b"}, "cwd": tmp_path, "input": "typed", "text": True}
    done = subprocess.run([sys.executable, str(script), "none"], capture_output=True, start_new_session=True, **command)
    assert done.returncode == 0 and done.stderr == "to standard error\n"
    facts, end = done.stdout.splitlines()
    assert json.loads(facts) == {
        "arguments": ["none"],
        "name": "__main__",
        "folder": str(tmp_path),
        "place": str(script.parent),
        "file": str(script),
        "word": "a b",
        "read": "typed",
        "leads": True,
        "warm": COLD not in environment and sys.platform == "linux",
    }
    assert end == "at exit"


@pytest.mark.parametrize("environment", STARTS)
@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["exit", "0"], 0, "standard error"),
        (["exit", "130"], 130, "standard error"),
        (["say"], 1, "said at the end"),
        (["fail"], 1, "LookupError: not found"),
    ],
)
def test_how_a_process_ends(
    environment: dict[str, str], arguments: list[str], code: int, says: str, script: Path
) -> None:
    done = subprocess.run(
        [sys.executable, script, *arguments], env=environment, capture_output=True, text=True, input=""
    )
    assert done.returncode == code and done.stdout.endswith("at exit\n") and says in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("environment", STARTS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_reach_a_process(environment: dict[str, str], number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text("import time; print('here', flush=True); time.sleep(600)")
    process = subprocess.Popen(
        [sys.executable, tmp_path / "waits.py"], env=environment, stdout=-1, stderr=-1, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "here\n"
    assert process.poll() is None
    os.kill(process.pid, 0)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.send_signal(number)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == -number and ("KeyboardInterrupt" in said) == (number == signal.SIGINT)


def test_what_a_warm_process_starts_is_warm(script: Path) -> None:
    done = subprocess.run([sys.executable, script, "start"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.stdout.count('"warm": true') == 2 and done.stdout.endswith("at exit\n5\nat exit\n")


def test_a_warm_command_of_a_shell(tmp_path: Path) -> None:
    tools = {"PATH": f"{warm_program.install(tmp_path / 'bin')}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    words = ["bash", "-c", "recsys-lab --version && recsys-lab fitt"]
    done = subprocess.run(words, env=WARM | tools, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "recsys-lab " in done.stdout and "Did you mean 'fit'" in done.stderr


@pytest.mark.process
def test_a_cold_fit_is_the_warm_one(small_folder: Path, tmp_path: Path) -> None:
    """As users start it: nothing of a run depends on what was imported before."""
    options = ["--model", "SASRec", "--model.embedding_dim", "8", "--data.max_length", "8", "--trainer.max_epochs", "2"]
    options += ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--data.dataset", str(small_folder)]
    found = {}
    for name, environment in (("warm", WARM), ("cold", WARM | {COLD: "1"})):
        command = [sys.executable, "-m", "recsys_lab.cli", "fit", *options, "--run.folder", str(tmp_path / name)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found[name] = json.loads((tmp_path / name / "metrics.json").read_text())
    timed = {name for name in found["cold"] if "second" in name or "time" in name}
    assert {k: v for k, v in found["cold"].items() if k not in timed} == {
        k: v for k, v in found["warm"].items() if k not in timed
    }
