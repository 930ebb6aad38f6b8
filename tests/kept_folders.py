"""Folders of kept pixels, written straight from the rasters of an archive: what an update that keeps pixels leaves."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.extract import Coverages
from sen2chain.parallel import apart
from sen2chain.pixel_store import KeptValues, TilePositions, pixel_file, positions_path
from sen2chain.rasters import Raster, environment
from sen2chain.store import ExtractionFolder, HeldRaster, ImageLedger, KeptCatalogue, KeptEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import numpy.typing as npt

    from sen2chain.grid import Grid
    from sen2chain.pixel_store import PixelPositions
    from sen2chain.products import Acquisition, IdentityToken, Source
    from sen2chain.vectors import Layer

    Bools = npt.NDArray[np.bool_]


def keep(
    root: Path,
    source: Source,
    layer: Layer,
    *,
    names: Iterable[str] | None = None,
    margin: float = 300.0,
    buffer: float | None = None,
    products: Callable[[Acquisition], bool] = lambda _: True,
    absent: Callable[[PixelPositions], Bools] | None = None,
) -> ExtractionFolder:
    """Keep the pixels of a layer in a new folder.

    Parameters
    ----------
    root
        The folder; its name is that of a layer's folder.
    source
        The archive.
    layer, buffer
        The features, and the metres by which they grow first.
    names
        Bands and quality rasters; None keeps all.
    margin
        Metres around the features in which quality rasters are kept.
    products
        Tells which products are kept.
    absent
        Tells which pixels of bands are absent; None: none are.
    """
    folder = ExtractionFolder(root)
    root.mkdir(parents=True)
    entries = []
    for tile in source.tiles():
        for acquisition in source.acquisitions(tile):
            if products(acquisition):
                entries.append(_kept(folder, source, acquisition, layer, names, margin, buffer, absent))  # noqa: PERF401
    with ImageLedger(folder.ledger) as ledger:
        KeptCatalogue(ledger).record(entries)
    return folder


def _kept(
    folder: ExtractionFolder, source: Source, acquisition: Acquisition, layer: Layer, names: Iterable[str] | None,
    margin: float, buffer: float | None, absent: Callable[[PixelPositions], Bools] | None,
) -> KeptEntry:  # fmt: skip
    wanted = [name for name in acquisition.bands if names is None or name in names]
    rasters = {name: apart(partial(_read, acquisition, name)) for name in wanted}
    sensor = acquisition.id.sensor
    finest = min((grid for _, grid, _, _ in rasters.values()), key=lambda grid: grid.pixel_xy).refined(10.0)
    plans = [
        Coverages(layer, rule=rule, buffer=buffer).get(finest, acquisition.id.tile).plan
        for rule in ("center", "all_touched")
    ]
    positions = TilePositions.of(plans, margin)
    values, held = {}, {}
    tokens = source.identify([*acquisition.bands.values(), *acquisition.details.inputs.values()])
    for name, (image, grid, nodata, scale) in rasters.items():
        role: Any = "band" if sensor.band(name) else "quality"
        where = positions.of_raster(role, grid)
        present = None if absent is None or role != "band" else ~absent(where)
        values[name] = KeptValues(where.take(np.ascontiguousarray(image)), present, role, grid, nodata, scale)
        masks = None if present is None else frozenset({"CM004-CSH1-CMP1-CHP1-TCI1-ITER1"})
        held[name] = HeldRaster(_record(tokens[acquisition.bands[name]]), grid, masks)
    content = pixel_file({"product": str(acquisition.id)}, values, positions)
    place = folder.pixels(acquisition.id.tile)
    place.mkdir(parents=True, exist_ok=True)
    name = f"{acquisition.id}_{hashlib.sha256(content).hexdigest()[:16]}.pixels"
    (place / name).write_bytes(content)
    positions_path(place, positions.digest).write_bytes(positions.to_bytes())
    details = acquisition.details
    inputs = {role: _record(tokens[where]) for role, where in details.inputs.items()}
    return KeptEntry(
        str(acquisition.id), name, len(content), positions.digest, margin, held, inputs,
        details.radiometry(), details.cloud_cover(), details.footprint(),
    )  # fmt: skip


def _read(acquisition: Acquisition, name: str) -> tuple[npt.NDArray[Any], Grid, float | None, tuple[float, float]]:
    with environment(acquisition.reading), Raster(acquisition.bands[name]) as raster:
        rows, columns = raster.grid.shape
        return raster.read((0, rows), (0, columns)), raster.grid, raster.nodata, raster.scale


def _record(token: IdentityToken) -> tuple[Any, ...]:
    return token.name, token.size, token.time, *([token.content] if token.content else [])
