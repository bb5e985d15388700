"""Offsets and times of the prepared events -> where each user's training stops, and which positions are validation and
test targets: pure functions of arrays. Knows config, arguments and words.
"""
