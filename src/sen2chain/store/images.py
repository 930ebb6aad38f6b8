"""Files of rows, one for each image: Parquet or the documented CSV, written whole or not at all."""

from __future__ import annotations

import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from sen2chain.atomic import FileGroup
from sen2chain.errors import StoreError
from sen2chain.export import csv_header, csv_lines, text_of
from sen2chain.rows import Batch
from sen2chain.store.extraction_folder import ExtractionFolder, product_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from sen2chain.products import ProductId
    from sen2chain.spool import RowFormat

_NEEDED = ("count", "nodata", "nbcld")
RawFormat = Literal["parquet", "csv"]


@dataclass(frozen=True, slots=True)
class RawImage:
    """A file of rows."""

    path: Path
    """The file."""
    product: ProductId
    """The product."""
    size: int
    """Bytes."""
    changed: int
    """Time of the last change in nanoseconds."""


def list_images(
    folder: ExtractionFolder, index: str, mask: str, known: Mapping[str, str] | None = None
) -> list[RawImage]:
    """Return the files of an index under a mask, one for each product, by sensing time and name.

    Parameters
    ----------
    folder
        The layer's folder.
    index, mask
        Names.
    known
        Product -> file name, as the ledger has it: where a killed run left a second file of a product, that is the
        one that counts, else the latest.
    """
    return chosen(all_files(folder, index, mask), known or {})


def chosen(images: Iterable[RawImage], known: Mapping[str, str]) -> list[RawImage]:
    """Choose one file for each product, as `list_images` does."""
    found: dict[ProductId, RawImage] = {}
    for image in images:
        other = found.get(image.product)
        named = known.get(str(image.product))
        if other is None or image.path.name == named or (other.path.name != named and image.changed > other.changed):
            found[image.product] = image
    return sorted(found.values(), key=lambda image: (image.product.sensing, str(image.product)))


def all_files(folder: ExtractionFolder, index: str, mask: str) -> list[RawImage]:
    """Return all files of rows of an index under a mask."""
    try:
        with os.scandir(folder.raw(index, mask)) as entries:
            found = [
                RawImage(Path(entry.path), product, facts.st_size, facts.st_mtime_ns)
                for entry in entries
                if (product := product_of(entry.name)) and stat.S_ISREG((facts := entry.stat()).st_mode)
            ]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"{folder.raw(index, mask)} cannot be listed ({error.strerror}); check its rights.") from error
    return found


def write_image(
    batch: Batch,
    folder: ExtractionFolder,
    layout: RowFormat,
    raw_format: RawFormat,
    files: FileGroup | None = None,
) -> RawImage:
    """Write the rows of an image; a file of the same image is replaced.

    Parameters
    ----------
    batch
        The rows, at least one.
    folder
        The layer's folder.
    layout
        The columns. Parquet files are without the attributes, which the layer has once for all images.
    raw_format
        ``parquet`` or ``csv``.
    files
        The files of the run, whose `FileGroup.finish` is still to be called; None writes this one at once.

    Returns
    -------
    RawImage
        The file; where it has not taken its name yet, its time of change is 0.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    path = folder.raw_file(batch.filename, f".{raw_format}", batch.index, batch.mask)
    table = layout.rows_of(batch)
    content = io.BytesIO()
    if raw_format == "csv":
        content.write(csv_header(table.schema))
        for part in table.to_batches(1 << 15):
            content.write(text_of(csv_lines(part)))
    else:
        own = table.select(table.schema.names[: len(table.schema) - layout.attributes.num_columns])
        pq.write_table(own, content, compression="zstd")
    if files is not None:
        files.append(path, content.getbuffer())
        return RawImage(path, batch.product, content.getbuffer().nbytes, 0)
    with FileGroup(folder.root) as alone:
        alone.append(path, content.getbuffer())
        alone.finish()
    facts = path.stat()
    return RawImage(path, batch.product, facts.st_size, facts.st_mtime_ns)


def read_image(image: RawImage, index: str, mask: str, layout: RowFormat) -> Batch:
    """Read the rows of an image.

    Parameters
    ----------
    image
        The file.
    index, mask
        Names.
    layout
        The columns wanted; statistics that the file lacks are NaN.

    Raises
    ------
    StoreError
        If the file cannot be read.
    """
    read = _read_csv if image.path.suffix == ".csv" else _read_parquet
    try:
        table = read(image.path, ["fid", *layout.numbers])
        names = _first_text(image.path, table)
        fid = _fids(table, layout.features)
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        cause = str(error).split("\n")[0].rstrip(".")
        raise StoreError(
            f"{image.path} cannot be read ({cause}); remove it and extract again, and only this image is extracted."
        ) from error
    columns: dict[str, npt.NDArray[np.generic]] = {}
    for name in ("fid", *layout.numbers):
        found = name in table.column_names
        columns[name] = table.column(name).to_numpy().astype(np.float64) if found else np.full(len(fid), np.nan)
    columns["fid"] = fid.astype(np.int64)
    columns["reason"] = np.full(table.num_rows, -1, np.int8)
    if table.num_rows > 1 and (np.diff(columns["fid"].astype(np.int64)) <= 0).any():
        order = np.argsort(columns["fid"], kind="stable")
        columns = {name: values[order] for name, values in columns.items()}
    return Batch(index, mask, image.product, names, columns, {})


def _fids(table: pa.Table, features: int) -> npt.NDArray[np.float64]:
    fid: npt.NDArray[np.float64] = table.column("fid").to_numpy().astype(np.float64)
    if not ((fid >= 0) & (fid < (features or np.inf))).all():
        raise ValueError("a fid is not that of a feature of the layer")
    return fid


def _read_parquet(path: Path, columns: list[str]) -> pa.Table:
    file = pq.ParquetFile(path)
    names = file.schema_arrow.names
    if not {"fid", *_NEEDED, "filename"} <= set(names):
        raise KeyError("it is not a file of rows")
    return file.read(columns=[name for name in (*columns, "filename") if name in names])


def _read_csv(path: Path, columns: list[str]) -> pa.Table:
    with path.open("rb") as file:
        header = file.readline().decode().rstrip().split(",")
    missing = {"fid", *_NEEDED, "filename"} - set(header)
    if missing:
        raise KeyError(f"no column {', '.join(sorted(missing))}")
    wanted = [name for name in columns if name in header]
    options = pyarrow.csv.ConvertOptions(
        include_columns=[*wanted, "filename"],
        column_types={**dict.fromkeys(wanted, pa.float64()), "filename": pa.string()},
        strings_can_be_null=False,
    )
    return pyarrow.csv.read_csv(path, convert_options=options)


def _first_text(path: Path, table: pa.Table) -> str:
    """Return the ``filename`` that all rows of the file have."""
    return str(table.column("filename")[0].as_py()) if table.num_rows else path.stem
