"""recsys_lab: sequential (next-item) recommendation research on PyTorch Lightning."""

__version__ = "0.1.0"
