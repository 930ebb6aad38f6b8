from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sen2chain.products import ProductId, Skipped
from sen2chain.reasons import Reason
from sen2chain.report import HEAD, REPORT_COLUMNS, Report, remarks
from sen2chain.rows import Batch, Clipped, Overruled

PRODUCT = ProductId.parse("S2A_MSIL2A_20220403T103021_N0400_R108_T31TGJ_20220403T160000")


def batch(rows: int, reasons: dict[Reason, int], error: str = "", mask: str = "CM001") -> Batch:
    codes = np.array([-1] * rows + [list(Reason).index(Reason.CLOUD)], np.int8)
    columns: dict[str, Any] = {"fid": np.arange(rows + 1), "reason": codes}
    return Batch("NDVI", mask, PRODUCT, "f.jp2", columns, reasons, "bands", "computed from SCL", error)


def test_a_line_says_all_of_one_output() -> None:
    report = Report()
    report.add(batch(7, {Reason.CLOUD: 2, Reason.SUPERSEDED: 1}, "a remark"))
    (line,) = report.frame().to_dict("records")
    assert list(line) == list(REPORT_COLUMNS)
    assert [line[name] for name in HEAD] == [
        "NDVI", "CM001", "31TGJ", str(PRODUCT), PRODUCT.sensing, "bands", "computed from SCL", 7,
    ]  # fmt: skip
    assert {name: line[name] for name in REPORT_COLUMNS[8:-1] if line[name]} == {"cloud": 2, "superseded": 1}
    assert line["error"] == "a remark"
    assert report.rows == 7  # the empty row does not count


def test_columns_are_the_reasons_in_their_order() -> None:
    assert list(REPORT_COLUMNS) == [*HEAD, *(r.value for r in Reason), "error"]
    assert list(Report().frame().columns) == list(REPORT_COLUMNS)
    assert Report().frame().empty
    for reason in Reason:
        assert reason.sentence


def test_totals_add_up_over_lines() -> None:
    report = Report()
    report.add(batch(1, {Reason.CLOUD: 2}))
    report.add(batch(2, {Reason.CLOUD: 3, Reason.NO_DATA: 1}))
    assert dict(report.totals()) == {Reason.CLOUD: 5, Reason.NO_DATA: 1}
    assert report.rows == 3


@pytest.mark.parametrize(
    ("reasons", "error", "damaged"),
    [
        ({Reason.UNREADABLE: 5}, "b.jp2 cannot be read", True),
        ({Reason.GRID_MISMATCH: 5}, "b.jp2 has another grid", True),
        ({Reason.INDEX_INPUTS_MISSING: 5}, "NBR needs B12", False),
        ({}, "cldprb is empty", False),
        ({Reason.CLOUD: 5}, "", False),
    ],
)
def test_damaged_is_what_the_archive_has_and_nobody_can_use(
    reasons: dict[Reason, int],
    error: str,
    damaged: bool,  # noqa: FBT001  # a column of the table
) -> None:
    report = Report()
    report.add(batch(0, reasons, error))
    assert report.has_damage is damaged


def test_things_without_a_product_have_a_line_of_their_own() -> None:
    report = Report()
    report.add_skipped([Skipped("S2A_USER_PRD.SAFE", "31TGJ", Reason.UNSUPPORTED_NAME, "No name.")], 12)
    report.add_far_tile("NDVI", "CM001", "40KCB", {Reason.OUTSIDE_TILE: 12})
    frame = report.frame()
    assert frame["acquisition"].tolist() == ["S2A_USER_PRD.SAFE", ""]
    assert frame["tile"].tolist() == ["31TGJ", "40KCB"]
    assert frame["error"].tolist() == ["No name.", ""]
    assert frame["outside_tile"].tolist() == [0, 12]
    assert frame["unsupported_name"].tolist() == [12, 0]
    assert Reason.UNSUPPORTED_NAME not in report.totals()
    assert report.rows == 0


