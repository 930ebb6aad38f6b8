"""The files that a request asks for of an acquisition, each with what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from sen2chain.archive import index_file, mask_file, quicklook_file
from sen2chain.pictures.chip_images import need_pillow
from sen2chain.produce.cloud_model import CloudModel
from sen2chain.produce.expected_size import index_bytes, mask_bytes
from sen2chain.produce.product_file import COLOUR, FileKind, ProductFile, State, version_of
from sen2chain.produce.quicklooks import EXPECTED_BYTES
from sen2chain.produce.raster_inputs import index_inputs, mask_inputs, masked_inputs, model_inputs, picture_inputs
from sen2chain.produce.stored_file import Verdict, judge_index, judge_mask, judge_model_mask, judge_picture

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from sen2chain.archive import LibrarySource
    from sen2chain.indices import Index
    from sen2chain.masks import Mask
    from sen2chain.produce.product_file import ProductOrder
    from sen2chain.produce.product_request import ProductRequest
    from sen2chain.products import Acquisition

OCM = "OCM"
"""Family of the masks that a model makes."""


@dataclass(frozen=True, slots=True)
class OrderedFiles:
    """Finds the files that a request asks for; build it with `of_request`."""

    request: ProductRequest
    """The request."""
    source: LibrarySource
    """The library."""
    model: CloudModel | None = None
    """The model that makes cloud masks, where it is asked for."""

    @classmethod
    def of_request(cls, request: ProductRequest, source: LibrarySource) -> Self:
        """Prepare for a request.

        Raises
        ------
        MissingExtraError
            If an optional library is needed and not installed.
        ModelError
            If the model cannot be used.
        """
        if request.quicklooks:
            need_pillow()
        wants = any(mask.family == OCM for mask in request.masks)
        return cls(request, source, CloudModel.find(source.paths, request.model_resolution) if wants else None)

    def of(self, acquisition: Acquisition) -> tuple[ProductFile, ...]:
        """Return the files of an acquisition: masks first, which others may need, and quicklooks last."""
        masks = {mask: self._mask(acquisition, mask) for mask in self.request.masks}
        rasters: dict[Index, ProductFile] = {}
        files = [*masks.values()]
        for index in self.request.indices:
            rasters[index] = self._index(acquisition, index)
            files.append(rasters[index])
            if self.request.masked:
                files += [self._masked(acquisition, index, file) for file in masks.values()]
        if self.request.quicklooks:
            files += self._quicklooks(acquisition, next(iter(masks.values()), None), rasters)
        return tuple(files)

    def again(self, file: ProductFile, acquisition: Acquisition) -> ProductFile:
        """Judge a file that has changed since the plan: what another run has just made is not made again by force."""
        found = replace(self, request=replace(self.request, force=False)).of(acquisition)
        key = file.kind, file.name, file.mask_name
        return next(other for other in found if (other.kind, other.name, other.mask_name) == key)

    def notes(self, orders: Iterable[ProductOrder]) -> tuple[str, ...]:
        """Return further sentences on a plan."""
        count = sum(is_of_model(file) for order in orders for file in order.to_make)
        return (self.model.sentence(count),) if self.model is not None and count else ()

    def _name(self, mask: Mask) -> str:
        """Return a mask as it stands in file names."""
        return self.model.name if self.model is not None and mask.family == OCM else mask.name

    def _mask(self, acquisition: Acquisition, mask: Mask) -> ProductFile:
        paths, name = self.source.paths, self._name(mask)
        if self.model is not None and mask.family == OCM:
            path = mask_file(paths, acquisition.id, name)
            inputs = model_inputs(acquisition, name)
            verdict = judge_model_mask(path, acquisition, self.model, inputs, self.request, self.source)
            expected = mask_bytes(acquisition, mask) if verdict.state == "make" else 0
            return self._file(path, FileKind.MASK, verdict, expected, name, mask=mask)
        inputs = mask_inputs(acquisition, mask)
        suffixes = dict.fromkeys((f".{self.request.mask_format}", ".tif", ".jp2"))
        candidates = [mask_file(paths, acquisition.id, name, suffix) for suffix in suffixes]
        # Both formats are lossless: a mask that is there in the other one is there. Of two, the TIFF is read.
        path = next((path for path in candidates if version_of(path) is not None), candidates[0])
        verdict = judge_mask(path, acquisition, mask, inputs, self.request, self.source)
        if verdict.state == "make" and path.suffix == ".jp2":
            path = candidates[0]
        expected = mask_bytes(acquisition, mask) if verdict.state == "make" else 0
        return self._file(path, FileKind.MASK, verdict, expected, name, mask=mask)

    def _index(self, acquisition: Acquisition, index: Index) -> ProductFile:
        path = index_file(self.source.paths, acquisition.id, index.name)
        inputs = index_inputs(acquisition, index)
        verdict = judge_index(path, acquisition, index, inputs, self.request, self.source)
        expected = index_bytes(acquisition, index, self.request.precision) if verdict.state == "make" else 0
        return self._file(path, FileKind.INDEX, verdict, expected, index.name, index=index)

    def _masked(self, acquisition: Acquisition, index: Index, clouds: ProductFile) -> ProductFile:
        mask, name = clouds.mask, clouds.name
        assert mask is not None  # noqa: S101  # it is the file of a mask
        path = index_file(self.source.paths, acquisition.id, index.name, name)
        inputs = masked_inputs(acquisition, index, mask, self._stored(acquisition, clouds))
        verdict = judge_index(path, acquisition, index, inputs, self.request, self.source, name)
        if verdict.state == "kept" and clouds.state is State.MAKE and is_of_model(clouds):
            verdict = Verdict("make", f"{path.name} is made again, as its mask is.", exists=True, replaces=True)
        expected = index_bytes(acquisition, index, self.request.precision) if verdict.state == "make" else 0
        return self._file(path, FileKind.MASKED, verdict, expected, index.name, index=index, mask=mask, mask_name=name)

    def _stored(self, acquisition: Acquisition, clouds: ProductFile) -> str:
        """Return the file of a mask that is there, or will be; empty where there will be none."""
        if is_of_model(clouds):
            return str(clouds.path) if clouds.exists or clouds.state is State.MAKE else ""
        return acquisition.masks.get(clouds.name, "") if clouds.state is State.KEPT else ""

    def _quicklooks(
        self, acquisition: Acquisition, clouds: ProductFile | None, rasters: dict[Index, ProductFile]
    ) -> Iterator[ProductFile]:
        """Yield the quicklooks: of the true colour, and of each index."""
        if clouds is not None and clouds.state in {State.IMPOSSIBLE, State.REFUSED} and not clouds.exists:
            clouds = None
        hidden = clouds.name if clouds else ""
        mask = clouds.mask if clouds else None
        for index in (None, *rasters):
            raster = rasters[index] if index else None
            path = quicklook_file(self.source.paths, acquisition.id, index.name if index else "")
            stored = self._stored(acquisition, clouds) if clouds else ""
            where = str(raster.path) if raster and (raster.exists or raster.state is State.MAKE) else ""
            inputs = picture_inputs(acquisition, index, where, mask, stored)
            verdict = judge_picture(path, acquisition, index, hidden, inputs, self.request, self.source)
            if verdict.state == "kept" and any(f is not None and f.state is State.MAKE for f in (raster, clouds)):
                verdict = Verdict("make", f"{path.name} is made again, as its raster is.", exists=True, replaces=True)
            name = index.name if index else COLOUR
            yield self._file(
                path, FileKind.QUICKLOOK, verdict, EXPECTED_BYTES, name, index=index, mask=mask, mask_name=hidden
            )  # fmt: skip

    @staticmethod
    def _file(
        path: Path,
        kind: FileKind,
        verdict: Verdict,
        expected: int,
        name: str,
        *,
        index: Index | None = None,
        mask: Mask | None = None,
        mask_name: str = "",
    ) -> ProductFile:
        state = State[verdict.state.upper()]
        expected, version = expected if state is State.MAKE else 0, version_of(path)
        return ProductFile(
            path, kind, name, index, mask, state, verdict.detail, expected, verdict.exists, version,
            verdict.is_foreign, mask_name,
        )  # fmt: skip


def is_of_model(file: ProductFile) -> bool:
    """Whether a file is a mask that the model makes."""
    return file.kind is FileKind.MASK and file.mask is not None and file.mask.family == OCM
