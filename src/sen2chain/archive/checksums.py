"""Checksums of a product's files, as listed in its ``manifest.safe``, and their comparison with the files."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET  # `parse` refuses what makes it unsafe

from sen2chain.archive.file_contents import READ_ERRORS, opened, read_whole, why
from sen2chain.archive.product_metadata import parse
from sen2chain.errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Listed:
    """Checksum and size of one file, as a manifest lists them."""

    algorithm: str
    """Name of the checksum as ESA writes it: ``MD5``, ``SHA3-256``."""
    digest: str
    """The checksum, hexadecimal."""
    size: int | None
    """Bytes; None where the manifest does not list it."""


class Manifest:
    """The files of one product with their checksums.

    Parameters
    ----------
    location
        ``manifest.safe``; ``/vsizip/<archive>.zip/<path inside>`` in a zipped product.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self._root = re.sub(r"[^/\\]*\Z", "", location)
        self._listed: Mapping[str, Listed] | None = None

    def check(self, location: str) -> None:
        """Compare a file with its checksum; a file of another product, or one that is not listed, passes.

        Parameters
        ----------
        location
            The file.

        Raises
        ------
        UnreadableError
            If size or checksum differ from the list, or the file or the list cannot be read.
        """
        if not location.startswith(self._root):
            return
        if self._listed is None:
            self._listed = read_manifest(self.location)
        inside = location.removeprefix(self._root).replace(os.sep, "/")
        listed = self._listed.get(inside)
        if listed is None:
            return
        try:
            with opened(location) as (file, size):
                if listed.size is not None and size != listed.size:
                    raise UnreadableError(
                        f"{location} has {size} bytes and not the {listed.size} that manifest.safe lists; "
                        "download the product again."
                    )
                sum_ = _hash(listed.algorithm)
                while piece := file.read(_PIECE):
                    sum_.update(piece)
        except READ_ERRORS as error:
            raise UnreadableError(f"{location} cannot be read ({why(error)}).") from error
        if sum_.hexdigest() != listed.digest:
            raise UnreadableError(
                f"{location} is damaged: it has another {listed.algorithm} checksum than manifest.safe lists; download "
                "the product again."
            )


def read_manifest(location: str) -> dict[str, Listed]:
    """Read the files that a manifest lists: path inside the product -> checksum.

    Parameters
    ----------
    location
        As for `Manifest`.

    Raises
    ------
    UnreadableError
        If it cannot be read, or lists no file.
    """
    try:
        root = parse(read_whole(location))
    except (*READ_ERRORS, ET.ParseError) as error:
        raise UnreadableError(
            f"The manifest {location} cannot be read ({why(error)}), so no file can be checked."
        ) from error
    found = {}
    for stream in root.iter("byteStream"):
        place, checksum = stream.find("fileLocation"), stream.find("checksum")
        if place is None or checksum is None:
            continue
        size = stream.get("size", "")
        name, digest = checksum.get("checksumName", ""), (checksum.text or "").strip().lower()
        path = place.get("href", "").removeprefix("./").removeprefix("/")
        found[path] = Listed(name, digest, int(size) if re.fullmatch("[0-9]{1,18}", size) else None)
    if not found:
        raise UnreadableError(f"The manifest {location} lists no file with a checksum, so no file is checked.")
    return found


def _hash(name: str) -> hashlib._Hash:
    """Return the hash function of a checksum: MD5 in older products, SHA3-256 in newer ones."""
    plain = name.lower().replace("-", "_")
    known = plain if plain in hashlib.algorithms_guaranteed else plain.replace("sha_", "sha")
    try:
        made = hashlib.new(known, usedforsecurity=False)
    except ValueError:
        made = None
    if made is None or not made.digest_size:  # that of SHAKE, which has no length of its own
        raise ValueError(f"its checksum is of the unknown kind {name!r}")
    return made
