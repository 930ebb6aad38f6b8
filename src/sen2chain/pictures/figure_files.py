"""Files of figures: PNG, SVG and PDF, written atomically, without the time at which they were made."""

from __future__ import annotations

import importlib
import io
import os
from typing import TYPE_CHECKING, Any

from sen2chain.atomic import replacing, writing
from sen2chain.errors import MissingExtraError, RequestError, choice, items_of, shown
from sen2chain.pictures.figure_settings import default_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
"""Formats of pictures."""

DPI = 110
"""Pixels of a PNG file per inch of the figure."""

# The time of writing would make two runs differ.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def need_matplotlib() -> None:
    """Make sure that matplotlib is installed and can be imported.

    Raises
    ------
    MissingExtraError
        If it is not installed; the message says how to install it.
    RequestError
        If the environment variable ``MPLBACKEND`` keeps it from being imported.
    """
    try:
        importlib.import_module("matplotlib.figure")
    except ImportError:
        raise MissingExtraError("Pictures", "matplotlib", "plot") from None
    except ValueError:
        # matplotlib checks this name when it is imported, whether or not a window is opened.
        backend = os.environ.get("MPLBACKEND")
        if not backend:
            raise
        raise RequestError(
            f"The environment variable MPLBACKEND is {shown(backend)!r}, which matplotlib does not know; unset it, or "
            "set it to agg."
        ) from None


def picture_formats(formats: Sequence[str] | str) -> tuple[str, ...]:
    """Check the formats that are asked for; each is returned once.

    Raises
    ------
    RequestError
        If one is unknown, or there is none.
    """
    given = [formats] if isinstance(formats, str) else items_of("formats", () if formats is None else formats, '"png"')
    for name in given:
        choice("format", name, FORMATS)
    if not given:
        raise RequestError(f"No format is asked for; allowed: {', '.join(FORMATS)}.")
    return tuple(dict.fromkeys(given))


def write_figures(pages: Iterable[Figure], path: Path, formats: Sequence[str]) -> list[Path]:
    """Write the pages of a picture in each format; they are drawn one after the other, so that one is in memory.

    Parameters
    ----------
    pages
        The figures; at least one.
    path
        The file without its suffix. Further pages of PNG and SVG get ``_page2``, ``_page3``, ...; a PDF has all pages.
    formats
        Some of `FORMATS`.

    Returns
    -------
    list
        The files.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    single = [kind for kind in formats if kind != "pdf"]
    files = []

    def written() -> Iterator[Figure]:
        for number, page in enumerate(pages, start=1):
            for kind in single:
                ending = f".{kind}" if number == 1 else f"_page{number}.{kind}"
                file = path.with_name(f"{path.name}{ending}")
                _write(_saved(page, kind), file)
                files.append(file)
            yield page

    if "pdf" in formats:
        files.append(_write_pdf(written(), path.with_name(f"{path.name}.pdf")))
    else:
        for _ in written():
            pass
    return files


def _saved(page: Figure, kind: str) -> memoryview:
    """Return the content of a file of a figure."""
    content = io.BytesIO()
    with default_settings():
        page.savefig(content, format=kind, dpi=DPI, facecolor="white", metadata=_METADATA[kind])
    return content.getbuffer()


def _write_pdf(pages: Iterable[Figure], file: Path) -> Path:
    """Write all pages into one file."""
    from matplotlib.backends.backend_pdf import PdfPages  # noqa: PLC0415  # an extra

    content = io.BytesIO()
    with default_settings():
        document: Any = PdfPages(content, metadata=_METADATA["pdf"])
    for page in pages:
        with default_settings():
            document.savefig(page, facecolor="white")
    with default_settings():
        document.close()
    _write(content.getbuffer(), file)
    return file


def _write(content: memoryview, file: Path) -> None:
    """Write a file. It is drawn before, so that an error in this block is one of writing."""
    with replacing(file) as stream, writing(file):
        stream.write(content)
