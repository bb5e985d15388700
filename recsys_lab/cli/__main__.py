"""`python -m recsys_lab.cli`, the same as `recsys-lab`."""

from recsys_lab.cli import run

if __name__ == "__main__":  # never by being named in a checkpoint
    run()
