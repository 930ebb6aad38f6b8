from __future__ import annotations

import csv
import datetime as dt
import errno
import json
import os
import resource
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from sen2chain.atomic import check_folder
from sen2chain.errors import OutputError, RequestError
from sen2chain.export import check_cube, to_dataset, write_csv, write_parquet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "S2A_MSIL2A_20210107T062459_N0214_R091_T40KCB_20210107T084533_NDVI_CM001.jp2"
WRITERS = pytest.mark.parametrize("write", [write_csv, write_parquet])


def rows(**more: Any) -> pa.RecordBatch:
    times = pa.array([dt.datetime(2021, 1, 7, 6, 24, 59)] * 2, pa.timestamp("ns"))  # noqa: DTZ001 - as rows have it
    columns = {"date": times, "fid": [0, 1], "filename": [NAME] * 2, "mean": [260.1666666666667, 5888.0]}
    return pa.RecordBatch.from_pydict({**columns, **more})


def test_csv_looks_as_its_users_know_it(tmp_path: Path) -> None:
    batch = rows(
        cldprb=[None, float("nan")],
        crop=['maize, "late"', None],
        flag=[True, None],
        kind=pa.array(["a", "a"]).dictionary_encode(),
        day=[dt.date(2021, 3, 5), None],
        time=pa.array([1500, None], pa.timestamp("ms")),
    )
    assert write_csv([batch], tmp_path / "a.csv", {}) == 2
    assert (tmp_path / "a.csv").read_bytes().decode() == (
        "date,fid,filename,mean,cldprb,crop,flag,kind,day,time\n"
        f'2021-01-07 06:24:59,0,{NAME},260.1666666666667,,"maize, ""late""",True,a,2021-03-05,1970-01-01 00:00:01.500\n'
        f"2021-01-07 06:24:59,1,{NAME},5888,,,,a,,\n"
    )


def test_a_column_name_is_quoted_where_it_must_be(tmp_path: Path) -> None:
    write_csv([rows(**{"a,b": [1, 2]})], tmp_path / "a.csv", {})
    assert list(pd.read_csv(tmp_path / "a.csv"))[-1] == "a,b"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(st.characters(codec="utf-8", exclude_characters="\0")),
        ),
        min_size=1,
    )
)
def test_csv_gives_every_number_and_text_back(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[float, str]]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    numbers, texts = zip(*values, strict=True)
    write_csv([pa.RecordBatch.from_pydict({"number": numbers, "text": texts})], path, {})
    with path.open(newline="", encoding="utf-8") as file:
        back = list(csv.reader(file))[1:]
    assert [(float(number), text) for number, text in back] == values


@WRITERS
def test_no_rows_give_a_file_with_its_columns(tmp_path: Path, write: Callable[..., int]) -> None:
    path = tmp_path / "a.csv"
    for batches, schema in (([rows()[:0]], None), ([], rows().schema)):
        assert write(batches, path, {}, schema) == 0
        names = path.read_text() if write is write_csv else ",".join(pq.read_schema(path).names) + "\n"
        assert names == "date,fid,filename,mean\n"
    with pytest.raises(ValueError, match="schema"):
        write([], path, {})


@WRITERS
def test_many_batches_are_one_table(tmp_path: Path, write: Callable[..., int]) -> None:
    pieces = [rows(), pa.Table.from_batches([rows(), rows()]), rows()[:0]] * 3
    path = tmp_path / "a.table"
    assert write(iter(pieces), path, {}) == 18
    frame = pd.read_csv(path, parse_dates=["date"]) if write is write_csv else pd.read_parquet(path)
    expected = pa.Table.from_batches([rows()] * 9).to_pandas()
    pd.testing.assert_frame_equal(frame, expected, check_dtype=False)
    assert (write is write_csv) or pq.ParquetFile(path).num_row_groups == 1


