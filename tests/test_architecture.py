"""The shape of the package: which module may use which, what is public, and that importing does nothing."""

from __future__ import annotations

import ast
import graphlib
import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import sen2chain

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(sen2chain.__file__).parent

MODULES_IN_ORDER = (
    "errors",
    "suggestions",
    "files",
    "settings",
    "atomic",
    "cache",
    "parallel",
    "remote",
    "notebook",
    "progress",
    "jit",
    "reasons",
    "sensor",
    "raster_tags",
    "raster_form",
    "products",
    "rows",
    "masks",
    "index_catalogue",
    "indices",
    "legends",
    "grid",
    "coverage",
    "pixel_store",
    "zonal",
    "vectors",
    "jpeg2000",
    "tiff",
    "rasters",
    "archive",
    "plan",
    "acquisition",
    "chips",
    "extract",
    "report",
    "select",
    "spool",
    "index_series",
    "export",
    "store",
    "kept_source",
    "periods",
    "smoothing",
    "provenance",
    "pictures",
    "page",
    "produce",
    "inspection",
    "library",
    "multiband",
    "pixel_table",
    "timeseries",
    "jobs",
    "demo",
    "cli",
)
"""A module or package imports only those above it in this list."""

PUBLIC = [
    "INDICES", "Index", "JobExtraction", "Library", "Mask", "Reason", "Sen2ChainError", "TimeSeries",
    "TimeSeriesCompil", "ZonalStatistics", "__version__", "zonal_statistics",
]  # fmt: skip

HEAVY = (
    "affine", "botocore", "geopandas", "numba", "numpy", "pandas", "pyarrow", "pyogrio", "pyproj", "pystac",
    "pystac_client", "rasterio", "requests", "rich", "scipy", "shapely", "urllib3", "xarray",
)  # fmt: skip
"""Libraries that cost time or memory when they are loaded."""

LIGHT = (
    "errors",
    "suggestions",
    "files",
    "reasons",
    "sensor",
    "raster_tags",
    "raster_form",
    "products",
    "rows",
    "settings",
    "atomic",
    "parallel",
    "remote",
    "report",
    "notebook",
    "progress",
    "cli",
)
"""Modules that load none of them."""

# The demo writes archives that can prove the other modules wrong, so it shares nothing with those that extract.
DEMO_USES = {"errors", "products"}


def modules() -> dict[str, Path]:
    """Dotted name -> file, of every module of the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("sen2chain", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, names: set[str]) -> Iterator[str]:
    """Modules of the package that a file imports anywhere, also in functions and for type checking only."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "sen2chain")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            if (node.module or "").partition(".")[0] == "sen2chain":
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield inner if inner in names else str(node.module)


def top_level(module: str) -> str:
    return module.split(".")[1]


MODULES = modules()


def test_every_module_is_in_the_list() -> None:
    assert {top_level(name) for name in MODULES if name != "sen2chain"} == set(MODULES_IN_ORDER)


def test_modules_import_only_those_above_them() -> None:
    wrong = [
        f"{name} imports {used}"
        for name, path in MODULES.items()
        if name != "sen2chain"
        for used in imports(path, set(MODULES))
        if used == "sen2chain" or MODULES_IN_ORDER.index(top_level(used)) > MODULES_IN_ORDER.index(top_level(name))
    ]
    assert not wrong


def test_modules_of_a_package_import_each_other_in_one_direction() -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    for name, path in MODULES.items():
        if name != "sen2chain":
            graph[name] |= {used for used in imports(path, set(MODULES)) if top_level(used) == top_level(name)}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


CLI_MIRRORS = {"demo", "extract", "indices", "library", "page", "produce", "zonal"}
"""Modules of `cli` that are named after the module their command calls, as are the commands themselves."""


def test_no_two_modules_share_a_last_name() -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for name in MODULES:
        found[name.rpartition(".")[2]].add(name)
    mirrors = {name: {f"sen2chain.{name}", f"sen2chain.cli.{name}"} for name in CLI_MIRRORS}
    assert {last: names for last, names in found.items() if len(names) > 1} == mirrors


