"""Radiometric indices: the table of twelve, the catalogue's indices by name, and the formulas of users.

A stored value is ``formula(reflectances) * scale``, rounded half to even, as int16 with 32767 for no data. The scale is
10000, and less for indices of a wide range. Statistics are computed from stored values, so that bands and a lossless
raster of the index give the same rows.
"""

from __future__ import annotations

import ast
import copy
import functools
import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

import numpy as np

from sen2chain import index_catalogue
from sen2chain.errors import FormulaError, RequestError, UnknownNameError, items_of, quoted, shown
from sen2chain.parallel import recorded_warnings
from sen2chain.sensor import SENTINEL2, Sensor, check_sensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

SCALE = 10000
"""Stored values per unit of the index, unless it has another scale; and values of rows per unit, whatever its scale."""
SCALES = (10000, 1000, 100, 10, 1)
"""Scales that an index may have."""
NODATA = 32767
"""Stored value of a pixel without data."""
LOWEST, HIGHEST = -32768, 32766
"""Stored values saturate here."""

_FUNCTIONS: dict[str, tuple[int, Callable[..., Floats]]] = {
    "sqrt": (1, np.sqrt),
    "exp": (1, np.exp),
    "log": (1, np.log),
    "abs": (1, np.abs),
    "min": (2, np.minimum),
    "max": (2, np.maximum),
}
_MAX_FORMULA = 500
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_SCALED = re.compile(r"(.*\S)\s+scale\s*=\s*([0-9]{1,9})\s*", re.DOTALL)


_OPERATORS: dict[type[ast.operator], Callable[[Floats, Floats], Floats]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
}


