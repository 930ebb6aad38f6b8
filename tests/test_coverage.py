from __future__ import annotations

import dataclasses
import importlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyproj
import pytest
import shapely
from affine import Affine
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize as gdal_rasterize

from sen2chain import cache
from sen2chain.coverage import (
    PLANNED,
    REASONS,
    Coverage,
    PixelPlan,
    compute_coverage,
    coverage_key,
    load,
    near,
    rasterize,
    save,
)
from sen2chain.errors import UnknownNameError
from sen2chain.extract import Coverages
from sen2chain.grid import Grid, nominal_grid
from sen2chain.reasons import Reason
from sen2chain.vectors import Layer

if TYPE_CHECKING:
    from pathlib import Path

    Array = np.ndarray[Any, Any]

LAYER_COVERAGE = importlib.import_module("sen2chain.coverage.layer_coverage")

# ------------------------------------------------------------------------------------------------- random ground


def grid(left: float = 600000, top: float = 5200020, pixel: float = 10, rows: int = 20, columns: int = 20) -> Grid:
    return Grid("EPSG:32632", (pixel, 0.0, left, 0.0, -pixel, top), (rows, columns))


def affine(g: Grid) -> Affine:
    return Affine(*g.transform)


def objects(*shapes: Any) -> Array:
    out = np.empty(len(shapes), dtype=object)
    out[:] = shapes
    return out


def place(g: Grid, shape: Any) -> Any:
    """From pixels (columns, rows from the upper left corner) to the grid's CRS; halves stay exact."""
    a, _, left, _, e, top = g.transform
    return shapely.transform(shape, lambda p: np.stack([left + p[:, 0] * a, top + p[:, 1] * e], axis=1))


def star(rng: np.random.Generator, centre: Array, radius: float) -> Any:
    n = int(rng.integers(3, 12))
    angle = np.sort(rng.uniform(0, 2 * np.pi, n))
    r = radius * rng.uniform(0.3, 1.0, n)
    raw = shapely.Polygon(np.stack([centre[0] + r * np.cos(angle), centre[1] + r * np.sin(angle)], axis=1))
    return shapely.make_valid(raw, method="structure", keep_collapsed=False)


def boxes(rng: np.random.Generator, rows: int, columns: int, n: int) -> Any:
    """Boxes on halves of pixels: edges on centres, on borders, common edges, common corners."""
    x = np.sort(rng.integers(-4, 2 * columns + 4, (n, 2)) / 2, axis=1)
    y = np.sort(rng.integers(-4, 2 * rows + 4, (n, 2)) / 2, axis=1)
    return shapely.union_all(shapely.box(x[:, 0], y[:, 0], x[:, 1] + 0.5, y[:, 1] + 0.5))


def draw(kind: str, g: Grid, rng: np.random.Generator) -> Any:
    rows, columns = g.shape
    centre = rng.uniform(-0.2, 1.2, 2) * (columns, rows)
    size = max(rows, columns, 4)
    shape: Any
    match kind:
        case "plain":
            shape = star(rng, centre, rng.uniform(0.5, size))
        case "hole":
            shell = star(rng, centre, rng.uniform(2, size))
            shape = shapely.difference(shell, star(rng, centre, rng.uniform(0.5, size / 2)))
        case "multipart":
            parts = [
                star(rng, rng.uniform(-0.2, 1.2, 2) * (columns, rows), rng.uniform(0.5, size / 2)) for _ in range(4)
            ]
            shape = shapely.union_all(parts)
        case "halves":
            shape = shapely.difference(boxes(rng, rows, columns, 3), boxes(rng, rows, columns, 2))
        case "snapped":
            raw = star(rng, centre, rng.uniform(1, size))
            shape = shapely.transform(raw, lambda p: np.round(p * 2) / 2)
        case "tiny":
            shape = star(rng, centre, 10 ** rng.uniform(-2.5, 0))
        case "huge":
            shape = star(rng, centre, 10 ** rng.uniform(2, 3))
        case _:  # sliver
            ends = np.stack([centre, rng.uniform(-0.2, 1.2, 2) * (columns, rows)])
            shape = shapely.buffer(shapely.LineString(ends), 10 ** rng.uniform(-3, -0.5), cap_style="flat")
    shape = shapely.make_valid(shape, method="structure", keep_collapsed=False)
    return shapely.normalize(shape) if rng.random() < 0.5 else shape


KINDS = ["plain", "hole", "multipart", "halves", "snapped", "tiny", "huge", "sliver"]
SEEDS = st.integers(0, 2**32 - 1)
GRIDS = st.builds(
    grid,
    st.sampled_from([600000.0, 499980.0, 0.0, -370.0]),
    st.sampled_from([5200020.0, 7700020.0, 0.0, 40.0]),
    st.sampled_from([10.0, 20.0, 60.0, 8.0, 0.5]),
    st.integers(1, 30),
    st.integers(1, 30),
)
EXACT_GRIDS = GRIDS.filter(lambda g: g.pixel_xy[0] in {8.0, 0.5})


def image(plan: PixelPlan, feature: int = 0) -> Array:
    """Weights of a feature on the raster; fails if a pixel comes twice."""
    rows, columns, weights = plan.pixels(feature)
    out = np.zeros(plan.grid.shape)
    np.add.at(out, (rows, columns), weights)
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == len(rows)
    return out


def gdal(shape: Any, g: Grid, *, all_touched: bool = False) -> Array:
    burnt: Array = gdal_rasterize([shape], g.shape, transform=affine(g), all_touched=all_touched, dtype="uint8")
    return burnt.astype(bool)


