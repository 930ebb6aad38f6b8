"""Tables as plain text."""

from __future__ import annotations

import pytest

from sen2chain.inspection import TextTable, as_text


def test_a_table_has_its_title_header_and_rows() -> None:
    table = TextTable("Tiles", ["tile", "products"], [["31TCJ", "5"], ["31TDJ", "1,200"]], numeric=(1,))
    title, header, line, *rows = as_text([table]).split("\n")
    assert (title, header.split()) == ("Tiles", ["tile", "products"])
    assert set(line.strip()) == {"─"}
    assert [row.split() for row in rows] == [["31TCJ", "5"], ["31TDJ", "1,200"]]
    assert rows[0].endswith("    5")
    assert as_text([table, table]) == f"{as_text([table])}\n\n{as_text([table])}"


@pytest.mark.parametrize("width", [40, 100, 400])
def test_no_line_is_wider_than_asked_for_and_nothing_is_lost(width: int) -> None:
    words = " ".join(f"word{n}" for n in range(60))
    text = as_text([TextTable("T", ["n", "text"], [["123456789", words]], numeric=(0,))], width)
    assert max(map(len, text.split("\n"))) <= width
    assert [word for word in text.split() if word.startswith("word")] == words.split()
    assert "123456789" in text


def test_markup_and_control_characters_are_text() -> None:
    text = as_text([TextTable("[b]T[/b]", ["[red]"], [["[link=x]y[/link] \x1b[31m\udcff"]])])
    assert "[b]T[/b]" in text
    assert "[link=x]y[/link]" in text
    assert "\x1b" not in text
    text.encode()
