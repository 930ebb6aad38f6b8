from __future__ import annotations

import datetime as dt
import itertools
import json
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from sen2chain.archive.memory_source import MemorySource
from sen2chain.archive.product_details import ProductDetails
from sen2chain.demo import esa_files
from sen2chain.errors import FormulaError, RequestError, Sen2ChainError, UnknownNameError
from sen2chain.grid import nominal_grid
from sen2chain.indices import INDICES, Index
from sen2chain.masks import Mask
from sen2chain.plan import MaskKind, Request, ValueKind, make_plan, plan_task, resolve_sources, why_outside
from sen2chain.products import Acquisition, KnownDetails, ProductId, Radiometry
from sen2chain.reasons import Reason
from sen2chain.vectors import Layer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CM004 = Mask.parse("CM004-CSH1-CMP1-CHP1-TCI1-ITER1")
NDVI = INDICES["NDVI"]
OFFSETS = KnownDetails(Radiometry(10000.0, {"B04": -1000.0, "B08": -1000.0, "B11": -1000.0}))
BANDS = {"B04": "b04.jp2", "B08": "b08.jp2"}


def product(tile: str = "31TGJ", day: str = "20220403", baseline: int = 400, platform: str = "S2A") -> ProductId:
    return ProductId.parse(f"{platform}_MSIL2A_{day}T103021_N{baseline:04d}_R108_T{tile}_{day}T160000")


def keywords(**changed: Any) -> dict[str, Any]:
    return {"cm_version": "CM001", **changed}


def request(**changed: Any) -> Request:
    options: dict[str, Any] = {"indices": "NDVI", "masks": CM004, "keywords": keywords(), **changed}
    return Request.build(**options)


# Sources


def sources(*, tif: bool, jp2: bool, masked: bool, bands: bool, metadata: bool, stored_mask: bool, scl: bool) -> Any:
    """Give an acquisition that holds what is true."""
    return Acquisition(
        product(),
        OFFSETS if metadata else KnownDetails(),
        bands=(BANDS if bands else {}) | ({"SCL": "scl.jp2"} if scl else {}),
        masks={CM004.name: "cm004.jp2"} if stored_mask else {},
        indices={"NDVI": ("ndvi.tif",) * tif + ("ndvi.jp2",) * jp2} if tif or jp2 else {},
        masked={("NDVI", CM004.name): "ndvi_cm004.jp2"} if masked else {},
    )


SWITCHES = ("tif", "jp2", "masked", "bands", "metadata", "stored_mask", "scl")
ORDERS = {
    None: "lossless bands lossy masked",
    "stored": "lossless lossy bands masked",
    "masked": "masked lossless bands lossy",
}
SERVED: Mapping[str, tuple[ValueKind, dict[str, str]]] = {
    "lossless": (ValueKind.LOSSLESS, {"value": "ndvi.tif"}),
    "bands": (ValueKind.BANDS, BANDS),
    "lossy": (ValueKind.LEGACY, {"value": "ndvi.jp2"}),
    "masked": (ValueKind.MASKED, {"value": "ndvi_cm004.jp2"}),
}


@pytest.mark.parametrize("prefer", [None, "stored", "masked"])
def test_sources_of_value_and_mask_for_every_combination(prefer: Any) -> None:
    for given in itertools.product((False, True), repeat=len(SWITCHES)):
        has = dict(zip(SWITCHES, given, strict=True))
        output = resolve_sources(sources(**has), NDVI, CM004, prefer)
        there = {
            "lossless": has["tif"],
            "bands": has["bands"] and has["metadata"],
            "lossy": has["jp2"],
            "masked": has["masked"],
        }
        with_mask = has["stored_mask"] or has["scl"]
        usable = [k for k in ORDERS[prefer].split() if there[k] and (with_mask or k == "masked")]
        if not usable:
            assert (output.value, output.clouds) == (None, None), has
            assert output.reason is (Reason.MASK_INPUTS_MISSING if any(there.values()) else Reason.INDEX_INPUTS_MISSING)
            continue
        assert output.reason is None, has
        assert output.value is not None
        assert output.clouds is not None
        kind, rasters = SERVED[usable[0]]
        # A masked raster says by itself what the mask removed only beside the unmasked one of the same make.
        beside = usable[0] == "masked" and has["jp2"]
        assert output.value.kind is kind, has
        assert output.value.rasters == rasters | ({"unmasked": "ndvi.jp2"} if beside else {})
        expected = (
            (MaskKind.IN_VALUE, {})
            if beside
            else (MaskKind.STORED, {"mask": "cm004.jp2"})
            if has["stored_mask"]
            else (MaskKind.COMPUTED, {"SCL": "scl.jp2"})
            if has["scl"]
            else (MaskKind.IN_VALUE, {})
        )
        assert (output.clouds.kind, output.clouds.rasters) == expected, has
        assert output.clouds.suffix == CM004.name