def around(g: Grid, shape: Any) -> Grid:
    """Return the grid continued as far as a shape reaches, and one pixel more."""
    left, bottom, right, top = shapely.bounds(shape)
    box, pixel = g.bounds, g.pixel_xy[0]
    n = [
        max(0, int(np.ceil(d / pixel))) + 1
        for d in (box.left - left, top - box.top, right - box.right, box.bottom - bottom)
    ]
    return grid(
        box.left - n[0] * pixel, box.top + n[1] * pixel, pixel, g.shape[0] + n[1] + n[3], g.shape[1] + n[0] + n[2]
    )


# ----------------------------------------------------------------------------------------------------- rasterize


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(KINDS), GRIDS, SEEDS)
def test_center_is_gdals_rasterisation(kind: str, g: Grid, seed: int) -> None:
    shape = place(g, draw(kind, g, np.random.default_rng(seed)))
    plan = rasterize(objects(shape), g)
    if not shapely.is_empty(shape):
        np.testing.assert_array_equal(image(plan), gdal(shape, g))
    else:
        assert plan.row.size == plan.total[0] == 0


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([k for k in KINDS if k != "huge"]), EXACT_GRIDS, SEEDS)
def test_total_of_center_counts_on_the_unbounded_grid(kind: str, g: Grid, seed: int) -> None:
    shape = place(g, draw(kind, g, np.random.default_rng(seed)))
    total = rasterize(objects(shape), g).total
    if shapely.is_empty(shape):
        assert total.tolist() == [0]
        return
    wide = around(g, shape)
    assert total.tolist() == [gdal(shape, wide).sum()]
    assert total == image(rasterize(objects(shape), wide)).sum()


def test_an_edge_on_a_line_of_centres_is_gdals_whichever_way_the_ring_runs() -> None:
    g = grid(pixel=8, rows=5, columns=5)
    square = place(g, shapely.box(1.5, 1.5, 3.5, 3.5))
    ring = shapely.Polygon(place(g, shapely.box(0, 0, 5, 5)).exterior, [square.exterior])
    for shape in (square, ring):
        for clockwise in (True, False):
            turned = shapely.orient_polygons(shape, exterior_cw=clockwise)
            np.testing.assert_array_equal(image(rasterize(objects(turned), g)), gdal(turned, g))
    assert cells(rasterize(objects(square), g)) == {(r, c) for r in (1, 2, 3) for c in (2, 3)}


@settings(max_examples=60, deadline=None)
@given(GRIDS, SEEDS)
def test_total_of_huge_polygons(g: Grid, seed: int) -> None:
    shape = place(g, draw("huge", g, np.random.default_rng(seed)))
    pixel = g.pixel_xy[0]
    area, border = shape.area / pixel**2, shape.length / pixel
    for rule in ("center", "all_touched"):
        total = rasterize(objects(shape), g, rule).total[0]
        assert abs(total - area) <= 1.5 * border + 4
    assert rasterize(objects(shape), g, "weighted").total[0] == pytest.approx(area, rel=1e-6)


@settings(max_examples=80, deadline=None)
@given(GRIDS, SEEDS, st.booleans())
def test_neighbours_share_no_centre_and_leave_none_out(g: Grid, seed: int, snapped: bool) -> None:  # noqa: FBT001  # drawn
    rng = np.random.default_rng(seed)
    rows, columns = g.shape
    corners = np.array([[-2, -2], [columns + 2, -2], [columns + 2, rows + 2], [-2, rows + 2]], dtype=np.float64)
    points = rng.uniform(-1, 1, (30, 2)) * (columns, rows) % (columns, rows)
    # Not on halves of rows: GDAL gives a horizontal edge on a line of centres to both of its sides.
    points = np.round(points * (2, 1)) / (2, 1) if snapped else points
    mesh = shapely.delaunay_triangles(shapely.MultiPoint(np.concatenate([corners, points])))
    plan = rasterize(place(g, shapely.get_parts(mesh)), g)
    times = np.zeros(g.shape, dtype=int)
    for k in range(plan.row.size):
        times[plan.row[k], plan.column[k] : plan.column[k] + plan.length[k]] += 1
    assert (times == 1).all()
    if g.pixel_xy[0] in {8.0, 0.5}:
        assert plan.total.sum() == (rows + 4) * (columns + 4)


def pixel_boxes(g: Grid, inset: float) -> Array:
    rows, columns = np.indices(g.shape)
    a, _, left, _, e, top = g.transform
    return np.asarray(
        shapely.box(
            left + (columns + inset) * a,
            top + (rows + 1 - inset) * e,
            left + (columns + 1 - inset) * a,
            top + (rows + inset) * e,
        )
    )


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(KINDS), GRIDS, SEEDS)
def test_all_touched_is_gdals_but_for_accidents_at_borders(kind: str, g: Grid, seed: int) -> None:
    shape = place(g, draw(kind, g, np.random.default_rng(seed)))
    plan = rasterize(objects(shape), g, "all_touched")
    if shapely.is_empty(shape):
        assert plan.row.size == 0
        return
    ours, theirs = image(plan) > 0, gdal(shape, g, all_touched=True)
    assert set(np.unique(image(plan))) <= {0.0, 1.0}
    differ = ours != theirs
    pixel = g.pixel_xy[0]
    inner = shapely.area(shapely.intersection(pixel_boxes(g, 1e-3)[differ], shape))
    corners = shapely.extract_unique_points(pixel_boxes(g, 0)[differ])
    at_corner = shapely.distance(corners, shapely.boundary(shape)) < 1e-3 * pixel
    assert ((inner == 0) | at_corner).all()
    # What some area lies in is touched, and nothing else.
    share = shapely.area(shapely.intersection(pixel_boxes(g, 0), shape)) / pixel**2
    assert ours[share > 1e-6].all()
    assert not ours[share < 1e-10].any()


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(KINDS), GRIDS, SEEDS)
def test_weights_are_areas(kind: str, g: Grid, seed: int) -> None:
    shape = place(g, draw(kind, g, np.random.default_rng(seed)))
    plan = rasterize(objects(shape), g, "weighted")
    pixel = g.pixel_xy[0]
    expected = shapely.area(shapely.intersection(pixel_boxes(g, 0), shape)) / pixel**2
    found = image(plan)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert (found[expected > 1.1e-8] > 0).all()
    assert (found[expected < 0.9e-8] == 0).all()
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(plan.total, [shapely.area(shape) / pixel**2], rtol=1e-6, atol=1e-7)
    if not shapely.is_empty(shape) and kind != "huge":
        whole = rasterize(objects(shape), around(g, shape), "weighted")
        np.testing.assert_allclose(image(whole).sum(), plan.total[0], rtol=1e-6, atol=1e-9)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([k for k in KINDS if k != "huge"]), GRIDS, SEEDS)
