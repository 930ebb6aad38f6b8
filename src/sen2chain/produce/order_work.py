"""Work on the files of one acquisition: masks of the model, then one pass for all rasters, then quicklooks of these."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import TYPE_CHECKING

from sen2chain.archive import index_file
from sen2chain.errors import ModelError, RasterError, RequestError, Sen2ChainError, UnreadableError
from sen2chain.produce.acquisition_rasters import RasterPass, acquisition_bytes
from sen2chain.produce.ordered_files import is_of_model
from sen2chain.produce.product_file import FileKind
from sen2chain.produce.quicklooks import read_quicklook, write_quicklook
from sen2chain.produce.raster_inputs import describe, model_inputs, picture_inputs
from sen2chain.raster_tags import RasterTags

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sen2chain.archive import LibrarySource
    from sen2chain.parallel import Crew
    from sen2chain.produce.cloud_model import CloudModel
    from sen2chain.produce.product_file import ProductFile
    from sen2chain.produce.product_request import ProductRequest
    from sen2chain.products import Acquisition


@dataclass(slots=True, eq=False)
class OrderWork:
    """Makes the files of one acquisition, in a thread of our own.

    Parameters
    ----------
    acquisition, files
        The acquisition, and the files to make; their folders exist.
    request, source
        What was asked for, and the library.
    model
        The model that makes cloud masks, where one is to be made.
    crew
        Threads that help.
    hold
        Holds some bytes of memory while its context lasts.
    advanced
        Called with the fraction that is done, from any thread.
    check_on
        Called now and then; raises an error to end the work.
    """

    acquisition: Acquisition
    files: Sequence[ProductFile]
    request: ProductRequest
    source: LibrarySource
    model: CloudModel | None
    crew: Crew
    hold: Callable[[int], AbstractContextManager[None]]
    advanced: Callable[[float], None]
    check_on: Callable[[], None]
    made: dict[Path, RasterTags] = field(default_factory=dict)
    """Files that have got their names, with their tags."""
    errors: dict[Path, Sen2ChainError] = field(default_factory=dict)
    """Files that cannot be made, with the reason."""

    def run(self) -> None:
        """Make the files.

        Raises
        ------
        OutputError
            If the disk is full or a folder cannot be written. Files that got their names before it are in `made`.
        """
        for file in self.files:
            if is_of_model(file):
                self._ask_model(file)
        self._make_rasters()
        for file in self.files:
            if file.kind is FileKind.QUICKLOOK:
                self.check_on()
                self._draw(file)

    def _ask_model(self, file: ProductFile) -> None:
        """Have the model make a mask, which the acquisition has from then on."""
        assert self.model is not None  # noqa: S101  # given where such a mask is to be made
        inputs = model_inputs(self.acquisition, self.model.name)
        if isinstance(inputs, str):
            self.errors[file.path] = UnreadableError(inputs)
            return

        def advance(share: float) -> None:
            self.check_on()
            self.advanced(share)

        tags = RasterTags(
            str(self.acquisition.id), file.name, inputs=describe(inputs, self.source), version=version()
        )  # fmt: skip
        try:
            with self.hold(self.model.expected_memory()):
                self.made[file.path] = self.model.make(
                    self.acquisition, file.path, tags, verify=self.request.verify, advance=advance
                )
        except (RasterError, RequestError, ModelError) as error:
            self.errors[file.path] = error

    def _with_masks(self) -> Acquisition:
        """Return the acquisition with the masks that have been made."""
        masks = {file.name: str(file.path) for file in self.files
                 if file.kind is FileKind.MASK and file.path in self.made}  # fmt: skip
        return replace(self.acquisition, masks={**self.acquisition.masks, **masks})

    def _make_rasters(self) -> None:
        """Make indices, masks that are computed, and indices under masks."""
        kinds = {FileKind.MASK, FileKind.INDEX, FileKind.MASKED}
        files = [file for file in self.files if file.kind in kinds and not is_of_model(file)]
        failed = {file.name: self.errors[file.path] for file in self.files
                  if file.kind is FileKind.MASK and file.path in self.errors}  # fmt: skip
        for file in files:
            if file.mask_name in failed:
                self.errors[file.path] = failed[file.mask_name]
        files = [file for file in files if file.path not in self.errors]
        if not files:
            return
        with self.hold(acquisition_bytes(files, self.acquisition.id.sensor)):
            work = RasterPass(
                self._with_masks(), files, self.request, self.source, self.crew, self.advanced, self.check_on
            )
            try:
                work.run()
            finally:
                self.made |= {path: work.tags[path] for path in work.made}
                self.errors |= work.errors

    def _draw(self, file: ProductFile) -> None:
        """Draw a quicklook."""
        acquisition = self._with_masks()
        raster = self._raster_of(file)
        inputs = picture_inputs(
            acquisition, file.index, str(raster or ""), file.mask, acquisition.masks.get(file.mask_name, "")
        )
        if isinstance(inputs, str):
            self.errors[file.path] = UnreadableError(inputs)
            return
        tags = RasterTags(
            str(acquisition.id),
            file.name,
            definition=file.index.definition if file.index else "",
            mask=file.mask_name,
            inputs=describe(inputs, self.source),
            version=version(),
        )
        try:
            seen = read_quicklook(acquisition, file.index, raster, file.mask, verify=self.request.verify)
        except (RasterError, RequestError) as error:
            self.errors[file.path] = error
            return
        write_quicklook(seen, file.path, tags)
        self.made[file.path] = tags

    def _raster_of(self, file: ProductFile) -> Path | None:
        """Return the raster of the index of a quicklook, where it is there."""
        if file.index is None:
            return None
        path = index_file(self.source.paths, self.acquisition.id, file.index.name)
        return path if path.is_file() else None


def version() -> str:
    """Return the version of this package, for tags."""
    return metadata.version("sen2chain")
