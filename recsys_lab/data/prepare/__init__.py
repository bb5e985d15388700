"""A source and `PrepareSettings` -> a `ProcessedDataset` on disk: filters, the order of ties, ids, sort, hashes;
written whole or not at all. Knows reading, arguments and words.
"""
