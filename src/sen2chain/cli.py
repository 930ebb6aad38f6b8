"""The command: parse, call, print, exit code. Everything else lives in the rooms it calls.

Exit codes: 0 all done, 1 an error, 2 an option that cannot be used, 3 nothing was extracted, 4 a part could not be
extracted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from sen2chain.errors import OutputError, RequestError, Sen2ChainError
from sen2chain.records import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sen2chain.timeseries import TimeSeries

EXIT_ERROR, EXIT_USAGE, EXIT_NOTHING, EXIT_PARTLY = 1, 2, 3, 4

_EXTRACT_EXAMPLES = """
\b
Examples:
  sen2chain extract parcels.gpkg --index NDVI --from 2022-06-01 --to 2022-06-30 --mask CM004 --iterations 1 --out out
  sen2chain extract parcels.shp --safe ~/downloads --index NDVI --mask SCL-3-8-9-10-11-ITER1 --pixels weighted --out out
  sen2chain extract parcels.shp --index "SAVI=1.5*(B08-B04)/(B08+B04+0.5)" --stat percentile_10 --units index --out out

\b
Exit codes: 0 done, 1 error, 2 an option that cannot be used, 3 nothing extracted, 4 a part could not be extracted.
"""


class _Command(click.Command):
    """A command whose errors are one sentence, with a traceback only where `--debug` asks for it."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Sen2ChainError as error:
            if ctx.params.get("debug"):
                raise
            _fail(str(error), EXIT_USAGE if isinstance(error, RequestError) else EXIT_ERROR)
        except OSError as error:
            if ctx.params.get("debug"):
                raise
            where = f" ({error.filename})" if error.filename else ""
            _fail(f"{error.strerror or error}{where}.")


