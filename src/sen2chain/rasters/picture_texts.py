"""Comments in JPEG and PNG files: quicklooks keep there what rasters keep in their metadata, as JSON."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sen2chain.tiff import Ranges

KEYWORD = "Comment"
"""Name of the text of a PNG."""
LONGEST = 65_533
"""Bytes of a comment of a JPEG."""

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_START_OF_SCAN, _COMMENT = 0xDA, 0xFE
_LAST = 64
"""Bytes at the end of a JPEG in which its end is looked for."""
_MOST = 64  # parts before the pixels


def written(texts: Mapping[str, str]) -> bytes:
    """Return texts as a comment; empty where they are too long for a JPEG."""
    comment = json.dumps(dict(texts)).encode("ascii")
    return comment if len(comment) <= LONGEST else b""


def read(file: Ranges) -> dict[str, str] | None:
    """Return the texts in the comment of a picture, empty where it has none; None for a file of another kind."""
    head = file.read(0, len(_PNG))
    if head.startswith(_JPEG):
        comments = _of_jpeg(file)
    elif head == _PNG:
        comments = _of_png(file)
    else:
        return None
    for comment in comments:
        try:
            found = json.loads(comment)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return {name: text for name, text in found.items() if isinstance(text, str)}
    return {}


def is_complete(file: Ranges) -> bool:
    """Whether a picture ends as it has to; programs may have added bytes to a JPEG."""
    if file.read(0, len(_PNG)) == _PNG:
        return file.read(max(0, file.size - 8), 4) == b"IEND"
    return b"\xff\xd9" in file.read(max(0, file.size - _LAST), _LAST)


def _of_jpeg(file: Ranges) -> Iterator[bytes]:
    """Yield the comments of a JPEG: segments before the first scan."""
    at = 2
    for _ in range(_MOST):
        head = file.read(at, 4)
        if len(head) < 4 or head[0] != 0xFF or head[1] == _START_OF_SCAN:
            return
        (length,) = struct.unpack_from(">H", head, 2)
        if head[1] == _COMMENT and length >= 2:
            yield file.read(at + 4, length - 2)
        at += 2 + max(2, length)


def _of_png(file: Ranges) -> Iterator[bytes]:
    """Yield the comments of a PNG: chunks before the first one of pixels."""
    at = len(_PNG)
    for _ in range(_MOST):
        head = file.read(at, 8)
        if len(head) < 8 or head[4:] == b"IDAT":
            return
        (length,) = struct.unpack_from(">I", head)
        if head[4:] == b"tEXt" and length <= LONGEST + len(KEYWORD) + 1:
            keyword, _, text = file.read(at + 8, length).partition(b"\0")
            if keyword == KEYWORD.encode():
                yield text
        at += 12 + length
