"""Write the table of indices by name, ``src/sen2chain/index_catalogue.json``, from Awesome Spectral Indices.

Run it by hand, with the package ``spyndex`` installed, which carries the catalogue (MIT licence):

    .venv/bin/python tools/make_index_catalogue.py

Each formula that needs only bands of the 10 m and 20 m grids is translated to the names of these bands, with the
catalogue's default values in place of its constants. Translated and original formulas are then evaluated on the same
reflectances, and the program stops where they differ. Left out are indices of other bands (radar, thermal, 60 m), of
kernels, of constants without a default, and those that have both name and formula of one of the twelve.

The same reflectances give each index its scale and its range for pictures; see `surfaces`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.indices import INDICES, Index

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

TABLE = Path(__file__).resolve().parents[1] / "src" / "sen2chain" / "index_catalogue.json"
COLUMNS = ("name", "formula", "title", "domain", "reference", "scale", "low", "high", "same_as", "shows")

BANDS = {
    "B": "B02", "G": "B03", "R": "B04", "RE1": "B05", "RE2": "B06", "RE3": "B07", "N": "B08", "N2": "B8A",
    "S1": "B11", "S2": "B12",
}  # fmt: skip
"""The catalogue's name of a band -> Sentinel-2's."""

TYPICAL = {  # B02 B03 B04 B05 B06 B07 B08 B8A B11 B12
    "forest": (0.020, 0.035, 0.022, 0.060, 0.190, 0.240, 0.260, 0.270, 0.120, 0.055),
    "rain forest": (0.012, 0.028, 0.010, 0.045, 0.200, 0.270, 0.300, 0.310, 0.100, 0.040),
    "crop in growth": (0.030, 0.065, 0.030, 0.100, 0.330, 0.440, 0.470, 0.480, 0.190, 0.090),
    "grass": (0.045, 0.080, 0.060, 0.125, 0.260, 0.300, 0.320, 0.335, 0.240, 0.140),
    "dry plants": (0.070, 0.105, 0.140, 0.180, 0.215, 0.235, 0.250, 0.270, 0.350, 0.260),
    "dark soil": (0.050, 0.065, 0.080, 0.095, 0.105, 0.115, 0.125, 0.135, 0.200, 0.170),
    "bright soil": (0.120, 0.170, 0.230, 0.260, 0.280, 0.300, 0.310, 0.325, 0.420, 0.380),
    "sand": (0.180, 0.270, 0.360, 0.390, 0.405, 0.420, 0.430, 0.440, 0.520, 0.480),
    "town": (0.110, 0.130, 0.145, 0.160, 0.180, 0.195, 0.205, 0.215, 0.230, 0.200),
    "burnt": (0.035, 0.042, 0.050, 0.060, 0.072, 0.082, 0.090, 0.100, 0.170, 0.190),
    "clear water": (0.045, 0.035, 0.018, 0.012, 0.009, 0.008, 0.007, 0.006, 0.004, 0.003),
    "muddy water": (0.070, 0.100, 0.110, 0.105, 0.065, 0.060, 0.050, 0.045, 0.012, 0.008),
    "snow": (0.850, 0.840, 0.820, 0.810, 0.800, 0.790, 0.780, 0.760, 0.120, 0.100),
}
"""Reflectances of surfaces, as they are known from the literature; they only have to be plausible."""
SAMPLES = 200_000

PUBLISHED = {
    "NDWIMCF": "NDWI", "NDWIGAO": ("vegetation", "https://doi.org/10.1016/S0034-4257(96)00067-3"), "NDRE": "NDREI",
    "BIGR": "BIXS", "BIRNIR": ("soil", ""), "BIBG": ("soil", ""),
}  # fmt: skip
"""Of the twelve under another name: their name in the catalogue, or their domain and the address of the publication."""


def surfaces() -> dict[str, Floats]:
    """Return reflectances of mixed and noisy surfaces, (samples,) by band, from 0.001 to 1.2; always the same.

    Each sample mixes two surfaces, is brighter or darker by about a third, and has a tenth of noise in each band.
    """
    rng = np.random.default_rng(15)
    pure = np.array(list(TYPICAL.values()))
    share = rng.uniform(0.0, 1.0, (SAMPLES, 1)) ** 2
    one, other = pure[rng.integers(0, len(pure), (2, SAMPLES))]
    mixed = (1.0 - share) * one + share * other
    mixed *= np.exp(rng.normal(0.0, 0.3, (SAMPLES, 1))) * np.exp(rng.normal(0.0, 0.1, mixed.shape))
    return dict(zip(BANDS.values(), np.clip(mixed, 0.001, 1.2).T, strict=True))


def translated(entry: dict[str, Any], constants: dict[str, Any]) -> str | None:
    """Return a formula of the catalogue with the names of our bands; None where it needs something else."""
    own: dict[str, str] = dict(BANDS)
    for name in entry["bands"]:
        if name not in own:
            default = constants.get(name, {}).get("default")
            if default is None:
                return None
            own[name] = f"{default:.15g}"
    text = entry["formula"].replace(" ", "")
    return re.sub(r"[A-Za-z]\w*", lambda match: own.get(match[0], match[0]), text)


def original_values(entry: dict[str, Any], constants: dict[str, Any], bands: dict[str, Floats]) -> Floats:
    """Evaluate a formula as the catalogue has it."""
    names = {name: bands[own] for name, own in BANDS.items()}
    names |= {name: constants[name]["default"] for name in entry["bands"] if name not in names}
    with np.errstate(all="ignore"):
        value = eval(entry["formula"], {"__builtins__": {}}, names)  # noqa: S307  # a published table, on purpose
    return np.asarray(value, dtype=np.float64)


def scale_of(values: Floats) -> int:
    """Return the largest power of ten with which three times what 98 of 100 values stay within fits into 16 bits.

    What lies still further out is next to where a denominator is 0.
    """
    wanted = 3.0 * float(np.quantile(np.abs(values), 0.98))
    return next((10**power for power in (4, 3, 2, 1) if wanted * 10**power <= 32766), 1)


def range_of(values: Floats) -> tuple[float, float]:
    """Return a range for pictures: all but the lowest and the highest fiftieth, widened to round numbers."""
    low, high = (float(v) for v in np.quantile(values, (0.02, 0.98)))
    step = 10.0 ** math.floor(math.log10(high - low))
    step = next(part for part in (step, step / 2, step / 5, step / 10) if (high - low) / part >= 5)
    return round(math.floor(low / step) * step, 10), round(math.ceil(high / step) * step, 10)


def has_range(values: Floats) -> bool:
    """Whether most values fill the range, so that it suits every layer; not where few are very far from the others."""
    lowest, low, high, highest = np.quantile(values, (0.02, 0.1, 0.9, 0.98))
    return bool(highest - lowest <= 2.3 * (high - low))


def shown_by(index: Index, domain: str, low: float, high: float) -> str:
    """Return what an index is high on, so that a picture may show it in these colours: leaf, water, or none of both."""
    pure = dict(zip(BANDS.values(), np.array(list(TYPICAL.values())).T, strict=True))
    place = dict(zip(TYPICAL, (exact(index, pure) - low) / (high - low), strict=True))
    leaf = np.mean([place[name] for name in ("forest", "rain forest", "crop in growth", "grass")])
    bare = np.mean([place[name] for name in ("dark soil", "bright soil", "sand", "town")])
    if domain == "vegetation" and leaf - bare > 0.25:
        return "leaf"
    return "water" if domain == "water" and place["clear water"] - max(leaf, bare) > 0.25 else ""


def same_as(formula: Floats, twelve: dict[str, Floats]) -> str:
    """Return the one of the twelve that has the same values; an empty text where none has."""
    return next((name for name, own in twelve.items() if np.allclose(formula, own, rtol=1e-9, atol=1e-12)), "")


def exact(index: Index, bands: dict[str, Floats]) -> Floats:
    """Evaluate a formula of ours without rounding, NaN where it is undefined."""
    return index.evaluate({band: bands[band] for band in index.bands})


def rows(catalogue: dict[str, Any], constants: dict[str, Any]) -> list[list[Any]]:
    """Return a row of `COLUMNS` for each index that we can compute, by name."""
    bands = surfaces()
    twelve = {name: exact(index, bands) for name, index in INDICES.items()}
    found = []
    for name, entry in sorted(catalogue.items(), key=lambda item: (item[0].casefold(), item[0])):
        formula = translated(entry, constants)
        if formula is None:
            continue
        values = exact(Index(name, formula), bands)
        defined = np.isfinite(values)
        if not np.allclose(values[defined], original_values(entry, constants, bands)[defined], rtol=1e-9, atol=1e-12):
            raise SystemExit(f"{name}: {formula} does not give the values of {entry['formula']}.")
        twin = same_as(values, twelve)
        if twin == name:
            continue
        title, domain, reference = entry["long_name"], entry["application_domain"], entry["reference"]
        scale, (low, high) = scale_of(values[defined]), range_of(values[defined])
        shows = shown_by(Index(name, formula), domain, low, high)
        known = [low, high] if has_range(values[defined]) else [None, None]
        found.append([name, formula, title, domain, reference, scale, *known, twin, shows])
    return found


def of_the_twelve(catalogue: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return domain and reference of the twelve."""
    found: dict[str, tuple[str, ...]] = {}
    for name in INDICES:
        known = PUBLISHED.get(name, name)
        if isinstance(known, str):
            known = (catalogue[known]["application_domain"], catalogue[known]["reference"])
        found[name] = tuple(known)
    return found


