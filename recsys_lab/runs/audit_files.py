"""The files of an audit, beside the data or elsewhere; `audit_entry.py` names them in the manifest of a run."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from recsys_lab.audit.audit_page import audit_page
from recsys_lab.audit.audit_text import as_markdown
from recsys_lab.report.page import missing_packages
from recsys_lab.runs.run_files import write_texts
from recsys_lab.words import RecsysLabError

log = logging.getLogger("recsys_lab")


def write_audit(found: dict[str, Any], folder: Path, must: bool = False) -> list[str]:
    """Writes what `audit` found as audit.json, audit.md and audit.html, and as audit-SPLIT_HASH.json.

    Args:
        folder: the prepared folder, or another one.
        must: a folder that can't be written to is an error; else a warning, and nothing is written.

    Returns:
        The names of the files, the page not among them where the packages that it needs are missing.

    Raises:
        RecsysLabError: see `must`.
    """
    content = json.dumps(found, indent=2, allow_nan=False) + "\n"
    of_split = f"audit-{found['split']['split_hash']}.json"  # by it a run finds the audit of its own split
    files = {"audit.json": content, of_split: content, "audit.md": as_markdown(found)}
    if missing := missing_packages():
        log.warning("without audit.html, which needs %s", missing)
    else:
        files["audit.html"] = audit_page(found).html
    try:
        write_texts(folder, files)
    except OSError as error:
        text = f"the audit can't be written to {folder} ({error.strerror or error}); choose a folder with --output"
        if must:
            raise RecsysLabError(text) from error
        log.warning("%s", text)
        return []
    return list(files)
