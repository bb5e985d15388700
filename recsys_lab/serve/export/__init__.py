"""A trained encoder as one file that runs without recsys_lab, beside what its numbers mean; checked before it is left.
Knows the rest of serve, statistics, and the sources' licences.
"""
