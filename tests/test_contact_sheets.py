"""Quicklooks: what their images show, the names of their files, and what they say about what is missing."""

from __future__ import annotations

import datetime as dt
import io
import shutil
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from click.testing import CliRunner
from PIL import Image

from sen2chain import TimeSeries, TimeSeriesCompil, demo
from sen2chain.chips import Chip, ChipFeatures, places_on
from sen2chain.cli import main
from sen2chain.errors import LibraryError, MissingExtraError, OutputError, RequestError
from sen2chain.grid import Grid
from sen2chain.indices import INDICES, NODATA, Index
from sen2chain.legends import LEGENDS, Legend
from sen2chain.parallel import closed
from sen2chain.pictures.chip_images import GREY, ChipPainter, ChipStyle, hatched, true_colour
from sen2chain.pictures.contact_sheets import ContactSheet, SheetText, percent, thumbnail
from sen2chain.pictures.picture_key import fitted, font
from sen2chain.products import ProductId

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Array = npt.NDArray[Any]

MASK = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
PRODUCT = ProductId.parse("S2A_MSIL2A_20220602T100601_N0400_R022_T32TPS_20220602T160000")
GRID = Grid("EPSG:32632", (10.0, 0.0, 600_000.0, 0.0, -10.0, 5_200_000.0), (100, 100))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    season = demo.season()
    scene = demo.Scene(
        size=200,
        overpasses=(season[0], season[1], season[9]),
        bands=("B02", "B03", "B04", "B08", "SCL"),
        parcels=24,
    )
    return demo.build(tmp_path_factory.mktemp("quicklooks"), scene)


def series(archive: demo.DemoArchive, layer: Any = None, **options: Any) -> TimeSeries:
    given = {"library": archive.library, "masks": MASK, "quiet": True, "multiproc": 2, **options}
    return TimeSeries(archive.layer if layer is None else layer, ["NDVI"], **given)


def chip(colour: float = 0.1, index: int = 5000) -> Chip:
    """Make a chip of 24 x 24 pixels around a square of 8 x 8, of one colour and one index value."""
    shape = shapely.box(600_300, 5_199_600, 600_380, 5_199_680)
    features = ChipFeatures(np.array([0]), np.array([shape], dtype=object), GRID.crs)
    (place,) = places_on(features, GRID, "32TPS")[1]
    return Chip(
        0,
        PRODUCT,
        place,
        np.full((24, 24, 3), colour, np.float32),
        {"NDVI": np.full((24, 24), index, np.int16)},
        {MASK: np.zeros((24, 24), np.bool_)},
    )


def pixels(image: Image.Image) -> Array:
    return np.asarray(image)


# --------------------------------------------------------------------------------------------------------------- images


def test_reflectance_has_one_stretch_for_all_dates() -> None:
    shades = true_colour(np.array([[-0.1] * 3, [0.0] * 3, [0.05] * 3, [0.1] * 3, [0.3] * 3, [1.2] * 3], np.float32))
    assert shades[:, 0].tolist() == [0, 0, 94, 139, 255, 255]
    assert true_colour(np.array([0.1, np.nan, 0.1], np.float32)).tolist() == list(GREY)


def test_images_show_values_at_their_places() -> None:
    one = chip()
    one.values["NDVI"][0, :] = NODATA
    one.values["NDVI"][23, 5] = -1000
    image = pixels(ChipPainter(ChipStyle(INDICES["NDVI"], LEGENDS["NDVI"]), 240).paint(one))
    assert image.shape == (240, 240, 3)
    middle = image[5::10, 5::10]
    assert (middle[0] == GREY).all(), "no data is grey"
    assert middle[23, 5].tolist() == LEGENDS["NDVI"].rgb(-0.1).tolist()
    assert middle[5, 5].tolist() == LEGENDS["NDVI"].rgb(0.5).tolist()


