"""Offsets of items: decided from collection, baseline, flag, and pixels where needed; kept from run to run."""

from __future__ import annotations

import datetime as dt
import pickle
import re
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from rasterio.enums import Resampling

from dark_scenes import simulate, stored
from provider_layouts import write_copy
from sen2chain import TimeSeries, demo
from sen2chain.archive import MemorySource, open_library
from sen2chain.archive.offset_check import Verdict
from sen2chain.archive.stac import kept_verdicts
from sen2chain.archive.stac.offset_pixels import show
from sen2chain.archive.stac.offsets import StacDetails, Told
from sen2chain.errors import UnreadableError
from sen2chain.parallel import apart
from sen2chain.products import LOCAL, ProductId, Reading
from sen2chain.rasters import counting, environment
from sen2chain.remote import Access
from sen2chain.report import remarks
from sen2chain.rows import Overruled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from stac_servers import FileServer

    Array = npt.NDArray[Any]

SUBTRACTED, INCLUDED, UNDECIDED = Verdict.SUBTRACTED, Verdict.INCLUDED, Verdict.UNDECIDED
NEW = ProductId.parse("S2B_MSIL2A_20250302T095029_N0511_R079_T33UXP_20250302T104753")
OLD = ProductId.parse("S2A_MSIL2A_20210107T062459_N0214_R091_T40KCB_20210107T084533")
HOMEMADE = replace(NEW, baseline=9999)
KEPT = Told(INCLUDED, settled=True)
EARTH_SEARCH = Told(SUBTRACTED)
ITEM = "S2B_33UXP_20250302_0_L2A"


def details(product: ProductId = NEW, told: Told = KEPT, identity: str = "1") -> StacDetails:
    return StacDetails(product, ITEM, identity, told, {"B04": "B04.tif"})


def state(details: StacDetails) -> Verdict:
    radiometry = details.radiometry()
    assert radiometry.quantification == 10000.0
    assert set(radiometry.offsets) == {band.name for band in NEW.sensor.bands}
    (offset,) = set(radiometry.offsets.values())
    return {0.0: SUBTRACTED, -1000.0: INCLUDED}[offset]


@pytest.fixture
def pixels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Verdict], list[str]]:
    """Have pixels show a verdict; returns the list of looks, which grows."""
    monkeypatch.setenv("SEN2CHAIN_CACHE", str(tmp_path / "cache"))

    def shown(verdict: Verdict) -> list[str]:
        looks: list[str] = []

        def look(rasters: Mapping[str, str]) -> Verdict:
            looks.append(rasters["B04"])
            return verdict

        monkeypatch.setattr("sen2chain.archive.stac.offsets.show", look)
        return looks

    return shown


# ------------------------------------------------------------------------------------------------ what a catalogue says


@pytest.mark.parametrize(
    ("product", "told", "want"),
    [
        (NEW, KEPT, INCLUDED),
        (NEW, replace(KEPT, flag=False), INCLUDED),
        (NEW, replace(KEPT, offsets={"B04": -1000.0}), INCLUDED),
        (NEW, Told(SUBTRACTED, settled=True, flag=True), SUBTRACTED),
        (OLD, KEPT, SUBTRACTED),  # there was no offset
        (OLD, replace(EARTH_SEARCH, flag=False), SUBTRACTED),
        (OLD, Told(baseline=2.14, offsets={"B04": -1000.0}), SUBTRACTED),
        (NEW, replace(KEPT, baseline=4.0), INCLUDED),
    ],
)
def test_what_agrees_is_used_without_pixels(
    pixels: Callable[[Verdict], list[str]], product: ProductId, told: Told, want: Verdict
) -> None:
    looks = pixels(UNDECIDED)
    assert state(details(product, told)) is want
    assert not details(product, told).radiometry().note
    assert not looks


