"""Three of the kills of scripts/benchmarks/kills.py: what was killed and taken up again is what nobody disturbed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "benchmarks" / "kills.py"


@pytest.mark.slow
def test_three_kills(capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("kills", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kills"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    code = module.main(["--kills", "fit=1,fit on 2 processes=1,prepare=1", "--users", "200", "--seed", "5"])
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "3 of 3 equal bit for bit" in printed
