"""Chips of the features of a series: which acquisitions they are read from, and which products the rows name."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.chips import ChipFeatures, ChipNotes, read_chips
from sen2chain.coverage import near
from sen2chain.errors import LibraryError, RequestError
from sen2chain.grid import nominal_grid
from sen2chain.legends import fixed_legend, legend_of
from sen2chain.pictures.chip_images import ChipPainter, ChipStyle, jpeg
from sen2chain.plan import area_of
from sen2chain.progress import progress
from sen2chain.timeseries.layer_series import LayerSeries

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Generator, Sequence

    import numpy.typing as npt

    from sen2chain.chips import Chip, ChipSize, Place
    from sen2chain.index_series import IndexSeries
    from sen2chain.legends import Legend
    from sen2chain.products import Acquisition

    Fids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small image of a feature at one time."""

    fid: int
    """Position of the feature in the layer."""
    date: dt.datetime
    """Sensing time, UTC, without a zone."""
    tile: str
    """The tile of the product."""
    index: str | None
    """Name of the index that it shows; None for the true colour."""
    mask: str
    """Name of the mask that is hatched."""
    share: float
    """Share of the feature's pixels that have data and are not masked, 0 to 1."""
    jpeg: bytes
    """Content of a JPEG file."""


class ChipSeries(LayerSeries):
    """A series whose features can be shown as chips."""

    def _thumbnails(
        self,
        fids: Fids,
        *,
        edge: int = 96,
        masks: Sequence[str] | None = None,
        notes: ChipNotes | None = None,
        series: Sequence[IndexSeries] | None = None,
    ) -> Generator[Thumbnail]:
        """Read small images of features through time: the true colour and each index, under each mask.

        Use it with `sen2chain.parallel.closed`.

        Parameters
        ----------
        fids
            Positions of the features in the layer.
        edge
            Pixels of the longer side of an image.
        masks
            Names of the masks of the run to hatch; None means all.
        notes
            Counts faults.
        series
            The rows, where the caller has them already.

        Raises
        ------
        LibraryError
            If there is no archive.
        MissingExtraError
            If Pillow is not installed.
        """
        series = self._series() if series is None else series
        outlines: dict[Place, Any] = {}
        painters = [
            (mask.name, ChipPainter(ChipStyle(index, legend, mask.name), edge, outlines))
            for mask in self.request.masks
            if masks is None or mask.name in masks
            for index, legend in [(None, None), *((one.index, chip_legend(one, fids))
                for one in series if one.mask == mask.name)]
        ]  # fmt: skip
        with closing(self._read_chips(fids, notes=notes, series=series)) as chips:
            for chip in chips:
                for mask, painter in painters:
                    index = painter.style.name
                    if painter.style.fits(chip):
                        content = jpeg(painter.paint(chip), quality=80)
                        share = chip.valid_share(index, mask)
                        yield Thumbnail(chip.fid, chip.date, chip.tile, index, mask, share, content)

    def _read_chips(
        self,
        fids: Fids,
        *,
        size: ChipSize | None = None,
        notes: ChipNotes | None = None,
        series: Sequence[IndexSeries] | None = None,
        acquisitions: Sequence[Acquisition] | None = None,
    ) -> Generator[Chip]:
        """Read the chips of features, with all indices and masks of the run; see `sen2chain.chips.read_chips`.

        Use it with `sen2chain.parallel.closed`. Each chip comes from the product that the feature's row of that time
        comes from; where there is no row, from the best product of that time.

        Parameters
        ----------
        fids
            Positions of the features in the layer.
        size
            Size of the chips.
        notes
            Counts faults.
        series, acquisitions
            The rows, and what `_chip_acquisitions` returns, where the caller has them already.

        Raises
        ------
        LibraryError
            If there is no archive.
        """
        engine, request = self._engine, self.request
        if acquisitions is None:
            acquisitions = self._chip_acquisitions(fids)
        features = ChipFeatures(fids, engine.layer.geometry[fids], engine.layer.crs, request.pixels, request.buffer)
        with progress("reading quicklooks", len(acquisitions), quiet=self._quiet) as step:
            chips = read_chips(
                acquisitions,
                features,
                request.indices,
                request.masks,
                chosen=_chosen(self._series() if series is None else series, fids, acquisitions),
                prefer=request.prefer,
                verify=request.verify != "never",
                size=size,
                threads=getattr(engine.executor, "count", 1),
                notes=notes,
                advanced=step,
            )
            with closing(chips):
                yield from chips

    def _chip_acquisitions(self, fids: Fids) -> list[Acquisition]:
        """Return the acquisitions of the run whose tiles lie near some features.

        Raises
        ------
        LibraryError
            If there is no archive.
        """
        engine, request = self._engine, self.request
        try:
            source, plan = engine.archive_alone, engine.plan
        except LibraryError as error:
            raise LibraryError(f"Quicklooks are read from the rasters of the archive. {error}") from error
        layer, wanted = engine.layer, {str(task.product) for task in plan.tasks}
        area = area_of(layer, request.buffer)
        found: list[Acquisition] = []
        for tile in sorted({task.product.tile for task in plan.tasks}):
            try:
                grid = nominal_grid(tile, request.sensor)
            except RequestError:  # a tile that no name tells where it lies
                pass
            else:
                if not near(layer.bounds[fids], layer.crs, grid, request.buffer).any():
                    continue
            found += source.acquisitions(tile, request.first, request.last, area)
        return [acquisition for acquisition in found if str(acquisition.id) in wanted]


def chip_legend(series: IndexSeries, fids: Fids) -> Legend:
    """Return the legend of an index; that of one whose range is not known has the range of some features' rows."""
    known = fixed_legend(series.index)
    if known is not None:
        return known
    frame = series.frame(fids)
    return legend_of(series.index, np.concatenate([frame["min"], frame["max"]]) / series.scale)


def _chosen(
    series: Sequence[IndexSeries], fids: Fids, acquisitions: Sequence[Acquisition]
) -> dict[tuple[int, dt.datetime], str]:
    """Return the product that the row of each feature and time comes from, of the first index that has one."""
    products: dict[dt.datetime, list[str]] = {}
    for acquisition in acquisitions:
        products.setdefault(acquisition.id.sensing, []).append(str(acquisition.id))
    found: dict[tuple[int, dt.datetime], str] = {}
    for one in series:
        frame = one.frame(fids)
        dates = (date.to_pydatetime() for date in frame["date"].tolist())
        rows = zip(frame["fid"].tolist(), dates, frame["filename"].tolist(), strict=True)
        for fid, date, filename in rows:
            product = next((name for name in products.get(date, ()) if filename.startswith(f"{name}_")), None)
            if product is not None:
                found.setdefault((fid, date), product)
    return found