def main() -> None:
    """Write the table."""
    data = importlib.resources.files("spyndex") / "data"
    catalogue = json.loads((data / "spectral-indices-dict.json").read_text(encoding="utf-8"))["SpectralIndices"]
    constants = json.loads((data / "constants.json").read_text(encoding="utf-8"))
    distribution = importlib.metadata.distribution("spyndex")
    licence = next(file for file in distribution.files or () if file.name == "LICENSE")
    head = {
        "source": "Awesome Spectral Indices, by David Montero Loaiza and contributors, "
        f"from spyndex {distribution.version}",
        "url": "https://github.com/awesome-spectral-indices/awesome-spectral-indices",
        "licence": licence.read_text(encoding="utf-8"),
        "written_by": "tools/make_index_catalogue.py",
        "twelve": of_the_twelve(catalogue),
        "columns": COLUMNS,
    }
    table = rows(catalogue, constants)
    parts = [f'"{key}": {json.dumps(value)}' for key, value in head.items()]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in table)
    TABLE.write_text("{\n" + ",\n".join([*parts, f'"indices": [\n{lines}\n]']) + "\n}\n", encoding="utf-8")
    print(f"{TABLE}: {len(table)} of {len(catalogue)} indices of spyndex {distribution.version}")


if __name__ == "__main__":
    main()