def test_weights_are_exactextracts_cell_by_cell(kind: str, g: Grid, seed: int) -> None:
    shape = place(g, draw(kind, g, np.random.default_rng(seed)))
    if shapely.is_empty(shape):
        return
    g = around(g, shape)  # exactextract may crash on parts beyond the raster
    box = g.bounds
    source = NumPyRasterSource(
        np.zeros(g.shape), box.left, box.bottom, box.right, box.top, srs_wkt=pyproj.CRS(g.crs).to_wkt()
    )
    layer = gpd.GeoDataFrame(geometry=[shape], crs=g.crs)
    (found,) = exact_extract(source, layer, ["cell_id", "coverage"])
    properties = found["properties"]
    theirs = np.zeros(g.shape[0] * g.shape[1])
    theirs[np.asarray(properties["cell_id"], dtype=int)] = properties["coverage"]
    ours = image(rasterize(objects(shape), g, "weighted")).ravel()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    noise = 1e-7 if kind == "hole" else 1e-9  # they take a hole's float32 share from the shell's
    assert (ours[theirs > 1e-8 + noise] > 0).all()
    assert (theirs[ours > 1e-8 + noise] > 0).all()
    assert (ours[theirs < 1e-8 - noise] < 1e-8 + noise).all()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["center", "all_touched", "weighted"]), GRIDS, SEEDS)
