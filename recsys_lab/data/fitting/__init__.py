"""What is fitted on the training part of a split, and written into checkpoints: the values that are known, means and
deviations, raw ids. Knows contracts, words and the columns of batches.
"""
