"""A run -> a folder that holds its graphs, what their numbers mean, a model card, and the outcome of a check."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recsys_lab.serve.export.check import check_step, check_window
from recsys_lab.serve.export.graph_files import ENDINGS, Format, check_format, open_graph, write_graph
from recsys_lab.serve.export.graphs import Scores, StepScores, WindowScores, step_graph, window_graph
from recsys_lab.serve.export.model_card import model_card
from recsys_lab.serve.export.packed_table import Tables, pack, quality_lost, test_values
from recsys_lab.serve.export.sidecar import sidecar
from recsys_lab.serve.predictor import Predictor
from recsys_lab.serve.run_data import open_data
from recsys_lab.words import RecsysLabError


def export(
    run: str | Path,
    format: Format,
    output: str | Path,
    allow_classes: Sequence[str] = (),
    overwrite: bool = False,
    tables: Tables = "float",
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Writes the folder `output`: `window` and, of recurrent models, `step`, with the ending of the format;
    `sidecar.json`, `check.json` and `README.md`, the model card. It appears whole or not at all, and only when the
    files were checked against the model.

    Args:
        tables: of the items: as they are, in half precision, or of 8 bits. What that loses is measured where the
            prepared data of the run is there (in `data_dir`, where it is named).

    Returns:
        What check.json holds, by file; and under `tables` what packing them did.

    Raises:
        RecsysLabError: when something is missing for the format, the folder is there, the model can't be exported, or
            its files give other scores than the model.
    """
    output = Path(output)
    check_format(format)
    if output.exists() and not overwrite:
        raise RecsysLabError(f"{output} is there already: choose another folder, or replace it with --overwrite")
    predictor = Predictor.load(run, allow_classes=allow_classes)
    predictor.model.check_ranks()
    packed = {} if tables == "float" else {"tables": _pack(predictor, tables, data_dir)}
    window, step = window_graph(predictor), step_graph(predictor)
    graphs: dict[str, Scores] = {f"window{ENDINGS[format]}": window}
    if step is not None:
        graphs[f"step{ENDINGS[format]}"] = step
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        checked: dict[str, Any] = dict(packed)
        for name, graph in graphs.items():
            memories = [one.name for one in graph.inputs if one.of.startswith("memory ")]
            write_graph(graph, partial / name, format, ["scores", *(f"next_{memory}" for memory in memories)])
            checked[name] = _checked(predictor, graph, partial / name, format)
        files = {
            "sidecar.json": _json(sidecar(predictor, format, graphs)),
            "check.json": _json(checked),
            "README.md": model_card(predictor.loaded, format, checked),
        }
        for name, text in files.items():
            (partial / name).write_text(text, encoding="utf-8")
        if output.exists():
            shutil.rmtree(output)
        partial.replace(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return checked


def _pack(predictor: Predictor, tables: Tables, data_dir: str | None) -> dict[str, Any]:
    data = open_data(predictor.loaded.folder, data_dir)
    before = None if data is None else test_values(predictor, data)
    found: dict[str, Any] = {"kind": tables, **pack(predictor, tables)}
    if data is None or before is None:
        return found | {"quality": None}
    return found | {"quality": quality_lost(before, test_values(predictor, data))}


def _checked(predictor: Predictor, graph: Scores, path: Path, format: Format) -> dict[str, Any]:
    run = open_graph(path, format)
    if isinstance(graph, StepScores):
        return check_step(predictor, graph, run).as_dict()
    assert isinstance(graph, WindowScores)
    return check_window(predictor, graph, run).as_dict()


def _json(plain: dict[str, Any]) -> str:
    return json.dumps(plain, indent=1, allow_nan=False) + "\n"