def test_an_index_with_a_scale_of_its_own_is_shown_in_its_units() -> None:
    ratio = Index("RATIO", "B08/B04", scale=100)
    legend = Legend(0.0, 100.0)
    one = chip()
    one.values["RATIO"] = np.full((24, 24), 5000, np.int16)  # type: ignore[index]
    image = pixels(ChipPainter(ChipStyle(ratio, legend), 24).paint(one))
    assert image[1, 1].tolist() == legend.rgb(50.0).tolist()


def test_the_outline_is_drawn_where_the_feature_is() -> None:
    one = chip()
    image = pixels(ChipPainter(ChipStyle(), 240).paint(one)).astype(int)
    ground = image[2, 2]
    differs = np.abs(image - ground).sum(axis=2) > 30
    rows, columns = np.nonzero(differs)
    (ring,) = one.place.outline
    (left, top), (right, bottom) = ring.min(axis=0) * 10, ring.max(axis=0) * 10
    for found, wanted in ((columns.min(), left), (rows.min(), top), (columns.max(), right), (rows.max(), bottom)):
        assert abs(found - wanted) <= 3
    assert not differs[int(top) + 5 : int(bottom) - 5, int(left) + 5 : int(right) - 5].any(), "the inside stays visible"


def test_masked_pixels_alone_are_hatched() -> None:
    one = chip()
    one.masks[MASK][:6] = True
    plain = pixels(ChipPainter(ChipStyle(), 240).paint(one))
    lines = (pixels(ChipPainter(ChipStyle(mask=MASK), 240).paint(one)) != plain).any(axis=2)
    assert 0.1 < lines[:60].mean() < 0.5, "what is below stays visible"
    assert not lines[60:].any()
    for ground in (0, 128, 255):
        image = hatched(np.full((20, 20, 3), ground, np.uint8), np.ones((20, 20), np.bool_)).astype(int)
        assert np.abs(image - ground).max() > 80, "lines are seen on dark, middle and bright ground"


def test_large_chips_are_reduced_and_thumbnails_are_small() -> None:
    content = thumbnail(chip(), ChipStyle(INDICES["NDVI"], LEGENDS["NDVI"], MASK), 96)
    assert Image.open(io.BytesIO(content)).size == (96, 96)
    assert len(content) < 6000
    assert Image.open(io.BytesIO(thumbnail(chip(), ChipStyle(), 12))).size == (12, 12)


# ----------------------------------------------------------------------------------------------------------- sheets


def sheet(count: int, title: str = "P7", edge: int = 48) -> Image.Image:
    made = ContactSheet(SheetText(title, "NDVI of parcels", MASK, "NDVI", LEGENDS["NDVI"]), edge)
    image = Image.new("RGB", (edge, edge), (200, 30, 30))
    for k in range(count):
        made.add(dt.datetime(2022, 1, 1) + dt.timedelta(days=5 * k), 0.5, image)  # noqa: DTZ001  # UTC without zone
    return made.draw()


@pytest.mark.parametrize("count", [1, 2, 12, 150, 400])
def test_sheets_hold_all_dates_in_a_shape_that_fits_a_screen(count: int) -> None:
    drawn = sheet(count)
    shown = (pixels(drawn) == (200, 30, 30)).all(axis=2).sum()
    assert shown == count * 48 * 48, "nothing covers a chip"
    if count >= 12:
        assert 1 / 3 < drawn.width / drawn.height < 3
    assert max(drawn.size) < 6000


def test_sheets_show_the_colours_of_the_index_and_the_texts() -> None:
    drawn = pixels(sheet(3))
    colours = {tuple(c) for c in drawn.reshape(-1, 3).tolist()}
    ends = (LEGENDS["NDVI"].rgb(-0.2), LEGENDS["NDVI"].rgb(1.0))
    assert {tuple(end.tolist()) for end in ends} <= colours, "both ends of the legend"
    assert (drawn != pixels(sheet(3, title="P8"))).any()


def test_texts_are_cut_to_the_room_that_there_is() -> None:
    face = font(20)
    assert fitted("short", face, 500) == "short"
    assert fitted("bad\x07bell\nline", face, 900) == "bad bell line"
    cut = fitted("W" * 5000, face, 300)
    assert cut.endswith("…")
    assert face.getlength(cut) <= 300
    sheet(1, title="\U0001f33b 田 <b>$x^2$</b>" * 50)


