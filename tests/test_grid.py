from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pyproj
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from sen2chain.errors import GridMismatchError, RequestError
from sen2chain.grid import Bounds, Grid, nominal_grid

if TYPE_CHECKING:
    from pathlib import Path

UTM = "EPSG:32632"


def grid(left: float, top: float, pixel: float, rows: int, columns: int, crs: str = UTM) -> Grid:
    return Grid(crs, (pixel, 0.0, left, 0.0, -pixel, top), (rows, columns))


def test_a_grid_is_a_value() -> None:
    a, b = grid(600000, 5200020, 10, 3, 4), grid(600000, 5200020, 10, 3, 4)
    assert len({hash(x) for x in (a, b, grid(600000, 5200020, 10, 4, 3))}) == 2
    assert a.bounds == Bounds(600000, 5199990, 600040, 5200020)
    assert a.pixel_xy == (10.0, 10.0)
    oblong = Grid(UTM, (5.0, 0.0, 0.0, 0.0, -2.0, 8.0), (4, 3))
    assert oblong.bounds == Bounds(0, 0, 15, 8)
    assert oblong.pixel_xy == (5.0, 2.0)


@pytest.mark.parametrize(
    "transform",
    [(10, 1, 0, 0, -10, 0), (10, 0, 0, 1, -10, 0), (10, 0, 0, 0, 10, 0), (-10, 0, 0, 0, -10, 0), (0, 10, 0, 10, 0, 0)],
)
def test_rotated_or_flipped(transform: tuple[float, float, float, float, float, float]) -> None:
    with pytest.raises(GridMismatchError, match="not north-up"):
        Grid(UTM, transform, (3, 3))


def test_a_raster_covers_another() -> None:
    ten = grid(600000, 5200020, 10, 481, 480)
    for coarse in (ten, grid(600000, 5200020, 20, 240, 240), grid(600000, 5200020, 20, 241, 240)):
        assert coarse.covers(ten)
    assert grid(600010, 5200020, 20, 241, 240).covers(ten)
    assert grid(500000, 5300000, 20, 5490, 9000).covers(ten), "masks may be larger"
    assert not ten.covers(grid(500000, 5300000, 20, 5490, 9000))
    assert not grid(600020, 5200020, 20, 240, 240).covers(ten)
    assert not grid(600000, 5200020, 20, 239, 240).covers(ten)
    assert not grid(600000, 5200020, 20, 241, 239).covers(ten)
    assert not grid(600000, 5200020, 10, 481, 480, "EPSG:32633").covers(ten)


def test_refined() -> None:
    assert grid(600000, 5200020, 20, 240, 120).refined(10.0) == grid(600000, 5200020, 10, 480, 240)
    assert grid(600000, 5200020, 20, 240, 120).refined(10.0).bounds == grid(600000, 5200020, 20, 240, 120).bounds


# Upper left corners of tiles as their products' metadata give them.
CORNERS = {
    "29UNU": (32629, 499980, 5900040),
    "32TPS": (32632, 600000, 5200020),
    "31TCJ": (32631, 300000, 4900020),
    "40KCB": (32740, 300000, 7700020),
    "33UUP": (32633, 300000, 5400000),
}


@pytest.mark.parametrize("tile", CORNERS)
def test_nominal_of_known_tiles(tile: str) -> None:
    code, left, top = CORNERS[tile]
    assert nominal_grid(tile) == Grid(f"EPSG:{code}", (10.0, 0.0, left, 0.0, -10.0, top), (10980, 10980))


def test_nominal_of_real_rasters(shared_data: Path) -> None:
    (scl,) = shared_data.glob("ireland/L2A/29UNU/*/GRANULE/*/IMG_DATA/R20m/*_SCL_20m.jp2")
    with rasterio.open(scl) as dataset:
        real = Grid(f"EPSG:{dataset.crs.to_epsg()}", dataset.transform[:6], dataset.shape)
    assert nominal_grid("29UNU") == real.refined(10.0)
    for band in sorted(shared_data.glob("bolzano/L2A/32TPS/*/GRANULE/*/IMG_DATA/R10m/*_B02_10m.jp2"))[:1]:
        with rasterio.open(band) as dataset:
            clip, code = dataset.bounds, dataset.crs.to_epsg()
        full = nominal_grid("32TPS")
        assert full.crs == f"EPSG:{code}"
        assert full.bounds.left <= clip.left < clip.right <= full.bounds.right
        assert full.bounds.bottom <= clip.bottom < clip.top <= full.bounds.top
        assert (clip.left - full.bounds.left) % 10 == (full.bounds.top - clip.top) % 10 == 0


@pytest.mark.parametrize("tile", ["11SLT", "01KAB", "22HBD", "33XWJ", "32TQM"])
def test_nominal_holds_the_footprints_of_real_products(shared_data: Path, tile: str) -> None:
    (metadata,) = shared_data.glob(f"safe_metadata/*_T{tile}_*/MTD_MSIL2A.xml")
    (text,) = re.findall(r"<EXT_POS_LIST>([^<]+)<", metadata.read_text(encoding="utf-8"))
    numbers = np.array(text.split(), dtype=np.float64)
    numbers = numbers[numbers != 0]  # heights
    latitude, longitude = numbers.reshape(-1, 2).T
    full = nominal_grid(tile)
    x, y = pyproj.Transformer.from_crs("EPSG:4326", full.crs, always_xy=True).transform(longitude, latitude)
    left, bottom, right, top = full.bounds
    near = 60  # metres; a footprint that is cut at a meridian runs beside the tile's edge, which is straight in UTM
    assert left - near < x.min() < x.max() < right + near
    assert bottom - near < y.min() < y.max() < top + near
    # Most of its corners are the tile's.
    on_edges = [np.abs(v - edge).min() < 1 for v, edge in ((x, left), (x, right), (y, bottom), (y, top))]
    assert sum(on_edges) >= 2


