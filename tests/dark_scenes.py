"""Digital numbers of simulated scenes under simulated skies, to test how offsets are told from pixels.

The offset is an additive constant of all bands. The only sky that looks the same adds about 0.1 to all bands evenly
and is not noticed by the scene classification; no scene here has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.demo import land
from sen2chain.demo.noise import Noise

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Array = npt.NDArray[Any]

RED, NIR = (land.SPECTRAL_BANDS.index(band) for band in ("B04", "B08"))
MATERIALS: Mapping[str, Any] = {
    "canopy": land.CANOPY[[RED, NIR]],
    "forest": land.FOREST[[RED, NIR]],
    "soil": land.SOIL[[RED, NIR]],
    "stone": land.STONE[[RED, NIR]],
    "water": land.WATER[[RED, NIR]],
    "deep sea": (0.008, 0.004),
    "sand": (0.36, 0.44),
    "gravel": (0.22, 0.25),
    "basalt": (0.09, 0.10),
    "steppe": (0.16, 0.25),
    "savanna": (0.10, 0.24),
    "snow": (0.85, 0.80),
    "firn": (0.60, 0.50),
}
"""Name -> reflectance in B04 and B08."""
SCENES = {
    "crops": ("canopy", "soil", "forest", "water"),
    "winter": ("soil", "stone", "forest"),
    "coast": ("water", "canopy"),
    "snow and forest": ("snow", "forest"),
    "oasis": ("sand", "sand", "sand", "canopy"),
    "basalt": ("basalt", "gravel"),
    "sea": ("deep sea",),
    "savanna": ("savanna", "steppe"),
    "sand": ("sand", "gravel"),
    "snow": ("snow", "firn"),
}
"""Name -> materials."""
SKIES: Mapping[str, Mapping[str, Any]] = {
    "clear": {},
    "half clouded": {"cloud": 0.5},
    "nearly clouded": {"cloud": 0.95},
    "clouded": {"cloud": 1.0},
    "thin haze": {"haze": 0.04, "uneven": 0.01},
    "haze": {"haze": 0.10, "uneven": 0.02},
    "thick haze": {"haze": 0.16, "uneven": 0.03},
}
"""Name -> arguments of `simulate`."""
_VEGETATION, _BARE, _WATER, _CLOUD, _CIRRUS = 4, 5, 6, 9, 10
_NOISE = 60.0  # DN at a reflectance of 0.1, as in the demo


def simulate(
    scene: str, seed: int = 0, size: int = 96, cloud: float = 0.0, haze: float = 0.0, uneven: float = 0.0
) -> dict[str, Array]:
    """Return DNs without offset of B04 and B08, which may be negative, and the scene classes of SCL.

    Parameters
    ----------
    scene
        A name of `SCENES`.
    seed, size
        Seed of all random fields, and pixels along an edge.
    cloud
        Share under cloud.
    haze, uneven
        Mean of the haze's share of the light, and its variation over the scene.
    """
    rng = np.random.default_rng((seed, 11))

    def smooth(coarse: float) -> Array:
        y, x = np.mgrid[0:size, 0:size] * 100.0
        return Noise.draw((int(rng.integers(1 << 30)),), coarse, 3).at(x, y)

    names = SCENES[scene]
    kind = np.stack([smooth(1500) for _ in names]).argmax(0)
    light = np.clip(1 + 0.08 * smooth(900), 0.5, 1.5)
    above = smooth(2500)
    opacity = np.clip(0.7 + 0.1 * above, 0.5, 1) if cloud == 1 else np.zeros((size, size))
    if 0 < cloud < 1:
        excess = above - np.quantile(above, 1 - cloud)
        opacity = np.where(excess > 0, np.clip(0.06 + excess, 0, 1), 0)
    veil = np.clip(haze + uneven * smooth(4000), 0, 1) if haze else np.zeros((size, size))
    found: dict[str, Array] = {}
    clean = np.array([MATERIALS[name] for name in names])[kind]
    varied = np.array([np.multiply(MATERIALS[name], rng.uniform(0.9, 1.1)) for name in names])[kind]
    for k, band in enumerate(("B04", "B08")):
        seen = varied[..., k] * light * (1 - veil) + veil
        numbers = (seen * (1 - opacity) + 0.62 * opacity) * 10_000
        noise = _NOISE * np.sqrt(np.maximum(numbers, 20) / 1000)
        found[band] = np.rint(numbers + noise * rng.standard_normal((size, size)))
    red, infrared = clean[..., 0], clean[..., 1]
    ground = np.where(infrared < 0.8 * red, _WATER, _BARE)
    classes = np.where((infrared - red) / (infrared + red) > 0.4, _VEGETATION, ground)
    classes = np.where(veil > 0.06, _CIRRUS, classes)
    found["SCL"] = np.where(opacity > 0.05, _CLOUD, classes).astype(np.uint8)
    return found


def stored(scene: Mapping[str, Array], *, included: bool, shift: int = 0) -> dict[str, Array]:
    """Return a scene as a provider stores it: with the offset, or with it subtracted and clipped at 0.

    Parameters
    ----------
    scene
        What `simulate` returns, or bands of a product without offset.
    included
        Whether the offset is in.
    shift
        DN added before, so that more of the reflectance is negative.
    """
    found = {}
    for name, values in scene.items():
        if name == "SCL":
            found[name] = values
        elif included:
            found[name] = np.clip(values + shift + 1000, 1, 32767).astype(np.uint16)
        else:
            found[name] = np.clip(values + shift, 0, 32767).astype(np.uint16)
    return found