@pytest.mark.parametrize(
    ("product", "told", "undecided", "said"),
    [
        # What is used where the pixels do not decide (None: an error), and what they may contradict.
        (NEW, replace(EARTH_SEARCH, flag=True), SUBTRACTED, SUBTRACTED),
        (NEW, replace(EARTH_SEARCH, flag=False), None, INCLUDED),
        (NEW, EARTH_SEARCH, None, SUBTRACTED),
        (NEW, Told(), None, INCLUDED),  # an unknown catalogue says nothing, ESA's DNs have the offset
        (NEW, Told(flag=False), INCLUDED, INCLUDED),
        (NEW, Told(offsets={"B04": -1000.0}), INCLUDED, INCLUDED),
        (NEW, Told(offsets={"B04": 0.0}), None, SUBTRACTED),
        (NEW, replace(KEPT, flag=True), None, SUBTRACTED),
        (NEW, replace(KEPT, offsets={"B04": 0.0}), None, SUBTRACTED),
        (NEW, Told(baseline=1.2), None, SUBTRACTED),  # a version of the provider's own program, say
        (NEW, Told(flag=True, baseline=1.2), SUBTRACTED, SUBTRACTED),
        (HOMEMADE, Told(), None, None),
        (HOMEMADE, Told(flag=True), None, SUBTRACTED),
        # Name and item do not agree on whether there may be an offset: pixels first, then the item.
        (OLD, replace(KEPT, baseline=5.0, flag=False), INCLUDED, INCLUDED),
        (NEW, replace(KEPT, baseline=2.14), None, SUBTRACTED),
    ],
)
def test_pixels_decide_what_is_not_settled(
    pixels: Callable[[Verdict], list[str]], product: ProductId, told: Told, undecided: Verdict | None, said: Verdict
) -> None:
    for number, shown in enumerate((SUBTRACTED, INCLUDED)):
        looks = pixels(shown)
        own = details(product, told, f"{shown}{number}")
        assert state(own) is shown
        assert looks == ["B04.tif"]
        note = own.radiometry().note
        assert note == ("" if said in {None, shown} else Overruled(said, shown).sentence())
    pixels(UNDECIDED)
    unclear = details(product, told, "unclear")
    if undecided is not None:
        assert state(unclear) is undecided
        assert not unclear.radiometry().note
        return
    with pytest.raises(UnreadableError) as caught:
        unclear.radiometry()
    assert re.fullmatch(f"It is unclear whether [^.]*{ITEM}[^.]*another collection or catalogue\\.", str(caught.value))


@pytest.mark.parametrize(
    ("told", "item"),
    [
        (Told(flag=True), SUBTRACTED),
        (Told(flag=False, offsets={"B04": 0.0}), INCLUDED),
        (Told(offsets={"B04": -1000.0}), INCLUDED),
        (Told(offsets={"B04": 0.0}), SUBTRACTED),
        (Told(offsets={"B04": 0.0, "B03": -1000.0}), UNDECIDED),
        (Told(), UNDECIDED),
    ],
)
def test_item_says_its_state(told: Told, item: Verdict) -> None:
    assert told.item is item


def test_offsets_of_single_bands_are_those_that_the_item_says() -> None:
    told = replace(KEPT, offsets={"B04": -1000.0, "B12": -900.0})
    offsets = details(told=told).radiometry().offsets
    assert (offsets["B04"], offsets["B12"], offsets["B08"]) == (-1000.0, -900.0, -1000.0)


def test_another_scale_is_an_error() -> None:
    with pytest.raises(
        UnreadableError, match=f"^{ITEM} has 5000 digital numbers [^.]*another collection or catalogue\\.$"
    ):
        details(told=replace(KEPT, quantification=5000.0)).radiometry()


@pytest.mark.parametrize("offset", [1000.0, 0.5])
def test_an_offset_to_be_added_is_an_error(offset: float) -> None:
    told = replace(KEPT, offsets={"B04": -1000.0, "B08": offset})
    with pytest.raises(UnreadableError, match=f"^{ITEM} has an offset of \\+{offset:g} [^.]*or catalogue\\.$"):
        details(told=told).radiometry()


# --------------------------------------------------------------------------------------------------- kept and only once


def test_a_later_run_asks_no_pixels(pixels: Callable[[Verdict], list[str]]) -> None:
    asked = replace(EARTH_SEARCH, flag=False)
    looks = pixels(SUBTRACTED)
    note = details(told=asked).radiometry().note
    kept_verdicts._known.clear()  # as in another process
    assert state(details(told=asked)) is SUBTRACTED
    assert details(told=asked).radiometry().note == note
    assert len(looks) == 1
    state(details(told=asked, identity="2"))  # another version of the item
    assert len(looks) == 2


