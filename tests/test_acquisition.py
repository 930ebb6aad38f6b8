"""Windows of acquisitions beside plain rasterio and numpy, on rasters the tests write and on real products."""

from __future__ import annotations

import gc
import weakref
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from affine import Affine

import oracle
from sen2chain.acquisition import (
    DigitalNumbers,
    IndexValues,
    MaskLayer,
    OpenAcquisition,
    Quality,
    Reflectance,
    Window,
    read,
    reader,
)
from sen2chain.acquisition.open_rasters import Decoding, OpenRasters
from sen2chain.archive import open_library
from sen2chain.errors import GridMismatchError, RequestError, UnreadableError
from sen2chain.indices import INDICES, NODATA, Index
from sen2chain.masks import Mask
from sen2chain.parallel import apart
from sen2chain.products import LOCAL, Acquisition, KnownDetails, ProductId, Radiometry, Reading
from sen2chain.rasters import counting, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from sen2chain.acquisition import PixelLayer

    Array = npt.NDArray[Any]
    Arrays = dict[PixelLayer, Array]

SIZE = 222
"""Edge of the written rasters in pixels of 10 m; it is a multiple of 20 m and 60 m, not of 40 m."""
FINE = ("B02", "B03", "B04", "B08")
COARSE = ("B05", "B06", "B07", "B8A", "B11", "B12")
OFFSET, QUANTIFICATION = -1000.0, 10000.0
MASKS = ("CM001", "CM002", "CM003-PRB20-ITER2", "CM004-CSH1-CMP1-CHP1-TCI1-ITER1", "SCL-6-8-9-ITER3", "none")

# -------------------------------------------------------------------------------------------------- what is expected


