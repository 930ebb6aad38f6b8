"""Writers of pixels: they take one product after the other, and make a table or a store of them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from sen2chain.coverage import PLANNED
from sen2chain.errors import EmptyResultError
from sen2chain.pixel_table.dataset_folder import DatasetFolder
from sen2chain.pixel_table.pixel_parquet import PATTERN, pixel_file, write_pixels
from sen2chain.report import BROKEN, LACKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt
    import pyarrow as pa

    from sen2chain.pixel_table.pixel_columns import PixelColumns
    from sen2chain.pixel_table.pixel_extraction import PixelTaskResult

    Ints = npt.NDArray[np.int64]


class PixelWriter(AbstractContextManager["PixelWriter"], Protocol):
    """Writes the pixels of products in order of their sensing times; used as a context manager."""

    folder: DatasetFolder
    """The folder that it writes."""

    def add(self, result: PixelTaskResult, fids: Ints) -> None:
        """Write the pixels of some features of one product."""
        ...

    def finish(self) -> tuple[int, int, int, list[str]]:
        """Complete the result; return its files, rows and bytes, and sentences on files that were removed."""
        ...


class ParquetWriter:
    """Writes a table of Parquet files, see `pixel_parquet`.

    Parameters
    ----------
    path
        The folder of the table.
    columns
        Its columns.
    keys
        (features of the layer,) the user's own keys; None for none.
    note
        How it is made.
    overwrite
        Whether files with rows are replaced by none.
    """

    def __init__(
        self,
        path: Path,
        columns: PixelColumns,
        keys: pa.ChunkedArray | None,
        note: Mapping[str, Any],
        *,
        overwrite: bool,
    ) -> None:
        self.folder = DatasetFolder(path, PATTERN)
        self._columns, self._keys, self._note, self._overwrite = columns, keys, note, overwrite
        self._files: list[Path] = []
        self._rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return

    def add(self, result: PixelTaskResult, fids: Ints) -> None:
        """Write the file of one product."""
        product, pixels = result.task.product, result.pixels
        if pixels is None or not len(fids):
            return
        path = pixel_file(self.folder.path, product)
        missing = missing_columns(result, self._columns)
        self._rows += write_pixels(
            path, product, pixels, fids, self._columns, missing=missing, keys=self._keys, note=self._note
        )
        self._files.append(path)

    def finish(self) -> tuple[int, int, int, list[str]]:
        """Remove the files of an earlier run that this one does not have.

        Raises
        ------
        EmptyResultError
            If this run has no rows, and an earlier one has.
        """
        if not self._files and not self._overwrite and self.folder.files():
            raise EmptyResultError(
                f"{self.folder.path} has rows and is kept, since this run gave none; overwrite=True (--overwrite) "
                "replaces it.",
                [],
            )
        said = self.folder.remove_others(self._files)
        return len(self._files), self._rows, sum(path.stat().st_size for path in self._files), said


def missing_columns(result: PixelTaskResult, columns: PixelColumns) -> set[str]:
    """Return the columns that a product could not give: they are null for all of its pixels."""
    missing = set(result.pixels.lacking) if result.pixels else set()
    features = 0 if result.pixels is None else int(np.count_nonzero(result.pixels.coverage.state == PLANNED))
    usable = [
        output
        for output, batch in zip(result.task.outputs, result.batches, strict=True)
        if output.reason is None
        and not batch.reasons.keys() & {*BROKEN}
        and sum(batch.reasons.get(reason, 0) for reason in LACKING) < features
    ]
    missing |= {index.name for index in columns.indices if not any(o.index.name == index.name for o in usable)}
    return missing | {columns.mask_column(mask) for mask in columns.masks if not any(o.mask == mask for o in usable)}
