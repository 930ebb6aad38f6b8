"""Search for products in a folder and the folders below it, under any name.

A folder or zip file with the name of a product is that product; its contents are not read. Any other folder or zip file
is a product where it holds a ``MTD_MSIL2A.xml``, which names the product. Files and folders that look like a product
but cannot be used are returned too, with the reason.
"""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from sen2chain.archive.file_contents import READ_ERRORS, read_member
from sen2chain.archive.product_metadata import read_product_id
from sen2chain.archive.safe_product import (
    file_names,
    is_zip_name,
    listing,
    product_of_root,
    roots_in_zip,
)
from sen2chain.errors import LibraryError, RequestError, UnreadableError
from sen2chain.files import is_file, is_folder, open_regular
from sen2chain.products import ProductId, Skipped
from sen2chain.reasons import Reason
from sen2chain.sensor import ESA_NAMING, SAFE

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Found = tuple[ProductId | Skipped, str]

DEEPEST = 10
"""Largest depth of folders that is searched."""
MOST = 1_000_000
"""Largest number of files and folders that is searched, without the contents of products."""

# Where a library keeps what is made from products, in folders that are called like them.
_OTHER_PARTS = {"INDICES", "CLOUDMASKS", "EXTRACTION", "TEMP"}
_UNFINISHED = re.compile(
    r"\.(part|partial|incomplete|unfinished|tmp|temp|download|crdownload|filepart|aria2)\d*\Z", re.IGNORECASE
)
_OTHER_ARCHIVE = re.compile(r"\.(tar|tgz|tbz2?|txz|7z|rar|(tar\.)?(gz|bz2|xz|zst|z))\Z", re.IGNORECASE)


def find_products(root: str | Path, tile: str = "", *, but: Callable[[str], object] | None = None) -> Iterator[Found]:
    """Yield the products in a folder, each with its path.

    Links are followed, each folder only once.

    Parameters
    ----------
    root
        The folder, or a product itself.
    tile
        The tile that all products must belong to; empty for any.
    but
        True for names directly in `root` that are left out.

    Raises
    ------
    LibraryError
        If `root` cannot be listed.
    """
    root = Path(root)
    walk = _Walk(root, tile)
    named = identify(root.name, tile)
    if isinstance(named, ProductId) and _has_suffix(root.name):
        return iter([(named, str(root))])
    if not is_folder(root):
        return walk.zip_file(root.name, str(root))
    return walk.folder(str(root), 0, but)


