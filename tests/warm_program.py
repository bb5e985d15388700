"""`recsys-lab` for commands in a shell, started warm (`warm.py`): asks the server, passes signals on, and ends with the
command.

    python -S warm_program.py [word ...]
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from warm import ADDRESS, WarmPopen, start_server

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def install(folder: Path) -> Path:
    """Writes `folder/recsys-lab`; the folder belongs at the head of PATH."""
    address = os.environ.get(ADDRESS) or WarmPopen.address or start_server()
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "recsys-lab"
    command = f'{ADDRESS}="{address}" exec "{sys.executable}" -S "{Path(__file__).resolve()}" "$@"'
    program.write_text(f"#!/bin/bash\n{command}\n")
    program.chmod(0o755)
    return folder


def main(words: list[str]) -> int:
    process = WarmPopen([sys.executable, "-m", "recsys_lab.cli", *words])
    for number in PASSED_ON:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: process.send_signal(number))
    code = process.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
