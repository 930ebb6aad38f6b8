"""`sen2chain pixels`: write the pixels themselves, or delete those that are kept in the folder of a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sen2chain.cli import options as shared
from sen2chain.cli import show
from sen2chain.cli.click_command import REAL, Command, fail
from sen2chain.cli.codes import EXIT_NOTHING, EXIT_PARTLY
from sen2chain.progress import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

_EXAMPLES = """
\b
Examples:
  sen2chain pixels parcels.gpkg --index NDVI --mask CM004 --out out
  sen2chain pixels parcels.gpkg --index NDVI --bands B02,B03,B04,B08 --from 2022-06-01 --to 2022-06-30 --out out
  sen2chain pixels parcels.gpkg --index NDVI --id parcel_no --pixels weighted --units index --out out
  sen2chain pixels parcels.gpkg --pixels-from EXTRACTION --index NDVI --bands B03,B04,B08 --out out
  sen2chain pixels parcels.gpkg --index NDVI --format zarr --out out      chips of each feature, for training
  sen2chain pixels parcels.gpkg --drop --to 2019-12-31 --dry-run          what is kept until then

\b
Open the result with
  pandas.read_parquet("out/parcels/parcels_pixels_2022-06-01_2022-06-30.parquet")
  xarray.open_zarr("out/parcels/parcels_chips_2022-06-01_2022-06-30.zarr", group="32TPS/17")

\b
Exit codes: 0 done, 1 error, 2 an option that cannot be used, 3 there are no pixels, 4 a part could not be read.
"""


_OF_DROP = {"extraction": "extraction", "wait": "wait", "stats": "stat", "dry_run": "dry-run"}
"""Parameter -> option, of those that only `--drop` uses."""


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
@click.option("--out", "-o", metavar="DIR", help="Folder for the result. Required, but for --drop.")
@click.option(
    "--format",
    type=click.Choice(["parquet", "zarr"]),
    default="parquet",
    show_default=True,
    help="A table with one row per feature, pixel and date, or chips of each feature by date.",
)
@click.option(
    "--bands",
    metavar="BANDS",
    help="Bands whose reflectance is written, as in B02,B03,B04,B08. Default: those of the indices.",
)
@shared.layer_name
@shared.pixels
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
@shared.overwrite("the table or store of this name in --out, as a whole,", "mask, bands, layer, ...")
@click.option(
    "--drop",
    is_flag=True,
    help="Write nothing, and delete the pixels that sen2chain update keeps in the folder of LAYER; its rows stay.",
)
@shared.extraction
@click.option("--dry-run", is_flag=True, help="With --drop: say what would be deleted, and delete nothing.")
@shared.common(shared.EVERY_ACQUISITION)
def pixels(layer_file: str, **options: Any) -> None:
    """Write the pixels of LAYER's polygons: one row per feature, pixel and date, or chips for training.

    A row has the feature, the product, the pixel's centre, the reflectance of bands, index values, and whether each
    mask masks the pixel. Of each feature and date they are the pixels that its row of `sen2chain extract` is made of.
    LAYER is a file of polygons as for `sen2chain extract`.

    --drop deletes kept pixels instead, those from --from to --to or all. LAYER, --pixels, --buffer, --stat,
    --min-valid, --library and --extraction find the folder, so they are the same as for the update.
    """
    if options["drop"]:
        _drop(layer_file, options)
        return
    for name in ("extraction", "wait", "stats", "dry_run"):
        if options[name]:
            raise click.UsageError(f"--{_OF_DROP[name]} belongs to --drop; add that option.")
    if options["out"] is None:
        raise click.UsageError("Missing option '--out' / '-o': the folder for the result.")
    from sen2chain.timeseries import TimeSeries

    show.say_if_compiling(quiet=options["quiet"])
    series = TimeSeries(layer_file, **_keywords(options, *_OF_DROP))
    written = series.to_pixels(options["out"], options["format"], options["bands"], options["overwrite"])
    failure, code = "", EXIT_PARTLY
    if not written.rows:
        failure, code = f"There are no pixels. {written.why_nothing()}".strip(), EXIT_NOTHING
    elif written.incomplete:
        failure = f"A part could not be read. {written.why_partly()}"
    if not options["quiet"]:
        show.notes(written.notes)
        show.summary(written.report, verbose=options["verbose"], told=failure)
        show.notes(f"! {problem}" for problem in written.problems if problem not in failure)
        if written.rows:
            click.echo(printable(str(written)))
    if failure:
        fail(failure, code)


def _drop(layer_file: str, options: Mapping[str, Any]) -> None:
    """Delete kept pixels, and say what was deleted."""
    from sen2chain.timeseries import TimeSeriesCompil

    if options["out"] is not None:
        raise click.UsageError("--drop writes nothing; leave --out away.")
    if options["pixels_from"]:
        raise click.UsageError(
            "--drop finds the folder by the layer and the extraction folder; write --extraction in the place of "
            "--pixels-from."
        )
    series = TimeSeriesCompil(layer_file, **_keywords(options, "units", "keep_empty", "date_min", "date_max"))
    dropped = series.drop_pixels(options["date_min"], options["date_max"], dry_run=options["dry_run"])
    if not options["quiet"]:
        show.result([str(dropped)])


def _keywords(options: Mapping[str, Any], *others: str) -> dict[str, Any]:
    """Return the keywords of a time series, without some."""
    return {name: value for name, value in shared.of_series(options).items() if name not in others}
