"""The catalogue of kept pixels in a layer's folder: the pixel file of each product, and what it was made from.

It is the table ``pixels`` of the folder's ledger, so that rows and pixels of an acquisition are entered in one step.
Each pixel file holds its entry as well, so that the next update enters it again where the ledger was lost.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from sen2chain.errors import GridMismatchError, KeptPixelsError, RequestError
from sen2chain.grid import Grid
from sen2chain.pixel_store import PixelFile
from sen2chain.products import ProductId, Radiometry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from sen2chain.products import Footprint
    from sen2chain.store.extraction_folder import ExtractionFolder
    from sen2chain.store.ledger import ImageLedger

_COLUMNS = "product, file, size, positions, margin, rasters, inputs, facts, changed"
_READ = f"SELECT {_COLUMNS} FROM pixels"  # noqa: S608  # fixed names

_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RequestError, GridMismatchError)
"""What reading an entry that is not as it was written raises."""


@dataclass(frozen=True, slots=True)
class HeldRaster:
    """What a pixel file holds of one band or quality raster."""

    token: tuple[Any, ...]
    """Identity of the raster's file when it was read: name, size, time and, where it is known, content; see
    `sen2chain.products.IdentityToken`."""
    grid: Grid
    """Its grid."""
    masks: frozenset[str] | None = None
    """None where the pixels of all features are there. Otherwise the masks of the runs that read the raster: pixels of
    features that each of these masks removes entirely are absent."""

    def suffices(self, masks: Iterable[str] | None) -> bool:
        """Whether it has the pixels of all features (None), or of all that some masks leave."""
        return self.masks is None or (masks is not None and self.masks >= set(masks))


@dataclass(frozen=True, slots=True)
class KeptEntry:
    """The kept pixels of one product."""

    product: str
    """The product's name."""
    file: str
    """Name of its pixel file, in `ExtractionFolder.pixels` of its tile."""
    size: int
    """Bytes of that file."""
    positions: str
    """Digest of the positions of its pixels, whose file is `ExtractionFolder.positions_file`."""
    margin: float
    """Metres around the features in which quality rasters are kept."""
    rasters: Mapping[str, HeldRaster]
    """Band or quality raster -> what is held of it."""
    inputs: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Role -> identity of the files beside rasters that the facts come from: ``metadata``."""
    radiometry: Radiometry | None = None
    """Scale and offsets of the bands; None where no band is held or they are not known."""
    cover: float | None = None
    """Cloud cover of the product in percent."""
    footprint: Footprint | None = None
    """Outline of the product's data, (longitude, latitude) in degrees."""
    changed: str = field(default="", compare=False)
    """When it was entered, UTC."""

    @property
    def id(self) -> ProductId:
        """The product."""
        return ProductId.parse(self.product)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bands and quality rasters, in the order of the sensor."""
        return tuple(name for name in self.id.sensor.names if name in self.rasters)

    @property
    def is_whole(self) -> bool:
        """Whether the pixels of all features are there, of every raster."""
        return all(held.masks is None for held in self.rasters.values())

    def holds_all_of(self, other: Self) -> bool:
        """Whether it holds the rasters of another entry of its product, at as many pixels."""
        rasters = self.rasters
        return self.margin >= other.margin and all(
            name in rasters and rasters[name].suffices(held.masks) for name, held in other.rasters.items()
        )

    def path(self, folder: ExtractionFolder) -> Path:
        """Return the pixel file in the folder of the layer."""
        return folder.pixels(self.id.tile) / self.file

    def is_there(self, folder: ExtractionFolder) -> bool:
        """Whether the pixel file is there with its size; its content is checked when it is read."""
        try:
            return self.path(folder).stat().st_size == self.size
        except OSError:
            return False

    @classmethod
    def _of_row(cls, row: tuple[Any, ...]) -> Self:
        product, file, size, positions, margin, rasters, inputs, facts, changed = row
        held = {
            name: HeldRaster(tuple(token), _grid(*grid), None if masks is None else frozenset(masks))
            for name, (token, grid, masks) in json.loads(rasters).items()
        }
        return cls._of(product, (file, size, positions), margin, held, json.loads(inputs), json.loads(facts), changed)

    @classmethod
    def _of(
        cls, product: str, named: tuple[Any, Any, Any], margin: Any, held: Mapping[str, HeldRaster],
        inputs: Mapping[str, Any], told: Mapping[str, Any], changed: Any = "",
    ) -> Self:  # fmt: skip
        """Return an entry from its parts as JSON has them; `named` are file, size and positions."""
        ProductId.parse(product)
        file, size, positions = named
        radiometry, footprint = told.get("radiometry"), told.get("footprint")
        return cls(
            product, str(file), int(size), str(positions), float(margin), held,
            {role: tuple(token) for role, token in inputs.items()},
            None if radiometry is None else Radiometry(*radiometry),
            told.get("cover"),
            None if footprint is None else tuple((x, y) for x, y in footprint),
            str(changed),
        )  # fmt: skip

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """Return the entry that a pixel file holds, see `facts`.

        Raises
        ------
        KeptPixelsError
            If the file cannot be read, or does not hold its entry.
        """
        with PixelFile.open(path) as file:
            told, headers, digest = file.facts, file.rasters, file.digest
        try:
            held = {
                name: HeldRaster(tuple(token), headers[name].grid, None if masks is None else frozenset(masks))
                for name, (token, masks) in told["sources"].items()
            }
            named = path.name, path.stat().st_size, digest
            entry = cls._of(str(told["product"]), named, told["margin"], held, told["inputs"], told)
        except (*_UNREADABLE, OSError) as error:
            raise KeptPixelsError(f"Kept pixels {path} do not say what they were made from.") from error
        if held.keys() != headers.keys():
            raise KeptPixelsError(f"Kept pixels {path} do not say what all of their rasters were made from.")
        return entry

    @property
    def facts(self) -> dict[str, Any]:
        """What its pixel file holds of it, for JSON, beside the product, grids and the digest of positions."""
        sources = {
            name: (held.token, None if held.masks is None else sorted(held.masks))
            for name, held in self.rasters.items()
        }
        return {"sources": sources, "inputs": dict(self.inputs), "margin": self.margin, **self._told()}

    def _told(self) -> dict[str, Any]:
        known = self.radiometry
        return {
            "radiometry": None if known is None else (known.quantification, dict(known.offsets), known.note),
            "cover": self.cover,
            "footprint": self.footprint,
        }

    def _as_row(self) -> tuple[Any, ...]:
        rasters = {
            name: (held.token, _grid_facts(held.grid), None if held.masks is None else sorted(held.masks))
            for name, held in self.rasters.items()
        }
        now = datetime.now(UTC).isoformat(timespec="seconds")
        texts = (json.dumps(part) for part in (rasters, dict(self.inputs), self._told()))
        return self.product, self.file, self.size, self.positions, self.margin, *texts, now


def _grid_facts(grid: Grid) -> tuple[Any, ...]:
    return grid.crs, grid.transform, grid.shape


def _grid(crs: str, transform: list[float], shape: list[int]) -> Grid:
    return _known_grid(str(crs), tuple(map(float, transform)), tuple(map(int, shape)))


@functools.lru_cache(maxsize=64)  # thousands of rasters have one of a few grids
def _known_grid(crs: str, transform: tuple[float, ...], shape: tuple[int, ...]) -> Grid:
    (a, b, c, d, e, f), (rows, columns) = transform, shape
    return Grid(crs, (a, b, c, d, e, f), (rows, columns))


class KeptCatalogue:
    """The kept pixels of a layer by product.

    Parameters
    ----------
    ledger
        The folder's ledger, open for reading or writing.
    """

    def __init__(self, ledger: ImageLedger) -> None:
        self._ledger = ledger

    def entries(self) -> dict[str, KeptEntry]:
        """Return what is kept, by product; entries that cannot be read are left out, as if nothing were kept."""
        found = {}
        for row in self._ledger.select(_READ):
            try:
                found[row[0]] = KeptEntry._of_row(row)  # noqa: SLF001  # the two are one
            except _UNREADABLE:
                continue
        return found

    @property
    def is_empty(self) -> bool:
        """Whether nothing is kept."""
        return self._ledger.select("SELECT count(*) FROM pixels") in ([], [(0,)])

    def record(self, entries: Iterable[KeptEntry]) -> None:
        """Enter kept pixels; former entries of the same products are replaced."""
        with self._ledger.transaction() as write:
            write(
                f"INSERT OR REPLACE INTO pixels ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608  # fixed
                [entry._as_row() for entry in entries],  # noqa: SLF001  # the two are one
            )

    def remove(self, products: Iterable[str]) -> None:
        """Forget kept pixels of products."""
        with self._ledger.transaction() as write:
            write("DELETE FROM pixels WHERE product = ?", [(product,) for product in products])
