"""Finished runs -> what their numbers rest on (the order of events, slices of the targets, calibration) as plain data,
tables and a page. Knows data, ops, report, runs and statistics; no model: a caller
scores the shuffled histories.
"""
