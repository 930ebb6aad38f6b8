"""Styles of map layers in QGIS's own format (QML), so that a file opens in colour and with its dates."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from sen2chain.legends import Legend

_BEYOND = 1e30  # the outer ends of the first and the last class, which take all values beyond the legend
_CLASSES = (12, 10, 14, 16, 11, 13, 15, 8, 9)  # numbers of classes, the best first
_UNFIT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # characters that no XML can hold
_OUTLINE = "70,70,70,255"
_SYMBOLS = {
    "fill": ("SimpleFill", {"style": "solid", "outline_style": "solid", "outline_width": "0.1"}),
    "line": ("SimpleLine", {"line_style": "solid", "line_width": "1"}),
    "marker": ("SimpleMarker", {"name": "circle", "size": "3", "outline_style": "solid", "outline_width": "0.1"}),
}
"""Kind of symbol -> QGIS's class and its settings, lengths in millimetres."""
_QGIS_TYPES = {"marker": "0", "line": "1", "fill": "2"}


@dataclass(frozen=True, slots=True)
class MapStyle:
    """What a layer's style depends on."""

    kind: str
    """``fill``, ``line`` or ``marker``."""
    label: str
    """The column that names a feature."""


def outline_style(style: MapStyle) -> str:
    """Return a style that draws features without values: an outline without a fill."""
    root = _root(style)
    renderer = ET.SubElement(root, "renderer-v2", type="singleSymbol", symbollevels="0", enableorderby="0")
    symbols = ET.SubElement(renderer, "symbols")
    _symbol(symbols, "0", style.kind, _OUTLINE, filled=False)
    return _text(root)


def value_style(style: MapStyle, legend: Legend, *, scale: float, column: str, dates: tuple[str, int] | None) -> str:
    """Return a style that colours features by a value.

    Parameters
    ----------
    style
        Kind of symbol, and the column that names a feature.
    legend
        Range and colours, in index units.
    scale
        Values of the column per index unit.
    column
        The column of the values.
    dates
        The column of dates, which QGIS's temporal controller filters by, and the days for which a value is shown. None
        for a layer that the temporal controller leaves as it is.
    """
    root = _root(style)
    if dates is not None:
        temporal = ET.SubElement(
            root, "temporal",
            # 1: each feature has one date, in a field.
            enabled="1", mode="1", startField=dates[0], fixedDuration=str(dates[1]), durationUnit="d",
            endField="", durationField="", startExpression="", endExpression="", accumulate="0", limitMode="0",
        )  # fmt: skip
        fixed = ET.SubElement(temporal, "fixedRange")
        ET.SubElement(fixed, "start")
        ET.SubElement(fixed, "end")
    renderer = ET.SubElement(
        root, "renderer-v2",
        type="graduatedSymbol", attr=column, graduatedMethod="GraduatedColor", symbollevels="0", enableorderby="0",
    )  # fmt: skip
    ranges, symbols = ET.SubElement(renderer, "ranges"), ET.SubElement(renderer, "symbols")
    steps = class_limits(legend)
    pairs = list(itertools.pairwise(steps))
    for at, (low, high) in enumerate(pairs):
        first, last = at == 0, at == len(pairs) - 1
        label = f"below {high:g}" if first else f"{low:g} and above" if last else f"{low:g} to {high:g}"
        ET.SubElement(
            ranges, "range",
            lower=repr(-_BEYOND if first else low * scale), upper=repr(_BEYOND if last else high * scale),
            symbol=str(at), label=label, render="true",
        )  # fmt: skip
        red, green, blue = legend.rgb((low + high) / 2).tolist()
        _symbol(symbols, str(at), style.kind, f"{red},{green},{blue},255", filled=True)
    return _text(root)


def class_limits(legend: Legend) -> list[float]:
    """Return the limits of classes of equal width from a legend's low to its high end, as round as possible."""
    span = legend.high - legend.low
    round_counts = (
        count for digits in (0, 1) for count in _CLASSES
        if math.isclose(float(f"{span / count:.{digits}e}") * count, span)
    )  # fmt: skip
    count = next(round_counts, _CLASSES[0])
    decimals = 3 - math.floor(math.log10(span))
    return [round(legend.low + span * step / count, decimals) + 0.0 for step in range(count + 1)]


def _root(style: MapStyle) -> ET.Element:
    root = ET.Element("qgis", version="3.16.0", styleCategories="AllStyleCategories")
    ET.SubElement(root, "previewExpression").text = _identifier(style.label)
    ET.SubElement(root, "layerGeometryType").text = _QGIS_TYPES[style.kind]
    return root


def _identifier(column: str) -> str:
    return '"' + _UNFIT.sub("", column).replace('"', '""') + '"'


def _symbol(parent: ET.Element, name: str, kind: str, colour: str, *, filled: bool) -> None:
    """Add a symbol of one layer."""
    symbol = ET.SubElement(parent, "symbol", type=kind, name=name, alpha="1", clip_to_extent="1", force_rhr="0")
    drawn, settings = _SYMBOLS[kind]
    layer = ET.SubElement(symbol, "layer", {"class": drawn, "enabled": "1", "locked": "0", "pass": "0"})
    options = ET.SubElement(layer, "Option", type="Map")
    of_kind = {"line_color": colour} if kind == "line" else {"color": colour, "outline_color": _OUTLINE}
    hollow = {"style": "no", "outline_width": "0.3"} if kind == "fill" and not filled else {}
    for key, value in {**settings, **of_kind, **hollow}.items():
        ET.SubElement(options, "Option", type="QString", name=key, value=value)


def _text(root: ET.Element) -> str:
    ET.indent(root)
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + ET.tostring(root, encoding="unicode")
