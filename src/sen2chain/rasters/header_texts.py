"""What the file of a raster says of itself, read from its header alone, many times faster than GDAL opens it.

It tells its form (see `sen2chain.raster_form`) and texts. GDAL writes texts as XML: into tag 42112 of a TIFF file, and
into a box ``xml`` of a JPEG 2000 file. Texts of other domains than the default one, and of single bands, are left
aside. Quicklooks have them in a comment.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree as ET  # `_texts` refuses what makes it unsafe
from xml.sax.saxutils import unescape

from sen2chain.errors import UnreadableError
from sen2chain.files import has_document_type, open_regular
from sen2chain.raster_form import RasterForm
from sen2chain.rasters import picture_texts
from sen2chain.rasters.header_form import form_of
from sen2chain.tiff import Directory, read_directories, read_metadata_tag

if TYPE_CHECKING:
    from io import BufferedReader

_JPEG_2000 = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_END_OF_CODE = b"\xff\xd9"
_BOX = struct.Struct(">I4s")
_LARGEST = 1 << 20  # bytes of the XML
_MOST_BOXES = 64
_CUT_OFF = RasterForm("is cut off")
_ENTITIES = {"&quot;": '"', "&apos;": "'"}


class _OnDisk:
    """The bytes of an open file, see `sen2chain.tiff.Ranges`."""

    def __init__(self, location: str, file: BufferedReader) -> None:
        self.location, self._file = location, file
        self.size = os.fstat(file.fileno()).st_size

    def read(self, offset: int, length: int, ahead: int = 0) -> bytes:  # noqa: ARG002  # a disk needs no more at once
        self._file.seek(offset)
        return self._file.read(length)


class Header(NamedTuple):
    """What the file of a raster says of itself."""

    texts: dict[str, str]
    """Texts by name; empty where it has none."""
    form: RasterForm
    """Form of the raster, as far as it is told."""


def read_header(path: str) -> Header:
    """Read the header of a GeoTIFF, JPEG 2000 file or quicklook on disk. Damage that is seen is part of its form.

    Raises
    ------
    UnreadableError
        If the file cannot be opened or read.
    """
    try:
        with open_regular(path) as file:
            ranges = _OnDisk(path, file)
            if (found := picture_texts.read(ranges)) is not None:
                return Header(found, RasterForm() if picture_texts.is_complete(ranges) else _CUT_OFF)
            if ranges.read(0, len(_JPEG_2000)) == _JPEG_2000:
                document, is_complete = _boxes(ranges)
                return Header(_texts(document), RasterForm() if is_complete else _CUT_OFF)
            return _of_tiff(ranges)
    except (OSError, ValueError) as error:
        raise UnreadableError(f"{path} cannot be opened: {error}.") from error


def _of_tiff(file: _OnDisk) -> Header:
    """Read the header of a TIFF file."""
    texts: dict[str, str] = {}
    try:
        texts = _texts(read_metadata_tag(file, _LARGEST))
        return Header(texts, form_of(read_directories(file)[0]))
    except UnreadableError as error:
        what = str(error).partition(" cannot be read: ")[2].removesuffix("; the file is damaged.")
        return Header(texts, _CUT_OFF if what.startswith("it ends ") else RasterForm(f"is damaged ({what})"))


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
            document = _boxes(ranges)[0] if is_jpeg_2000 else read_metadata_tag(ranges, _LARGEST)
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


def why_unread(location: str) -> str:
    """Return what keeps us from reading the bytes of a file, whatever they are; empty where nothing does."""
    if location.startswith("/vsizip/"):
        return ""
    try:
        location.encode()
        with open_regular(location) as file:
            while file.read(1 << 20):
                pass
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    except OSError as error:
        # A folder or a pipe in its place is a fault of the archive.
        return "" if error.errno in {errno.EISDIR, errno.EINVAL} else error.strerror or str(error)
    return ""


def _boxes(file: _OnDisk) -> tuple[bytes, bool]:
    """Return the content of the first box ``xml`` before the code of a JPEG 2000 file, empty where there is none.

    Also return whether the code is in the file to its end, as far as the lengths of boxes tell.
    """
    at, found = 0, b""
    for _ in range(_MOST_BOXES):
        head = file.read(at, 16)
        if len(head) < _BOX.size:
            return found, False
        length, kind = _BOX.unpack_from(head)
        start = _BOX.size
        if length == 1 and len(head) == 16:  # a longer length follows
            (length,), start = struct.unpack_from(">Q", head, 8), 16
        if kind == b"jp2c":
            # Code of length 0 goes on to the end of the file.
            is_complete = at + length <= file.size if length else file.read(file.size - 2, 2) == _END_OF_CODE
            return found, is_complete
        if length < start:
            break
        if kind == b"xml " and length - start <= _LARGEST:
            found = found or file.read(at + start, length - start)
        at += length
    return found, True


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
