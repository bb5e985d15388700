"""One encoder a file: `build(spec)` makes its modules, `encode(batch)` gives hidden (B, L, D). Knows
`models.lightning`, blocks and the ground floor; no loss and no data.
"""