def _fail(sentence: str, code: int = EXIT_ERROR) -> NoReturn:
    click.echo(f"sen2chain: {sentence}", err=True)
    sys.exit(code)


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that every command has."""
    for option in (
        click.option("--debug", is_flag=True, help="Show the traceback of an error."),
        click.option("--verbose", "-v", is_flag=True, help="Say more: every acquisition, its sources and reasons."),
        click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors."),
    ):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="sen2chain", prog_name="sen2chain")
def main() -> None:
    r"""Sentinel-2 archive in, clean time series out.

    \b
    Try it:   sen2chain demo demo-archive
    Use it:   sen2chain extract parcels.gpkg --index NDVI --mask CM004 --iterations 1 --out out
    """


@main.command(cls=_Command, epilog=_EXTRACT_EXAMPLES)
@click.argument("layer_file", metavar="LAYER")
@click.option(
    "--index", "-i", "indices", multiple=True, metavar="NAME", help="Index, or NAME=formula. Default: all twelve."
)
@click.option("--from", "date_min", metavar="YYYY-MM-DD", help="First sensing date, inclusive.")
@click.option("--to", "date_max", metavar="YYYY-MM-DD", help="Last sensing date, inclusive.")
@click.option(
    "--mask", "-m", "masks", multiple=True, metavar="MASK", help="Cloud mask, as CM004 or in full. Default: CM001."
)
@click.option(
    "--probability", type=int, default=1, show_default=True, help="CM003: CLDPRB from which a pixel is cloud."
)
@click.option("--iterations", type=int, default=5, show_default=True, help="CM003, CM004: number of dilations.")
@click.option("--cld-shad/--no-cld-shad", default=True, help="CM004: mask cloud shadows.")
@click.option("--cld-med-prob/--no-cld-med-prob", default=True, help="CM004: mask clouds of medium probability.")
@click.option("--cld-hi-prob/--no-cld-hi-prob", default=True, help="CM004: mask clouds of high probability.")
@click.option("--thin-cir/--no-thin-cir", default=True, help="CM004: mask thin cirrus.")
@click.option(
    "--library", metavar="DIR", help="Sen2Chain library. Default: that of SEN2CHAIN_HOMEPATH or the home folder."
)
@click.option("--safe", metavar="DIR", help="Folder of SAFE products, also zipped, instead of a library.")
@click.option("--out", "-o", metavar="DIR", required=True, help="Folder for the results.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["csv", "parquet"]),
    help="Format of the results; may be given twice. Default: csv.",
)
@click.option("--layer", metavar="NAME", help="Layer of a file that has several.")
@click.option("--field", metavar="NAME", help="Attribute that names features in plots.")
@click.option("--buffer", type=float, metavar="METRES", help="Grow (or shrink, if negative) the features first.")
@click.option(
    "--pixels", type=click.Choice(["center", "all_touched", "weighted"]), default="center", show_default=True,
    help="Which pixels belong to a polygon.",
)  # fmt: skip
@click.option("--stat", "stats", multiple=True, metavar="NAME", help="Statistic besides the documented columns.")
@click.option(
    "--min-valid",
    type=float,
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="Leave out rows with a smaller share of valid pixels.",
)
@click.option(
    "--units",
    type=click.Choice(["scaled", "index"]),
    default="scaled",
    show_default=True,
    help="Write values times 10000 (7200) or as they are (0.72).",
)
@click.option(
    "--cover-min",
    type=float,
    default=0.0,
    show_default=True,
    metavar="PERCENT",
    help="Smallest cloud cover of a product.",
)
@click.option(
    "--cover-max",
    type=float,
    default=100.0,
    show_default=True,
    metavar="PERCENT",
    help="Largest cloud cover of a product.",
)
@click.option("--prefer", type=click.Choice(["stored", "masked"]), help="Read stored rasters before bands.")
@click.option("--keep-empty", is_flag=True, help="Write features without valid pixels too, with the reason.")
@click.option(
    "--workers", type=int, default=0, show_default=True, help="Threads, or Dask's processes; 0 uses all processors."
)
@click.option(
    "--executor", type=click.Choice(["serial", "threads", "dask"]), help="Who does the work. Default: threads."
)
@click.option("--scheduler", metavar="ADDRESS", help="Dask scheduler whose workers do the work: tcp://10.0.0.1:8786.")
@click.option("--report", metavar="FILE", help="Write the full report (CSV) to this file.")
@_common
def extract(layer_file: str, **options: Any) -> None:
    """Extract statistics of LAYER's polygons into CSV files.

    LAYER is anything GDAL reads (GeoPackage, shapefile, GeoJSON, FlatGeobuf, KML, zipped or not) or GeoParquet,
    in any CRS.
    """
    from sen2chain import atomic, settings
    from sen2chain.timeseries import TimeSeries

    report = settings.absolute(options["report"]) if options["report"] else None
    if report is not None and report.is_dir():
        raise OutputError(f"{report} is a folder; --report takes the name of a file.")
    _say_if_compiling(quiet=options["quiet"])
    series = TimeSeries(
        layer_file,
        list(options["indices"]) or None,
        options["date_min"],
        options["date_max"],
        options["cover_min"],
        options["cover_max"],
        field_names=options["field"],
        multiproc=options["workers"],
        masks=list(options["masks"]) or None,
        quiet=options["quiet"],
        **{
            name: options[name]
            for name in (
                "probability", "iterations", "cld_shad", "cld_med_prob", "cld_hi_prob", "thin_cir", "library", "safe",
                "layer", "buffer", "pixels", "stats", "min_valid", "units", "keep_empty", "prefer", "executor",
                "scheduler",
            )
        },
    )  # fmt: skip
    # What cannot be written is told before the work starts.
    if report is not None:
        atomic.check_folder(report.parent)
    series.check_folder(options["out"])
    series.run()
    files = []
    for kind in options["formats"] or ("csv",):
        files += (series.to_csv if kind == "csv" else series.to_parquet)(options["out"])
    if report is not None:
        series.report_to_csv(report)
    _finish(series, files, quiet=options["quiet"], verbose=options["verbose"])


@main.command(cls=_Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--size", type=int, metavar="PIXELS", help="Edge of the tiles in 10 m pixels, up to 10980.  [default: 360]"
)
@click.option("--parcels", type=int, metavar="N", help="Number of parcels.  [default: 48]")
@click.option("--seed", type=int, help="Another season, other fields.  [default: 1]")
@_common
def demo(folder: Path, *, size: int | None, parcels: int | None, seed: int | None, **options: Any) -> None:
    """Write a small but truthful archive with parcels to DIR and run the extraction on it.

    Two overlapping tiles in different UTM zones, a season of growth, clouds with their shadows, a swath edge, the
    change to baseline 04.00 in the middle, one reprocessed acquisition and one damaged file.
    """
    from dataclasses import replace

    from sen2chain import atomic
    from sen2chain import demo as generator
    from sen2chain.progress import progress
    from sen2chain.timeseries import TimeSeries

    default = generator.DEFAULT
    scene = replace(
        default,
        size=default.size if size is None else size,
        parcels=default.parcels if parcels is None else parcels,
        seed=default.seed if seed is None else seed,
    )
    atomic.check_folder(folder)
    quiet = options["quiet"]
    with progress("writing the archive", quiet=quiet) as step:
        archive = generator.build(folder, scene, progress=step)
    if not quiet:
        click.echo(f"Wrote {len(archive.products)} products to {archive.library} and the parcels to {archive.layer}.")
        click.echo(
            f"\nsen2chain extract {archive.layer} --library {archive.library} --index NDVI --index NBR "
            f"--mask CM004 --iterations 1 --out {folder / 'out'}\n"
        )
    _say_if_compiling(quiet=quiet)
    series = TimeSeries(
        archive.layer,
        ["NDVI", "NBR"],
        cm_version="CM004",
        iterations=1,
        library=archive.library,
        quiet=quiet,
    )
    files = series.to_csv(folder / "out")
    if not quiet:
        _show_season(series)
    _finish(series, files, quiet=quiet, verbose=options["verbose"], damage_is_part_of_it=True)


def _say_if_compiling(*, quiet: bool) -> None:
    """Say why the very first run takes a few seconds before anything happens."""
    if quiet or not sys.stderr.isatty():
        return
    from sen2chain.zonal import is_compiled

    if not is_compiled():
        click.echo("First run on this machine: compiling the kernels, about five seconds, once.", err=True)


def _show_season(series: TimeSeries) -> None:
    """Print the mean NDVI of the first parcels by date, so that there is something to look at."""
    frame = series.data["NDVI"]
    chosen = frame[frame["fid"] < 4].reset_index()
    chosen["date"] = chosen["date"].dt.date
    table = (chosen.pivot_table(index="date", columns="fid", values="mean") / 10000).round(2)
    names = series.layer.attributes.iloc[:4, :2].astype(str).agg(" ".join, axis=1)
    rows = [[str(date), *("" if v != v else f"{v:.2f}" for v in row)] for date, *row in table.itertuples()]  # noqa: PLR0124
    _table("Mean NDVI of the first parcels", ["date", *names[table.columns]], rows, numeric=range(1, 5))


def _finish(
    series: TimeSeries, files: Sequence[Path], *, quiet: bool, verbose: bool, damage_is_part_of_it: bool = False
) -> None:
    """Print the summary and leave with the exit code that says how it went."""
    if not quiet:
        _summary(series, files, verbose=verbose)
    if not series.rows:
        _fail(f"Nothing was extracted. {series.why_nothing()}", EXIT_NOTHING)
    if series.incomplete and not damage_is_part_of_it:
        sys.exit(EXIT_PARTLY)


def _summary(series: TimeSeries, files: Sequence[Path], *, verbose: bool) -> None:
    report = series.report
    reasons = [reason.value for reason in Reason if report[reason.value].any()]
    for note in series.notes:
        click.echo(note)
    rows = []
    for (index, mask), lines in report[report["index"] != ""].groupby(["index", "mask"], sort=False):
        left_out = ", ".join(f"{reason} {lines[reason].sum()}" for reason in reasons if lines[reason].sum())
        rows.append(
            [f"{index}", f"{mask}", f"{lines['acquisition'].ne('').sum()}", f"{lines['rows'].sum()}", left_out or "-"]
        )
    if rows:
        _table("Summary", ["index", "mask", "acquisitions", "rows", "features left out"], rows, numeric=(2, 3))
    if verbose:
        shown = report[["index", "mask", "acquisition", "value_source", "mask_source", "rows"]]
        _table(
            "Acquisitions",
            list(shown.columns),
            [[str(v) for v in row] for row in shown.to_numpy().tolist()],
            numeric=(5,),
        )
    troubles = report.loc[report["error"] != "", ["acquisition", "error"]].drop_duplicates("error")
    for _, (acquisition, error) in troubles.head(len(troubles) if verbose else 5).iterrows():
        click.echo(f"! {acquisition}: {error}")
    if len(troubles) > 5 and not verbose:
        click.echo(f"! ... and {len(troubles) - 5} more; --verbose or --report FILE shows all.")
    for file in files:
        click.echo(str(file))


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: Sequence[int] | range) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if i in numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
