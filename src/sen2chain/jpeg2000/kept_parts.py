"""Tables of tile-parts that are kept between runs, for remote files whose header does not tell them (no TLM).

Such a table is found by a walk from tile-part to tile-part, with a request for each. It is kept by the identity of the
file, so that the same version of a file is walked over once.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import TYPE_CHECKING

from sen2chain import cache, settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_HEAD, _PART = struct.Struct("<IQ"), struct.Struct("<IQQI")
_LARGEST = 1 << 24  # bytes of a file


def load(identity: str) -> tuple[int, list[tuple[int, int, int, int]]] | None:
    """Return what is known of a file; None where nothing is.

    Parameters
    ----------
    identity
        Text that changes with the file.

    Returns
    -------
    tuple
        Position behind the last known tile-part, and (tile, position, length, tile-parts of the tile) of each.
    """
    try:
        with _path(identity).open("rb") as file:
            content = file.read(_LARGEST)
    except OSError:
        return None
    body = content[_HEAD.size :]
    if len(content) < _HEAD.size or len(body) % _PART.size:
        return None
    checksum, position = _HEAD.unpack_from(content)
    if checksum != zlib.crc32(content[4:]):
        return None
    return position, [_PART.unpack_from(body, at) for at in range(0, len(body), _PART.size)]


def save(identity: str, position: int, parts: Sequence[tuple[int, int, int, int]]) -> None:
    """Keep what is known of a file; where that fails, the next run walks again. Parameters as `load` returns them."""
    body = struct.pack("<Q", position) + b"".join(_PART.pack(*part) for part in parts)
    cache.save_bytes(_path(identity), struct.pack("<I", zlib.crc32(body)) + body)


def _path(identity: str) -> Path:
    name = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
    return settings.cache_dir() / "tile-parts" / name[:2] / f"{name[2:34]}.bin"