def test_the_demo_shares_no_code_with_the_extraction() -> None:
    used = {
        top_level(other) for name, path in MODULES.items() if name.startswith("sen2chain.demo")
        for other in imports(path, set(MODULES))
    }  # fmt: skip
    assert used <= {"demo", *DEMO_USES}


def test_the_list_of_modules_is_the_one_contributors_read() -> None:
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == MODULES_IN_ORDER


def test_public_names() -> None:
    assert sorted(sen2chain.__all__) == sorted(PUBLIC)
    assert dir(sen2chain) == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(sen2chain, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Timeseries'"):
        _ = sen2chain.Timeseries


def test_names_are_the_same_objects_as_in_their_modules() -> None:
    from sen2chain.errors import Sen2ChainError  # noqa: PLC0415  # what is compared
    from sen2chain.timeseries import TimeSeries  # noqa: PLC0415

    assert sen2chain.TimeSeries is TimeSeries
    assert sen2chain.Sen2ChainError is Sen2ChainError


_LOOK = """
import json, logging, sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
before = set(sys.modules)
import {module}
print(json.dumps({{
    "opened": opened,
    "loaded": sorted(set(sys.modules) - before),
    "handlers": len(logging.getLogger().handlers)
    + sum(bool(getattr(l, "handlers", ())) for l in logging.Logger.manager.loggerDict.values()),
    "levels": [logging.getLogger().level] + [l.level for n, l in logging.Logger.manager.loggerDict.items()
                                             if n.startswith("sen2chain") and hasattr(l, "level")],
    "prefixes": [sys.prefix, sys.base_prefix],
}}))
"""


def look(module: str, folder: Path) -> dict[str, Any]:
    """Import a module in a fresh interpreter and tell what that did."""
    run = subprocess.run(  # noqa: S603  # our own interpreter
        [sys.executable, "-c", _LOOK.format(module=module)], cwd=folder, check=True, capture_output=True, text=True
    )
    assert not run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def test_importing_reads_no_file_configures_no_logging_and_loads_nothing_heavy(tmp_path: Path) -> None:
    found = look("sen2chain", tmp_path)
    own = (*found["prefixes"], str(PACKAGE))
    assert [path for path in found["opened"] if not path.startswith(own)] == []
    assert found["handlers"] == 0
    assert set(found["levels"]) <= {0, 30}  # not set, and the root logger's own
    assert {name.partition(".")[0] for name in found["loaded"]}.isdisjoint(HEAVY)
    assert [name for name in found["loaded"] if name.startswith("sen2chain")] == ["sen2chain"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", LIGHT)
def test_light_modules_load_nothing_heavy(name: str, tmp_path: Path) -> None:
    found = look(f"sen2chain.{name}", tmp_path)
    assert {module.partition(".")[0] for module in found["loaded"]}.isdisjoint(HEAVY)


NOT_AT_ONCE = (
    "scipy.signal", "scipy.stats", "scipy.ndimage", "scipy.optimize", "scipy.interpolate", "scipy.sparse", "xarray",
    "matplotlib", "distributed", "dask", "fsspec", "rich", "duckdb", "IPython", "requests", "jinja2",
    "pystac", "pystac_client",  # rasterio itself loads botocore and urllib3, where boto3 is installed
)  # fmt: skip
"""Libraries for what few runs call; they are imported where they are used."""


@pytest.mark.parametrize("names", ["TimeSeries", "TimeSeriesCompil, JobExtraction, Library, Mask, Index"])
def test_the_public_classes_load_only_what_every_run_needs(names: str, tmp_path: Path) -> None:
    found = look(f"sen2chain\nfrom sen2chain import {names}", tmp_path)
    assert "sen2chain.extract" in found["loaded"]
    assert set(found["loaded"]).isdisjoint(NOT_AT_ONCE)


def test_importing_everything_configures_no_logging(tmp_path: Path) -> None:
    found = look("sen2chain.timeseries", tmp_path)
    assert set(found["levels"]) <= {0, 30}
    # GDAL's bindings give their own loggers a handler that does nothing; the root logger has none.
    assert "sen2chain.timeseries" in found["loaded"]


@pytest.mark.parametrize("name", MODULES)
def test_the_package_names_no_place_outside_itself(name: str) -> None:
    text = MODULES[name].read_text(encoding="utf-8")
    for place in (r"\.\./", r"\bshared/", r"[\"'`\s]/(?!vsi)[a-z]+/\w"):
        assert not re.search(place, text), place


def test_no_module_configures_logging_or_prints() -> None:
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert not called.endswith(("basicConfig", "addHandler", "setLevel")), name
                assert called != "print", name


OPENERS = ("files", "remote", "archive", "rasters", "jpeg2000", "pixel_store", "demo", "jobs")
"""The sources and the readers of rasters, which alone touch paths of products, and what they open files with; the demo,
which writes them; kept pixels, whose files are the package's own; and jobs, where a location is that of a job."""
OF_PRODUCTS = {"bands", "masked", "rasters", "cldprb", "scl", "details", "location", "locations"}
"""Attributes and parameters that hold locations of a product's files, or lead to them."""
PATHS = {"fsspec", "glob", "io", "mmap", "os", "pathlib", "rasterio", "sen2chain.files", "shutil", "stat", "zipfile"}
"""Modules that open files, look at them or take paths apart; locations are texts, which alone can do nothing."""
FROM_ARCHIVE = {
    "PROVIDERS", "ArchiveFile", "ArchiveFiles", "FileKind", "LibrarySource", "MemorySource", "Provider", "SafeFolder",
    "Saved", "StacCatalogue", "Verdict", "archive_files", "away_from_gaps", "by_reason", "chosen_source", "index_file",
    "is_catalogue", "look", "mask_file", "open_library", "open_target", "provider_named", "quicklook_file",
    "reads_at_once", "save_items", "size_of",
}  # fmt: skip
"""What other packages use of the sources: to open one. All else goes through the protocols in `products`."""


def touches_paths(text: str) -> list[str]:
    """List the means to touch a file in a module that handles locations of products; none where it handles none."""
    tree = ast.parse(text)
    guarded: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            guarded |= set(ast.walk(node))
    handles, means = False, []
    for node in ast.walk(tree):
        handles |= isinstance(node, ast.Attribute) and node.attr in OF_PRODUCTS
        handles |= isinstance(node, ast.arg) and node.arg in OF_PRODUCTS
        imported: list[str] = []
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call):
            means += ["open"] * (ast.unparse(node.func) == "open")
        if node not in guarded:
            means += [name for name in imported if name in PATHS or name.partition(".")[0] in PATHS]
    return sorted(set(means)) if handles else []


@pytest.mark.parametrize("name", MODULES)
def test_only_sources_and_the_reader_of_rasters_touch_files_of_products(name: str) -> None:
    if name == "sen2chain" or top_level(name) in OPENERS:
        return
    text = MODULES[name].read_text(encoding="utf-8")
    assert touches_paths(text) == []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sen2chain.archive"):
            assert node.module == "sen2chain.archive"
            assert {alias.name for alias in node.names} <= FROM_ARCHIVE


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("import os\nsize = os.stat(task.cldprb).st_size", ["os"]),
        ("from pathlib import Path\ndef look(location: str): ...", ["pathlib", "pathlib.Path"]),
        (
            "from sen2chain import files\nfiles.is_file(output.value.rasters['B04'])",
            ["sen2chain.files"],
        ),
        ("def first(acquisition):\n    return open(acquisition.bands['B04'])", ["open"]),
        ("import os\nfrom pathlib import Path\nPath('x').stat()", []),
        ("if TYPE_CHECKING:\n    from pathlib import Path\nplace = task.scl", []),
    ],
)
def test_the_rule_on_files_of_products_can_fail(text: str, means: list[str]) -> None:
    assert touches_paths(text) == means


