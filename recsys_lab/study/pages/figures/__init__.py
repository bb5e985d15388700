"""Figures of a study: each file makes one kind from the numbers of a block."""
