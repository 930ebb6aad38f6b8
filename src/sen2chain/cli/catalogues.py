"""`sen2chain stac`: find products in STAC catalogues, and list the providers that are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sen2chain.cli import options as shared
from sen2chain.cli import show
from sen2chain.cli.click_command import REAL, Command, fail
from sen2chain.cli.codes import EXIT_NOTHING
from sen2chain.progress import counted, printable
from sen2chain.sensor import SENTINEL2

if TYPE_CHECKING:
    from sen2chain.archive import Provider
    from sen2chain.timeseries.catalogue_search import FoundProducts

_SEARCH_EXAMPLES = """
\b
Examples:
  sen2chain stac search parcels.gpkg --stac https://earth-search.aws.element84.com/v1 --from 2024-03-01 --to 2024-09-30
  sen2chain stac search parcels.gpkg --stac https://stac.dataspace.copernicus.eu/v1 --cover-max 60 --save items.parquet
  sen2chain extract parcels.gpkg --stac items.parquet --index NDVI --mask CM004 --out out

\b
Exit codes: 0 done, 1 error, 2 an option that cannot be used, 3 the catalogue has nothing for this layer.
"""

_PROVIDERS_EXAMPLES = """
\b
Examples:
  sen2chain stac providers
"""
_NOTES = 5


@click.group()
def stac() -> None:
    """Find products in STAC catalogues, for those who have no archive.

    \b
    Look:     sen2chain stac search parcels.gpkg --stac https://earth-search.aws.element84.com/v1 --from 2024-06-01
    Extract:  sen2chain extract parcels.gpkg --stac https://earth-search.aws.element84.com/v1 --index NDVI --out out
    Keep:     sen2chain update parcels.gpkg --stac https://earth-search.aws.element84.com/v1 --from 2024-06-01
    Whose?    sen2chain stac providers
    """  # noqa: D301  # the mark that keeps lines apart is a real backspace


@stac.command(cls=Command, epilog=_SEARCH_EXAMPLES)
@shared.layer_file
@shared.stac
@shared.sensing_dates
@shared.cover
@click.option("--buffer", type=REAL, metavar="METRES", help="Search so far around the features too.")
@click.option("--layer", metavar="NAME", help="Layer of a file that has several.")
@click.option("--crs", metavar="CRS", help="CRS of a layer that has none, as EPSG:32632.")
@click.option(
    "--save", metavar="FILE",
    help="Write the items to this file (.parquet), which --stac takes; one that is there is continued.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace a file of --save that holds the items of another search.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def search(layer_file: str, **options: Any) -> None:
    """Search a catalogue for the products of LAYER, and say by tile what there is.

    No pixel is read. With --save the items are kept, so that an extraction can be repeated with exactly these; where
    the file exists, the catalogue is asked for items from a month before its newest one on, and those that are new or
    of a newer version are added. LAYER is a file of polygons as for `sen2chain extract`.
    """
    from sen2chain.timeseries.catalogue_search import search_catalogue

    catalogue = shared.catalogue_of(options)
    if catalogue is None:
        raise click.UsageError("Missing option '--stac': the address of the catalogue, or a file of items.")
    found = search_catalogue(
        layer_file,
        catalogue,
        options["collection"] if isinstance(catalogue, str) else None,
        date_min=options["date_min"],
        date_max=options["date_max"],
        cover=(options["cover_min"], options["cover_max"]),
        buffer=options["buffer"],
        save=options["save"],
        overwrite=options["overwrite"],
        quiet=options["quiet"],
        layer=options["layer"],
        crs=options["crs"],
    )
    if not options["quiet"]:
        _tell(found)
    if not found.items:
        fail(
            f"Nothing was found. {found.catalogue} has no item for this layer, these dates and this cloud cover.",
            EXIT_NOTHING,
        )


def _tell(found: FoundProducts) -> None:
    """Print what a search found."""
    if found.tiles:
        rows = [[one.tile, f"{one.first:%Y-%m-%d}", f"{one.last:%Y-%m-%d}", str(one.products)] for one in found.tiles]
        show.table("Items", ["tile", "first", "last", "items"], rows, numeric=(3,))
        count, tiles = counted(found.items, "item"), counted(len(found.tiles), "tile")
        click.echo(printable(f"{count} of {tiles} in the {found.catalogue}; provider: {found.provider}."))
        click.echo(f"Masks that work: {', '.join(found.masks)}.")
    show.notes(found.notes[:_NOTES])
    if len(found.notes) > _NOTES:
        click.echo(f"... and {len(found.notes) - _NOTES} more items that cannot be used.")
    if found.saved is not None:
        done = found.saved
        total = counted(done.total, "item")
        click.echo(printable(f"{found.file}: {total}, {done.new} new, {done.updated} updated."))


@stac.command(cls=Command, epilog=_PROVIDERS_EXAMPLES)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def providers(**_: Any) -> None:
    """List the providers whose catalogues are known: collections, files, offset, cloud probability, keys.

    Catalogues of others are read by the common names of assets, or by those that --stac-asset gives.
    """
    from sen2chain.archive import PROVIDERS

    rows = [
        [
            one.name,
            ", ".join(one.catalogues) or "any other",
            ", ".join(one.collections) or "any",
            one.files or "any",
            one.offset,
            _probability(one),
            one.keys or "none",
            one.tried or "nothing yet",
        ]
        for one in PROVIDERS
    ]
    header = [
        "provider", "catalogue", "collections", "files", "offset", "cloud probability", "keys", "tried on its server",
    ]  # fmt: skip
    show.table("Providers", header, rows, numeric=())
    for one in PROVIDERS:
        if one.documentation:
            click.echo(printable(f"{one.name}: {one.documentation}"))


def _probability(provider: Provider) -> str:
    """Say whether items of a provider have a cloud probability."""
    if SENTINEL2.cloud_probability not in provider.assets:
        return "no"
    return "yes" if provider.catalogues else "if items have it"