def test_shares_are_not_rounded_to_all_or_nothing() -> None:
    assert [percent(s) for s in (0, 0.001, 0.5, 0.996, 1)] == [
        "0 % valid", "<1 % valid", "50 % valid", ">99 % valid", "100 % valid",
    ]  # fmt: skip


def test_pillow_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, archive: Any) -> None:
    made = series(archive)
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"pip install pillow .*sen2chain\[plot\]"):
        made.extract_ql(tmp_path)
    assert not list(tmp_path.iterdir()), "it is said before the work starts"


# ----------------------------------------------------------------------------------------------------------- extract_ql


def test_files_have_the_documented_names(archive: demo.DemoArchive, tmp_path: Path) -> None:
    made = series(archive, date_min="2021-10-01", date_max="2021-10-31")
    files = made.extract_ql(tmp_path, features=[3])
    folder = tmp_path / "parcels" / "QL_3"
    assert [path.name for path in files] == [
        "parcels_MOZ-QL_3_L2A_2021-10-01_2021-10-31.jpg",
        "parcels_MOZ-QL_3_NDVI_2021-10-01_2021-10-31.jpg",
        "parcels_QL_3_L2A_2021-10-15_31TGJ_S2B.jpg",
        "parcels_QL_3_NDVI_2021-10-15_31TGJ_S2B.jpg",
    ]
    assert sorted(folder.iterdir()) == sorted(files)
    for path in files:
        with Image.open(path) as image:
            image.load()
            assert image.format == "JPEG"
            assert min(image.size) > 150


def test_keys_name_files_and_several_masks_too(archive: demo.DemoArchive, tmp_path: Path) -> None:
    layer = gpd.read_file(archive.layer).iloc[:3].assign(key=["a/b", "a:b", "../<script>"])
    made = series(archive, layer, name="own", id_field="key", masks=[MASK, "none"], date_max="2021-10-31")
    files = made.extract_ql(tmp_path, features=["a/b", "../<script>"])
    root = tmp_path / "own"
    assert {path.parent.parent for path in files} == {root}
    keys = {path.parent.name for path in files}
    assert keys == {f"QL_{made._engine.features.keys[k]}" for k in (0, 2)}
    assert len(keys) == 2
    names = {path.name for path in files}
    assert len(names) == len(files) == 2 * 2 * 2 * 2
    for mask in (MASK, "none"):
        assert sum(name.endswith(f"_{mask}.jpg") for name in names) == 8


def test_twenty_features_are_taken_where_none_is_named(archive: demo.DemoArchive, tmp_path: Path) -> None:
    made = series(archive, date_max="2021-10-31")
    files = made.extract_ql(tmp_path)
    assert {path.parent.name for path in files} == {f"QL_{fid}" for fid in range(20)}
    assert any("the first 20 of 24 features" in note for note in made.notes)
    with pytest.raises(RequestError, match="no feature"):
        made.extract_ql(tmp_path, features=[999])


def test_dates_of_clouds_are_shown_and_features_without_geometry_are_told(
    archive: demo.DemoArchive, tmp_path: Path
) -> None:
    layer = gpd.read_file(archive.layer).iloc[:2]
    layer.loc[1, "geometry"] = None
    made = series(archive, layer)
    files = made.extract_ql(tmp_path)
    dates = [f"{date:%Y-%m-%d}" for date in made.data["NDVI"].index]
    assert "2022-05-28" not in dates, "clouds cover all of it"
    assert any("_2022-05-28_" in path.name for path in files)
    assert {path.parent.name for path in files} == {"QL_0"}
    assert any("1 feature has no image" in note for note in made.notes)


