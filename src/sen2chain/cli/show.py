"""What the commands print, and how they leave when rows are missing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from sen2chain.cli.codes import EXIT_NOTHING, EXIT_PARTLY
from sen2chain.cli.command import fail
from sen2chain.progress import printable
from sen2chain.records import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import pandas as pd

    from sen2chain.timeseries import TimeSeries

_TROUBLES = 5


def finish(
    series: TimeSeries, files: Sequence[Path], *, quiet: bool, verbose: bool, damage_is_part_of_it: bool = False
) -> None:
    """Print the summary and leave with the exit code that says how it went."""
    if not quiet:
        notes(series.notes)
        summary(series.report, verbose=verbose)
        for file in files:
            click.echo(str(file))
    if not series.rows:
        fail(f"Nothing was extracted. {series.why_nothing()}", EXIT_NOTHING)
    if series.incomplete and not damage_is_part_of_it:
        sys.exit(EXIT_PARTLY)


def notes(sentences: Iterable[str]) -> None:
    """Print sentences on the layer and the archive."""
    for sentence in sentences:
        click.echo(printable(sentence))


def summary(report: pd.DataFrame, *, verbose: bool) -> None:
    """Print a line for each index and mask, and what could not be used."""
    reasons = [reason.value for reason in Reason if report[reason.value].any()]
    rows = []
    for (index, mask), lines in report[report["index"] != ""].groupby(["index", "mask"], sort=False):
        left_out = ", ".join(f"{reason} {lines[reason].sum()}" for reason in reasons if lines[reason].sum())
        rows.append(
            [f"{index}", f"{mask}", f"{lines['acquisition'].ne('').sum()}", f"{lines['rows'].sum()}", left_out or "-"]
        )
    if rows:
        table("Summary", ["index", "mask", "acquisitions", "rows", "features left out"], rows, numeric=(2, 3))
    if verbose:
        shown = report[["index", "mask", "acquisition", "value_source", "mask_source", "rows"]]
        table(
            "Acquisitions",
            list(shown.columns),
            [[str(v) for v in row] for row in shown.to_numpy().tolist()],
            numeric=(5,),
        )
    troubles = report.loc[report["error"] != "", ["acquisition", "error"]].drop_duplicates("error")
    for _, (acquisition, error) in troubles.head(len(troubles) if verbose else _TROUBLES).iterrows():
        click.echo(printable(f"! {acquisition}: {error}"))
    if len(troubles) > _TROUBLES and not verbose:
        click.echo(f"! ... and {len(troubles) - _TROUBLES} more; --verbose or --report FILE shows all.")


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: Sequence[int] | range) -> None:
    """Print a table; columns whose positions are in `numeric` are aligned to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for i, name in enumerate(header):
        made.add_column(name, justify="right" if i in numeric else "left", overflow="fold")
    for row in rows:
        # As it is: names may look like markup, or hold what does something to a terminal.
        made.add_row(*(Text(printable(cell)) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(made)


def result(sentences: Iterable[str]) -> None:
    """Print how a step ended, unless it has been said on the same terminal."""
    if sys.stdout.isatty() and sys.stderr.isatty():
        return  # there the series itself says it, see `sen2chain.progress.say`
    notes(sentences)


def say_if_compiling(*, quiet: bool) -> None:
    """Say why the very first run takes a few seconds before anything happens."""
    if quiet or not sys.stderr.isatty():
        return
    from sen2chain.zonal import is_compiled

    if not is_compiled():
        click.echo("First run on this machine: compiling the kernels, about five seconds, once.", err=True)
