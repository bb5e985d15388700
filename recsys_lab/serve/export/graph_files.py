"""A graph -> a file, in the formats that other programs load; and such a file, run."""

from __future__ import annotations

import gc
import importlib
import io
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from recsys_lab.serve.export.graphs import Scores
from recsys_lab.words import RecsysLabError

Format = Literal["torch-export", "onnx", "aot"]
ENDINGS: dict[str, str] = {"torch-export": ".pt2", "onnx": ".onnx", "aot": ".aot.pt2"}
NEEDS: dict[str, tuple[str, ...]] = {"torch-export": (), "onnx": ("onnx", "onnxscript", "onnxruntime"), "aot": ()}
TRACED_ROWS, MAX_ROWS = 3, 1 << 14
"""The batch that a graph is traced with, and the largest that it takes."""

Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
"""Inputs in their order -> outputs."""


def check_format(format: str) -> None:
    """Raises RecsysLabError for what this machine can't write: before anything is loaded."""
    missing = [name for name in NEEDS[format] if importlib.util.find_spec(name) is None]
    if missing:
        raise RecsysLabError(f"--format {format} needs {', '.join(missing)}: pip install 'recsys-lab[export]'")
    if format == "aot" and not (shutil.which("g++") or shutil.which("clang++")):
        raise RecsysLabError("--format aot needs a C++ compiler (g++ or clang++), and none is found")


def write_graph(graph: Scores, path: Path, format: Format, outputs: Sequence[str]) -> None:
    """Writes one graph. outputs: the names of what it gives."""
    made = tuple(one.made(TRACED_ROWS) for one in graph.inputs)
    rows = torch.export.Dim("rows", min=1, max=MAX_ROWS)
    dims = {"given": tuple({one.batch_dim: rows} for one in graph.inputs)}
    with quiet(), torch.no_grad():
        program = torch.export.export(graph, made, dynamic_shapes=dims, strict=False)
        if format == "torch-export":
            torch.export.save(program, path)
        elif format == "aot":
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))
        else:
            names = [one.name for one in graph.inputs]
            written = torch.onnx.export(
                program, (), input_names=names, output_names=list(outputs), dynamo=True, verbose=False
            )
            assert written is not None
            written.save(path, external_data=False)
    del program
    gc.collect()  # tracing makes classes below that of the model, of the same name, which a later fit would find


def open_graph(path: Path, format: Format) -> Run:
    """What runs a file that `write_graph` wrote, on one thread."""
    if format == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]
        return lambda given: list(session.run(None, dict(zip(names, given, strict=True))))
    with quiet():
        loaded: Any = (
            torch._inductor.aoti_load_package(str(path)) if format == "aot" else torch.export.load(path).module()
        )

    def run(given: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            found = loaded(*map(torch.from_numpy, given))
        return [part.numpy() for part in (found if isinstance(found, tuple | list) else (found,))]

    return run


@contextmanager
def quiet() -> Iterator[None]:
    """Exporters talk of their own progress."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "torch._inductor")]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)