def test_a_masked_raster_of_another_make_is_not_compared_with_the_unmasked_one() -> None:
    acquisition = Acquisition(
        product(), indices={"NDVI": ("ndvi.tif",)}, masked={("NDVI", CM004.name): "ndvi_cm004.jp2"}
    )
    output = resolve_sources(acquisition, NDVI, CM004, "masked")
    assert output.value is not None
    assert output.value.rasters == {"value": "ndvi_cm004.jp2"}


def test_a_masked_raster_serves_its_own_mask_and_index_only() -> None:
    acquisition = Acquisition(product(), masked={("NDVI", "CM001"): "a.jp2", ("BIGR", CM004.name): "b.jp2"})
    assert resolve_sources(acquisition, NDVI, CM004, "masked").reason is Reason.INDEX_INPUTS_MISSING
    assert resolve_sources(acquisition, NDVI, Mask.parse("CM001"), "masked").reason is None


@pytest.mark.parametrize("prefer", [None, "stored", "masked"])
def test_a_users_index_is_never_read_from_stored_rasters(prefer: Any) -> None:
    own = Index("SAVI", "1.5*(B08-B04)/(B08+B04+0.5)")
    stored: dict[str, Any] = {
        "masks": {CM004.name: "cm004.jp2"},
        "indices": {"SAVI": ("savi.tif", "savi.jp2")},
        "masked": {("SAVI", CM004.name): "savi_cm004.jp2"},
    }
    without = resolve_sources(Acquisition(product(), **stored), own, CM004, prefer)
    assert without.reason is Reason.INDEX_INPUTS_MISSING
    assert "B04, B08" in without.detail
    computed = resolve_sources(Acquisition(product(), OFFSETS, BANDS, **stored), own, CM004, prefer)
    assert computed.value is not None
    assert (computed.value.kind, computed.value.rasters) == (ValueKind.BANDS, BANDS)


def test_what_is_missing_is_named() -> None:
    scl = {"SCL": "scl.jp2"}
    cases = [
        (
            Acquisition(product(), OFFSETS, BANDS | scl),
            INDICES["NBR"],
            CM004,
            ["NBR", "band B12", "no NBR raster"],
        ),
        (Acquisition(product(), OFFSETS, scl), INDICES["IRECI"], CM004, ["bands B04, B05, B06, B07"]),
        (Acquisition(product(), KnownDetails(), BANDS | scl), NDVI, CM004, ["MTD_MSIL2A.xml"]),
        (Acquisition(product(), OFFSETS, BANDS), NDVI, CM004, [CM004.name, "SCL"]),
        (Acquisition(product(), OFFSETS, BANDS), NDVI, Mask.parse("CM002"), ["CM002-B11", "CLDPRB and B11"]),
        (Acquisition(product(), OFFSETS, BANDS | scl), NDVI, Mask.parse("OCM"), ["OCM", "cannot be computed"]),
    ]
    for acquisition, index, mask, words in cases:
        output = resolve_sources(acquisition, index, mask)
        assert output.value is None
        for word in words:
            assert word in output.detail, output.detail


