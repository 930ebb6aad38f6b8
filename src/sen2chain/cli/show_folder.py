"""`sen2chain show`: list what an extraction folder holds."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from sen2chain.cli import show
from sen2chain.cli.click_command import Command, fail
from sen2chain.cli.codes import EXIT_NOTHING
from sen2chain.errors import LibraryError, StoreError
from sen2chain.files import absolute
from sen2chain.progress import counted, printable, sized

if TYPE_CHECKING:
    from sen2chain.store import ExtractionFolder, FolderContents

_EXAMPLES = """
\b
Examples:
  sen2chain show                                 the folders of all layers in the extraction folder
  sen2chain show ~/sen2chain_data/data/EXTRACTION/parcels_0123456789abcdef
  sen2chain show ~/data/series                   another folder that has a folder for each layer

\b
Exit codes: 0 done, 1 error, 3 there is nothing.
"""


@click.command("show", cls=Command, epilog=_EXAMPLES)
@click.argument("folder", metavar="[FOLDER]", required=False)
@click.option(
    "--library", metavar="DIR", help="Sen2Chain library whose extraction folder is shown where FOLDER is not named."
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def show_folder(folder: str | None, library: str | None, **_: Any) -> None:
    """List what an extraction folder holds: layers, indices, masks, dates, rows, kept pixels, compiled files.

    [FOLDER] is the folder of one layer, or one that has a folder for each layer; by default the extraction folder of
    the library, or of the home folder. Nothing is changed, and a run that is going on is not disturbed.
    """
    from sen2chain import settings
    from sen2chain.store import ExtractionFolder, contents_of, is_layer_folder

    try:
        path = absolute(folder) if folder else settings.paths(library).extraction
    except LibraryError as error:
        raise LibraryError(f"{error} Or name the folder to show.") from None
    if not path.is_dir():
        raise StoreError(f"{path} is not a folder; name an extraction folder, or run sen2chain update first.")
    if is_layer_folder(path):
        _one(contents_of(ExtractionFolder(path)))
        return
    folders = ExtractionFolder.all_in(path)
    if not folders:
        fail(f"{path} holds no folder of a layer; sen2chain update makes them.", EXIT_NOTHING)
    _all(folders)


def _all(folders: list[ExtractionFolder]) -> None:
    """Print a line for each layer's folder."""
    from sen2chain.store import contents_of

    rows = []
    for folder in folders:
        found = contents_of(folder)
        times = [time for series in found.series for time in (series.first, series.last) if time is not None]
        rows.append(
            [
                folder.root.name,
                "-" if found.features is None else str(found.features),
                ", ".join(dict.fromkeys(series.index for series in found.series)) or "-",
                ", ".join(dict.fromkeys(series.mask for series in found.series)) or "-",
                f"{min(times):%Y-%m-%d} to {max(times):%Y-%m-%d}" if times else "-",
                f"{sum(series.rows for series in found.series):,}",
                sized(sum(one.size for ones in (found.series, found.results, found.pixels) for one in ones)),
            ]
        )
    header = ["folder", "features", "indices", "masks", "dates", "rows", "size"]
    show.table(str(folders[0].root.parent), header, rows, numeric=(1, 5, 6))


def _pixels(found: FolderContents) -> None:
    """Print the kept pixels of a layer's folder, where there are any."""
    if not found.pixels:
        return
    rows = [
        [
            pixels.tile,
            ", ".join(pixels.names),
            f"{pixels.margin:g} m",
            str(pixels.acquisitions),
            ", ".join(f"{n} {what}" for n, what in ((pixels.partly, "partly"), (pixels.lost, "file gone")) if n) or "-",
            f"{pixels.first:%Y-%m-%d}",
            f"{pixels.last:%Y-%m-%d}",
            sized(pixels.size),
        ]
        for pixels in found.pixels
    ]
    header = ["tile", "bands", "margin", "acquisitions", "lacking", "first", "last", "size"]
    show.table("Kept pixels", header, rows, numeric=(2, 3, 7))


def _one(found: FolderContents) -> None:
    """Print what one layer's folder holds."""
    click.echo(printable(str(found.root)))
    features = "an unknown number of features" if found.features is None else counted(found.features, "feature")
    click.echo(printable(f"Layer: {found.source or 'unknown'} ({features}{f', {found.crs}' if found.crs else ''})"))
    show.notes(found.notes)
    if not (found.series or found.results or found.pixels):
        fail("The folder holds no rows and no results; sen2chain update extracts them.", EXIT_NOTHING)
    rows = [
        [
            series.index,
            series.mask,
            str(series.images),
            f"{series.first:%Y-%m-%d}" if series.first else "-",
            f"{series.last:%Y-%m-%d}" if series.last else "-",
            f"{series.rows:,}",
            ", ".join(f"{count} {state.value}" for state, count in series.states.most_common()) or "-",
            sized(series.size),
        ]
        for series in found.series
    ]
    header = ["index", "mask", "images with rows", "first", "last", "rows", "all images", "size"]
    show.table("Rows", header, rows, numeric=(2, 5, 7))
    _pixels(found)
    if not found.results:
        return
    rows = [
        [
            files.place or "(the folder itself)",
            ", ".join(f"{count} {kind}" for kind, count in sorted(files.kinds.items())),
            sized(files.size),
            f"{datetime.fromtimestamp(files.changed).astimezone():%Y-%m-%d %H:%M}",
        ]
        for files in found.results
    ]
    show.table("Results", ["folder", "files", "size", "last change"], rows, numeric=(2,))