@dataclass(frozen=True, slots=True)
class Index:
    """A radiometric index: a name and a formula of surface reflectances.

    Parameters
    ----------
    name
        Letters and digits, as it stands in file names.
    formula
        Numbers, the bands of the sensor (B02 B03 B04 B05 B06 B07 B08 B8A B11 B12), ``+ - * / **``, parentheses, and
        ``sqrt exp log abs min max``. It is parsed, never executed as Python.
    title
        Full name of the index; only for people.
    sensor
        The sensor whose bands the formula names, by default Sentinel-2.
    scale
        Stored values per unit of the index: 10000, or 1000, 100, 10 or 1 for an index with values beyond 3.2766. Two
        indices of one name, formula and scale are equal.

    Raises
    ------
    FormulaError
        If the formula holds anything else.
    RequestError
        If the name or the scale is none.

    Examples
    --------
    >>> Index("SAVI", "1.5*(B08-B04)/(B08+B04+0.5)").bands
    ('B04', 'B08')
    >>> Index("SR", "B08/B04", scale=100).highest
    327.66
    """

    name: str
    formula: str
    title: str = field(default="", compare=False)
    sensor: Sensor = field(default=SENTINEL2, compare=False, repr=False, kw_only=True)
    scale: int = field(default=SCALE, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise RequestError(f"{quoted(self.name)} cannot name an index; use letters and digits, as in SAVI.")
        if type(self.scale) is not int or self.scale not in SCALES:
            allowed = ", ".join(map(str, SCALES))
            raise RequestError(f"The scale of {self.name} is {shown(self.scale)}; allowed: {allowed}.")
        _parse(self.name, self.formula, check_sensor(self.sensor))

    @classmethod
    def parse(cls, text: str, sensor: Sensor = SENTINEL2) -> Self:
        """Read a name or ``NAME=formula``.

        Parameters
        ----------
        text
            The name of one of the twelve, or of an index of the catalogue (both are Sentinel-2's; lower case will do
            where it is clear), or ``NAME=formula``, which ``scale=100`` may follow after a space.
        sensor
            The sensor whose bands a formula names.

        Raises
        ------
        UnknownNameError
            If the text is a name that neither has.
        RequestError
            If it may be the name of several indices.
        """
        name, equals, formula = text.partition("=")
        if equals:
            formula, scale = _taken_apart(formula)
            return cls(name.strip(), formula, sensor=sensor, scale=scale)
        known = INDICES.get(text.strip().upper())
        if known is not None:
            return cls(known.name, known.formula, known.title)
        found = index_catalogue.matching(text.strip())
        if not found:
            more = f"one of {len(index_catalogue.catalogue())} more, which sen2chain indices lists"
            allowed = (*INDICES, more, "or your own as NAME=formula of bands")
            raise UnknownNameError("index", text, allowed, index_catalogue.catalogue())
        if len(found) > 1:
            choices = " or ".join(f"{entry.name} ({entry.title})" for entry in found)
            raise RequestError(f"The index {quoted(text)} may be {choices}; write the name as it stands here.")
        (entry,) = found
        return cls(entry.name, entry.formula, entry.title, scale=entry.scale)

    @property
    def definition(self) -> str:
        """The formula, and the scale if it is not 10000, as `parse` reads both after ``NAME=``."""
        return self.formula if self.scale == SCALE else f"{self.formula} scale={self.scale}"

    def is_defined_by(self, definition: str) -> bool:
        """Tell whether a definition means this index.

        Parameters
        ----------
        definition
            A text as `definition` gives it. Formulas are compared as they are parsed: spaces, parentheses that change
            nothing and the spelling of numbers do not count; the order of terms does.
        """
        formula, scale = _taken_apart(definition)
        return scale == self.scale and _is_same_formula(self.formula, formula, self.sensor)

    @property
    def lowest(self) -> float:
        """Lowest index value that can be stored."""
        return LOWEST / self.scale

    @property
    def highest(self) -> float:
        """Highest index value that can be stored."""
        return HIGHEST / self.scale

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands the formula needs, in the order of their wavelength."""
        return _bands_of(self.name, self.formula, self.sensor)

    def evaluate(self, reflectances: Mapping[str, Floats]) -> Floats:
        """Compute index values that are neither scaled nor rounded.

        Parameters
        ----------
        reflectances
            For each of `bands` an array of float64 surface reflectances, not below 0, NaN for no data; all of one
            shape.

        Returns
        -------
        numpy.ndarray
            float64 of that shape; NaN where a band has no data or the formula is undefined.
        """
        value, bad = self.raw_values(reflectances)
        return np.where(bad | ~np.isfinite(value), np.nan, value)

    def compute(self, reflectances: Mapping[str, Floats]) -> npt.NDArray[np.int16]:
        """Compute stored values.

        Parameters
        ----------
        reflectances
            As for `evaluate`.

        Returns
        -------
        numpy.ndarray
            int16 of that shape: index times `scale`, half to even, saturating at -32768 and 32766; 32767 where a band
            has no data or the formula is undefined.
        """
        value, bad = self.raw_values(reflectances)
        with np.errstate(all="ignore"):
            value = value * self.scale
            scaled = np.clip(np.rint(value), LOWEST, HIGHEST)
            return np.where(bad | ~np.isfinite(value), NODATA, scaled).astype(np.int16)

    def clipped(self, stored: npt.NDArray[np.int16], reflectances: Mapping[str, Floats]) -> npt.NDArray[np.int64]:
        """Find the pixels whose value lies beyond the stored range.

        Parameters
        ----------
        stored, reflectances
            What `compute` returned, one-dimensional, and what it was given.

        Returns
        -------
        numpy.ndarray
            Positions in `stored`. A value that is just the highest or the lowest is not among them.
        """
        at = np.flatnonzero((stored == LOWEST) | (stored == HIGHEST))
        if len(at) == 0:
            return at
        value = np.rint(self.evaluate({band: reflectances[band][at] for band in self.bands}) * self.scale)
        return at[(value < LOWEST) | (value > HIGHEST)]

    def raw_values(self, reflectances: Mapping[str, Floats]) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Return the formula's values, and where a band has no data or a step of the formula is undefined.

        Values may be anything there, and not finite elsewhere; `compute` and `evaluate` take both away.
        """
        tree = _parse(self.name, self.formula, self.sensor)
        with np.errstate(all="ignore"):
            bands = [reflectances[band] for band in self.bands]
            bad = np.isnan(bands[0])
            for band in bands[1:]:
                bad |= np.isnan(band)
            return _evaluate(tree.body, reflectances, bad), bad


def reflectance(
    dn: npt.NDArray[np.generic], offset: float, quantification: float, sensor: Sensor = SENTINEL2
) -> Floats:
    """Turn digital numbers into surface reflectance, float64.

    ``(DN + BOA_ADD_OFFSET) / BOA_QUANTIFICATION_VALUE`` (Sentinel-2 Products Specification Document), negative values
    counting as 0; NaN where DN is the sensor's no-data value (0), its saturated one (65535) or already NaN.
    """
    values = np.asarray(dn, dtype=np.float64)
    out = (values + offset) / quantification
    np.maximum(out, 0.0, out=out)
    unknown = values == sensor.nodata
    if sensor.saturated is not None:
        unknown |= values == sensor.saturated
    out[unknown] = np.nan
    return out


def resolve_indices(indices: Sequence[str | Index] | str | Index | None) -> tuple[Index, ...]:
    """Turn names, formulas and values into indices; None and ``"All"`` mean the twelve.

    Raises
    ------
    RequestError
        If there is no index, or one name stands for two formulas; names that differ in upper and lower case alone count
        as one, since there are file systems on which they are one.
    """
    if isinstance(indices, str | Index):
        indices = (indices,)
    if indices is not None:
        indices = items_of("indices", indices, '"NDVI"')
    if indices is None or [str(i).upper() for i in indices] == ["ALL"]:
        return tuple(INDICES.values())
    found: dict[str, Index] = {}
    for item in indices:
        if not isinstance(item, str | Index):
            raise UnknownNameError("index", item, INDICES)
        index = Index.parse(item) if isinstance(item, str) else item
        of_table = INDICES.get(index.name.upper()) if index.sensor == SENTINEL2 else None
        same_name = found.get(index.name.upper()) or of_table or index
        if (same_name.name, same_name.definition) != (index.name, index.definition):
            raise RequestError(
                f"The index name {same_name.name} already stands for {same_name.definition}; "
                "give your formula another name."
            )
        found[index.name.upper()] = index
    if not found:
        raise RequestError(f"No index is asked for; allowed: {', '.join(INDICES)}, or your own as NAME=formula.")
    return tuple(found.values())


def is_name(text: str) -> bool:
    """Whether a text is the name of one of the twelve or of an index of the catalogue."""
    return text.strip().upper() in INDICES or bool(index_catalogue.matching(text.strip()))


def _taken_apart(definition: str) -> tuple[str, int]:
    """Return formula and scale of a definition."""
    scaled = _SCALED.fullmatch(definition)
    return (scaled[1].strip(), int(scaled[2])) if scaled else (definition.strip(), SCALE)


@functools.lru_cache(maxsize=1024)  # asked for each stored raster of an archive
def _is_same_formula(one: str, other: str, sensor: Sensor) -> bool:
    """Tell whether two formulas are the same steps on the same bands; not where one of them cannot be read."""
    try:
        own, others = (ast.dump(_Plain().visit(copy.deepcopy(_parse("", text, sensor)))) for text in (one, other))
    except FormulaError:
        return False
    return own == others


class _Plain(ast.NodeTransformer):
    """Writes each number of a formula as formulas are computed: as a float."""

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:  # the name that ast calls
        return ast.Constant(float(str(node.value)))


@functools.cache  # asked for each product of an archive
def _bands_of(name: str, formula: str, sensor: Sensor) -> tuple[str, ...]:
    used = {node.id for node in ast.walk(_parse(name, formula, sensor)) if isinstance(node, ast.Name)}
    return tuple(band.name for band in sensor.served if band.name in used)


def _allowed(sensor: Sensor) -> tuple[str, ...]:
    """Names of the bands that a formula may use, those of the finest pixels first."""
    return tuple(band.name for band in sorted(sensor.served, key=lambda band: band.resolution))


def _parse(name: str, formula: str, sensor: Sensor) -> ast.Expression:
    """Parse a formula and make sure that it holds nothing but arithmetic on bands."""
    if not isinstance(formula, str) or not formula.strip() or len(formula) > _MAX_FORMULA:
        raise FormulaError(f"The formula of {name} must be a text of 1 to {_MAX_FORMULA} characters.")
    return _parsed(name, formula, sensor)


# Kept, so that parsing happens when an index is made and never in the threads of a run.
@functools.lru_cache(maxsize=1024)
def _parsed(name: str, formula: str, sensor: Sensor) -> ast.Expression:
    try:
        with recorded_warnings():  # Python's remarks on odd spelling are not for users of a formula
            tree = ast.parse(formula.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise FormulaError(f"The formula of {name} cannot be read: {formula!r}.") from None
    _check(name, tree.body, sensor)
    bands = _allowed(sensor)
    if not any(isinstance(node, ast.Name) and node.id in bands for node in ast.walk(tree)):
        raise FormulaError(f"The formula of {name} uses no band; allowed: {', '.join(bands)}.")
    return tree


def _check(name: str, node: ast.expr, sensor: Sensor) -> None:
    """Raise `FormulaError` for anything that is not arithmetic."""
    match node:
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            _check(name, left, sensor)
            _check(name, right, sensor)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            _check(name, operand, sensor)
        case ast.Call(func=ast.Name(id=function), args=args, keywords=[]) if function in _FUNCTIONS:
            wanted = _FUNCTIONS[function][0]
            if len(args) != wanted:
                raise FormulaError(f"In the formula of {name}, {function} takes {wanted} argument(s).")
            for argument in args:
                _check(name, argument, sensor)
        case ast.Name(id=band):
            if sensor.band(band) is None:
                grids = " or ".join(f"{metres} m" for metres in sorted({b.resolution for b in sensor.served}))
                raise FormulaError(
                    f"The formula of {name} uses {band}, which is not a band on the {grids} grid; "
                    f"allowed: {', '.join(_allowed(sensor))}."
                )
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool) and abs(value) < 1e100:
            pass
        case _:
            try:
                culprit = ast.unparse(node)
            except (RecursionError, ValueError):  # the second for a number of more than 4300 digits
                culprit = type(node).__name__
            raise FormulaError(
                f"The formula of {name} holds {culprit!r}; "
                f"allowed: numbers, bands, + - * / **, parentheses, {' '.join(_FUNCTIONS)}."
            )


def _evaluate(node: ast.expr, bands: Mapping[str, Floats], bad: npt.NDArray[np.bool_]) -> Floats:
    """Evaluate a checked formula on arrays, and mark in `bad` where a step of it is undefined.

    Every step counts: x / (y / 0) would be 0 and (x / 0) ** 0 would be 1, but both hide a ratio that does not exist.
    """
    match node:
        case ast.BinOp(left=left, op=op, right=right):
            value = _OPERATORS[type(op)](_evaluate(left, bands, bad), _evaluate(right, bands, bad))
            if isinstance(op, ast.Div | ast.Pow):
                bad |= ~np.isfinite(value)
            return value
        case ast.UnaryOp(op=op, operand=operand):
            value = _evaluate(operand, bands, bad)
            return -value if isinstance(op, ast.USub) else value
        case ast.Call(func=ast.Name(id=function), args=args):
            value = _FUNCTIONS[function][1](*(_evaluate(a, bands, bad) for a in args))
            bad |= ~np.isfinite(value)
            return value
        case ast.Name(id=band):
            return bands[band]
        case ast.Constant(value=value):
            return np.asarray(float(str(value)))
    raise AssertionError(node)  # _check let something through


_N, _R, _G, _B, _S1, _S2 = "B08", "B04", "B03", "B02", "B11", "B12"

INDICES: Mapping[str, Index] = MappingProxyType(
    {
        index.name: index
        for index in (
            Index("NDVI", f"({_N}-{_R})/({_N}+{_R})", "normalised difference vegetation index"),
            Index("NDWIMCF", f"({_G}-{_N})/({_G}+{_N})", "normalised difference water index (McFeeters)"),
            Index("NDWIGAO", f"({_N}-{_S1})/({_N}+{_S1})", "normalised difference water index (Gao)"),
            Index("MNDWI", f"({_G}-{_S1})/({_G}+{_S1})", "modified normalised difference water index"),
            Index("NDRE", f"({_N}-B05)/({_N}+B05)", "normalised difference red edge index"),
            Index("NBR", f"({_N}-{_S2})/({_N}+{_S2})", "normalised burn ratio"),
            Index("NDBI", f"({_S1}-{_N})/({_S1}+{_N})", "normalised difference built-up index"),
            Index("IRECI", f"(B07-{_R})/(B05/B06)", "inverted red-edge chlorophyll index"),
            Index("EVI", f"2.5*({_N}-{_R})/({_N}+6*{_R}-7.5*{_B}+1)", "enhanced vegetation index"),
            Index("BIGR", f"sqrt(({_G}**2+{_R}**2)/2)", "brightness index, green and red"),
            Index("BIRNIR", f"sqrt(({_R}**2+{_N}**2)/2)", "brightness index, red and near infrared"),
            Index("BIBG", f"sqrt(({_B}**2+{_G}**2)/2)", "brightness index, blue and green"),
        )
    }
)
"""The twelve indices by name."""