@pytest.mark.parametrize(
    ("mask", "stored", "baseline", "chosen"),
    [
        ("OCM", ("OCM_v1_8", "OCM_v1_10_0", "OCM_v1_9_9", "CM001"), 400, "OCM_v1_10_0"),
        ("OCM", ("CM001",), 400, None),
        ("CM003-PRB1-ITER5", ("CM003-PRB1-ITER5",), 301, "CM003-PRB1-ITER5"),
        ("CM003-PRB1-ITER5", ("CM003-PRB1-ITER1", "CM003-PRB2-ITER5"), 301, None),
        ("CM003-PRB1-ITER0", ("CM003-PRB1-ITER0",), 301, None),
        ("CM002", ("CM002-B11",), 301, "CM002-B11"),
        ("CM002", ("CM002-B11",), 400, None),
        ("CM002", ("CM002-B11",), 500, None),
        (CM004.name, (CM004.name,), 400, CM004.name),
        (CM004.name, ("CM004-CSH0-CMP1-CHP1-TCI1-ITER1",), 400, None),
    ],
)  # fmt: skip
def test_a_stored_mask_must_hold_exactly_this_mask(
    mask: str, stored: tuple[str, ...], baseline: int, chosen: str | None
) -> None:
    masks = {suffix: f"{suffix}.jp2" for suffix in stored}
    bands = {**BANDS, "SCL": "scl", "CLDPRB": "cldprb", "B11": "b11"}
    output = resolve_sources(Acquisition(product(baseline=baseline), OFFSETS, bands, masks), NDVI, Mask.parse(mask))
    if chosen is not None:
        assert output.clouds is not None
        assert (output.clouds.kind, output.clouds.rasters) == (MaskKind.STORED, {"mask": f"{chosen}.jp2"})
        assert output.clouds.suffix == chosen
    elif mask == "OCM":
        assert output.reason is Reason.MASK_INPUTS_MISSING
    else:
        assert output.clouds is not None
        assert output.clouds.kind is MaskKind.COMPUTED
        assert output.clouds.suffix == Mask.parse(mask).name


def test_cm002_needs_the_metadata_for_the_reflectance_of_b11() -> None:
    bands = {"CLDPRB": "cldprb", "B11": "b11"}
    stored = {"NDVI": ("ndvi.tif",)}
    with_it = Acquisition(product(), OFFSETS, bands, indices=stored)
    without = Acquisition(product(), KnownDetails(), bands, indices=stored)
    assert resolve_sources(with_it, NDVI, Mask.parse("CM002")).reason is None
    output = resolve_sources(without, NDVI, Mask.parse("CM002"))
    assert output.reason is Reason.MASK_INPUTS_MISSING
    assert "MTD_MSIL2A.xml" in output.detail


def test_a_task_holds_every_index_under_every_mask_and_scl_only_where_asked() -> None:
    acquisition = Acquisition(product(), OFFSETS, {**BANDS, "SCL": "scl", "CLDPRB": "cldprb"})
    masks = (CM004, Mask.parse("CM001"))
    indices = (NDVI, INDICES["BIGR"], INDICES["NBR"])
    task = plan_task(acquisition, indices, masks)
    assert {(o.index, o.mask) for o in task.outputs} == set(itertools.product(indices, masks))
    assert len(task.outputs) == 6
    assert (task.details, task.cldprb, task.scl) == (OFFSETS, "cldprb", None)
    assert plan_task(acquisition, indices, masks, needs_scl=True).scl == "scl"


# The plan


def square(tile: str, size: float = 1000.0) -> Layer:
    """Give a layer in the middle of a tile, in its CRS."""
    grid = nominal_grid(tile)
    left, bottom, right, top = grid.bounds
    x, y = (left + right) / 2, (bottom + top) / 2
    return Layer.of(np.array([shapely.box(x, y, x + size, y + size)], dtype=object), grid.crs)


def test_tasks_come_by_sensing_time_then_tile_then_name() -> None:
    ids = [
        product("32TLP", "20220403"),
        product("31TGJ", "20220408"),
        product("31TGJ", "20220403", 500),
        product("31TGJ", "20220403", 400),
    ]
    both = Layer.of(np.array([shapely.box(6.66, 43.73, 6.7, 43.75)], dtype=object), "EPSG:4326")
    plan = make_plan(request(), MemorySource(map(Acquisition, ids)), both)
    assert [t.product for t in plan.tasks] == [ids[3], ids[2], ids[0], ids[1]]
    assert plan.tiles == ("31TGJ", "32TLP")
    assert plan.far_tiles == ()
    # What lies in the middle of one tile is nowhere near the other.
    plan = make_plan(request(), MemorySource(map(Acquisition, [*ids, product("40KCB")])), square("31TGJ"))
    assert "40KCB" in plan.far_tiles
    assert all(t.product.tile != "40KCB" for t in plan.tasks)


