"""Output of the commands: summaries, tables and notes, and the exit codes for missing rows."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from sen2chain.cli.click_command import fail
from sen2chain.cli.codes import EXIT_NOTHING, EXIT_PARTLY
from sen2chain.progress import printable
from sen2chain.reasons import Reason
from sen2chain.report import remarks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import pandas as pd

    from sen2chain.timeseries import TimeSeries

_TROUBLES = 5


def finish(
    series: TimeSeries,
    files: Sequence[Path],
    kept: Sequence[str] = (),
    *,
    quiet: bool,
    verbose: bool,
    damage_is_part_of_it: bool = False,
) -> None:
    """Print the summary and leave with the exit code that says how it went.

    Parameters
    ----------
    series
        What was extracted.
    files
        What was written.
    kept
        Sentences on files that were not replaced.
    quiet, verbose
        As the options say.
    damage_is_part_of_it
        Whether products that cannot be used count as no failure.
    """
    failure, code = "", EXIT_PARTLY
    if not series.rows:
        failure, code = " ".join(["Nothing was extracted.", series.why_nothing(), *kept]), EXIT_NOTHING
    elif kept or (series.incomplete and not damage_is_part_of_it):
        failure = " ".join(["A part could not be extracted.", series.why_partly(), *kept])
    if not quiet:
        notes(series.notes)
        summary(series.report, verbose=verbose, told=failure)
        for file in files:
            click.echo(printable(str(file)))
    if failure:
        fail(failure, code)


def notes(sentences: Iterable[str]) -> None:
    """Print sentences on the layer and the archive."""
    for sentence in sentences:
        click.echo(printable(sentence))


def summary(report: pd.DataFrame, *, verbose: bool, told: str = "") -> None:
    """Print a line for each index and mask, and what could not be used.

    Parameters
    ----------
    report
        The report.
    verbose
        Whether to print a line for each acquisition too.
    told
        The error that the command ends with.
    """
    rows, reasons = [], [reason.value for reason in Reason]
    for (index, mask), group in report[report["index"] != ""].groupby(["index", "mask"], sort=False):
        rows.append(
            [
                f"{index}",
                f"{mask}",
                f"{group['acquisition'].ne('').sum()}",
                f"{group['rows'].sum()}",
                _left_out(group[reasons].sum()),
            ]
        )
    if rows:
        table("Summary", ["index", "mask", "acquisitions", "rows", "features left out"], rows, numeric=(2, 3))
    if verbose:
        shown = ["index", "mask", "acquisition", "value_source", "mask_source", "rows"]
        lines = zip(report[shown].to_numpy().tolist(), report[reasons].to_numpy().tolist(), strict=True)
        every = [[*map(str, line), _left_out(counts)] for line, counts in lines]
        table("Acquisitions", [*shown, "features left out"], every, numeric=(5,))
    troubles = remarks(report, told)
    for sentence in troubles if verbose else troubles[:_TROUBLES]:
        click.echo(f"! {printable(sentence)}")
    if len(troubles) > _TROUBLES and not verbose:
        click.echo(f"! ... and {len(troubles) - _TROUBLES} more; {_where_all_is()} shows all.")


def _where_all_is() -> str:
    """Return the options of the command that show all of the report."""
    context = click.get_current_context(silent=True)
    has_report = context is None or any(parameter.name == "report" for parameter in context.command.params)
    return "--verbose or --report FILE" if has_report else "--verbose"


def _left_out(counts: Iterable[int]) -> str:
    """Write how many features each reason left out."""
    return ", ".join(f"{reason.value} {count}" for reason, count in zip(Reason, counts, strict=True) if count) or "-"


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: Sequence[int] | range) -> None:
    """Print a table; columns whose positions are in `numeric` are aligned to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for i, name in enumerate(header):
        made.add_column(Text(printable(name)), justify="right" if i in numeric else "left", overflow="fold")
    for row in rows:
        # As it is: names may look like markup, or hold what does something to a terminal.
        made.add_row(*(Text(printable(cell)) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else 400)  # lines of a file are not folded
    console.print(made)


def result(sentences: Iterable[str]) -> None:
    """Print the result of a step, unless the series has already printed it on the same terminal."""
    if sys.stdout.isatty() and sys.stderr.isatty():
        return  # there the series itself says it, see `sen2chain.progress.say`
    notes(sentences)


def say_if_compiling(*, quiet: bool) -> None:
    """Explain why the first run takes a few seconds to start: kernels are compiled."""
    if quiet or not sys.stderr.isatty():
        return
    from sen2chain.jit import can_save
    from sen2chain.zonal import is_compiled

    if not is_compiled():
        often = "First run on this machine" if can_save() else "No folder for numba's cache can be written"
        once = "once" if can_save() else "in each run"
        click.echo(f"{often}: compiling the kernels, about five seconds, {once}.", err=True)
