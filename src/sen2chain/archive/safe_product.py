"""The parts of one L2A product as ESA delivers it: a SAFE folder, or a zip file of one."""

from __future__ import annotations

import os
import re
import zipfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sen2chain.archive.file_contents import READ_ERRORS, why
from sen2chain.errors import LibraryError, RequestError, UnreadableError
from sen2chain.files import is_folder, open_regular
from sen2chain.products import ProductId, Skipped
from sen2chain.reasons import Reason
from sen2chain.sensor import SAFE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_ROOT = re.compile(rf"(?P<root>(?:[^/]+/)*)(?:GRANULE/.*|{re.escape(SAFE.metadata)})", re.DOTALL)

_MAX_IN_ZIP = 100_000  # files; a product has about a hundred
_NESTED = 2  # folders of a product's name inside each other, as some programs unpack it


@dataclass(frozen=True, slots=True)
class SafeParts:
    """What one SAFE product holds, as locations that GDAL opens."""

    metadata: str | None = None
    """``MTD_MSIL2A.xml``."""
    manifest: str | None = None
    """``manifest.safe``."""
    bands: Mapping[str, str] = field(default_factory=dict)
    """``B02`` ... ``B12``, ``SCL``, ``CLDPRB`` -> raster."""
    remark: str = ""
    """Why there are no bands, or not all, a clause."""
    left_out: str = ""
    """Which granule folders were not taken, a clause."""


def scan_safe(path: str | Path, product: ProductId | None = None) -> SafeParts:
    """List the parts of one product; no raster is opened.

    Of two granule folders that one is taken that has all rasters of the other and more.

    Parameters
    ----------
    path
        A SAFE folder, or a zip file that contains one.
    product
        What it is; by default what its name says.

    Raises
    ------
    UnreadableError
        If it is neither, is corrupt or may not be read; if a zip contains another product; if two granule folders or
        two files of a band cannot be told apart.
    """
    path = Path(path)
    product = product or _named(path.name)
    try:
        if is_zip_name(path.name):
            with open_regular(path) as file, zipfile.ZipFile(file) as opened:
                files = _in_zip(path, file_names(opened), product)
        else:
            files = _in_folder(path)
    except READ_ERRORS as error:
        raise UnreadableError(f"The product {path} cannot be read ({why(error)}).") from error
    granules: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    others, odd = set(), {}
    for name in sorted(files):
        raster = SAFE.raster(name)
        if raster is None:
            if (alike := SAFE.misnamed(name)) is not None:
                odd[alike[0]] = alike[1]
        elif raster.suffix.lower() == "jp2":
            granules[raster.granule][raster.band].append(name)
        else:
            others.add(raster.suffix)
    granule, left_out = _choose_granule(path, granules)
    bands = {band: files[_choose_file(path, band, names, product)] for band, names in granules.get(granule, {}).items()}
    _check_names(path, bands.values())
    remark = _why_no_band(path, files, others) if others or not bands else ""
    for band, name in odd.items():
        if band not in bands:
            remark = f"{name} in {path.name} is not called as a raster, which ends in {SAFE.ending(band)}"
    return SafeParts(files.get(SAFE.metadata), files.get(SAFE.manifest), bands, remark, left_out)


def _choose_granule(path: Path, granules: Mapping[str, Mapping[str, object]]) -> tuple[str, str]:
    """Choose the granule folder whose rasters are taken, and say which was left out."""
    order = sorted(granules, key=lambda granule: (-len(granules[granule]), granule))
    if len(order) < 2:
        return next(iter(order), ""), ""
    best, *rest = order
    for other in rest:
        if not granules[other].keys() < granules[best].keys():
            raise UnreadableError(
                f"The product {path} has two granule folders, {best} and {other}, and none of them holds all of the "
                "other and more; remove the one that does not belong to it."
            )
    return best, f"only the granule folder {best} is read; {', '.join(rest)} has fewer rasters and is left out"


def _choose_file(path: Path, band: str, names: Sequence[str], product: ProductId | None) -> str:
    """Choose the file of a band: the only one, or the one that is called as ESA calls it."""
    if len(names) == 1:
        return names[0]
    own = SAFE.documented(band, product)
    exact = [name for name in names if name.rpartition("/")[2] == own]
    if exact or SAFE.has_two_names(band):
        return exact[0] if exact else names[0]
    first, second = (name.rpartition("/")[2] for name in names[:2])
    raise UnreadableError(
        f"The product {path} has two files of {band}, {first} and {second}; remove the one that does not belong to it."
    )


def _check_names(path: Path, rasters: Iterable[str]) -> None:
    """Make sure that no raster names another acquisition than the others do.

    Raises
    ------
    UnreadableError
        If one does.
    """
    first, begun = "", None
    for raster in rasters:
        name = raster.rpartition("/")[2]
        stamp = SAFE.stamp(name)
        if stamp is None:
            continue
        if begun is not None and stamp != begun:
            raise UnreadableError(
                f"The product {path} has {first} and {name}, which are of two products; remove the one that does not "
                "belong to it."
            )
        first, begun = name, stamp


