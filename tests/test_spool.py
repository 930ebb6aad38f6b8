from __future__ import annotations

import datetime as dt
import errno
import gc
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from sen2chain import spool as module
from sen2chain.errors import OutputError
from sen2chain.products import ProductId
from sen2chain.reasons import Reason
from sen2chain.rows import Batch
from sen2chain.spool import RowFormat, Spool, attribute_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COLUMNS = ("min", "mean", "hist_0")
ATTRIBUTES = pd.DataFrame({"name": ["a", "b", None, "d", "é"], "area": [1.5, 2.5, np.nan, 4.5, 5.5]})
DATES = ("20220403", "20220408", "20220413", "20220418")


def batch(
    day: str, fids: Sequence[int], index: str = "NDVI", mask: str = "CM001", codes: Sequence[int] | None = None
) -> Batch:
    product = ProductId.parse(f"S2A_MSIL2A_{day}T103021_N0400_R108_T31TGJ_{day}T160000")
    fid = np.array(fids, np.int64)
    base = fid * 100.0 + int(day[-2:])
    columns: dict[str, Any] = {"fid": fid, "count": fid + 1, "nodata": fid * 2, "nbcld": fid * 0}
    columns |= {"cldprb": np.where(fid % 2, np.nan, base), **{name: base + k for k, name in enumerate(COLUMNS)}}
    columns["reason"] = np.array(codes if codes is not None else [-1] * len(fid), np.int8)
    return Batch(index, mask, product, f"{product}_{index}_{mask}.jp2", columns, {})


def spool(**options: Any) -> Spool:
    return Spool(RowFormat(COLUMNS, attribute_table(ATTRIBUTES), **options))


def filled(**options: Any) -> Spool:
    made = spool(**options)
    for day, fids in zip(DATES, ([0, 1, 4], [2], [0, 1, 2, 3, 4], [1, 3]), strict=True):
        made.add(batch(day, fids))
        made.add(batch(day, fids[:1], mask="OCM"))
    return made


def frame(made: Spool, index: str = "NDVI", mask: str = "CM001") -> pd.DataFrame:
    tables = list(made.tables(index, mask))
    table = pa.concat_tables(tables) if tables else made.schema.empty_table()
    result: pd.DataFrame = table.to_pandas()
    return result


def test_rows_go_in_by_date_and_come_out_by_feature() -> None:
    rows = frame(filled())
    assert list(zip(rows["fid"], rows["date"].dt.day, strict=True)) == [
        (0, 3), (0, 13), (1, 3), (1, 13), (1, 18), (2, 8), (2, 13), (3, 13), (3, 18), (4, 3), (4, 13),
    ]  # fmt: skip
    expected = ["date", "fid", "tile", "filename", "count", "nodata", "nbcld", "cldprb", *COLUMNS, "name", "area"]
    assert list(rows) == expected
    # Every value stays with its row, and attributes follow their feature.
    assert (rows["mean"] == rows["fid"] * 100 + rows["date"].dt.day + 1).all()
    assert rows["count"].tolist() == (rows["fid"] + 1).tolist()
    assert rows["cldprb"].isna().tolist() == (rows["fid"] % 2 == 1).tolist()
    assert rows["name"].fillna("-").tolist() == ATTRIBUTES["name"].fillna("-").iloc[rows["fid"]].tolist()
    assert rows["filename"].str.slice(11, 19).tolist() == rows["date"].dt.strftime("%Y%m%d").tolist()
    assert set(rows["tile"]) == {"31TGJ"}
    assert rows["date"].iloc[0] == pd.Timestamp("2022-04-03 10:30:21")


def test_each_index_and_mask_has_its_rows() -> None:
    made = filled()
    assert made.rows("NDVI", "CM001") == 11
    assert made.rows("NDVI", "OCM") == 4
    assert made.rows("BIGR", "CM001") == 0
    assert frame(made, mask="OCM")["fid"].tolist() == [0, 0, 1, 2]
    assert list(made.tables("BIGR", "CM001")) == []


def test_mask_and_reason_are_columns_where_asked() -> None:
    made = spool(with_mask=True, with_reason=True)
    cloud, outside = (list(Reason).index(r) for r in (Reason.CLOUD, Reason.OUTSIDE_TILE))
    made.add(batch("20220403", [0, 1, 2], codes=[-1, cloud, outside]))
    rows = frame(made)
    assert list(rows.columns[:5]) == ["date", "fid", "tile", "filename", "mask"]
    assert set(rows["mask"]) == {"CM001"}
    assert rows["reason"].tolist() == ["", "cloud", "outside_tile"]
    assert rows.columns.get_loc("reason") == rows.columns.get_loc("hist_0") + 1  # type: ignore[operator]  # both int


