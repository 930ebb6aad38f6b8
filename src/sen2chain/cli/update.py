"""`sen2chain update`: extract what is new into the folder of a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sen2chain import atomic
from sen2chain.cli import options as shared
from sen2chain.cli import show
from sen2chain.cli.click_command import Command, fail
from sen2chain.cli.codes import EXIT_NOTHING, EXIT_PARTLY
from sen2chain.errors import EmptyResultError
from sen2chain.progress import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sen2chain.timeseries import TimeSeriesCompil
    from sen2chain.timeseries.folder_update import Extracted

_EXAMPLES = """
\b
Examples:
  sen2chain update parcels.gpkg --index NDVI
  sen2chain update parcels.gpkg --index NDVI --index NBR --from 2022-01-01 --dry-run
  sen2chain update parcels.shp --safe ~/downloads --extraction ~/series --index NDVI --pixels weighted
  sen2chain update parcels.gpkg --stac https://earth-search.aws.element84.com/v1 --index NDVI --from 2024-01-01
  sen2chain update parcels.gpkg --stac items.parquet --index NDVI
  sen2chain update parcels.gpkg --index NDVI --keep-pixels            and keep the pixels for later questions
  sen2chain update parcels.gpkg --index NDVI --keep-pixels B02,B03,B04,B08,B11 --keep-margin 600
  sen2chain update parcels.gpkg --index NDVI --quiet --wait 3600      every night, from cron

\b
Exit codes: 0 done, also when nothing was new, 1 error, 2 an option that cannot be used, 3 there are no rows at all,
4 a part could not be extracted, or not be kept.
"""

IF_INTERRUPTED = "Files that are there are complete; the next run goes on from them."
"""What an interruption of a command on a layer's folder leaves."""
_FORMER = {"CM003": 1}  # dilations of a short name in former versions


@click.command(cls=Command, epilog=_EXAMPLES, interrupted=IF_INTERRUPTED)
@shared.layer_file
@shared.indices("all twelve")
@shared.sensing_dates
@shared.masks
@shared.archive
@shared.pixels_from
@shared.extraction
@click.option(
    "--raw-format",
    type=click.Choice(["parquet", "csv"]),
    default="parquet",
    show_default=True,
    help="Format of the files of rows, one for each image; csv is that of the original program.",
)
@shared.keep_pixels
@click.option("--force", is_flag=True, help="Extract every image again, and keep its pixels again.")
@click.option("--redo-old", is_flag=True, help="Extract again what the original program wrote.")
@click.option("--dry-run", is_flag=True, help="Say what is new, and extract nothing.")
@shared.layer_name
@shared.pixels
@shared.cover
@shared.prefer
@shared.verify
@shared.executor
@shared.report
@shared.overwrite("the file of --report (images in the folder: see --force)")
@shared.common(shared.EVERY_ACQUISITION)
def update(layer_file: str, **options: Any) -> None:
    """Extract what is new into the folder of LAYER.

    The first run extracts everything, each later one only images that have come, have changed or have failed before.
    The folder lies in the extraction folder and is found again by the outlines, whatever the file is called.
    `sen2chain compile` makes tables of what is in it. LAYER is a file of polygons as for `sen2chain extract`.
    """
    file = shared.report_file(options["report"])
    show.say_if_compiling(quiet=options["quiet"])
    series, meanings = folder_series(layer_file, options)
    if file is not None:
        # What cannot be written is told before the work starts.
        if not options["overwrite"]:
            series.check_report(file)
        atomic.check_folder(file.parent)
    done = series.extract_data(not options["dry_run"], options["force"], redo_old=options["redo_old"])
    if options["dry_run"]:
        if not options["quiet"]:
            show.notes(meanings)
            show.result([*done.notes, str(done)])
        if not (done.asked or done.kept or done.pixels):
            fail(f"There is nothing to extract. {series.why_nothing()}".strip(), EXIT_NOTHING)
        return
    kept = ""
    if file is not None:
        try:
            series.report_to_csv(file, overwrite=options["overwrite"])
        except EmptyResultError as error:
            kept = str(error)
    partly = series.incomplete
    failure, code = _failure(series, done, kept)
    if not options["quiet"]:
        show.notes(meanings)
        # A nightly run that found nothing new is short, unless something is missing.
        in_full = (
            partly or done.images or done.empty or done.pixels_failed or (options["verbose"] and len(series.report))
        )
        if in_full:
            show.notes(note for note in series.notes if note not in done.notes)
        show.result([*done.notes, str(done)])
        if in_full:
            show.summary(series.report, verbose=options["verbose"], told=failure)
        click.echo(printable(str(series.folder)))
    if failure:
        fail(failure, code)


def _failure(series: TimeSeriesCompil, done: Extracted, kept: str) -> tuple[str, int]:
    """Return what went wrong, empty where nothing did, and the exit code; `kept` is why a report was not replaced."""
    # A month without products is not a failure; an archive without any product is: the disk may not be mounted.
    if not (series.has_rows and series.has_products):
        why = series.why_nothing() or next(reversed(done.notes), "")
        return f"There are no rows of the products asked for. {why} {kept}".strip(), EXIT_NOTHING
    if done.lost or done.changed or kept or (series.incomplete and series.rows):
        return f"A part could not be extracted. {series.why_partly()} {kept}".strip(), EXIT_PARTLY
    if done.pixels_failed:
        why = next((note for note in done.notes if note.startswith("Pixels of")), "")
        return f"A part of the pixels could not be kept; all rows are there. {why}".strip(), EXIT_PARTLY
    return "", EXIT_PARTLY


def folder_series(layer_file: str, options: Mapping[str, Any]) -> tuple[TimeSeriesCompil, list[str]]:
    """Return the series, and sentences on names of masks that meant another mask in former versions.

    A folder that has rows of the former mask is continued with that mask.
    """
    from sen2chain.timeseries import TimeSeriesCompil

    asked = shared.of_series(options)
    series, told = TimeSeriesCompil(layer_file, **asked), []
    masks = []
    for name, now, before in zip(
        options["masks"], asked["masks"], shared.masks_of(options, iterations=_FORMER), strict=False
    ):
        stays = now != before and series.has_rows_under(before)
        masks.append(before if stays else now)
        if stays:
            told.append(f"{name} is {before} here, since the folder has rows of it; write {now} for that mask.")
        elif now != before:
            told.append(f"{name} is {now}; in former versions of this command it was {before} (--iterations 1).")
    if masks and masks != asked["masks"]:
        series = TimeSeriesCompil(layer_file, **{**asked, "masks": masks})
    return series, told
