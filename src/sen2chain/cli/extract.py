"""`sen2chain extract`: extract all dates at once, into files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sen2chain import atomic
from sen2chain.cli import options as shared
from sen2chain.cli.click_command import REAL, Command, fail
from sen2chain.cli.codes import EXIT_NOTHING
from sen2chain.cli.show import finish, notes, say_if_compiling, table
from sen2chain.errors import EmptyResultError, SheetLimitError
from sen2chain.progress import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from sen2chain.timeseries import TimeSeries

_EXAMPLES = """
\b
Examples:
  sen2chain extract parcels.gpkg --index NDVI --from 2022-06-01 --to 2022-06-30 --mask CM004 --out out
  sen2chain extract parcels.shp --safe ~/downloads --index NDVI --mask SCL-3-8-9-10-11-ITER1 --pixels weighted --out out
  sen2chain extract parcels.shp --index "SAVI=1.5*(B08-B04)/(B08+B04+0.5)" --stat percentile_10 --units index --out out
  sen2chain extract parcels.gpkg --stac https://earth-search.aws.element84.com/v1 -i NDVI --from 2024-06-01 --out out
  sen2chain extract parcels.gpkg --stac items.parquet --index NDVI --mask CM004 --out out
  sen2chain extract parcels.gpkg --pixels-from EXTRACTION --index EVI --mask SCL-3-8-9-10-11-ITER2 --out out
  sen2chain extract parcels.gpkg --index NDVI --id parcel_no --dry-run
  sen2chain extract parcels.gpkg --index NDVI --id parcel_no --out out --html