@WRITERS
def test_the_json_beside_says_where_rows_come_from(tmp_path: Path, write: Callable[..., int]) -> None:
    provenance = {
        "layer": Path("parcels.gpkg"),
        "from": dt.date(2021, 1, 1),
        "versions": MappingProxyType({"numpy": "2"}),
        "tiles": {"40KCB", "32TPS"},
        "n": np.int64(3),
        "place": "Réunion",
    }
    write([rows()], tmp_path / "my.layer_NDVI.csv", provenance)
    text = (tmp_path / "my.layer_NDVI.json").read_text(encoding="utf-8")
    assert json.loads(text) == {
        "layer": "parcels.gpkg",
        "from": "2021-01-01",
        "versions": {"numpy": "2"},
        "tiles": ["32TPS", "40KCB"],
        "n": 3,
        "place": "Réunion",
    }
    if write is write_parquet:
        assert pq.read_schema(tmp_path / "my.layer_NDVI.csv").metadata[b"sen2chain"].decode() == text


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Let no file grow beyond 64 KiB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def before(tmp_path: Path) -> dict[str, bytes]:
    """Results of an earlier run."""
    write_csv([rows()], tmp_path / "a.csv", {"run": 1})
    return content(tmp_path)


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@WRITERS
@pytest.mark.usefixtures("small_disk")
def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, before: dict[str, bytes], write: Callable[..., int]
) -> None:
    numbers = np.random.default_rng(0).random(300_000)
    with pytest.raises(OutputError, match=r"Cannot write .*a\.csv"):
        write([pa.RecordBatch.from_pydict({"number": numbers})] * 2, tmp_path / "a.csv", {"run": 2})
    assert content(tmp_path) == before


@WRITERS
def test_a_full_disk_is_told(
    tmp_path: Path, before: dict[str, bytes], write: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"No room is left on the disk for .*a\.csv; free some"):
        write([rows()], tmp_path / "a.csv", {"run": 2})
    with pytest.raises(OutputError, match="No room is left"):
        check_folder(tmp_path)
    assert content(tmp_path) == before


@WRITERS
def test_an_error_in_the_making_of_rows_passes_as_it_is(
    tmp_path: Path, before: dict[str, bytes], write: Callable[..., int]
) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield rows()
        raise OSError("a raster is broken")

    with pytest.raises(OSError, match="a raster is broken"):
        write(batches(), tmp_path / "a.csv", {})
    assert content(tmp_path) == before


def test_files_have_the_permissions_of_any_other_file(tmp_path: Path) -> None:
    write_csv([rows()], tmp_path / "a.csv", {})
    (tmp_path / "plain").touch()
    assert {file.stat().st_mode for file in tmp_path.iterdir()} == {(tmp_path / "plain").stat().st_mode}


def test_a_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    folder = check_folder(tmp_path / "a" / "b")
    assert folder == tmp_path / "a" / "b"
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match=f"Cannot write {path} "):
            check_folder(path)
    with pytest.raises(OutputError, match="Cannot write"):
        write_csv([rows()], tmp_path / "missing" / "a.csv", {})


def series(day: list[str], fid: list[int], mean: list[float]) -> pd.DataFrame:
    frame = pd.DataFrame({"date": pd.to_datetime(day), "fid": fid, "tile": "40KCB", "count": 4, "mean": mean})
    return frame.assign(crop="maize").set_index("date")


def cube(frames: dict[tuple[str, str], pd.DataFrame]) -> Any:
    return to_dataset(
        frames,
        geometry=np.array([shapely.Point(0, 0), shapely.Point(1, 0), None], dtype=object),
        crs="EPSG:4326",
        attributes=pd.DataFrame({"crop": ["maize", None, "rye"], "geometry": [1, 2, 3]}),
        definitions={"mean": {"long_name": "mean of valid pixels", "units": "1e-4"}},
        provenance={"run": 1},
    )