def test_other_files_of_the_same_item_are_looked_at(pixels: Callable[[Verdict], list[str]], tmp_path: Path) -> None:
    one, other = tmp_path / "a" / "B04.tif", tmp_path / "b" / "B04.tif"
    for path in (one, other):
        path.parent.mkdir()
        path.write_bytes(b"1")
    asked = [replace(details(told=EARTH_SEARCH), pixels={"B04": str(path)}) for path in (one, other)]
    pixels(SUBTRACTED)
    assert state(asked[0]) is SUBTRACTED
    pixels(INCLUDED)
    assert [state(own) for own in asked] == [SUBTRACTED, INCLUDED]
    one.write_bytes(b"23")  # written anew
    assert state(asked[0]) is INCLUDED


def test_many_threads_look_once(pixels: Callable[[Verdict], list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    pixels(SUBTRACTED)
    looks: list[Mapping[str, str]] = []
    begun = threading.Event()

    def slow(rasters: Mapping[str, str]) -> Verdict:
        looks.append(rasters)
        begun.wait(0.2)
        return SUBTRACTED

    monkeypatch.setattr("sen2chain.archive.stac.offsets.show", slow)
    own = [details(told=EARTH_SEARCH, identity=str(k % 2)) for k in range(32)]
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(state, own)) == {SUBTRACTED}
    assert len(looks) == 2


def _decide(folder: Path, numbers: range) -> int:
    """Keep verdicts in another process; returns how many were not known."""
    looks = 0

    def look() -> Verdict:
        nonlocal looks
        looks += 1
        return SUBTRACTED

    for number in numbers:
        assert kept_verdicts.once(folder, f"item {number}", look) is SUBTRACTED
    return looks


_PROCESS = """
import sys
from pathlib import Path
from sen2chain.archive.stac.kept_verdicts import Verdict, once
looks = []
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    once(Path(sys.argv[1]), f"item {number}", lambda: looks.append(number) or Verdict.SUBTRACTED)
print(len(looks))
"""


def test_processes_share_what_they_find(tmp_path: Path) -> None:
    own = details(told=replace(KEPT, offsets={"B04": -1000.0}))
    assert pickle.loads(pickle.dumps(own)) == own  # noqa: S301  # made here
    spans = (("0", "900"), ("600", "1500"))
    commands = [[sys.executable, "-c", _PROCESS, str(tmp_path), *span] for span in spans]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]  # noqa: S603  # own
    looks = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert sum(looks) in range(1500, 1801)
    assert _decide(tmp_path, range(1500)) == 0
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 1800 * 60


def test_new_limits_forget_old_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _decide(tmp_path, range(3)) == 3
    monkeypatch.setattr(kept_verdicts, "_CALIBRATION", "next")
    assert _decide(tmp_path, range(3)) == 3


def test_damaged_lines_do_not_count(tmp_path: Path) -> None:
    _decide(tmp_path, range(1))
    (file,) = tmp_path.iterdir()
    line = file.read_bytes().strip()
    for content in (line[:-9], line.replace(b"subtracted", b"included"), b"\xff" * 60, b"", line[:20] + b"\0" * 40):
        file.write_bytes(content)
        kept_verdicts._known.clear()
        assert _decide(tmp_path, range(1)) == 1
        kept_verdicts._known.clear()
        assert _decide(tmp_path, range(1)) == 0  # the new line follows the damaged one
        assert file.read_bytes().startswith(content)


def test_a_file_keeps_its_newest_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_verdicts, "_LARGEST", 300)
    _decide(tmp_path, range(1_500))
    assert max(file.stat().st_size for file in tmp_path.iterdir()) <= 300
    kept_verdicts._known.clear()
    assert _decide(tmp_path, range(1_490, 1_500)) == 0
    assert _decide(tmp_path, range(10)) > 0


def test_without_a_folder_only_the_process_keeps_verdicts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert _decide(tmp_path / "file" / "folder", range(3)) == 3
    assert _decide(tmp_path / "file" / "folder", range(3)) == 0
    kept_verdicts._known.clear()
    assert _decide(tmp_path / "file" / "folder", range(3)) == 3


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_verdicts, "_MOST", 10)
    assert _decide(tmp_path, range(25)) == 25
    assert len(kept_verdicts._known) <= 10
    assert _decide(tmp_path, range(25)) == 0


