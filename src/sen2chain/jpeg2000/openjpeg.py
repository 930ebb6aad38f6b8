"""OpenJPEG's library: found in what is installed, checked, and its functions declared for `ctypes`.

The wheels of rasterio contain it, so most users have it. Where there is none that can be used, or
``SEN2CHAIN_OPENJPEG`` is ``off``, `library` returns None and `unavailable` says why; GDAL then decodes.

The structures follow ``openjpeg.h`` of version 2.5 (https://github.com/uclouvain/openjpeg), where they are the same in
2.5.0 to 2.5.4. Calls through `ctypes` release the interpreter's lock.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import re
import struct
import sys
from ctypes import POINTER, c_char, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint, c_uint16, c_uint32, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sen2chain import settings
from sen2chain.errors import escaped
from sen2chain.parallel import Memo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OLDEST = (2, 5)
"""Oldest version whose area decoding and strict mode are used."""

CODESTREAM, JP2 = 0, 2
"""Formats for ``opj_create_decompress``: the code stream alone, or in its file format."""

END_OF_STREAM = ctypes.c_size_t(-1).value
"""What a `Read` returns where no byte is left."""

Message = ctypes.CFUNCTYPE(None, c_char_p, c_void_p)
"""Handler of messages: (text, user data)."""
Read = ctypes.CFUNCTYPE(c_size_t, c_void_p, c_size_t, c_void_p)
"""Function that fills a buffer: (buffer, its bytes, user data) -> bytes written, or `END_OF_STREAM`."""
Skip = ctypes.CFUNCTYPE(c_int64, c_int64, c_void_p)
"""Function that moves forwards: (bytes, user data) -> bytes moved, or -1."""
Seek = ctypes.CFUNCTYPE(c_int, c_int64, c_void_p)
"""Function that moves to a position: (position in bytes, user data) -> 1, or 0 where it cannot."""
Free = ctypes.CFUNCTYPE(None, c_void_p)
"""Function that frees the user data of a stream."""


class Component(ctypes.Structure):
    """``opj_image_comp_t``: one component of an image."""

    _fields_: ClassVar = [
        ("dx", c_uint32),  # samples of the reference grid per sample
        ("dy", c_uint32),
        ("w", c_uint32),  # columns and rows of `data`
        ("h", c_uint32),
        ("x0", c_uint32),  # first column and row in the image
        ("y0", c_uint32),
        ("prec", c_uint32),  # bits per sample
        ("bpp", c_uint32),  # obsolete
        ("sgnd", c_uint32),  # 1 where samples are signed
        ("resno_decoded", c_uint32),
        ("factor", c_uint32),  # halvings of the decoded resolution
        ("data", POINTER(c_int32)),  # (h, w), or NULL
        ("alpha", c_uint16),
    ]


class Image(ctypes.Structure):
    """``opj_image_t``: the area of an image on the reference grid, and its components."""

    _fields_: ClassVar = [
        ("x0", c_uint32),
        ("y0", c_uint32),
        ("x1", c_uint32),
        ("y1", c_uint32),
        ("numcomps", c_uint32),
        ("color_space", c_int),
        ("comps", POINTER(Component)),
        ("icc_profile_buf", c_void_p),
        ("icc_profile_len", c_uint32),
    ]


class DecoderParameters(ctypes.Structure):
    """``opj_dparameters_t``; ``opj_set_default_decoder_parameters`` fills it."""

    _fields_: ClassVar = [
        ("cp_reduce", c_uint32),
        ("cp_layer", c_uint32),
        ("infile", c_char * 4096),  # this and what follows belongs to OpenJPEG's own command
        ("outfile", c_char * 4096),
        ("decod_format", c_int),
        ("cod_format", c_int),
        ("da_x0", c_uint32),
        ("da_x1", c_uint32),
        ("da_y0", c_uint32),
        ("da_y1", c_uint32),
        ("m_verbose", c_int),
        ("tile_index", c_uint32),
        ("nb_tile_to_decode", c_uint32),
        ("jpwl_correct", c_int),
        ("jpwl_exp_comps", c_int),
        ("jpwl_max_tiles", c_int),
        ("flags", c_uint),
    ]


_CODEC = _STREAM = c_void_p
_FUNCTIONS: dict[str, tuple[object, ...]] = {
    "opj_version": (c_char_p,),
    "opj_create_decompress": (_CODEC, c_int),
    "opj_set_default_decoder_parameters": (None, POINTER(DecoderParameters)),
    "opj_setup_decoder": (c_int, _CODEC, POINTER(DecoderParameters)),
    "opj_decoder_set_strict_mode": (c_int, _CODEC, c_int),
    "opj_codec_set_threads": (c_int, _CODEC, c_int),
    "opj_set_error_handler": (c_int, _CODEC, Message, c_void_p),
    "opj_set_warning_handler": (c_int, _CODEC, Message, c_void_p),
    "opj_read_header": (c_int, _STREAM, _CODEC, POINTER(POINTER(Image))),
    "opj_set_decode_area": (c_int, _CODEC, POINTER(Image), c_int32, c_int32, c_int32, c_int32),
    "opj_set_decoded_resolution_factor": (c_int, _CODEC, c_uint32),
    "opj_decode": (c_int, _CODEC, _STREAM, POINTER(Image)),
    "opj_end_decompress": (c_int, _CODEC, _STREAM),
    "opj_destroy_codec": (None, _CODEC),
    "opj_stream_create": (_STREAM, c_size_t, c_int),
    "opj_stream_set_read_function": (None, _STREAM, Read),
    "opj_stream_set_skip_function": (None, _STREAM, Skip),
    "opj_stream_set_seek_function": (None, _STREAM, Seek),
    "opj_stream_set_user_data": (None, _STREAM, c_void_p, Free),
    "opj_stream_set_user_data_length": (None, _STREAM, ctypes.c_uint64),
    "opj_stream_destroy": (None, _STREAM),
    "opj_image_destroy": (None, POINTER(Image)),
}
"""Function -> (type of its result, types of its arguments...). Truth values are ``int``, 1 for success."""


@dataclass(frozen=True, slots=True)
class OpenJpeg:
    """A library that can be used."""

    version: str
    """Its version, as ``"2.5.3"``."""
    path: str
    """The file, or the name by which the system finds it."""
    origin: str
    """What brought it: ``"rasterio"``, ``"conda"``, ``"system"``, ``"pillow"`` or ``"imagecodecs"``."""
    api: ctypes.CDLL
    """Its functions, declared: ``api.opj_decode(...)``."""


@dataclass(frozen=True, slots=True)
class _Found:
    library: OpenJpeg | None
    passed_over: tuple[str, ...]


_found = Memo()


def library() -> OpenJpeg | None:
    """Return the library; None where there is none, or it is switched off.

    The first call searches; later calls only look at the environment variable. Safe in threads.

    Raises
    ------
    RequestError
        If the environment variable is neither ``on`` nor ``off``.
    """
    return _search().library if settings.uses_openjpeg() else None


def unavailable() -> str:
    """Say in one sentence why `library` is None; empty where it is not.

    Raises
    ------
    RequestError
        As `library`.
    """
    if not settings.uses_openjpeg():
        return f"{settings.OPENJPEG_VARIABLE} is off."
    found = _search()
    if found.library:
        return ""
    oldest = ".".join(map(str, OLDEST))
    if found.passed_over:
        return f"No OpenJPEG {oldest} or newer can be used: {'; '.join(found.passed_over)}."
    return f"No OpenJPEG {oldest} or newer is installed; the wheels of rasterio contain one."


def passed_over() -> tuple[str, ...]:
    """Return for each library that was found but cannot be used: ``"<path> (<origin>) <reason>"``."""
    return _search().passed_over


def _search() -> _Found:
    found: _Found = _found.once("library", _try_all)
    return found


def _try_all() -> _Found:
    """Return the first library that can be used. No error leaves it: GDAL decodes as well."""
    passed: list[str] = []
    for origin, candidates in _ORIGINS.items():
        try:
            for path in candidates():
                try:
                    return _Found(_load(path, origin), tuple(passed))
                except Exception as error:  # noqa: BLE001  # whatever a damaged or foreign file does
                    passed.append(f"{escaped(path)} ({origin}) {_reason(error)}")
        except Exception as error:  # noqa: BLE001  # a folder that cannot be listed, a broken finder of modules
            passed.append(f"the search in {origin} failed ({_reason(error)})")
    return _Found(None, tuple(passed))


def _load(path: str, origin: str) -> OpenJpeg:
    """Load a library, check its version and declare its functions.

    Raises
    ------
    OSError
        If it cannot be loaded.
    ValueError
        If it is cut, too old, or lacks a function.
    """
    _check_length(Path(path))
    api = ctypes.CDLL(path)
    for name, (result, *arguments) in _FUNCTIONS.items():
        try:
            function = getattr(api, name)
        except AttributeError:
            raise ValueError(f"has no function {name}") from None
        function.restype, function.argtypes = result, arguments
    version = (api.opj_version() or b"").decode("ascii", "replace")
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if not numbers or (int(numbers[1]), int(numbers[2])) < OLDEST:
        raise ValueError(f"is version {version or 'unknown'}")
    return OpenJpeg(version, path, origin, api)


def _check_length(path: Path) -> None:
    """Check that a shared library of Linux is complete: the loader maps a cut one, and the process dies of it.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it ends before one of its segments does.
    """
    if not path.is_file():
        return  # a name that the loader looks up
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        header = file.read(_ELF.size)
        if len(header) < _ELF.size or not header.startswith(b"\x7fELF\x02\x01"):
            return  # of another system; its loader says what is wrong
        *_, start, _, _, _, each, count = _ELF.unpack(header)
        file.seek(start)
        table = file.read(each * count)
    if each < _SEGMENT.size or len(table) < each * count:
        raise ValueError("is cut")
    for at in range(0, len(table), each):
        _, _, offset, _, _, length = _SEGMENT.unpack_from(table, at)
        if offset + length > size:
            raise ValueError("is cut")


_ELF = struct.Struct("<16sHHIQQQIHHH")
"""Header of a library of 64 bits, little end first: ..., start of the table of segments, 3 others, bytes of an entry,
number of entries. https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html"""
_SEGMENT = struct.Struct("<IIQQQQ")
"""Beginning of an entry: type, flags, position in the file, two addresses, bytes in the file."""


def _reason(error: Exception) -> str:
    """Return what is wrong with a candidate, in the words that follow its name."""
    if isinstance(error, ValueError):
        return escaped(str(error))
    return escaped(f"cannot be loaded: {error}")


# ---------------------------------------------------------------------------------------------------------- where it is

_NAME = re.compile(r"(?:lib)?openjp2[^/\\]*?(?:\.so(?:\.\d+)*|\.dylib|\.dll)", re.IGNORECASE)
"""``libopenjp2-650ed7df.so.2.5.3`` in wheels for Linux, ``libopenjp2.2.5.4.dylib`` for macOS, ``openjp2-c1951c6e.dll``
for Windows, ``libopenjp2.so.7`` elsewhere."""


def _in_folder(folder: Path) -> Iterator[str]:
    """Yield the libraries in a folder, by name; none where there is no such folder."""
    if folder.is_dir():
        yield from (str(path) for path in sorted(folder.iterdir()) if _NAME.fullmatch(path.name))


def _in_wheel(package: str, *wheels: str) -> Iterator[str]:
    """Yield the libraries of an installed wheel, which is not imported.

    Linux and Windows have them beside the package, in a folder named after the wheel (older ones in another spelling);
    macOS inside of it.
    """
    spec = importlib.util.find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for wheel in wheels:
            yield from _in_folder(Path(place).parent / f"{wheel}.libs")
        yield from _in_folder(Path(place) / ".dylibs")


def _in_conda() -> Iterator[str]:
    """Yield the libraries of a conda environment, one of which GDAL uses there."""
    prefix = Path(sys.prefix)
    if (prefix / "conda-meta").is_dir():
        yield from _in_folder(prefix / "lib")
        yield from _in_folder(prefix / "Library" / "bin")


def _in_system() -> Iterator[str]:
    """Yield the name by which the system finds its library."""
    if found := ctypes.util.find_library("openjp2"):
        yield found


_ORIGINS: dict[str, Callable[[], Iterator[str]]] = {
    # GDAL uses the first one that exists, so that both decode with the same code.
    "rasterio": lambda: _in_wheel("rasterio", "rasterio"),
    "conda": _in_conda,
    "system": _in_system,
    "pillow": lambda: _in_wheel("PIL", "pillow", "Pillow"),
    "imagecodecs": lambda: _in_wheel("imagecodecs", "imagecodecs"),
}
"""Where libraries come from, in the order in which they are tried -> their paths."""
