from __future__ import annotations

import datetime as dt
import os
import stat
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sen2chain.errors import JobError, RequestError
from sen2chain.jobs.cell_words import EARLIEST, Day, cell_number, items, percentage, switch
from sen2chain.jobs.editable_job import template
from sen2chain.jobs.job_file import COLUMNS, JobFile, read_text, write_text
from sen2chain.jobs.job_settings import DEFAULTS, _indices, read_settings

if TYPE_CHECKING:
    from pathlib import Path

HEADER = ";".join(COLUMNS)

# As the original program writes it, and as a user then fills it in.
ORIGINAL = """\
# my job for the lakes
logs = False
timing = 0 0 * * *
nb_proc = 8
process_by_line = 0

shapefile;date_min;date_max;max_clouds;cloudmask;indices;force_extraction;compiled_data;smooth_data;copy_server
# the northern lakes
/data/north.shp;2021-01-01;today;80;CM003-PRB1-ITER5/CM004-CSH1-CMP1-CHP1-TCI1-ITER0;NDVI/NDWIGAO;False;yearly/monthly;False;me@host:to/there
!/data/south.shp ; today-30 ;;;CM001;All;;;;
"""


def test_a_file_of_the_original_is_read_with_its_older_column() -> None:
    file = JobFile.parse(ORIGINAL)
    assert not file.problems
    assert {name: text for name, (_, text) in file.settings.items()} == {
        "logs": "False", "timing": "0 0 * * *", "nb_proc": "8", "process_by_line": "0",
    }  # fmt: skip
    assert file.columns == list(COLUMNS)
    north, south = file.rows
    assert (north.line, north.skipped, south.line, south.skipped) == (9, False, 10, True)
    assert north.text("cloudmasks") == "CM003-PRB1-ITER5/CM004-CSH1-CMP1-CHP1-TCI1-ITER0"
    assert (north.text("copy_server"), south.text("shapefile")) == ("me@host:to/there", "/data/south.shp")
    assert (south.text("date_min"), south.text("max_clouds"), south.text("copy_server")) == ("today-30", "", "")


def test_the_template_is_a_file_without_problems_and_explains_every_column_and_setting() -> None:
    text = template("lakes")
    file = JobFile.parse(text)
    assert not file.problems
    assert [row.skipped for row in file.rows] == [True]
    for column in COLUMNS:
        assert f"\n# {column} " in text
    for name in DEFAULTS:
        assert f"{name} = " in text
    assert set(file.settings) == set(DEFAULTS) - {
        "on_failure", "on_success", "library", "collection", "stac_asset", "stac_allow",
    }  # fmt: skip


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_changing_a_value_keeps_everything_else_byte_for_byte(end: str) -> None:
    text = ORIGINAL.replace("\n", end).replace("timing = 0 0 * * *", "timing=  0 0 * * *   # at night")
    file = JobFile.parse(text)
    file.set("timing", "5 1 * * *")
    assert file.text == text.replace("0 0 * * *", "5 1 * * *")
    file.change(1, {"date_min": "today-60", "indices": "NBR"})
    assert file.text == text.replace("0 0 * * *", "5 1 * * *").replace(" today-30 ", " today-60 ").replace(
        "CM001;All", "CM001;NBR"
    )
    assert file.rows[1].skipped


def test_a_setting_that_is_missing_is_added_above_the_table() -> None:
    assert JobFile.parse(f"logs = # none yet\nnb_proc = 8 # all\n{HEADER}\n").settings == {
        "logs": (1, ""), "nb_proc": (2, "8"),
    }  # fmt: skip
    file = JobFile.parse(ORIGINAL)
    file.set("on_failure", "mail me")
    assert file.text == ORIGINAL.replace("\nshapefile;", "\non_failure = mail me\nshapefile;")


def test_an_empty_setting_can_be_filled() -> None:
    file = JobFile.parse(f"logs =\n{HEADER}\n")
    file.set("logs", "True")
    assert file.text == f"logs = True\n{HEADER}\n"


def test_lines_are_skipped_and_taken_up_again() -> None:
    file = JobFile.parse(ORIGINAL)
    file.change(1, {"shapefile": "/data/south.shp"})
    file.change(0, {"shapefile": "!/data/north.shp"})
    assert [row.skipped for row in file.rows] == [True, False]
    file.change(1, {"shapefile": "!" + file.rows[1].text("shapefile")})
    file.change(0, {"shapefile": file.rows[0].text("shapefile")})
    assert file.text.splitlines()[8:] == ORIGINAL.replace("!/data/south.shp ;", "!/data/south.shp ;").splitlines()[8:]


