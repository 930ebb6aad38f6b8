"""The plan of a production: which files a request asks for, and for each whether and why it is made.

No pixel is read and nothing is written. Files that exist are judged by their tags, see `sen2chain.produce.stored_file`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sen2chain.archive import index_file, mask_file
from sen2chain.errors import UnknownNameError
from sen2chain.produce.disk_room import Room, rooms_of
from sen2chain.produce.expected_size import index_bytes, mask_bytes
from sen2chain.produce.raster_inputs import index_inputs, mask_inputs, masked_inputs
from sen2chain.produce.stored_file import Verdict, judge_index, judge_mask
from sen2chain.progress import counted, sized

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sen2chain.archive import LibrarySource
    from sen2chain.indices import Index
    from sen2chain.masks import Mask
    from sen2chain.produce.product_request import ProductRequest
    from sen2chain.products import Acquisition, Skipped


class FileKind(enum.StrEnum):
    """What a produced file is."""

    INDEX = "index"
    MASKED = "masked index"
    MASK = "mask"
    QUICKLOOK = "quicklook"


class State(enum.StrEnum):
    """What becomes of a file."""

    MAKE = "to make"
    KEPT = "kept"
    REFUSED = "refused"
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True, slots=True)
class ProductFile:
    """One file that a request asks for."""

    path: Path
    """Where it belongs."""
    kind: FileKind
    """What it is."""
    name: str
    """Name of the index, of the mask as it stands in file names, or of the picture."""
    index: Index | None
    """The index of an index raster or a picture."""
    mask: Mask | None
    """The mask of a mask raster or a masked index."""
    state: State
    """What becomes of it."""
    detail: str = ""
    """A sentence: why it is made again, kept, refused, or impossible; empty for a file that is not there yet."""
    expected_bytes: int = 0
    """About how large it will be, where it is to be made."""
    exists: bool = False
    """Whether there is a file of that name now."""
    version: tuple[int, int] | None = None
    """Size and time of change of that file; None where there is none."""


@dataclass(frozen=True, slots=True)
class ProductOrder:
    """The files of one acquisition."""

    acquisition: Acquisition
    """The acquisition."""
    files: tuple[ProductFile, ...]
    """The files."""

    @property
    def to_make(self) -> tuple[ProductFile, ...]:
        """Return the files that are to be made."""
        return tuple(file for file in self.files if file.state is State.MAKE)


@dataclass(frozen=True, slots=True)
class ProductPlan:
    """Files of a run, and what is in the way of some."""

    request: ProductRequest
    """What was asked for."""
    orders: tuple[ProductOrder, ...]
    """Acquisitions with their files, ordered by tile and time."""
    skipped: tuple[Skipped, ...] = ()
    """What the source could not use."""
    outside_cover: int = 0
    """Products left out because of their cloud cover."""
    rooms: tuple[Room, ...] = ()
    """Room on each disk that is written to."""
    notes: tuple[str, ...] = field(default=())
    """Further sentences, as how long a model will take."""

    @property
    def files(self) -> tuple[ProductFile, ...]:
        """Return all files."""
        return tuple(file for order in self.orders for file in order.files)

    @property
    def to_make(self) -> tuple[ProductFile, ...]:
        """Return the files that are to be made."""
        return tuple(file for order in self.orders for file in order.to_make)

    @property
    def expected_bytes(self) -> int:
        """Bytes that the files to make will take, about."""
        return sum(file.expected_bytes for file in self.to_make)

    @property
    def free_bytes(self) -> int | None:
        """Bytes that are free on the disk with the least room; None where that is not known."""
        return min((room.free for room in self.rooms if room.free is not None), default=None)

    @property
    def fits(self) -> bool:
        """Whether there is room for what will be written, as far as that is known."""
        return all(room.free is None or room.needed <= room.free for room in self.rooms)

    def count(self, state: State) -> int:
        """Return the number of files in a state."""
        return sum(file.state is state for file in self.files)

    @property
    def why_nothing(self) -> str:
        """A sentence on why nothing is to be made; empty where something is."""
        if self.to_make:
            return ""
        if not self.orders:
            cover = f"; {counted(self.outside_cover, 'product')} left out for cloud cover" if self.outside_cover else ""
            return f"There is no product of these tiles and dates{cover}."
        if self.count(State.KEPT) == len(self.files):
            return f"There is nothing to do: all {counted(len(self.files), 'file')} are there and up to date."
        first = next(file for file in self.files if file.state is not State.KEPT)
        return f"Nothing can be made: {self._others()}. The first: {first.detail}"

    def _others(self) -> str:
        """Return the counts of files that are not made, in words."""
        states = (State.KEPT, State.REFUSED, State.IMPOSSIBLE)
        counts = [f"{n} {_WORDS[state]}" for state in states if (n := self.count(state))]
        return ", ".join(counts)

    def sentences(self) -> list[str]:
        """Say how many files and bytes will be written and whether they fit, and what is in the way of others."""
        files = self.to_make
        said = []
        if files:
            products = sum(bool(order.to_make) for order in self.orders)
            said.append(
                f"{counted(len(files), 'file')} of {counted(products, 'product')} will be written, about "
                f"{sized(self.expected_bytes)}."
            )
        said += [_room_in_words(room) for room in self.rooms if room.free is not None and files]
        others = self._others()
        if others and files:
            said.append(f"Of the others, {others}.")
        if self.outside_cover:
            said.append(f"{counted(self.outside_cover, 'product')} left out for cloud cover.")
        return [*said, *self.notes, *filter(None, [self.why_nothing])]


_WORDS = {
    State.KEPT: "kept as they are",
    State.REFUSED: "refused (--force or force=True replaces them)",
    State.IMPOSSIBLE: "impossible",
}


def _room_in_words(room: Room) -> str:
    free = sized(room.free or 0)
    if room.free is not None and room.needed > room.free:
        return f"That is more than the {free} that are free in {room.folder}: free some, or ask for less."
    return f"{free} are free in {room.folder}."


def plan_products(request: ProductRequest, source: LibrarySource) -> ProductPlan:
    """Find out which files a request asks for, and which of them have to be made.

    Parameters
    ----------
    request
        The request.
    source
        The library, with the products that rasters are made from.

    Raises
    ------
    UnknownNameError
        If a tile is asked for that the source lacks.
    LibraryError
        If a folder of the archive cannot be listed.
    """
    tiles = source.tiles(None, request.first, request.last)
    for tile in request.tiles or ():
        if tile not in tiles:
            raise UnknownNameError("tile", tile, tiles)
    orders, outside = [], 0
    for tile in sorted(set(request.tiles or tiles)):
        for acquisition in source.acquisitions(tile, request.first, request.last):
            if not request.takes(acquisition):
                outside += 1
                continue
            orders.append(ProductOrder(acquisition, tuple(_files_of(acquisition, request, source))))
    written = [(file.path, file.expected_bytes) for order in orders for file in order.to_make]
    source.save()
    return ProductPlan(request, tuple(orders), tuple(source.skipped()), outside, rooms_of(written))


def version_of(path: Path) -> tuple[int, int] | None:
    """Return size and time of change of a file; None where there is none."""
    try:
        facts = path.lstat()
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns


def judge_again(
    file: ProductFile, acquisition: Acquisition, request: ProductRequest, source: LibrarySource
) -> ProductFile:
    """Judge a file that has changed since the plan: what another run has just made is not made again by force."""
    request = replace(request, force=False)
    found = _files_of(acquisition, request, source)
    return next(other for other in found if (other.kind, other.name, other.mask) == (file.kind, file.name, file.mask))


def _files_of(acquisition: Acquisition, request: ProductRequest, source: LibrarySource) -> Iterator[ProductFile]:
    """Yield the files that a request asks for of one acquisition: masks first, which masked indices may need."""
    for mask in request.masks:
        yield _mask(acquisition, mask, request, source)
    for index in request.indices:
        yield _index(acquisition, index, request, source)
        for mask in request.masks if request.masked else ():
            yield _masked(acquisition, index, mask, request, source)


def _mask(acquisition: Acquisition, mask: Mask, request: ProductRequest, source: LibrarySource) -> ProductFile:
    inputs = mask_inputs(acquisition, mask)
    suffixes = dict.fromkeys((f".{request.mask_format}", ".tif", ".jp2"))
    paths = [mask_file(source.paths, acquisition.id, mask.name, suffix) for suffix in suffixes]
    # Both formats are lossless: a mask that is there in the other one is there.
    path = next((path for path in paths if version_of(path) is not None), paths[0])
    verdict = judge_mask(path, acquisition, mask, inputs, request, source)
    if verdict.state == "make" and not verdict.replaces:
        path = paths[0]
    return _file(path, FileKind.MASK, verdict, mask_bytes(acquisition, mask, source), mask.name, None, mask)


def _index(acquisition: Acquisition, index: Index, request: ProductRequest, source: LibrarySource) -> ProductFile:
    path = index_file(source.paths, acquisition.id, index.name)
    verdict = judge_index(path, acquisition, index, index_inputs(acquisition, index), request, source)
    expected = index_bytes(acquisition, index, source, request.precision)
    return _file(path, FileKind.INDEX, verdict, expected, index.name, index, None)


def _masked(
    acquisition: Acquisition, index: Index, mask: Mask, request: ProductRequest, source: LibrarySource
) -> ProductFile:
    path = index_file(source.paths, acquisition.id, index.name, mask.name)
    inputs = masked_inputs(acquisition, index, mask)
    verdict = judge_index(path, acquisition, index, inputs, request, source, mask)
    expected = index_bytes(acquisition, index, source, request.precision)
    return _file(path, FileKind.MASKED, verdict, expected, index.name, index, mask)


def _file(
    path: Path, kind: FileKind, verdict: Verdict, expected: int, name: str, index: Index | None, mask: Mask | None
) -> ProductFile:
    state = State[verdict.state.upper()]
    expected = expected if state is State.MAKE else 0
    version = version_of(path)
    return ProductFile(path, kind, name, index, mask, state, verdict.detail, expected, verdict.exists, version)
