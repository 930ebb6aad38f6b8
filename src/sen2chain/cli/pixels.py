"""`sen2chain pixels`: write the pixels themselves, or delete those that are kept in the folder of a layer."""

from __future__ import annotations

from typing import Any

import click

from sen2chain.cli import options as shared
from sen2chain.cli import show
from sen2chain.cli.click_command import REAL, Command, fail
from sen2chain.cli.codes import EXIT_NOTHING, EXIT_PARTLY
from sen2chain.progress import printable

_EXAMPLES = """
\b
Examples:
  sen2chain pixels parcels.gpkg --index NDVI --mask CM004 --out out
  sen2chain pixels parcels.gpkg --index NDVI --bands B02,B03,B04,B08 --from 2022-06-01 --to 2022-06-30 --out out
  sen2chain pixels parcels.gpkg --index NDVI --id parcel_no --pixels weighted --units index --out out
  sen2chain pixels parcels.gpkg --pixels-from EXTRACTION --index NDVI --bands B03,B04,B08 --out out
  sen2chain pixels parcels.gpkg --index NDVI --format zarr --out out      chips of each feature, for training

\b
Open the result with
  pandas.read_parquet("out/parcels/parcels_pixels_2022-06-01_2022-06-30.parquet")
  xarray.open_zarr("out/parcels/parcels_chips_2022-06-01_2022-06-30.zarr", group="32TPS/17")

\b
Exit codes: 0 done, 1 error, 2 an option that cannot be used, 3 there are no pixels, 4 a part could not be read.
"""


@click.command(
    cls=Command,
    epilog=_EXAMPLES,
    interrupted="Files that are there are complete, and the JSON says that the table is not. A next run begins anew.",
)
@shared.layer_file
@shared.indices("all twelve")
@shared.sensing_dates
@shared.masks
@shared.archive
@shared.pixels_from
@click.option("--out", "-o", metavar="DIR", help="Folder for the result. Required.")
@click.option(
    "--format",
    type=click.Choice(["parquet", "zarr"]),
    default="parquet",
    show_default=True,
    help="A table with one row per feature, pixel and date, or chips of each feature by date.",
)
@click.option(
    "--bands",
    metavar="B02,B03,...",
    help="Bands whose reflectance is written. Default: those of the indices.",
)
@shared.layer_name
@shared.pixels_and_buffer
@click.option(
    "--min-valid",
    type=REAL,
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="Leave out features on dates with a smaller share of valid pixels.",
)
@click.option(
    "--units",
    type=click.Choice(["scaled", "index"]),
    default="scaled",
    show_default=True,
    help="Write index values times 10000 (7200) or as they are (0.72).",
)
@shared.cover
@shared.prefer
@shared.verify
@click.option("--keep-empty", is_flag=True, help="Write features on dates without a valid pixel too.")
@shared.threads
@shared.overwrite
@shared.common(shared.EVERY_ACQUISITION)
def pixels(layer_file: str, **options: Any) -> None:
    """Write the pixels of LAYER's polygons: one row per feature, pixel and date, or chips for training.

    A row has the feature, the product, the pixel's centre, the reflectance of bands, index values, and whether each
    mask masks the pixel. Of each feature and date they are the pixels that its row of `sen2chain extract` is made of.
    LAYER is a file of polygons as for `sen2chain extract`.
    """
    from sen2chain.timeseries import TimeSeries

    if options["out"] is None:
        raise click.UsageError("Missing option '--out' / '-o': the folder for the result.")
    show.say_if_compiling(quiet=options["quiet"])
    series = TimeSeries(layer_file, **shared.of_series(options))
    written = series.to_pixels(options["out"], options["format"], options["bands"], options["overwrite"])
    if not options["quiet"]:
        show.notes(written.notes)
        show.summary(written.report, verbose=options["verbose"])
        show.notes(f"! {problem}" for problem in written.problems)
        click.echo(printable(str(written)))
    if not written.rows:
        fail(f"There are no pixels. {written.why_nothing()}".strip(), EXIT_NOTHING)
    if written.incomplete:
        fail(f"A part could not be read. {written.why_partly()}", EXIT_PARTLY)
