"""Texts from outside, made fit for drawing: one line, not too long, and in characters that a font has.

A name of a feature is data. Drawn as it is, ``$`` would begin a formula, a line break would tear a legend, and a
character that the font lacks would give a warning each time it is drawn.
"""

from __future__ import annotations

import functools
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

MISSING = "\u25a1"
"""Stands for a character that no installed font has; DejaVu has it."""
FONT = "DejaVu Sans"
"""The font that matplotlib brings along."""

# Of a text that is longer than twice this, the middle is not even looked at.
_LONGEST_READ = 2000

# Fonts for other scripts that systems bring along, the widest first. Each is taken only where it is installed.
_OTHER_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Noto Sans Arabic",
    "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Thai",
    "Noto Sans Ethiopic", "Noto Sans", "Droid Sans Fallback", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
    "Microsoft YaHei", "SimHei", "Yu Gothic", "MS Gothic", "Malgun Gothic", "Nirmala UI", "Leelawadee UI",
    "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS", "Unifont", "FreeSans",
)  # fmt: skip


def shortened(text: str, longest: int) -> str:
    """Return a text on one line, with its middle left out where it is longer than `longest` characters.

    The end stays, since names of features often differ there alone.

    Examples
    --------
    >>> shortened("A field behind the old mill, part 12", 20)
    'A field be…, part 12'
    """
    if len(text) > 2 * _LONGEST_READ:
        text = text[:_LONGEST_READ] + text[-_LONGEST_READ:]
    plain = " ".join("".join(" " if _is_control(char) else char for char in text).split())
    if len(plain) <= longest:
        return plain
    tail = max(1, (longest - 1) * 9 // 20)
    return f"{plain[: longest - 1 - tail]}…{plain[-tail:]}"


def drawable(text: str, longest: int = 60) -> str:
    """Return a text on one line, shortened, with a box in place of each character that no font can draw."""
    plain = shortened(text, longest)
    if plain.isascii():
        return plain
    known = [_characters(path) for path in _fonts().values()]
    return "".join(char if any(ord(char) in font for font in known) else MISSING for char in plain)


def fonts_for(texts: Iterable[str]) -> list[str]:
    """Return the families of fonts that draw these texts: DejaVu Sans, and others only where it lacks a character."""
    needed = {ord(char) for text in texts for char in text}
    families = []
    for family, path in _fonts().items():
        if family == FONT or needed & _characters(path):
            families.append(family)
            needed -= _characters(path)
        if not needed:
            break
    return families


def style(texts: Iterable[str], **more: Any) -> dict[str, Any]:
    """Return keywords for drawing texts as they are: no formulas, no TeX, and fonts that have the characters."""
    return {"parse_math": False, "usetex": False, "fontfamily": fonts_for(texts), **more}


def _is_control(char: str) -> bool:
    """Tell whether a character steers the line, or the direction, of the text around it."""
    return unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp"} and char not in "\u200c\u200d"


@functools.cache
def _fonts() -> dict[str, str]:
    """Family -> file of the fonts that may be used and are installed, in order."""
    from matplotlib import font_manager, get_data_path  # noqa: PLC0415  # an extra

    found = {FONT: str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")}
    installed = {font.name: font.fname for font in reversed(font_manager.fontManager.ttflist)}
    return found | {family: installed[family] for family in _OTHER_FONTS if family in installed}


@functools.cache
def _characters(path: str) -> frozenset[int]:
    """Return the code points of the characters that a font has."""
    from matplotlib.ft2font import FT2Font  # noqa: PLC0415

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):  # a font that has been removed or is damaged
        return frozenset()
