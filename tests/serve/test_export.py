"""Exported graphs give the scores of their model, for every encoder, field, input and scorer; the sidecar is all that
another program needs; what can't be exported is refused in a line, and leaves nothing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from small_data import made_events, prepared
from test_cli_runs import fit
from trained import checkpoint_of, data_of, events_of

from recsys_lab.cli import main
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.models import GRU4Rec, Popularity, SASRec
from recsys_lab.models.blocks.deep_scorer import DeepScorer
from recsys_lab.models.blocks.inputs import Inputs
from recsys_lab.models.blocks.time_features import GapBuckets, GapToQuery, HourOfDay, RelativeTime
from recsys_lab.serve import Predictor
from recsys_lab.serve.export import check, graph_files
from recsys_lab.serve.export.exported_folder import export
from recsys_lab.serve.export.graphs import step_graph
from recsys_lab.serve.export.packed_table import pack
from recsys_lab.words import RecsysLabError

from found_models import VARIANTS, small  # isort: skip  trained.py makes it known

GRAPH = 12_000
"""Bytes that more nodes take."""
DOCS = Path(__file__).parent.parent.parent / "docs" / "exporting.md"
OTHERS: dict[str, Any] = {
    "token of the user": lambda: SASRec(embedding_dim=8, inputs=Inputs(user="first", time=[HourOfDay()])),
    "gates": lambda: GRU4Rec(embedding_dim=8, inputs=Inputs(fields="concat", items="gate", time=[GapBuckets()])),
    "time of the question": lambda: SASRec(embedding_dim=8, inputs=Inputs(time=[GapToQuery(), RelativeTime("query")])),
    "deep scorer": lambda: SASRec(embedding_dim=8, scorer=DeepScorer()),
    "field of the event to predict": lambda: GRU4Rec(embedding_dim=8, target_fields=["price"]),
}
CASES = {name: lambda of=of: small(of[0], **of[1]) for name, of in VARIANTS.items()} | OTHERS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("export") / "plain", made_events(event_types=1)).path


def trained(model: Any, folder: Path, at: Path, **settings: Any) -> tuple[Path, SequenceDataModule]:
    reads_end = not model.causal or any(not one.causal for one in getattr(model.inputs, "time", ()))
    mode: Any = "last_position" if reads_end else "all_positions"
    data = data_of(folder, with_fields=True, training_mode=mode, **settings)
    return checkpoint_of(model, data, at), data


# ONNX is made of what torch.export finds: each encoder through both, and a variant of one through the first alone
GRID = [("SASRec", "torch-export"), *((name, "torch-export" if "-" in name else "onnx") for name in CASES)]


@pytest.mark.parametrize(
    ("name", "form"),
    [pytest.param(*cell, marks=() if cell == ("SASRec", "torch-export") else pytest.mark.slow) for cell in GRID],
)
def test_every_model(name: str, form: Any, folder: Path, tmp_path: Path) -> None:
    """The check inside `export` compares scores and lists; here, that it looked at what it says."""
    path, _ = trained(CASES[name](), folder, tmp_path)
    checked = export(path, form, tmp_path / "out")
    ending = graph_files.ENDINGS[form]
    goes_on = step_graph(Predictor.load(path)) is not None
    of_one_size = {"GRU4Rec", "RNN", "LSTM", "LRURec", "Mamba4Rec", "Caser", "NextItNet", "CORE-mean"}
    assert goes_on == (name in of_one_size or name.startswith("GRU4Rec-"))
    assert (f"step{ending}" in checked) == goes_on and f"window{ending}" in checked
    for one in checked.values():
        assert one["histories"] >= 100 and one["largest_difference"] <= 1e-4 and one["same_lists"] >= 99
    names = sorted(one.name for one in (tmp_path / "out").iterdir())
    assert names == sorted(["README.md", "check.json", "sidecar.json", *checked])
    assert json.loads((tmp_path / "out" / "check.json").read_text()) == checked


@pytest.mark.slow
def test_compiled_for_this_machine(folder: Path, tmp_path: Path) -> None:
    path, _ = trained(SASRec(embedding_dim=8), folder, tmp_path)
    if not (shutil.which("g++") or shutil.which("clang++")):
        with pytest.raises(RecsysLabError, match="needs a C"):
            export(path, "aot", tmp_path / "out")
        return
    assert export(path, "aot", tmp_path / "out")["window.aot.pt2"]["largest_difference"] <= 1e-4


def numbers(entry: dict[str, Any], value: Any) -> Any:
    """A raw value as sidecar.json says."""
    if entry["kind"] == "numeric":
        if value is None:
            return [0.0, 1.0]
        if entry["scale"] == "log1p":
            value = np.sign(value) * np.log1p(abs(value))
        if entry["scale"] == "quantile":
            value = np.interp(value, *np.array(entry["knots"]).T)
        return [(value - entry["mean"]) / entry["std"], 0.0]
    if value is None:
        return 1
    return entry["first_row"] + entry["values"].index(value) if value in entry["values"] else 0


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["standard", "quantile"])
def test_the_sidecar_is_all_that_another_program_needs(scale: Any, folder: Path, tmp_path: Path) -> None:
    """Raw histories with fields through numpy and onnxruntime alone, against `recommend`."""
    import onnxruntime

    model = SASRec(embedding_dim=8, inputs=Inputs(time=[GapBuckets()]))
    path, data = trained(
        model, folder, tmp_path, numerics={"price": scale, "user.age": "log1p"} if scale != "standard" else scale
    )
    export(path, "onnx", tmp_path / "out")
    sidecar = json.loads((tmp_path / "out" / "sidecar.json").read_text())
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "window.onnx"))
    row_of = {raw: row for row, raw in enumerate(sidecar["item_ids"], start=1)}
    log, length, k = events_of(data), sidecar["max_length"], 4
    users = log.group_by("user_id", maintain_order=True).agg(pl.all()).rows(named=True)
    inputs = sidecar["graphs"]["window.onnx"]["inputs"]
    assert {one["of"] for one in inputs} == {
        "item_ids",
        "lengths",
        "timestamps",
        "event.price",
        "event.colour",
        "user.age",
    }
    given = {
        one["name"]: np.zeros([len(users) if n == "rows" else n for n in one["shape"]], one["dtype"]) for one in inputs
    }
    known = []
    for place, user in enumerate(users):
        known.append([row_of[raw] for raw in user["item_id"]])
        newest = range(max(0, len(known[-1]) - length), len(known[-1]))
        for one in inputs:
            scope, _, field = one["of"].partition(".")
            tensor = given[one["name"]]
            if scope == "lengths":
                tensor[place] = len(newest)
            elif scope == "user":
                tensor[place] = numbers(sidecar["fields"][one["of"]], user[one["of"]][0])
            for at, event in enumerate(newest):
                if scope == "item_ids":
                    tensor[place, at] = known[-1][event]
                elif scope == "timestamps":
                    tensor[place, at] = user["timestamp"][event]
                elif scope == "event":
                    tensor[place, at] = numbers(sidecar["fields"][field], user[field][event])
    (scores,) = session.run(None, given)
    for place, rows in enumerate(known):
        scores[place, rows] = -np.inf
    best = np.argsort(-scores, axis=1)[:, :k]
    expected = Predictor.load(path).recommend(log, k)
    assert [sidecar["item_ids"][row - 1] for row in best.flatten()] == expected["item_id"].to_list()
    found = np.take_along_axis(scores, best, axis=1).flatten()
    np.testing.assert_allclose(found, expected["score"], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_example_of_the_docs_and_a_run_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = SequenceDataModule.from_frames(made_events(event_types=1), data_dir=tmp_path / "data", name="films")
    assert fit(data.processed.path, tmp_path / "runs", "--run.folder", "run") == 0
    capsys.readouterr()
    assert main(["export", "run", "--output", "exported"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"window.onnx: 1\d\d histories replayed", said) and "check.json and README.md in exported" in said
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    there: dict[str, Any] = {}
    exec(compile(code, str(DOCS), "exec"), there)
    listed = there["recommend"]([101, 102, "nobody knows"], 3)
    expected = Predictor.load("run").recommend([[101, 102]], 3)
    assert [item for item, _ in listed] == expected["item_id"].to_list()
    np.testing.assert_allclose([score for _, score in listed], expected["score"], rtol=1e-4)
    card = (tmp_path / "exported" / "README.md").read_text()
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert "Licence of the data: not known" in card and "Intended use" in card and "leave_one_out" in card
    for name, value in re.findall(r"^\| (ndcg@\d+) \| ([\d.]+) \| \[[\d.]+, [\d.]+\] \|$", card, flags=re.MULTILINE):
        assert float(value) == pytest.approx(metrics[f"test/{name}"], abs=1e-4)
    assert "| ndcg@10 |" in card
    assert main(["export", "run", "--output", "exported"]) == 2
    assert "exported is there already" in capsys.readouterr().err
    assert main(["export", "run", "--output", "exported", "--overwrite", "--format", "torch-export"]) == 0
    assert (tmp_path / "exported" / "window.pt2").is_file() and not (tmp_path / "exported" / "window.onnx").exists()


def test_a_file_that_gives_other_scores_is_not_left(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = trained(SASRec(embedding_dim=8), folder, tmp_path)

    def wrong(graph: Any, to: Path, *_: Any) -> None:
        to.write_bytes(b"")

    def run(path: Path, form: str) -> Any:
        one = Predictor.load(tmp_path / "model.ckpt")
        return lambda given: [(torch.rand(len(given[0]), one.spec.num_rows) * 0.5).numpy()]

    monkeypatch.setattr("recsys_lab.serve.export.exported_folder.write_graph", wrong)
    monkeypatch.setattr("recsys_lab.serve.export.exported_folder.open_graph", run)
    with pytest.raises(RecsysLabError, match="the exported scores differ by .* of the largest, more than 1e-04"):
        export(path, "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def test_lists_of_other_items_are_found() -> None:
    """Where scores are within the tolerance and lists are not near-ties: none such; a swapped item is one."""
    predictor: Any = type("One", (), {"is_trained": torch.tensor([False] + [True] * 20)})()
    expected = torch.arange(21.0)[None].repeat(3, 1) * 1e-6  # near-ties all
    same = check._compared(predictor, expected, expected.flip(1))
    assert same.same == 0 and same.histories == 3
    with pytest.raises(RecsysLabError, match="differ by"):
        check._compared(predictor, expected * 1e6, expected.flip(1) * 1e6)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["{model}"], "name the folder to write: --output"),
        (["{model}", "--output", "there"], "there is there already: choose another folder"),
        (["{counted}", "--output", "out"], "Popularity counts, and is no graph of tensors"),
        (["nowhere", "--output", "out"], "no checkpoint at nowhere"),
        (["{model}", "--output", "out", "--format", "onxn"], "must be one of torch-export, onnx, aot, not 'onxn'"),
        (["{model}", "--output", "out", "--format", "aot"], "--format aot needs a C.. compiler"),
        (["{model}", "--output", "out", "--format", "onnx"], "--format onnx needs no_such: pip install 'recsys-lab"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    words: list[str], says: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(graph_files.shutil, "which", lambda name: None)
    monkeypatch.setitem(graph_files.NEEDS, "onnx", ("no_such",) if "onnx" in words else ())
    model, _ = trained(SASRec(embedding_dim=8), folder, tmp_path / "sasrec")
    counted = checkpoint_of(Popularity(), data_of(folder), tmp_path / "popularity")
    (tmp_path / "there").mkdir()
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert main(["export", *(word.format(model=model, counted=counted) for word in words)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(lines) == 1 and re.search(says, lines[0])
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize(("tables", "form"), [("int8", "torch-export"), ("half", "torch-export"), ("int8", "onnx")])
def test_tables_in_fewer_bytes(tables: Any, form: Any, tmp_path: Path) -> None:
    """The file is smaller, gives the scores of the rounded table, and says what rounding lost."""
    data = SequenceDataModule.from_frames(
        made_events(num_users=40, num_items=400, event_types=1), data_dir=tmp_path / "data", name="films"
    )
    assert (
        fit(
            data.processed.path,
            tmp_path / "runs",
            "--run.folder",
            str(tmp_path / "run"),
            "--model.embedding_dim",
            "128",
        )
        == 0
    )
    whole = export(tmp_path / "run", form, tmp_path / "whole")
    packed = export(tmp_path / "run", form, tmp_path / "packed", tables=tables)
    about, name = packed.pop("tables"), next(iter(whole))
    rows = data.processed.num_items + 1
    assert about["bytes_before"] == 4 * 128 * rows
    assert about["bytes"] == (2 * 128 * rows if tables == "half" else (128 + 4) * rows)
    sizes = [(tmp_path / folder / name).stat().st_size for folder in ("whole", "packed")]
    assert sizes[0] - sizes[1] > about["bytes_before"] - about["bytes"] - GRAPH, "less the nodes that unpack it"
    lost = about["quality"]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert lost["before"] == pytest.approx(metrics["test/ndcg@10"], abs=1e-9)
    assert lost["interval"][0] <= lost["difference"] <= lost["interval"][1]
    assert lost["after"] - lost["before"] == pytest.approx(lost["difference"]) and abs(lost["difference"]) < 0.05
    card = (tmp_path / "packed" / "README.md").read_text()
    assert f"The table of items is {tables}: {about['bytes']:,} bytes instead of" in card and "paired over" in card


def test_the_rounded_table(folder: Path, tmp_path: Path) -> None:
    data = data_of(folder)
    path = checkpoint_of(SASRec(embedding_dim=8), data, tmp_path)
    plain = Predictor.load(path).model.embedding.items.weight.detach()
    for tables, step in (("half", 2.0**-11), ("int8", 0.5 / 127)):
        one = Predictor.load(path)
        pack(one, tables)  # type: ignore[arg-type]
        rounded = one.model.embedding.items.weight
        error = (rounded - plain).abs()
        assert float(error.max()) > 0 and bool((error <= 1.01 * step * plain.abs().amax(1, keepdim=True)).all())
        assert not rounded[0].any(), "padding stays zero"
        ids = torch.tensor([[0, 3], [2, 1]])
        torch.testing.assert_close(one.model.embedding.items(ids), rounded[ids])
        assert one.recommend([[101]], 3)["source"][0] == "model"
    fields, _ = trained(SASRec(embedding_dim=8), folder, tmp_path / "fields")
    with pytest.raises(
        RecsysLabError, match="--tables int8: the vectors of the items of SASRec are made of their fields"
    ):
        export(fields, "torch-export", tmp_path / "out", tables="int8")
    assert not (tmp_path / "out").exists()