def test_the_main_cause_is_the_most_frequent_one_with_its_cure_or_error() -> None:
    report = Report()
    assert report.main_cause() == ""
    report.add_far_tile("NDVI", "CM001", "40KCB", {Reason.OUTSIDE_TILE: 100})
    assert Reason.OUTSIDE_TILE.sentence in report.main_cause()
    assert "CRS" in report.main_cause()
    # What lies in another tile says nothing as soon as a feature was found in one.
    report.add(batch(0, {Reason.CLOUD: 3}))
    assert Reason.CLOUD.sentence in report.main_cause()
    assert "(3 times)" in report.main_cause()
    assert "another cloud mask" in report.main_cause()
    report.add(batch(0, {Reason.UNREADABLE: 4}, "x.jp2 cannot be opened."))
    assert Reason.UNREADABLE.sentence in report.main_cause()
    assert report.main_cause().endswith("x.jp2 cannot be opened.")


def test_the_room_is_light() -> None:
    code = "import sen2chain.report, sys; print([m for m in ('numpy', 'pandas', 'rasterio') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603  # ours
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("reason", "damage"), [(Reason.UNSUPPORTED_NAME, False), (Reason.UNREADABLE, True)])
def test_an_odd_name_is_no_damage_but_a_broken_zip_is(reason: Reason, damage: bool) -> None:  # noqa: FBT001
    report = Report()
    report.add_skipped([Skipped("S2A.zip", "31TGJ", reason, "A sentence.")], 12)
    assert report.has_damage is damage


CLDPRB = "cldprb is empty: the archive lacks MSK_CLDPRB_20m."


def enter(
    report: Report, orbit: int, reasons: dict[Reason, int], error: str, rows: int = 0, mask: str = "CM001"
) -> None:
    product = replace(PRODUCT, orbit=orbit)
    report.enter("NDVI", mask, product, value_source="", mask_source="", rows=rows, reasons=reasons, error=error)


def test_a_note_is_not_taken_for_a_cause() -> None:
    report = Report()
    for orbit in (1, 2):
        enter(report, orbit, {Reason.CLOUD: 4}, CLDPRB)
    assert report.main_cause() == (
        "Most often, the cloud mask removed every valid pixel of the feature (8 times). "
        "Try a longer period or another cloud mask."
    )
    enter(report, 3, {}, CLDPRB, rows=4)
    assert report.why_partly([("NDVI", "CM001")]) == ""
    assert report.why_partly([("NDVI", "CM001"), ("NBR", "CM001")]) == "NBR under CM001 gave no row."
    for orbit in (4, 5):
        enter(report, orbit, {Reason.UNREADABLE: 4}, f"b{orbit}.jp2 cannot be read.")
    enter(report, 5, {Reason.MASK_INPUTS_MISSING: 4}, "No OCM raster is stored.", mask="OCM")
    assert report.why_partly([("NDVI", "CM001"), ("NDVI", "OCM")]) == (
        "2 products could not be used: b4.jp2 cannot be read. NDVI under OCM gave no row. "
        "Most often, there is neither the mask nor the rasters to compute it (4 times). No OCM raster is stored."
    )


def test_what_counts_as_damage_is_named_also_where_it_is_a_product_of_no_index() -> None:
    report = Report()
    enter(report, 1, {}, "", rows=4)
    report.add_skipped([Skipped("S2A.SAFE", "31TGJ", Reason.UNREADABLE, "its metadata cannot be read")], 4)
    assert report.has_damage
    assert report.why_partly([("NDVI", "CM001")]) == "1 product could not be used: its metadata cannot be read."


