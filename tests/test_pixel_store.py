"""Kept pixels on disk: positions against numpy's own sets, values there and back, damaged files."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sen2chain.errors import KeptPixelsError
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
from sen2chain.pixel_store.stored_members import write_members

if TYPE_CHECKING:
    from collections.abc import Callable
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


def test_values_are_coded_by_stripes_in_which_every_second_row_runs_back() -> None:
    wide = grid((4, 200))
    positions = positions_of([(0, 0, 200), (1, 60, 8), (1, 70, 2), (3, 130, 3)], wide)
    columns = positions.coordinates()[1].astype(np.uint16)
    expected = [*range(64), 63, 62, 61, 60, *range(64, 128), 67, 66, 65, 64, 71, 70, *range(128, 192), 132, 131, 130]
    assert positions.to_stripes(columns, 0, 4).tolist() == [*expected, *range(192, 200)]


@given(runs((23, 200)), st.integers(0, 23), st.integers(0, 23), st.sampled_from(["uint8", "bool", "int16", "int32"]))
def test_the_order_of_stripes_is_undone(found: list[tuple[int, int, int]], first: int, last: int, dtype: str) -> None:
    positions, last = positions_of(found, grid((23, 200))), max(first, last)
    cut = positions.values_of_rows(first, last)
    values = (np.arange(cut.stop - cut.start) % 97).astype(dtype)
    striped = positions.to_stripes(values, first, last)
    assert sorted(striped.tolist()) == sorted(values.tolist())
    assert (positions.from_stripes(striped, first, last) == values).all()


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


def test_equal_flags_of_rasters_at_different_positions_are_told_apart() -> None:
    """Squares of 40 m have 16 pixels of 10 m, and interpolation reads 16 pixels of 20 m for them."""
    fine = grid((2 * CHUNK_ROWS, 60))
    coarse = grid((CHUNK_ROWS, 30), 20.0)
    squares = [(top + row, left, 4) for top, left in ((40, 20), (1500, 8)) for row in range(4)]
    positions = TilePositions(positions_of(squares, fine), 0.0)
    first = np.arange(positions.finest.size) < 16
    values = np.arange(1, len(first) + 1, dtype=np.uint16)
    kept = {
        name: KeptValues(values, first.copy(), "band", of, 0.0, (1.0, 0.0))
        for name, of in (("B04", fine), ("B11", coarse))
    }
    with PixelFile.of_bytes(pixel_file({"product": "P"}, kept, positions), positions) as file:
        for name in kept:
            found, present = file.read(name)
            assert present is not None
            assert (present == first).all()
            assert (found == np.where(first, values, 0)).all()


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


# ---------------------------------------------------------------------------------------------------- damaged, hostile


def members_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return {name: file.read(name) for name in file.namelist()}


def read_all(content: bytes, positions: TilePositions) -> dict[str, tuple[Any, Any]]:
    with PixelFile.of_bytes(content, positions, "some.pixels") as file:
        return {name: file.read(name) for name in file.rasters}


def test_every_flipped_byte_and_every_cut_is_found_or_changes_nothing() -> None:
    positions = layer()
    content, runs_of_layer = pixel_file({}, rasters_of(positions), positions), positions.to_bytes()
    expected = read_all(content, positions)
    rng = np.random.default_rng(4)
    found = 0
    for k in range(400):
        of_pixels, whole = k % 2 == 0, bytearray(content if k % 2 == 0 else runs_of_layer)
        place = int(rng.integers(len(whole)))
        if k % 8 < 2:
            del whole[place:]
        else:
            whole[place] ^= 1 << int(rng.integers(8))
        try:
            if of_pixels:
                for name, (values, present) in read_all(bytes(whole), positions).items():
                    np.testing.assert_array_equal(values, expected[name][0])
                    np.testing.assert_array_equal(present, expected[name][1])
            else:
                assert TilePositions.from_bytes(bytes(whole)).digest == positions.digest
        except KeptPixelsError as error:
            assert str(error).startswith("Kept pixels ")  # noqa: PT017  # where damage does nothing, none is raised
            found += 1
    assert found > 300


def test_damage_under_a_right_checksum_never_reaches_a_kernel() -> None:
    """A forged file may hold other numbers, as any file may; what cannot be decoded or does not fit is refused."""
    positions = layer()
    content, runs_of_layer = pixel_file({}, rasters_of(positions), positions), positions.to_bytes()
    rng = np.random.default_rng(5)
    refused = 0
    for k in range(400):
        members = members_of(content if k % 2 == 0 else runs_of_layer)
        name = sorted(members)[int(rng.integers(len(members)))]
        forged = bytearray(members[name])
        for place in rng.integers(len(forged), size=int(rng.integers(1, 4))).tolist():
            forged[place] = int(rng.integers(256))
        members[name] = bytes(forged)
        try:
            if k % 2 == 0:
                for raster, (values, _) in read_all(write_members(members), positions).items():
                    kept = rasters_of(positions)[raster]
                    assert values.dtype.itemsize <= 4
                    assert values.shape == kept.values.shape or name == "facts.json"
            else:
                assert TilePositions.from_bytes(write_members(members)).digest == positions.digest
        except KeptPixelsError:
            refused += 1
    assert refused > 150


def changed_facts(content: bytes, member: str, change: Callable[[dict[str, Any]], object]) -> bytes:
    members = members_of(content)
    facts = json.loads(members[member])
    change(facts)
    return write_members({**members, member: json.dumps(facts).encode()})


def raster_fact(name: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda facts: facts["rasters"]["B04"].__setitem__(name, value)


def grid_fact(name: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda facts: facts["rasters"]["B04"]["grid"].__setitem__(name, value)


FORGED: dict[str, Callable[[dict[str, Any]], object]] = {
    "no rasters": lambda facts: facts.pop("rasters"),
    "another type": raster_fact("dtype", "float64"),
    "a type that takes more": raster_fact("dtype", "int32"),
    "an object": raster_fact("dtype", "O"),
    "no role": raster_fact("role", "picture"),
    "a scale of another kind": raster_fact("scale", 11),
    "an endless scale": raster_fact("scale", [float("inf"), 0]),
    "members of another raster": raster_fact("flags", 7),
    "flags of another kind": raster_fact("flags", {"a": 1}),
    "all pixels present": raster_fact("flags", None),
    "no shape": grid_fact("shape", []),
    "a huge shape": grid_fact("shape", [1 << 30, 1 << 30]),
    "a negative shape": grid_fact("shape", [-1, 140]),
    "a shape of truth values": grid_fact("shape", [True, True]),
    "turned": grid_fact("transform", [10, 1, 6e5, 0, -10, 5e6]),
    "elsewhere": grid_fact("transform", [10, 0, 6e6, 0, -10, 5e6]),
    "very small pixels": grid_fact("transform", [1e-8, 0, 6e5, 0, -1e-8, 5.2e6]),
    "endless": grid_fact("transform", [float("nan")] * 6),
    "of another CRS": grid_fact("crs", "EPSG:4326"),
    "a name that leads elsewhere": lambda facts: facts["rasters"].update({"../B04": facts["rasters"]["B04"]}),
    "positions that lead elsewhere": lambda facts: facts.update(positions="../../etc/passwd"),
    "positions of another kind": lambda facts: facts.update(positions=["a"]),
    "another format": lambda facts: facts.update(format=2),
    "no format": lambda facts: facts.pop("format"),
    "facts of another kind": lambda facts: facts.update(facts=3),
}


@pytest.mark.parametrize("name", list(FORGED))
def test_forged_facts_of_pixels_are_refused(name: str) -> None:
    positions = layer()
    content = changed_facts(pixel_file({}, rasters_of(positions), positions), "facts.json", FORGED[name])
    with pytest.raises(KeptPixelsError, match=r"^Kept pixels some\.pixels (are damaged|have|do not) .*\.$"):
        read_all(content, positions)


@pytest.mark.parametrize("order", [("B04", "SCL"), ("SCL", "B04")])
def test_flags_of_other_positions_are_refused_whichever_raster_is_read_first(order: tuple[str, str]) -> None:
    positions = layer()
    kept = rasters_of(positions)
    own = pixel_file({}, kept, positions)
    content = changed_facts(own, "facts.json", lambda facts: facts["rasters"]["SCL"].update(flags=0))
    with PixelFile.of_bytes(content, positions) as file:
        for name in order:
            if name == "SCL":
                with pytest.raises(KeptPixelsError, match="are damaged"):
                    file.read_present(name)
                with pytest.raises(KeptPixelsError, match="are damaged"):
                    file.read(name)
            else:
                assert kept[name].present is not None
                np.testing.assert_array_equal(file.read_present(name), kept[name].present)


FORGED_POSITIONS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no grid": lambda facts: facts.pop("grid"),
    "a smaller grid": lambda facts: facts["grid"].update(shape=[50, 140]),
    "another digest": lambda facts: facts.update(digest="0" * 16),
    "fewer runs": lambda facts: facts.update(runs=3),
    "more runs": lambda facts: facts.update(runs=10**7),
    "endless runs": lambda facts: facts.update(runs=10**30),
    "runs of another kind": lambda facts: facts.update(runs=2.0),
    "a negative margin": lambda facts: facts.update(margin=-1),
    "an endless margin": lambda facts: facts.update(margin=float("inf")),
    "another margin": lambda facts: facts.update(margin=61.0),
    "another format": lambda facts: facts.update(format="2"),
}


@pytest.mark.parametrize("name", list(FORGED_POSITIONS))
def test_forged_facts_of_positions_are_refused(name: str) -> None:
    content = changed_facts(layer().to_bytes(), "positions.json", FORGED_POSITIONS[name])
    with pytest.raises(KeptPixelsError, match=r"^Kept pixels a\.positions (are damaged|have) .*\.$"):
        TilePositions.from_bytes(content, "a.positions")


@pytest.mark.parametrize(
    ("row", "column", "length"),
    [
        ([5, 4], [0, 0], [1, 1]),
        ([4, 4], [5, 0], [1, 1]),
        ([4, 4], [0, 3], [4, 1]),
        ([4, 4], [0, 3], [3, 1]),
        ([4], [130], [11]),
        ([4], [-1], [3]),
        ([-1], [0], [3]),
        ([130], [0], [3]),
        ([4], [0], [0]),
        ([4], [2**31 - 1], [9]),
    ],
)
def test_runs_that_are_not_pixels_of_the_grid_are_refused(row: list[int], column: list[int], length: list[int]) -> None:
    """Even where their digest is right: kernels rely on their order and limits."""
    arrays = [np.array(values, np.int32) for values in (row, column, length)]
    forged = PixelPositions(grid((130, 140)), *arrays)
    content = TilePositions(forged, 60.0).to_bytes()
    with pytest.raises(KeptPixelsError, match="its runs are not those of pixels of the grid"):
        TilePositions.from_bytes(content)


def test_only_plain_members_are_read() -> None:
    positions = layer()
    members = members_of(pixel_file({}, rasters_of(positions), positions))

    def written(form: int, *, twice: bool = False, comment: bytes = b"") -> bytes:
        memory = io.BytesIO()
        with zipfile.ZipFile(memory, "w", form) as file:
            file.comment = comment
            for name, content in members.items():
                file.writestr(name, content)
            if twice:
                with warnings.catch_warnings(action="ignore"):
                    file.writestr("B04/0", b"")
        return memory.getvalue()

    assert read_all(written(zipfile.ZIP_STORED), positions).keys() == {"B04", "B08", "B11", "NDVI", "SCL"}
    bomb = bytes(1 << 20)
    for content in (
        written(zipfile.ZIP_DEFLATED),
        written(zipfile.ZIP_STORED, twice=True),
        written(zipfile.ZIP_STORED, comment=b"hello"),
        write_members({**members, "B04/0": bomb}),
        write_members({**members, "facts.json": b"[" * 100_000}),
        write_members({**members, "facts.json": b'{"format":1,"facts":' + b"9" * 5000 + b"}"}),
        write_members({name: content for name, content in members.items() if name != "SCL/0"}),
        write_members({name: content for name, content in members.items() if name != "facts.json"}),
    ):
        with pytest.raises(KeptPixelsError, match=r"^Kept pixels some\.pixels are damaged \(.*\); update the layer"):
            read_all(content, positions)


def test_pixels_of_other_positions_are_refused() -> None:
    positions, others = layer(), layer(2)
    content = pixel_file({}, rasters_of(positions), positions)
    with pytest.raises(KeptPixelsError, match="have other positions than those of the layer today"):
        read_all(content, others)


def test_more_pixels_than_can_be_kept_are_refused() -> None:
    whole = np.arange(20_000, dtype=np.int32)
    positions = PixelPositions(grid((20_000, 20_000)), whole, whole * 0, whole * 0 + 20_000)
    with pytest.raises(KeptPixelsError, match=r"400,000,000 pixels in 20,000 runs .* can be kept; divide it\."):
        TilePositions(positions, 0.0)


def test_values_that_do_not_fit_are_errors_of_the_caller() -> None:
    positions = layer()
    kept = rasters_of(positions)
    for changed in (kept["SCL"]._replace(role="band"), kept["B04"]._replace(values=kept["B04"].values[1:])):
        with pytest.raises(ValueError, match="values of a raster are needed"):
            pixel_file({}, {"B04": changed}, positions)
    with pytest.raises(ValueError, match="are not rows of"):
        positions.finest.take(np.zeros((130, 139), np.uint8))
    with pytest.raises(ValueError, match="values of uint8 are needed"):
        positions.finest.put(np.zeros(3, np.uint8), np.zeros((130, 140), np.uint8))


def test_a_file_that_is_gone_may_have_been_replaced(tmp_path: Path) -> None:
    with pytest.raises(KeptPixelsError, match="run again if an update has just replaced the file, or else update the"):
        PixelFile.open(tmp_path / "P_0.pixels")
