"""The file of one acquisition's kept pixels: values of its rasters in chunks of rows, and facts about the product."""

from __future__ import annotations

import hashlib
import io
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, get_args

import numpy as np

from sen2chain.errors import KeptPixelsError, PixelsNotKeptError
from sen2chain.files import open_regular
from sen2chain.pixel_store.pixel_codec import DTYPES, decode, decode_flags, encode, encode_flags
from sen2chain.pixel_store.stored_members import StoredMembers, to_json, write_members
from sen2chain.pixel_store.tile_positions import FORMAT, Role, TilePositions, grid_facts, grid_of, load_positions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    import numpy.typing as npt

    from sen2chain.grid import Grid
    from sen2chain.pixel_store.pixel_positions import PixelPositions

    Array = npt.NDArray[Any]
    Bools = npt.NDArray[np.bool_]

CHUNK_ROWS = 1024
"""Rows of a raster whose values are coded together."""
_PREFIX = "kept:"
_FACTS = "facts.json"
_DIGITS = 16
_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{16}", re.ASCII)


class KeptValues(NamedTuple):
    """Values of one raster at its kept pixels."""

    values: Array
    """(pixels,) in the order of ``positions.of_raster(role, grid)``."""
    present: Bools | None
    """(pixels,) False where the pixel was not decoded, and its value says nothing; None where all were."""
    role: Role
    """Whether it is a band or a quality raster."""
    grid: Grid
    """Its grid."""
    nodata: float | None
    """Its declared number for pixels without data."""
    scale: tuple[float, float]
    """Its declared factor and summand from stored to physical values."""


@dataclass(frozen=True, slots=True)
class KeptHeader:
    """What a pixel file says of one raster."""

    role: Role
    """Whether it is a band or a quality raster."""
    grid: Grid
    """Its grid."""
    dtype: np.dtype[Any]
    """Type of its values."""
    nodata: float | None
    """Its declared number for pixels without data."""
    scale: tuple[float, float]
    """Its declared factor and summand from stored to physical values."""
    flags: int | None
    """Number of the members that tell which pixels are present; None where all are."""

    @property
    def is_complete(self) -> bool:
        """Whether all pixels are present."""
        return self.flags is None


def kept_location(path: Path | str, name: str) -> str:
    """Return the location of a raster in a pixel file: ``kept:<path>#B04``."""
    return f"{_PREFIX}{path}#{name}"


def is_kept(location: str) -> bool:
    """Tell whether a location is one that `kept_location` has made."""
    return location.startswith(_PREFIX)


def split_kept(location: str) -> tuple[Path, str] | None:
    """Return path and raster of a location that `kept_location` has made; None for any other location."""
    if not location.startswith(_PREFIX):
        return None
    path, _, name = location.removeprefix(_PREFIX).rpartition("#")
    return Path(path), name


def pixel_file(facts: Mapping[str, Any], rasters: Mapping[str, KeptValues], positions: TilePositions) -> bytes:
    """Return the content of a pixel file.

    Parameters
    ----------
    facts
        What is known of the product, for JSON; ``product`` is its id, with which the name of the file begins.
    rasters
        Band or quality raster -> its values.
    positions
        The positions of the values.
    """
    members: dict[str, bytes] = {_FACTS: b""}
    headers: dict[str, Any] = {}
    numbers: dict[tuple[Role, Grid, bytes], int] = {}
    for name, raster in rasters.items():
        where = positions.of_raster(raster.role, raster.grid)
        if raster.values.shape != (where.size,) or not _NAME.fullmatch(name):
            raise ValueError(f"{where.size} values of a raster are needed, not {name} {raster.values.shape}.")
        present = None if raster.present is None or raster.present.all() else raster.present
        # Other positions have other chunks and stripes, even where their flags in the order of rows are the same.
        number = None
        if present is not None:
            number = numbers.setdefault((raster.role, raster.grid, present.tobytes()), len(numbers))
        headers[name] = {
            "role": raster.role,
            "grid": grid_facts(raster.grid),
            "dtype": raster.values.dtype.name,
            "nodata": raster.nodata,
            "scale": raster.scale,
            "flags": number,
        }
        for k, cut in _chunks(where):
            rows = k * CHUNK_ROWS, (k + 1) * CHUNK_ROWS
            values = where.to_stripes(np.ascontiguousarray(raster.values[cut]), *rows)
            if present is not None:
                flags = where.to_stripes(np.ascontiguousarray(present[cut]), *rows)
                members[f"present-{number}/{k}"] = encode_flags(flags)
                values = values[flags]
            members[f"{name}/{k}"] = encode(values)
    members[_FACTS] = to_json(
        {"format": FORMAT, "positions": positions.digest, "rasters": headers, "facts": dict(facts)}
    )
    return write_members(members)


