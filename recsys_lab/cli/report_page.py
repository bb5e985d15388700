"""`recsys-lab report FOLDER`: one page of all runs and studies in it."""

from __future__ import annotations

from pathlib import Path


def report(folder: str = "runs", *, output: str | None = None) -> None:
    """Writes one HTML page that lists the runs and studies below a folder, with their numbers and links to their
    reports. Its tables sort and filter, and it needs no network. The page of one study is made by `recsys-lab study
    report`.

    Args:
        folder: of run folders.
        output: the file to write (default: index.html in the folder). Its links are relative to the folder.
    """
    from recsys_lab.runs.gallery import gallery
    from recsys_lab.runs.run_files import write_results

    file = Path(output) if output else Path(folder) / "index.html"
    write_results(file.parent, {file.name: gallery(Path(folder)).html})
    print(file)
