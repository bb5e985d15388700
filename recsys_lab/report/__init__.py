"""Cells, numbers and charts -> text, Markdown, LaTeX, SVG and PNG; colours and bars that all pages share. Nothing of
ours.
"""
