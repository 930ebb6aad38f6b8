"""The generator is judged by what lies on disk, read with rasterio alone."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from pyproj import Transformer
from rasterio import features
from rasterio.errors import RasterioIOError

from sen2chain import demo
from sen2chain.demo import esa_files, index_formulas, land, noise, safe_products, scene, stored_rasters
from sen2chain.errors import RequestError, UnknownNameError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sen2chain.products import ProductId

SMALL = demo.Scene(
    tiles=("31TGJ",),
    size=96,
    overpasses=demo.season()[3:5],
    bands=("B03", "B04", "B08", "SCL", "CLDPRB"),
    parcels=6,
    indices=("NDVI", "BIGR"),
    masks=("CM004-CSH1-CMP1-CHP1-TCI1-ITER1",),
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    return demo.build(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    return demo.build(tmp_path_factory.mktemp("small"), SMALL)


def safe(archive: demo.DemoArchive, product: ProductId) -> Path:
    return archive.library / "data" / "L2A" / product.tile / f"{product}.SAFE"


def band(archive: demo.DemoArchive, product: ProductId, name: str) -> Path:
    pattern = "**/MSK_CLDPRB_20m.jp2" if name == "CLDPRB" else f"**/*_{name}_?0m.jp2"
    (path,) = safe(archive, product).glob(pattern)
    return path


def read(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as source:
        return np.asarray(source.read(1))


def reflectance(archive: demo.DemoArchive, product: ProductId, name: str) -> NDArray[np.float64]:
    """Apply the offset that the product's own metadata state."""
    text = (safe(archive, product) / "MTD_MSIL2A.xml").read_text()
    number = {"B02": 1, "B03": 2, "B04": 3, "B08": 7}[name]
    found = re.search(rf'<BOA_ADD_OFFSET band_id="{number}">(-?\d+)<', text)
    return (read(band(archive, product, name)).astype(float) + (float(found[1]) if found else 0.0)) / 10_000


def coarse_to_fine(values: NDArray[Any]) -> NDArray[Any]:
    return np.kron(values, np.ones((2, 2), dtype=values.dtype))


def intact(archive: demo.DemoArchive) -> list[ProductId]:
    broken = {part for path in archive.damaged for part in path.parts}
    return [p for p in archive.products if f"{p}.SAFE" not in broken]


# What is there


@pytest.mark.parametrize(
    ("tile", "epsg", "left", "top"),
    [
        ("32TPS", 32632, 600000, 5200020),
        ("29UNU", 32629, 499980, 5900040),
        ("40KCB", 32740, 300000, 7700020),
        ("31TGJ", 32631, 699960, 4900020),
        ("32TLP", 32632, 300000, 4900020),
    ],
)
def test_full_tile_lies_where_esa_puts_it(tile: str, epsg: int, left: float, top: float) -> None:
    frame = scene.full_tile(tile)
    assert (frame.epsg, frame.left, frame.top, frame.size) == (epsg, left, top, 10980)


def test_full_tile_agrees_with_real_products(bolzano: Path) -> None:
    path = next(bolzano.glob("L2A/32TPS/*/GRANULE/*/IMG_DATA/R10m/*_B04_10m.jp2"))
    west, south, east, north = scene.full_tile("32TPS").bounds
    with rasterio.open(path) as source:
        assert source.crs.to_epsg() == scene.full_tile("32TPS").epsg
        assert west <= source.bounds.left < source.bounds.right <= east
        assert south <= source.bounds.bottom < source.bounds.top <= north


def test_default_has_every_event(archive: demo.DemoArchive) -> None:
    names = [str(p) for p in archive.products]
    assert len(names) == len(set(names)) == 25
    assert len({p.sensing for p in archive.products}) == 12
    twice = [
        p for p in archive.products if sum(q.sensing == p.sensing and q.tile == p.tile for q in archive.products) > 1
    ]
    assert [(p.tile, p.baseline) for p in twice] == [("31TGJ", 301), ("31TGJ", 500)]
    for p in archive.products:
        assert p.baseline == (500 if p == twice[1] else 400 if p.sensing.date() >= dt.date(2022, 1, 25) else 301)
    by_tile = [{p.sensing for p in archive.products if p.tile == tile} for tile in ("31TGJ", "32TLP")]
    assert by_tile[0] == by_tile[1]
    assert len(archive.damaged) == 1


