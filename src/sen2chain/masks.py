"""Cloud masks: one frozen value per mask, with its rule, its reach and its name.

Masks are computed on the grid of their inputs: of Sentinel-2, SCL, CLDPRB and B11 on the 20 m grid. OCM is only read
from stored rasters, and ``none`` masks nothing. Any quality raster of a sensor with classes or bits is a family of
masks too. In arrays True means masked. Kernels are numbers of set pixels per row, centred.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np

from sen2chain.errors import RequestError, UnknownNameError, choice, shown, truth, whole_number
from sen2chain.sensor import SENTINEL2, Sensor, check_sensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy.typing as npt

    from sen2chain.products import ProductId
    from sen2chain.sensor import QualityRaster

    Bools = npt.NDArray[np.bool_]

NO_MASK = "none"
"""The mask that masks nothing."""

# The families of Sentinel-2 with rules of their own.
_NAMED = ("CM001", "CM002", "CM003", "CM004", "OCM")

SQUARE5 = (3, 5, 5, 5, 3)
DISK11 = (3, 7, 9, 9, 11, 11, 11, 9, 9, 7, 3)
DISK13 = (3, 7, 9, 11, 11, 13, 13, 13, 11, 11, 9, 7, 3)

# The switches of CM004 in the order of its name, and the SCL class each adds.
_SWITCHES = (("CSH", 3), ("CMP", 8), ("CHP", 9), ("TCI", 10))
_CASE = re.IGNORECASE | re.ASCII
_CM003 = re.compile(r"CM003-PRB([0-9]{1,3})-ITER([0-9]{1,4})", _CASE)
_CM004 = re.compile(r"CM004-CSH([01])-CMP([01])-CHP([01])-TCI([01])-ITER([0-9]{1,4})", _CASE)
_CLASSES = re.compile(r"([A-Z][A-Z0-9_]*)((?:-[0-9]{1,2})+)-ITER([0-9]{1,4})", _CASE)
_OCM = re.compile(r"OCM_v[0-9]{1,4}(?:_[0-9]{1,4})*", _CASE)

SHORT = {
    "CM001": "CM001",
    "CM002": "CM002-B11",
    "CM003": "CM003-PRB1-ITER5",
    "CM004": "CM004-CSH1-CMP1-CHP1-TCI1-ITER1",
    "OCM": "OCM",
    NO_MASK: NO_MASK,
}
"""Short name -> the mask that it means to `Mask.parse` and on the command line."""

_FORMS = (*SHORT, *(full for name, full in SHORT.items() if full != name), "SCL-3-8-9-10-11-ITER1")
# From this baseline on the original program's CM002 compares raw DNs, offset included, with 1500.
_OFFSET_BASELINE = 400


def families(sensor: Sensor = SENTINEL2) -> tuple[str, ...]:
    """Names of the families of masks that a sensor has: those with rules of their own, quality rasters, ``none``."""
    rasters = (raster.name for raster in sensor.quality if raster.kind != "percent")
    return (*(_NAMED if sensor == SENTINEL2 else ()), *rasters, NO_MASK)


def forms(sensor: Sensor = SENTINEL2) -> tuple[str, ...]:
    """Names of masks that show how those of a sensor are written, for messages."""
    return _FORMS if sensor == SENTINEL2 else tuple(_example(sensor, family) for family in families(sensor))


def short_names(sensor: Sensor = SENTINEL2) -> tuple[str, ...]:
    """Names of masks to propose for a sensor, the shortest there are."""
    return tuple(SHORT) if sensor == SENTINEL2 else forms(sensor)


def _example(sensor: Sensor, family: str) -> str:
    return family if sensor.quality_raster(family) is None else f"{family}-0-ITER0"


@dataclass(frozen=True, slots=True, order=True)
class Mask:
    """One cloud mask with all its parameters.

    Build it with `parse` or `from_keywords`; the fields check themselves. Two masks of one name are equal.
    """

    family: str
    """``CM001``, ``CM002``, ``CM003``, ``CM004``, ``OCM``, ``SCL`` or ``none``; of another sensor, a quality raster."""
    probability: int | None = None
    """CM003: CLDPRB at and above this percentage is masked."""
    classes: tuple[int, ...] = ()
    """CM004, SCL and other quality rasters: numbers of the masked classes or bits, ascending."""
    iterations: int = 0
    """CM003, CM004, SCL and other quality rasters: number of dilations by `SQUARE5`."""
    sensor: Sensor = field(default=SENTINEL2, compare=False, repr=False, kw_only=True)
    """The sensor whose quality rasters it is computed from."""

    def __post_init__(self) -> None:
        choice("cloud mask", self.family, families(check_sensor(self.sensor)))
        probability, iterations = _checked_numbers(0 if self.probability is None else self.probability, self.iterations)
        object.__setattr__(self, "iterations", iterations)
        if self.probability is not None:
            object.__setattr__(self, "probability", probability)
        if (self.family == "CM003") != (self.probability is not None):
            raise RequestError("probability belongs to CM003, which needs it; no other mask takes one.")
        self._check_classes()
        if self.family in {"CM001", "CM002", "OCM", NO_MASK} and (self.classes or self.iterations):
            raise RequestError(f"{self.family} has no classes and no iterations.")
        if self.family == "CM004" and not set(self.classes) <= {c for _, c in _SWITCHES}:
            raise RequestError(f"CM004 masks SCL classes 3, 8, 9 and 10 only, not {self.classes}; use SCL-...-ITER1.")
        if self._raster is not None and not self.classes:
            example = "SCL-3-8-9-10-11-ITER1" if self.sensor == SENTINEL2 else _example(self.sensor, self.family)
            raise RequestError(f"The {self.family} mask needs at least one class, as in {example}.")

    @property
    def _raster(self) -> QualityRaster | None:
        """The quality raster that the family is named after."""
        return self.sensor.quality_raster(self.family)

    def _check_classes(self) -> None:
        """Make sure that the classes or bits exist; they become plain whole numbers."""
        raster = self._raster or self.sensor.quality_raster(self.sensor.classification)
        numbers = range(0 if raster is None else len(raster.labels))
        plain = isinstance(self.classes, tuple) and all(isinstance(c, int | float | np.number) for c in self.classes)
        classes = tuple(c for c in numbers if c in self.classes) if plain else ()
        if not plain or self.classes != classes:
            what = f"{raster.name} {raster.kind}" if raster else "The classes"
            raise RequestError(
                f"{what} are {shown(self.classes)}; allowed: a tuple of different numbers from 0 to "
                f"{numbers.stop - 1}, ascending."
            )
        object.__setattr__(self, "classes", classes)

    @classmethod
    def parse(cls, text: str, sensor: Sensor = SENTINEL2) -> Self:
        """Read a mask's full name, which is the suffix of its file, or a short one of `SHORT`; case does not matter.

        Parameters
        ----------
        text
            The name. ``<raster>-<class>-...-ITER<n>`` names any quality raster of the sensor with classes or bits.
        sensor
            The sensor whose masks are meant; those of `SHORT`, ``none`` aside, are Sentinel-2's.

        Raises
        ------
        RequestError
            If the text is not such a name; the message lists the forms.
        """
        sensor = check_sensor(sensor)
        if not isinstance(text, str):
            raise UnknownNameError("cloud mask", text, forms(sensor))
        given, text = text, _short(text) or text
        if text == NO_MASK:
            return cls(NO_MASK, sensor=sensor)
        if match := _CLASSES.fullmatch(text):
            for raster in sensor.quality:
                if raster.kind != "percent" and raster.name.upper() == match[1].upper():
                    numbers = tuple(int(c) for c in match[2][1:].split("-"))
                    return cls(raster.name, classes=numbers, iterations=int(match[3]), sensor=sensor)
        if sensor == SENTINEL2:
            if match := _CM003.fullmatch(text):
                return cls("CM003", probability=int(match[1]), iterations=int(match[2]))
            if match := _CM004.fullmatch(text):
                classes = tuple(c for (_, c), on in zip(_SWITCHES, match.groups(), strict=False) if on == "1")
                return cls("CM004", classes=classes, iterations=int(match[5]))
            if _OCM.fullmatch(text):
                return cls("OCM")
            if text in SHORT.values():
                return cls(text[:5])
        raise UnknownNameError("cloud mask", given, forms(sensor))

    @classmethod
    def from_keywords(
        cls,
        cm_version: str = "CM001",
        probability: int = 1,
        iterations: int = 5,
        cld_shad: bool = True,  # noqa: FBT001, FBT002  # the documented interface
        cld_med_prob: bool = True,  # noqa: FBT001, FBT002
        cld_hi_prob: bool = True,  # noqa: FBT001, FBT002
        thin_cir: bool = True,  # noqa: FBT001, FBT002
        *,
        sensor: Sensor = SENTINEL2,
    ) -> Self:
        """Build a mask from the documented keywords; `cm_version` may also be a full name.

        The keywords complete CM003 and CM004, whose short names mean nothing else here. A keyword that the chosen mask
        does not know has no effect, as users of Sen2Chain expect, but has to be valid. `sensor` is that of `parse`.
        """
        probability, iterations = _checked_numbers(probability, iterations)
        given = {"cld_shad": cld_shad, "cld_med_prob": cld_med_prob, "cld_hi_prob": cld_hi_prob, "thin_cir": thin_cir}
        switches = [truth(name, value) for name, value in given.items()]
        family = cm_version.upper() if isinstance(cm_version, str) and check_sensor(sensor) == SENTINEL2 else ""
        if family == "CM003":
            return cls("CM003", probability=probability, iterations=iterations)
        if family == "CM004":
            classes = tuple(c for (_, c), on in zip(_SWITCHES, switches, strict=True) if on)
            return cls("CM004", classes=classes, iterations=iterations)
        return cls.parse(cm_version, sensor)

    @property
    def name(self) -> str:
        """The mask as it stands in file and folder names."""
        if self.family == "CM002":
            return "CM002-B11"
        if self.family == "CM003":
            return f"CM003-PRB{self.probability}-ITER{self.iterations}"
        if self.family == "CM004":
            switches = "-".join(f"{switch}{int(c in self.classes)}" for switch, c in _SWITCHES)
            return f"CM004-{switches}-ITER{self.iterations}"
        if self._raster is not None:
            return f"{self.family}-{'-'.join(map(str, self.classes))}-ITER{self.iterations}"
        return self.family

    def __str__(self) -> str:
        return self.name

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the rasters it is computed from, of one grid; empty for OCM, which is only read, and ``none``."""
        if self._raster is not None:
            return (self.family,)
        return {
            "CM001": ("CLDPRB",),
            "CM002": ("CLDPRB", "B11"),
            "CM003": ("CLDPRB",),
            "CM004": ("SCL",),
        }.get(self.family, ())

    @property
    def bands(self) -> tuple[str, ...]:
        """Those of `inputs` that are bands, whose reflectance it needs."""
        return tuple(name for name in self.inputs if self.sensor.band(name))

    @property
    def reach(self) -> int:
        """Largest distance at which an input can change the mask, in pixels of the inputs (20 m for Sentinel-2)."""
        return {"CM001": 6, "CM002": 12}.get(self.family, 2 * self.iterations)

    def stored(
        self, product: ProductId, suffixes: Iterable[str], is_ours: Callable[[str], bool] = lambda _: False
    ) -> str | None:
        """Choose among the mask files of a product the one that holds exactly this mask, if any can be trusted.

        Parameters
        ----------
        product
            The product the files belong to.
        suffixes
            The mask suffixes found in the archive.
        is_ours
            Tells whether the file of a suffix was written by sen2chain. It is asked about masks only that the original
            program wrote with errors.
        """
        if self.family == "OCM":
            versions = [s for s in suffixes if _OCM.fullmatch(s)]
            return max(versions, key=lambda s: [int(n) for n in re.findall(r"\d+", s)], default=None)
        if self.family == NO_MASK or self.name not in set(suffixes):
            return None
        endless = self.family == "CM003" and self.iterations == 0  # the original dilated these without end
        raw = self.family == "CM002" and product.baseline >= _OFFSET_BASELINE
        return None if (endless or raw) and not is_ours(self.name) else self.name

    def compute(self, rasters: Mapping[str, npt.NDArray[np.generic]]) -> Bools:
        """Compute the mask of a scene or of a window of it.

        Parameters
        ----------
        rasters
            One (rows, cols) array for each of `inputs`: classes (uint8), bits, CLDPRB percent, B11 as reflectance with
            NaN where there is no data (no reflectance is not a dark one).

        Returns
        -------
        numpy.ndarray
            (rows, cols) of bool, True where masked. Outside of the arrays counts as clear; in a window the outer
            `reach` pixels are therefore only right where the window ends with the scene.
        """
        if self.family in {"CM001", "CM002"}:
            cloud = dilate(_erode_cross(np.asarray(rasters["CLDPRB"]) > 25), DISK11)
            if self.family == "CM001":
                return cloud
            dark = dilate(np.asarray(rasters["B11"]) < 0.15, DISK11)
            return dilate(cloud & ~dark, DISK13)
        if self.family == "CM003":
            cloud = np.asarray(rasters["CLDPRB"]) >= self.probability
        elif self._raster is not None and self._raster.kind == "bits":
            bits = np.asarray(rasters[self.family])
            cloud = (bits & bits.dtype.type(sum(1 << bit for bit in self.classes))) != 0
        elif self.inputs:
            lookup = np.zeros(256, dtype=bool)
            lookup[list(self.classes)] = True
            cloud = lookup[np.asarray(rasters[self.inputs[0]], dtype=np.uint8)]
        else:
            raise RequestError(f"{self.name} is not computed: OCM is only read, and none masks nothing.")
        for _ in range(self.iterations):
            cloud = dilate(cloud, SQUARE5)
        return cloud


