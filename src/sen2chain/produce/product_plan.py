"""The plan of a production: which files a request asks for, and for each whether and why it is made.

No pixel is read and nothing is written. Files that exist are judged by their tags, see `sen2chain.produce.stored_file`.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sen2chain.errors import UnknownNameError
from sen2chain.notebook import card
from sen2chain.parallel import workers
from sen2chain.produce.disk_room import Room, rooms_of
from sen2chain.produce.expected_size import UNCOMPRESSED
from sen2chain.produce.ordered_files import OrderedFiles
from sen2chain.produce.product_file import FileKind, ProductFile, ProductOrder, State, once_each
from sen2chain.progress import counted, sized

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pandas as pd

    from sen2chain.archive import LibrarySource
    from sen2chain.produce.product_request import ProductRequest
    from sen2chain.products import Skipped


_REASONS = 5  # sentences on files

_COLUMNS = ("path", "product", "kind", "name", "state", "detail", "expected_bytes")


@dataclass(frozen=True, slots=True, repr=False)
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
        return all(room.fits for room in self.rooms)

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
            whole = "the one file is" if len(self.files) == 1 else f"all {len(self.files)} files are"
            return f"There is nothing to do: {whole} there and up to date."
        return f"Nothing can be made: {self._others()}."

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
            said.append(f"Others: {others}.")
        if self.outside_cover:
            said.append(f"{counted(self.outside_cover, 'product')} left out for cloud cover.")
        return [*said, *self.notes, *self._foreign(), *filter(None, [self.why_nothing])]

    def _foreign(self) -> list[str]:
        """Say how many files of other programs are kept."""
        count = sum(file.is_foreign for file in self.files)
        was, has = ("was", "has") if count == 1 else ("were", "have")
        return [f"{count} of the files that are kept {was} written by another program, and {has} no tags."] * bool(
            count
        )

    def reasons(self) -> list[str]:
        """Say why files are made again, refused or impossible: each sentence once, the most frequent first."""
        files = ((str(order.acquisition.id), file) for order in self.orders for file in order.files)
        return once_each(((name, file.detail) for name, file in files if file.state is not State.KEPT), _REASONS)

    def __str__(self) -> str:
        return "\n".join([*self.sentences(), *(f"! {sentence}" for sentence in self.reasons())])

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state in State if (count := self.count(state)))
        return f"<ProductPlan of {counted(len(self.orders), 'product')}: {counts or 'no files'}>"

    def _repr_html_(self) -> str:
        """Show counts and sentences in a notebook."""
        facts = [(str(state), count) for state in State if (count := self.count(state))]
        said = [("", sentence) for sentence in (*self.sentences(), *self.reasons())]
        return card("Plan of a production", [*facts, *said], "library.run(plan)" if self.to_make else "plan.to_frame()")

    def to_frame(self) -> pd.DataFrame:
        """Return a table with a row for each file."""
        import pandas as pd  # noqa: PLC0415  # half a second, for a table that few runs need

        return pd.DataFrame(self._lines(), columns=list(_COLUMNS))

    def to_dict(self) -> dict[str, Any]:
        """Return counts and files as plain values, for JSON."""
        return {
            "counts": {str(state): count for state in State if (count := self.count(state))},
            "expected_bytes": self.expected_bytes,
            "free_bytes": self.free_bytes,
            "fits": self.fits,
            "outside_cover": self.outside_cover,
            "files": self._lines(),
        }

    def _lines(self) -> list[dict[str, Any]]:
        """Return the files as plain values."""
        return [
            {
                "path": str(file.path),
                "product": str(order.acquisition.id),
                "kind": str(file.kind),
                "name": file.name,
                "state": str(file.state),
                "detail": file.detail,
                "expected_bytes": file.expected_bytes,
            }
            for order in self.orders
            for file in order.files
        ]


_WORDS = {
    State.KEPT: "kept as they are",
    State.REFUSED: "refused (--force or force=True replaces them)",
    State.IMPOSSIBLE: "impossible",
}


def _room_in_words(room: Room) -> str:
    free = sized(room.free or 0)
    if room.fits:
        return f"{free} are free in {room.folder}."
    beside = f" With {sized(room.meanwhile)} for files in the making, that" if room.meanwhile else "That"
    return f"{beside.strip()} is more than the {free} that are free in {room.folder}: free some, or ask for less."


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
    MissingExtraError
        If an optional library is needed and not installed.
    ModelError
        If OmniCloudMask is asked for and cannot be used.
    """
    tiles = source.tiles(None, request.first, request.last)
    for tile in request.tiles or ():
        if tile not in tiles:
            raise UnknownNameError("tile", tile, tiles)
    ordered = OrderedFiles.of_request(request, source)
    orders, outside = [], 0
    for tile in sorted(set(request.tiles or tiles)):
        found = source.acquisitions(tile, request.first, request.last)
        for acquisition in sorted(found, key=lambda acquisition: (acquisition.id.sensing, str(acquisition.id))):
            if not request.takes(acquisition):
                outside += 1
                continue
            orders.append(ProductOrder(acquisition, ordered.of(acquisition)))
    written = [(file.path, file.expected_bytes) for order in orders for file in order.to_make]
    paths = source.paths
    named = (paths.home, paths.indices, paths.cloudmasks, paths.quicklooks)
    source.save()
    rooms = rooms_of(written, named, _written_at_once(orders, workers(request.workers)))
    return ProductPlan(request, tuple(orders), tuple(source.skipped()), outside, rooms, ordered.notes(orders))


def _written_at_once(orders: Iterable[ProductOrder], threads: int) -> list[tuple[Path, int]]:
    """Return the rasters of the largest products that may be written at once, each with what lies beside it meanwhile.

    That is the uncompressed raster, see `sen2chain.produce.cog_file`.
    """
    largest = heapq.nlargest(threads, orders, key=lambda order: sum(file.expected_bytes for file in order.to_make))
    rasters = (file for order in largest for file in order.to_make if file.kind is not FileKind.QUICKLOOK)
    return [(file.path, round(file.expected_bytes * UNCOMPRESSED)) for file in rasters]
