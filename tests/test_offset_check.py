"""Offsets told from pixels: real products and simulated scenes with the offset in and subtracted."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.io import MemoryFile

from dark_scenes import SCENES, SKIES, simulate, stored
from sen2chain.archive.offset_check import CLASSES, Verdict, look

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    Array = npt.NDArray[Any]

SUBTRACTED, INCLUDED, UNDECIDED = Verdict.SUBTRACTED, Verdict.INCLUDED, Verdict.UNDECIDED
VEGETATED = ("crops", "winter", "coast", "snow and forest", "oasis")
DARK = (*VEGETATED, "basalt")


def read(folder: Path, band: str, metres: int) -> Array:
    (path,) = folder.glob(f"GRANULE/*/IMG_DATA/R{metres}m/*_{band}_{metres}m.jp2")
    with rasterio.open(path) as opened:
        values: Array = opened.read(1)
    return values


def subtracted(bands: Mapping[str, Array]) -> dict[str, Array]:
    """Return what a provider makes of ESA's DNs by subtracting the offset."""
    return {b: v if b == CLASSES else np.where(v < 1000, 0, v - 1000).astype(v.dtype) for b, v in bands.items()}


def smaller(bands: Mapping[str, Array], times: int, resampling: str) -> dict[str, Array]:
    """Make smaller pictures: the middle pixel of each square, or the average with or without pixels without data."""
    found = {}
    for name, values in bands.items():
        rows, columns = (n // times * times for n in values.shape)
        squares = values[:rows, :columns].reshape(rows // times, times, columns // times, times)
        if resampling == "nearest" or name == CLASSES:
            found[name] = squares[:, times // 2, :, times // 2]
            continue
        count = times**2 if resampling == "average of all" else np.maximum((squares > 0).sum((1, 3)), 1)
        found[name] = (squares.sum((1, 3), dtype=np.float64) / count).round().astype(values.dtype)
    return found


@pytest.fixture(scope="module")
def ireland(shared_data: Path) -> dict[str, Array]:
    (folder,) = (shared_data / "ireland" / "L2A" / "29UNU").glob("*.SAFE")
    return {band: read(folder, band, 60) for band in ("B03", "B04", "B8A", "SCL")}


@pytest.mark.parametrize("resampling", ["nearest", "average", "average of all"])
@pytest.mark.parametrize("times", [1, 4, 16])
def test_a_real_product_shows_its_offset_in_pictures_of_any_size(
    ireland: dict[str, Array], times: int, resampling: str
) -> None:
    kept = look(smaller(ireland, times, resampling))
    assert kept.verdict is INCLUDED
    assert max(kept.dark_share.values()) < 0.007
    lost = look(smaller(subtracted(ireland), times, resampling))
    assert lost.verdict is SUBTRACTED
    assert all(0.38 < share < 0.43 for share in lost.dark_share.values())


@pytest.mark.parametrize("resampling", [Resampling.cubic, Resampling.lanczos, Resampling.bilinear])
def test_pictures_with_values_beyond_those_of_their_pixels_give_no_wrong_verdict(
    ireland: dict[str, Array], resampling: Resampling
) -> None:
    """Dark pixels beside clouds are too dark in such pictures: with eight times larger pixels of 60 m, up to 0.05 %."""

    def picture(values: Array, how: Resampling) -> Array:
        place: dict[str, Any] = {"height": values.shape[0], "width": values.shape[1], "count": 1, "dtype": values.dtype}
        place |= {"crs": "EPSG:32629", "transform": Affine(60, 0, 0, 0, -60, 0)}
        with MemoryFile() as memory:
            with memory.open(driver="GTiff", **place) as sink:
                sink.write(values, 1)
                sink.build_overviews([8], how)
            with memory.open(overview_level=0) as opened:
                smaller: Array = opened.read(1)
        return smaller

    names = ("B04", "B8A", "SCL")
    for bands, verdict in ((ireland, INCLUDED), (subtracted(ireland), SUBTRACTED)):
        small = {b: picture(bands[b], Resampling.nearest if b == "SCL" else resampling) for b in names}
        assert small["B04"].shape == (229, 229)
        assert look(small).verdict in ({verdict, UNDECIDED} if resampling is Resampling.lanczos else {verdict})


def test_clear_and_clouded_dates_of_a_real_place(bolzano: Path) -> None:
    folders = sorted((bolzano / "L2A" / "32TPS").glob("*.SAFE"))
    found = {}
    for folder in folders:
        bands = {band: read(folder, band, 10) for band in ("B04", "B08")}
        bands["SCL"] = read(folder, "SCL", 20).repeat(2, 0).repeat(2, 1)
        found[folder.name[11:19]] = look(bands).verdict, look(subtracted(bands)).verdict
    clouded = {"20220605", "20220607", "20220622"}
    assert found == {day: (UNDECIDED,) * 2 if day in clouded else (INCLUDED, SUBTRACTED) for day in found}
    assert len(found) == 12


@pytest.mark.parametrize("scene", SCENES)
def test_no_scene_under_any_sky_gives_a_wrong_verdict(scene: str) -> None:
    right = 0
    for number, (sky, shift) in enumerate(itertools.product(SKIES, (0, -60))):
        bands = simulate(scene, number, **SKIES[sky])
        kept = look(stored(bands, included=True, shift=shift)).verdict
        lost = look(stored(bands, included=False, shift=shift)).verdict
        assert kept in {INCLUDED, UNDECIDED}, sky
        assert lost in {SUBTRACTED, UNDECIDED}, sky
        if sky in {"clear", "half clouded"}:
            right += (kept is INCLUDED) + (lost is SUBTRACTED)
        if sky == "clouded":
            assert kept is lost is UNDECIDED
    # Of both skies, with and without much negative reflectance.
    assert right >= (8 if scene in VEGETATED else 4 if scene in DARK else 0)


def test_water_a_little_below_zero_is_not_an_offset_that_was_subtracted() -> None:
    bands = simulate("sea")
    kept = look(stored(bands, included=True, shift=-100))
    assert kept.dark_share["B04"] > 0.5
    assert kept.verdict is UNDECIDED


def test_blue_does_not_decide() -> None:
    bands = stored(simulate("crops"), included=False)
    assert look(bands).verdict is SUBTRACTED
    assert look({"B02": bands["B04"], "B08": bands["B08"], "SCL": bands["SCL"]}).verdict is UNDECIDED
    assert look({"B03": bands["B04"]}).verdict is SUBTRACTED


@pytest.mark.parametrize("size", [35, 36])
def test_few_valid_pixels_decide_nothing(size: int) -> None:
    """35 x 35 valid pixels have 31 x 31 without a neighbour that may be mixed with pixels without data."""
    scene = simulate("coast", cloud=0)
    for included, verdict in ((True, INCLUDED), (False, SUBTRACTED)):
        bands = stored(scene, included=included)
        for name in ("B04", "B08"):
            inside = np.maximum(bands[name][:size, :size], 1)
            bands[name] = np.zeros_like(bands[name])
            bands[name][10 : 10 + size, 10 : 10 + size] = inside
        bands["SCL"][10 : 10 + size, 10 : 10 + size] = scene["SCL"][:size, :size]
        found = look(bands)
        assert found.pixels == (size - 4) ** 2
        assert found.verdict is (verdict if size == 36 else UNDECIDED)


def test_pixels_along_the_edge_of_a_swath_do_not_count() -> None:
    bands = {
        name: values.repeat(8, 0).repeat(8, 1) for name, values in stored(simulate("crops"), included=True).items()
    }
    row, column = np.ogrid[: bands["B04"].shape[0], : bands["B04"].shape[1]]
    for name in ("B04", "B08"):
        bands[name][(row // 3 + column) % 200 < 90] = 0
    pictures = smaller(bands, 8, "average of all")
    valid = pictures["B04"][pictures["B04"] > 0]
    assert (valid < 800).mean() > 0.02  # these pixels alone would say that the offset was subtracted
    assert look(pictures).verdict is not SUBTRACTED
    assert look(pictures).dark_share["B04"] == 0


def test_infrared_and_classes_are_asked_for_only_where_they_may_decide() -> None:
    for scene, included, asked in (("crops", True, True), ("crops", False, False), ("sand", True, False)):
        bands = stored(simulate(scene), included=included)
        for some in (["B04"], ["B04", "B08"], ["B04", "SCL"]):
            found = look({name: bands[name] for name in some})
            assert found.more_may_decide is asked
            assert (found.verdict is SUBTRACTED) is not included
        assert not look(bands).more_may_decide
