"""`sen2chain stac`: find products in STAC catalogues, and list the providers that are known."""

from __future__ import annotations

import textwrap
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import click

from sen2chain.cli import options as shared
from sen2chain.cli import show
from sen2chain.cli.click_command import REAL, Command, fail
from sen2chain.cli.codes import EXIT_NOTHING, EXIT_PARTLY
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
Exit codes: 0 done, 1 error, 2 an option that cannot be used, 3 the catalogue has nothing for this layer,
4 some of its items cannot be used.
"""

_PROVIDERS_EXAMPLES = """
\b
Examples:
  sen2chain stac providers
"""
_NOTES = 5
_WIDTH = 60  # of the facts on a provider, beside their names


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

    catalogue = shared.catalogue_of(options) or ""
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
    cannot = f"{counted(found.unusable, 'item')} cannot be used."
    if not found.items:
        why = f"{found.catalogue} has no item for this layer, these dates and this cloud cover."
        kept = f" {found.file} is not written." if found.file is not None and found.saved is None else ""
        fail(
            f"Nothing was found. {' '.join([cannot, *found.notes[:1]]) if found.unusable else why}{kept}", EXIT_NOTHING
        )
    if found.unusable:
        fail(cannot if not options["quiet"] else f"{cannot} {found.notes[0]}", EXIT_PARTLY)


for _option in search.params:
    if _option.name == "stac":  # other commands have archives too
        _option.required = True


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
            click.echo(f"... and items that cannot be used for {len(found.notes) - _NOTES} more reasons.")
    if found.saved is not None:
        done = found.saved
        total = counted(done.total, "item")
        if found.file_tiles:
            first, last = min(one.first for one in found.file_tiles), max(one.last for one in found.file_tiles)
            total += f" ({counted(len(found.file_tiles), 'tile')}, {first:%Y-%m-%d} to {last:%Y-%m-%d})"
        click.echo(printable(f"The file {found.file} holds {total}: {done.new} new, {done.updated} updated."))


@stac.command(cls=Command, epilog=_PROVIDERS_EXAMPLES)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def providers(**_: Any) -> None:
    """List the providers whose catalogues are known: collections, files, offset, cloud probability, keys.

    Catalogues of others are read by the common names of assets, or by those that --stac-asset gives.
    """
    from sen2chain.archive import PROVIDERS

    for one in PROVIDERS:
        facts = {
            "address": one.address or "--stac URL",
            "catalogue": ", ".join(one.catalogues) or "any other",
            "collections": ", ".join(one.collections) or "any",
            "files": {"COG": "Cloud-Optimized GeoTIFF", "JP2": "JPEG 2000"}.get(one.files, "any"),
            "offset": one.offset,
            "cloud probability": _probability(one),
            "keys": one.keys or "none",
            "documentation": one.documentation,
            "tried": one.tried,
        }
        click.echo(printable(f"{one.name}: {one.title}"))
        for name, fact in facts.items():
            if fact:
                lines = textwrap.wrap(printable(fact), _WIDTH, break_long_words=False, break_on_hyphens=False)
                click.echo("\n".join(f"  {word:<18}{line}" for word, line in zip_longest([name], lines, fillvalue="")))
        click.echo()
    if not any(one.tried for one in PROVIDERS):
        click.echo("None of them was tried on its own server.")
        click.echo("All of this is from their documentation and from published items.")


def _probability(provider: Provider) -> str:
    """Say whether items of a provider have a cloud probability."""
    if SENTINEL2.cloud_probability not in provider.assets:
        return "no"
    return "yes" if provider.catalogues else "if items have it"
