"""recsys_lab: sequential (next-item) recommendation research on PyTorch Lightning."""

__version__ = "0.1.0"

NUMBERS = 2
"""Raised whenever the same seed gives other numbers than before: runs of two of these versions are two systems, never
seeds of one. 2: dropout and negatives are drawn from (seed, epoch, batch index, process); losses and negatives know the
items with training events only; the metric of a tie is its expectation."""