# ------------------------------------------------------------------------------------------- what the sensor alone says

SAYS_WHAT_THE_SENSOR_IS = ("sensor", "indices", "masks", "demo")
"""Modules that may name bands, classes, limits of digital numbers, and ESA's files."""
NAMES_ASSETS = "sen2chain.archive.stac.providers"
"""The module that says which asset of a catalogue's item is which band."""

_ESA = re.compile(
    r"\b(?:B0[1-9]|B8A|B1[0-2]|SCL|CLDPRB)\b|(?<![A-Z])B0[1-9]_|_B0[1-9]|_SCL|MSK_|MSIL[12]|MTD_|IMG_DATA|QI_DATA"
    r"|R[126]0m|_[126]0m|(?<![A-Za-z0-9])S2[A-Z\[]"
)
_LIMITS = {65535, 10980, 109800}  # saturated, and the edge of a tile in pixels and metres
_CLASSES = range(12)


def facts_of_the_sensor(source: str) -> list[str]:
    """Find what a module should ask the sensor: names, limits and class numbers in the constants of its code.

    Texts for people may name them: docstrings, what is raised, and texts with a space in them.
    """
    tree = ast.parse(source)
    for_people = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.JoinedStr) and " " in ast.unparse(node))
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in for_people:
            continue
        match node:
            case ast.Constant(value=str() as text) if " " not in text and _ESA.search(text):
                found.append(repr(text))
            case ast.Constant(value=int() | float() as number) if number in _LIMITS:
                found.append(repr(number))
            case ast.Compare() | ast.Subscript() | ast.Call() if _uses_classes(node):
                found.append(ast.unparse(node))
            case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items) if _are_cloud_classes(items):
                found.append(ast.unparse(node))
    return found