class _Walk:
    """One search of a folder."""

    def __init__(self, root: Path, tile: str) -> None:
        self._root, self._tile = root, tile
        self._seen: set[tuple[int, int]] = set()
        self._looked_at = 0

    def folder(self, path: str, depth: int, but: Callable[[str], object] | None = None) -> Iterator[Found]:
        if self._looked_at > MOST or not self._is_new(path):
            return
        if depth > DEEPEST:
            text = f"{path} lies more than {DEEPEST} folders deep and is not looked into; pass a folder nearer to it."
            yield self._skip(path, Reason.UNSUPPORTED_NAME, text)
            return
        try:
            entries = listing(path)
        except LibraryError as error:
            if not depth:
                raise
            yield self._skip(path, Reason.UNREADABLE, str(error))
            return
        names = {entry.name for entry in entries}
        if SAFE.metadata in names or "GRANULE" in names:
            yield self._odd_product(path, names)
            return
        self._looked_at += len(entries)
        if self._looked_at > MOST:
            text = f"{self._root} holds more than {MOST} files and folders, and not all were looked at; pass a part."

            yield self._skip(str(self._root), Reason.UNREADABLE, text)
            return
        for entry in entries:
            if but is None or not but(entry.name):
                yield from self._entry(entry, depth)

    def _entry(self, entry: os.DirEntry[str], depth: int) -> Iterator[Found]:
        name, path = entry.name, entry.path
        named = identify(name, self._tile)
        plain = entry.is_dir(follow_symlinks=False)  # which costs no look at the disk
        if _UNFINISHED.search(name) and (plain or ESA_NAMING.resembles(name)):
            text = f"'{name}' is an unfinished download; finish or remove it."
            yield self._skip(path, Reason.UNSUPPORTED_NAME, text)
        elif isinstance(named, ProductId) and _has_suffix(name):
            file = not plain and not is_zip_name(name) and is_file(path)
            yield self._file(path) if file else (named, path)
        elif (plain or is_folder(path)) and name not in _OTHER_PARTS:
            inside = False
            for found in self.folder(path, depth + 1):
                inside = True
                yield found
            if not inside and ESA_NAMING.resembles(name):
                yield self._no_product(named, path)
        elif is_zip_name(name):
            yield from self.zip_file(name, path)
        elif name != SAFE.manifest and name.lower().endswith(".safe"):
            yield (named, path) if isinstance(named, Skipped) else self._file(path)
        elif _named_like_product(name) or (_OTHER_ARCHIVE.search(name) and ESA_NAMING.resembles(name)):
            yield self._file(path)

    def zip_file(self, name: str, path: str) -> Iterator[Found]:
        named, cause = identify(name, self._tile), ""
        if isinstance(named, ProductId):
            yield named, path
            return
        try:
            with open_regular(path) as file, zipfile.ZipFile(file) as opened:
                inside = {
                    product_of_root(root) or _product_in_zip(opened, path, f"{root}{SAFE.metadata}")
                    for root in roots_in_zip(file_names(opened))
                }
        except (*READ_ERRORS, UnreadableError) as error:
            inside, cause = set(), f" {error}"
        if len(inside) == 1:
            yield self._of_tile(inside.pop(), name), path
        elif ESA_NAMING.resembles(name):  # another zip file may be anything
            yield self._skip(path, named.reason, f"{named.detail}{cause}")

    def _odd_product(self, path: str, names: set[str]) -> Found:
        """Identify a product whose folder does not have the name of a SAFE folder."""
        name = Path(path).name
        named = identify(name, self._tile)
        if isinstance(named, ProductId) or SAFE.metadata not in names:
            if isinstance(named, Skipped) and SAFE.metadata_level_1c in names:
                return self._skip(path, named.reason, f"'{name}' is a Level-1C product; only L2A is read.")
            return named, path
        try:
            return self._of_tile(read_product_id(os.path.join(path, SAFE.metadata)), name), path  # noqa: PTH118
        except UnreadableError as error:
            return self._skip(path, named.reason, f"{named.detail} {error}")

    def _no_product(self, named: ProductId | Skipped, path: str) -> Found:
        """Say why a folder with the name of a product is not a product."""
        if isinstance(named, Skipped):
            return named, path
        text = f"'{Path(path).name}' has neither {SAFE.metadata} nor a folder GRANULE, so it is not a product."
        return self._skip(path, Reason.UNSUPPORTED_NAME, text)

    def _file(self, path: str) -> Found:
        """Say why a file with the name of a product is not a product."""
        name = Path(path).name
        text = f"'{name}' is a file and not a SAFE folder; unpack it, or remove it."
        if not _OTHER_ARCHIVE.search(name) and is_zip(path):
            text = f"'{name}' is a zip file without .zip in its name; rename it to {name}.zip."
        return self._skip(path, Reason.UNREADABLE, text)

    def _of_tile(self, product: ProductId, name: str) -> ProductId | Skipped:
        return of_tile(product, name, self._tile)

    def _skip(self, path: str, reason: Reason, text: str) -> Found:
        return Skipped(Path(path).name, self._tile, reason, text), path

    def _is_new(self, path: str) -> bool:
        """Tell whether a folder was not searched yet; links to one folder count as that folder."""
        try:
            facts = os.stat(path)  # noqa: PTH116  # paths are texts here
        except OSError:
            return True  # listing it says why
        key = facts.st_dev, facts.st_ino
        if key in self._seen:
            return False
        self._seen.add(key)
        return True


def _product_in_zip(opened: zipfile.ZipFile, path: str, metadata: str) -> ProductId:
    """Read which product the metadata in an open zip file belong to."""
    return read_product_id(f"/vsizip/{path}/{metadata}", lambda _: read_member(opened, metadata))


def _has_suffix(name: str) -> bool:
    return name.lower().endswith((".safe", ".zip"))


def _named_like_product(name: str) -> bool:
    try:
        ProductId.parse(name)
    except RequestError:
        return False
    return True


def is_zip(path: str | Path) -> bool:
    """Tell whether a file is a zip file, under any name."""
    try:
        return is_file(path) and zipfile.is_zipfile(path)
    except OSError:
        return False


def identify(name: str, tile: str) -> ProductId | Skipped:
    """Read the product id from a file or folder name, or say why it cannot be used.

    Parameters
    ----------
    name
        File or folder name.
    tile
        Tile of the folder that it was found in; the name must agree with it. Empty for other folders.
    """
    try:
        return of_tile(ProductId.parse(name), name, tile)
    except RequestError as error:
        detail = f"'{name}' is a Level-1C product; only L2A is read." if ESA_NAMING.is_level_1c(name) else str(error)
        return Skipped(name, tile, Reason.UNSUPPORTED_NAME, detail)


def of_tile(product: ProductId, name: str, tile: str) -> ProductId | Skipped:
    """Return the product, or the reason why it is skipped where it lies in the folder of another tile."""
    if not tile or product.tile == tile:
        return product
    detail = f"'{name}' lies in the folder of tile {tile}; move it to {product.tile}."
    return Skipped(name, tile, Reason.UNSUPPORTED_NAME, detail)


def sensed_within(product: ProductId, first: dt.date | None, last: dt.date | None) -> bool:
    """Tell whether the sensing date lies from `first` to `last`, both included; None is no limit."""
    date = product.sensing.date()
    return (first is None or first <= date) and (last is None or date <= last)


def in_order(skipped: Iterable[Skipped]) -> Sequence[Skipped]:
    """Sort by tile and name, so that reports do not depend on the order of calls."""
    return sorted(skipped, key=lambda item: (item.tile, item.name, item.detail))