def test_features_do_not_depend_on_each_other_and_runs_are_ordered(rule: Any, g: Grid, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = [place(g, draw(str(rng.choice(KINDS)), g, rng)) for _ in range(6)]
    shapes.insert(3, place(g, shapely.Point(0.3, 0.3)))
    plan = rasterize(objects(*shapes), g, rule)
    place_of_run = list(zip(plan.feature.tolist(), plan.row.tolist(), plan.column.tolist(), strict=True))
    assert place_of_run == sorted(set(place_of_run))
    assert ((plan.length > 0) & (plan.column >= 0) & (plan.column + plan.length <= g.shape[1])).all()
    assert ((plan.row >= 0) & (plan.row < g.shape[0])).all()
    if rule == "weighted":
        assert plan.head is not None
        assert plan.tail is not None
        assert plan.weights is not None
        assert (plan.head + plan.tail <= plan.length).all()
        assert (plan.head + plan.tail).sum() == plan.weights.size
        assert (plan.weights > 0).all()
    else:
        assert plan.head is None
        assert plan.tail is None
        assert plan.weights is None
    for i, shape in enumerate(shapes):
        alone = rasterize(objects(shape), g, rule)
        np.testing.assert_array_equal(image(plan, i), image(alone))
        assert plan.total[i] == alone.total[0]


def cells(plan: PixelPlan, feature: int = 0) -> set[tuple[int, int]]:
    rows, columns, _ = plan.pixels(feature)
    return set(zip(rows.tolist(), columns.tolist(), strict=True))


def test_a_square_by_hand() -> None:
    g = grid(rows=4, columns=5)
    square = place(g, shapely.box(0.75, 0.5, 3.25, 2.25))
    center = rasterize(objects(square), g)
    assert cells(center) == {(0, 1), (1, 1), (0, 2), (1, 2)} | ({(2, 1), (2, 2)} & cells(center))
    np.testing.assert_array_equal(image(center), gdal(square, g))
    touched = rasterize(objects(square), g, "all_touched")
    assert cells(touched) == {(r, c) for r in range(3) for c in range(4)}
    assert touched.total.tolist() == [12]
    weighted = rasterize(objects(square), g, "weighted")
    expected = np.zeros((4, 5))
    expected[:3, :4] = np.outer([0.5, 1, 0.25], [0.25, 1, 1, 0.25])
    np.testing.assert_allclose(image(weighted), expected, atol=1e-7)
    assert weighted.total[0] == pytest.approx(2.5 * 1.75)


@pytest.mark.parametrize("rule", ["center", "all_touched", "weighted"])
def test_points_lines_and_collections(rule: Any) -> None:
    g = grid(rows=6, columns=6)
    square = shapely.box(1, 1, 3, 3)
    shapes = [
        shapely.Point(2.5, 1.5),
        shapely.Point(2, 3),  # on a corner: the pixel east and south of it
        shapely.Point(-1, 2),
        shapely.MultiPoint([(0.5, 0.5), (0.6, 0.6), (4.5, 5.5), (9, 9)]),
        shapely.LineString([(0.5, 0.5), (3.5, 0.5)]),
        shapely.LineString([(4.5, 1.2), (4.5, 40.5)]),
        shapely.GeometryCollection([shapely.Point(0.5, 0.5), shapely.LineString([(5.5, 4.5), (5.5, 5.5)])]),
        shapely.GeometryCollection([shapely.Point(5.5, 5.5), shapely.GeometryCollection([square])]),
        shapely.GeometryCollection(),
    ]
    plan = rasterize(objects(*(place(g, s) for s in shapes)), g, rule)
    assert [cells(plan, i) for i in range(len(shapes))] == [
        {(1, 2)},
        {(3, 2)},
        set(),
        {(0, 0), (5, 4)},
        {(0, 0), (0, 1), (0, 2), (0, 3)},
        {(r, 4) for r in range(1, 6)},
        {(0, 0), (4, 5), (5, 5)},
        {(1, 1), (1, 2), (2, 1), (2, 2)},
        set(),
    ]
    assert plan.total.tolist() == [1, 1, 1, 3, 4, 40, 3, 4, 0]
    assert all((plan.pixels(i)[2] == 1).all() for i in range(len(shapes)))


@settings(max_examples=100, deadline=None)
@given(GRIDS, SEEDS)
def test_lines_take_what_gdal_touches(g: Grid, seed: int) -> None:
    rng = np.random.default_rng(seed)
    line = shapely.LineString(rng.uniform(-0.3, 1.3, (int(rng.integers(2, 7)), 2)) * g.shape[::-1])
    placed = place(g, line)
    plan = rasterize(objects(placed), g, "weighted")
    np.testing.assert_array_equal(image(plan) > 0, gdal(placed, g, all_touched=True))
    assert plan.total[0] == gdal(placed, around(g, placed), all_touched=True).sum()


def test_nothing_to_rasterise() -> None:
    for rule in ("center", "all_touched", "weighted"):
        plan = rasterize(objects(), grid(), rule)
        assert plan.total.shape == plan.row.shape == (0,)
    with pytest.raises(UnknownNameError, match="Unknown pixel rule 'centre'; allowed: center, all_touched, weighted"):
        rasterize(objects(), grid(), "centre")  # type: ignore[arg-type]  # what a user may ask for


# ------------------------------------------------------------------------------------------------ compute_coverage

TILE = "32TPS"
CLIP = grid(640000, 5150000, 10, 40, 60)  # inside of the tile


def box(x: float, y: float, width: float = 25, height: float = 25) -> Any:
    """Box by its offset in metres from the clip's upper left corner, downwards."""
    return shapely.box(640000 + x, 5150000 - y - height, 640000 + x + width, 5150000 - y)


LAYER: list[tuple[Any, Reason | None]] = [
    (box(100, 100), None),
    (None, Reason.NULL_GEOMETRY),
    (shapely.Polygon(), Reason.EMPTY_GEOMETRY),
    (box(-500, 100), Reason.OUTSIDE_RASTER),
    (box(-60000, 100), Reason.OUTSIDE_TILE),
    (box(-2000000, 100), Reason.OUTSIDE_TILE),
    (box(590, 390), None),  # across the corner
    (box(101, 101, 3, 3), Reason.NO_PIXEL),
    (box(-12, 100, 12, 12), Reason.OUTSIDE_RASTER),  # shares the raster's edge
    (shapely.Point(640105, 5149895), None),
    (shapely.LineString([(640105, 5149895), (640155, 5149895)]), None),
    (shapely.GeometryCollection(), Reason.EMPTY_GEOMETRY),
    (box(-3000, -3000, 9000, 9000), None),  # covers the raster
    (shapely.union(box(-30, -30, 10, 500), box(-30, -30, 800, 10)), Reason.OUTSIDE_RASTER),  # an L around the corner
]
SHAPES = objects(*(shape for shape, _ in LAYER))
EXPECTED = [reason for _, reason in LAYER]


def states(coverage: Coverage, shapes: Array = SHAPES) -> list[Reason | None]:
    """Reason of every feature of a layer, None where it has pixels; those that are only counted must be so many."""
    found = [None if code == PLANNED else REASONS[code] for code in coverage.state]
    near = dict(zip(coverage.fid.tolist(), found, strict=True))
    nowhere = [
        Reason.NULL_GEOMETRY if shape is None else Reason.EMPTY_GEOMETRY if shape.is_empty else Reason.OUTSIDE_TILE
        for shape in shapes
    ]
    assert coverage.elsewhere == Counter(reason for i, reason in enumerate(nowhere) if i not in near)
    return [near.get(i, reason) for i, reason in enumerate(nowhere)]


def sizes(coverage: Coverage, shapes: Array = SHAPES) -> Array:
    """Pixels of every feature of a layer on the unbounded grid, 0 for those that do not meet the tile."""
    found = np.zeros(len(shapes))
    found[coverage.fid] = coverage.plan.total
    return found


def test_every_feature_has_pixels_or_its_reason() -> None:
    coverage = compute_coverage(SHAPES, CLIP.crs, CLIP, tile=TILE)
    assert states(coverage) == EXPECTED
    assert coverage.reasons() == {r: EXPECTED.count(r) for r in set(EXPECTED) if r is not None}
    assert coverage.fid.tolist() == sorted(coverage.fid.tolist())
    planned = [i for i, reason in enumerate(EXPECTED) if reason is None]
    assert coverage.fid[np.unique(coverage.plan.feature)].tolist() == planned
    for i in planned:
        (position,) = np.flatnonzero(coverage.fid == i)
        alone = rasterize(objects(SHAPES[i]), CLIP)
        np.testing.assert_array_equal(image(coverage.plan, int(position)), image(alone))
        assert sizes(coverage)[i] == alone.total[0]
    assert sizes(coverage)[[1, 2, 4, 5, 7, 11]].tolist() == [0] * 6
    assert sizes(coverage)[3] == rasterize(objects(SHAPES[3]), CLIP).total[0] > 0


@given(
    st.lists(st.sampled_from(range(len(LAYER))), max_size=12),
    st.sampled_from([None, -10.0, 30.0]),
    st.sampled_from(["center", "weighted"]),
)
@settings(max_examples=30, deadline=None)
def test_reasons_are_those_of_every_feature_alone(chosen: list[int], buffer: float | None, rule: Any) -> None:
    shapes = objects(*(SHAPES[i] for i in chosen))
    options: dict[str, Any] = {"tile": TILE, "rule": rule, "buffer": buffer}
    coverage = compute_coverage(shapes, CLIP.crs, CLIP, **options)
    alone: Counter[Reason] = Counter()
    for i in range(len(shapes)):
        alone.update(compute_coverage(shapes[i : i + 1], CLIP.crs, CLIP, **options).reasons())
    assert coverage.reasons() == alone
    assert list(coverage.reasons()) == [reason for reason in REASONS if reason in alone]
    assert len(np.unique(coverage.plan.feature)) + sum(alone.values()) == len(shapes)
    assert coverage.reasons(np.full(len(coverage.fid), PLANNED, np.int8)) == coverage.elsewhere


def test_nothing_is_as_long_as_the_layer(tmp_path: Path) -> None:
    nowhere = np.array([box(-60000, 100), None, shapely.Polygon()] * 20_000, dtype=object)
    sizes_of = []
    layers: list[Array] = [SHAPES, np.concatenate([nowhere, SHAPES])]
    for shapes in layers:
        coverage = compute_coverage(shapes, CLIP.crs, CLIP, tile=TILE)
        save(coverage, str(len(shapes)), tmp_path)
        lengths = {name: None if array is None else len(array) for name, array in arrays(coverage).items()}
        assert len(coverage.state) == len(coverage.fid) == len(coverage.plan.total) < len(SHAPES)
        sizes_of.append((lengths, coverage.nbytes, (tmp_path / f"{len(shapes)}.arrow").stat().st_size))
        assert sum(coverage.elsewhere.values()) + len(coverage.fid) == len(shapes)
    assert sizes_of[0] == sizes_of[1]


@pytest.mark.parametrize("rule", ["all_touched", "weighted"])
def test_other_rules_miss_no_small_feature(rule: Any) -> None:
    found = states(compute_coverage(SHAPES, CLIP.crs, CLIP, tile=TILE, rule=rule))
    assert found == [None if reason is Reason.NO_PIXEL else reason for reason in EXPECTED]


def test_without_a_tile_what_is_outside_the_raster_is_outside_the_tile() -> None:
    for tile in ("", "nonsense", "33TUM"):  # 33TUM lies in another zone
        assert states(compute_coverage(SHAPES[3:4], CLIP.crs, CLIP, tile=tile), SHAPES[3:4]) == [Reason.OUTSIDE_TILE]


def test_buffer() -> None:
    shapes = objects(box(100, 100), box(100, 100, 15, 90), SHAPES[9], SHAPES[10], None, box(-105, 100, 100, 100))
    same = compute_coverage(shapes, CLIP.crs, CLIP, tile=TILE, buffer=0.0)
    shrunk = compute_coverage(shapes, CLIP.crs, CLIP, tile=TILE, buffer=-10)
    gone, null, outside = Reason.BUFFERED_AWAY, Reason.NULL_GEOMETRY, Reason.OUTSIDE_RASTER
    assert states(same, shapes) == [None, None, None, None, null, outside]
    assert states(shrunk, shapes) == [Reason.NO_PIXEL, gone, gone, gone, null, outside] or sizes(shrunk, shapes)[0] == 1
    assert [states(shrunk, shapes)[i] for i in (1, 2, 3, 4, 5)] == [gone, gone, gone, null, outside]
    wide = compute_coverage(shapes, CLIP.crs, CLIP, tile=TILE, buffer=30)
    assert states(wide, shapes) == [None, None, None, None, null, None]
    np.testing.assert_array_equal(image(wide.plan, 2), gdal(shapely.buffer(SHAPES[9], 30), CLIP))
    assert sizes(wide, shapes)[2] == pytest.approx(np.pi * 9, abs=4)


def reproject(shapes: Array, source: str, target: str) -> Array:
    return np.asarray(gpd.GeoSeries(shapes, crs=source).to_crs(target), dtype=object)


@pytest.mark.parametrize("rule", ["center", "all_touched", "weighted"])
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3035", "EPSG:32633", "EPSG:3857"])
def test_a_layer_in_several_crs_has_the_same_pixels(crs: str, rule: Any) -> None:
    rng = np.random.default_rng(3)
    own = objects(*(place(CLIP, star(rng, rng.uniform(0, 1, 2) * (60, 40), 12)) for _ in range(20)))
    shapes = np.concatenate([SHAPES, own])
    # Edges on pixel centres and on the raster's border are ties; long straight edges are other lines elsewhere.
    shapes[[0, 3, 6, 8, 12, 13]] = None
    here = compute_coverage(shapes, CLIP.crs, CLIP, tile=TILE, rule=rule)
    there = compute_coverage(reproject(shapes, CLIP.crs, crs), crs, CLIP, tile=TILE, rule=rule)
    assert states(here, shapes) == states(there, shapes)
    assert here.fid.tolist() == there.fid.tolist()
    for i in range(len(here.fid)):
        np.testing.assert_allclose(image(here.plan, i), image(there.plan, i), rtol=0, atol=1e-4)
    np.testing.assert_allclose(sizes(here, shapes), sizes(there, shapes), rtol=1e-4)


def test_the_input_is_left_alone() -> None:
    shapes = reproject(SHAPES, CLIP.crs, "EPSG:4326")
    before = shapely.to_wkb(shapes)
    compute_coverage(shapes, "EPSG:4326", CLIP, tile=TILE, buffer=5)
    assert shapely.to_wkb(shapes).tolist() == before.tolist()


@pytest.mark.parametrize("tile", ["01KAB", "60KZG"])
def test_a_tile_across_the_antimeridian(tile: str) -> None:
    g = nominal_grid(tile)
    back = pyproj.Transformer.from_crs(g.crs, "EPSG:4326", always_xy=True)
    latitude = back.transform(g.bounds.left + 50000, g.bounds.bottom + 50000)[1]

    def at(west: float, east: float) -> Any:
        return shapely.box(west, latitude, east, latitude + 0.01)

    parts = shapely.MultiPolygon([at(179.99, 180), at(-180, -179.99)])
    shapes = objects(at(179.98, 179.99), at(-179.99, -179.98), parts, at(-170, -169.9), at(10, 10.1), at(178, 178.1))
    coverage = compute_coverage(shapes, "EPSG:4326", g, tile=tile)
    out = Reason.OUTSIDE_TILE
    assert states(coverage, shapes) == [None, None, None, out, out, out]
    cosine = np.cos(np.radians(latitude))
    for i, width in ((0, 0.01), (1, 0.01), (2, 0.02)):
        assert sizes(coverage, shapes)[i] == pytest.approx(width * 0.01 * 11132**2 * cosine, rel=0.02)
    assert near(shapely.bounds(shapes), "EPSG:4326", g).tolist() == [True, True, True, False, False, False]


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:6933", "EPSG:3832", "EPSG:3395", "ESRI:54009", "EPSG:8857", "own"])
@pytest.mark.parametrize("tile", ["01KAB", "60KZG", "01UBT", "60UXC", "01XDH", "60DWG"])
def test_world_projections_meet_tiles_at_180_degrees(tile: str, crs: str) -> None:
    full = nominal_grid(tile)
    crs = full.crs if crs == "own" else crs
    back = pyproj.Transformer.from_crs(full.crs, "EPSG:4326", always_xy=True)
    x = full.bounds.left + 60_000
    latitude = back.transform(x, full.bounds.bottom + 50_000)[1]
    there = pyproj.Transformer.from_crs("EPSG:4326", full.crs, always_xy=True)
    middle_x, middle_y = (round(v, -1) for v in there.transform(180.0, latitude))
    g = Grid(full.crs, (10.0, 0.0, middle_x - 1500, 0.0, -10.0, middle_y + 1500), (300, 300))

    def at(west: float, east: float) -> Any:
        return shapely.box(west, latitude, east, latitude + 0.002)

    parts = shapely.MultiPolygon([at(179.997, 180), at(-180, -179.997)])
    shapes = objects(at(179.996, 179.999), at(-179.999, -179.996), parts, at(-170, -169.9), at(10, 10.1))
    out = Reason.OUTSIDE_TILE
    for buffer in (None, 20.0):
        here = compute_coverage(shapes, "EPSG:4326", g, buffer=buffer)
        assert states(here, shapes) == [None, None, None, out, out]
        found = compute_coverage(reproject(shapes, "EPSG:4326", crs), crs, g, buffer=buffer)
        assert states(found, shapes) == states(here, shapes)
        np.testing.assert_allclose(sizes(found, shapes), sizes(here, shapes), rtol=0.02)
        assert near(shapely.bounds(reproject(shapes, "EPSG:4326", crs)), crs, g).tolist()[:3] == [True] * 3


def test_longitudes_beyond_180_are_understood() -> None:
    g = nominal_grid("01KAB")
    shapes = objects(shapely.box(179.99, -16.8, 180.01, -16.79), shapely.box(180.01, -16.8, 180.02, -16.79))
    assert states(compute_coverage(shapes, "EPSG:4326", g, tile="01KAB"), shapes) == [None, None]


@pytest.mark.parametrize(
    "bounds", [(-10, 35, 30, 60), (-80, -60, 98, 80), (-180, 0, 180, 90), (-180, -90, 180, 90)], ids=str
)
def test_a_feature_as_large_as_the_world_covers_the_raster(bounds: tuple[float, float, float, float]) -> None:
    shapes = objects(shapely.box(*bounds))
    coverage = compute_coverage(shapes, "EPSG:4326", CLIP, tile=TILE)
    assert states(coverage, shapes) == [None]
    assert image(coverage.plan).all()


FAR = (1e7, 1e9, 1e12)


@pytest.mark.parametrize("rule", ["center", "all_touched", "weighted"])
@pytest.mark.parametrize("far", FAR)
def test_features_are_cut_five_tile_widths_beyond_the_raster(far: float, rule: Any) -> None:
    x, y, reach = 640000.0, 5150000.0, 5 * 109800.0
    shapes = objects(
        shapely.box(-far, -far, far, far + 2 * y),
        shapely.Polygon([(x + 102, y - 102), (x + far, y - 102), (x + far, y - 202), (x + 102, y - 202)]),
        shapely.Polygon(shapely.box(-far, -far, far, far + 2 * y).exterior, [box(-50, -50, 900, 900).exterior]),
        box(100, 100),
        shapely.union(shapely.box(-far, y + 3e6, far, y + far), box(100, 100)),
        shapely.box(x + 600, -far, far, far),  # shares the raster's edge
    )
    found = compute_coverage(shapes, CLIP.crs, CLIP, tile=TILE, rule=rule)
    assert states(found, shapes) == [None, None, Reason.OUTSIDE_RASTER, None, None, Reason.OUTSIDE_RASTER]
    width, height = (600 + 2 * reach) / 10, (400 + 2 * reach) / 10
    strip = (600 + reach - 102) / 10 * 10
    alone = rasterize(shapes[3:4], CLIP, rule).total[0]
    expected = [width * height, strip, width * height - 90 * 90, alone, alone, reach / 10 * height]
    if rule == "all_touched":
        expected[1] = np.ceil((600 + reach - 102) / 10) * 11
    if rule == "center":
        expected[1] = np.round((600 + reach - 102) / 10) * 10
    np.testing.assert_allclose(sizes(found, shapes), expected, rtol=0, atol=0.1)
    assert image(found.plan, 0).all()
    assert found.plan.nbytes < 20_000
    ys, xs = np.indices(CLIP.shape) * 10 + 5
    np.testing.assert_array_equal(image(found.plan, 1)[(xs > 115) & (ys > 115) & (ys < 195)], 1)
    assert not image(found.plan, 1)[(xs < 95) | (ys < 95) | (ys > 215)].any()


@pytest.mark.parametrize("far", FAR)
def test_far_lines_and_points_are_cut_too(far: float) -> None:
    x, y, reach = 640000.0, 5150000.0, 5 * 109800.0
    shapes = objects(
        shapely.LineString([(x + 5, y - 5), (x + far, y - 5)]),
        shapely.LineString([(x + 5, y - 5), (x + 15, y - 5), (x + 15, y - far)]),
        shapely.MultiPoint([(x + 5, y - 5), (x + far, y), (x - far, y), (x + 1e5, y - 1e5)]),
        shapely.Point(x + far, y + far),
    )
    found = compute_coverage(shapes, CLIP.crs, CLIP, tile=TILE)
    assert states(found, shapes) == [None, None, None, Reason.OUTSIDE_TILE]
    expected = [(600 + reach) / 10, (400 + reach) / 10 + 1, 2, 0]
    np.testing.assert_allclose(sizes(found, shapes), expected, rtol=0, atol=2)
    assert [cells(found.plan, i) for i in (0, 2)] == [{(0, c) for c in range(60)}, {(0, 0)}]
    assert cells(found.plan, 1) == {(0, 0), *((r, 1) for r in range(40))}


@pytest.mark.parametrize("buffer", [100_000.0, -100_000.0, 30.0])
@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:3857"])
def test_a_buffer_neither_loses_nor_moves_the_cut(crs: str, buffer: float) -> None:
    reach = 5 * 109800.0
    shapes = objects(shapely.box(-1e9, -1e9, 1e9, 1e9), shapely.box(5e8, 5e8, 1e9, 1e9))
    found = compute_coverage(shapes, crs, CLIP, tile=TILE, buffer=buffer)
    assert states(found, shapes) == [None, Reason.OUTSIDE_TILE]
    assert image(found.plan, 0).all()
    exact = (600 + 2 * reach) * (400 + 2 * reach) / 100
    assert sizes(found, shapes)[0] == pytest.approx(exact, rel=1e-9 if crs == CLIP.crs else 0.1)


def test_a_long_line_is_burnt_where_it_is_as_in_one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = importlib.import_module("sen2chain.coverage.pixel_plan")
    g = grid(rows=300, columns=300)
    rng = np.random.default_rng(5)
    shapes = objects(
        *(place(g, shapely.LineString(rng.uniform(-60, 360, (4, 2)))) for _ in range(4)),
        place(g, shapely.LineString([(-20, 64), (320, 64)])),  # along the border of squares
        place(g, shapely.MultiPoint(rng.integers(-60, 360, (30, 2)))),
    )
    whole = rasterize(shapes, g)
    monkeypatch.setattr(pixels, "_WINDOW_PIXELS", 1000)
    monkeypatch.setattr(pixels, "_SQUARE", 32)
    squares = rasterize(shapes, g)
    assert [cells(squares, i) for i in range(len(shapes))] == [cells(whole, i) for i in range(len(shapes))]
    assert squares.total.tolist() == whole.total.tolist()
    order = list(zip(squares.feature.tolist(), squares.row.tolist(), squares.column.tolist(), strict=True))
    assert order == sorted(set(order))


def test_near_is_generous_and_leaves_out_nothing() -> None:
    found = near(shapely.bounds(SHAPES), CLIP.crs, CLIP)
    planned = [reason is None for reason in states(compute_coverage(SHAPES, CLIP.crs, CLIP, tile=TILE))]
    assert found[planned].all()
    assert not found[[1, 2, 4, 5, 11]].any()


# --------------------------------------------------------------------------------------------------------- saved


def arrays(coverage: Coverage) -> dict[str, Array | None]:
    plan = {f.name: getattr(coverage.plan, f.name) for f in dataclasses.fields(coverage.plan) if f.name != "grid"}
    return plan | {"fid": coverage.fid, "state": coverage.state}


def assert_same(one: Coverage, two: Coverage) -> None:
    assert one.plan.grid == two.plan.grid
    assert one.elsewhere == two.elsewhere
    for name, array in arrays(one).items():
        other = arrays(two)[name]
        if array is None or other is None:
            assert array is other is None
        else:
            assert array.dtype == other.dtype
            np.testing.assert_array_equal(array, other)


@pytest.mark.parametrize("rule", ["center", "weighted"])
def test_saved_and_loaded_is_the_same(tmp_path: Path, rule: Any) -> None:
    coverage = compute_coverage(SHAPES, CLIP.crs, CLIP, tile=TILE, rule=rule)
    folder = tmp_path / "cache" / "plans"
    assert load("key", CLIP, folder) is None
    save(coverage, "key", folder)
    found = load("key", CLIP, folder)
    assert found is not None
    assert_same(found, coverage)
    assert load("other", CLIP, folder) is None
    assert [p.name for p in folder.iterdir()] == ["key.arrow"]


def test_a_corrupt_saved_coverage_is_none_or_the_same(tmp_path: Path) -> None:
    coverage = compute_coverage(SHAPES[:10], CLIP.crs, CLIP, tile=TILE, rule="weighted")
    save(coverage, "key", tmp_path)
    file = tmp_path / "key.arrow"
    whole = file.read_bytes()
    file.write_bytes(whole[:-100] + bytes(100))
    assert load("key", CLIP, tmp_path) is None
    file.write_bytes(whole)
    found = load("key", CLIP, tmp_path)
    assert found is not None
    assert_same(found, coverage)


def test_a_file_of_a_former_form_is_none(tmp_path: Path) -> None:
    coverage = compute_coverage(SHAPES, CLIP.crs, CLIP, tile=TILE)
    save(coverage, "key", tmp_path)
    table = cache.load(tmp_path / "key.arrow")
    assert table is not None
    # Until format 4, state and size were those of every feature of the layer.
    per_feature: dict[str, Array] = {"state": np.zeros(len(SHAPES), np.int8), "touched": np.zeros(len(SHAPES))}
    former = table.drop_columns(["state", "elsewhere"])
    for name, values in per_feature.items():
        former = former.append_column(name, pa.LargeListArray.from_arrays([0, len(values)], pa.array(values)))
    cache.save(tmp_path / "key.arrow", former)
    assert load("key", CLIP, tmp_path) is None
    # Whatever its name, it is computed again and replaced.
    layer = Layer.of(SHAPES, CLIP.crs)
    key = coverage_key(layer.identity, CLIP, tile=TILE)
    cache.save(tmp_path / f"{key}.arrow", former)
    assert_same(Coverages(layer, folder=tmp_path).get(CLIP, TILE), coverage)
    replaced = load(key, CLIP, tmp_path)
    assert replaced is not None
    assert_same(replaced, coverage)


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    save(compute_coverage(SHAPES[:1], CLIP.crs, CLIP), "key", tmp_path / "file")
    assert load("key", CLIP, tmp_path / "file") is None


def test_the_key_holds_every_ingredient(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(identity: str = "i", g: Grid = CLIP, **changed: Any) -> str:
        return coverage_key(identity, g, **({"tile": TILE, "rule": "center", "buffer": None} | changed))

    a, b, left, d, e, top = CLIP.transform
    keys = [
        key(),
        key("j"),
        key(g=Grid("EPSG:32633", CLIP.transform, CLIP.shape)),
        key(g=Grid(CLIP.crs, (a, b, left + 2.0**-20, d, e, top), CLIP.shape)),
        key(g=Grid(CLIP.crs, CLIP.transform, (40, 61))),
        key(tile="32TQS"),
        key(rule="weighted"),
        key(rule="all_touched"),
        key(buffer=5.0),
        key(buffer=-5.0),
    ]
    assert key(buffer=0.0) == key() == keys[0]
    for name in ("shapely.geos_version_string", "shapely.__version__", "pyproj.proj_version_str"):
        with monkeypatch.context() as patch:
            patch.setattr(name, "another")
            keys.append(key())
    with monkeypatch.context() as patch:
        patch.setattr(LAYER_COVERAGE, "_shift_grids", lambda: ["de_adv_BETA2007.tif"])
        keys.append(key())
    with monkeypatch.context() as patch:
        patch.setattr(LAYER_COVERAGE, "REASONS", REASONS[:-1])
        keys.append(key())
    monkeypatch.setattr(LAYER_COVERAGE, "_FORMAT", 99)
    keys.append(key())
    assert len(set(keys)) == len(keys)
    assert all(json.dumps(k).isascii() and k.isalnum() for k in keys)


@pytest.mark.parametrize("buffer", [None, 30.0])
def test_geometries_projected_for_one_grid_serve_the_next_on_the_same_ground(buffer: float | None) -> None:
    shapes = shapely.transform(
        SHAPES, pyproj.Transformer.from_crs(CLIP.crs, "EPSG:4326", always_xy=True).transform, interleaved=False
    )
    fine, coarse = (CLIP, CLIP.refined(20.0))
    left: dict[object, Any] = {}
    for g, kept in ((fine, 1), (coarse, 0), (fine, 1)):
        options: dict[str, Any] = {"tile": TILE, "buffer": buffer}
        found = compute_coverage(shapes, "EPSG:4326", g, projected=left, **options)
        assert_same(found, compute_coverage(shapes, "EPSG:4326", g, **options))
        assert len(left) == kept


def test_only_an_edge_that_runs_east_west_through_centres_gives_a_row_to_both() -> None:
    grid = Grid("EPSG:32631", (10, 0, 300000, 0, -10, 4900020), (10, 10))

    def shared(*boxes: tuple[float, float, float, float]) -> int:
        shapes = [shapely.box(300000 + a, 4900020 - b, 300000 + c, 4900020 - d) for a, b, c, d in boxes]
        plan = compute_coverage(np.array(shapes, dtype=object), "EPSG:32631", grid).plan
        pixels = [
            (row, column + k)
            for row, column, n in zip(plan.row, plan.column, plan.length, strict=True)
            for k in range(n)
        ]
        return len(pixels) - len(set(pixels))

    assert shared((0, 0, 40, 35), (0, 35, 40, 80)) == 4  # the row of pixels that the edge runs through
    assert shared((0, 0, 35, 40), (35, 0, 80, 40)) == 0
    assert shared((0, 0, 40, 34), (0, 34, 40, 80)) == 0


def test_figures_that_the_page_on_statistics_names() -> None:
    circle = shapely.buffer(shapely.Point(0, 0), 1.0)
    assert 1 - circle.exterior.distance(shapely.Point(0, 0)) == pytest.approx(0.0048, abs=5e-5)
    raster = NumPyRasterSource(np.array([[0.0, 0], [0, 8000]]), xmin=0, ymin=0, xmax=2, ymax=2)
    feature = {"type": "Feature", "geometry": shapely.geometry.mapping(shapely.box(0, 0, 2, 2)), "properties": {}}
    assert exact_extract(raster, [feature], ["median"])[0]["properties"]["median"] == 4000
