"""The options of every command that prints a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from recsys_lab.arguments import Commas
from recsys_lab.words import RecsysLabError

if TYPE_CHECKING:
    from recsys_lab.report.shown_columns import Shown

FOR_PEOPLE = ("text", "markdown", "latex")


@dataclass(frozen=True)
class TableOptions:
    """What of a table is printed.

    Args:
        columns: only these columns, in this order: a,b,c. A name that is not there lists those that are.
        wide: every column. Otherwise text leaves out those that the terminal has no room for, and says which.
        json: as JSON, with full precision.
    """

    columns: Annotated[Sequence[str], Commas] = ()
    wide: bool = False
    json: bool = False

    def format(self, asked: str = "text") -> str:
        """What is printed where `--format` asks for that.

        Raises:
            RecsysLabError: for columns of a form that holds all of them.
        """
        found = "json" if self.json else asked
        if self.columns and found not in FOR_PEOPLE:
            raise RecsysLabError(f"--columns is of tables that people read: {found} holds every column, leave it out")
        return found

    def shown(self, asked: str = "text") -> Shown:
        from recsys_lab.report.shown_columns import Shown
        from recsys_lab.report.terminal import terminal_width

        fits = self.format(asked) == "text" and not (self.wide or self.columns)
        return Shown(self.columns, terminal_width() if fits else None)
