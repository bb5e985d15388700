"""A command in a process of its own, and which heavy packages it has imported."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = ["torch", "lightning", "polars", "numpy", "scipy", "jsonargparse", "wandb"]


def in_own_process(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


def heavy_after_each(lines: list[str]) -> dict[str, set[str]]:
    """Name -> those of the heavy packages that are imported where a line calls `told(name)`. All in one process."""
    before = f"import json, sys\nfound = {{}}\ndef told(name): found[name] = [*({set(HEAVY)} & sys.modules.keys())]"
    done = in_own_process("\n".join([before, *lines, "print()", "print(json.dumps(found))"]))
    assert done.returncode == 0, done.stderr
    return {name: set(heavy) for name, heavy in json.loads(done.stdout.splitlines()[-1]).items()}


def told_without(package: str, *arguments: str) -> str:
    """What a command prints, which must not import the package."""
    code = "import sys; from recsys_lab.cli import main; sys.exit(main(sys.argv[2:]) or sys.argv[1] in sys.modules)"
    done = in_own_process(code, package, *arguments)
    assert done.returncode == 0, f"{' '.join(arguments)} failed, or imported {package}\n{done.stderr}"
    return done.stdout
