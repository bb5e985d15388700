"""`python -m recsys_lab.cli`, the same as `recsys-lab`."""

from recsys_lab.cli import run

run()
