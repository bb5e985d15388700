"""One form of table -> text, Markdown, LaTeX and HTML; charts -> SVG and PNG; one form of page. Nothing of ours."""
