"""What starts at once: the package, its help and typing errors import nothing heavy; a missing package is named."""

from __future__ import annotations

import sys

import pytest
from own_process import heavy_after, in_own_process

from recsys_lab.cli import main


@pytest.mark.parametrize(
    "code",
    [
        "import recsys_lab",
        "from recsys_lab.cli import main; assert main(['--help']) == 0",
        "from recsys_lab.cli import main; assert main(['--version']) == 0",
        "from recsys_lab.cli import main; assert main(['fitt']) == 2",
    ],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    assert heavy_after(code) == set()


def test_the_check_sees_imports() -> None:
    assert heavy_after("import numpy") == {"numpy"}


@pytest.mark.parametrize("package", ["torch", "lightning"])
def test_a_missing_package_is_named_without_a_traceback(package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None\nfrom recsys_lab.cli import main; sys.exit(main(['fit']))"
    done = in_own_process(code)
    assert done.returncode == 2, done.stderr
    assert f"recsys-lab: error: the package {package!r} is not installed for {sys.executable}" in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_missing_module_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "recsys_lab.cli.sources", None)
    with pytest.raises(ModuleNotFoundError, match="recsys_lab.cli.sources"):
        main(["sources"])
