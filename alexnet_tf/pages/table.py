"""Tables of finished text: the page and the terminal show the same rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class TextTable:
    """A table of finished text; the first cell of each row names it.

    Args:
        caption: What the table shows.
        columns: The header.
        rows: Cells as shown.
        numeric: Whether all but the first column read best flushed right.
        prose: Whether cells hold sentences, which may wrap in the page.
        wide: Whether it is too wide or long for the terminal and stands in the page alone.
        page_only: Columns that the terminal, which may have 80 characters, leaves out.
    """

    caption: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numeric: bool = False
    prose: bool = False
    wide: bool = False
    page_only: frozenset[str] = frozenset()

    def narrow(self) -> tuple[list[str], list[list[str]]]:
        """Columns and rows for the terminal."""
        kept = [index for index, column in enumerate(self.columns) if column not in self.page_only]
        return [self.columns[i] for i in kept], [[row[i] for i in kept] for row in self.rows]


def print_table(table: TextTable) -> None:
    """Print one table."""
    from rich.console import Console

    Console().print(rich_table(table))


def rich_table(table: TextTable) -> "Table":
    """The table as rich draws it."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=Text(table.caption), box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
    columns, rows = table.narrow()
    for index, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if table.numeric and index else "left"
        shown.add_column(Text(column), justify=justify, overflow="fold", no_wrap=index == 0)
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    return shown