@settings(max_examples=300, deadline=None)
@given(st.floats(-79.9, -0.001) | st.floats(0.001, 83.9), st.integers(1, 60), st.floats(-2.99, 2.99))
def test_nominal_holds_the_points_whose_mgrs_name_it_has(latitude: float, zone: int, east: float) -> None:
    code = (32600 if latitude >= 0 else 32700) + zone
    project = pyproj.Transformer.from_crs("EPSG:4326", f"EPSG:{code}", always_xy=True)
    x, y = project.transform(zone * 6 - 183 + east, latitude)
    # The rule of the military grid, from a point to its name.
    band = "CDEFGHJKLMNPQRSTUVWX"[min(int((latitude + 80) // 8), 19)]
    column = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")[(zone - 1) % 3][int(x // 100_000) - 1]
    row = ("ABCDEFGHJKLMNPQRSTUV", "FGHJKLMNPQRSTUVABCDE")[(zone - 1) % 2][int(y // 100_000) % 20]
    full = nominal_grid(f"{zone:02d}{band}{column}{row}")
    assert full.crs == f"EPSG:{code}"
    assert full.shape == (10980, 10980)
    left, bottom, right, top = full.bounds
    assert left <= x < right
    assert bottom <= y < top
    # The square is 100 km, the tile 109.8 km; it starts in the north-west with less than 60 m more.
    assert x // 100_000 * 100_000 - 60 < left <= x // 100_000 * 100_000
    assert 0 <= top - (y // 100_000 + 1) * 100_000 < 60
    assert left % 60 == 0
    assert (top if latitude >= 0 else 10_000_000 - top) % 60 == 0


@pytest.mark.parametrize(
    "name",
    ["", "32TP", "32TPSX", "T32TPS", "32tps", "00TPS", "61TPS", "32IPS", "32OPS", "32BPS", "32YPS", "32TIS", "32TPW",
     "32TPI", "32TAS", "32TPS\n", "3 TPS", "-1TPS"],
)  # fmt: skip
def test_no_tile(name: str) -> None:
    with pytest.raises(RequestError, match="not the name of an MGRS tile"):
        nominal_grid(name)


def test_nearest_by_hand() -> None:
    ten, twenty = grid(0, 100, 10, 10, 6), grid(0, 100, 20, 5, 3)
    assert ten.nearest_in(twenty, 0).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert ten.nearest_in(twenty, 1).tolist() == [0, 0, 1, 1, 2, 2]
    assert twenty.nearest_in(ten, 1).tolist() == [1, 3, 5]  # on an edge: the pixel east and south of it
    assert ten.nearest_in(ten, 0).tolist() == list(range(10))
    assert ten.nearest_in(grid(-20, 130, 10, 20, 20), 0).tolist() == [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    assert ten.nearest_in(grid(-20, 130, 10, 20, 20), 1).tolist() == [2, 3, 4, 5, 6, 7]
    # Kept inside: an odd clip whose 20 m raster is half a pixel short.
    assert grid(0, 100, 10, 11, 5).nearest_in(twenty, 0).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4]
    assert ten.nearest_in(grid(15, 100, 20, 5, 3), 1).tolist() == [0, 0, 0, 1, 1, 2]
    assert ten.nearest_in(twenty, 0).dtype == np.int32


def test_bilinear_by_hand() -> None:
    ten, twenty = grid(0, 100, 10, 10, 6), grid(0, 100, 20, 5, 3)
    first, share = ten.bilinear_in(twenty, 1)
    assert first.tolist() == [0, 0, 0, 1, 1, 1]
    assert share.tolist() == [0.0, 0.25, 0.75, 0.25, 0.75, 1.0]
    first, share = ten.bilinear_in(ten, 0)
    assert (first + share).tolist() == list(range(10))
    first, share = ten.bilinear_in(grid(0, 100, 60, 2, 1), 1)
    assert (first.tolist(), share.tolist()) == ([0] * 6, [0.0] * 6)
    assert first.dtype.name == "int32"
    assert share.dtype.name == "float64"


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([(10, 20), (10, 60), (20, 60), (10, 10), (20, 10)]),
    st.integers(2, 30),
    st.integers(-3, 3),
    st.integers(0, 1),
)
def test_maps_lead_back_to_the_place(pixels: tuple[int, int], n: int, shift: int, axis: int) -> None:
    fine = grid(600000, 5200020, pixels[0], n, n)
    other = grid(600000 + shift * 10, 5200020 + shift * 10, pixels[1], n, n)
    first, share = fine.bilinear_in(other, axis)
    assert ((first >= 0) & (first + (share > 0) < n) & (share >= 0) & (share <= 1)).all()
    sign, start, o_start = (1, 600000, 600000 + shift * 10) if axis else (-1, 5200020, 5200020 + shift * 10)
    here = start + sign * (np.arange(n) + 0.5) * pixels[0]
    centres = o_start + sign * (np.arange(n) + 0.5) * pixels[1]
    expected = np.clip(here, *sorted((centres[0], centres[-1])))
    np.testing.assert_allclose(centres[first] + share * sign * pixels[1], expected, rtol=0, atol=1e-6)
    nearest = fine.nearest_in(other, axis)
    distance = np.abs(centres[nearest] - np.clip(here, *sorted((centres[0], centres[-1]))))
    assert (distance <= pixels[1] / 2).all()
