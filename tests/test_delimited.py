"""CSV for Excel: what a spreadsheet makes of the bytes."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from sen2chain.export import DIALECTS, write_csv

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = [
    "=cmd|' /C calc'!A0", "+1+cmd", "-1+cmd", "@SUM(A1)", "\t=1", "\uff1d1+1", " =1", "a;=1", "b,=1", "c\t=1",
    'say "x"', "é;ü", "plain", "-5", "+33", "-3,5", "1.5", "", None, "Müller; -Schmidt",
]  # fmt: skip
STARTS = tuple("=+-@\uff1d")
SAFE = ["-5", "+33", "-3,5", "1.5"]


def write(folder: Path, dialect: str) -> bytes:
    table = pa.table({
        "=evil": TEXTS, "mean": [-1234.5, float("nan"), *[1e-7] * (len(TEXTS) - 2)], "count": [-3] * len(TEXTS),
        "date": pa.array([0] * len(TEXTS), pa.timestamp("s")),
    })  # fmt: skip
    write_csv([table], folder / "a_excel.csv", {"run": 1}, dialect=DIALECTS[dialect])
    assert json.loads((folder / "a_excel.json").read_text()) == {"run": 1}
    return (folder / "a_excel.csv").read_bytes()


@pytest.mark.parametrize(("dialect", "separator", "decimal"), [("excel", ",", "."), ("excel-semicolon", ";", ",")])
def test_numbers_stay_numbers_and_texts_texts(tmp_path: Path, dialect: str, separator: str, decimal: str) -> None:
    content = write(tmp_path, dialect)
    assert content.startswith(b"\xef\xbb\xbf")
    text = content.decode("utf-8-sig")
    assert text.count("\r\n") == len(TEXTS) + 1
    header, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    assert header == ["'=evil", "mean", "count", "date"]
    assert rows[0][1:] == [f"-1234{decimal}5", "-3", "1970-01-01 00:00:00"]
    assert rows[1][1] == ""
    assert float(rows[2][1].replace(decimal, ".")) == 1e-7
    for value, (cell, *_) in zip(TEXTS, rows, strict=True):
        if value in SAFE:
            assert cell == value  # a number is no formula
        else:
            assert cell.replace("'", "") == (value or "").replace("'", "")  # only apostrophes are added
            assert cell.strip()[:1] not in STARTS


@pytest.mark.parametrize("dialect", ["excel", "excel-semicolon"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_no_cell_is_a_formula_whatever_separator_the_system_has(tmp_path: Path, dialect: str, separator: str) -> None:
    for line in write(tmp_path, dialect).decode("utf-8-sig").split("\r\n"):
        for cell in line.split(separator):  # as bluntly as a program may cut that takes no quotes
            start = cell.strip(' "')
            is_number = not set(start) - set('"+-.,:;0123456789e ')
            own = separator == DIALECTS[dialect].separator  # within quotes, which Excel knows
            assert own or is_number or start[:1] not in STARTS, cell


def test_the_documented_files_are_as_they_were(tmp_path: Path) -> None:
    lines = write(tmp_path, "plain").decode().split("\n")
    assert lines[0] == "=evil,mean,count,date"
    assert lines[1] == "=cmd|' /C calc'!A0,-1234.5,-3,1970-01-01 00:00:00"
    assert lines[12] == "é;ü,1e-7,-3,1970-01-01 00:00:00"