def _short(text: str) -> str | None:
    """Return the full name that a short name, or a name without parameters, stands for; None for other texts."""
    names = {**SHORT, **{full: full for full in SHORT.values()}}
    return next((full for name, full in names.items() if text.isascii() and name.upper() == text.upper()), None)


# Dilations that carry a cloud over 40 km; more cover a tile.
_MOST = 1000


def _checked_numbers(probability: object, iterations: object) -> tuple[int, int]:
    """Return the two numbers of masks; raise `RequestError` if one of them cannot be used."""
    return (
        whole_number("probability", probability, 0, 100, "whole percentages"),
        whole_number("iterations", iterations, 0, _MOST),
    )


def dilate(image: Bools, kernel: tuple[int, ...]) -> Bools:
    """Dilate by a centred kernel given as its number of set pixels per row; outside counts as False.

    Works on whole shifted rows, which is many times faster than a general structuring element: the kernels are
    unions of centred runs, so each distinct run is spread sideways once and then shifted up and down.
    """
    spread = {1: image}
    current, done = image, 0
    for half in range(1, max(kernel) // 2 + 1):
        grown = current.copy()
        grown[:, half:] |= image[:, :-half]
        grown[:, :-half] |= image[:, half:]
        current, done = grown, half
        spread[2 * done + 1] = current
    out = np.zeros_like(image)
    middle = len(kernel) // 2
    for i, width in enumerate(kernel):
        shift = i - middle
        if abs(shift) >= image.shape[0]:
            continue
        if shift < 0:
            out[:shift] |= spread[width][-shift:]
        elif shift > 0:
            out[shift:] |= spread[width][:-shift]
        else:
            out |= spread[width]
    return out


def _erode_cross(image: Bools) -> Bools:
    """Erode by the 3 x 3 cross; outside counts as False."""
    out = np.zeros_like(image)
    out[1:-1, 1:-1] = image[1:-1, 1:-1] & image[:-2, 1:-1] & image[2:, 1:-1] & image[1:-1, :-2] & image[1:-1, 2:]
    return out