def test_compiled_series_have_quicklooks_beside_their_tables(archive: demo.DemoArchive, tmp_path: Path) -> None:
    library = tmp_path / "library"
    shutil.copytree(archive.library, library)
    made = TimeSeriesCompil(archive.layer, ["NDVI"], library=library, quiet=True, date_max="2021-10-31")
    made.extract_data()
    made.compile_data(alldata=True)
    files = made.extract_ql(features=[0])
    folder = made.folder / "compiled_data" / "NDVI" / MASK / "all_data"
    assert {path.parent for path in files} == {folder / "QL_0"}
    assert list(folder.glob("*.csv"))
    again = TimeSeriesCompil(archive.layer, ["NDVI"], library=library, quiet=True, date_max="2021-10-31")
    assert again.compile_data(alldata=True).files is not None, "images do not disturb the next compilation"
    shutil.rmtree(library / "data" / "L2A")
    with pytest.raises(LibraryError, match="Quicklooks are read from the rasters of the archive"):
        TimeSeriesCompil(archive.layer, ["NDVI"], library=library, quiet=True).extract_ql(features=[0])
    (library / "data" / "L2A").mkdir()
    empty = TimeSeriesCompil(archive.layer, ["NDVI"], library=library, quiet=True)
    assert empty.extract_ql(features=[0]) == []
    assert any("1 feature has no image" in note for note in empty.notes)


def test_thumbnails_are_those_of_each_date_index_and_mask(archive: demo.DemoArchive) -> None:
    made = series(archive, masks=[MASK, "none"])
    with closed(made._thumbnails(np.array([4, 2]), edge=64)) as thumbnails:
        found = list(thumbnails)
    keys = [(one.fid, one.date, one.index, one.mask) for one in found]
    assert len(set(keys)) == len(keys)
    assert {key[2:] for key in keys} == {(index, mask) for index in (None, "NDVI") for mask in (MASK, "none")}
    assert {one.fid for one in found} == {2, 4}
    for one in found:
        assert max(Image.open(io.BytesIO(one.jpeg)).size) == 64
        assert len(one.jpeg) < 4000
    rows = made.data["NDVI"].reset_index()
    rows = rows[(rows["mask"] == MASK) & (rows["fid"] == 2)].set_index("date")
    shares = {one.date: one.share for one in found if one.fid == 2 and one.index and one.mask == MASK}
    for date, count, nodata in zip(rows.index, rows["count"], rows["nodata"], strict=True):
        assert shares[date] == pytest.approx(count / (count + nodata))


def test_what_cannot_be_written_is_told(archive: demo.DemoArchive, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        series(archive).extract_ql(tmp_path / "file")
    with pytest.raises(OutputError, match="out_path"):
        series(archive).extract_ql()
    layer = gpd.read_file(archive.layer).iloc[:1].assign(key="k" * 200)
    with pytest.raises(RequestError, match="too long for a file"):
        series(archive, layer, name="n" * 180, id_field="key").extract_ql(tmp_path)
    with pytest.raises(RequestError, match="margin"):
        series(archive).extract_ql(tmp_path, margin=-1)
    for odd in ("9" * 5000, float("nan"), [None], {}, object(), -1, 10**5000):
        with pytest.raises(RequestError, match="no feature"):
            series(archive).extract_ql(tmp_path, features=odd)


def test_the_command_writes_quicklooks(archive: demo.DemoArchive, tmp_path: Path) -> None:
    words = ["extract", str(archive.layer), "--library", str(archive.library), "--index", "NDVI"]
    words += ["--out", str(tmp_path)]
    words += ["--to", "2021-10-31", "--feature", "5"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "--quicklooks" in result.output
    result = CliRunner().invoke(main, [*words, "--quicklooks", "--feature", "9999"])
    assert result.exit_code != 0
    assert not list(tmp_path.iterdir()), "an unknown feature is told before the work starts"
    result = CliRunner().invoke(main, [*words, "--quicklooks"])
    assert result.exit_code == 0, result.output
    names = {path.name for path in (tmp_path / "parcels" / "QL_5").iterdir()}
    assert len(names) == 4
    assert "parcels_MOZ-QL_5_NDVI_None_2021-10-31.jpg" in result.output.replace("\n", "")
    assert "parcels_QL_5_" not in result.output, "contact sheets alone are listed"
