"""`recsys-lab export`: a trained encoder as a file for other programs."""

from __future__ import annotations

from typing import Literal

from recsys_lab.words import RecsysLabError


def export(
    run: str,
    *,
    format: Literal["torch-export", "onnx", "aot"] = "onnx",
    output: str | None = None,
    tables: Literal["float", "half", "int8"] = "float",
    data_dir: str | None = None,
    overwrite: bool = False,
) -> None:
    """Writes a trained encoder as a graph of tensors that runs without recsys_lab: a window of item ids -> the scores
    of all items; of recurrent models also one step. Beside it lie sidecar.json (raw ids, fields, how to use it), a
    model card and check.json: at least 100 histories of every length were replayed in the model and in the file, and
    scores agree to 1e-4. docs/exporting.md has all of it.

    Args:
        run: a run folder, of which the best checkpoint is taken, or a checkpoint.
        format: torch-export; onnx (needs the extra `export`); aot, which is compiled for this machine and needs a C++
            compiler.
        output: the folder to write, which must be named.
        tables: of the items: as they are, in half precision, or of 8 bits with a scale for each row. What that loses of
            the test's ndcg@10 is measured where the prepared data of the run is there.
        data_dir: folder of prepared sets, for that (default: as the run says).
        overwrite: replace the folder.
    """
    from recsys_lab.runs.messages import show_messages
    from recsys_lab.serve.export.exported_folder import export as export_run

    show_messages()
    if output is None:
        raise RecsysLabError(f"name the folder to write: --output {run}/{format}")
    checked = export_run(run, format, output, overwrite=overwrite, tables=tables, data_dir=data_dir)
    packed = checked.pop("tables", None)
    for name, one in checked.items():
        print(
            f"{name}: {one['histories']} histories replayed, {one['same_lists']} lists the same, scores within "
            f"{one['largest_difference']:.1e} of the largest"
        )
    if packed is not None:
        lost = packed["quality"]
        what = "not measured, since the prepared data of the run is not there"
        if lost is not None:
            low, high = lost["interval"]
            what = f"{lost['difference']:+.5f} [{low:+.5f}, {high:+.5f}] of {lost['metric']} {lost['before']:.4f}"
        print(f"tables: {packed['bytes']:,} bytes instead of {packed['bytes_before']:,}; quality: {what}")
    print(f"written: {', '.join(checked)}, sidecar.json, check.json and README.md in {output}")
