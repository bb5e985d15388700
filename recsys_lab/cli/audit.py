"""`recsys-lab audit DATASET`: the data card and the leakage audit, printed and written beside the data."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from recsys_lab.audit import MEANINGS, audit, failures, parse_thresholds
from recsys_lab.audit.audit_page import audit_page
from recsys_lab.audit.audit_text import as_markdown, as_text
from recsys_lab.cli.options import Parser, underscores
from recsys_lab.config import from_config
from recsys_lab.data.locate import locate
from recsys_lab.data.split.leave_one_out import LeaveOneOut, Split
from recsys_lab.report.page import missing_packages
from recsys_lab.runs.messages import show_messages
from recsys_lab.runs.run_files import write_texts
from recsys_lab.words import RecsysLabError

log = logging.getLogger("recsys_lab")


class AuditFailed(RecsysLabError):
    """A check is above its limit."""

    exit_code = 1


def make_parser() -> Parser:
    parser = Parser(
        prog="recsys-lab audit",
        allow_abbrev=False,
        description="What a data set is, and what a split of it leaks. Writes audit.json, audit.md and "
        "audit.html, and audit-SPLIT_HASH.json, which an audit of another split leaves as it is.",
    )
    parser.add_argument("dataset", type=str, help="a prepared folder, or a name of `recsys-lab sources`")
    parser.add_subclass_arguments(Split, "split", required=False, help="the split to audit; default: LeaveOneOut")
    parser.add_argument("--data_dir", type=str, default="data", help="folder of raw files and prepared sets")
    parser.add_argument("--output", type=str, default=None, help="folder to write to; default: the prepared folder")
    parser.add_argument(
        "--recommendations", type=str, default=None, help="a file that `predict` wrote: audits its items against time"
    )
    parser.add_argument(
        "--fail_on",
        nargs="+",
        type=str,
        action="extend",
        default=[],
        metavar="NAME=SHARE",
        help=f"exit with 1 when a share is above its limit; names: {', '.join(MEANINGS)}",
    )
    return parser


def run(words: list[str]) -> None:
    """Runs `recsys-lab audit ...`; options may be written with - or _."""
    chosen = make_parser().parse_args(underscores(words[1:]))
    show_messages()
    thresholds = parse_thresholds(chosen.fail_on)
    # not jsonargparse's own instantiation: it would bury the split's error text in one of its own
    split = from_config(chosen.split.as_dict(), Split) if chosen.split else LeaveOneOut()
    data = locate(chosen.dataset, chosen.data_dir)
    found = audit(data, split, Path(chosen.recommendations) if chosen.recommendations else None)
    print(as_text(found))
    _write(found, Path(chosen.output) if chosen.output else data.path, is_chosen=bool(chosen.output))
    broken = failures(found, thresholds)
    if broken:
        raise AuditFailed("the audit failed\n" + "\n".join(f"  {line}" for line in broken))


def _write(found: dict[str, Any], output: Path, is_chosen: bool) -> None:
    """The files of the audit. Beside data that can't be written only a warning: the report is printed already."""
    content = json.dumps(found, indent=2, allow_nan=False) + "\n"
    of_split = f"audit-{found['split']['split_hash']}.json"  # by it a run finds the audit of its own split
    files = {
        "audit.json": content,
        of_split: content,
        "audit.md": as_markdown(found),
    }
    if missing := missing_packages():
        log.warning("without audit.html, which needs %s", missing)
    else:
        files["audit.html"] = audit_page(found).html
    try:
        write_texts(output, files)
    except OSError as error:
        text = f"the audit can't be written to {output} ({error.strerror or error}); choose a folder with --output"
        if is_chosen:
            raise RecsysLabError(text) from error
        log.warning("%s", text)
        return
    print(f"\nwritten: {', '.join(files)} in {output}")
