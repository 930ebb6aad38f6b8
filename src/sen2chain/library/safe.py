"""L2A products as ESA delivers them: one SAFE folder or zip, and a folder full of them."""

from __future__ import annotations

import os
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sen2chain.errors import LibraryError, RequestError, UnreadableError
from sen2chain.records import Acquisition, ProductId, Reason, Skipped
from sen2chain.settings import absolute, is_file, is_folder

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_RESOLUTION = dict.fromkeys(("B02", "B03", "B04", "B08"), "10") | dict.fromkeys(
    ("B05", "B06", "B07", "B8A", "B11", "B12", "SCL"), "20"
)

# Names that begin with a dot are leavings of file managers ("._T32TPS_..._B02_10m.jp2"), no rasters.
_RASTER = re.compile(
    r"GRANULE/[^/]+/(?:"
    r"IMG_DATA/R(?P<metres>10|20)m/[^/.][^/]*_(?P<band>B[0-9][0-9A]|SCL)_(?P=metres)m"
    r"|QI_DATA/(?P<cloud>MSK_CLDPRB|[^/.][^/]*_CLD)_20m"
    r")\.jp2",
)
_METADATA = "MTD_MSIL2A.xml"

# ZipFile raises these on archives that are cut, overwritten or of a kind it does not know.
_ZIP_ERRORS = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile)


@dataclass(frozen=True, slots=True)
class SafeParts:
    """What one SAFE product holds, as locations that GDAL opens."""

    metadata: str | None = None
    """``MTD_MSIL2A.xml``."""
    bands: Mapping[str, str] = field(default_factory=dict)
    """``B02`` ... ``B12``, ``SCL``, ``CLDPRB`` -> raster."""


