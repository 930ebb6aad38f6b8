"""Conversion of lossy index rasters (JPEG 2000) of the original program to Cloud-Optimized GeoTIFF.

Where the bands of a product are there, the index is made from them, as any produced raster is. Elsewhere the values of
the JPEG 2000 file are copied, with its no-data value 16383 as 32767. The file holds 15 bits: index values from 1.6383
on are no data in it, and stay so; those below -1.6384 stand at that limit. The tags of a copy say what it was made
from, so that it keeps its rank: bands, where they come back, are read before it.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sen2chain.acquisition import check_scale, check_type, nodata_of
from sen2chain.atomic import check_folder, move_to_new_name, sweep_temporary, writing
from sen2chain.errors import OutputError, RasterError, RequestError, UnreadableError
from sen2chain.files import absolute
from sen2chain.indices import INDICES, NODATA
from sen2chain.parallel import Crew, closed
from sen2chain.parallel import workers as processors
from sen2chain.produce.cog_file import write_cog
from sen2chain.produce.converted_files import Conversion, ConversionOutcome, ConversionSource, ConvertedFile
from sen2chain.produce.disk_room import rooms_of
from sen2chain.produce.lossy_rasters import LossyRaster, find_lossy_rasters
from sen2chain.produce.product_file import State, in_short
from sen2chain.produce.product_lock import lock_folder, product_lock
from sen2chain.produce.product_plan import plan_products
from sen2chain.produce.product_request import ProductRequest
from sen2chain.produce.production import Outcome, produce_files
from sen2chain.produce.raster_inputs import describe, difference
from sen2chain.progress import activity, progress
from sen2chain.raster_tags import FROM_LOSSY, RULES, RasterTags
from sen2chain.rasters import Raster, environment, read_header_texts

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from sen2chain.archive import LibrarySource
    from sen2chain.indices import Index
    from sen2chain.produce.product_file import ProductFile
    from sen2chain.produce.product_plan import ProductPlan

_GROWTH = 5.5
"""Bytes of a lossless copy per byte of a lossy raster of quality 20 (measured on Bolzano: 3.5 to 4.4 without
overviews, which add a third)."""
_SIDE = ".aux.xml"
_ROLE = "lossy raster"
_ROWS = 1024
_LOOK = 1.0
"""Seconds between two looks whether another run is done with a product."""


def convert_rasters(
    source: LibrarySource,
    *,
    indices: Sequence[Index] | None = None,
    tiles: Sequence[str] | None = None,
    first: dt.date | None = None,
    last: dt.date | None = None,
    move_old: str | Path | None = None,
    force: bool = False,
    dry_run: bool = False,
    workers: int = 0,
    quiet: bool = False,
) -> Conversion:
    """Convert the lossy index rasters of a library.

    Rasters that are there are kept, so that a run which was stopped can be run again. A lossy raster that cannot be
    read, or a product that fails, costs that raster alone.

    Parameters
    ----------
    source
        The library.
    indices
        Indices, of the twelve; None for all.
    tiles, first, last
        Tiles and sensing dates; None for all.
    move_old
        Folder to move the lossy rasters to once their new raster is there, under their paths in the library; None
        leaves them.
    force
        Replace rasters of other programs and formulas, and make all again.
    dry_run
        Write nothing; the result says what would be done.
    workers
        Threads; 0 for as many as there are processors.
    quiet
        Show no progress.

    Raises
    ------
    RequestError
        If an index is not one of the twelve, or `move_old` lies where the library looks for rasters.
    OutputError
        If a folder cannot be written; nothing is converted then.
    LibraryError
        If a folder of the library cannot be listed.
    """
    begin = time.monotonic()
    wanted = tuple(INDICES.values()) if indices is None else tuple(indices)
    for index in wanted:
        if INDICES.get(index.name) != index:
            raise RequestError(f"{index.name} is not one of the twelve, which alone the original program wrote.")
    move_old = None if move_old is None else absolute(move_old)
    if move_old is not None:
        _check_target(move_old, source)
    with activity("looking for lossy rasters", quiet=quiet):
        lossy, masked, others = find_lossy_rasters(source, wanted, tiles, first, last)
        plan = _plan_of_bands(source, [item for item in lossy if item.has_bands], force=force, workers=workers)
        judged = {item.path: _judge(item, source, force=force) for item in lossy if not item.has_bands}
        source.save()
    done = Conversion(
        is_dry_run=dry_run,
        masked_copies=masked,
        free_bytes=_free_bytes(source),
        others=others,
        folder=source.paths.indices,
        moved_into=move_old,
    )
    if dry_run:
        judged |= {item.path: _planned(item, file) for item, file in _pairs(lossy, plan)}
    elif lossy:
        for folder in (source.paths.indices, lock_folder(source.paths), *([move_old] if move_old else [])):
            check_folder(folder)
        for folder in {item.path.parent for item in lossy}:
            sweep_temporary(folder)
        judged |= _from_bands(source, lossy, plan, quiet=quiet)
        to_copy = [item for item in lossy if judged[item.path].outcome is ConversionOutcome.PLANNED]
        judged |= _Copies(source, force=force).run(to_copy, workers, quiet=quiet)
    done.files = [_in_short(judged[item.path], source) for item in lossy]
    if move_old is not None and not dry_run:
        done.files = [_moved(file, move_old, source) for file in done.files]
    source.save()
    done.seconds = time.monotonic() - begin
    return done


def _in_short(file: ConvertedFile, source: LibrarySource) -> ConvertedFile:
    return replace(file, detail=in_short(file.detail, source.paths))


def _result(item: LossyRaster, outcome: ConversionOutcome, detail: str = "", size: int = 0) -> ConvertedFile:
    """Return what became of a lossy raster."""
    product, source = item.acquisition.id, ConversionSource.BANDS if item.has_bands else ConversionSource.LOSSY
    what = Path(item.old), item.path, str(product), product.tile, item.index.name
    return ConvertedFile(*what, outcome, source, detail, size)


def _check_target(move_old: Path, source: LibrarySource) -> None:
    """Raise `RequestError` where moved rasters would be found as rasters of the library again."""
    paths = source.paths
    # They go to a folder of the name of that of the indices in it, which may be the same one.
    targets = [Path(os.path.realpath(folder)) for folder in (move_old, move_old / paths.indices.name)]
    for folder in (paths.indices, paths.cloudmasks, paths.l2a, paths.quicklooks):
        inside = Path(os.path.realpath(folder))
        if any(target == inside or inside in target.parents for target in targets):
            raise RequestError(f"{move_old} lies in {folder}, where rasters are looked for; choose another folder.")


# ------------------------------------------------------------------------------------------------ made from the bands


def _plan_of_bands(
    source: LibrarySource, lossy: Sequence[LossyRaster], *, force: bool, workers: int
) -> ProductPlan | None:
    """Return the plan of the rasters that are made from bands; None where there are none."""
    if not lossy:
        return None
    days = [item.acquisition.id.sensing.date() for item in lossy]
    request = ProductRequest(
        indices=tuple({item.index.name: item.index for item in lossy}.values()),
        tiles=tuple(sorted({item.acquisition.id.tile for item in lossy})),
        first=min(days),
        last=max(days),
        force=force,
        workers=workers,
    )
    plan, paths = plan_products(request, source), {item.path for item in lossy}
    orders = (replace(order, files=tuple(f for f in order.files if f.path in paths)) for order in plan.orders)
    return replace(plan, orders=tuple(order for order in orders if order.files))


def _pairs(lossy: Sequence[LossyRaster], plan: ProductPlan | None) -> Iterator[tuple[LossyRaster, ProductFile]]:
    """Yield each lossy raster whose index is made from bands, with its file of the plan."""
    if plan is not None:
        by_path = {file.path: file for order in plan.orders for file in order.files}
        yield from ((item, by_path[item.path]) for item in lossy if item.has_bands)


def _planned(item: LossyRaster, file: ProductFile) -> ConvertedFile:
    outcome = {
        State.MAKE: ConversionOutcome.PLANNED,
        State.KEPT: ConversionOutcome.KEPT,
        State.REFUSED: ConversionOutcome.REFUSED,
        State.IMPOSSIBLE: ConversionOutcome.FAILED,
    }
    return _result(item, outcome[file.state], file.detail, file.expected_bytes)


def _from_bands(
    source: LibrarySource, lossy: Sequence[LossyRaster], plan: ProductPlan | None, *, quiet: bool
) -> dict[Path, ConvertedFile]:
    """Make rasters from bands, and return what became of them by their path."""
    if plan is None:
        return {}
    outcome = {
        Outcome.MADE: ConversionOutcome.CONVERTED,
        Outcome.AGAIN: ConversionOutcome.CONVERTED,
        Outcome.ELSEWHERE: ConversionOutcome.CONVERTED,
        Outcome.KEPT: ConversionOutcome.KEPT,
        Outcome.REFUSED: ConversionOutcome.REFUSED,
        Outcome.LEFT: ConversionOutcome.LEFT,
    }
    made = {file.path: file for file in produce_files(plan, source, quiet=quiet).made}
    found = {}
    for item, _ in _pairs(lossy, plan):
        file = made[item.path]
        found[item.path] = _result(item, outcome.get(file.outcome, ConversionOutcome.FAILED), file.detail, file.bytes)
    return found


# ------------------------------------------------------------------------------------------- copied from lossy rasters


def _judge(item: LossyRaster, source: LibrarySource, *, force: bool) -> ConvertedFile:
    """Tell what is to become of a lossy raster whose values have to be copied."""
    planned = _result(item, ConversionOutcome.PLANNED, size=round(_GROWTH * _size(Path(item.old))))
    if not os.path.lexists(item.path):
        return planned
    if not item.path.is_file():
        return _result(item, ConversionOutcome.REFUSED, f"{item.path} is not a file; move it away.")
    if force:
        return planned
    product = item.acquisition.id
    tags = source.facts.tags(str(item.path), product.tile)
    if tags is None:
        kept = f"{item.path.name} was written by another program, and is kept."
        return _result(item, ConversionOutcome.KEPT, kept) if _has_header(item.path) else planned
    named = (tags.product, tags.name) == (str(product), item.index.name)
    if not named or not item.index.is_defined_by(tags.definition):
        holds = f"{item.path.name} is kept, since it holds something else; --force (force=True) replaces it."
        return _result(item, ConversionOutcome.REFUSED, holds)
    is_old = tags.rules != RULES or bool(difference(tags.inputs, {_ROLE: item.old}, source))
    return planned if tags.source == FROM_LOSSY and is_old else _result(item, ConversionOutcome.KEPT)


def _has_header(path: Path) -> bool:
    """Whether a raster is not damaged, as far as its header tells."""
    try:
        read_header_texts(str(path))
    except UnreadableError:
        return False
    return True


class _Copies:
    """Copies the values of lossy rasters in threads. A full disk, or a folder that cannot be written, ends the run."""

    def __init__(self, source: LibrarySource, *, force: bool) -> None:
        self._source, self._force = source, force
        self._end = threading.Event()
        self._ended_by = ""

    def run(self, items: Sequence[LossyRaster], threads: int, *, quiet: bool) -> dict[Path, ConvertedFile]:
        """Copy them, and return what became of each by its path."""
        found: dict[Path, ConvertedFile] = {}
        crew = Crew(min(processors(threads), max(len(items), 1)))
        with (
            progress("converting", len(items), quiet=quiet) as step,
            closed(crew.results(partial(self._attempt, crew), items, self._end.set)) as results,
        ):
            for done in results:
                found[done.path] = done
                step()
        return found

    def _attempt(self, crew: Crew, item: LossyRaster) -> ConvertedFile:  # noqa: ARG002  # decoding is not shared
        while not self._end.is_set():
            try:
                with product_lock(self._source.paths, item.acquisition.id, _LOOK) as is_held:
                    if is_held:
                        # Another run may have made it since.
                        judged = _judge(item, self._source, force=self._force)
                        return self._copy(item) if judged.outcome is ConversionOutcome.PLANNED else judged
            except OutputError as error:
                self._ended_by = self._ended_by or str(error)
                self._end.set()
                return _result(item, ConversionOutcome.FAILED, str(error))
            except RasterError as error:
                return _result(item, ConversionOutcome.FAILED, str(error))
        return _result(item, ConversionOutcome.LEFT, self._ended_by)

    def _copy(self, item: LossyRaster) -> ConvertedFile:
        """Copy the values of a lossy raster into a new file."""
        where, product, index = item.old, item.acquisition.id, item.index
        tags = RasterTags(
            str(product),
            index.name,
            index.definition,
            source=FROM_LOSSY,
            inputs=describe({_ROLE: where}, self._source),
            version=metadata.version("sen2chain"),
        )
        with environment(), Raster(where) as raster:
            check_type(raster, np.int16)
            check_scale(raster, index.scale)
            options = {"nodata": NODATA, "scale": 1 / index.scale}
            with writing(item.path):
                item.path.parent.mkdir(parents=True, exist_ok=True)
            write_cog(item.path, raster.grid, _values(raster), np.int16, tags.items(), **options)
        self._source.facts.remember_tags(str(item.path), product.tile, tags)
        return _result(item, ConversionOutcome.CONVERTED, size=_size(item.path))


def _values(raster: Raster) -> Iterator[npt.NDArray[np.int16]]:
    """Yield the values of a lossy raster in strips of full width, with 32767 for no data."""
    nodata = nodata_of(raster)
    rows, columns = raster.grid.shape
    high = max(raster.strip_height, _ROWS // raster.strip_height * raster.strip_height)
    for top in range(0, rows, high):
        values = raster.read((top, min(top + high, rows)), (0, columns)).astype(np.int16)
        values[values == nodata] = NODATA
        yield values


# ---------------------------------------------------------------------------------------------------- moving old files


def _moved(file: ConvertedFile, folder: Path, source: LibrarySource) -> ConvertedFile:
    """Move a lossy raster, with the side file that tells its no-data value, if its new raster is there."""
    if file.outcome not in {ConversionOutcome.CONVERTED, ConversionOutcome.KEPT}:
        return file
    target = folder / file.old.relative_to(source.paths.indices.parent)
    try:
        # The side file first: without it a killed move is found again by its raster.
        side = file.old.with_name(f"{file.old.name}{_SIDE}")
        if side.exists():
            move_to_new_name(side, target.with_name(f"{target.name}{_SIDE}"))
        move_to_new_name(file.old, target)
    except OutputError as error:
        return replace(file, left=str(error))
    return replace(file, moved_to=target)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _free_bytes(source: LibrarySource) -> int | None:
    """Return the bytes that are free on the disk of the indices."""
    return next((room.free for room in rooms_of([(source.paths.indices / "INDEX", 0)])), None)