def test_lines_are_added_and_removed() -> None:
    file = JobFile.parse(ORIGINAL.rstrip("\n"))
    file.add({"shapefile": "a b;c.shp", "indices": "NDVI"})
    assert file.text == ORIGINAL + '"a b;c.shp";;;;;NDVI;;;;\n'
    assert file.rows[2].text("shapefile") == "a b;c.shp"
    file.remove(2)
    file.remove(0)
    assert [row.text("shapefile") for row in file.rows] == ["/data/south.shp"]
    assert "# the northern lakes" in file.text


def test_a_line_with_fewer_cells_gets_those_that_are_set() -> None:
    file = JobFile.parse(f"{HEADER}\n!a.shp;2021-01-01\n")
    file.change(0, {"copy_server": "u@h:x"})
    assert file.text == f"{HEADER}\n!a.shp;2021-01-01;;;;;;;;u@h:x\n"
    assert file.rows[0].skipped


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("logs = True\n", "The table is missing"),
        (f"what is this\n{HEADER}\n", "line 1: 'what is this' is neither a setting"),
        (f"logs = True\nlogs = False\n{HEADER}\n", "line 2, logs: it stands in line 1 too"),
        ("shapefile;date_mni\n", "line 1 (character 11): Unknown column 'date_mni'; allowed: shapefile"),
        ("shapefile;indices;indices\n", "line 1 (character 19): the column indices stands twice"),
        (f"logs = a\x00b\n{HEADER}\n", "line 1 (character 9): it has the character '\\x00'"),
    ],
)
def test_what_makes_a_file_unreadable_is_said_with_its_place(text: str, said: str) -> None:
    assert str(JobFile.parse(text).problems[0]).startswith(said)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a.shp;;;;;;;;;;x", "line 2 (character 16): 'x' stands behind the last column"),
        ("on_failure = x", "line 2: settings stand above the table"),
        ("a\x1b.shp;;", "line 2 (character 2): it has the character '\\x1b', which is invisible; remove it."),
        ("a\u202e.shp;;", "line 2 (character 2): it has the character '\\u202e'"),
        ('"a.shp;;;;', 'line 2, shapefile (character 1): a " is not closed before the next ;.'),
    ],
)
def test_what_is_wrong_with_the_shape_of_a_line_stops_only_that_line(line: str, said: str) -> None:
    file = JobFile.parse(f"{HEADER}\n{line}\nb.shp\n")
    assert not file.problems
    assert str(file.rows[0].problems[0]).startswith(said)
    assert not file.rows[1].problems


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\x00", "a\u2028b", "x # y"])
def test_a_setting_has_one_line(value: str) -> None:
    with pytest.raises(RequestError, match="one line"):
        JobFile.parse(ORIGINAL).set("on_failure", value)


@pytest.mark.parametrize("value", ["a\nb.shp", "a\rb", "a\x00"])
def test_a_cell_has_one_line(value: str) -> None:
    file = JobFile.parse(ORIGINAL)
    with pytest.raises(RequestError, match="line break"):
        file.add({"shapefile": value})
    with pytest.raises(RequestError, match="line break"):
        file.change(0, {"shapefile": value})
    assert file.text == ORIGINAL


printable = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=20)


@given(st.lists(printable, min_size=len(COLUMNS), max_size=len(COLUMNS)), st.integers(0, 1))
def test_what_is_written_into_cells_is_read_again(cells: list[str], number: int) -> None:
    values = {name: cell.strip().lstrip("!").strip() for name, cell in zip(COLUMNS, cells, strict=True)}
    values["shapefile"] = values["shapefile"] or "a"
    file = JobFile.parse(ORIGINAL)
    file.add(values)
    file.change(number, values)
    for row in (file.rows[number], file.rows[-1]):
        assert {name: row.text(name) for name in COLUMNS} == values
        assert not row.problems
        assert not row.skipped
    others = [line for line in JobFile.parse(ORIGINAL).lines if not line.startswith(("/data", "!"))]
    assert [line for line in file.lines if line in others] == others


@given(st.text(max_size=300))
def test_any_text_is_kept_and_gives_no_traceback(text: str) -> None:
    assert JobFile.parse(text).text == text


def test_files_are_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "job_x.cfg"
    with pytest.raises(JobError, match="There is no job file"):
        read_text(path)
    write_text(path, "\ufeff" + ORIGINAL)
    assert not JobFile.parse(read_text(path)).problems
    path.write_bytes(b"logs = True\n# caf\xe9\n")
    with pytest.raises(JobError, match=r"is not UTF-8 text \(line 2\)"):
        read_text(path)
    path.write_bytes(bytes(5_000_000))
    with pytest.raises(JobError, match=r"cannot be read \(it has more than 4 MB\)"):
        read_text(path)
    with pytest.raises(JobError, match=r"cannot be read \(it is a folder\)"):
        read_text(tmp_path)


# ------------------------------------------------------------------------------------------------------------- cells