def test_an_error_is_not_kept(tmp_path: Path) -> None:
    def fail() -> Verdict:
        raise UnreadableError("gone")

    with pytest.raises(UnreadableError):
        kept_verdicts.once(tmp_path, "item 0", fail)
    assert _decide(tmp_path, range(1)) == 1


# ----------------------------------------------------------------------------------------------------- pixels of files


def write(
    folder: Path, bands: Mapping[str, Array], resampling: Resampling | None = None, block: int = 256, **profile: Any
) -> dict[str, str]:
    """Write rasters as GeoTIFFs with smaller pictures, B08 and B04 with pixels of 10 m, others of 20 m."""
    found = {}
    for name, values in bands.items():
        metres = 10 if name in {"B04", "B08"} else 20
        own = values if metres == 10 else values[::2, ::2]
        path = folder / f"{name}.tif"
        options: dict[str, Any] = {"tiled": True, "blockxsize": block, "blockysize": block, "compress": "deflate"}
        options |= {"driver": "GTiff", "count": 1, "crs": "EPSG:32633", "dtype": own.dtype, **profile}
        options |= {"height": own.shape[0], "width": own.shape[1]}
        with rasterio.open(path, "w", transform=Affine(metres, 0, 6e5, 0, -metres, 5e6), **options) as sink:
            sink.write(own, 1)
            if resampling is not None:
                of_classes = name == "SCL"
                sink.build_overviews([2, 4, 8], Resampling.nearest if of_classes else resampling)
        found[name] = str(path)
    return found


def enlarged(times: int, *, included: bool, scene: str = "crops") -> dict[str, Array]:
    bands = stored(simulate(scene), included=included)
    return {name: values.repeat(times, 0).repeat(times, 1) for name, values in bands.items()}


def shown(rasters: Mapping[str, str], reading: Reading = LOCAL) -> Verdict:
    def look() -> Verdict:
        with environment(reading):
            return show(rasters)

    return apart(look)


@pytest.mark.parametrize("included", [True, False])
@pytest.mark.parametrize("resampling", [Resampling.nearest, Resampling.average, Resampling.cubic])
def test_a_small_picture_is_read(tmp_path: Path, resampling: Resampling, *, included: bool) -> None:
    rasters = write(tmp_path, enlarged(12, included=included), resampling)  # 1152 pixels along an edge
    with counting() as counts:
        assert shown(rasters) is (INCLUDED if included else SUBTRACTED)
    assert {where for where, _, _ in counts.blocks} <= {rasters["SCL"]}  # has larger pixels, so it is read whole
    assert set(counts.opens) == (set(rasters.values()) if included else {rasters["B04"]})


def test_a_few_blocks_are_read_where_there_is_no_picture(tmp_path: Path) -> None:
    for included in (True, False):
        rasters = write(tmp_path, enlarged(16, included=included), block=128)  # 1536 pixels along an edge, 144 blocks
        with counting() as counts:
            assert shown(rasters) is (INCLUDED if included else SUBTRACTED)
        read = [sum(where == location for where, _, _ in counts.blocks) for location in rasters.values()]
        assert read[0] == 9
        assert max(read) <= 9
    without = {name: path for name, path in rasters.items() if name != "SCL"}
    assert shown(without) is SUBTRACTED


def test_classes_without_a_picture_are_read_at_the_same_blocks(tmp_path: Path) -> None:
    bands = enlarged(16, included=True)
    rasters = write(tmp_path, bands, Resampling.average, block=128)
    rasters |= write(tmp_path, {"SCL": bands["SCL"]}, block=128)
    assert shown(rasters) is INCLUDED


def test_strips_are_read_at_a_few_rows(tmp_path: Path) -> None:
    rasters = write(tmp_path, enlarged(16, included=True), tiled=False, blockxsize=None, blockysize=8)
    with counting() as counts:
        assert shown(rasters) is INCLUDED
    read = {row for where, row, _ in counts.blocks if where == rasters["B04"]}
    assert len(read) == 3 * 128 / 8  # of 192


