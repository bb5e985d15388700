"""Values per target of several systems -> differences, intervals, p values and letters by the one rule. Plain arrays;
numpy and scipy, nothing of ours.
"""