def test_products_have_all_bands_on_their_tile_s_grid(archive: demo.DemoArchive) -> None:
    for product in (archive.products[0], archive.products[-1]):
        full = scene.full_tile(product.tile)
        assert (safe(archive, product) / "MTD_MSIL2A.xml").is_file()
        bounds = set()
        for name in demo.ALL_BANDS:
            size = 10 if name in scene.BANDS_10M else 20
            path = band(archive, product, name)
            if name != "CLDPRB":
                assert path.parent.name == f"R{size}m"
            with rasterio.open(path) as source:
                assert source.crs.to_epsg() == full.epsg
                assert source.res == (size, size)
                assert (source.transform.c - full.left) % 60 == (full.top - source.transform.f) % 60 == 0
                assert source.dtypes[0] == ("uint8" if name in {"SCL", "CLDPRB"} else "uint16")
                assert source.shape == (3600 // size,) * 2
                assert source.nodata is None
                assert source.tags(ns="IMAGE_STRUCTURE")["COMPRESSION_REVERSIBILITY"] == "LOSSLESS"
                bounds.add(source.bounds)
        assert len(bounds) == 1


def test_no_side_files(archive: demo.DemoArchive) -> None:
    assert {path.suffix for path in archive.library.rglob("*") if path.is_file()} == {".jp2", ".xml", ".safe"}


def test_damaged_file_cannot_be_read_and_all_others_can(archive: demo.DemoArchive) -> None:
    for path in archive.library.rglob("*.jp2"):
        if path in archive.damaged:
            with pytest.raises(RasterioIOError):
                read(path)
        else:
            read(path)


# Radiometry


@pytest.mark.parametrize("name", ["B02", "B03", "B04", "B08"])
def test_reprocessing_changes_numbers_by_the_offset_only(archive: demo.DemoArchive, name: str) -> None:
    (new,) = (p for p in archive.products if p.baseline == 500)
    old = next(p for p in archive.products if p.sensing == new.sensing and p.tile == new.tile)
    assert (old.baseline, new.baseline) == (301, 500)
    before, after = read(band(archive, old, name)).astype(int), read(band(archive, new, name)).astype(int)
    assert (after == before + 1000).all()
    assert (reflectance(archive, old, name) == reflectance(archive, new, name)).all()


def test_metadata_state_the_offset_from_0400_on(archive: demo.DemoArchive) -> None:
    for product in archive.products:
        text = (safe(archive, product) / "MTD_MSIL2A.xml").read_text()
        offsets = re.findall(r'<BOA_ADD_OFFSET band_id="(\d+)">(.+?)<', text)
        assert offsets == ([(str(k), "-1000") for k in range(13)] if product.baseline >= 400 else [])
        assert f"{product}.SAFE" in text
        assert f"<PROCESSING_BASELINE>{product.baseline // 100:02d}.{product.baseline % 100:02d}<" in text


def test_clear_parcels_show_the_truth(archive: demo.DemoArchive) -> None:
    """Every date and tile; an ignored offset is off by more than ten times the tolerance."""
    ndvi, compared, ignored = archive.truth.index("NDVI"), 0, []
    light = []
    layer = gpd.read_file(archive.layer)
    for product in intact(archive):
        red, nir = reflectance(archive, product, "B04"), reflectance(archive, product, "B08")
        scl = coarse_to_fine(read(band(archive, product, "SCL")))
        with rasterio.open(band(archive, product, "B04")) as source:
            ids = features.rasterize(
                ((g, k + 1) for k, g in enumerate(layer.to_crs(source.crs).geometry)),
                scl.shape,
                transform=source.transform,
            )
        date = archive.truth.dates.index(product.sensing)
        row = ndvi[date]
        for fid in range(len(layer)):
            inside = ids == fid + 1
            if not np.isin(scl[inside], (4, 5, 6)).all():
                continue
            compared += 1
            light.append(nir[inside].mean() / archive.truth.reflectance["B08"][date, fid])
            n, r = nir[inside], red[inside]
            # Noise gives NDVI of a pixel a standard deviation of up to 0.033.
            assert np.mean((n - r) / (n + r)) == pytest.approx(row[fid], abs=0.15 / np.sqrt(inside.sum()))
            if product.baseline >= 400:
                ignored.append(abs(np.mean((n - r) / (n + r + 0.2)) - row[fid]))
    assert compared > 500
    assert np.median(ignored) > 0.08
    assert np.mean(light) == pytest.approx(1, abs=0.03)
    assert 0.8 < min(light) < 0.95
    assert 1.05 < max(light) < 1.2


def test_crops_have_their_seasons(archive: demo.DemoArchive) -> None:
    ndvi, months = archive.truth.index("NDVI"), [d.month for d in archive.truth.dates]
    assert set(archive.truth.crops) == set(demo.parcels(10, (0, 0, 9e3, 9e3), "EPSG:32631").crop)
    for crop, spring_high in (("wheat", True), ("barley", True), ("maize", False), ("sunflower", False)):
        mean = ndvi[:, np.array(archive.truth.crops) == crop].mean(axis=1)
        early_may, july = mean[months.index(5)], mean[months.index(7)]
        assert (early_may > july + 0.2) if spring_high else (july > early_may + 0.4)


def test_twenty_metre_bands_are_the_mean_of_the_ground(tmp_path: Path) -> None:
    bare = dataclasses.replace(SMALL, overpasses=demo.season(1), noise=0.0, indices=())
    archive = demo.build(tmp_path, dataclasses.replace(bare, bands=("B04", "B08", "B05", "B8A"), masks=()))
    (product,) = archive.products
    fine, mean = read(band(archive, product, "B08")).astype(float), read(band(archive, product, "B8A")).astype(float)
    boxes = fine.reshape(48, 2, 48, 2).mean(axis=(1, 3))
    assert np.corrcoef(boxes.ravel(), mean.ravel())[0, 1] > 0.999


# Sky


def test_scene_classes_and_cloud_probability_agree(archive: demo.DemoArchive) -> None:
    seen: set[int] = set()
    for product in archive.products:
        scl, cldprb = read(band(archive, product, "SCL")), read(band(archive, product, "CLDPRB"))
        assert ((cldprb > 0) == np.isin(scl, (8, 9, 10))).all()
        assert ((cldprb >= 65) == (scl == 9)).all()
        assert (((cldprb >= 35) & (cldprb < 65)) == (scl == 8)).all()
        assert cldprb.max() <= 100
        seen |= set(np.unique(scl).tolist())
    assert seen == {0, 3, 4, 5, 6, 8, 9, 10}


def test_no_data_in_bands_is_no_data_in_the_scene(archive: demo.DemoArchive) -> None:
    for product in intact(archive):
        outside = read(band(archive, product, "SCL")) == 0
        for name in ("B04", "B8A"):
            assert (
                (read(band(archive, product, name)) == 0) == (coarse_to_fine(outside) if name == "B04" else outside)
            ).all()


def test_clouds_are_bright_and_shadows_dark(archive: demo.DemoArchive) -> None:
    product = next(p for p in archive.products if p.sensing.month == 11)
    blue, scl = reflectance(archive, product, "B02"), coarse_to_fine(read(band(archive, product, "SCL")))
    clear = np.median(blue[np.isin(scl, (4, 5))])
    assert np.median(blue[scl == 9]) > 0.4 > clear * 2
    assert np.median(blue[scl == 3]) < 0.7 * clear


def test_shadows_lie_north_west_of_their_clouds(archive: demo.DemoArchive) -> None:
    for month in (11, 3):
        scl = read(band(archive, next(p for p in archive.products if p.sensing.month == month), "SCL"))
        rows, cols = np.nonzero(scl == 3)
        # 260 m and 330 m are 13 and 16.5 pixels.
        inside = (rows + 17 < len(scl)) & (cols + 13 < len(scl))
        behind = scl[rows[inside] + 16, cols[inside] + 13], scl[rows[inside] + 17, cols[inside] + 13]
        assert inside.sum() > 500
        assert np.isin(behind, (8, 9)).any(axis=0).mean() > 0.99


def test_cloud_cover_is_that_of_the_scene_classes(archive: demo.DemoArchive) -> None:
    covers = []
    for product in archive.products:
        text = (safe(archive, product) / "MTD_MSIL2A.xml").read_text()
        figure = float(re.findall(r"<Cloud_Coverage_Assessment>(.+?)<", text)[0])
        scl = read(band(archive, product, "SCL"))
        assert figure == pytest.approx(100 * np.isin(scl, (8, 9, 10)).sum() / (scl > 0).sum(), abs=1e-5)
        covers.append(figure)
    assert min(covers) == 0
    assert max(covers) == 100
    assert sum(5 < c < 90 for c in covers) >= 8


def test_swath_edge_cuts_the_tiles_it_should(archive: demo.DemoArchive) -> None:
    share = {}
    for product in archive.products:
        share[product.sensing.date(), product.tile] = (read(band(archive, product, "SCL")) == 0).mean()
    cut = {key for key, value in share.items() if value > 0}
    january, april = dt.date(2022, 1, 23), dt.date(2022, 4, 8)
    assert cut == {(january, "31TGJ"), (january, "32TLP"), (april, "32TLP")}
    assert all(0.3 < share[key] < 0.7 for key in cut)


# JPEG 2000 as ESA writes it

ESA = {  # resolution: tile, code-block, precinct
    10: (1024, 64, 256),
    20: (640, 8, 128),
    60: (192, 4, 64),
}


def markers(data: bytes) -> dict[int, bytes]:
    """Segments of a codestream's main header and, after them, of its first tile-part, by marker."""
    position, found = data.index(b"\xff\x4f\xff\x51") + 2, {}
    while (marker := int.from_bytes(data[position : position + 2])) != 0xFF93:  # SOD: data follow
        length = int.from_bytes(data[position + 2 : position + 4])
        found[marker] = data[position + 4 : position + 2 + length]
        position += 2 + length
    return found


def jpeg2000_facts(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    found = markers(data)
    siz, cod = found[0xFF51], found[0xFF52]
    levels = cod[5]
    start, parts = data.index(b"\xff\x90\x00\x0a"), 0
    while data[start : start + 2] == b"\xff\x90":
        parts, start = parts + 1, start + int.from_bytes(data[start + 6 : start + 10])
    width, height, *_, tile_width, tile_height = np.frombuffer(siz[2:26], ">u4").tolist()
    precincts = {2 ** (byte & 15) for byte in cod[10:]} | {2 ** (byte >> 4) for byte in cod[10:]}
    return {
        "tile": {tile_width, tile_height},
        "tile-parts of a tile": parts / (-(-width // tile_width) * -(-height // tile_height)),
        "components": int.from_bytes(siz[34:36]),
        "bits": siz[36] + 1,
        "precincts": precincts if cod[0] & 1 else None,
        "markers between packets": cod[0] & 6,
        "progression": cod[1],
        "layers": int.from_bytes(cod[2:4]),
        "component transform": cod[4],
        "resolutions": levels + 1,
        "code-block": {2 ** (cod[6] + 2), 2 ** (cod[7] + 2)},
        "style of code-blocks": cod[8],
        "reversible": cod[9] == 1,
        "TLM": 0xFF55 in found,
        "PLT": 0xFF58 in found,
    }


def facts_of_esa(resolution: int, bits: int) -> dict[str, Any]:
    tile, code_block, precinct = ESA[resolution]
    return {
        "tile": {tile}, "tile-parts of a tile": 1, "components": 1, "bits": bits, "precincts": {precinct},
        "markers between packets": 0, "progression": 0, "layers": 1, "component transform": 0, "resolutions": 5,
        "code-block": {code_block}, "style of code-blocks": 0, "reversible": True, "TLM": False, "PLT": True,
    }  # fmt: skip


def test_table_is_that_of_a_real_product(shared_data: Path) -> None:
    paths = sorted((shared_data / "ireland" / "L2A").rglob("*.jp2"))
    assert len(paths) == 9
    for path in paths:
        bits = 8 if {"SCL", "CLDPRB"} & set(path.stem.split("_")) else 15
        assert jpeg2000_facts(path) == facts_of_esa(int(path.stem[-3:-1]), bits), path.name


@pytest.mark.parametrize(("resolution", "bits"), [(10, 15), (20, 15), (20, 8), (60, 15), (60, 8)])
def test_files_have_the_form_of_esa_s(resolution: int, bits: int, tmp_path: Path) -> None:
    frame = dataclasses.replace(scene.full_tile("31TGJ"), size=ESA[resolution][0] * resolution // 10 + 60)
    pixels = frame.size * 10 // resolution
    values = (np.add.outer(np.arange(pixels), np.arange(pixels)) * 37 % 2**bits).astype("u1" if bits == 8 else "u2")
    for tile_lengths, packet_lengths in ((False, True), (True, False)):
        path = tmp_path / f"{tile_lengths}.jp2"
        lengths = {"tile_lengths": tile_lengths, "packet_lengths": packet_lengths}
        options = esa_files.esa_jp2(frame, resolution, bits=bits, **lengths)
        esa_files.write_raster(path, frame, resolution, [values], options, dtype=values.dtype.name)
        want = facts_of_esa(resolution, bits) | {"TLM": tile_lengths, "PLT": packet_lengths}
        assert jpeg2000_facts(path) == want
        assert (read(path) == values).all()


@pytest.mark.parametrize("pixels", [3, 31, 48])
def test_tiny_images_have_fewer_resolutions(pixels: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frame = dataclasses.replace(scene.full_tile("31TGJ"), size=2 * pixels)
    values = np.arange(pixels**2, dtype=np.uint8).reshape(pixels, pixels)
    esa_files.write_raster(
        tmp_path / "tiny.jp2", frame, 20, [values], esa_files.esa_jp2(frame, 20, bits=8), dtype="uint8"
    )
    assert (read(tmp_path / "tiny.jp2") == values).all()
    assert jpeg2000_facts(tmp_path / "tiny.jp2")["resolutions"] == {3: 1, 31: 4, 48: 5}[pixels]
    assert not caplog.records  # GDAL accepted all options


def test_bands_have_the_bits_of_esa_s(small: demo.DemoArchive) -> None:
    for product in small.products:
        for name in SMALL.bands:
            path = band(small, product, name)
            form = jpeg2000_facts(path)
            assert form["bits"] == (8 if name in {"SCL", "CLDPRB"} else 15)
            assert (form["code-block"], form["PLT"]) == ({64 if name in scene.BANDS_10M else 8}, True)


def test_bright_pixels_stay_within_fifteen_bits(tmp_path: Path) -> None:
    glare = dataclasses.replace(SMALL, noise=9000.0, indices=(), masks=(), bands=("B08", "SCL"))
    archive = demo.build(tmp_path, glare)
    values = np.array([read(band(archive, product, "B08")) for product in archive.products])
    outside = np.array([coarse_to_fine(read(band(archive, product, "SCL")) == 0) for product in archive.products])
    assert values.max() == 2**15 - 1
    assert ((values == 0) == outside).all()


# Two tiles, one ground


def test_both_tiles_see_every_parcel(archive: demo.DemoArchive) -> None:
    layer = gpd.read_file(archive.layer)
    assert layer.crs.to_epsg() == 4326
    assert len(layer) == 48
    for tile in ("31TGJ", "32TLP"):
        product = next(p for p in archive.products if p.tile == tile)
        with rasterio.open(band(archive, product, "B04")) as source:
            window = shapely.box(*source.bounds)
            assert layer.to_crs(source.crs).within(window).all()


def test_the_same_ground_point_has_the_same_truth_in_both_tiles(archive: demo.DemoArchive) -> None:
    """Points a pixel's diagonal inside parcels: same DNs but for the noise; the same sky but at its borders."""
    layer = archive.parcels.to_crs("EPSG:32631")
    cores = [core for core in layer.buffer(-20) if not core.is_empty]
    assert len(cores) >= 45
    points = [shapely.get_coordinates(core.representative_point())[0] for core in cores]
    x, y = np.array(points).T
    for sensing in sorted({p.sensing for p in archive.products}):
        pair = [next(p for p in intact(archive) if p.sensing == sensing and p.tile == "31TGJ")]
        pair += [p for p in intact(archive) if p.sensing == sensing and p.tile == "32TLP"]
        if len(pair) < 2:
            continue
        nir, scl = [], []
        for product in pair:
            with rasterio.open(band(archive, product, "B08")) as source:
                there = np.array(Transformer.from_crs(32631, source.crs, always_xy=True).transform(x, y))
                rows, cols = rasterio.transform.rowcol(source.transform, *there)
                rows, cols = np.asarray(rows, dtype=int), np.asarray(cols, dtype=int)
                nir.append(source.read(1)[rows, cols].astype(int))
            scl.append(read(band(archive, product, "SCL"))[rows // 2, cols // 2])
        clear = np.isin(scl[0], (4, 5, 6)) & np.isin(scl[1], (4, 5, 6))
        if clear.any():
            light = [dn - (1000 if product.baseline >= 400 else 0) for dn, product in zip(nir, pair, strict=True)]
            noise_of_both = demo.DEFAULT.noise * np.sqrt(np.add(*light).clip(0) / 1000)
            assert (np.abs(light[0] - light[1]) < 6 * noise_of_both)[clear].all()
        both = (scl[0] > 0) & (scl[1] > 0)
        assert (scl[0] == scl[1])[both].mean() > 0.85


def test_a_pixel_is_a_parcel_s_where_its_centre_lies_in_it(archive: demo.DemoArchive) -> None:
    for frame in demo.DEFAULT.frames():
        lattice = noise.Lattice.over(frame, 32631)
        classes = land.Land(archive.parcels, 1, lattice, 32631).classes(frame, lattice)
        shapes = archive.parcels.geometry.to_crs(frame.epsg)
        rows, cols = np.nonzero(classes >= land.FIRST_PARCEL)
        x, y = rasterio.transform.xy(frame.transform(10), rows, cols)
        fids = classes[rows, cols] - land.FIRST_PARCEL
        assert shapely.contains_xy(shapes.to_numpy()[fids], x, y).all()
        rows, cols = np.nonzero(classes < land.FIRST_PARCEL)
        x, y = rasterio.transform.xy(frame.transform(10), rows, cols)
        assert not shapely.contains_xy(shapes.union_all(), x, y).any()
        assert set(np.unique(classes)) == set(range(land.FIRST_PARCEL + 48))


def test_tiles_that_do_not_overlap_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="31TGJ, 33TUL do not overlap"):
        demo.build(tmp_path, dataclasses.replace(SMALL, tiles=("31TGJ", "33TUL")))
    assert not list(tmp_path.iterdir())


# Determinism and size


def test_the_same_scene_gives_the_same_bytes(small: demo.DemoArchive, tmp_path: Path) -> None:
    def contents(root: Path) -> dict[str, bytes]:
        return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}

    first = contents(small.layer.parent)
    demo.build(tmp_path / "again", SMALL)
    assert contents(tmp_path / "again") == first
    demo.build(tmp_path / "other", dataclasses.replace(SMALL, seed=2))
    other = contents(tmp_path / "other")
    assert other.keys() == first.keys()
    assert all(other[name] != first[name] for name in first if "_B0" in name or name.endswith(".gpkg"))


def test_strips_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = dataclasses.replace(SMALL, bands=("B04", "B05", "SCL"), indices=(), masks=())
    whole = demo.build(tmp_path / "whole", wanted)
    monkeypatch.setattr(safe_products, "STRIP", 7)
    strips = demo.build(tmp_path / "strips", wanted)
    for product in whole.products:
        for name in wanted.bands:
            assert (read(band(whole, product, name)) == read(band(strips, product, name))).all()


def test_large_windows_have_esa_s_blocks(tmp_path: Path) -> None:
    wanted = demo.Scene(
        tiles=("31TGJ",), size=1400, overpasses=demo.season(1), bands=("B04", "SCL"), parcels=500, seed=3
    )
    archive = demo.build(tmp_path, wanted)
    (product,) = archive.products
    for name, block in (("B04", 1024), ("SCL", 640)):
        with rasterio.open(band(archive, product, name)) as source:
            assert source.block_shapes == [(block, block)]
            assert (source.read(1)[-1] > 0).all()


def test_upsampling_is_exact_for_a_plane() -> None:
    down, right = np.mgrid[0:12, 0:12] * 160.0
    plane = (3 * right + 2 * down).astype(np.float32)
    for resolution in (10, 20):
        rows = range(5, 40)
        y = (np.arange(5, 40) + 0.5)[:, None] * resolution
        x = (np.arange(70) + 0.5)[None, :] * resolution
        np.testing.assert_allclose(noise.upsample(plane, rows, 70, resolution), 3 * x + 2 * y, rtol=1e-6)


def test_progress_counts_products(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    demo.build(tmp_path, dataclasses.replace(SMALL, bands=("B04",), indices=()), lambda *call: calls.append(call))
    assert calls == [(0, 2), (1, 2), (2, 2)]


def test_truth_as_a_table(archive: demo.DemoArchive) -> None:
    table = archive.truth.table("NDVI", "NBR")
    assert {len(column) for column in table.values()} == {12 * 48}
    assert table["fid"][:13].tolist() == [0] * 12 + [1]
    assert table["NBR"][12 * 5 + 3] == archive.truth.index("NBR")[3, 5]
    assert set(table) == {"date", "fid", "crop", "NDVI", "NBR"}


# Stored indices and masks


def folder(archive: demo.DemoArchive, *parts: str) -> Path:
    return archive.library.joinpath("data", *parts)


def test_stored_index_is_that_of_the_bands(small: demo.DemoArchive) -> None:
    some_missing = False
    for product in small.products:
        name = str(product)
        dn = {b: read(band(small, product, b)) for b in ("B03", "B04", "B08")}
        offset = 1000 if product.baseline >= 400 else 0
        red, nir = ((dn[b].astype(float) - offset).clip(0) / 10_000 for b in ("B04", "B08"))
        path = folder(small, "INDICES", "NDVI", product.tile, name, f"{name}_NDVI.tif")
        values = read(path).astype(float)
        missing = (dn["B04"] == 0) | (dn["B08"] == 0)
        some_missing |= bool(missing.any())
        assert ((values == 32767) == missing).all()
        expected = np.rint((nir - red)[~missing] / (nir + red)[~missing] * 10_000)
        assert (values[~missing] == expected).all()
        assert folder(small, "INDICES", "BIGR", product.tile, name, f"{name}_BIGR.tif").is_file()
        with rasterio.open(path) as source:
            assert source.nodata == 32767
            assert source.dtypes == ("int16",)
            structure = source.tags(ns="IMAGE_STRUCTURE")
            assert (structure["COMPRESSION"], structure["LAYOUT"]) == ("ZSTD", "COG")
    assert some_missing


def test_legacy_index_is_lossy_with_15_bits(small: demo.DemoArchive, tmp_path: Path) -> None:
    legacy = demo.build(tmp_path, dataclasses.replace(SMALL, index_format="jp2", mask_format="tif"))
    product = legacy.products[0]
    name = str(product)
    path = folder(legacy, "INDICES", "NDVI", product.tile, name, f"{name}_NDVI.jp2")
    truth = read(folder(small, "INDICES", "NDVI", product.tile, name, f"{name}_NDVI.tif"))
    with rasterio.open(path) as source:
        assert source.nodata == 16383
        assert source.dtypes == ("int16",)
        values = source.read(1)
    assert path.with_name(path.name + ".aux.xml").is_file()
    difference = np.abs(values.astype(int) - truth)
    assert 0 < np.median(difference) < 200
    assert folder(legacy, "CLOUDMASKS", product.tile, name, f"{name}_{SMALL.masks[0]}.tif").is_file()


def test_damaged_products_have_no_stored_index(tmp_path: Path) -> None:
    archive = demo.build(tmp_path, dataclasses.replace(SMALL, damaged=((1, "31TGJ", "B04"),)))
    stored_for = {path.parent.name for path in folder(archive, "INDICES").rglob("*.tif")}
    assert stored_for == {str(archive.products[0])}


def dilated_by_hand(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    out = np.zeros_like(mask)
    height, width = mask.shape
    for r, c in np.argwhere(mask):
        for dr in range(-2, 3):
            for dc in range(-2, 3):
                inside = 0 <= r + dr < height and 0 <= c + dc < width
                if inside and abs(dr * dc) < 4:
                    out[r + dr, c + dc] = True
    return out


def test_stored_mask_is_that_of_the_scene_classes(small: demo.DemoArchive) -> None:
    for product in small.products:
        name = str(product)
        path = folder(small, "CLOUDMASKS", product.tile, name, f"{name}_{SMALL.masks[0]}.jp2")
        scl = read(band(small, product, "SCL"))
        assert (read(path) == dilated_by_hand(np.isin(scl, (3, 8, 9, 10)))).all()


@pytest.mark.parametrize(
    ("name", "marked"),
    [
        ("CM004-CSH0-CMP1-CHP0-TCI1-ITER0", [2, 4]),
        ("CM003-PRB20-ITER0", [2, 3]),
        ("SCL-3-9-ITER0", [1, 3]),
    ],
)
def test_masks_without_dilation(name: str, marked: list[int]) -> None:
    scl = np.array([[4, 3, 8, 9, 10]], dtype=np.uint8)
    cldprb = np.array([[0, 0, 40, 90, 10]], dtype=np.uint8)
    assert np.flatnonzero(stored_rasters.cloud_mask(name, scl, cldprb)).tolist() == marked


def test_mask_cm001_drops_specks_and_grows_cores() -> None:
    cldprb = np.zeros((41, 41), dtype=np.uint8)
    cldprb[3, 3] = 100
    cldprb[19:22, 19:22] = 26
    mask = stored_rasters.cloud_mask("CM001", cldprb, cldprb)
    assert mask.sum() == sum((3, 7, 9, 9, 11, 11, 11, 9, 9, 7, 3))
    assert mask[15:26, 20].all()
    assert not stored_rasters.cloud_mask("CM001", cldprb, np.minimum(cldprb, 25)).any()


def test_encoding_rounds_half_to_even_and_saturates() -> None:
    values = np.array([0.00005, 0.00025, 0.00035, -9.0, 9.0, np.nan, np.inf])
    assert index_formulas.encode(values).tolist() == [0, 2, 4, -32768, 32766, 32767, 32767]


# Parcels


def test_parcels_look_like_parcels() -> None:
    layer = demo.parcels(5000, (3e5, 48e5, 3.3e5, 48.3e5), "EPSG:32632", seed=4)
    assert len(layer) == 5000
    assert layer.geometry.is_valid.all()
    plain = layer.geometry[layer.geometry.apply(lambda g: g.geom_type == "Polygon" and not g.interiors)]
    vertices = shapely.get_num_coordinates(plain.to_numpy()) - 1
    assert len(plain) == 4998
    assert vertices.min() >= 5
    assert vertices.max() <= 40
    assert np.unique(vertices).size > 20
    share = plain.area / plain.convex_hull.area
    assert 0.05 < (share < 0.9).mean() < 0.3
    assert layer.area_ha.between(0.3, 30).all()
    first, second = layer.sindex.query(layer.geometry, predicate="overlaps")
    assert len(first) == len(second) == 0
    west, south, east, north = layer.total_bounds
    assert west >= 3e5 - 40
    assert east <= 3.3e5 + 40
    assert south >= 48e5 - 40
    assert north <= 48.3e5 + 40
    quadrants = np.histogram2d(layer.centroid.x, layer.centroid.y, bins=3)[0]
    assert quadrants.min() > 400


@pytest.mark.parametrize("n", [1, 2, 3, 50])
def test_small_layers(n: int) -> None:
    layer = demo.parcels(n, (7e5, 48e5, 7.2e5, 48.2e5), "EPSG:32631")
    assert len(layer) == n
    kinds = layer.geometry.geom_type.tolist()
    assert kinds.count("MultiPolygon") == (n >= 3)
    assert sum(bool(g.interiors) for g in layer.geometry if g.geom_type == "Polygon") == (n >= 3)


def test_more_parcels_than_usual_fields_become_smaller() -> None:
    layer = demo.parcels(400, (0, 0, 2000, 2000), "EPSG:32631", seed=9)
    assert layer.geometry.is_valid.all()
    assert layer.area_ha.mean() == pytest.approx(0.75, rel=0.2)


def test_parcels_are_their_seed_s() -> None:
    one, same, other = (demo.parcels(40, (0, 0, 9e3, 9e3), "EPSG:32631", seed) for seed in (1, 1, 2))
    assert one.geometry.geom_equals_exact(same.geometry, 0).all()
    assert not one.geometry.geom_equals_exact(other.geometry, 1).any()


@pytest.mark.parametrize(
    ("n", "bounds", "crs", "sentence"),
    [
        (0, (0, 0, 1e4, 1e4), "EPSG:32631", "n is 0"),
        (5, (0, 0, 0, 1e4), "EPSG:32631", "bounds is"),
        (5, (0, 0, 1, 1), "EPSG:4326", "projected CRS"),
    ],
)
def test_parcels_refuse(n: int, bounds: tuple[float, float, float, float], crs: str, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        demo.parcels(n, bounds, crs)


# A scene checks itself


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"tiles": ()}, "at least one tile"),
        ({"tiles": ("31TGJ", "31TGJ")}, "only once"),
        ({"size": 361}, "even number"),
        ({"size": 10982}, "even number"),
        ({"parcels": 0}, "at least one polygon"),
        ({"bands": ("B01",)}, "Unknown band 'B01'"),
        ({"indices": ("NBR",)}, "Unknown index of 10 m bands 'NBR'"),
        ({"indices": ("NDVI",), "bands": ("B04",)}, "lacks B08"),
        ({"index_format": "png"}, "Unknown raster format"),
        ({"reprocessed": ((0, "32TLP"),), "tiles": ("31TGJ",)}, "Unknown tile"),
        ({"reprocessed": ((12, "31TGJ"),)}, "no overpass 12"),
        ({"damaged": ((0, "31TGJ", "B04"),), "bands": ("SCL",)}, "Unknown band of the scene"),
    ],
)
def test_scene_refuses(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        dataclasses.replace(demo.Scene(), **change)


@pytest.mark.parametrize("tile", ["31TZJ", "XX", "61TGJ", "31OGJ"])
def test_names_that_are_no_tiles(tile: str) -> None:
    with pytest.raises(RequestError, match="is not an MGRS tile"):
        scene.full_tile(tile)


def test_unknown_masks_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="CM005"):
        demo.build(tmp_path, dataclasses.replace(SMALL, masks=("CM005",)))
    assert not list(tmp_path.iterdir())
