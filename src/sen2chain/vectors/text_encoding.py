"""Encodings of a layer's texts: the declared ones, then UTF-8, then Windows-1252.

The ``.cpg`` beside a shapefile is tried first, then the code page in its ``.dbf``, then UTF-8. Texts that are valid in
none of them are read as Windows-1252, the most frequent encoding of such files, and a note shows the user one value.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from sen2chain.errors import LayerError, RequestError, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOSSLESS = "iso-8859-1"
"""The encoding in which every byte is one character, so that bytes and texts convert without loss."""

_ANY = "cp1252"
# The byte 29 of a .dbf; https://github.com/OSGeo/gdal/blob/master/ogr/ogrsf_frmts/shape/ogrshapelayer.cpp has them too.
_CODE_PAGES = {
    0x01: "cp437", 0x02: "cp850", 0x03: "cp1252", 0x04: "mac-roman", 0x08: "cp865", 0x09: "cp437", 0x0A: "cp850",
    0x0B: "cp437", 0x0D: "cp437", 0x0E: "cp850", 0x0F: "cp437", 0x10: "cp850", 0x11: "cp437", 0x12: "cp850",
    0x13: "cp932", 0x14: "cp850", 0x15: "cp437", 0x16: "cp850", 0x17: "cp865", 0x18: "cp437", 0x19: "cp437",
    0x1A: "cp850", 0x1B: "cp437", 0x1C: "cp863", 0x1D: "cp850", 0x1F: "cp852", 0x22: "cp852", 0x23: "cp852",
    0x24: "cp860", 0x25: "cp850", 0x26: "cp866", 0x37: "cp850", 0x40: "cp852", 0x4D: "cp936", 0x4E: "cp949",
    0x4F: "cp950", 0x50: "cp874", 0x57: "cp1252", 0x58: "cp1252", 0x59: "cp1252", 0x64: "cp852", 0x65: "cp866",
    0x66: "cp865", 0x67: "cp861", 0x6A: "cp737", 0x6B: "cp857", 0x6C: "cp863", 0x78: "cp950", 0x79: "cp949",
    0x7A: "cp936", 0x7B: "cp932", 0x7C: "cp874", 0x7D: "cp1255", 0x7E: "cp1256", 0x86: "cp737", 0x87: "cp852",
    0x88: "cp857", 0x96: "mac-cyrillic", 0x97: "mac-latin2", 0xC8: "cp1250", 0xC9: "cp1251", 0xCA: "cp1254",
    0xCB: "cp1253", 0xCC: "cp1257",
}  # fmt: skip


def codec(name: str) -> str | None:
    """Return Python's name of an encoding as people and ``.cpg`` files write it, None where there is none.

    Parameters
    ----------
    name
        ``UTF-8``, ``1252``, ``ANSI 1252``, ``OEM 850``, ``88591``, ``GBK``, ...
    """
    text = re.sub(r"^(?:ansi|oem|windows|cp|ms|ibm)[ _-]*(?=\d)", "", name.strip().casefold())
    if match := re.fullmatch(r"(?:iso[ _-]*)?8859[ _-]*(\d{1,2})", text):
        text = f"iso-8859-{match[1]}"
    for candidate in ({"65001": "utf-8"}.get(text, text), f"cp{text}"):
        with contextlib.suppress(LookupError, ValueError):  # a null character is a ValueError
            "a".encode(candidate)
            return "utf-8" if codecs.lookup(candidate).name == "utf-8" else candidate
    return None


def check_encoding(name: object) -> str | None:
    """Return Python's name of the encoding that a user asks for.

    Raises
    ------
    RequestError
        If Python has no encoding of this name.
    """
    if name is None:
        return None
    found = codec(name) if isinstance(name, str) else None
    if not found:
        raise RequestError(f"encoding is {quoted(name)}; pass the name of one, as utf-8, cp1252, iso-8859-15 or gbk.")
    return found


def candidates(path: Path | None, given: str | None) -> list[str]:
    """Return the encodings that may be a file's, in the order in which they are tried.

    Parameters
    ----------
    path
        A shapefile, None for another file.
    given
        The encoding that the user gave, which is the only candidate then.
    """
    if given:
        return [given]
    words = [] if path is None else [word.lstrip("\ufffd") for word in _declared(path)]  # of a byte order mark
    # A .dbf is filled with blanks of one byte, so UTF-16 and UTF-32 are none of its encodings.
    found = [name for name in map(codec, words) if name and "a".encode(name) == b"a"]
    return list(dict.fromkeys([*found, "utf-8", _ANY, LOSSLESS]))


def says_other_than_utf8(path: Path) -> bool:
    """Whether the first declaration beside a shapefile is of another encoding than UTF-8."""
    word = next((word for word in _declared(path) if word), "")
    return bool(word) and not (word.isascii() and codec(word) == "utf-8")


def _declared(path: Path) -> Iterator[str]:
    """Yield the encodings that the files beside a shapefile declare."""
    for suffix in (".cpg", ".CPG"):
        with contextlib.suppress(OSError):
            yield path.with_suffix(suffix).read_bytes()[:100].decode("ascii", "replace")
            break
    for suffix in (".dbf", ".DBF"):
        with contextlib.suppress(OSError), path.with_suffix(suffix).open("rb") as file:
            head = file.read(30)
            if len(head) == 30:
                yield _CODE_PAGES.get(head[29], "")
            break


def is_utf8(table: pa.Table) -> bool:
    """Tell whether all texts of a table, those in lists too, are UTF-8."""
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def decode(table: pa.Table, encodings: list[str], label: str, *, from_lossless: bool) -> tuple[pa.Table, str, str]:
    """Decode the texts and the names of a table.

    Parameters
    ----------
    table
        As a reader gave it.
    encodings
        Candidates; the first is taken in which every text is valid.
    label
        The layer, for messages.
    from_lossless
        Whether the reader decoded as `LOSSLESS`, names included; else texts hold the file's bytes.

    Returns
    -------
    tuple
        The table, the encoding, and one text with letters beyond ASCII as it was read.

    Raises
    ------
    LayerError
        If the texts are in none of them.
    """
    for encoding in encodings:
        shown: list[str] = []

        def read(raw: bytes, encoding: str = encoding, shown: list[str] = shown) -> str:
            text = raw.decode(encoding)
            if not (shown or text.isascii()):
                shown.append(text)
            return text

        def convert(raw: bytes, read: Callable[[bytes], str] = read) -> str:
            return read(raw.decode().encode(LOSSLESS) if from_lossless else raw)

        try:
            columns = [_each_text(column.combine_chunks(), convert) for column in table.columns]
            names = [convert(name.encode()) for name in table.schema.names]
        except UnicodeDecodeError:
            continue
        return pa.table(columns, names=names), encoding, shown[0] if shown else ""
    raise _in_none(encodings, label)


def _in_none(encodings: list[str], label: str) -> LayerError:
    return LayerError(
        f"{label} has texts that are not in the encoding {encodings[0]}; pass the right one as encoding= (--encoding)."
    )


def _each_text(column: pa.Array, convert: Callable[[bytes], str]) -> pa.Array:
    kind = column.type
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], kind)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        if pc.all(pc.string_is_ascii(column)).as_py() is not False:
            return column
        raw = column.cast(pa.large_binary()).to_pylist()
        return pa.array([None if value is None else convert(value) for value in raw], pa.large_string())
    if pa.types.is_list(kind):
        values = _each_text(column.values, convert)
        return pa.ListArray.from_arrays(column.offsets, values, mask=column.is_null()) if len(column) else column
    return column


def transcode(source: Path, target: Path, encodings: list[str], label: str) -> tuple[str, str]:
    """Copy a text file into one in UTF-8; return its encoding and one line with letters beyond ASCII.

    Raises
    ------
    LayerError
        If the file is in none of the encodings.
    """
    content = source.read_bytes()
    for encoding in encodings:
        with contextlib.suppress(UnicodeDecodeError):
            text = content.decode(encoding)
            target.write_text(text.removeprefix("\ufeff"), encoding="utf-8", newline="")
            return encoding, next(_words(text), "")
    raise _in_none(encodings, label)


def _words(text: str) -> Iterator[str]:
    """Yield texts between quotation marks, commas or line ends that have letters beyond ASCII."""
    for match in re.finditer(r'[^",;\r\n]*[^\x00-\x7f][^",;\r\n]*', text):
        yield match[0].strip()[:60]


def how_it_was_read(encoding: str, shown: str) -> str:
    """Sentence on the encoding that was used where the file declares none that fits, with a value as it was read."""
    example = f", as in {shown[:60]!r}" if shown else ""
    return (
        f"The file does not say the right encoding of its texts; they are read as {encoding}{example}. If that is "
        "wrong, pass the right one as encoding= (--encoding)."
    )
