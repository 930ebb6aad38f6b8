"""`sen2chain page`: write the page of what is in the folder of a layer."""

from __future__ import annotations

from typing import Any

import click

from sen2chain.cli import options as shared
from sen2chain.cli import show
from sen2chain.cli.click_command import WHOLE, Command, fail
from sen2chain.cli.codes import EXIT_NOTHING
from sen2chain.cli.update import IF_INTERRUPTED, folder_series
from sen2chain.progress import printable

_EXAMPLES = """
\b
Examples:
  sen2chain page parcels.gpkg --index NDVI
  sen2chain page parcels.gpkg --index NDVI --index NBR --id parcel_no --out pages
  sen2chain page parcels.gpkg --index NDVI --feature 17 --feature 42
  sen2chain page parcels.gpkg --index NDVI --sample 2000

\b
Exit codes: 0 done, 1 error, 2 an option that cannot be used, 3 there are no rows to show.
"""


@click.command(cls=Command, epilog=_EXAMPLES, interrupted=IF_INTERRUPTED)
@shared.layer_file
@click.option("--out", "-o", metavar="DIR", help="Folder for the page. Default: the layer's own folder.")
@shared.indices("those of the twelve that were extracted")
@shared.masks
@click.option(
    "--feature",
    "features",
    multiple=True,
    metavar="KEY",
    help="Feature to show: its --id where that is given, else its name or fid. Default: all.",
)
@click.option(
    "--sample",
    type=WHOLE,
    metavar="N",
    help="Show so many features, taken evenly from the layer; the page says so. Default: as many as fit into 20 MB.",
)
@click.option(
    "--smooth",
    "smoothing",
    type=click.Choice(["savgol", "whittaker", "harmonic"]),
    help="Draw smoothed curves too. Default: those that sen2chain compile has written, if it has.",
)
@click.option(
    "--chips",
    multiple=True,
    metavar="KEY",
    help="Feature to show with an image of each date, read from the archive; may be given several times.",
)
@shared.archive
@shared.extraction
@shared.layer_name
@shared.pixels
@shared.cover
@shared.overwrite("the page")
@shared.common("what the page leaves out")
def page(layer_file: str, **options: Any) -> None:
    """Write one HTML page of what is in the folder of LAYER: map, series and table of its features.

    `sen2chain update` fills the folder; the archive is needed for --chips alone. The page is one file that opens in any
    browser, without a network. LAYER, --pixels, --buffer, --stat, --library and --extraction find the folder, so they
    are the same as for the update.
    """
    series, meanings = folder_series(layer_file, options)
    if not series.folder.is_dir():
        fail(
            f"There is nothing to show. {series.folder} does not exist; run sen2chain update first, with the same "
            "options.",
            EXIT_NOTHING,
        )
    features = list(options["features"]) or None
    sample = options["sample"] if options["sample"] is not None else None if features else "fit"
    path = series.to_html(
        options["out"],
        features=features,
        sample=sample,
        smoothing=options["smoothing"],
        chips=list(options["chips"]) or None,
        overwrite=options["overwrite"],
    )
    if not options["quiet"]:
        show.notes([*meanings, *(series.notes if options["verbose"] else ())])
        click.echo(printable(str(path)))
    if not series.has_rows:
        fail("The page has no values, since the folder has no rows of what was asked for; it says why.", EXIT_NOTHING)
