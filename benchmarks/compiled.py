"""``python -m benchmarks.compiled``: time and memory of compiled time series at full size.

Three measurements: a run that finds nothing new (700 acquisitions, five indices, 100,000 polygons); time and memory of
compilation (100,000 polygons, increasing numbers of dates), beside a plain DuckDB query on the same files; and the cost
of a row where a small layer has very many dates.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import shapely

from sen2chain import TimeSeriesCompil
from sen2chain.products import ProductId
from sen2chain.rows import Batch
from sen2chain.store import Entry, ImageLedger, State, make_folder, write_image
from sen2chain.store.inputs import Inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

INDICES = ("NDVI", "NDWIGAO", "NBR", "EVI", "NDRE")
MASK = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
TILE, EPSG, LEFT, TOP = "31TCJ", 32631, 300000.0, 4900020.0
_BANDS = {
    "R10m": [f"{band}_10m" for band in ("B02", "B03", "B04", "B08")],
    "R20m": [f"{band}_20m" for band in ("B05", "B06", "B07", "B8A", "B11", "B12", "SCL")],
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the files, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compiled", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "sen2chain-benchmark-compiled")
    parser.add_argument("--parts", default="nothing,compile,dates", help="of %(default)s (default: all)")
    parser.add_argument("--polygons", type=int, default=100_000)
    parser.add_argument("--acquisitions", type=int, default=700)
    parser.add_argument("--dates", default="70,100,150,200", help="for compile (default: %(default)s)")
    parser.add_argument("--few", type=int, default=2_000, help="polygons for the part dates (default: %(default)s)")
    parser.add_argument("--many", default="70,250,1000,2000", help="dates for the part dates (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    os.environ["SEN2CHAIN_CACHE"] = str(options.folder / "cache")
    if options.one:
        _one(options)
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    if "nothing" in options.parts:
        _nothing_new(options)
    if "compile" in options.parts:
        print("\n| rows | sen2chain: all_data and monthly CSV | memory | DuckDB, the same | memory |")
        print("|---|---|---|---|---|", flush=True)
        for dates in map(int, options.dates.split(",")):
            _fill(options, dates)
            cells = []
            for who in ("ours", "duckdb"):
                if who == "duckdb" and not find_spec("duckdb"):
                    cells += ["not installed", "-"]
                    continue
                runs = [_apart(options, f"{who}:{dates}") for _ in range(options.repeats if who == "ours" else 1)]
                cells += [f"{_median([s for s, _ in runs]):.1f} s", f"{max(m for _, m in runs):.0f} MiB"]
            print(f"| {options.polygons * dates:,} | {' | '.join(cells)} |", flush=True)
    if "dates" in options.parts:
        _many_dates(options)


def _many_dates(options: argparse.Namespace) -> None:
    """Measure the seconds per million rows of a file of all dates."""
    print(f"\n| dates of {options.few:,} polygons | CSV, s per million rows | Parquet, s per million rows | memory |")
    print("|---|---|---|---|", flush=True)
    options = argparse.Namespace(**{**vars(options), "polygons": options.few})
    for dates in map(int, options.many.split(",")):
        _fill(options, dates)
        cells, memory = [], 0.0
        for end in ("csv", "parquet"):
            runs = [_apart(options, f"{end}:{dates}") for _ in range(options.repeats)]
            cells.append(f"{_median([s for s, _ in runs]) / (options.few * dates) * 1e6:.1f}")
            memory = max(memory, *(m for _, m in runs))
        print(f"| {dates:,} | {' | '.join(cells)} | {memory:.0f} MiB |", flush=True)


def _median(values: list[float]) -> float:
    return float(np.median(values))


def layer(options: argparse.Namespace) -> Path:
    """Write a layer of squares of 60 m that fill a tile."""
    path: Path = options.folder / f"parcels{options.polygons}.gpkg"
    if not path.exists():
        place = np.arange(options.polygons)
        x, y = LEFT + 5000 + place % 330 * 300, TOP - 5000 - place // 330 * 300
        frame = gpd.GeoDataFrame(
            {"name": [f"P{i:06d}" for i in place], "crop": np.array(["wheat", "maize", "meadow"])[place % 3]},
            geometry=shapely.box(x, y - 60, x + 60, y),
            crs=EPSG,
        )
        frame.to_file(path)
        old = time.time() - 60
        os.utime(path, (old, old))
    return path


def products(count: int) -> list[ProductId]:
    """Return products, one every five days."""
    days = [dt.datetime(2016, 1, 3, 10, 30, 21) + dt.timedelta(5 * i) for i in range(count)]  # noqa: DTZ001
    return [ProductId.parse(f"S2A_MSIL2A_{day:%Y%m%dT%H%M%S}_N0400_R108_T{TILE}_{day:%Y%m%d}T160000") for day in days]


def _archive(options: argparse.Namespace) -> Path:
    """Write products of empty files; a run that finds nothing new reads none of them."""
    home: Path = options.folder / f"archive{options.acquisitions}"
    for product in products(options.acquisitions):
        safe = home / "L2A" / TILE / f"{product}.SAFE"
        if safe.exists():
            continue
        granule = safe / "GRANULE" / "L2A_T31TCJ_A000001_20160101T103021"
        files = [granule / "QI_DATA" / "MSK_CLDPRB_20m.jp2", safe / "MTD_MSIL2A.xml"]
        files += [granule / "IMG_DATA" / r / f"T{TILE}_x_{name}.jp2" for r, names in _BANDS.items() for name in names]
        old = time.time() - 60
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"x")
            os.utime(file, (old, old))
    return home


def _series(options: argparse.Namespace, indices: Any, extraction: Path) -> TimeSeriesCompil:
    return TimeSeriesCompil(
        layer(options), indices, library=_archive(options), extraction=extraction, cm_version="CM004", quiet=True
    )


def _nothing_new(options: argparse.Namespace) -> None:
    """Enter all images as done, each with a file, and measure a run on them."""
    extraction = options.folder / "nothing"
    shutil.rmtree(extraction, ignore_errors=True)
    series = _series(options, list(INDICES), extraction)
    layer_in_folder = make_folder(series._folder._found, series.layer, series._folder._layers)  # noqa: SLF001  # our own
    assert len(layer_in_folder) == options.polygons  # noqa: S101
    folder, inputs, entries = series._folder.folder, Inputs(series._engine.source), []  # noqa: SLF001
    for task in series.plan.tasks:
        for output in task.outputs:
            path = folder.raw_file(
                f"{task.product}_{output.index.name}_{MASK}.jp2", ".parquet", output.index.name, output.mask.name
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"rows")
            key = (output.index.name, output.mask.name, str(task.product))
            kind = output.value.kind.value if output.value else ""
            entries.append(
                Entry(*key, State.DONE, 100_000, value_source=kind, inputs=inputs.identity(task, output),
                      file=path.name, size=4)
            )  # fmt: skip
    with ImageLedger(folder.ledger) as ledger:
        ledger.record(entries)
    taken = []
    for _ in range(options.repeats + 1):
        begin = time.perf_counter()
        series = _series_only(options, extraction)
        done = series.extract_data()
        taken.append(time.perf_counter() - begin)
        assert done.kept == len(entries), done  # noqa: S101
        assert not done.acquisitions  # noqa: S101
    print(
        f"Nothing new: {options.acquisitions} acquisitions x {len(INDICES)} indices x {options.polygons} polygons in "
        f"{_median(taken[1:]):.2f} s in process (first run {taken[0]:.2f} s)",
        flush=True,
    )


def _series_only(options: argparse.Namespace, extraction: Path) -> TimeSeriesCompil:
    home: Path = options.folder / f"archive{options.acquisitions}"
    return TimeSeriesCompil(
        options.folder / f"parcels{options.polygons}.gpkg", list(INDICES), library=home, extraction=extraction,
        cm_version="CM004", quiet=True,
    )  # fmt: skip


def _fill(options: argparse.Namespace, dates: int) -> None:
    """Write raw rows of a number of dates."""
    rng = np.random.default_rng(1)
    options.acquisitions = max(dates, options.acquisitions)
    series = _series(options, ["NDVI"], options.folder / "rows")
    make_folder(series._folder._found, series.layer, series._folder._layers)  # noqa: SLF001
    folder, layout = series._folder.folder, series._engine.raw_format()  # noqa: SLF001
    n = options.polygons
    fid = np.arange(n)
    for product in products(dates):
        name = f"{product}_NDVI_{MASK}.jp2"
        if folder.raw_file(name, ".parquet", "NDVI", MASK).exists():
            continue
        mean = rng.normal(5000, 1500, n)
        columns: dict[str, Any] = {"fid": fid, "count": rng.integers(20, 60, n)}
        columns |= {"nodata": rng.integers(0, 5, n), "nbcld": np.zeros(n, np.int64), "cldprb": rng.random(n) * 5}
        columns |= {"min": np.floor(mean - 900), "max": np.floor(mean + 900), "mean": mean}
        columns |= {"std": rng.random(n) * 400, "median": np.floor(mean)}
        columns |= {"percentile_25": np.floor(mean) - 300.25, "percentile_75": np.floor(mean) + 300.75}
        columns["reason"] = np.full(n, -1, np.int8)
        write_image(Batch("NDVI", MASK, product, name, columns, {}), folder, layout, "parquet")


def _apart(options: argparse.Namespace, what: str) -> tuple[float, float]:
    """Measure in a separate process: seconds and MiB."""
    command = [
        sys.executable, "-m", "benchmarks.compiled", "--folder", str(options.folder), "--polygons",
        str(options.polygons), "--acquisitions", str(options.acquisitions), "--one", what,
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  # our own interpreter
    seconds, memory = map(float, done.stdout.split())
    return seconds, memory


def _one(options: argparse.Namespace) -> None:
    """Compile once, and print seconds and the largest memory in MiB."""
    who, dates = options.one.split(":")
    asked: dict[str, Any] = {"formats": who} if who in {"csv", "parquet"} else {"monthly": True}
    seconds = _duckdb(options, int(dates)) if who == "duckdb" else _ours(options, int(dates), **asked)
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _ours(options: argparse.Namespace, dates: int, **asked: Any) -> float:
    series = _series(options, ["NDVI"], options.folder / "rows")
    folder = series._folder.folder  # noqa: SLF001
    shutil.rmtree(folder.root / "compiled_data", ignore_errors=True)
    raw = folder.raw("NDVI", MASK)
    assert len(list(raw.glob("*.parquet"))) == dates, raw  # noqa: S101
    begin = time.perf_counter()
    series.compile_data(alldata=True, **asked)
    return time.perf_counter() - begin


def _duckdb(options: argparse.Namespace, dates: int) -> float:
    import duckdb  # noqa: PLC0415  # only whoever compares needs it

    series = _series(options, ["NDVI"], options.folder / "rows")
    folder = series._folder.folder  # noqa: SLF001
    raw = folder.raw("NDVI", MASK)
    out = options.folder / "duckdb"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    names = series.layer.attributes.reset_index(names="fid")
    begin = time.perf_counter()
    base = duckdb.connect()
    base.execute("SET memory_limit='1500MB'")
    base.execute(f"SET temp_directory='{out}/temp'")
    base.register("names", names)
    base.execute(
        "CREATE VIEW rows AS SELECT r.*, 1 - (nodata - nbcld) / (count + nodata) AS completeness, n.name, n.crop, "
        f"strftime(date, '%Y-%m') AS month FROM read_parquet('{raw}/*.parquet') r JOIN names n USING (fid)"
    )
    base.execute(f"COPY (SELECT * EXCLUDE month FROM rows ORDER BY fid, date) TO '{out}/all.csv' (HEADER)")
    for (month,) in base.execute("SELECT DISTINCT month FROM rows ORDER BY 1").fetchall():
        chosen = f"SELECT * EXCLUDE month FROM rows WHERE month = '{month}' ORDER BY fid, date"
        base.execute(f"COPY ({chosen}) TO '{out}/{month}.csv' (HEADER)")
    assert dates  # noqa: S101
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
