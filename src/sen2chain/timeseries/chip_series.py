"""Chips of the features of a series: which acquisitions they are read from, and which products the rows name."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from sen2chain.chips import ChipFeatures, ChipNotes, read_chips
from sen2chain.coverage import near
from sen2chain.errors import LibraryError, RequestError
from sen2chain.grid import nominal_grid
from sen2chain.plan import area_of
from sen2chain.progress import progress
from sen2chain.timeseries.layer_series import LayerSeries

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Generator, Sequence

    import numpy as np
    import numpy.typing as npt

    from sen2chain.chips import Chip, ChipSize
    from sen2chain.index_series import IndexSeries
    from sen2chain.products import Acquisition

    Fids = npt.NDArray[np.int64]


class ChipSeries(LayerSeries):
    """A series whose features can be shown as chips."""

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
                size=size,
                threads=getattr(engine.executor, "count", 0),
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
            source, plan = engine.source, engine.plan
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
        rows = zip(frame["fid"].tolist(), frame["date"].dt.to_pydatetime(), frame["filename"].tolist(), strict=True)
        for fid, date, filename in rows:
            product = next((name for name in products.get(date, ()) if filename.startswith(f"{name}_")), None)
            if product is not None:
                found.setdefault((fid, date), product)
    return found
