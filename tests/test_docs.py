"""The documentation says what the program does: snippets run, tables and the command's reference match the code.

Run as a program, this file writes the reference of the command into ``docs/cli.md``.
"""

from __future__ import annotations

import contextlib
import doctest
import inspect
import io
import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from click.testing import CliRunner

from sen2chain import INDICES, Mask, Reason, TimeSeries, TimeSeriesCompil, indices
from sen2chain.archive import PROVIDERS
from sen2chain.cli import main
from sen2chain.masks import DISK11, DISK13, SHORT, SQUARE5
from sen2chain.plan import resolve_masks
from sen2chain.products import ProductId
from sen2chain.zonal.statistics import BASE, allowed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
CLI_PAGE = DOCS / "cli.md"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

# --- the command's reference

GENERATED = "<!-- Written by tests/test_docs.py from the command itself; edits below this line are lost. -->"


def _parameter(parameter: click.Parameter) -> tuple[str, str, str]:
    """Name as typed, default, help."""
    if isinstance(parameter, click.Argument):
        return f"`{parameter.metavar}`", "", "required" if parameter.required else "optional"
    assert isinstance(parameter, click.Option)
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    if isinstance(parameter.type, click.Choice):
        names += " " + " or ".join(f"`{choice}`" for choice in parameter.type.choices)
    elif not parameter.is_flag:
        names += f" `{parameter.metavar or parameter.type.name.upper()}`"
    help_text, _, written = (parameter.help or "").replace("|", "\\|").rstrip("]").partition("[default: ")
    help_text = help_text.strip()
    if parameter.multiple:
        help_text += " May be given several times."
    if parameter.required:
        help_text += " Required."
    value = parameter.default
    if parameter.secondary_opts:
        return names, f"`{(parameter.opts if value else parameter.secondary_opts)[0]}`", help_text
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        written = f"{value:g}" if isinstance(value, float) else str(value)
    return names, f"`{written}`" if written else "", help_text


def reference() -> str:
    """Describe every command and option."""
    assert isinstance(main, click.Group)
    lines = []
    for name, command in sorted(commands().items()):
        if isinstance(command, click.Group):
            continue
        arguments = " ".join(p.metavar or "" for p in command.params if isinstance(p, click.Argument))
        text = inspect.cleandoc(command.help or "")
        lines += [f"## sen2chain {name}", "", "```sh", f"sen2chain {name} [OPTIONS] {arguments}", "```", "", text, ""]
        lines += ["| option | default | meaning |", "|---|---|---|"]
        lines += ["| " + " | ".join(_parameter(parameter)) + " |" for parameter in command.params]
        lines.append("")
    return "\n".join(lines)


def commands(group: click.Command = main, before: str = "") -> dict[str, click.Command]:
    """Every command by its words, groups and their commands too."""
    found = {before: group}
    for name, command in group.commands.items() if isinstance(group, click.Group) else ():
        found |= commands(command, f"{before} {name}".strip())
    return found


def test_the_reference_of_the_command_is_up_to_date() -> None:
    assert CLI_PAGE.read_text(encoding="utf-8").partition(GENERATED)[2].strip() == reference().strip(), (
        "run: python tests/test_docs.py"
    )


@pytest.mark.parametrize("name", commands())
def test_every_command_and_option_has_help_and_stands_in_the_docs(name: str) -> None:
    command, page = commands()[name], CLI_PAGE.read_text(encoding="utf-8")
    assert command.help
    assert f"sen2chain {name}".strip() in page
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            for option in (*parameter.opts, *parameter.secondary_opts):
                assert f"`{option}`" in page, option
        else:
            assert str(parameter.metavar) in (command.help or ""), "an argument is explained in the text"


def test_options_named_in_the_docs_exist() -> None:
    known = {o for c in commands().values() for p in c.params for o in (*p.opts, *p.secondary_opts)}
    known |= {"--help", "--version"}
    for page in PAGES:
        if page.name == "CONTRIBUTING.md":
            continue
        for line in page.read_text(encoding="utf-8").splitlines():
            if any(
                word in line for word in ("pip", "python", "make benchmark", "--parts", "pyproj sync", "dask worker")
            ):
                continue  # options of other programs
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line):
                assert option in known, f"{page.name}: {option}"


# --- snippets

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """Kind, content and shown output of the blocks of a page that run."""
    found = list(_BLOCK.finditer(page.read_text(encoding="utf-8")))
    for i, match in enumerate(found):
        kind, content = match[1], match[2]
        follows = found[i + 1] if i + 1 < len(found) else None
        if kind == "python":
            adjoins = (
                follows is not None and follows[1] == "text" and not match.string[match.end() : follows.start()].strip()
            )
            yield kind, content, follows[2] if follows is not None and adjoins else ""
        elif kind == "console":
            for part in re.split(r"^\$ ", content, flags=re.MULTILINE)[1:]:
                lines = part.splitlines(keepends=True)
                end = next(k for k, line in enumerate(lines) if not line.rstrip().endswith("\\"))
                yield kind, "".join(lines[: end + 1]), "".join(lines[end + 1 :])
        else:
            # "py" needs a cluster of a kind that no test has.
            known = {"text", "sh", "ini", "py"}
            assert kind in known, f"{page.name}: blocks of kind {kind} are neither run nor shown output"


