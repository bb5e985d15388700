"""One form of table -> text, Markdown, LaTeX and HTML; charts -> SVG and PNG; colours and bars that all pages share.
Nothing of ours.
"""