@pytest.mark.parametrize(("whole", "kind"), [(True, pa.int64()), (False, pa.float64())])
def test_counts_are_whole_unless_weighted(whole: bool, kind: pa.DataType) -> None:  # noqa: FBT001  # a column of the table
    made = spool(whole_counts=whole)
    one = batch("20220403", [0, 1])
    if not whole:
        one.columns["count"] = np.array([0.25, 1.75])  # type: ignore[index]  # a dict here
    made.add(one)
    (table,) = made.tables("NDVI", "CM001")
    assert table.schema == made.schema
    assert table.schema.field("count").type == kind
    assert table.column("count").to_pylist() == ([1, 2] if whole else [0.25, 1.75])


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1 << 18])
@pytest.mark.parametrize("memory", [0, 250, 500, 1 << 26])
def test_pieces_of_any_size_are_the_same_rows(chunk: int, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    want = frame(filled())
    monkeypatch.setattr(module, "_CHUNK_ROWS", chunk)
    monkeypatch.setattr(module, "_IN_MEMORY", memory)
    made = filled()
    pd.testing.assert_frame_equal(frame(made), want)
    pieces = [t.num_rows for t in made.tables("NDVI", "CM001")]
    assert len(pieces) == (1 if chunk > 11 else len(pieces))
    if chunk == 1:
        assert len(pieces) == 5  # one per feature


@pytest.mark.parametrize(("rows_in_memory", "visits"), [(20_000, 1), (5_000, 3)])
def test_a_date_is_visited_as_often_as_memory_is_filled(
    rows_in_memory: int, visits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Spool(RowFormat(COLUMNS, attribute_table(pd.DataFrame({"number": range(40)}))))
    for day in range(700):
        stamp = (dt.date(2020, 1, 1) + dt.timedelta(day)).strftime("%Y%m%d")
        made.add(batch(stamp, range(40)[day % 2 :: 2]))
    calls, between = [], module._rows_between

    def watched(*arguments: Any) -> Any:
        calls.append(arguments)
        return between(*arguments)

    monkeypatch.setattr(module, "_rows_between", watched)
    monkeypatch.setattr(module, "_CHUNK_ROWS", 700)
    monkeypatch.setattr(module, "_IN_MEMORY", rows_in_memory * 8 * (5 + len(COLUMNS)))
    rows = pd.concat(table.to_pandas() for table in made.tables("NDVI", "CM001"))
    assert len(calls) == visits
    assert len(rows) == 700 * 20
    assert rows[["fid", "date"]].apply(tuple, axis=1).is_monotonic_increasing
    assert (rows["min"] == rows["fid"] * 100 + rows["date"].dt.day).all()


def test_large_runs_spill_to_disk_and_leave_nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def watched(*args: Any, **kwargs: Any) -> Any:
        opened.append(temporary_file(*args, **kwargs))
        return opened[-1]

    temporary_file = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(tempfile, "TemporaryFile", watched)
    want = frame(filled())
    assert not opened  # small ones stay in memory
    monkeypatch.setattr(module, "_IN_MEMORY", 300)
    made = filled()
    assert 1 <= len(opened) < 8  # the first rows stayed in memory
    assert all(file.closed for file in opened)
    pd.testing.assert_frame_equal(frame(made), want)
    pd.testing.assert_frame_equal(frame(made), want)  # and again
    assert frame(made, mask="OCM")["fid"].tolist() == [0, 0, 1, 2]
    assert list(tmp_path.iterdir()) == []  # the files have no names, so that a killed run leaves none


def test_two_spools_do_not_share_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IN_MEMORY", 0)
    one, two = filled(), spool()
    two.add(batch("20220403", [3]))
    assert frame(two)["fid"].tolist() == [3]
    del two
    gc.collect()
    assert len(frame(one)) == 11


def test_no_room_for_rows_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(module, "_IN_MEMORY", 0)
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    made = spool()
    with pytest.raises(OutputError, match=rf"{tmp_path}.*No space left.*TMPDIR"):
        made.add(batch("20220403", [0]))


def test_rows_of_chosen_days_only() -> None:
    tables = list(filled().tables("NDVI", "CM001", {dt.date(2022, 4, 3), dt.date(2022, 4, 18)}))
    assert [(f, d.day) for t in tables for f, d in zip(t["fid"].to_pylist(), t["date"].to_pylist(), strict=True)] == [
        (0, 3), (1, 3), (1, 18), (3, 18), (4, 3),
    ]  # fmt: skip


def test_completeness_is_the_share_that_was_seen_clouds_included() -> None:
    made = Spool(RowFormat(COLUMNS, attribute_table(ATTRIBUTES), with_completeness=True))
    one = batch("20220403", [0, 1, 2])
    counts = {"count": np.array([6, 0, 3]), "nodata": np.array([4, 5, 1]), "nbcld": np.array([1, 5, 1])}
    one = replace(one, columns={**one.columns, **counts})
    made.add(one)
    rows = frame(made)
    assert rows["completeness"].tolist() == [0.7, 1.0, 1.0]
    assert list(rows).index("completeness") == list(rows).index("hist_0") + 1


def test_nothing_added_is_nothing() -> None:
    made = spool()
    made.add(batch("20220403", []))
    assert made.rows("NDVI", "CM001") == 0
    assert frame(made).empty