def _uses_classes(node: ast.expr) -> bool:
    """Whether an expression sets a scene classification against the number of a class, as ``scl == 3``."""
    parts = list(ast.iter_child_nodes(node))
    names = [part.id if isinstance(part, ast.Name) else part.attr for part in parts
             if isinstance(part, ast.Name | ast.Attribute)]  # fmt: skip
    numbers = [part for part in parts if isinstance(part, ast.Constant) and type(part.value) is int]
    about = any(re.fullmatch(r"scl|scene_classification|.*_scl|SCL.*", name) for name in names)
    return about and any(part.value in _CLASSES for part in numbers)


def _are_cloud_classes(items: list[ast.expr]) -> bool:
    """Whether numbers are those of SCL's cloud classes: 8 and 9 among several."""
    numbers = {item.value for item in items if isinstance(item, ast.Constant) and type(item.value) is int}
    return len(numbers) == len(items) > 2 and {8, 9} <= numbers <= set(_CLASSES)


@pytest.mark.parametrize(
    "name",
    [n for n in MODULES if n not in {"sen2chain", NAMES_ASSETS} and top_level(n) not in SAYS_WHAT_THE_SENSOR_IS],
)
def test_only_the_sensor_says_what_sentinel_2_is(name: str) -> None:
    assert facts_of_the_sensor(MODULES[name].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        'red = bands["B04"]',
        'PATTERN = r"_B8A_20m"',
        'cloud = acquisition.bands.get("CLDPRB")',
        "if scl == 3: pass",
        "clear = scl_share(scl, 4)",
        "clouds = np.isin(classes, (3, 8, 9, 10))",
        "bad = dn == 65535",
        "size = 10980",
        'PRODUCT = re.compile(r"S2[A-Z]_MSIL2A_.*")',
        'metadata = folder / "MTD_MSIL2A.xml"',
        'for folder in ("IMG_DATA/R10m", "QI_DATA"): pass',
        'name = f"{stem}_B02_10m.jp2"',
    ],
)
def test_a_fact_of_the_sensor_is_noticed(source: str) -> None:
    assert facts_of_the_sensor(source)


@pytest.mark.parametrize(
    "source",
    [
        '"""Reads B04 and the SCL of a product."""',
        'raise ValueError("B04 is missing")',
        'raise ValueError(f"{name}_B04")',
        'notes.append(f"{name} lacks SCL")',
        "columns = (0, 1, 2)",
        'path = folder / f"{band.name}.tif"',
        "nodata = sensor.nodata",
    ],
)
def test_texts_for_people_may_say_what_sentinel_2_is(source: str) -> None:
    assert not facts_of_the_sensor(source)
