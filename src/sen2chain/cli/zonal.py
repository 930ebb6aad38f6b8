"""`sen2chain zonal`: statistics of every band of rasters under the polygons of a layer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from sen2chain import atomic
from sen2chain.cli import options as shared
from sen2chain.cli.click_command import Command, fail
from sen2chain.cli.codes import EXIT_NOTHING, EXIT_PARTLY
from sen2chain.cli.show import notes, table
from sen2chain.errors import OutputError
from sen2chain.parallel import workers
from sen2chain.progress import counted, printable, sized

if TYPE_CHECKING:
    import pandas as pd

    from sen2chain.multiband import ZonalPlan, ZonalStatistics
    from sen2chain.multiband.zonal_table import Shape

_EXAMPLES = """
\b
Examples:
  sen2chain zonal embeddings_2024.tif parcels.gpkg --out embeddings.csv
  sen2chain zonal dem.tif parcels.gpkg --stat percentile_90 --pixels weighted --out relief.csv
  sen2chain zonal 'NETCDF:"climate.nc":t2m' parcels.gpkg --pixels weighted --long --out climate.csv
  sen2chain zonal landcover.tif parcels.gpkg --stat shares --stat majority --out cover.parquet
  sen2chain zonal tile_1.tif tile_2.tif parcels.gpkg --combine mosaic --bands 1-3,A07 --out tiles.csv
  sen2chain zonal embeddings_2024.tif parcels.gpkg --dry-run