@pytest.mark.parametrize(
    ("first", "last", "days"),
    [
        (None, None, ["20220401", "20220402", "20220403"]),
        ("2022-04-02", "2022-04-02", ["20220402"]),
        ("2022-04-02", None, ["20220402", "20220403"]),
        (None, dt.date(2022, 4, 2), ["20220401", "20220402"]),
        ("", "2022-03-31", []),
    ],
)
def test_dates_are_inclusive_and_may_be_open(first: Any, last: Any, days: list[str]) -> None:
    source = MemorySource(Acquisition(product(day=f"2022040{k}")) for k in (1, 2, 3))
    plan = make_plan(request(date_min=first, date_max=last), source, square("31TGJ"))
    assert [f"{t.product.sensing:%Y%m%d}" for t in plan.tasks] == days


def metadata(folder: Path, id_: ProductId, cover: float | None) -> str:
    folder.mkdir()
    path = folder / "MTD_MSIL2A.xml"
    text = esa_files.metadata(id_, {9: (cover or 0) / 100})
    if cover is None:
        start, end = text.index("<Cloud_Coverage"), text.index("<Image_Content_QI>")
        text = text[:start] + text[end:]
    path.write_text(text)
    return str(path)


def test_products_outside_the_cloud_cover_are_left_out_and_counted(tmp_path: Path) -> None:
    covers = {"20220401": 10.0, "20220402": 50.0, "20220403": 90.0, "20220404": None}
    found = [
        Acquisition(
            product(day=day), ProductDetails(product(day=day), metadata(tmp_path / day, product(day=day), cover))
        )
        for day, cover in covers.items()
    ]
    broken = tmp_path / "broken.xml"
    broken.write_text("<no")
    found += [
        Acquisition(product(day="20220405"), ProductDetails(product(day="20220405"), str(broken))),
        Acquisition(product(day="20220406")),
    ]

    def days(low: float, high: float) -> tuple[list[str], int]:
        plan = make_plan(request(cover_min=low, cover_max=high), MemorySource(found), square("31TGJ"))
        return [f"{t.product.sensing:%d}" for t in plan.tasks], plan.outside_cover

    # Without a figure (or with metadata that the task will complain about) a product is kept.
    unknown = ["04", "05", "06"]
    assert days(0, 100) == (["01", "02", "03", *unknown], 0)
    assert days(0, 50) == (["01", "02", *unknown], 1)
    assert days(50, 90) == (["02", "03", *unknown], 1)
    assert days(11, 49) == (unknown, 3)


def test_rasters_that_lie_elsewhere_than_their_tile_are_found_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "b04.tif"
    profile = {"driver": "GTiff", "width": 10, "height": 10, "count": 1, "dtype": "uint16"}
    with rasterio.open(
        path, "w", crs="EPSG:32631", transform=Affine(10, 0, 500000, 0, -10, 5000000), **profile
    ) as sink:
        sink.write(np.ones((1, 10, 10), np.uint16))
    acquisition = Acquisition(product("40KCB"), bands={"B08": str(tmp_path / "missing.tif"), "B04": str(path)})
    layer = Layer.of(np.array([shapely.box(500020, 4999920, 500050, 4999950)], dtype=object), "EPSG:32631")
    plan = make_plan(request(), MemorySource([acquisition]), layer)
    assert (plan.tiles, plan.far_tiles, len(plan.tasks)) == (("40KCB",), (), 1)
    away = Layer.of(np.array([shapely.box(600020, 4999920, 600050, 4999950)], dtype=object), "EPSG:32631")
    plan = make_plan(request(), MemorySource([acquisition]), away)
    assert (plan.tiles, plan.far_tiles, plan.tasks) == ((), ("40KCB",), ())


def test_an_empty_archive_gives_an_empty_plan() -> None:
    plan = make_plan(request(), MemorySource(()), square("31TGJ"))
    assert (plan.tasks, plan.tiles, plan.far_tiles) == ((), (), ())


