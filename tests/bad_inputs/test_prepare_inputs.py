"""Every wrong or odd input of `prepare` is read rightly, or gets one line that names the place and the fix."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import Path

import pytest
from field_cases import CASES as FIELD_CASES
from newer_prepare_cases import CASES as NEWER_CASES
from prepare_cases import CASES, FOUND, KNOWN, Case

from recsys_lab.cli import main

SEEN: Counter[str] = Counter()


def judge(case: Case, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """Runs a case in `folder` (the working directory): ("clear" | "read" | "unclear" | "traceback" | "wrong", text)."""
    for name, content in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    try:
        code = main(["prepare", *shlex.split(case.arguments)])
    except BaseException as error:  # polars' panics are no Exceptions
        return "traceback", f"{type(error).__name__}: {error}"
    shown = capsys.readouterr()
    if code == 0:
        text = shown.err + shown.out
        return ("read" if case.code == 0 and re.search(case.message, text, re.DOTALL) else "wrong"), text
    text = shown.err[shown.err.index("error: ") + 7 :]
    one_line = len(text.removesuffix("All options: recsys-lab prepare --help\n").splitlines()) <= 2
    nothing_left = not [p for p in folder.glob("data/**/*") if ".tmp-" in p.name or p.name == "manifest.json"]
    is_clear = case.code == code and one_line and nothing_left and re.search(case.message, text, re.DOTALL)
    return ("clear" if is_clear else "unclear"), text


EVERY = [*CASES, *FIELD_CASES, *NEWER_CASES]


@pytest.mark.parametrize("case", EVERY, ids=[case.name for case in EVERY])
def test_an_input(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    verdict, text = judge(case, tmp_path, capsys)
    SEEN[verdict] += 1
    assert verdict == ("read" if case.code == 0 else "clear"), text


def test_each_case_has_a_name_of_its_own_and_there_are_enough() -> None:
    assert len({case.name for case in EVERY}) == len(EVERY)
    assert len(KNOWN) >= 57 and len(FOUND) >= 50
    sought = len(FOUND) + len(NEWER_CASES)
    assert len(NEWER_CASES) >= 80
    print(f"prepare: {len(KNOWN)} known inputs, {sought} sought ones, of those run here: {dict(SEEN)}")
