"""The results of a study as Markdown and as LaTeX."""

from recsys_lab.study.pages.text.latex import as_latex
from recsys_lab.study.pages.text.markdown import as_markdown

__all__ = ["as_latex", "as_markdown"]
