"""Values of kept pixels <-> bytes, without loss.

Numbers of 16 bits and more are coded by pcodec, bytes by Zstandard: classes and probabilities are long stretches of
few values. Which is smaller was measured, see docs/decisions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pcodec import ChunkConfig, DeltaSpec, standalone

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Bools = npt.NDArray[np.bool_]

DTYPES = ("uint8", "uint16", "int16", "int32")
"""Types of values that can be coded."""
_ZSTD = pa.Codec("zstd", compression_level=6)


class DamagedCodeError(ValueError):
    """Bytes that are not the code of the values they are read as."""


def encode(values: Array) -> bytes:
    """Code a vector of a type of `DTYPES`; no bytes for no values."""
    if values.dtype.name not in DTYPES or values.ndim != 1:
        raise ValueError(f"Vectors of {', '.join(DTYPES)} can be coded, not {values.dtype} of shape {values.shape}.")
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    if not values.size:
        return b""
    if values.dtype.itemsize == 1:
        return bytes(_ZSTD.compress(values, asbytes=True))
    return bytes(standalone.simple_compress(values, ChunkConfig(delta_spec=DeltaSpec.try_consecutive(1))))


def decode(code: bytes, dtype: np.dtype[Any], size: int) -> Array:
    """Return the values that `encode` has coded.

    Parameters
    ----------
    code
        The bytes; they have been compared with their checksum.
    dtype, size
        Type and number of the values; no more memory than for these is taken.

    Raises
    ------
    DamagedCodeError
        If it is not the code of so many values of this type.
    """
    out = np.empty(size, dtype)
    if size == 0 and not code:
        return out
    if dtype.itemsize == 1:
        _decode_bytes(code, out)
    else:
        _decode_numbers(code, out)
    return out


def encode_flags(flags: Bools) -> bytes:
    """Code a vector of truth values."""
    return encode(np.packbits(flags))


def decode_flags(code: bytes, size: int) -> Bools:
    """Return the truth values that `encode_flags` has coded; errors as of `decode`."""
    packed = decode(code, np.dtype(np.uint8), -(-size // 8))
    return np.unpackbits(packed, count=size).view(np.bool_)


def _decode_bytes(code: bytes, out: Array) -> None:
    try:
        found = _ZSTD.decompress(code, out.size)
    except (OSError, ValueError) as error:
        raise DamagedCodeError(str(error)) from error
    if len(found) != out.size:
        raise DamagedCodeError(f"{len(found)} values instead of {out.size}")
    out[...] = np.frombuffer(found, out.dtype)


def _decode_numbers(code: bytes, out: Array) -> None:
    try:
        progress = standalone.simple_decompress_into(code, out)
    except Exception as error:
        raise DamagedCodeError(str(error)) from error
    if progress.n_processed != out.size or not progress.finished:
        raise DamagedCodeError(f"{progress.n_processed} values instead of {out.size}")
