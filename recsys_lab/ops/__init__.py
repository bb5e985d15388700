"""Tensors and arrays -> the same: what takes the time of a step (cross-entropy in chunks, counting ranks, top lists,
row-sparse updates), the metrics of ranks, and what torch and the allocator are told. Knows contracts and words.
"""
