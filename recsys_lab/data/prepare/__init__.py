"""Checked tables -> a `ProcessedDataset` on disk: filters, order of ties, ids, sort, store."""
