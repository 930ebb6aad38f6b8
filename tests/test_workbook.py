"""Workbooks: what another program reads from them."""

from __future__ import annotations

import datetime as dt
import functools
import os
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import openpyxl
import pyarrow as pa
import pytest

from sen2chain.errors import MissingExtraError, OutputError
from sen2chain.export import check_workbook, write_workbook
from sen2chain.export.workbook import Sheet, sheet_names

if TYPE_CHECKING:
    from pathlib import Path

MOMENT = dt.datetime(2021, 1, 7, 6, 24, 59)  # noqa: DTZ001  # times of results have no zone


def sheet(name: str, table: pa.Table) -> Sheet:
    return Sheet(name, table.schema, functools.partial(iter, [table.slice(0, 1), table.slice(1)]), table.num_rows)


def written(path: Path, table: pa.Table) -> Any:
    write_workbook([sheet("NDVI", table)], path, {"run": 1})
    return openpyxl.load_workbook(path)["NDVI"]


def test_values_come_back(tmp_path: Path) -> None:
    table = pa.table({
        "date": pa.array([MOMENT, None, dt.datetime(1850, 1, 1)], pa.timestamp("s")),  # noqa: DTZ001
        "seen": pa.array([MOMENT] * 3, pa.timestamp("us", "Europe/Paris")),
        "fid": [1, None, 10**15 + 1],
        "mean": [0.1, float("nan"), float("-inf")],
        "count": pa.array([1, 2, 3], pa.int64()),
        "owned": [True, False, None],
        "crop": ["=1+1", "http://example.com", "00123"],
        "note": ["x" * 40_000, "", "a\x01b"],
    })  # fmt: skip
    rows = [[cell.value for cell in row] for row in written(tmp_path / "a.xlsx", table).iter_rows()]
    assert rows[0] == table.schema.names
    assert rows[1] == [MOMENT, MOMENT, 1, 0.1, 1, True, "=1+1", "x" * 32_767]
    assert rows[2][:7] == [None, MOMENT, None, None, 2, False, "http://example.com"]
    assert rows[3][:7] == ["1850-01-01 00:00:00", MOMENT, str(10**15 + 1), "-inf", 3, None, "00123"]


def test_no_text_is_a_formula_or_a_link(tmp_path: Path) -> None:
    page = written(tmp_path / "a.xlsx", pa.table({"=h": ["=1+1", "{=1}", "+1", "@x", "mailto:a@b.c", "file:///etc"]}))
    assert {cell.data_type for row in page.iter_rows() for cell in row} == {"s"}
    with zipfile.ZipFile(tmp_path / "a.xlsx") as book:
        content = book.read("xl/worksheets/sheet1.xml").decode()
        assert "<f>" not in content
        assert "hyperlink" not in content
        assert not [name for name in book.namelist() if "_rels/sheet" in name]


def test_the_header_stays_in_view_and_filters(tmp_path: Path) -> None:
    page = written(
        tmp_path / "a.xlsx", pa.table({"date": pa.array([MOMENT] * 3, pa.timestamp("s")), "crop": ["rye"] * 3})
    )
    assert page.freeze_panes == "A2"
    assert page.auto_filter.ref == "A1:B4"
    assert page["A2"].number_format == "yyyy-mm-dd hh:mm:ss"
    assert page.column_dimensions["A"].width > 18
    assert page["A1"].font.bold


def test_names_of_sheets_are_unique_in_any_case() -> None:
    long = "NDVI CM004-CSH1-CMP1-CHP1-TCI1-ITER"
    names = sheet_names([long + "1", long.lower() + "0", long + "1", "a[b]:c", "", "History", "'x'", "é" * 40])
    assert len({name.casefold() for name in names}) == len(names)
    assert all(0 < len(name) <= 31 and not set(name) & set("[]:*?/\\") for name in names)
    assert names[3:7] == ["a_b_c", "sheet", "History (2)", "x"]


def test_tables_that_are_too_large_are_refused_by_name() -> None:
    long = Sheet("NDVI", pa.schema([("fid", pa.int64())]), lambda: iter([]), 1_048_576)
    with pytest.raises(OutputError, match=r"^NDVI has 1,048,576 rows, and a sheet of Excel takes 1,048,575; use it\.$"):
        check_workbook([long], "use it")
    broad = Sheet("EVI", pa.schema([(f"c{k}", pa.int64()) for k in range(16_385)]), lambda: iter([]), 1)
    with pytest.raises(OutputError, match=r"^EVI has 16,385 columns"):
        check_workbook([broad], "use it")


def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(MissingExtraError, match=r"pip install XlsxWriter .*sen2chain\[excel\]"):
        check_workbook([], "")


def test_nothing_is_left_of_a_workbook_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    (tmp_path / "a.xlsx").write_text("former")

    def tables() -> Any:
        yield pa.table({"fid": [1]})
        raise OSError("a raster is broken")

    broken = Sheet("NDVI", pa.schema([("fid", pa.int64())]), tables, 2)
    with pytest.raises(OSError, match="a raster is broken"):
        write_workbook([broken], tmp_path / "a.xlsx", {})
    assert (tmp_path / "a.xlsx").read_text() == "former"
    monkeypatch.setattr(os, "fsync", functools.partial(_full, os.fsync))
    with pytest.raises(OutputError, match="No room is left"):
        write_workbook([sheet("NDVI", pa.table({"fid": [1]}))], tmp_path / "a.xlsx", {})
    assert (tmp_path / "a.xlsx").read_text() == "former"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.xlsx", "temporary"]
    assert list(temporary.iterdir()) == []


def _full(_sync: Any, _file: int) -> None:
    raise OSError(28, "No space left on device")
