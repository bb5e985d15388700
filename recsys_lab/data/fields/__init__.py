"""Columns beside ids and times as stored fields: what kind each is, its codes and values, its files. Knows words and
reading.
"""
