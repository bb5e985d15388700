"""The results of a study -> its report: one HTML page, Markdown, LaTeX, figures, and the README beside the study file.
Knows study.results, plan and tune, and audit, diagnose, runs, statistics and report for the tables they share.
"""
