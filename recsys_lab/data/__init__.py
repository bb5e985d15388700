"""Raw logs -> batches: everything before the model, one room for each step, and `datamodule.py` that joins them. Knows
only the ground floor (words, arguments, config, contracts): no model, no loss, no run.
"""