# Requests


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        ({"indices": "NDVJ"}, UnknownNameError, ["index 'NDVJ'", "NDVI", "BIBG", "Did you mean NDVI"]),
        ({"indices": ["NDVI", "X"]}, UnknownNameError, ["'X'", "NBR"]),
        ({"indices": [3]}, UnknownNameError, ["'3'", "NBR"]),
        ({"indices": []}, RequestError, ["No index", "NDVI"]),
        ({"indices": "X=(B08-B99)/B08"}, FormulaError, ["X", "B99", "B8A"]),
        ({"indices": "X=B01"}, FormulaError, ["X", "B01", "B02"]),
        ({"indices": "X=__import__('os')"}, FormulaError, ["X", "__import__", "sqrt"]),
        ({"indices": "X=B08+"}, FormulaError, ["X", "B08+"]),
        ({"indices": "X=1"}, FormulaError, ["X", "no band"]),
        ({"indices": "NDVI=B08"}, RequestError, ["NDVI", "another name"]),
        ({"indices": "A_B=B08"}, RequestError, ["A_B", "letters and digits"]),
        ({"masks": "CM005"}, UnknownNameError, ["cloud mask 'CM005'", "CM003-PRB1-ITER5", "SCL-3-8-9-10-11-ITER1"]),
        ({"masks": ["CM004", "CM004-CSH2-CMP1-CHP1-TCI1-ITER1"]}, UnknownNameError, ["CSH2"]),
        ({"masks": "SCL-12-ITER1"}, RequestError, ["12", "0 to 11"]),
        ({"masks": []}, RequestError, ["No cloud mask"]),
        ({"masks": None, "keywords": keywords(cm_version="CM9")}, UnknownNameError, ["'CM9'", "CM004"]),
        ({"masks": "CM004", "keywords": keywords(iterations=-1)}, RequestError, ["iterations", "-1", "0 to 1000"]),
        ({"masks": "CM003", "keywords": keywords(iterations=1.5)}, RequestError, ["iterations", "1.5"]),
        ({"masks": "CM003", "keywords": keywords(probability=101)}, RequestError, ["probability", "101", "0 to 100"]),
        ({"date_min": "2022-06-31"}, RequestError, ["date_min", "2022-06-31", "YYYY-MM-DD"]),
        ({"date_max": "01/06/2022"}, RequestError, ["date_max", "01/06/2022", "YYYY-MM-DD"]),
        ({"date_min": 20220601}, RequestError, ["date_min", "20220601", "YYYY-MM-DD"]),
        ({"date_min": "2022-06-02", "date_max": "2022-06-01"}, RequestError, ["2022-06-02", "2022-06-01", "after"]),
        ({"cover_max": 101}, RequestError, ["cover_max", "101"]),
        ({"cover_min": -1}, RequestError, ["cover_min", "-1"]),
        ({"cover_min": 60, "cover_max": 50}, RequestError, ["60", "50"]),
        ({"stats": "meen"}, UnknownNameError, ["statistic 'meen'", "variance", "histogram"]),
        ({"stats": ["percentile_101"]}, RequestError, ["percentile_101", "percentile_100"]),
        ({"stats": "histogram:1:0:5"}, RequestError, ["histogram:1:0:5", "histogram:-1:1:20"]),
        ({"pixels": "touch"}, UnknownNameError, ["pixel rule 'touch'", "center", "all_touched", "weighted"]),
        ({"units": "percent"}, UnknownNameError, ["unit 'percent'", "scaled", "index"]),
        ({"prefer": "jp2"}, UnknownNameError, ["preference 'jp2'", "stored", "masked"]),
        ({"min_valid": 80}, RequestError, ["min_valid", "80", "0 to 1"]),
        ({"min_valid": float("nan")}, RequestError, ["min_valid", "nan"]),
        ({"buffer": float("inf")}, RequestError, ["buffer", "inf", "metres"]),
        ({"buffer": float("nan")}, RequestError, ["buffer", "nan", "metres"]),
        ({"buffer": 1e20}, RequestError, ["buffer", "1e+20", "at most 100,000"]),
        ({"buffer": -100_001}, RequestError, ["buffer", "-100001", "at most 100,000"]),
        ({"buffer": 10**400}, RequestError, ["buffer", "at most 100,000"]),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_an_error_that_lists_what_is_allowed(
    changed: dict[str, Any], kind: type[Sen2ChainError], words: list[str]
) -> None:
    with pytest.raises(RequestError) as caught:
        request(**changed)
    assert type(caught.value) is kind
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changed",
    [{"min_valid": "0.5"}, {"buffer": "10"}, {"cover_max": "50"}, {"pixels": ["center"]}, {"units": None}],
)
def test_options_of_a_wrong_type_are_request_errors_too(changed: dict[str, Any]) -> None:
    (name,) = changed
    with pytest.raises(RequestError, match=name if name not in {"pixels", "units"} else "allowed"):
        request(**changed)


