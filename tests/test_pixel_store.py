"""Kept pixels on disk: positions against numpy's own sets, values there and back, damaged files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sen2chain.grid import Grid
from sen2chain.pixel_store import (
    CHUNK_ROWS,
    KeptValues,
    PixelFile,
    PixelPositions,
    TilePositions,
    bilinear_positions,
    kept_location,
    load_positions,
    nearest_positions,
    pixel_file,
    positions_path,
    split_kept,
)
from sen2chain.pixel_store.pixel_codec import DamagedCodeError, decode, encode

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Bools = npt.NDArray[np.bool_]

SHAPE = (23, 31)


def grid(shape: tuple[int, int] = SHAPE, pixel: float = 10.0, left: float = 600_000.0) -> Grid:
    return Grid("EPSG:32632", (pixel, 0.0, left, 0.0, -pixel, 5_200_020.0), shape)


@st.composite
def runs(draw: st.DrawFn, shape: tuple[int, int] = SHAPE) -> list[tuple[int, int, int]]:
    """Any runs inside a grid: overlapping, touching, unordered."""
    rows, columns = shape
    found = []
    for _ in range(draw(st.integers(0, 12))):
        column = draw(st.integers(0, columns - 1))
        found.append((draw(st.integers(0, rows - 1)), column, draw(st.integers(1, columns - column))))
    return found


def positions_of(found: list[tuple[int, int, int]], of: Grid | None = None) -> PixelPositions:
    array = np.array(found, np.int32).reshape(-1, 3)
    return PixelPositions.of_runs(of or grid(), array[:, 0], array[:, 1], array[:, 2])


def image_of(found: list[tuple[int, int, int]], shape: tuple[int, int] = SHAPE) -> Bools:
    image = np.zeros(shape, np.bool_)
    for row, column, length in found:
        image[row, column : column + length] = True
    return image


def mask_of(positions: PixelPositions) -> Bools:
    image = np.zeros(positions.grid.shape, np.bool_)
    image[positions.coordinates()] = True
    return image


@given(runs())
def test_the_union_of_runs_is_the_set_of_their_pixels(found: list[tuple[int, int, int]]) -> None:
    positions, image = positions_of(found), image_of(found)
    assert (mask_of(positions) == image).all()
    assert positions.size == image.sum()
    assert (np.argwhere(image) == np.transpose(positions.coordinates())).all(), "values come row by row"
    same = positions.row[1:] == positions.row[:-1]
    assert (positions.column[1:][same] > (positions.column + positions.length)[:-1][same]).all(), "runs do not touch"
    assert positions.digest == positions_of(found[::-1]).digest


@given(runs(), st.integers(1, 23), st.sampled_from(["uint8", "uint16", "int16", "float64"]))
def test_values_are_taken_and_put_strip_by_strip(found: list[tuple[int, int, int]], height: int, dtype: str) -> None:
    positions, chosen = positions_of(found), image_of(found)
    image = np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE).astype(dtype)
    assert (positions.take(image) == image[chosen]).all()
    back = np.full(SHAPE, 99, dtype)
    taken = []
    for row0 in range(0, SHAPE[0], height):
        strip = np.ascontiguousarray(image[row0 : row0 + height])
        part = positions.take(strip, row0)
        taken.append(part)
        cut = positions.values_of_rows(row0, row0 + height)
        assert part.shape == (cut.stop - cut.start,)
        positions.put(part, back[row0 : row0 + height], row0)
    assert (np.concatenate(taken) == image[chosen]).all()
    assert (back == np.where(chosen, image, np.array(99, dtype))).all()


@given(runs(), runs())
def test_runs_are_inside_if_all_their_pixels_are(
    found: list[tuple[int, int, int]], asked: list[tuple[int, int, int]]
) -> None:
    positions, image = positions_of(found), image_of(found)
    array = np.array([*asked, *found], np.int32).reshape(-1, 3)
    expected = [image[row, column : column + length].all() for row, column, length in array]
    assert positions.holds(*array.T).tolist() == expected
    vector = np.cumsum(image.ravel()) - 1
    where = positions.find(*array.T)
    places = vector.reshape(SHAPE)[array[:, 0], array[:, 1]]
    assert (where == np.where(expected, places, -1)).all()


COARSE = {
    "20 m": grid((12, 16), 20.0),
    "20 m, cut": grid((11, 15), 20.0),
    "60 m": grid((4, 6), 60.0),
    "moved": grid((4, 6), 60.0, 599_980.0),
    "one": grid((1, 1), 400.0),
    "finer": grid((46, 62), 5.0),
}


@given(runs(), st.sampled_from(sorted(COARSE)), st.integers(0, 40))
def test_nearest_pixels_with_a_margin_are_those_around_the_centres(
    found: list[tuple[int, int, int]], name: str, margin: int
) -> None:
    coarse = COARSE[name]
    expected = np.zeros(coarse.shape, np.bool_)
    rows, columns = grid().nearest_in(coarse, 0), grid().nearest_in(coarse, 1)
    for row, column, length in found:
        a, b = columns[column], columns[column + length - 1]  # of a finer raster, those between centres too
        top, left = max(rows[row] - margin, 0), max(a - margin, 0)
        expected[top : rows[row] + margin + 1, left : b + margin + 1] = True
    assert (mask_of(nearest_positions(positions_of(found), coarse, margin)) == expected).all()


@given(runs(), st.sampled_from(sorted(COARSE.keys() - {"finer"})))
def test_bilinear_pixels_are_those_with_a_share(found: list[tuple[int, int, int]], name: str) -> None:
    coarse = COARSE[name]
    expected = np.zeros(coarse.shape, np.bool_)
    across, down = grid().bilinear_in(coarse, 1), grid().bilinear_in(coarse, 0)
    for r, c in np.argwhere(image_of(found)):
        for dr in range(1 + (down.share[r] > 0)):
            for dc in range(1 + (across.share[c] > 0)):
                expected[down.first[r] + dr, across.first[c] + dc] = True
    assert (mask_of(bilinear_positions(positions_of(found), coarse)) == expected).all()


@given(
    st.sampled_from(["uint8", "uint16", "int16", "int32"]),
    st.integers(0, 300),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_codes_keep_every_value(dtype: str, size: int, seed: int, wild: bool) -> None:  # noqa: FBT001  # drawn
    limits = np.iinfo(dtype)
    low, high = (limits.min, limits.max) if wild else (3, 9)
    values = np.random.default_rng(seed).integers(low, high, size, dtype, endpoint=True)
    back = decode(encode(values), np.dtype(dtype), size)
    assert back.dtype == values.dtype
    assert (back == values).all()


def test_codes_of_other_values_are_refused() -> None:
    code = encode(np.arange(100, dtype=np.uint16))
    for dtype, size in (("uint16", 99), ("uint16", 101), ("int16", 100), ("uint8", 100), ("int32", 100), ("uint16", 0)):
        with pytest.raises(DamagedCodeError):
            decode(code, np.dtype(dtype), size)
    with pytest.raises(ValueError, match="float64"):
        encode(np.zeros(3))


def layer(seed: int = 1, shape: tuple[int, int] = (130, 140)) -> TilePositions:
    rng = np.random.default_rng(seed)
    found = [(int(r), int(c), int(rng.integers(1, 20))) for r, c in rng.integers(0, 120, (60, 2))]
    return TilePositions(positions_of(found, grid(shape)), 60.0)


def rasters_of(positions: TilePositions, seed: int = 2) -> dict[str, KeptValues]:
    rng = np.random.default_rng(seed)
    fine = positions.finest.grid
    coarse = fine.refined(20.0)
    found: dict[str, KeptValues] = {}
    for name, role, of, dtype in (
        ("B04", "band", fine, "uint16"),
        ("B08", "band", fine, "uint16"),
        ("B11", "band", coarse, "uint16"),
        ("NDVI", "band", fine, "int16"),
        ("SCL", "quality", coarse, "uint8"),
    ):
        where = positions.of_raster(role, of)  # type: ignore[arg-type]
        values = rng.integers(0, 12 if dtype == "uint8" else 4000, where.size).astype(dtype)
        found[name] = KeptValues(values, None, role, of, 0, (1.0, 0.0))  # type: ignore[arg-type]
    present = rng.random(found["B04"].values.size) > 0.3
    for name in ("B04", "B08"):
        found[name] = found[name]._replace(present=present)
    return found


def assert_same(file: PixelFile, rasters: dict[str, KeptValues]) -> None:
    assert file.rasters.keys() == rasters.keys()
    for name, kept in rasters.items():
        header = file.header(name)
        assert (header.role, header.grid, header.nodata, header.scale) == (
            kept.role, kept.grid, kept.nodata, kept.scale,
        )  # fmt: skip
        values, present = file.read(name)
        assert values.dtype == kept.values.dtype == header.dtype
        assert header.is_complete == (kept.present is None or bool(kept.present.all()))
        if header.is_complete:
            assert present is None
            assert (values == kept.values).all()
        else:
            assert present is not None
            assert kept.present is not None
            assert (present == kept.present).all()
            assert (values == np.where(kept.present, kept.values, 0)).all()


def test_a_file_gives_back_what_was_kept(tmp_path: Path) -> None:
    positions = layer()
    rasters = rasters_of(positions)
    positions_path(tmp_path, positions.digest).write_bytes(positions.to_bytes())
    path = tmp_path / "S2A_X_0af.pixels"
    path.write_bytes(pixel_file({"product": "S2A_X", "cover": 3.5}, rasters, positions))
    with PixelFile.open(path) as file:
        assert file.facts == {"product": "S2A_X", "cover": 3.5}
        assert_same(file, rasters)
        assert file.positions.digest == positions.digest
        assert load_positions(tmp_path, positions.digest) is file.positions, "positions are read once"
    assert pixel_file({}, rasters, positions) == pixel_file({}, rasters, positions), "the same pixels, the same bytes"


@pytest.mark.parametrize("found", [[], [(5, 7, 1)], [(0, 0, 140)]])
def test_nothing_or_one_pixel_is_kept(found: list[tuple[int, int, int]]) -> None:
    positions = TilePositions(positions_of(found, grid((130, 140))), 0.0)
    positions = TilePositions.from_bytes(positions.to_bytes())
    assert positions.finest.size == sum(length for *_, length in found)
    rasters = rasters_of(positions)
    with PixelFile.of_bytes(pixel_file({}, rasters, positions), positions) as file:
        assert_same(file, rasters)


def test_chunks_of_a_tall_raster_are_read_alone() -> None:
    tall = grid((2 * CHUNK_ROWS + 500, 40))
    found = [(row, 3, 5) for row in (0, 1, CHUNK_ROWS - 1, 2 * CHUNK_ROWS, 2 * CHUNK_ROWS + 499)]
    positions = TilePositions(positions_of(found, tall), 300.0)
    rasters = rasters_of(positions)
    with PixelFile.of_bytes(pixel_file({}, rasters, positions), positions) as file:
        assert_same(file, rasters)
        for k in range(3):
            values, present = file.read_rows("B08", k * CHUNK_ROWS, min((k + 1) * CHUNK_ROWS, tall.shape[0]))
            cut = positions.finest.values_of_rows(k * CHUNK_ROWS, (k + 1) * CHUNK_ROWS)
            kept = rasters["B08"]
            assert kept.present is not None
            if present is not None:
                assert (present == kept.present[cut]).all()
            assert (values == np.where(kept.present, kept.values, 0)[cut]).all()


def test_positions_depend_on_grid_pixels_and_margin() -> None:
    found = [(1, 2, 3), (4, 5, 6)]
    digests = {
        TilePositions(positions_of(runs, of), margin).digest
        for runs in (found, found[:1])
        for of in (grid(), grid(left=600_010.0))
        for margin in (300.0, 200.0)
    }
    assert len(digests) == 8


def test_locations_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a#b" / "S2A.pixels"
    assert split_kept(kept_location(path, "B04")) == (path, "B04")
    assert split_kept(str(path)) is None
    assert split_kept("https://example.org/kept:x#B04") is None
