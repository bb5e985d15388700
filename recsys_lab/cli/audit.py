"""`recsys-lab audit DATASET`: the data card and the leakage audit, printed and written beside the data."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from recsys_lab.data.split.split_rule import Split
from recsys_lab.words import RecsysLabError


class AuditFailed(RecsysLabError):
    """A check is above its limit."""

    exit_code = 1


def audit(
    dataset: str,
    *,
    split: Split | None = None,
    data_dir: str = "data",
    output: str | None = None,
    recommendations: str | None = None,
    fail_on: Sequence[str] = (),
    json: bool = False,
) -> None:
    """What a data set is, and what a split of it leaks. Writes audit.json, audit.md and audit.html, and
    audit-SPLIT_HASH.json, which an audit of another split leaves as it is.

    Args:
        dataset: a prepared folder, or a name of `recsys-lab sources`.
        split: the split to audit. Default: LeaveOneOut.
        data_dir: folder of raw files and prepared sets.
        output: folder to write to. Default: the prepared folder.
        recommendations: a file that `predict` wrote: audits its items against time.
        fail_on: NAME=SHARE: exit with 1 when a share is above its limit; the names are those that the audit prints.
        json: print audit.json.
    """
    from recsys_lab.audit import audit as audited
    from recsys_lab.audit import failures, parse_thresholds
    from recsys_lab.audit.audit_text import as_text
    from recsys_lab.data.locate import locate
    from recsys_lab.data.split.leave_one_out import LeaveOneOut
    from recsys_lab.report.escapes import as_json
    from recsys_lab.report.terminal import terminal_width, wrapped
    from recsys_lab.runs.audit_files import write_audit
    from recsys_lab.runs.messages import show_messages
    from recsys_lab.runs.run_files import check_place

    show_messages()
    thresholds = parse_thresholds(fail_on)
    if output:
        check_place(Path(output), "--output", is_folder=True)
    data = locate(dataset, data_dir)
    found = audited(data, split or LeaveOneOut(), Path(recommendations) if recommendations else None)
    print(as_json(found) if json else as_text(found, terminal_width()))
    written = write_audit(found, Path(output) if output else data.path, must=bool(output))
    if written:
        line = f"written: {', '.join(written)} in {output or data.path}"
        print(f"\n{wrapped(line)}", file=sys.stderr if json else sys.stdout)
    if broken := failures(found, thresholds):
        raise AuditFailed("the audit failed\n" + "\n".join(f"  {line}" for line in broken))