def reduced(values: Array, valid: Array, factor: int) -> Array:
    """Average the valid pixels of each square, NaN where there are none; squares at the edge may be cut."""
    high, wide = (-(-n // factor) * factor for n in values.shape)
    full = np.full((high, wide), np.nan)
    full[: values.shape[0], : values.shape[1]] = np.where(valid, values, np.nan)
    squares = full.reshape(high // factor, factor, wide // factor, factor)
    count = (~np.isnan(squares)).sum(axis=(1, 3))
    with np.errstate(invalid="ignore"):
        mean: Array = np.nansum(squares, axis=(1, 3)) / count
    return mean


def centres(values: Array, pixel: int, resolution: int, inside: tuple[slice, slice]) -> Array:
    """Take the pixel that each centre of a part of a coarser or finer grid lies in."""
    rows, columns = (
        np.minimum((np.arange(part.start, part.stop) * resolution + resolution // 2) // pixel, last - 1)
        for part, last in zip(inside, values.shape, strict=True)
    )
    return values[np.ix_(rows, columns)]


@dataclass(frozen=True)
class Truth:
    """Whole arrays of a product, read with plain rasterio, and what follows from them."""

    bands: Mapping[str, Array]
    offsets: Mapping[str, float]
    quantification: float
    shape: tuple[int, int]
    masks: dict[str, Array] = field(default_factory=dict)
    """Masks that were asked for, by name."""

    @classmethod
    def of(cls, locations: Mapping[str, str], offsets: Mapping[str, float], quantification: float) -> Truth:
        bands = {}
        for band, location in locations.items():
            with rasterio.open(location) as dataset:
                bands[band] = dataset.read(1)
        fine = next((bands[band].shape for band in FINE if band in bands), None)
        coarse = next(iter(bands.values())).shape
        return cls(bands, offsets, quantification, fine or (2 * coarse[0], 2 * coarse[1]))

    def grid(self, resolution: int) -> tuple[int, int]:
        factor = resolution // 10
        return -(-self.shape[0] // factor), -(-self.shape[1] // factor)

    def numbers(self, band: str, resolution: int) -> tuple[Array, bool]:
        """Give the means of digital numbers, NaN for none, and whether they are as stored."""
        dn = self.bands[band].astype(np.float64)
        valid = (dn != 0) & (dn != 65535)
        own = 10 if band in FINE else 20
        if resolution % own == 0:
            return reduced(dn, valid, resolution // own), resolution == own
        ten = oracle.to_ten_metres(np.where(valid, dn, np.nan))
        return reduced(ten, ~np.isnan(ten), resolution // 10), False

    def reflectance(self, band: str, resolution: int) -> Array:
        own = 10 if band in FINE else 20
        fits = resolution % own == 0
        values = oracle.reflectance(
            self.bands[band], self.offsets[band], self.quantification, twenty=own == 20 and not fits
        )
        return reduced(values, ~np.isnan(values), resolution // (own if fits else 10))

    def index(self, name: str) -> tuple[Array, Array]:
        bands, formula = oracle.FORMULAS[name]
        with np.errstate(divide="ignore", invalid="ignore"):
            return oracle.scale(formula(*(self.reflectance(band, 10) for band in bands)))

    def mask(self, name: str) -> Array:
        if name not in self.masks:
            self.masks[name] = self._mask(name)
        return self.masks[name]

    def _mask(self, name: str) -> Array:
        mask = Mask.parse(name)
        match mask.family:
            case "CM001":
                return oracle.cm001(self.bands["CLDPRB"])
            case "CM002":
                return oracle.cm002(self.bands["CLDPRB"], self.reflectance("B11", 20))
            case "CM003":
                return oracle.cm003(self.bands["CLDPRB"], mask.probability or 0, mask.iterations)
            case "none":
                return np.zeros((2, 2), bool)
        return oracle.classes(self.bands["SCL"], mask.classes, mask.iterations)

    def check(self, layer: PixelLayer, got: Array, window: Window, resolution: int) -> None:
        """Compare a window of a layer."""
        inside = np.s_[window.row : window.row + window.height, window.column : window.column + window.width]
        assert got.shape == (window.height, window.width)
        match layer:
            case DigitalNumbers(band):
                want, as_stored = self.numbers(band, resolution)
                want = self.bands[band] if as_stored else np.where(np.isnan(want), 0, np.rint(want))
                assert got.dtype == np.uint16
                np.testing.assert_array_equal(got, want[inside])
            case Reflectance(band):
                assert got.dtype == np.float64
                np.testing.assert_allclose(got, self.reflectance(band, resolution)[inside], rtol=1e-12, atol=1e-15)
            case IndexValues(index):
                values, ties = self.index(index.name)
                mean = reduced(values.astype(np.float64), values != NODATA, resolution // 10)
                tied = reduced(ties.astype(np.float64), np.ones_like(ties), resolution // 10)[inside]
                want = np.where(np.isnan(mean), NODATA, np.rint(mean))[inside]
                assert got.dtype == np.int16
                # A value computed on a rounding tie may come out one unit lower or higher.
                np.testing.assert_array_equal(got[tied == 0], want[tied == 0])
                assert (np.abs(got - want) <= 1).all()
            case MaskLayer(mask):
                assert got.dtype == np.bool_
                np.testing.assert_array_equal(got, centres(self.mask(mask.name), 20, resolution, inside))
            case Quality(name):
                np.testing.assert_array_equal(got, centres(self.bands[name], 20, resolution, inside))


# ------------------------------------------------------------------------------------------------------------ products


def write(path: Path | str, values: Array, pixel: int, *, block: int = 64, left: float = 720_000.0) -> str:
    profile: dict[str, Any] = {"driver": "GTiff", "count": 1, "dtype": values.dtype, "crs": "EPSG:32631"}
    profile |= {"height": values.shape[0], "width": values.shape[1], "tiled": True}
    profile |= {"blockxsize": block, "blockysize": block, "transform": Affine(pixel, 0, left, 0, -pixel, 4_880_000.0)}
    with rasterio.open(path, "w", **profile) as sink:
        sink.write(values, 1)
    return str(path)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Acquisition:
    """Noise with holes and clouds in all bands, in blocks of different sizes."""
    folder = tmp_path_factory.mktemp("product")
    rng = np.random.default_rng(7)
    bands = {}
    for band in (*FINE, *COARSE):
        pixel = 10 if band in FINE else 20
        dn = rng.integers(900, 9000, (SIZE * 10 // pixel,) * 2).astype(np.uint16)
        dn[rng.random(dn.shape) < 0.05] = 0
        dn[rng.random(dn.shape) < 0.02] = 65535
        dn[:11, :17] = 0
        bands[band] = write(folder / f"{band}.tif", dn, pixel, block=32 if band in {"B03", "B11"} else 64)
    half = (SIZE // 2, SIZE // 2)
    bands["SCL"] = write(folder / "SCL.tif", rng.choice(np.arange(12, dtype=np.uint8), half), 20, block=16)
    cldprb = rng.integers(0, 26, half).astype(np.uint8)
    for row, column in rng.integers(0, 100, (6, 2)):
        cldprb[row : row + 6, column : column + 9] = 90
    bands["CLDPRB"] = write(folder / "CLDPRB.tif", cldprb, 20, block=48)
    id_ = ProductId.parse("S2A_MSIL2A_20220403T103021_N0400_R108_T31TGJ_20220403T160000")
    radiometry = Radiometry(QUANTIFICATION, dict.fromkeys((*FINE, *COARSE), OFFSET))
    return Acquisition(id_, KnownDetails(radiometry), bands)


@pytest.fixture(scope="module")
def truth(product: Acquisition) -> Truth:
    return Truth.of(product.bands, dict.fromkeys((*FINE, *COARSE), OFFSET), QUANTIFICATION)


def layers_of(bands: Iterable[str], indices: Iterable[str], masks: Iterable[str]) -> list[PixelLayer]:
    spectral = [band for band in bands if band in (*FINE, *COARSE)]
    return [
        *map(DigitalNumbers, spectral),
        *map(Reflectance, spectral),
        *(IndexValues(INDICES[name]) for name in indices),
        *(MaskLayer(Mask.parse(name)) for name in masks),
        *(Quality(band) for band in bands if band not in spectral),
    ]


def every_layer(product: Acquisition) -> list[PixelLayer]:
    return layers_of(product.bands, INDICES, MASKS)


def opened(
    acquisition: Acquisition, layers: Sequence[PixelLayer], resolution: float | None = None, *, overview: bool = False
) -> Any:
    """Give what a function of an open acquisition returns, in a thread of its own."""

    def run(work: Callable[[OpenAcquisition], Any]) -> Any:
        def inside() -> Any:
            with environment(), ExitStack() as stack:
                return work(OpenAcquisition(stack, acquisition, layers, resolution, overview=overview))

        return apart(inside)

    return run


# ------------------------------------------------------------------------------------------------------------- windows

WINDOWS = {
    "all of it": None,
    "one pixel": (5, 2, 1, 1),
    "the last pixel": (-1, -1, 1, 1),
    "one row": (3, 0, 1, -1),
    "right edge": (1, -4, 9, 4),
    "over several blocks": (2, 3, 11, 12),
}


def window_of(where: tuple[int, int, int, int] | None, shape: tuple[int, int]) -> Window:
    if where is None:
        return Window(0, 0, *shape)
    row, column, height, width = where
    high = height if height > 0 else shape[0]
    wide = width if width > 0 else shape[1]
    return Window(row % shape[0], column % shape[1], min(high, shape[0]), min(wide, shape[1]))


@pytest.mark.parametrize("resolution", [10, 20, 30, 40, 60, 100])
@pytest.mark.parametrize("where", list(WINDOWS))
def test_every_layer_equals_numpy(product: Acquisition, truth: Truth, where: str, resolution: int) -> None:
    layers = every_layer(product)
    window = window_of(WINDOWS[where], truth.grid(resolution))
    with counting() as counts:
        got = read(product, layers, window if WINDOWS[where] else None, resolution)
    assert list(got) == layers
    for layer in layers:
        truth.check(layer, got[layer], window, resolution)
    assert set(counts.opens) == set(product.bands.values())
    assert set(counts.opens.values()) == {1}
    assert set(counts.blocks.values()) == {1}


def test_only_the_blocks_of_a_window_are_decoded(product: Acquisition) -> None:
    layers: list[PixelLayer] = [DigitalNumbers("B04"), Quality("SCL"), MaskLayer(Mask.parse("SCL-6-8-9-ITER3"))]
    with counting() as counts:
        read(product, layers, Window(60, 130, 10, 10))
    assert {(i, j) for where, i, j in counts.blocks if where == product.bands["B04"]} == {(0, 2), (1, 2)}
    # Blocks of 16 pixels of 20 m; the mask reaches six pixels further.
    assert {i for where, i, _ in counts.blocks if where == product.bands["SCL"]} == {1, 2}
    assert {j for where, _, j in counts.blocks if where == product.bands["SCL"]} == {3, 4}


def test_the_finest_resolution_is_what_is_read_without_one(product: Acquisition) -> None:
    layers: list[PixelLayer] = [DigitalNumbers("B11"), Quality("CLDPRB")]
    ten, plain = read(product, layers, resolution=10), read(product, layers)
    assert all(np.array_equal(ten[layer], plain[layer]) for layer in layers)
    assert plain[layers[0]].shape == (SIZE, SIZE)


def test_the_grid_says_where_the_pixels_lie(product: Acquisition) -> None:
    grid = opened(product, [DigitalNumbers("B04")], 40)(lambda opened: opened.grid)
    assert grid.transform == (40.0, 0.0, 720_000.0, 0.0, -40.0, 4_880_000.0)
    assert grid.shape == (56, 56)


def test_a_formula_of_the_user(product: Acquisition, truth: Truth) -> None:
    layer = IndexValues(Index("TWICE", "2*B04"))
    want = np.rint(2 * truth.reflectance("B04", 10) * 10000)
    got = read(product, [layer])[layer]
    np.testing.assert_array_equal(got, np.where(np.isnan(want), NODATA, want))


def test_a_source_says_where_its_rasters_may_lie(product: Acquisition) -> None:
    values = np.arange(SIZE * SIZE, dtype=np.uint16).reshape(SIZE, SIZE)
    location = write("/vsimem/sen2chain_B04.tif", values, 10)
    elsewhere = replace(product, bands={"B04": location}, reading=Reading(file_systems=("/vsimem/",)))
    layer = DigitalNumbers("B04")
    np.testing.assert_array_equal(read(elsewhere, [layer])[layer], values)
    with pytest.raises(UnreadableError, match="cannot be opened"):
        read(replace(elsewhere, reading=LOCAL), [layer])


# ----------------------------------------------------------------------------------------------------- whole rasters


@pytest.mark.parametrize(("resolution", "rows"), [(10, None), (10, 7), (10, 64), (20, 5), (30, 11), (60, 1)])
def test_strips_are_the_whole_in_pieces(
    product: Acquisition, resolution: int, rows: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks grow over the edges of strips: CM002 reaches 240 m, which is more than a strip."""
    monkeypatch.setattr("sen2chain.acquisition.windows.AT_ONCE", 5 * SIZE)
    layers = every_layer(product)
    whole = read(product, layers, resolution=resolution)
    with counting() as counts:
        strips = opened(product, layers, resolution)(lambda opened: list(opened.strips(rows)))
    assert set(counts.opens.values()) == {1}
    assert set(counts.blocks.values()) == {1}
    height, width = whole[layers[0]].shape
    assert len(strips) > 3
    row = 0
    for window, arrays in strips:
        assert (window.row, window.column, window.width) == (row, 0, width)
        row += window.height
        for layer in layers:
            np.testing.assert_array_equal(arrays[layer], whole[layer][window.row : row])
    assert row == height


def test_a_strip_is_given_before_the_next_blocks_are_read(product: Acquisition) -> None:
    layers = [DigitalNumbers("B04")]

    def first(opened: OpenAcquisition) -> int:
        strips = opened.strips(32)
        with counting() as counts:
            next(strips)
            strips.close()  # type: ignore[attr-defined]  # it is a generator
        return len(counts.blocks)

    assert opened(product, layers)(first) == 4  # a row of blocks


def test_many_windows_share_what_is_decoded(product: Acquisition, truth: Truth) -> None:
    rng = np.random.default_rng(3)
    corners = rng.integers(0, (SIZE - 30) // 2, (40, 2)).tolist()
    windows = [Window(row, column, 15, 15) for row, column in corners]
    layers = every_layer(product)
    with counting() as counts:
        found = opened(product, layers, 20)(lambda opened: list(opened.windows(windows)))
    assert set(counts.blocks.values()) == {1}
    assert sorted(i for i, _ in found) == list(range(40))
    for i, arrays in found:
        for layer in layers:
            truth.check(layer, arrays[layer], windows[i], 20)


def test_a_window_may_be_larger_than_what_is_computed_at_once(
    product: Acquisition, truth: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "AT_ONCE", 100)
    monkeypatch.setattr("sen2chain.acquisition.strips.LARGE", 100)
    layers = every_layer(product)
    window = Window(0, 0, SIZE, SIZE)
    ((_, arrays),) = opened(product, layers)(lambda opened: list(opened.windows([window])))
    for layer in layers:
        truth.check(layer, arrays[layer], window, 10)


# ------------------------------------------------------------------------------------------------------------ pictures

PICTURED = ("B02", "B03", "B04", "B08", "B11", "B12")
"""B02 and B11 are JPEG 2000, B03 and B12 have overviews, B04 has some that do not fit, B08 has none."""


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Acquisition:
    """Bands with smaller pictures in their files, of a size that no power of two divides."""
    folder = tmp_path_factory.mktemp("pictured")
    rng = np.random.default_rng(8)
    bands = {}
    for band in PICTURED:
        pixel = 10 if band in FINE else 20
        shape = 630 * 10 // pixel, 570 * 10 // pixel
        dn = rng.integers(900, 9000, shape).astype(np.uint16)
        dn[: shape[0] // 3, : shape[1] // 2] = 0
        path = folder / f"{band}.{'jp2' if band in {'B02', 'B11'} else 'tif'}"
        place = {"crs": "EPSG:32631", "transform": Affine(pixel, 0, 720_000, 0, -pixel, 4_880_000), "count": 1}
        options: dict[str, Any] = {"driver": "GTiff", "tiled": True, "blockxsize": 64, "blockysize": 64}
        if path.suffix == ".jp2":
            options = {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES", "RESOLUTIONS": 5, "NBITS": 15}
            options |= {"tiled": True, "blockxsize": 128, "blockysize": 128}
        elif band == "B04":
            options = {"driver": "COG", "BLOCKSIZE": 128, "OVERVIEW_RESAMPLING": "AVERAGE"}
        with rasterio.open(path, "w", height=shape[0], width=shape[1], dtype=dn.dtype, **place, **options) as sink:
            sink.write(dn, 1)
            if band in {"B03", "B12"}:
                sink.build_overviews([2, 4, 8, 3], rasterio.enums.Resampling.average)
        bands[band] = str(path)
    bands["SCL"] = write(folder / "SCL.tif", rng.integers(0, 12, (315, 285)).astype(np.uint8), 20)
    id_ = ProductId.parse("S2A_MSIL2A_20220403T103021_N0400_R108_T31TGJ_20220403T160000")
    radiometry = Radiometry(QUANTIFICATION, dict.fromkeys(PICTURED, OFFSET))
    return Acquisition(id_, KnownDetails(radiometry), bands)


def picture(location: str, factor: int) -> tuple[Array, int]:
    """Read the smaller picture that serves a reduction, and how many times smaller it is, with plain rasterio."""
    with rasterio.open(location) as dataset:
        levels, shape = dataset.overviews(1), dataset.shape
        found, best = dataset.read(1), 1
    for i, level in enumerate(levels):
        if level in {2, 4, 8, 16} and factor % level == 0 and level > best:
            with rasterio.open(location, overview_level=i) as dataset:
                if dataset.shape == tuple(-(-n // level) for n in shape):
                    found, best = dataset.read(1), level
    return found, best


LEVELS = {  # resolution -> level of the 10 m and of the 20 m bands
    20: {"B02": 2, "B03": 2, "B04": 2, "B08": 1, "B11": 1, "B12": 1},
    40: {"B02": 4, "B03": 4, "B04": 2, "B08": 1, "B11": 2, "B12": 2},
    60: {"B02": 2, "B03": 2, "B04": 2, "B08": 1, "B11": 1, "B12": 1},
    80: {"B02": 8, "B03": 8, "B04": 2, "B08": 1, "B11": 4, "B12": 4},
    320: {"B02": 8, "B03": 8, "B04": 2, "B08": 1, "B11": 4, "B12": 8},
}


@pytest.mark.parametrize(
    ("resolution", "module"), [(20, "on"), (40, "off"), (60, "on"), (80, "on"), (320, "on"), (320, "off")]
)
def test_pictures_are_those_of_the_file(
    pictured: Acquisition, resolution: int, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEN2CHAIN_OPENJPEG", module)
    rows, columns = -(-6300 // resolution), -(-5700 // resolution)
    numbers, surface = list(map(DigitalNumbers, PICTURED)), list(map(Reflectance, PICTURED))
    others = layers_of(["SCL"], ["NDVI"], ["CM004-CSH1-CMP1-CHP1-TCI1-ITER1"])
    layers: list[PixelLayer] = [*numbers, *surface, *others]
    got = whole_and_in_parts(pictured, layers, resolution)
    plain = read(pictured, others, None, resolution)
    for layer in others:
        np.testing.assert_array_equal(got[layer], plain[layer])
    for i, band in enumerate(PICTURED):
        factor = resolution // (10 if band in FINE else 20)
        image, level = picture(pictured.bands[band], factor)
        assert level == LEVELS[resolution][band]
        rest, valid = factor // level, image != 0
        want = np.rint(reduced(image.astype(float), valid, rest))
        np.testing.assert_array_equal(got[numbers[i]], np.where(np.isnan(want), 0, want))
        assert got[numbers[i]].shape == (rows, columns)
        values = oracle.reflectance(image, OFFSET, QUANTIFICATION, twenty=False)
        np.testing.assert_allclose(got[surface[i]], reduced(values, valid, rest), rtol=1e-12)
        assert np.isnan(got[surface[i]][0, 0])


def whole_and_in_parts(acquisition: Acquisition, layers: list[PixelLayer], resolution: int) -> Arrays:
    """Read pictures whole, and compare them with windows and strips of them."""
    whole = read(acquisition, layers, None, resolution, overview=True)
    high, wide = next(iter(whole.values())).shape
    windows = [Window(0, 0, 1, 1), Window(high // 3, wide // 2, high // 2, wide // 3), Window(high - 1, wide - 2, 1, 2)]

    def parts(open_: OpenAcquisition) -> list[tuple[Window, Arrays]]:
        some = [(windows[i], arrays) for i, arrays in open_.windows(windows)]
        return [*some, *open_.strips(-(-high // 4))]

    for window, arrays in opened(acquisition, layers, resolution, overview=True)(parts):
        inside = np.s_[window.row : window.row + window.height, window.column : window.column + window.width]
        for layer in layers:
            np.testing.assert_array_equal(arrays[layer], whole[layer][inside])
    return whole


def test_pictures_decode_no_block_of_the_bands(pictured: Acquisition) -> None:
    with counting() as counts:
        read(pictured, [Reflectance("B02"), Reflectance("B03"), Reflectance("B11")], None, 40, overview=True)
    assert not counts.blocks
    assert set(counts.opens.values()) == {1}


def test_at_its_own_resolution_a_picture_is_the_band(pictured: Acquisition) -> None:
    layers = [DigitalNumbers("B02"), DigitalNumbers("B11")]  # B11 is interpolated
    with_, without = read(pictured, layers, overview=True), read(pictured, layers)
    for layer in layers:
        np.testing.assert_array_equal(with_[layer], without[layer])


@pytest.mark.parametrize("module", ["on", "off"])
def test_a_damaged_picture_is_an_error(
    pictured: Acquisition, tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEN2CHAIN_OPENJPEG", module)
    for band in ("B02", "B03"):
        path = tmp_path / Path(pictured.bands[band]).name
        content = Path(pictured.bands[band]).read_bytes()
        path.write_bytes(content[: int(len(content) * 0.6)])
        damaged = replace(pictured, bands={band: str(path)})
        with pytest.raises(UnreadableError, match=path.name):
            read(damaged, [DigitalNumbers(band)], None, 40, overview=True)


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ((0, 0, SIZE + 1, 1), "rows 0 to 222, columns 0 to 0 is not inside the raster, which has 222 rows"),
        ((221, 221, 1, 2), "is not inside the raster, which has 222 rows and 222 columns of 10 m"),
        ((-1, 0, 1, 1), "row is -1"),
        ((0, 0, 0, 1), "height is 0"),
        ((0, 0.5, 1, 1), "column is 0.5"),
    ],
)
def test_a_window_that_cannot_be_read(product: Acquisition, window: Any, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        read(product, [DigitalNumbers("B04")], Window(*window))


@pytest.mark.parametrize("resolution", [15, 5, 0, -10, 10.5, float("nan"), float("inf"), True, "20"])
def test_a_resolution_that_is_not_a_multiple(product: Acquisition, resolution: Any) -> None:
    with pytest.raises(RequestError, match=r"resolution is .*; pass a whole multiple of the finest pixels, 10 m"):
        read(product, [DigitalNumbers("B04")], resolution=resolution)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (DigitalNumbers("B11"), "has no band B11; it has B04, B08"),
        (Reflectance("SCL"), "has no band SCL; it has B04, B08"),
        (Quality("CLDPRB"), "has no quality raster CLDPRB; it has SCL"),
        (Quality("B04"), "has no quality raster B04; it has SCL"),
        (IndexValues(INDICES["NDWIGAO"]), "NDWIGAO needs band B11, which the archive lacks"),
        (MaskLayer(Mask.parse("CM001")), "CM001 needs CLDPRB, which the archive lacks"),
    ],
)
def test_a_layer_that_the_acquisition_lacks(product: Acquisition, layer: PixelLayer, said: str) -> None:
    less = replace(product, bands={name: product.bands[name] for name in ("B04", "B08", "SCL")})
    with pytest.raises(RequestError, match=said):
        read(less, [layer])


def test_reflectance_needs_scale_and_offset(product: Acquisition) -> None:
    without = replace(product, details=KnownDetails())
    with pytest.raises(RequestError, match="does not say the scale and the offset of B04"):
        read(without, [Reflectance("B04")])
    assert read(without, [DigitalNumbers("B04")])[DigitalNumbers("B04")].any()


def test_no_layer_at_all(product: Acquisition) -> None:
    with pytest.raises(RequestError, match="No layer with a raster is asked for"):
        read(product, [MaskLayer(Mask.parse("none"))])


def test_rasters_that_cannot_be_used(product: Acquisition, tmp_path: Path) -> None:
    shifted = write(tmp_path / "B08.tif", np.ones((SIZE, SIZE), np.uint16), 10, left=720_100.0)
    bands = {**product.bands, "B08": shifted}
    with pytest.raises(GridMismatchError, match="has another grid than the other rasters"):
        read(replace(product, bands=bands), [DigitalNumbers(band) for band in ("B02", "B03", "B08")])
    cut = tmp_path / "B04.tif"
    write(cut, np.random.default_rng(1).integers(0, 9, (SIZE, SIZE)).astype(np.uint16), 10)
    cut.write_bytes(cut.read_bytes()[:40_000])
    for bands in ({"B04": str(cut)}, {"B04": str(tmp_path / "none.tif")}):
        with pytest.raises(UnreadableError):
            read(replace(product, bands={**product.bands, **bands}), [DigitalNumbers("B04")])
    bytes_ = write(tmp_path / "bytes.tif", np.zeros((SIZE, SIZE), np.uint8), 10)
    with pytest.raises(UnreadableError, match="holds uint8 values"):
        read(replace(product, bands={**product.bands, "B04": bytes_}), [DigitalNumbers("B04")])


# ------------------------------------------------------------------------------------------------------- real products


def real(library: Path, tile: str, position: int) -> tuple[Acquisition, Truth]:
    acquisition = open_library(library).acquisitions(tile)[position]
    safe = oracle.Safe(library / "L2A" / tile / f"{acquisition.id}.SAFE")
    return acquisition, Truth.of(acquisition.bands, *safe.radiometry())


BOLZANO_MASKS = ("CM004-CSH1-CMP1-CHP1-TCI1-ITER1", "CM004-CSH1-CMP0-CHP1-TCI0-ITER5", "SCL-3-8-9-10-11-ITER0", "none")
BOLZANO_INDICES = ("NDVI", "NDWIMCF", "EVI", "BIGR", "BIRNIR", "BIBG")


@pytest.mark.jpeg2000
@pytest.mark.parametrize("position", range(12))
def test_bolzano_equals_rasterio_and_numpy(bolzano: Path, position: int) -> None:
    """Every band, index and mask of every date, a window at 10 m and all of it at 20 m or 60 m."""
    acquisition, truth = real(bolzano, "32TPS", position)
    layers = layers_of(acquisition.bands, BOLZANO_INDICES, BOLZANO_MASKS)
    assert len(layers) == 19
    for resolution, window in ((10, Window(3 * position, 400, 77, 80)), (20 if position % 2 else 60, None)):
        with counting() as counts:
            got = read(acquisition, layers, window, resolution)
        assert set(counts.opens.values()) == set(counts.blocks.values()) == {1}
        for layer in layers:
            truth.check(layer, got[layer], window or Window(0, 0, *truth.grid(resolution)), resolution)


@pytest.mark.jpeg2000
def test_stored_masks_and_indices_of_the_original_program(bolzano: Path, tmp_path: Path) -> None:
    """A lossy index raster comes as it is stored, its no-data value excepted; a stored mask is used."""
    library = tmp_path / "library"
    (library).mkdir()
    for name in ("INDICES", "CLOUDMASKS"):
        (library / name).symlink_to(bolzano / "legacy" / name)
    acquisition = open_library(library).acquisitions("32TPS")[0]
    index, mask = IndexValues(INDICES["NDVI"]), MaskLayer(Mask.parse("CM004"))
    got = read(acquisition, [index, mask])
    with rasterio.open(acquisition.indices["NDVI"][0]) as dataset:
        stored = dataset.read(1)
    np.testing.assert_array_equal(got[index], np.where(stored == 16383, NODATA, stored))
    with rasterio.open(next(iter(acquisition.masks.values()))) as dataset:
        stored = dataset.read(1)
    np.testing.assert_array_equal(got[mask], oracle.nearest(stored > 0))


IRISH_WINDOW = Window(4000, 6000, 700, 901)


@pytest.fixture(scope="module")
def irish(shared_data: Path) -> tuple[Acquisition, Truth]:
    """A full tile with 20 m quality rasters alone."""
    return real(shared_data / "ireland", "29UNU", 0)


@pytest.mark.parametrize(
    ("_decoder", "resolution", "window"),
    [("openjpeg", 10, IRISH_WINDOW), ("gdal", 10, IRISH_WINDOW), ("openjpeg", 20, None), ("openjpeg", 100, None)],
    indirect=["_decoder"],
)
def test_ireland_equals_rasterio_and_numpy(
    irish: tuple[Acquisition, Truth], resolution: int, window: Window | None
) -> None:
    acquisition, truth = irish
    masks = ("CM001", "CM003-PRB1-ITER5", "CM004-CSH1-CMP1-CHP1-TCI1-ITER1", "SCL-3-8-9-10-11-ITER2")
    layers = layers_of(acquisition.bands, (), masks)
    assert {layer.name for layer in layers if isinstance(layer, Quality)} == {"SCL", "CLDPRB"}
    with counting() as counts:
        got = read(acquisition, layers, window, resolution)
    assert set(counts.opens.values()) == set(counts.blocks.values()) == {1}
    for layer in layers:
        truth.check(layer, got[layer], window or Window(0, 0, *truth.grid(resolution)), resolution)


@pytest.mark.parametrize("end", [Decoding.finish, Decoding.drop])
def test_images_are_freed_with_their_decoding(end: Callable[[Decoding], None]) -> None:
    image = np.zeros((2, 2))
    left = weakref.ref(image)
    gc.collect()
    gc.disable()  # hundreds of megabytes would wait for it
    try:
        with ExitStack() as stack:
            decoding = Decoding(OpenRasters(stack), {"B04": ([partial(image.fill, 1)], 4)})
            end(decoding)
            del image, decoding
            assert left() is None
    finally:
        gc.enable()
