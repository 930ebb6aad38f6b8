"""Search for the folder of kept pixels that a user means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sen2chain.errors import RequestError
from sen2chain.files import absolute, is_file, is_folder
from sen2chain.store import ExtractionFolder, ImageLedger, KeptCatalogue, recognise
from sen2chain.store.extraction_folder import PIXELS

if TYPE_CHECKING:
    from pathlib import Path

    from sen2chain.store import KeptEntry
    from sen2chain.vectors import Layer

_SHOWN = 5
_HOW = "keep some with keep_pixels=True (sen2chain update --keep-pixels)"


def find_kept(place: str | Path, layer: Layer, buffer: float | None, cache: Path) -> ExtractionFolder:
    """Return the layer's folder that a path names: the folder itself, or the one with pixels in it.

    Of several with pixels it is the one of this layer with this buffer.

    Parameters
    ----------
    place
        A layer's folder, or the extraction folder that it lies in.
    layer
        The layer that pixels are asked for.
    buffer
        Metres around its features; None is no buffer.
    cache
        Where layers are kept that were read before.

    Raises
    ------
    RequestError
        If there is no such folder, it has no kept pixels, or several folders in it have some and not just one of them
        is of this layer with this buffer.
    StoreError
        If a ledger is damaged or of a newer version.
    """
    path = absolute(place)
    if not is_folder(path):
        raise RequestError(f"{path} is not a folder, so there are no kept pixels; pass the folder of a layer.")
    itself = ExtractionFolder(path)
    if is_file(itself.ledger) or is_folder(path / PIXELS):
        if not _has_entries(itself):
            raise RequestError(_why_none(itself))
        return itself
    layers = ExtractionFolder.all_in(path)
    having = [folder for folder in layers if is_folder(folder.root / PIXELS)]
    found = [folder for folder in having if _has_entries(folder)]
    own = found if len(found) < 2 else _of_layer(found, path, layer, buffer, cache)
    if len(own) == 1:
        return own[0]
    if found:
        names = ", ".join(folder.root.name for folder in found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
        raise RequestError(f"{len(found)} folders in {path} have kept pixels ({names}); pass one of them.")
    for folder in having:
        if folder.all_pixel_files():
            raise RequestError(_why_none(folder))
    if layers:
        raise RequestError(f"None of the layers' folders in {path} has kept pixels; {_HOW}.")
    above = next((place for place in path.parents[:2] if is_file(ExtractionFolder(place).ledger)), None)
    if above is not None:
        raise RequestError(f"{path} is a part of a layer's folder; pass {above}.")
    raise RequestError(f"{path} is not a layer's folder, and has none in it; {_HOW}, and pass the layer's folder.")


def kept_entries(folder: ExtractionFolder) -> dict[str, KeptEntry]:
    """Return what is kept in a layer's folder, by product; the folder is neither locked nor changed.

    Raises
    ------
    StoreError
        If the ledger is damaged or of a newer version.
    """
    with ImageLedger(folder.ledger, read_only=True) as ledger:
        return KeptCatalogue(ledger).entries()


def _of_layer(
    folders: list[ExtractionFolder], extraction: Path, layer: Layer, buffer: float | None, cache: Path
) -> list[ExtractionFolder]:
    """Return the folders of a layer with a buffer, whatever their other options: these keep the same pixels."""
    wanted = float(f"{buffer:g}") if buffer else None
    tags = sorted({folder.tag for folder in folders if folder.buffer == wanted})
    recognised = [recognise(extraction, layer, tag, cache).folder for tag in tags]
    return [folder for folder in folders if folder in recognised]


def _why_none(folder: ExtractionFolder) -> str:
    """Return a sentence on a folder whose ledger lists no kept pixels."""
    if not folder.all_pixel_files():
        return f"The folder {folder.root} has no kept pixels; {_HOW}."
    return (
        f"The folder {folder.root} has files of kept pixels that its ledger does not list; enter them with "
        "extract_data() (sen2chain update)."
    )


def _has_entries(folder: ExtractionFolder) -> bool:
    with ImageLedger(folder.ledger, read_only=True) as ledger:
        return not KeptCatalogue(ledger).is_empty