@pytest.mark.parametrize(
    ("bands", "stored", "mask", "would"),
    [
        (("CLDPRB", "B11"), (), CM004.name, "CM001, CM002, CM003, none"),
        (("SCL",), (), "CM001", "CM004, none"),
        (
            ("SCL",), ("CM003-PRB1-ITER0", "CM003-PRB1-ITER1", "OCM_v1_8", "odd"), "CM003",
            "CM004, OCM, CM003-PRB1-ITER1, none",
        ),
        ((), (), "OCM", "none"),
    ],
)  # fmt: skip
def test_a_mask_that_lacks_its_input_names_those_that_would_work(
    bands: tuple[str, ...], stored: tuple[str, ...], mask: str, would: str
) -> None:
    rasters = {name: f"{name}.jp2" for name in ("B04", "B08", *bands)}
    acquisition = Acquisition(product(), OFFSETS, rasters, dict.fromkeys(stored, "m.tif"))
    output = resolve_sources(acquisition, NDVI, Mask.parse(mask))
    assert output.reason is Reason.MASK_INPUTS_MISSING
    assert output.detail.endswith(f" Masks that would work: {would}.")
    for name in would.split(", "):
        assert resolve_sources(acquisition, NDVI, Mask.parse(name)).reason is None


def test_good_requests_are_understood() -> None:
    every = request(indices=None, masks=None)
    assert [i.name for i in every.indices] == list(INDICES)
    assert [m.name for m in every.masks] == ["CM001"]
    assert request(indices="all").indices == every.indices
    own = request(indices=["ndvi", "SAVI=1.5*(B08-B04)/(B08+B04+0.5)", "NDVI"])
    assert [i.name for i in own.indices] == ["NDVI", "SAVI"]
    assert [m.name for m in request(masks=["none", "cm004", "NONE"]).masks] == ["none", CM004.name.replace("R1", "R5")]
    with pytest.raises(UnknownNameError):
        request(masks=[None])
    several = request(
        masks=["CM004", "SCL-3-ITER0", "CM003", CM004, "OCM"], keywords=keywords(iterations=1, thin_cir=False)
    )
    assert [m.name for m in several.masks] == [
        "CM004-CSH1-CMP1-CHP1-TCI0-ITER1", "SCL-3-ITER0", "CM003-PRB1-ITER1", CM004.name, "OCM",
    ]  # fmt: skip
    day = request(date_min=dt.datetime(2022, 6, 1, 23, tzinfo=dt.UTC), date_max="2022-06-01")
    assert (day.first, day.last) == (dt.date(2022, 6, 1), dt.date(2022, 6, 1))


@pytest.mark.parametrize(
    ("crs", "box", "swaps"),
    [
        ("EPSG:4326", (11.0, 46.5, 11.1, 46.6), ""),
        ("EPSG:4326", (46.5, 11.0, 46.6, 11.1), "With longitude and latitude swapped it would lie in tile 32TPS"),
        ("EPSG:32632", (5150000, 650000, 5150100, 650100), "With x and y swapped it would lie in tile 32TPS"),
        ("EPSG:4326", (-60.0, 4.0, -59.0, 5.0), "Check its CRS"),
    ],
)
def test_a_layer_with_swapped_axes_is_told_so(crs: str, box: tuple[float, ...], swaps: str) -> None:
    layer = Layer.of(np.array([shapely.box(*box)]), crs)
    said = why_outside(layer, ["32TPS"])
    assert swaps in said
    if not swaps.startswith("Check"):
        return
    assert "longitude -60.000 to -59.000 and latitude 4.000 to 5.000" in said
    assert "tile 32TPS longitude 10." in said


@pytest.mark.parametrize("number", [np.float32(5), np.int64(5), Fraction(5)])
def test_a_number_of_any_library_is_one_of_python(number: Any) -> None:
    assert json.dumps(request(buffer=number, cover_max=number).buffer) in {"5", "5.0"}


def test_a_layer_outside_of_a_catalogue_is_not_told_of_an_archive() -> None:
    far = Layer.of(np.array([shapely.box(-60, -3, -59.9, -2.9)], dtype=object), "EPSG:4326")
    assert "every tile of the archive (31TGJ)" in why_outside(far, ["31TGJ"])
    said = why_outside(far, ["31TGJ"], kind="catalogue")
    assert "every tile of the catalogue (31TGJ)" in said
    assert said.endswith("Check its CRS.")