\b
Exit codes: 0 done, 1 error, 2 an option that cannot be used, 3 nothing extracted, 4 a part could not be extracted.
"""


_WRITERS: Mapping[str, Callable[[TimeSeries, str, bool], list[Path]]] = {
    "csv": lambda series, out, overwrite: series.to_csv(out, overwrite=overwrite),
    "parquet": lambda series, out, overwrite: series.to_parquet(out, overwrite=overwrite),
    "quicklooks": lambda series, out, _: _sheets(series.extract_ql(out)),
    "plot": lambda series, out, _: [*series.plot_global(out), *series.plot_details(out)],
    "gpkg": lambda series, out, overwrite: [series.to_geopackage(out, overwrite=overwrite)],
    "geoparquet": lambda series, out, overwrite: series.to_geoparquet(out, overwrite=overwrite),
    "xlsx": lambda series, out, overwrite: series.to_excel(out, overwrite=overwrite),
    "wide": lambda series, out, overwrite: series.to_wide_csv(out, overwrite=overwrite),
    "excel": lambda series, out, overwrite: series.to_csv(out, dialect="excel", overwrite=overwrite),
    "excel_semicolon": lambda series, out, overwrite: series.to_csv(
        out, dialect="excel-semicolon", overwrite=overwrite
    ),
    "wide_excel": lambda series, out, overwrite: series.to_wide_csv(out, dialect="excel", overwrite=overwrite),
    "wide_excel_semicolon": lambda series, out, overwrite: series.to_wide_csv(
        out, dialect="excel-semicolon", overwrite=overwrite
    ),
    "html": lambda series, out, overwrite: [series.to_html(out, sample="fit", overwrite=overwrite)],
}
"""Kind of result, as `TimeSeries.check_results` names it -> the call that writes it."""

_FORMATS = ("csv", "parquet", "gpkg", "geoparquet", "xlsx")
"""Kinds that `--format` names; the others have an option of their own."""


@click.command(
    cls=Command,
    epilog=_EXAMPLES,
    interrupted="Files that are there are complete. A next run begins anew; sen2chain update goes on where it stopped.",
)
@shared.layer_file
@shared.indices("all twelve")
@shared.sensing_dates
@shared.masks
@shared.archive
@shared.pixels_from
@click.option("--out", "-o", metavar="DIR", help="Folder for the results. Required, but for --dry-run.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(_FORMATS),
    help="Format of the results; may be given several times. Default: csv.",
)
@click.option("--wide", is_flag=True, help="Write one row per feature and one column per date too (..._wide.csv).")
@click.option("--excel", is_flag=True, help="Write CSV files for Excel too (..._excel.csv), also of --wide.")
@click.option("--excel-semicolon", is_flag=True, help="As --excel, with semicolons and decimal commas.")
@click.option("--html", is_flag=True, help="Write a page with map, series and table too: one HTML file.")
@shared.layer_name
@shared.pixels
@click.option(
    "--min-valid",
    type=REAL,
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
@shared.cover
@shared.prefer
@shared.verify
@click.option("--dry-run", is_flag=True, help="Say what would be read, and about how long it takes; extract nothing.")
@click.option("--keep-empty", is_flag=True, help="Write features without valid pixels too, with the reason.")
@shared.executor
@shared.report
@shared.plot
@click.option(
    "--quicklooks", is_flag=True, help="Write images of features through time too, and contact sheets (JPEG)."
)
@click.option(
    "--feature",
    "features",
    multiple=True,
    metavar="KEY",
    help="Feature of --quicklooks: its --id where that is given, else its name or fid. Default: the first 20.",
)
@shared.overwrite("a file that is written to --out or --report")
@shared.common(shared.EVERY_ACQUISITION)
def extract(layer_file: str, **options: Any) -> None:
    """Extract statistics of LAYER's polygons into CSV files.

    LAYER is anything GDAL reads (GeoPackage, shapefile, GeoJSON, FlatGeobuf, KML, zipped or not) or GeoParquet,
    in any CRS.
    """
    from sen2chain.timeseries import TimeSeries

    report, out, overwrite = shared.report_file(options["report"]), options["out"], options["overwrite"]
    if not options["dry_run"]:
        if out is None:
            raise click.UsageError("Missing option '--out' / '-o': the folder for the results.")
        say_if_compiling(quiet=options["quiet"])
    series = TimeSeries(layer_file, **shared.of_series(options))
    if options["dry_run"]:
        _tell_estimate(series, quiet=options["quiet"])
        return
    kinds, writers = _kinds(options), dict(_WRITERS)
    features = list(options["features"]) or None
    if "quicklooks" in kinds:
        series.check_quicklooks(features)
        writers["quicklooks"] = lambda series, out, _: _sheets(series.extract_ql(out, features=features))
    elif features:
        raise click.UsageError("--feature names features of --quicklooks; add that option.")
    # What cannot be written is told before the work starts.
    if not overwrite:
        series.check_results(out, kinds, report=report)
    # Results that are there with this very mask are not new: the notice was told when they were made. Results that
    # --overwrite replaces may be of another mask. Former versions had no --pixels-from, so none of its runs changed.
    tells_changes = not options["pixels_from"] and (overwrite or bool(series.new_results(out, kinds)))
    if report is not None:
        atomic.check_folder(report.parent)
    series.check_folder(out)
    series.run()
    files, kept = [], []
    for kind in kinds:
        try:
            files += writers[kind](series, out, overwrite)
        except EmptyResultError as error:
            files += error.files
            kept.append(str(error))
        except SheetLimitError as error:
            kept.append(str(error))
            if not {"csv", "parquet"} & set(kinds):  # what was extracted is not lost
                files += series.to_csv(out, overwrite=overwrite)
                kept.append("The rows are in CSV files instead.")
    if report is not None:
        try:
            series.report_to_csv(report, overwrite=overwrite)
        except EmptyResultError as error:
            kept.append(str(error))
    if tells_changes and not options["quiet"]:
        notes(_changed(options))
    finish(series, files, kept, quiet=options["quiet"], verbose=options["verbose"])


def _sheets(quicklooks: Iterable[Path]) -> list[Path]:
    """Return the contact sheets among quicklooks, since a list of all images would hide the other results."""
    return [path for path in quicklooks if "_MOZ-QL_" in path.name]


def _kinds(options: Mapping[str, Any]) -> list[str]:
    """Return the kinds of results that the options ask for."""
    if options["excel"] and options["excel_semicolon"]:
        raise click.UsageError("--excel and --excel-semicolon write the same files; choose one of them.")
    named = dict.fromkeys(options["formats"] or ("csv",))
    own = [kind for kind in _WRITERS if kind not in _FORMATS and options.get(kind)]
    return [*named, *own, *(f"wide_{kind}" for kind in own if options["wide"] and kind.startswith("excel"))]


def _tell_estimate(series: TimeSeries, *, quiet: bool) -> None:
    """Print what a run would be; exit code 3 where it would extract nothing."""
    found = series.estimate()
    if found.why_nothing:
        fail(f"Nothing would be extracted. {found.why_nothing}", EXIT_NOTHING)
    if quiet:
        return
    notes(found.notes)
    rows = [
        [
            index,
            mask,
            str(served.acquisitions),
            ", ".join(f"{kind} {count}" for kind, count in served.sources.most_common()) or "-",
            f"{served.missing}: {served.detail}" if served.missing else "-",
        ]
        for (index, mask), served in found.served.items()
    ]
    header = ["index", "mask", "acquisitions", "source of values, of the mask", "inputs missing"]
    table("Dry run", header, rows, numeric=(2,))
    click.echo(printable(str(found)))


def _changed(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield sentences on names of masks that meant another mask in former versions of this command."""
    if not options["masks"]:
        yield f"The cloud mask is {shared.masks_of(options)[0]}; former versions took CM001 where none was named."
    for name in options["masks"]:
        if name.upper() == "CM004" and options["iterations"] is None:
            meant = shared.masks_of({**options, "masks": [name]})[0]
            yield f"{name} is {meant}; in former versions of this command it was with ITER5 (--iterations 5)."
