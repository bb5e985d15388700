"""A Trainer's run -> a run folder; run folders -> the run opened again, verified, trained once more, compared in one
table. Knows data, losses, models, evaluation, ops, report and statistics.
"""