\b
Exit codes: 0 done, 1 error, 2 an option that cannot be used, 3 no polygon has a value, 4 a part could not be read.
"""
_MANY_BANDS = 12


@click.command(cls=Command, epilog=_EXAMPLES, interrupted="Nothing was written. A next run begins anew.")
@click.argument("rasters", metavar="RASTER...", nargs=-1, required=True)
@shared.layer_file
@click.option("--out", "-o", metavar="FILE", help="File for the table, .csv or .parquet. Required, but for --dry-run.")
@click.option(
    "--stat",
    "stats",
    multiple=True,
    metavar="NAME",
    help="Statistic of each band besides count, nodata, mean, std, min and max.",
)
@click.option("--bands", metavar="LIST", help="Bands by number or name, separated by commas, as 1-3,A07. Default: all.")
@click.option(
    "--combine",
    type=click.Choice(["mosaic", "side-by-side"]),
    help="What several rasters are. Default: what their grids and bands say.",
)
@click.option("--long", "is_long", is_flag=True, help="Write one row per polygon and band, and not one per polygon.")
@click.option(
    "--scale/--no-scale", "scaled", default=True, help="Apply the scale and the offset that the file has for its bands."
)
@click.option("--raster-crs", metavar="CRS", help="CRS of rasters that have none, as EPSG:4326.")
@shared.layer_name
@shared.pixels_and_buffer
@click.option("--dry-run", is_flag=True, help="Say what the rasters hold and what would be read; read no pixel.")
@shared.threads
@shared.report
@shared.overwrite("the file of --out or --report", "rasters, layer, statistics, ...")
@shared.common("grids, windows and time of reading; every band, and the polygons without a value by reason")
def zonal(rasters: tuple[str, ...], layer_file: str, **options: Any) -> None:
    """Write statistics of every band of each RASTER under the polygons of LAYER: one row per polygon.

    RASTER... are files of any format that GDAL reads, with any number of bands: embeddings, climate grids, land cover,
    elevation. Several are the parts of a mosaic, or lie side by side with columns of their own. LAYER, the last
    argument, is any layer of polygons, lines or points, as for sen2chain extract.
    """
    from sen2chain.multiband import plan_zonal, table_file
    from sen2chain.provenance import check_outside_tables

    shape: Shape = "long" if options["is_long"] else "wide"
    report = shared.report_file(options["report"])
    out = None if options["out"] is None else table_file(options["out"])
    if not options["dry_run"]:
        if out is None:
            raise click.UsageError("Missing option '--out' / '-o': the file for the table.")
        if report is not None and report.with_suffix(".json") == out.with_suffix(".json"):
            raise OutputError(f"{report} would share its JSON with {out.name}; choose another name for the report.")
    keywords = {name: options[name] for name in _OF_PLAN}
    plan = plan_zonal(rasters, layer_file, stats=options["stats"] or None, multiproc=options["workers"], **keywords)
    if options["dry_run"]:
        _tell_plan(plan, quiet=options["quiet"], verbose=options["verbose"])
        return
    assert out is not None  # noqa: S101  # as was checked
    if not options["overwrite"]:
        plan.check_results(out, shape, report)
    for folder in {file.parent for file in (out, report) if file is not None}:
        check_outside_tables(folder)
        atomic.check_folder(folder)
    begin = time.perf_counter()
    result = plan.run()
    seconds = time.perf_counter() - begin
    write = result.to_csv if out.suffix.lower() == ".csv" else result.to_parquet
    written = [write(out, shape, overwrite=options["overwrite"])]
    if report is not None:
        written.append(result.report_to_csv(report, overwrite=options["overwrite"]))
    if not options["quiet"]:
        if options["verbose"]:
            _tell_readings(plan)
            threads = counted(workers(plan.threads), "thread")
            click.echo(f"Read and computed in {seconds:.1f} s with {threads}.")
        _tell(result, verbose=options["verbose"])
        notes(map(str, written))
    if not result.rows:
        fail(f"No polygon has a value. {result.why_nothing()}", EXIT_NOTHING)
    if result.incomplete:
        fail(f"A part could not be read. {result.why_partly()}", EXIT_PARTLY)


_OF_PLAN = (
    "bands", "pixels", "buffer", "combine", "scaled", "raster_crs", "layer", "id_field", "encoding", "crs", "quiet",
)  # fmt: skip


def _tell_plan(plan: ZonalPlan, *, quiet: bool, verbose: bool) -> None:
    """Print what the rasters hold, and what a run would read."""
    estimate = plan.estimate()
    if not quiet:
        notes(plan.notes())
        if verbose:
            _tell_readings(plan)
        _bands("Dry run", plan.bands, verbose=verbose)
        blocks = counted(estimate.windows, "window")
        click.echo(
            f"{estimate.features:,} of {counted(len(plan.layer), 'polygon')} with {counted(estimate.pixels, 'pixel')}; "
            f"{blocks} of {sized(estimate.decoded)} would be decoded."
        )
    if not estimate.pixels:
        why = plan.why_outside or "None has pixels in the rasters."
        fail(f"No polygon would have a value. {why}", EXIT_NOTHING)


def _tell_readings(plan: ZonalPlan) -> None:
    """Print the grid of each raster, and the windows of it that are read."""
    lines = [[item.label, str(item.grid), str(item.windows), sized(item.decoded)] for item in plan.readings()]
    table("Rasters", ["raster", "grid", "windows", "decoded"], lines, numeric=(2, 3))


def _tell(result: ZonalStatistics, *, verbose: bool) -> None:
    """Print the notes and what came of each band."""
    notes(result.notes)
    report = result.report
    reasons = [name for name in report.columns if name not in {"raster", "band", "rows", "error"}]
    shown = report if verbose or len(report) <= _MANY_BANDS else report.iloc[:_MANY_BANDS]
    lines = [
        [str(line["band"]), str(line["rows"]), ", ".join(f"{r} {line[r]}" for r in reasons if line[r]) or "-"]
        for _, line in shown.iterrows()
    ]
    table("Summary", ["band", "polygons with a value", "polygons left out"], lines, numeric=(1,))
    if len(shown) < len(report):
        click.echo(f"... and {len(report) - len(shown)} more bands; --verbose or --report FILE shows all.")
    for error in dict.fromkeys(filter(None, report["error"])):
        click.echo(f"! {printable(error)}")


def _bands(title: str, bands: pd.DataFrame, *, verbose: bool) -> None:
    """Print a line for each band."""
    shown = bands if verbose or len(bands) <= _MANY_BANDS else bands.iloc[:_MANY_BANDS]
    header = ["raster", "number", "band", "dtype", "nodata", "scale", "offset", "mask"]
    lines = [
        [
            *map(str, (line["raster"], line["number"], line["band"], line["dtype"])),
            "-" if line["nodata"] is None or line["nodata"] != line["nodata"] else f"{line['nodata']:g}",
            f"{line['scale']:.10g}", f"{line['offset']:.10g}", "yes" if line["mask"] else "no",
        ]
        for line in shown.to_dict("records")
    ]  # fmt: skip
    table(title, header, lines, numeric=(1, 4, 5, 6))
    if len(shown) < len(bands):
        click.echo(f"... and {len(bands) - len(shown)} more bands; --verbose shows all.")