def test_what_holds_for_many_products_is_one_line_with_a_count_and_causes_come_first() -> None:
    report = Report()
    for orbit in range(1, 8):
        enter(report, orbit, {}, CLDPRB, rows=4)
        enter(report, orbit, {Reason.MASK_INPUTS_MISSING: 4}, "No OCM raster is stored.", mask="OCM")
    enter(report, 9, {Reason.UNREADABLE: 4}, "b9.jp2 cannot be read.")
    enter(report, 10, {}, "cldprb is empty: c10.jp2 cannot be read.", rows=4)
    assert remarks(report.frame()) == [
        f"7 products, as {replace(PRODUCT, orbit=1)}: No OCM raster is stored.",
        f"{replace(PRODUCT, orbit=9)}: b9.jp2 cannot be read.",
        "cldprb is empty for 7 products: the archive lacks MSK_CLDPRB_20m.",
        f"{replace(PRODUCT, orbit=10)}: cldprb is empty: c10.jp2 cannot be read.",
    ]
    assert remarks(Report().frame()) == []


def test_clipped_pixels_are_summed_over_products() -> None:
    report = Report()
    for orbit, pixels in ((1, 1), (2, 1200), (3, 0)):
        said = Clipped("EVI", pixels, min(pixels, 7), -3.2768, 3.2766).sentence() if pixels else ""
        enter(report, orbit, {}, f"{CLDPRB} {said}".strip(), rows=4)
    enter(report, 2, {}, Clipped("EVI", 3, 3, -3.2768, 3.2766).sentence(), rows=4, mask="CM004")
    assert report.texts["error"][0].endswith(
        "EVI: 1 pixel of 1 feature lies beyond -3.2768 to 3.2766 and counts as the nearer of both."
    )
    beyond = "beyond -3.2768 to 3.2766 and count as the nearer of both."
    assert remarks(report.frame()) == [
        "cldprb is empty for 3 products: the archive lacks MSK_CLDPRB_20m.",
        f"NDVI under CM001: 1201 pixels of 8 rows in 2 products lie {beyond}",
        f"NDVI under CM004: 3 pixels of 3 rows in 1 product lie {beyond}",
    ]


@pytest.mark.parametrize(("pixels", "features", "scale"), [(1, 1, 10000), (5, 1, 10), (123456789, 100000, 1)])
def test_a_sentence_on_clipped_pixels_is_read_back(pixels: int, features: int, scale: int) -> None:
    said = Clipped("SR", pixels, features, -32768 / scale, 32766 / scale)
    assert Clipped.taken_from(said.sentence()) == ("", said)
    assert Clipped.taken_from(f"{CLDPRB} {said.sentence()}") == (CLDPRB, said)
    assert Clipped.taken_from(CLDPRB) == (CLDPRB, None)


def test_contradictions_about_offsets_are_counted_once_per_product() -> None:
    report = Report()
    believed, other = Overruled("included", "subtracted"), Overruled("subtracted", "included")
    clipped = Clipped("EVI", 3, 3, -3.2768, 3.2766).sentence()
    for orbit, said in ((1, f"{CLDPRB} {believed.sentence()} {clipped}"), (2, believed.sentence()), (3, CLDPRB)):
        for mask in ("CM001", "CM004"):
            enter(report, orbit, {}, said, rows=4, mask=mask)
    enter(report, 4, {}, other.sentence(), rows=4)
    first, last = replace(PRODUCT, orbit=1), replace(PRODUCT, orbit=4)
    count = "and the pixels count."
    digits = "of the offset of the digital numbers of"
    assert remarks(report.frame())[:3] == [
        "cldprb is empty for 2 products: the archive lacks MSK_CLDPRB_20m.",
        f"The catalogue says 'included' {digits} 2 products, as {first}, the pixels show 'subtracted', {count}",
        f"The catalogue says 'subtracted' {digits} {last}, the pixels show 'included', {count}",
    ]
    assert len(remarks(report.frame())) == 5


def test_an_item_that_gives_nothing_at_all_counts_as_damage() -> None:
    def with_skipped(reason: Reason) -> Report:
        report = Report()
        report.add_skipped([Skipped("item", "31TGJ", reason, "item has none of the bands.")], 5)
        return report

    lacking = with_skipped(Reason.INDEX_INPUTS_MISSING)
    assert lacking.has_damage
    assert lacking.why_partly([]) == "1 product could not be used: item has none of the bands."
    # Folders of archives hold other files too.
    assert not with_skipped(Reason.UNSUPPORTED_NAME).has_damage
