"""Tables of a result as plain text, in the style of the command, for `str()` of results."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sen2chain.progress import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH = 100
"""Columns of a text whose reader's terminal is not known."""


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table with a title."""

    title: str
    """What it shows."""
    header: Sequence[str]
    """Names of the columns."""
    rows: Sequence[Sequence[str]]
    """Cells, as many in each row as there are columns."""
    numeric: Sequence[int] | range = ()
    """Positions of the columns that are aligned to the right."""


def as_text(tables: Iterable[TextTable], width: int = WIDTH) -> str:
    """Return tables as lines of text, with an empty line between two tables.

    Parameters
    ----------
    tables
        The tables.
    width
        Columns of the text; longer cells go on in a further line.
    """
    return "\n\n".join(_text(table, width) for table in tables)


def _text(table: TextTable, width: int) -> str:
    from rich import box  # noqa: PLC0415  # needed where a result is printed only
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    made = Table(
        title=Text(printable(table.title)),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for position, name in enumerate(table.header):
        # A number is never cut in two.
        made.add_column(
            Text(printable(name)),
            justify="right" if position in table.numeric else "left",
            overflow="fold",
            no_wrap=position in table.numeric,
        )
    for row in table.rows:
        # As it is: names may look like markup, or hold what does something to a terminal.
        made.add_row(*(Text(printable(cell)) for cell in row))
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None, force_terminal=False, legacy_windows=False).print(made)
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    return "\n".join(line for line in lines if line)