def run_block(kind: str, content: str, namespace: dict[str, Any]) -> str:
    """What a block prints."""
    if kind == "python":
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(content, "<snippet>", "exec"), namespace)  # noqa: S102  # our own documentation
        return printed.getvalue()
    words = shlex.split(content.replace("\\\n", " "))
    assert words[0] == "sen2chain"
    result = CliRunner().invoke(main, words[1:])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the demo archive, as after the first command of the README."""
    from sen2chain import demo  # noqa: PLC0415  # only here, as the user's first command would

    folder = tmp_path_factory.mktemp("docs")
    demo.build(folder / "demo-archive")
    return folder


@pytest.mark.parametrize("page", [p for p in PAGES if list(blocks(p))], ids=lambda p: p.stem)
def test_snippets_run_and_print_what_they_show(
    page: Path, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(workplace, tmp_path, dirs_exist_ok=True)  # a page does not find what another one has extracted
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    checker, namespace = doctest.OutputChecker(), {"__name__": "__main__"}
    with _catalogue(tmp_path) if SERVER in page.read_text(encoding="utf-8") else contextlib.nullcontext(SERVER) as url:
        for kind, content, shown in blocks(page):
            with _same_logging():
                printed = run_block(kind, content.replace(SERVER, url), namespace).replace(url, SERVER)
            example = doctest.Example(content, shown)
            assert checker.check_output(shown, printed, _FLAGS), checker.output_difference(example, printed, _FLAGS)


SERVER = "http://127.0.0.1:8000"
"""Server in the documentation that stands for one that the test starts."""


@contextlib.contextmanager
def _catalogue(folder: Path) -> Iterator[str]:
    """Serve the demo archive in a folder, with items of its products in ``items.json``, and yield the address."""
    from provider_layouts import Copy, items, product_files  # noqa: PLC0415  # one page needs them
    from troubled_server import TroubledServer  # noqa: PLC0415

    library = folder / "demo-archive" / "sen2chain_data"
    products = sorted(ProductId.parse(path.name) for path in library.glob("data/L2A/*/*.SAFE"))
    # Without those that have an offset, which of a catalogue like this one are decided by pixels.
    files = [(product, product_files(library, product)) for product in products if product.baseline < 400]
    copies = [Copy(product, {band: where[band] for band in where if band != "CLDPRB"}) for product, where in files]
    with TroubledServer(folder=folder) as server:
        found = items(copies, "cdse", lambda path: f"{server.url}/{path.relative_to(folder)}", says_subtracted=False)
        collection = {"type": "FeatureCollection", "features": found}
        (folder / "items.json").write_text(json.dumps(collection), encoding="utf-8")
        yield server.url


@contextlib.contextmanager
def _same_logging() -> Iterator[None]:
    """Undo what a snippet on logging sets."""
    import logging  # noqa: PLC0415  # used nowhere else

    loggers = (logging.getLogger(), logging.getLogger("sen2chain"))
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    try:
        yield
    finally:
        for logger, (level, handlers) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            for handler in set(logger.handlers) - set(handlers):
                logger.removeHandler(handler)
                handler.close()


# --- tables


def tables(page: Path) -> list[list[dict[str, str]]]:
    """Tables of a page as rows by column title, code marks removed."""
    found, header, rows = [], [""], list[dict[str, str]]()
    for line in [*page.read_text(encoding="utf-8").splitlines(), ""]:
        cells = [c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            if rows:
                found.append(rows)
            header, rows = [""], []
        elif header == [""]:
            header = [c.replace("`", "") for c in cells]
        elif set("".join(cells)) != {"-"}:
            rows.append(dict(zip(header, cells, strict=True)))
    return found


def table(page: str, title: str) -> dict[str, dict[str, str]]:
    """The rows of all tables whose first column is called `title`, by that column."""
    return {
        row[title].replace("`", ""): row for rows in tables(DOCS / page) for row in rows if next(iter(row)) == title
    }


def test_table_of_indices() -> None:
    rows = table("indices.md", "name")
    assert list(rows) == list(INDICES)
    for name, row in rows.items():
        assert row["formula"] == f"`{INDICES[name].formula}`"
        assert row["what it is"] == INDICES[name].title


def test_table_of_masks() -> None:
    rows = table("masks.md", "mask")
    assert set(rows) == {"CM001", "CM002", "CM003", "CM004", "OCM", "SCL"}
    for name, row in rows.items():
        mask = Mask.parse(row["written in full"].strip("`"))
        assert (mask.family, mask.name) == (name, row["written in full"].strip("`"))
        assert str(mask.reach) == row["reach"]
        assert mask.inputs == tuple(
            name for name in ("CLDPRB", "SCL", "B11") if name in row["computed from"].split(", ")
        )


def test_table_of_short_names_of_masks() -> None:
    rows = table("masks.md", "short name")
    job = {"probability": 1, "iterations": 1}
    del rows["none given"]
    assert rows.keys() == SHORT.keys()
    for name, row in rows.items():
        full = [text.strip("`") for text in list(row.values())[1:]]
        own = [_defaults(kind, name) for kind in (TimeSeries, TimeSeriesCompil)]
        assert full == [Mask.parse(name).name, *own, resolve_masks(name, job)[0].name]


def _defaults(kind: Any, name: str) -> str:
    """The mask that a class makes of a short name."""
    names = ("probability", "iterations", "cld_shad", "cld_med_prob", "cld_hi_prob", "thin_cir")
    parameters = inspect.signature(kind).parameters
    return resolve_masks(name, {key: parameters[key].default for key in names})[0].name


def test_table_of_providers() -> None:
    rows = table("stac.md", "provider")
    assert list(rows) == [one.name for one in PROVIDERS]
    for one in PROVIDERS:
        row = rows[one.name]
        assert row["address"] == (f"`{one.address}`" if one.address else "yours")
        assert row["catalogue"] == (", ".join(f"`{host}`" for host in one.catalogues) or "any other")
        assert row["collections"] == (", ".join(f"`{name}`" for name in one.collections) or "any")
        assert (row["files"], row["offset"]) == (one.files or "any", one.offset)
        has = ("yes" if one.catalogues else "if items have it") if "CLDPRB" in one.assets else "no"
        assert row["cloud probability"] == has
        assert (row["keys"], row["tried on its server"]) == (one.keys or "none", one.tried or "nothing yet")
        assert (one.documentation in (DOCS / "stac.md").read_text(encoding="utf-8")) if one.documentation else True


def test_table_of_kernels() -> None:
    rows = table("masks.md", "kernel")
    kernels = {name: tuple(int(n) for n in row["rows"].split()) for name, row in rows.items()}
    assert kernels == {"square5": SQUARE5, "disk11": DISK11, "disk13": DISK13}


def test_table_of_reasons() -> None:
    rows = table("report.md", "reason")
    assert {name: row["meaning"] for name, row in rows.items()} == {r.value: r.sentence for r in Reason}
    assert list(rows) == [reason.value for reason in Reason]


# --- the example of "Statistics"

PRODUCT = "S2A_MSIL2A_20220602T100601_N0400_R022_T32TPS_20220602T160000"
LEFT, TOP = 680_000.0, 5_150_000.0
RULES = ("center", "all_touched", "weighted")


def _grid_of(rows: Sequence[dict[str, str]]) -> list[list[str]]:
    return [list(row.values())[1:] for row in rows]


@pytest.fixture(scope="module")
def example() -> dict[str, np.ndarray]:
    """Read the rasters of the worked example from the page."""
    drawn = [rows for rows in tables(DOCS / "statistics.md") if next(iter(rows[0])) == ""]
    values, rasters, weights = (_grid_of(rows) for rows in drawn)
    return {
        "values": np.array([[32767 if c == "·" else int(c.strip("()")) for c in row] for row in values], np.int16),
        "cloud": np.array([[c.startswith("(") for c in row] for row in values], np.uint8),
        "scl": np.array([row[:2] for row in rasters], np.uint8),
        "cldprb": np.array([row[2:] for row in rasters], np.uint8),
        "weights": np.array(weights, float),
    }


def _write(path: Path, array: np.ndarray, pixel: float, *, nodata: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"driver": "GTiff"}
    if path.suffix == ".jp2":
        options = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
    height, width = array.shape
    georeference: dict[str, Any] = {"crs": "EPSG:32632", "nodata": nodata}
    georeference["transform"] = rasterio.Affine(pixel, 0, LEFT, 0, -pixel, TOP)
    with rasterio.open(
        path, "w", height=height, width=width, count=1, dtype=array.dtype, **georeference, **options
    ) as file:
        file.write(array, 1)


@pytest.fixture(scope="module")
def computed(example: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """Extract the worked example, from an archive that holds its rasters."""
    library = tmp_path_factory.mktemp("example")
    masks = library / "CLOUDMASKS" / "32TPS" / PRODUCT
    _write(library / f"INDICES/NDVI/32TPS/{PRODUCT}/{PRODUCT}_NDVI.tif", example["values"], 10, nodata=32767)
    _write(masks / f"{PRODUCT}_CM001.tif", example["cloud"], 10)
    _write(masks / "MSK_CLDPRB_20m.jp2", example["cldprb"], 20)
    _write(masks / "T32TPS_20220602T100601_SCL_20m.jp2", example["scl"], 20)
    rectangle = shapely.box(LEFT + 2.5, TOP - 22.5, LEFT + 32.5, TOP)
    layer = gpd.GeoDataFrame(geometry=[rectangle], crs="EPSG:32632")
    asked = ["percentile_10" if s == "percentile_<p>" else s for s in allowed() if not s.startswith("histogram")]
    found = {}
    for rule in RULES:
        series = TimeSeries(
            layer, ["NDVI"], library=library, pixels=rule, multiproc=1, stats=[*asked, "histogram:0:1:2"]
        )
        [row] = series.data["NDVI"].to_dict("records")
        found[rule] = {str(name): value for name, value in row.items() if isinstance(value, int | float)}
    return found


def test_worked_examples_of_statistics(computed: dict[str, dict[str, float]]) -> None:
    shown = table("statistics.md", "column") | table("statistics.md", "statistic")
    for rule in RULES:
        expected = {name: row[rule] for name, row in shown.items() if row.get(rule)}
        assert {name: f"{computed[rule][name]:.6g}" for name in expected} == expected, rule
        described = {*shown, "fid", *(f"scl_{c}" for c in range(12))}
        assert computed[rule].keys() <= described, "every column is on the page"
    assert {*BASE, "count", "nodata", "nbcld", "cldprb"} <= shown.keys()


def test_the_worked_example_by_plain_numpy(
    example: dict[str, np.ndarray], computed: dict[str, dict[str, float]]
) -> None:
    full = np.pad(example["values"], ((0, 0), (0, 1)), constant_values=32767)
    cloud = np.pad(example["cloud"], ((0, 0), (0, 1))) > 0
    weights = {
        "center": np.array([[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]], float),
        "all_touched": np.ones((3, 4)),
        "weighted": example["weights"],
    }
    for rule in RULES:
        w, found = weights[rule], computed[rule]
        valid = (full != 32767) & ~cloud & (w > 0)
        v, n = full[valid].astype(float), w[valid]
        mean = (n * v).sum() / n.sum()
        expected = {
            "count": n.sum(), "nodata": w.sum() - n.sum(), "nbcld": w[cloud].sum(), "min": v.min(), "max": v.max(),
            "mean": mean, "std": np.sqrt((n * (v - mean) ** 2).sum() / n.sum()), "sum": (n * v).sum(),
            "range": np.ptp(v), "variety": len(np.unique(v)), "cldprb": example["cldprb"][0].mean(),
        }  # fmt: skip
        if rule != "weighted":
            expected |= {"median": np.median(v), "mad": np.median(abs(v - np.median(v)))}
            expected |= {f"percentile_{p}": np.percentile(v, p) for p in (10, 25, 75)}
        else:
            expected |= {f"percentile_{p}": _weighted_percentile(v, n, p / 100) for p in (10, 25, 75)}
        assert {name: found[name] for name in expected} == pytest.approx(expected)


def _weighted_percentile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    x, inverse = np.unique(values, return_inverse=True)
    w = np.bincount(inverse, weights)
    s = np.arange(len(x)) * w + (len(x) - 1) * (np.cumsum(w) - w)
    return float(np.interp(share * (len(x) - 1) * w.sum(), s, x))


def test_completeness_of_the_example(computed: dict[str, dict[str, float]]) -> None:
    text = " ".join((DOCS / "statistics.md").read_text(encoding="utf-8").split())
    c = {
        rule: f"{1 - (row['nodata'] - row['nbcld']) / (row['count'] + row['nodata']):.6g}"
        for rule, row in computed.items()
    }
    assert (
        f"it is {c['center']} for `center`, {c['all_touched']} for `all_touched` and {c['weighted']} for `weighted`"
        in text
    )


def test_examples_in_docstrings() -> None:
    found = doctest.testmod(indices)
    assert (found.failed, found.attempted > 0) == (0, True)


def test_every_statistic_stands_on_its_page() -> None:
    text = (DOCS / "statistics.md").read_text(encoding="utf-8")
    for name in allowed():
        assert f"`{name}`" in text, name


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    for page in DOCS.rglob("*.md"):
        assert page.relative_to(DOCS).as_posix() in navigation


if __name__ == "__main__":
    before = CLI_PAGE.read_text(encoding="utf-8").partition(GENERATED)[0]
    temporary = CLI_PAGE.with_suffix(".tmp")
    temporary.write_text(f"{before}{GENERATED}\n\n{reference()}", encoding="utf-8", newline="\n")
    os.replace(temporary, CLI_PAGE)  # noqa: PTH105  # as good as Path's
