"""Long numbers in GeoJSON files, which GDAL's reader refuses or rounds: identifiers beyond 62 bits, and 1e400.

With one such number the whole layer would be unreadable, or identifiers would lose their last digits.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sen2chain.vectors.layer_files import VectorFile

# GDAL's reader makes floats of whole numbers below -2**62, and refuses 2**63.
_LOWEST, _HIGHEST = -(2**62) + 1, 2**63 - 1
_LONG = 19  # digits of 2**62 and of 2**63
# A text with the whole number of which it is the name, or another number.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"(?:\s*+:\s*+(-?\d++)(?=\s*+[,}]))?|(-?\d[\d.eE+-]*+)', re.DOTALL)


def has_rounded_numbers(attributes: pd.DataFrame) -> bool:
    """Whether attributes may be rounded whole numbers: very large floats, or the limits of int64.

    GDAL before 3.12 returns these limits for numbers beyond them, also in columns of texts.
    """
    limits = {-_HIGHEST - 1, _HIGHEST, str(-_HIGHEST - 1), str(_HIGHEST)}
    return any(
        bool((np.abs(column.to_numpy(float, na_value=np.nan)) >= -float(_LOWEST)).any())
        if pd.api.types.is_float_dtype(column.dtype)
        else any(value in limits for value in column.tolist() if isinstance(value, int | str))
        for _, column in attributes.items()
    )


def with_readable_numbers(files: Sequence[VectorFile], folder: Path) -> list[VectorFile] | None:
    """Return files with long whole numbers as texts and other long numbers as floats; None where nothing changes.

    Parameters
    ----------
    files
        Files that readers may open.
    folder
        Where copies are written.
    """
    found, changed = [], False
    for number, file in enumerate(files):
        content = file.path.read_bytes() if file.kind == "json" else b""
        mended = _TOKEN.sub(_readable, content)
        if mended != content:
            changed = True
            place = folder / str(number)
            place.mkdir()
            (place / file.path.name).write_bytes(mended)
            file = replace(file, path=place / file.path.name)  # noqa: PLW2901 - a copy stands for it
        found.append(file)
    return found if changed else None


def _readable(token: re.Match[bytes]) -> bytes:
    whole, other = token[1], token[2]
    if whole and len(whole.lstrip(b"-")) >= _LONG and not _fits(whole, _LOWEST):
        return token[0][: -len(whole)] + b'"' + whole + b'"'
    if not other:
        return token[0]
    if other.lstrip(b"-").isdigit():
        return other if len(other) < _LONG or _fits(other, -_HIGHEST - 1) else other + b".0"
    try:
        return (b"-Infinity" if other.startswith(b"-") else b"Infinity") if math.isinf(float(other)) else other
    except ValueError:
        return other  # the reader says what is wrong with it


def _fits(digits: bytes, lowest: int) -> bool:
    # More digits need not be converted, which Python does not do without a limit either.
    return len(digits) <= _LONG + 1 and lowest <= int(digits) <= _HIGHEST
