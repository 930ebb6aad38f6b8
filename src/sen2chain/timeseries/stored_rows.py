"""The raw rows in a layer's folder: the images of an index under a mask that a request covers, and their rows."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sen2chain.coverage import near_tile
from sen2chain.indices import INDICES
from sen2chain.parallel import closed, in_threads, workers
from sen2chain.products import ProductId
from sen2chain.progress import progress
from sen2chain.reasons import UNKEPT, Reason
from sen2chain.select import select, without_unknown
from sen2chain.spool import Spool
from sen2chain.store import State, list_images, read_image
from sen2chain.store.inputs import unknown_in
from sen2chain.timeseries.folder_update import is_lost

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Generator, Sequence

    import numpy.typing as npt

    from sen2chain.rows import Batch
    from sen2chain.spool import RowFormat
    from sen2chain.store import Entry, ExtractionFolder, ImageLedger, RawImage
    from sen2chain.timeseries.engine import Engine

_NONE = np.zeros(0, np.int64)
_OF_KEPT_PIXELS = frozenset(reason.value for reason in (*UNKEPT, Reason.UNREADABLE))


class StoredRows:
    """The raw rows of one index under one mask, one file for each image.

    Parameters
    ----------
    engine
        The request and the layer.
    folder, ledger
        The layer's folder and its ledger.
    index, mask
        Names.

    Attributes
    ----------
    entries
        Product -> its image in the ledger.
    images
        Files of rows by sensing time, of products within the requested cloud cover.
    of_other_formulas
        Number of images left out because another formula of the index made them.
    """

    def __init__(self, engine: Engine, folder: ExtractionFolder, ledger: ImageLedger, index: str, mask: str) -> None:
        self.engine, self.index, self.mask = engine, index, mask
        self._folder = folder
        self.entries = ledger.entries(index, mask)
        self.of_other_formulas = 0
        self.images = self._requested()

    def _requested(self) -> list[RawImage]:
        request = self.engine.request
        names = {product: entry.file for product, entry in self.entries.items() if entry.file}
        own = self.index not in INDICES
        formula = next(i.definition for i in request.indices if i.name == self.index) if own else None
        found = []
        for image in list_images(self._folder, self.index, self.mask, names):
            entry = self.entries.get(str(image.product))
            if entry is None:
                found.append(image)
                continue
            cover, without_rows = entry.cover, entry.state is State.EMPTY and not entry.file
            if without_rows or not (cover is None or request.cover_min <= cover <= request.cover_max):
                continue
            if formula is not None and json.loads(entry.inputs or "{}").get("formula", formula) != formula:
                self.of_other_formulas += 1
                continue
            found.append(image)
        return found

    def sensings(self) -> set[dt.datetime]:
        """Return the sensing times of all images within the requested cloud cover, also of those without rows."""
        request = self.engine.request
        return {
            ProductId.parse(entry.product).sensing
            for entry in self.entries.values()
            if entry.cover is None or request.cover_min <= entry.cover <= request.cover_max
        }

    @property
    def lost(self) -> list[Entry]:
        """Images whose file of rows is gone."""
        return [entry for entry in self.entries.values() if is_lost(entry, self._folder)]

    def why_none(self) -> str:
        """Return a sentence on why there is no image, for the case that there is none."""
        start = f"There are no rows of {self.index} under {self.mask}"
        entries = self.entries.values()
        if self.of_other_formulas:
            return f"{start}: all images are of another formula."
        outside = sum(bool(entry.file) for entry in entries)
        if outside:
            request = self.engine.request
            limits = f"{request.cover_min:g} to {request.cover_max:g} %"
            return f"{start}: the products of all {outside} images are outside the cloud cover {limits}."
        if not entries:
            return f"{start}: no image of it has been extracted; extract first."
        waiting = sum(entry.state is State.PENDING for entry in entries)
        if waiting:
            return f"{start}: an extraction was stopped before {waiting} of {len(entries)} images; extract again."
        example = next((entry.error for entry in entries if entry.error), "")
        return f"{start}: none of {len(entries)} images gave any. {example}".strip()

    @cached_property
    def unknown(self) -> dict[dt.datetime, npt.NDArray[np.int64]]:
        """Sensing time -> fid of the features that one of its products lacks, since their pixels were not kept.

        Which product the archive would choose for them is not known; see `sen2chain.select.without_unknown`.
        """
        request, layer, found = self.engine.request, self.engine.layer, defaultdict(list)
        for entry in self.entries.values():
            cover = entry.cover
            if not (cover is None or request.cover_min <= cover <= request.cover_max):
                continue
            product = ProductId.parse(entry.product)
            if '"missing"' in entry.inputs and not entry.file and not _OF_KEPT_PIXELS.isdisjoint(entry.reasons):
                fid = near_tile(layer.bounds, layer.crs, product.tile, request.buffer)
            else:
                fid = unknown_in(entry.inputs)
            if len(fid):
                found[product.sensing].append(fid)
        return {sensing: np.unique(np.concatenate(parts)) for sensing, parts in found.items()}

    def read(self, layout: RowFormat, images: Sequence[RawImage] | None = None) -> tuple[Spool, int]:
        """Read images and select one row per date and feature.

        Parameters
        ----------
        layout
            The columns of the rows.
        images
            Files by sensing time; None is all.

        Returns
        -------
        spool, superseded
            The rows, and the number of rows that were not selected.

        Raises
        ------
        StoreError
            If a file cannot be read.
        """
        spool, superseded = Spool(layout), 0
        with closed(self._by_time(layout, self.images if images is None else images)) as read:
            for batches in read:
                unknown = self.unknown.get(batches[0].product.sensing, _NONE)
                for batch in select(without_unknown(batches, unknown)):
                    spool.add(batch)
                    superseded += batch.reasons.get(Reason.SUPERSEDED, 0)
        return spool, superseded

    def _by_time(self, layout: RowFormat, images: Sequence[RawImage]) -> Generator[list[Batch], None, None]:
        """Yield the batches of one sensing time after the other."""
        read = in_threads(lambda image: read_image(image, self.index, self.mask, layout), images, workers())
        title = f"reading {self.index}"
        with progress(title, len(images), quiet=self.engine.quiet) as step, closing(read):
            for _, together in itertools.groupby(read, key=lambda batch: batch.product.sensing):
                batches = list(together)
                yield batches
                for _ in batches:
                    step()
