"""Texts in the metadata of a raster's file, read from its header alone, many times faster than GDAL opens it.

GDAL writes them as XML: into tag 42112 of a TIFF file, and into a box ``xml`` of a JPEG 2000 file. Texts of other
domains than the default one, and of single bands, are left aside. Quicklooks have them in a comment.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET  # `_texts` refuses what makes it unsafe
from xml.sax.saxutils import unescape

from sen2chain.errors import UnreadableError
from sen2chain.files import has_document_type, open_regular
from sen2chain.rasters import picture_texts
from sen2chain.tiff import Directory, read_directories, read_metadata_tag

if TYPE_CHECKING:
    from io import BufferedReader

_JPEG_2000 = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_BOX = struct.Struct(">I4s")
_LARGEST = 1 << 20  # bytes of the XML
_MOST_BOXES = 64
_ENTITIES = {"&quot;": '"', "&apos;": "'"}


class _OnDisk:
    """The bytes of an open file, see `sen2chain.tiff.Ranges`."""

    def __init__(self, location: str, file: BufferedReader) -> None:
        self.location, self._file = location, file
        self.size = os.fstat(file.fileno()).st_size

    def read(self, offset: int, length: int, ahead: int = 0) -> bytes:  # noqa: ARG002  # a disk needs no more at once
        self._file.seek(offset)
        return self._file.read(length)


def read_header_texts(path: str) -> dict[str, str]:
    """Read the texts of a GeoTIFF, JPEG 2000 file or quicklook on disk, by name; empty where it has none.

    Raises
    ------
    UnreadableError
        If the file cannot be opened, or its header is damaged.
    """
    try:
        with open_regular(path) as file:
            ranges = _OnDisk(path, file)
            if (found := picture_texts.read(ranges)) is not None:
                return found
            is_jpeg_2000 = ranges.read(0, len(_JPEG_2000)) == _JPEG_2000
            document = _box(ranges) if is_jpeg_2000 else read_metadata_tag(ranges, _LARGEST)
    except (OSError, ValueError) as error:
        raise UnreadableError(f"{path} cannot be opened: {error}.") from error
    return _texts(document)


def read_pictures(path: str) -> list[Directory]:
    """Read the directories of a GeoTIFF on disk: that of the raster, then those of its overviews.

    Raises
    ------
    UnreadableError
        If the file cannot be opened, or ends before its blocks do.
    """
    try:
        with open_regular(path) as file:
            return read_directories(_OnDisk(path, file))
    except OSError as error:
        raise UnreadableError(f"{path} cannot be opened: {error}.") from error


def _box(file: _OnDisk) -> bytes:
    """Return the content of the first box ``xml`` before the code of a JPEG 2000 file; empty where there is none."""
    at = 0
    for _ in range(_MOST_BOXES):
        head = file.read(at, 16)
        if len(head) < _BOX.size:
            break
        length, kind = _BOX.unpack_from(head)
        start = _BOX.size
        if length == 1 and len(head) == 16:  # a longer length follows
            (length,), start = struct.unpack_from(">Q", head, 8), 16
        if kind == b"jp2c" or length < start:
            break
        if kind == b"xml " and length - start <= _LARGEST:
            return file.read(at + start, length - start)
        at += length
    return b""


def _texts(document: bytes) -> dict[str, str]:
    """Read GDAL's XML of metadata; empty where it is something else."""
    document = document.rstrip(b"\0")
    if not document or len(document) > _LARGEST or has_document_type(document):
        return {}
    try:
        root = ET.fromstring(document)  # noqa: S314  # without a document type there are no entities
    except (ET.ParseError, ValueError, LookupError):
        return {}
    if root.tag == "GDALMultiDomainMetadata":
        items = [item for part in root.findall("Metadata") if not part.get("domain") for item in part.findall("MDI")]
        return {item.get("key", ""): item.text or "" for item in items}
    if root.tag != "GDALMetadata":
        return {}
    of_file = (item for item in root.findall("Item") if not {"domain", "sample"} & item.attrib.keys())
    # GDAL escapes these twice.
    return {item.get("name", ""): unescape(item.text or "", _ENTITIES) for item in of_file}