class SafeFolder:
    """A folder of SAFE products, plain or zipped, directly in it or one folder deeper.

    The folder is listed once, when it is first asked about.

    Parameters
    ----------
    path
        The folder, or a single ``.SAFE`` folder or zip file.

    Raises
    ------
    LibraryError
        If there is nothing of that kind at `path`.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = absolute(path)
        if not (is_folder(self._path) or (is_file(self._path) and self._path.suffix == ".zip")):
            raise LibraryError(f"{self._path} is neither a folder nor a zip file; pass a folder of SAFE products.")
        self._found: dict[ProductId, list[str]] | None = None
        self._skipped: set[Skipped] = set()

    def describe(self) -> str:
        """Say where the products are."""
        return f"SAFE products in {self._path}"

    def tiles(self) -> Sequence[str]:
        """MGRS names of the tiles that have any product, sorted."""
        return sorted({product.tile for product in self._products()})

    def acquisitions(
        self, tile: str, first: dt.date | None = None, last: dt.date | None = None
    ) -> Sequence[Acquisition]:
        """Products of one tile with sensing dates from `first` to `last` (inclusive), sorted by id.

        Raises
        ------
        LibraryError
            If a folder cannot be listed.
        """
        listed = []
        for product, candidates in sorted(self._products().items()):
            if product.tile == tile and sensed_within(product, first, last):
                parts = scan_best(candidates, "", self._skipped)
                if parts is not None:
                    listed.append(Acquisition(product, parts.metadata, parts.bands))
        return listed

    def skipped(self) -> Sequence[Skipped]:
        """List what the calls so far found and could not use."""
        return in_order(self._skipped)

    def _products(self) -> dict[ProductId, list[str]]:
        if self._found is None:
            self._found = {}
            for path in self._candidates():
                product = identify(Path(path).name, "")
                if isinstance(product, Skipped):
                    self._skipped.add(product)
                else:
                    self._found.setdefault(product, []).append(path)
        return self._found

    def _candidates(self) -> Iterator[str]:
        if is_file(self._path) or is_safe_name(self._path.name):
            yield str(self._path)
            return
        for entry in listing(self._path):
            if is_safe_name(entry.name):
                yield entry.path
            elif is_folder(entry):
                yield from (inner.path for inner in listing(entry.path) if is_safe_name(inner.name))


def scan_safe(path: str | Path) -> SafeParts:
    """List the parts of one product; no raster is opened.

    Parameters
    ----------
    path
        A ``.SAFE`` folder, or a zip file that contains one.

    Raises
    ------
    UnreadableError
        If it is neither, is corrupt or may not be read, or if a zip contains another product than its name says.
    """
    path = Path(path)
    try:
        files = dict(_zip_files(path) if path.suffix == ".zip" else _folder_files(path))
    except _ZIP_ERRORS as error:
        raise UnreadableError(f"The product {path} cannot be read ({error}).") from error
    bands: dict[str, str] = {}
    for name in sorted(files):
        match = _RASTER.fullmatch(name)
        if match is None:
            continue
        if match["cloud"]:
            # Some baselines have the probability under both names; the newer one is the documented one.
            if match["cloud"] == "MSK_CLDPRB" or "CLDPRB" not in bands:
                bands["CLDPRB"] = files[name]
        elif _RESOLUTION.get(match["band"]) == match["metres"]:
            bands.setdefault(match["band"], files[name])
    return SafeParts(files.get(_METADATA), bands)


def _folder_files(safe: Path) -> Iterator[tuple[str, str]]:
    """Pairs of path inside the product and location, of the folders that matter."""
    if not is_folder(safe):
        raise NotADirectoryError("it is no folder")
    inside = [""]
    for granule in _scan(safe / "GRANULE"):
        inside += (f"GRANULE/{granule.name}/{folder}/" for folder in ("IMG_DATA/R10m", "IMG_DATA/R20m", "QI_DATA"))
    for folder in inside:
        yield from ((folder + entry.name, entry.path) for entry in _scan(safe / folder))


def _zip_files(archive: Path) -> Iterator[tuple[str, str]]:
    """Pairs of path inside the product and location, of a whole zip file."""
    expected = re.sub(r"(\.SAFE)?\.zip$", ".SAFE", archive.name)
    with zipfile.ZipFile(archive) as opened:
        names = opened.namelist()
    for name in names:
        # A zip made inside the product's folder has no folder around its files.
        around, safe, inside = name.rpartition(".SAFE/")
        if safe and around.rpartition("/")[2] + ".SAFE" != expected:
            raise ValueError(f"it contains {around.rpartition('/')[2]}.SAFE")
        yield inside, f"/vsizip/{archive}/{name}"


def scan_best(candidates: Iterable[str], tile: str, skipped: set[Skipped]) -> SafeParts | None:
    """Parts of the product from the first of several copies that has rasters; folders go before zips.

    A copy that cannot be read is added to `skipped`. None when no copy can be read.
    """
    best = None
    for path in sorted(candidates, key=lambda path: (path.endswith(".zip"), path)):
        try:
            parts = scan_safe(path)
        except UnreadableError as error:
            skipped.add(Skipped(Path(path).name, tile, Reason.UNREADABLE, str(error)))
            continue
        if parts.bands:
            return parts
        best = best or parts
    return best


def is_safe_name(name: str) -> bool:
    """Tell whether a name claims to be a SAFE product; a zip without a Sentinel-2 name may be anything."""
    return name.endswith((".SAFE", ".SAFE.zip")) or (name.startswith("S2") and name.endswith(".zip"))


def identify(name: str, tile: str) -> ProductId | Skipped:
    """Read the product id of a file or folder name, or say why it cannot be used.

    Parameters
    ----------
    name
        As it stands in the archive.
    tile
        The tile's folder it was found in, which its name must agree with; empty where there is none.
    """
    try:
        product = ProductId.parse(name)
    except RequestError as error:
        detail = f"{name!r} is a Level-1C product; only L2A is read." if "MSIL1C" in name else str(error)
        return Skipped(name, tile, Reason.UNSUPPORTED_NAME, detail)
    if tile and product.tile != tile:
        detail = f"{name!r} lies in the folder of tile {tile}; move it to {product.tile}."
        return Skipped(name, tile, Reason.UNSUPPORTED_NAME, detail)
    return product


def sensed_within(product: ProductId, first: dt.date | None, last: dt.date | None) -> bool:
    """Tell whether the sensing date lies from `first` to `last`, both included; None is no limit."""
    date = product.sensing.date()
    return (first is None or first <= date) and (last is None or date <= last)


def in_order(skipped: Iterable[Skipped]) -> list[Skipped]:
    """Sort by tile and name, so that reports do not depend on the order of calls."""
    return sorted(skipped, key=lambda item: (item.tile, item.name, item.detail))


def listing(folder: str | Path) -> list[os.DirEntry[str]]:
    """Visible entries of a folder, sorted by name; none where there is no such folder.

    Raises
    ------
    LibraryError
        If the folder is there but may not or cannot be read.
    """
    try:
        return _scan(folder)
    except OSError as error:
        cause = error.strerror or error
        raise LibraryError(f"The folder {folder} cannot be read ({cause}); check its permissions.") from error


def _scan(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            # Every mounted disk has its own `lost+found`, which nobody may read.
            visible = [e for e in entries if not e.name.startswith(".") and e.name != "lost+found"]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(visible, key=lambda entry: entry.name)