def test_one_index_is_a_cube_of_fid_and_date() -> None:
    data = cube({("NDVI", "CM001"): series(["2021-01-02", "2021-01-01", "2021-01-02"], [0, 2, 2], [1.5, 2.5, 3.5])})
    assert data["mean"].dims == ("fid", "date")
    np.testing.assert_array_equal(data["mean"], [[np.nan, 1.5], [np.nan, np.nan], [2.5, 3.5]])
    assert data["count"].sel(fid=2).to_numpy().tolist() == [4, 4]
    assert data["tile"].to_numpy().tolist() == [["", "40KCB"], ["", ""], ["40KCB", "40KCB"]]
    assert data["date"].to_numpy().tolist() == pd.to_datetime(["2021-01-01", "2021-01-02"]).to_numpy().tolist()
    assert set(data.data_vars) == {"tile", "count", "mean"}
    assert (data["index"].item(), data["mask"].item()) == ("NDVI", "CM001")
    assert data["geometry"].attrs["crs"] == "EPSG:4326"
    assert data["geometry"].to_numpy().tolist() == ["POINT (0 0)", "POINT (1 0)", ""]
    assert data["crop"].to_numpy().tolist() == ["maize", "", "rye"]
    assert data["attr_geometry"].to_numpy().tolist() == [1, 2, 3]
    assert data["mean"].attrs["units"] == "1e-4"
    assert json.loads(data.attrs["sen2chain"]) == {"run": 1}


def test_several_indices_and_masks_lead() -> None:
    one, two = series(["2021-01-01"], [0], [1.0]), series(["2021-01-03"], [1], [2.0]).reset_index()
    data = cube({("NDVI", "CM001"): one, ("NDVI", "CM004"): two, ("EVI", "CM001"): two[:0], ("EVI", "CM004"): one})
    assert data["mean"].dims == ("index", "mask", "fid", "date")
    assert data["mean"].sel(index="NDVI", mask="CM004", fid=1, date="2021-01-03").item() == 2
    assert data["mean"].sel(index="EVI", mask="CM004", fid=0, date="2021-01-01").item() == 1
    assert int(data["mean"].count()) == 3
    assert cube({("NDVI", "CM001"): one, ("EVI", "CM001"): two})["mean"].dims == ("index", "fid", "date")


def test_no_row_gives_a_cube_without_dates() -> None:
    data = cube({("NDVI", "CM001"): series(["2021-01-01"], [0], [1.0])[:0]})
    assert dict(data.sizes) == {"fid": 3, "date": 0}


def test_texts_of_a_cube_are_kept_once() -> None:
    names = [f"S2A_MSIL2A_20210101T062459_N0214_R091_T40KCB_2021010{k}T084533_NDVI_CM001.jp2" for k in (3, 4)]
    frame = series(["2021-01-01", "2021-01-02"] * 2, [0, 0, 2, 2], [1.0] * 4)
    for texts in (pd.Series(names * 2, dtype=object), pd.Series(names * 2, dtype="category")):
        data = cube({("NDVI", "CM001"): frame.assign(filename=texts.to_numpy())})["filename"].to_numpy()
        assert data.tolist() == [names, ["", ""], names]
        assert len({id(text) for text in data.ravel()}) == 3


@pytest.mark.parametrize(("available", "fits"), [(None, True), (2 * 700 * 80 * 8, True), (2 * 700 * 80 * 8 - 1, False)])
def test_a_cube_beyond_half_of_the_memory_is_refused(
    available: int | None,
    fits: bool,  # noqa: FBT001  # a column of the table
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sen2chain.export.cube.memory", lambda: available)
    size: dict[str, Any] = {"features": 70, "steps": 10, "outputs": 4, "columns": 20}
    if fits:
        check_cube(**size, instead="to_parquet")
        return
    with pytest.raises(RequestError, match=r"70 features x 10 dates x 4 outputs x 20 columns takes .* use to_parquet"):
        check_cube(**size, instead="to_parquet")


def test_a_cube_keeps_identifiers_beside_a_null_to_the_last_digit() -> None:
    big = 2**53 + 1
    attributes = pd.DataFrame({
        "id": pd.array([big, big - 1, None], dtype="Int64"), "small": pd.array([1, None, 3], dtype="Int64"),
    })  # fmt: skip
    rows = pd.DataFrame({"date": pd.to_datetime(["2020-01-01"] * 3), "fid": range(3), "mean": [1.0, 2, 3]})
    cube = to_dataset(
        {("NDVI", "CM001"): rows}, geometry=np.array([shapely.Point(0, 0)] * 3), crs="EPSG:4326", attributes=attributes,
        definitions={}, provenance={},
    )  # fmt: skip
    assert cube["id"].to_numpy().tolist() == [str(big), str(big - 1), ""]
    np.testing.assert_array_equal(cube["small"].to_numpy(), [1.0, np.nan, 3.0])