def with_facts(content: bytes, facts: Mapping[str, Any]) -> bytes:
    """Return the content of a pixel file with further facts about its product.

    Raises
    ------
    KeptPixelsError
        If it is damaged.
    """
    with StoredMembers("pixels", io.BytesIO(content)) as members:
        head = members.facts(_FACTS)
        head["facts"] |= facts
        return write_members({**members.read_all(), _FACTS: to_json(head)})


def content_digest(content: bytes) -> str:
    """Return the 16 hexadecimal digits of a pixel file's content that end its name."""
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def is_as_named(path: Path) -> bool:
    """Whether the content of a pixel file has the digest in its name, so that no byte has changed; reads all of it."""
    try:
        with open_regular(path) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]
    except (OSError, ValueError):
        return False
    return path.stem.endswith(f"_{found}")


class PixelFile:
    """An open pixel file; several threads may read it.

    Parameters
    ----------
    members
        The members of the file; closed with this object.
    positions
        The positions of its values; None: they are read from the file beside it.
    folder
        The folder of that file.

    Raises
    ------
    KeptPixelsError
        If the file is damaged, of another version of the format, or has other positions.
    """

    def __init__(self, members: StoredMembers, positions: TilePositions | None, folder: Path) -> None:
        self._members, self._folder = members, folder
        found = members.facts(_FACTS)
        if found.get("format") != FORMAT:
            raise members.other_format(found.get("format"), FORMAT)
        with members.reading():
            self.facts: dict[str, Any] = dict(found["facts"])
            """What is known of the product."""
            self.rasters = {str(name): _header(header) for name, header in found["rasters"].items()}
            """Band or quality raster -> its header."""
            self.digest = str(found["positions"])
            """Digest of the positions."""
            if not _DIGEST.fullmatch(self.digest) or not all(map(_NAME.fullmatch, self.rasters)):
                raise ValueError("its facts are not as sen2chain writes them")
        if positions is not None and positions.digest != self.digest:
            raise KeptPixelsError(f"Kept pixels {members.name} have other positions than those of the layer today.")
        self._positions = positions
        # Rasters share their flags, and each is asked more than once for them.
        self._flags: dict[tuple[int | None, int, int], Bools] = {}
        self._present: dict[tuple[int, Role, Grid], Bools] = {}

    @classmethod
    def open(cls, path: Path, positions: TilePositions | None = None) -> Self:
        """Open the pixel file of a product; errors as of the class.

        Its name begins with the product that it holds, and goes on with ``_`` or the suffix.
        """
        members = StoredMembers.open(path)
        try:
            found = cls(members, positions, path.parent)
        except KeptPixelsError:
            members.close()
            raise
        product = str(found.facts.get("product"))
        if not path.name.startswith((f"{product}_", f"{product}.")):
            found.close()
            raise members.damaged(f"it holds the pixels of {product!r}")
        return found

    @classmethod
    def of_bytes(cls, content: bytes, positions: TilePositions, name: str = "pixels") -> Self:
        """Open the content of a pixel file in memory; errors as of the class."""
        return cls(StoredMembers(name, io.BytesIO(content)), positions, Path())

    @property
    def positions(self) -> TilePositions:
        """The positions of its values; errors as of `load_positions`."""
        if self._positions is None:
            self._positions = load_positions(self._folder, self.digest)
        return self._positions

    def positions_of(self, name: str) -> PixelPositions:
        """Return the positions of the values of a raster; errors as of `read_rows`."""
        header, finest = self.header(name), self.positions.finest.grid
        if not header.grid.covers(finest):
            raise self._members.damaged(f"{name} does not lie where its positions do")
        return self.positions.of_raster(header.role, header.grid)

    def header(self, name: str) -> KeptHeader:
        """Return the header of a raster.

        Raises
        ------
        KeptPixelsError
            If the file does not hold it.
        """
        if name not in self.rasters:
            held = ", ".join(self.rasters) or "nothing"
            raise PixelsNotKeptError(f"Kept pixels {self._members.name} do not hold {name}; they hold {held}.")
        return self.rasters[name]

    def read(self, name: str) -> tuple[Array, Bools | None]:
        """Return the values of a raster, and where they are present; None: everywhere. See `read_rows`."""
        return self.read_rows(name, 0, self.header(name).grid.shape[0])

    def read_rows(self, name: str, first: int, last: int) -> tuple[Array, Bools | None]:
        """Return the values of some rows of a raster, and where they are present; 0 elsewhere.

        Parameters
        ----------
        name
            The raster.
        first, last
            First row, and one past the last. Chunks of `CHUNK_ROWS` rows are decoded, and as a whole.

        Raises
        ------
        KeptPixelsError
            If the file or its positions are damaged, or it does not hold the raster.
        """
        header, where = self.header(name), self.positions_of(name)
        whole = where.values_of_rows(first, last)
        values = np.empty(whole.stop - whole.start, header.dtype)
        present = None if header.is_complete else np.empty(len(values), np.bool_)
        for k, cut in _chunks(where, first, last):
            a, b = max(cut.start, whole.start), min(cut.stop, whole.stop)
            into, part = slice(a - whole.start, b - whole.start), slice(a - cut.start, b - cut.start)
            rows, flags = (k * CHUNK_ROWS, (k + 1) * CHUNK_ROWS), None
            if present is not None:
                flags = self._read_flags(header, k, cut.stop - cut.start)
                present[into] = where.from_stripes(flags, *rows)[part]
            chunk = self._read_chunk(header, f"{name}/{k}", cut.stop - cut.start, flags)
            values[into] = where.from_stripes(chunk, *rows)[part]
        return values, present

    def read_present(self, name: str) -> Bools | None:
        """Return where the values of a raster are present; None: everywhere. Errors as of `read_rows`."""
        header, where = self.header(name), self.positions_of(name)
        if header.flags is None:
            return None
        key = header.flags, header.role, header.grid  # in a damaged file, rasters of other positions may name it
        if key not in self._present:
            present = np.empty(where.size, np.bool_)
            for k, cut in _chunks(where):
                flags = self._read_flags(header, k, cut.stop - cut.start)
                present[cut] = where.from_stripes(flags, k * CHUNK_ROWS, (k + 1) * CHUNK_ROWS)
            self._present[key] = present
        return self._present[key]

    def _read_flags(self, header: KeptHeader, chunk: int, size: int) -> Bools:
        """Return which pixels of a chunk are present, in the order of stripes."""
        key = header.flags, chunk, size
        if key not in self._flags:
            with self._members.reading():
                self._flags[key] = decode_flags(
                    self._members.read(f"present-{header.flags}/{chunk}", size + 1024), size
                )
        return self._flags[key]

    def _read_chunk(self, header: KeptHeader, member: str, size: int, flags: Bools | None) -> Array:
        """Return the values of a chunk in the order of stripes; 0 where they are not present."""
        count = size if flags is None else int(np.count_nonzero(flags))
        with self._members.reading():
            found = decode(self._members.read(member, 2 * count * header.dtype.itemsize + 1024), header.dtype, count)
        if flags is None:
            return found
        values = np.zeros(size, header.dtype)
        values[flags] = found
        return values

    def close(self) -> None:
        """Close the file."""
        self._members.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _chunks(where: PixelPositions, first: int = 0, last: int | None = None) -> list[tuple[int, slice]]:
    """Return number and values of the chunks of some rows that have pixels."""
    last = where.grid.shape[0] if last is None else last
    found = []
    for k in range(first // CHUNK_ROWS, -(-last // CHUNK_ROWS)):
        cut = where.values_of_rows(k * CHUNK_ROWS, (k + 1) * CHUNK_ROWS)
        if cut.start < cut.stop:
            found.append((k, cut))
    return found


def _header(facts: Any) -> KeptHeader:
    """Return the header of a raster from its facts; raises `ValueError` and its kind if they are not as written."""
    role, dtype, nodata, flags = facts["role"], facts["dtype"], facts["nodata"], facts["flags"]
    factor, summand = (float(number) for number in facts["scale"])
    if role not in get_args(Role) or dtype not in DTYPES or not (flags is None or (type(flags) is int and flags >= 0)):
        raise ValueError("its facts are not as sen2chain writes them")
    if not math.isfinite(factor) or not math.isfinite(summand):
        raise ValueError("a scale is not a number")
    number = None if nodata is None else float(nodata)
    return KeptHeader(role, grid_of(facts["grid"]), np.dtype(dtype), number, (factor, summand), flags)