@pytest.mark.parametrize(("form", "suffix"), [("cog", "tif"), ("jp2-tlm", "jp2")])
def test_few_requests_decide_on_remote_files(file_server: FileServer, form: str, suffix: str) -> None:
    reading = Reading(access=Access(catalogue=file_server.href("")))
    for included in (True, False):
        hrefs = {}
        for name, values in enlarged(16, included=included).items():
            metres = 20 if name == "SCL" else 10
            own = values[:: metres // 10, :: metres // 10]
            place: dict[str, Any] = {"width": own.shape[1], "height": own.shape[0], "count": 1, "dtype": own.dtype}
            place |= {"crs": "EPSG:32633", "transform": Affine(metres, 0, 6e5, 0, -metres, 5e6)}
            file = f"{form}-{included}-{name}.{suffix}"
            write_copy(file_server.place / file, own, place, form)
            hrefs[name] = file_server.href(file)
        with file_server.watched() as requests:
            assert shown(hrefs, reading) is (INCLUDED if included else SUBTRACTED)
        asked = Counter(request.path for request in requests)
        assert len(asked) == (3 if included else 1)
        # The header, and the picture; or the lengths of 144 tiles, and nine tiles.
        assert max(asked.values()) <= (2 if form == "cog" else 11)


def test_rasters_that_are_small_are_read_whole(tmp_path: Path) -> None:
    for included in (True, False):
        assert shown(write(tmp_path, enlarged(1, included=included))) is (INCLUDED if included else SUBTRACTED)


def test_what_lies_elsewhere_does_not_decide(tmp_path: Path) -> None:
    bands = enlarged(1, included=True)
    rasters = write(tmp_path, bands)
    rasters |= write(tmp_path, {"SCL": bands["SCL"][:90]})
    assert shown(rasters) is UNDECIDED
    assert shown({"B02": rasters["B04"]}) is UNDECIDED
    assert shown({"B04": rasters["B04"], "SCL": rasters["SCL"]}) is UNDECIDED


def test_tiles_of_a_real_product_decide(shared_data: Path) -> None:
    folders = (shared_data / "ireland" / "L2A" / "29UNU").glob("*.SAFE/GRANULE/*/IMG_DATA/R60m")
    (folder,) = folders
    rasters = {band: str(next(folder.glob(f"*_{band}_60m.jp2"))) for band in ("B03", "B04", "B8A", "SCL")}
    with counting() as counts:
        assert shown(rasters) is INCLUDED
    assert len(counts.opens) == 3
    assert len(counts.blocks) == 3 * 9 * 4  # of a tile's four parts
    assert shown({name: rasters[name] for name in ("B04", "B8A")}) is UNDECIDED


def test_a_raster_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    rasters = write(tmp_path, enlarged(1, included=True))
    with pytest.raises(UnreadableError, match="lost"):
        shown({**rasters, "B08": str(tmp_path / "lost.tif")})
    with rasterio.open(rasters["B04"], "r+") as opened:
        opened.transform = Affine(9, 3, 6e5, 3, -9, 5e6)
    with pytest.raises(UnreadableError, match="B04"):
        shown(rasters)


# --------------------------------------------------------------------------------------------------------- whole series


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    passes = demo.season(3, dt.date(2022, 4, 20), 20)
    scene = demo.Scene(("31TGJ",), 140, passes, bands=("B04", "B08", "SCL"), parcels=8)
    return demo.build(tmp_path_factory.mktemp("offsets"), scene)


def items(archive: demo.DemoArchive, folder: Path, told: Told, *, included: bool, negative: int = 0) -> MemorySource:
    """Return the products of an archive as a provider has them.

    Parameters
    ----------
    archive, folder, told
        The archive, the folder that new files are written into, and what the catalogue says.
    included
        Whether the offset is still in.
    negative
        DN taken from each pixel of B04 before, so that some reflectances are negative.
    """
    found = []
    for acquisition in open_library(archive.library).acquisitions("31TGJ"):
        bands = dict(acquisition.bands)
        for band in ("B04", "B08"):
            with rasterio.open(bands[band]) as opened:
                values, profile = opened.read(1).astype(np.int32), opened.profile
            values -= (negative if band == "B04" else 0) + (0 if included else 1000)
            bands[band] = str(folder / f"{acquisition.id}_{band}_{included}.tif")
            profile = {key: profile[key] for key in ("width", "height", "count", "dtype", "crs", "transform")}
            with rasterio.open(bands[band], "w", driver="GTiff", **profile) as sink:
                sink.write(values.clip(0).astype(np.uint16), 1)
        identity = f"{folder} {acquisition.id} {told} {included}"
        own = StacDetails(acquisition.id, f"item of {acquisition.id}", identity, told, bands)
        found.append(replace(acquisition, details=own, bands=bands))
    return MemorySource(found)


def series(archive: demo.DemoArchive, source: MemorySource | None = None, **asked: Any) -> TimeSeries:
    options: dict[str, Any] = {"masks": "SCL-9-ITER0", "quiet": True, **asked}
    return TimeSeries(archive.layer, ["NDVI"], library=source or archive.library, **options)


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("included", [True, False])
def test_rows_do_not_depend_on_offset_and_flag(
    archive: demo.DemoArchive, tmp_path: Path, *, included: bool, flag: bool
) -> None:
    source = items(archive, tmp_path, replace(EARTH_SEARCH, flag=flag), included=included)
    want, got = series(archive), series(archive, source)
    pd.testing.assert_frame_equal(got.data["NDVI"].drop(columns="cldprb"), want.data["NDVI"].drop(columns="cldprb"))
    assert len(got.data["NDVI"]) > 15
    said = [line for line in remarks(got.report) if "offset" in line]
    if flag is not included:
        assert not said
        return
    (line,) = said
    example = open_library(archive.library).acquisitions("31TGJ")[0].id
    says, shows = ("subtracted", "included") if flag else ("included", "subtracted")
    assert line == (
        f"The catalogue says '{says}' of the offset of the digital numbers of 3 products, as {example}, the pixels "
        f"show '{shows}', and the pixels count."
    )
    again = series(archive, source, executor="threads")
    pd.testing.assert_frame_equal(again.data["NDVI"], got.data["NDVI"])


def test_negative_reflectance_is_lost_where_the_offset_was_subtracted(
    archive: demo.DemoArchive, tmp_path: Path
) -> None:
    """Pixels that a provider clipped at 0 have no data; all others have the same values."""
    kept = series(archive, items(archive, tmp_path, KEPT, included=True, negative=250)).data["NDVI"]
    lost = series(archive, items(archive, tmp_path, replace(EARTH_SEARCH, flag=True), included=False, negative=250))
    both = kept.merge(lost.data["NDVI"], on=["date", "fid"], suffixes=("", "_lost"))
    assert (both["count"] + both["nodata"] == both["count_lost"] + both["nodata_lost"]).all()
    assert (both["count_lost"] < both["count"]).any()
    whole = both[both["count"] == both["count_lost"]]
    assert len(whole)
    assert (whole["mean"] == whole["mean_lost"]).all()


def test_what_is_wholly_masked_needs_no_pixels(tmp_path: Path, pixels: Callable[[Verdict], list[str]]) -> None:
    """Clouded dates are undecided, so they would be unreadable instead of clouded."""
    clouded = demo.Scene(
        ("31TGJ",), 140, demo.season(10, dt.date(2022, 1, 30), 20)[9:], bands=("B04", "B08", "SCL"), parcels=8
    )
    whole = demo.build(tmp_path / "clouded", clouded)
    looks = pixels(UNDECIDED)
    source = items(whole, tmp_path, replace(EARTH_SEARCH, flag=False), included=False)
    got = series(whole, source, masks="CM004")
    assert got.report["cloud"].tolist() == [8]
    assert not looks
    kept = series(whole, source, masks="CM004", keep_empty=True)
    assert kept.report["unreadable"].tolist() == [8]
    assert looks


def test_undecided_items_have_a_reason(archive: demo.DemoArchive, tmp_path: Path) -> None:
    source = items(archive, tmp_path, replace(EARTH_SEARCH, flag=False), included=False, negative=-5000)
    got = series(archive, source)
    assert got.data["NDVI"].empty
    assert set(got.report["unreadable"]) == {8}
    assert all(
        f"item of {name}" in error for name, error in zip(got.report["acquisition"], got.report["error"], strict=True)
    )
