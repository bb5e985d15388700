"""The event arrays and the positions that a split gives -> index windows -> `Batch`; no event is copied before its
batch is made. Knows contracts and words.
"""