@pytest.mark.parametrize(
    ("text", "today", "day"),
    [
        ("today", "2024-02-29", "2024-02-29"),
        ("today-1", "2024-03-01", "2024-02-29"),
        ("today-1", "2023-03-01", "2023-02-28"),
        ("today-30", "2022-03-30", "2022-02-28"),
        ("today - 365", "2024-12-31", "2024-01-01"),
        ("Today-366", "2024-12-31", "2023-12-31"),
        ("today-31", "2026-01-31", "2025-12-31"),
        ("2021-02-28", "2026-01-01", "2021-02-28"),
    ],
)
def test_days_are_counted_in_the_calendar(text: str, today: str, day: str) -> None:
    found = Day.parse(text)
    assert found is not None
    assert found.on(dt.date.fromisoformat(today)) == dt.date.fromisoformat(day)
    assert Day.parse(str(found)) == found


@pytest.mark.parametrize("text", ["2021-02-29", "21-01-01", "yesterday", "today+1", "today-", "today-x", "01/02/2021"])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="is not a date"):
        Day.parse(text)


def test_days_before_the_first_image_are_refused() -> None:
    with pytest.raises(RequestError, match=f"is before {EARLIEST}"):
        Day.parse("today-999999")


@pytest.mark.parametrize(
    ("text", "definitions"),
    [
        ("savi/NDVI", {"SAVI": "(1.0+1)*(B08-B04)/(B08+B04+1)", "NDVI": "(B08-B04)/(B08+B04)"}),
        (
            "RATIO=B08/B04/SAVI2/SR",
            {"RATIO": "B08/B04", "SAVI2": "B08/(B04+(0/1)) scale=100", "SR": "B08/B04 scale=100"},
        ),
        ("RATIO=B08/B04 scale=10/NBR", {"RATIO": "B08/B04 scale=10", "NBR": "(B08-B12)/(B08+B12)"}),
        ("X=B08/B04/2/Y = B04/B08/sqrt(B02)", {"X": "B08/B04/2", "Y": "B04/B08/sqrt(B02)"}),
    ],
)
def test_indices_by_name_and_formulas_with_a_slash(text: str, definitions: dict[str, str]) -> None:
    found = _indices(text)
    assert found is not None
    assert {index.name: index.definition for index in found} == definitions


@pytest.mark.parametrize("text", ["", "False", "false", " "])
def test_columns_are_switched_off(text: str) -> None:
    assert Day.parse(text) is None
    assert not switch(text)
    assert items(text) == []
    assert percentage(text) == 100


def test_numbers_and_lists() -> None:
    assert (percentage("0"), percentage("80"), percentage("12.5 %"), cell_number("8", 100)) == (0, 80, 12.5, 8)
    assert items(" NDVI / NBR/NDVI") == ["NDVI", "NBR", "NDVI"]
    for text in ("-1", "101", "x", "nan", "inf"):
        if text != "nan":
            with pytest.raises(RequestError, match="not a percentage"):
                percentage(text)
        with pytest.raises(RequestError, match="not a whole number"):
            cell_number(text, 100)
    with pytest.raises(RequestError, match="empty name"):
        items("NDVI//NBR")
    with pytest.raises(RequestError, match="neither True nor False"):
        switch("maybe")


def test_only_its_user_reads_a_new_file_and_a_rewrite_keeps_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "job_x.cfg"
    before = os.umask(0)
    try:
        write_text(path, "1")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for mode in (0o640, 0o604):
            path.chmod(mode)
            write_text(path, "2")
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("head", "wrong"),
    [
        ("library = /data/archive", "it does not name a catalogue; write stac:https://..."),
        ("library = stac:", "it does not name a catalogue"),
        ("library = stac:items.parquet\nsafe = products", "products come from one place; remove library or safe"),
        ("collection = sentinel-2-l2a", "it belongs to library = stac:...; add that, or remove it"),
        ("library = stac:items.parquet\nstac_asset = B04", "'B04' does not name a band and its asset"),
        ("library = https://me:hidden@host/v1?sig=hidden", "it does not name a catalogue"),
    ],
)
def test_a_catalogue_that_cannot_be_used_is_told_without_its_address(head: str, wrong: str) -> None:
    settings, problems = read_settings(JobFile.parse(f"{head}\n{HEADER}\n"))
    assert settings is None
    (problem,) = problems
    assert wrong in str(problem)
    assert "hidden" not in str(problem)


def test_a_catalogue_and_its_settings() -> None:
    text = "library = stac:https://host/v1\ncollection = c\nstac_asset = b04=red/B8A=nir\nstac_allow = a.org s3://b\n"
    settings, problems = read_settings(JobFile.parse(f"{text}{HEADER}\n"))
    assert not problems
    assert settings is not None
    assert (settings.library, settings.collection) == ("https://host/v1", "c")
    assert (settings.stac_asset, settings.stac_allow) == ({"B04": "red", "B8A": "nir"}, ("a.org", "s3://b"))
