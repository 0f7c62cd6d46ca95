"""A table on standard output: fitted to a terminal, plain columns in a pipe.

On a terminal columns without a value are left out, columns that matter less make room for the last one, and the last
one is cut, as is any cell that is longer than a name may be. In a pipe nothing is left out and nothing is cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mpfora.cli import printing
from mpfora.model.printable import printable_line

# rich is imported where a table is fitted to a terminal: a pipe needs nothing of it
if TYPE_CHECKING:
    from rich.text import Text

#: columns that matter less make room until the last column has so many cells
_GOOD_WIDTH = 30
#: the last column is not made narrower than this
_LEAST_WIDTH = 12
#: no column is made wider by one row: what is longer (no id or name that mpfora takes) goes beyond it in a pipe, and is
#: cut on a terminal
_WIDEST = 128
_GAP = "  "

#: the colour of a cell in the column STATE
_STYLES = {
    "runnable": "green", "completed": "blue", "failed": "red", "killed": "red", "fault": "red", "unreadable": "red",
    "sleeping": "cyan", "paused": "yellow", "pending": "yellow",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Table:
    """header  the names of the columns; a cell of the column STATE is coloured
    rows    the cells, as many in each as in the header
    lesser  columns that a narrow terminal does without, the least important first
    empty   what a terminal shows instead of a header without rows"""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    lesser: Sequence[str] = ()
    indent: str = ""
    empty: str = ""

    def show(self) -> None:
        """Raises OutputFailed."""
        if self.empty and not self.rows and printing.is_terminal():
            printing.tell(self.empty)
            return
        lines = [tuple(self.header), *(tuple(map(printable_line, row)) for row in self.rows)]
        if printing.is_terminal():
            printing.say_texts(self._fitted(lines, printing.width()))
        else:
            printing.say("\n".join(self._plain(lines)))

    def fitted(self, width: int) -> list[Text]:
        """The lines as a terminal of this width shows them, the header first."""
        lines = [tuple(self.header), *(tuple(map(printable_line, row)) for row in self.rows)]
        return list(self._fitted(lines, width))

    def plain(self) -> list[str]:
        """The lines as a pipe gets them."""
        return list(self._plain([tuple(self.header), *(tuple(map(printable_line, row)) for row in self.rows)]))

    def _plain(self, lines: Sequence[Sequence[str]]) -> Iterator[str]:
        """An empty cell is "-", so that programs can tell the columns apart."""
        filled = [tuple(cell or "-" for cell in line) for line in lines]
        widths = [min(_WIDEST, max(map(len, column))) for column in zip(*filled, strict=True)]
        for line in filled:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            yield self.indent + _GAP.join(cells).rstrip()

    def _fitted(self, lines: Sequence[Sequence[str]], width: int) -> Iterator[Text]:
        from rich.text import Text

        widths = self._widths(lines, width)
        for line in lines:
            text = Text(self.indent)
            for column, cells in widths.items():
                text.append(_fit(line[column], cells), self._style(line, column, lines[0]))
                text.append(_GAP)
            text.rstrip()
            yield text

    def _style(self, line: Sequence[str], column: int, header: Sequence[str]) -> str:
        if line is header:
            return "bold"
        return _STYLES.get(line[column], "") if header[column] == "STATE" else ""

    def _widths(self, lines: Sequence[Sequence[str]], width: int) -> dict[int, int]:
        """The columns that are shown, and the cells of each. The first column is always shown."""
        from rich.cells import cell_len

        widths = {
            column: max(cell_len(line[column]) for line in lines)
            for column in range(len(self.header))
            if column == 0 or any(line[column] for line in lines[1:])
        }
        before_last = sorted(widths)[:-1]
        widths.update({column: min(widths[column], _WIDEST) for column in before_last})
        for column in map(list(self.header).index, self.lesser):
            if _room(widths, width - len(self.indent)) >= min(_GOOD_WIDTH, widths[max(widths)]):
                break
            widths.pop(column, None)
        last = max(widths)
        if last != 0:
            widths[last] = min(widths[last], max(_LEAST_WIDTH, _room(widths, width - len(self.indent))))
        return widths


def _room(widths: dict[int, int], width: int) -> int:
    """The cells that the other columns leave to the last one."""
    last = max(widths)
    return width - sum(cells + len(_GAP) for column, cells in widths.items() if column != last)


def _fit(cell: str, width: int) -> str:
    """The cell in exactly this width."""
    from rich.cells import cell_len, set_cell_size

    return set_cell_size(cell, width) if cell_len(cell) <= width else f"{set_cell_size(cell, width - 1)}…"