def _why_no_band(path: Path, files: Mapping[str, str], suffixes: Iterable[str]) -> str:
    if not files:
        return f"{path.name} is empty"
    for suffix in suffixes:
        return f"the bands of {path.name} are .{suffix} files, and only .jp2 files as ESA delivers them are read"
    if not any(name.partition("/")[0] == "GRANULE" for name in files):
        return f"{path.name} has no folder GRANULE with rasters"
    return f"GRANULE in {path.name} has no rasters in {SAFE.images}"


def _in_folder(safe: Path) -> dict[str, str]:
    """Path inside the product -> location, of the folders that matter."""
    if not is_folder(safe):
        raise NotADirectoryError("it is not a folder")
    top = scan(safe)
    for _ in range(_NESTED):
        if {SAFE.metadata, "GRANULE"} & {entry.name for entry in top}:
            break
        inner = [entry for entry in top if is_folder(entry)]
        # Beside the product there may be what a Mac adds, and other leavings.
        alike = [entry for entry in inner if _named(entry.name) is not None]
        chosen = alike if len(alike) == 1 else inner
        if len(chosen) != 1:
            break
        top = scan(chosen[0].path)
    files = {entry.name: entry.path for entry in top}
    if "GRANULE" not in files:
        return files
    for granule in scan(files["GRANULE"]):
        for folder in SAFE.folders:
            inside = f"GRANULE/{granule.name}/{folder}/"
            place = os.path.join(granule.path, folder)  # noqa: PTH118  # thousands of texts
            files |= {inside + entry.name: entry.path for entry in scan(place)}
    return files


def file_names(opened: zipfile.ZipFile) -> list[str]:
    """Return the paths of the files in a zip file, without what a Mac adds.

    Raises
    ------
    ValueError
        If there are far too many for a product.
    """
    names = opened.namelist()
    if len(names) > _MAX_IN_ZIP:
        raise ValueError(f"it contains {len(names)} files")
    return [name for name in names if not name.startswith("__MACOSX/") and not name.endswith("/")]


def roots_in_zip(names: Iterable[str]) -> list[str]:
    """Return the folders in a zip file that are products, as prefixes of its paths; the outermost come first."""
    found = {match["root"] for name in names if (match := _ROOT.fullmatch(name))}
    return sorted(found, key=lambda root: (root.count("/"), root))


def _in_zip(archive: Path, names: Sequence[str], product: ProductId | None) -> dict[str, str]:
    """Path inside the product -> location, of a whole zip file."""
    roots = roots_in_zip(names)
    own = [root for root in roots if product is not None and product_of_root(root) == product]
    root = next(iter(own or roots), "")
    inside = product_of_root(root)
    if product is not None and inside is not None and inside != product:
        raise ValueError(f"it contains {inside}.SAFE")
    if not own and len(roots) > 1:
        raise ValueError(f"it contains several products, {roots[0]} and {roots[1]}")
    return {name.removeprefix(root): f"/vsizip/{archive}/{name}" for name in names if name.startswith(root)}


def product_of_root(root: str) -> ProductId | None:
    """Return the product that the name of a folder in a zip file tells, None where it tells none."""
    return _named(root.rstrip("/").rpartition("/")[2])


def _named(name: str) -> ProductId | None:
    try:
        return ProductId.parse(name)
    except RequestError:
        return None


def scan_best(product: ProductId, candidates: Iterable[str], tile: str, skipped: set[Skipped]) -> SafeParts | None:
    """Parts of a product from that one of several copies that has most rasters.

    Of equals, folders go before zips, and copies under the product's own name before others. A copy that cannot be
    read, or a part of one that is left out, is added to `skipped`. None when no copy can be read.
    """

    def order(path: str) -> tuple[bool, bool, str]:
        name = Path(path).name
        return is_zip_name(name), not name.startswith(str(product)), path

    best = None
    copies = list(candidates)
    for path in copies if len(copies) == 1 else sorted(copies, key=order):
        try:
            parts = scan_safe(path, product)
        except UnreadableError as error:
            skipped.add(Skipped(Path(path).name, tile, Reason.UNREADABLE, str(error)))
            continue
        if best is None or len(parts.bands) > len(best.bands):
            best = parts
    if best is not None and best.left_out:
        skipped.add(Skipped(str(product), tile, Reason.SUPERSEDED, f"Of {product} {best.left_out}."))
    return best


def is_zip_name(name: str) -> bool:
    """Tell whether a name claims to be that of a zip file."""
    return name[-4:].lower() == ".zip"


def listing(folder: str | Path) -> list[os.DirEntry[str]]:
    """Visible entries of a folder, sorted by name; none where there is no such folder.

    Raises
    ------
    LibraryError
        If the folder is there but may not or cannot be read.
    """
    try:
        return scan(folder)
    except OSError as error:
        cause = error.strerror or error
        raise LibraryError(f"The folder {folder} cannot be read ({cause}); check its permissions.") from error


def scan(folder: str | Path) -> list[os.DirEntry[str]]:
    """Return the same as `listing`, with the errors of the system."""
    try:
        with os.scandir(folder) as entries:
            # Every mounted disk has its own `lost+found`, which nobody may read.
            visible = [e for e in entries if not e.name.startswith(".") and e.name != "lost+found"]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(visible, key=lambda entry: entry.name)
