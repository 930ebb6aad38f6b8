"""Arrays as short texts for a page: differences of neighbours, bytes apart, compressed, base64.

Rows of a feature are neighbours and come by date, so values are similar to those before them: the differences are small
numbers, whose upper bytes are nearly all alike and compress well once they lie together. A browser undoes each step
with what it has: ``atob``, ``DecompressionStream`` and a loop. `assets/decode.js` is the other half of this module.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

MISSING = {"int16": -(2**15), "int32": -(2**31)}
"""Type of whole numbers -> the one that stands for a missing value."""

_FINEST = 10_000  # steps per index unit, as values are stored
_STEPS = 1000  # that a usual value should have at least, so that it keeps three digits
_STEPS_OF_SMALL = 100


@dataclass(frozen=True, eq=False)
class Quantised:
    """Values as whole numbers of steps."""

    numbers: npt.NDArray[np.int16] | npt.NDArray[np.int32]
    """Steps; `MISSING` of their type where there is no value."""
    per_unit: float
    """Number of steps of one unit: a value is its number divided by this."""


def quantised(values: npt.ArrayLike, scale: float = _FINEST) -> Quantised:
    """Round values to steps: 10,000 per unit, and fewer where the largest value does not fit 16 bits.

    Where that would lose what other values say, since the largest is far from them, numbers have 32 bits: where a step
    would be larger than one of the index as it is stored, half of the values have fewer than 1000 steps, or nine tenths
    fewer than 100.

    Parameters
    ----------
    values
        Values, (n,); NaN and infinite ones become missing.
    scale
        Stored steps of the index per unit.

    Returns
    -------
    Quantised
        Exact to half a step.
    """
    known = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(known)
    size = np.abs(known[finite])
    largest = float(size.max(initial=0.0))
    finest = float(max(_FINEST, scale))
    per_unit, kind = _fitting(largest, finest, "int16"), "int16"
    if per_unit < finest:
        small, usual = np.quantile(size[size > 0], (0.1, 0.5), method="lower")
        needed = max(float(scale), _STEPS / usual, _STEPS_OF_SMALL / small)
        if per_unit < needed:
            kind, most = "int32", _fitting(largest, finest, "int32")
            while per_unit < min(needed, most) * (1 - 1e-9):  # coarse steps take less of the page
                per_unit *= 10.0
    numbers = np.full(known.shape, MISSING[kind], dtype=kind)
    numbers[finite] = np.rint(known[finite] * per_unit).astype(kind)
    return Quantised(numbers, per_unit)


def _fitting(largest: float, finest: float, kind: str) -> float:
    """Return steps per unit, ten times fewer than `finest` as often as needed, with which a value fits a type."""
    per_unit = finest
    while largest * per_unit > -MISSING[kind] - 0.51:
        per_unit /= 10.0
    return per_unit


def packed(array: npt.NDArray[Any]) -> dict[str, Any]:
    """Pack whole numbers.

    Parameters
    ----------
    array
        (n,) of an integer type of 1, 2 or 4 bytes.

    Returns
    -------
    dict
        ``type`` (as ``int16``), ``length``, and ``data``: base64 of the zlib stream of all first bytes, then all second
        ones, ... of the little-endian differences, which wrap around.
    """
    size = array.dtype.itemsize
    # Differences of unsigned numbers of the same size wrap around, and so does the sum that undoes them.
    plain = np.ascontiguousarray(array).view(f"u{size}")
    differences = np.diff(plain, prepend=plain.dtype.type(0)).astype(f"<u{size}")
    apart = differences.view(np.uint8).reshape(-1, size).T
    return {"type": array.dtype.name, "length": len(array), "data": _text(apart.tobytes())}


def positions(places: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return positions in a list as numbers of 16 bits, or of 32 where one does not fit these.

    Parameters
    ----------
    places
        (n,) whole numbers from 0 to 2**32 - 1.
    """
    return places.astype(np.uint16 if places.max(initial=0) < 2**16 else np.uint32)


def packed_json(value: Any) -> dict[str, Any]:
    """Pack a value as compressed JSON: ``type`` is ``json``, ``data`` base64 of the zlib stream of its UTF-8 text.

    Raises
    ------
    ValueError
        If a number in it is not finite, which JSON cannot hold.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # Half of a surrogate pair, which an attribute may hold, is no UTF-8; a browser would show the same question mark.
    return {"type": "json", "data": _text(text.encode("utf-8", "replace"))}


def size_of(item: Any) -> int:
    """Return how many characters packed values take in a page, those inside lists and dictionaries included."""
    if isinstance(item, dict):
        return len(item["data"]) if isinstance(item.get("data"), str) else sum(map(size_of, item.values()))
    return sum(map(size_of, item)) if isinstance(item, list) else 0


def script_json(value: Any) -> str:
    """Write JSON that can stand in a script element: no ``<`` can end the element or begin a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace").decode().replace("<", "\\u003c")


def _text(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 6)).decode("ascii")
