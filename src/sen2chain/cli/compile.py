"""`sen2chain compile`: make tables of the rows in the folder of a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from sen2chain.cli import options as shared
from sen2chain.cli import show
from sen2chain.cli.click_command import REAL, WHOLE, Command, fail
from sen2chain.cli.codes import EXIT_NOTHING, EXIT_PARTLY
from sen2chain.cli.update import IF_INTERRUPTED, folder_series
from sen2chain.errors import RequestError
from sen2chain.progress import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sen2chain.timeseries import Compiled, TimeSeriesCompil

_EXAMPLES = """
\b
Examples:
  sen2chain compile parcels.gpkg --index NDVI --all --monthly
  sen2chain compile parcels.gpkg --index NDVI --from 2022-03-01 --to 2022-09-30
  sen2chain compile parcels.gpkg --index NDVI --monthly --aggregate median --aggregate count --format parquet
  sen2chain compile parcels.gpkg --index NDVI --all --format gpkg
  sen2chain compile parcels.gpkg --index NDVI --all --smooth
  sen2chain compile parcels.gpkg --index NDVI --all --smooth whittaker --covermax 50 --plot

\b
Exit codes: 0 done, also when nothing has changed, 1 error, 2 an option that cannot be used, 3 there are no rows to
compile, 4 an index or a mask has no rows.
"""

_MANY = 20
_OF_GIS = ("gpkg", "geoparquet")
"""Formats of files that have all rows of the folder, as `TimeSeriesCompil.data` has them."""
_KINDS = ("alldata", "yearly", "monthly", "weekly", "daily")
_OF_COMPILATION = (
    *_KINDS, "datemin", "datemax", "covermax", "reset_smoothing", "window_length", "polyorder", "season_mean", "week",
)  # fmt: skip
_BELONGS = {
    "covermax": "smoothing", "window_length": "smoothing", "polyorder": "smoothing", "season_mean": "smoothing",
    "reset_smoothing": "smoothing", "week": "weekly",
}  # fmt: skip


@click.command("compile", cls=Command, epilog=_EXAMPLES, interrupted=IF_INTERRUPTED)
@shared.layer_file
@shared.indices("those of the twelve that were extracted")
@shared.masks
@click.option("--all", "alldata", is_flag=True, help="One file of all dates.")
@click.option("--yearly", is_flag=True, help="One file for each year.")
@click.option("--monthly", is_flag=True, help="One file for each month.")
@click.option("--weekly", is_flag=True, help="One file for each week.")
@click.option("--daily", is_flag=True, help="One file for each day.")
@shared.dates(
    "One more file, of the dates from this one on; in the folder custom.",
    "One more file, of the dates up to this one, inclusive; in the folder custom.",
    ("datemin", "datemax"),
)
@click.option(
    "--aggregate",
    multiple=True,
    metavar="NAME",
    help="One row for each feature and period too: mean, median, max, count, weighted_mean.",
)
@click.option(
    "--week",
    type=click.Choice(["sunday", "iso"]),
    default="sunday",
    show_default=True,
    help="Weeks that begin on Sunday, or on Monday as ISO 8601 counts them.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["csv", "parquet", *_OF_GIS]),
    help="Format of the results; may be given several times. Default: csv. gpkg and geoparquet have all dates (--all).",
)
@click.option(
    "--smooth",
    "smoothing",
    is_flag=False,
    flag_value="savgol",
    type=click.Choice(["savgol", "whittaker", "harmonic", "original"]),
    help="Smooth the series of all dates and of the range too; savgol where no method is named.",
)
@click.option(
    "--covermax",
    type=REAL,
    default=75.0,
    show_default=True,
    metavar="PERCENT",
    help="Smoothing: a date counts where fewer than this percentage of a feature's pixels are missing.",
)
@click.option(
    "--window-length",
    type=WHOLE,
    default=11,
    show_default=True,
    metavar="STEPS",
    help="Smoothing: width of the window in steps of five days; a feature with fewer dates is not smoothed.",
)
@click.option(
    "--polyorder",
    type=WHOLE,
    default=3,
    show_default=True,
    metavar="ORDER",
    help="Smoothing: order of the polynomial that savgol and original fit in the window.",
)
@click.option("--season-mean", is_flag=True, help="Smoothing, original: fill long gaps with the mean of other years.")
@click.option(
    "--reset-smoothing",
    is_flag=True,
    help="Smoothing: begin anew what original would continue, or what was smoothed another way.",
)
@shared.archive
@shared.extraction
@shared.layer_name
@shared.pixels
@shared.cover
@shared.plot
@shared.overwrite("a compiled file or map")
@shared.common("all files that were written, however many")
def compile_(layer_file: str, **options: Any) -> None:
    """Make tables of what is in the folder of LAYER.

    `sen2chain update` fills the folder. Tables are by day, week, month or year, or of all dates together; only those
    that would differ are written. LAYER, --pixels, --buffer, --stat, --library and --extraction find the folder, so
    they are the same as for the update.
    """
    _check(options)
    series, meanings = folder_series(layer_file, options)
    if not series.folder.is_dir():
        fail(
            f"Nothing was compiled. {series.folder} does not exist; run sen2chain update first, with the same options.",
            EXIT_NOTHING,
        )
    if options["plot"]:
        series.check_results(None, ["plot"])  # what is missing is told before the work starts
    done = _compiled(series, options)
    pictures = [*series.plot_global(), *series.plot_details()] if options["plot"] and not done.notes else []
    if not options["quiet"]:
        show.notes(meanings)
        show.result([*done.notes, *done.remarks, str(done)])
        files = [*done.files, *pictures]
        for path in files if options["verbose"] or len(files) <= _MANY else [series.folder / "compiled_data"]:
            click.echo(printable(str(path)))
    if not done.files and not done.unchanged:
        fail(f"Nothing was compiled. {done.notes[0]}", EXIT_NOTHING)
    if done.notes:
        fail(f"A part could not be compiled. {done.notes[0]}", EXIT_PARTLY)


def _compiled(series: TimeSeriesCompil, options: Mapping[str, Any]) -> Compiled:
    """Write all files that the options ask for."""
    from sen2chain.timeseries import Compiled

    formats = dict.fromkeys(options["formats"] or ("csv",))
    tables, maps = ([kind for kind in formats if (kind in _OF_GIS) == wanted] for wanted in (False, True))
    done = Compiled()
    if maps and not options["overwrite"]:
        series.check_results(None, maps)  # what cannot be written is told before the work starts
    if tables:
        done = series.compile_data(
            aggregate=options["aggregate"] or None,
            formats=tables,
            smoothing=options["smoothing"] or False,
            overwrite=options["overwrite"],
            **{name: options[name] for name in _OF_COMPILATION},
        )
    if maps and not series.has_rows:
        return done if tables else Compiled(notes=[f"{series.folder} has no rows of these indices and masks."])
    if "gpkg" in maps:
        done.files.append(series.to_geopackage(overwrite=options["overwrite"]))
    if "geoparquet" in maps:
        done.files += series.to_geoparquet(overwrite=options["overwrite"])
    return done


def _check(options: Mapping[str, Any]) -> None:
    """Make sure that the options go together, before anything is read.

    Raises
    ------
    RequestError
        If they do not.
    """
    periods, in_range = any(options[kind] for kind in _KINDS), bool(options["datemin"] or options["datemax"])
    if not periods and not in_range:
        raise RequestError(
            "Nothing is to be compiled; add --all, --yearly, --monthly, --weekly, --daily, --from or --to."
        )
    formats = options["formats"] or ("csv",)
    maps = [kind for kind in formats if kind in _OF_GIS]
    if maps and not options["alldata"]:
        raise RequestError(f"--format {maps[0]} has the rows of all dates; add --all.")
    others = options["smoothing"] or options["aggregate"] or in_range or any(options[kind] for kind in _KINDS[1:])
    if len(maps) == len(formats) and others:
        raise RequestError(f"--format {maps[0]} has all rows alone; add --format csv for the other files.")
    if options["smoothing"] and not options["alldata"] and not in_range:
        raise RequestError("--smooth smooths whole series; add --all, --from or --to.")
    context = click.get_current_context()
    names = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    for name, other in _BELONGS.items():
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE and not options[other]:
            hint = " (--cover-max is the cloud cover of products)" if name == "covermax" else ""
            raise RequestError(f"{names[name]} belongs to {names[other]}; add {names[other]}, or leave it out{hint}.")
    if options["smoothing"]:
        from sen2chain.timeseries.smoothed_files import SmoothRequest

        SmoothRequest.of(options)
