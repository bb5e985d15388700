"""For every test: one thread, so that float sums don't depend on the machine; the same random numbers, whatever ran
before it; processes that start warm; and a small prepared data set."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from shared_parser import shared_parser
from tiers import is_asked_for
from warm import ADDRESS, WarmPopen, start_server

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a job that a shell put in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Nothing heavy is imported above: the first process of pytest-xdist runs no test, and its workers wait for it.
gc.disable()  # until the tests are collected: what is imported stays
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["RECSYS_LAB_CACHE"] = os.path.join(tempfile.gettempdir(), f"recsys_lab-cache-of-tests-{os.getpid()}")
atexit.register(shutil.rmtree, os.environ["RECSYS_LAB_CACHE"], ignore_errors=True)  # no test reads or writes the user's


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="every tier: the tests marked process and slow too")


def pytest_configure(config: pytest.Config) -> None:
    """One server of warm processes for all workers of pytest-xdist."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        os.environ[ADDRESS] = start_server()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves the tests of later tiers out (`tiers.py`), unless `--all`, `-m` or their name asks for them."""
    if config.getoption("--all") or config.getoption("markexpr"):
        return
    here = config.invocation_params.dir
    runs = {
        item: is_asked_for((mark.name for mark in item.iter_markers()), item.nodeid, item.path, config.args, here)
        for item in items
    }
    config.hook.pytest_deselected(items=[item for item in items if not runs[item]])
    items[:] = [item for item in items if runs[item]]
    try_fewer_examples(items)


def try_fewer_examples(items: list[pytest.Item]) -> None:
    """The first tier draws a third of the examples of each of hypothesis's tests; `--all` draws all of them."""
    tests = {item.obj for item in items if getattr(getattr(item, "obj", None), "is_hypothesis_test", False)}  # type: ignore[attr-defined]
    for test in tests:
        whole = test._hypothesis_internal_use_settings
        test._hypothesis_internal_use_settings = type(whole)(whole, max_examples=-(-whole.max_examples // 3))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What a test draws, or a fixture that is made for it, does not depend on the tests that ran before."""
    import random

    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def pytest_collection_finish(session: pytest.Session) -> None:
    """The garbage collector looks at what tests make, and no longer at a million objects of imported packages."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def one_parser() -> Iterator[None]:
    """The parser of each command is built once; a process that a test starts builds its own."""
    with shared_parser():
        yield


@pytest.fixture(scope="session", autouse=True)
def short_waits() -> Iterator[None]:
    """Who started a run looks more often whether it has ended: those of tests are short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recsys_lab.study.launch.local.POLL_SECONDS", 0.01)
        yield


@pytest.fixture(scope="session", autouse=True)
def warm_processes() -> Iterator[None]:
    """`subprocess.Popen` and `subprocess.run` of this Python don't import torch anew each time (`warm.py`)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", WarmPopen)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_second_pytest() -> Iterator[None]:
    """Lightning starts the program of this process again for each further device: not where that is pytest."""
    from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

    def refuse(*_: object) -> None:
        raise AssertionError("a fit of several processes inside pytest: start it as a process of its own")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_SubprocessScriptLauncher, "_call_children_scripts", refuse)
        yield


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """`made_once(name, make)`: the folder that `make(folder)` filled, once for all workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made-once"
    shared.mkdir(exist_ok=True)

    def folder_of(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with (shared / f"{name}.lock").open("w") as lock, locked(lock):
            if not done.exists():
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return folder_of


@contextmanager
def locked(file: IO[str]) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # no locks here: whoever comes second fails loudly at mkdir
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 users, 9 of them long enough to be evaluated, with histories of 2 to 14 events, times, three event types."""
    from small_data import made_events, prepared

    return prepared(tmp_path_factory.mktemp("prepared") / "small", made_events()).path
