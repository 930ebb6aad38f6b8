"""GeoPackage: features once, rows once, and a spatial view per index and mask that GIS programs open as a layer.

Tables of a file
    ``features``: geometry and attributes. ``rows``: statistics, with the columns ``index`` and ``mask``, a ``date``
    that GIS programs know as one, and ``latest``, which is true in the last row with values of a feature. ``<INDEX>``:
    a view of both with one geometry per row. ``<INDEX>_latest``: a view of the latest rows. ``_<MASK>`` follows the
    index where there are several masks. The key of all of them is ``row_id``. The column ``feature`` is the position of
    a feature from 0, the ``fid`` of the CSV files. (In a GeoPackage, ``fid`` is the usual name of a key that counts
    from 1.)

The features are written by GDAL, which knows every CRS; rows by SQLite itself, which is several times as fast. The file
is complete before it gets its name, and SQLite takes no lock on it, which not every network disk has.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyogrio
import shapely

from sen2chain.atomic import replacing, writing
from sen2chain.errors import OutputError
from sen2chain.export.provenance_json import beside, to_json
from sen2chain.export.qgis_styles import MapStyle, outline_style, value_style
from sen2chain.legends import fixed_legend, legend_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import geopandas as gpd

    from sen2chain.index_series import IndexSeries, LayerFeatures

GEOPACKAGE_KEY = "row_id"
"""Key of every table and view of a GeoPackage, and its first column."""

_FEATURES, _ROWS, _GEOMETRY, _FEATURE = "features", "rows", "geom", "feature"
_KEY = GEOPACKAGE_KEY
_PROVENANCE_URI = "urn:sen2chain:provenance"
_OF_NO_ONE = ("ogc_fid", "rowid", "oid", "_rowid_")  # names with a meaning in GDAL and SQLite
_TYPES = {"date": "DATETIME", "fid": "INTEGER", "latest": "BOOLEAN"}
_SAMPLE = 1 << 16  # values of a legend's range
_LONGEST_GAP = 30  # days for which a value is shown at most
_USUAL_GAP = 5  # days between two acquisitions of a place
_MOST_COLUMNS = 1990  # SQLite's limit is 2,000; a view has a few of its own
_LARGEST_INTEGER = 2**63 - 1
_FAMILIES = {
    **dict.fromkeys((3, 6), ("Polygon", "fill")), **dict.fromkeys((1, 5), ("LineString", "line")),
    **dict.fromkeys((0, 4), ("Point", "marker")),
}  # fmt: skip
"""shapely's type id -> name of the single geometry, and QGIS's kind of symbol."""
_SINGLE = (0, 1, 3)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS gpkg_extensions (
    table_name TEXT, column_name TEXT, extension_name TEXT NOT NULL, definition TEXT NOT NULL, scope TEXT NOT NULL,
    CONSTRAINT ge_tce UNIQUE (table_name, column_name, extension_name));
CREATE TABLE gpkg_metadata (
    id INTEGER CONSTRAINT m_pk PRIMARY KEY ASC NOT NULL, md_scope TEXT NOT NULL DEFAULT 'dataset',
    md_standard_uri TEXT NOT NULL, mime_type TEXT NOT NULL DEFAULT 'text/xml', metadata TEXT NOT NULL DEFAULT '');
CREATE TABLE gpkg_metadata_reference (
    reference_scope TEXT NOT NULL, table_name TEXT, column_name TEXT, row_id_value INTEGER,
    timestamp DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')), md_file_id INTEGER NOT NULL,
    md_parent_id INTEGER, CONSTRAINT crmr_mfi_fk FOREIGN KEY (md_file_id) REFERENCES gpkg_metadata(id),
    CONSTRAINT crmr_mpi_fk FOREIGN KEY (md_parent_id) REFERENCES gpkg_metadata(id));
INSERT INTO gpkg_extensions VALUES
    ('gpkg_metadata', NULL, 'gpkg_metadata', 'http://www.geopackage.org/spec120/#extension_metadata', 'read-write'),
    ('gpkg_metadata_reference', NULL, 'gpkg_metadata', 'http://www.geopackage.org/spec120/#extension_metadata',
    'read-write');
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
    f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
    useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
    update_time DATETIME DEFAULT CURRENT_TIMESTAMP);
INSERT INTO gpkg_contents (table_name, data_type, identifier, description) VALUES
    ('layer_styles', 'attributes', 'layer_styles', 'Styles of QGIS');
"""
"""Tables beside those that GDAL makes; those of metadata are the standard's, ``layer_styles`` is QGIS's."""


@dataclass(slots=True)
class _Seen:
    """What is gathered of a series' rows while they are written."""

    rows: int = 0
    sample: list[np.ndarray] = field(default_factory=list)
    """Some of the means."""
    gaps: Counter[int] = field(default_factory=Counter)
    """Days between two dates of one feature -> how often."""

    def days_shown(self) -> int:
        """Return the usual number of days until the next date of a feature."""
        half = self.gaps.total() / 2
        for gap in sorted(self.gaps):
            half -= self.gaps[gap]
            if half <= 0:
                return min(_LONGEST_GAP, gap)
        return _USUAL_GAP


def write_geopackage(series: Sequence[IndexSeries], path: Path, provenance: Mapping[str, Any]) -> int:
    """Write a GeoPackage of one or several series of one layer, and the provenance as JSON beside it.

    Parameters
    ----------
    series
        The series, at least one, all of one layer and with the same columns.
    path
        The file; replaced as a whole where it exists.
    provenance
        See `sen2chain.provenance`. The file holds it too, without the list of products.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written, or a program has the file open; nothing under the final
        name has changed then.
    """
    check_not_open(path)
    features = series[0].features
    own = [name for name in series[0].schema.names if name not in features.attributes.columns]
    if len(series[0].schema) > _MOST_COLUMNS:
        raise OutputError(
            f"{path.name} would have {len(series[0].schema):,} columns, and a GeoPackage holds about 2,000; take a "
            "layer with fewer attributes, or another format."
        )
    columns = _Columns.of([name for name in own if name not in {"fid", "mask"}], features)
    views = _view_names(series)
    with replacing(path, beside(path, provenance)) as file:
        kind = _write_features(features, columns, file, path)
        file.flush()
        with _database(Path(file.name), path) as base:
            _note(base, provenance)
            seen = _write_rows(base, series, columns)
            for one, view, told in zip(series, views, seen, strict=True):
                _add_views(base, one, view, columns)
                _add_styles(base, one, view, told, kind=kind, label=columns.label(features))
            _add_style(base, _FEATURES, outline_style(MapStyle(kind, columns.label(features))))
    return sum(told.rows for told in seen)


def estimated_geopackage_size(series: Sequence[IndexSeries]) -> int:
    """Return the approximate size in bytes of the GeoPackage of some series."""
    features = series[0].features
    shapes = features.geometry
    geometry = 16 * int(shapely.get_num_coordinates(shapes).sum()) + 250 * len(shapes)
    attributes = int(features.attributes.memory_usage(deep=True, index=False).sum())
    numbers = sum(not pa.types.is_string(one.type) for one in series[0].schema) - len(features.attributes.columns)
    # Texts of a row: date, tile, file name; the keys of a row, and of its two indices.
    rows = sum(one.rows * (8 * numbers + 2 * len(one.index.name) + 2 * len(one.mask) + 175) for one in series)
    return geometry + attributes + rows


def check_not_open(path: Path) -> None:
    """Refuse to replace a GeoPackage that a program has open: SQLite would add its unsaved changes to the new file.

    Raises
    ------
    OutputError
        If it is open.
    """
    for end in ("-wal", "-journal"):
        if path.with_name(path.name + end).exists():
            raise OutputError(
                f"{path} is open in another program, as QGIS; close it there. If no program has it open, delete "
                f"{path.name}{end}, which a crash has left there."
            )


# ------------------------------------------------------------------------------------------------------------ columns


@dataclass(frozen=True, slots=True)
class _Columns:
    """Names of columns in the file, which SQLite tells apart without upper and lower case."""

    own: Mapping[str, str]
    """Column of results -> its name in ``rows``, without ``fid`` and ``mask``."""
    attributes: Mapping[str, str]
    """Attribute in results -> its name in ``features`` and in the views."""

    @classmethod
    def of(cls, own: Sequence[str], features: LayerFeatures) -> _Columns:
        taken = {_KEY, _GEOMETRY, _FEATURE, "index", "mask", "latest", *_OF_NO_ONE}
        names = {name: _unused(name, taken) for name in own}
        return cls(names, {name: _unused(name, taken) for name in features.attributes.columns})

    def label(self, features: LayerFeatures) -> str:
        """Return the column that names a feature on maps."""
        for name in (*features.name_fields, features.id_field):
            if name is not None:
                return self.attributes[name]
        return _FEATURE


def _unused(name: str, taken: set[str]) -> str:
    """Return a name that is not taken, with ``attr_`` before it as in CSV files; it is taken then."""
    while name.casefold() in taken:
        name = f"attr_{name}"
    taken.add(name.casefold())
    return name


def _view_names(series: Sequence[IndexSeries]) -> list[str]:
    several = len({one.mask for one in series}) > 1
    taken = {_FEATURES, _ROWS, "layer_styles"}
    found = []
    for one in series:
        name = plain = f"{one.index.name}_{one.mask}" if several else one.index.name
        count = 1
        while taken & {name.casefold(), f"{name}_latest".casefold()}:
            count += 1
            name = f"{plain}_{count}"
        taken |= {name.casefold(), f"{name}_latest".casefold()}
        found.append(name)
    return found


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# ----------------------------------------------------------------------------------------------------------- features


def _write_features(features: LayerFeatures, columns: _Columns, file: Any, path: Path) -> str:
    """Write the table of features to an open file; return QGIS's kind of symbol for them."""
    import geopandas  # noqa: PLC0415  # most runs need none

    table: dict[str, Any] = {_FEATURE: np.arange(len(features))}
    for name, column in features.attributes.items():
        table[columns.attributes[str(name)]] = _storable(column.reset_index(drop=True))
    shapes = features.geometry
    geometry_type, kind = _geometry_type(shapes)
    frame = geopandas.GeoDataFrame(pd.DataFrame(table), geometry=list(shapes), crs=features.crs)
    # In the folder of temporary files, since GDAL locks files and not every network disk can do that.
    try:
        with tempfile.TemporaryDirectory(prefix="sen2chain-") as folder:
            part = Path(folder) / "features.gpkg"
            _write_by_gdal(frame, part, geometry_type)
            with part.open("rb") as content, writing(path):
                shutil.copyfileobj(content, file, 1 << 20)
    except (OSError, RuntimeError, ValueError) as error:  # the last two are GDAL's, which say why
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise OutputError(
            f"The features of {path.name} cannot be written to the folder of temporary files, {_temporary()} "
            f"({reason}); set TMPDIR to a larger folder, or choose another format."
        ) from error
    return kind


def _temporary() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:  # there is none
        return os.environ.get("TMPDIR", "which is missing")


def _write_by_gdal(frame: gpd.GeoDataFrame, part: Path, geometry_type: str) -> None:
    pyogrio.write_dataframe(
        frame, part, layer=_FEATURES, driver="GPKG", geometry_type=geometry_type,
        promote_to_multi=geometry_type.startswith("Multi"),
        # Version 1.3, since older programs warn of 1.4.
        dataset_options={"VERSION": "1.3"},
        layer_options={
            "FID": _KEY, "GEOMETRY_NAME": _GEOMETRY, "IDENTIFIER": _FEATURES, "DESCRIPTION": "Features, each once",
        },
    )  # fmt: skip


def _geometry_type(shapes: np.ndarray) -> tuple[str, str]:
    """Return the type of a layer's geometries, and QGIS's kind of symbol.

    Polygons beside multipolygons become multipolygons; other mixtures are ``Unknown``, which all programs read.
    """
    kinds = Counter(shapely.get_type_id(shapes).tolist())
    kinds.pop(-1, None)  # null
    families = Counter[tuple[str, str]]()
    for kind, count in kinds.items():
        families[_FAMILIES.get(kind, ("", "fill"))] += count
    if not families:
        return "Unknown", "fill"
    (name, symbol), _ = families.most_common(1)[0]
    if len(families) > 1 or not name:
        return "Unknown", symbol
    return (name if all(kind in _SINGLE for kind in kinds) else f"Multi{name}"), symbol


def _storable(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return an attribute of a type that SQLite has: unsigned numbers beyond its largest become texts."""
    if not pd.api.types.is_unsigned_integer_dtype(column.dtype):
        return column
    known = column.dropna()
    if len(known) and int(known.max()) > _LARGEST_INTEGER:
        return pd.Series([None if pd.isna(value) else str(value) for value in column], dtype=object)
    return column.astype("Int64")


# --------------------------------------------------------------------------------------------------------------- rows


@contextlib.contextmanager
def _database(part: Path, path: Path) -> Iterator[sqlite3.Connection]:
    """Open the incomplete file of a GeoPackage without locks and without a journal, which a new file does not need."""
    try:
        base = sqlite3.connect(f"{part.absolute().as_uri()}?nolock=1", uri=True, isolation_level=None)
        with contextlib.closing(base):
            for setting in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-65536"):
                base.execute(f"PRAGMA {setting}")
            base.executescript(_SCHEMA)
            base.execute("BEGIN")
            yield base
            base.execute("COMMIT")
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
            raise OutputError(f"No room is left on the disk for {path}; free some or choose another folder.") from error
        raise OutputError(f"Cannot write {path} ({error}); choose another folder or another format.") from error


def _write_rows(base: sqlite3.Connection, series: Sequence[IndexSeries], columns: _Columns) -> list[_Seen]:
    """Write the table of rows; return what was seen of each series."""
    schema = series[0].schema
    declared = [f"{_KEY} INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL", f"{_FEATURE} INTEGER NOT NULL"]
    declared += ['"index" TEXT NOT NULL', "mask TEXT NOT NULL"]
    declared += [f"{_quoted(name)} {_sql_type(schema.field(of).type)}" for of, name in columns.own.items()]
    base.execute(f"CREATE TABLE {_ROWS} ({', '.join(declared)}, latest BOOLEAN NOT NULL)")
    base.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description) VALUES (?, 'attributes', ?, ?)",
        (_ROWS, _ROWS, "Statistics by feature and date, all indices and masks"),
    )
    seen = []
    for one in series:
        told = _Seen()
        places = ", ".join("?" * (len(columns.own) + 2))
        names = ", ".join([_FEATURE, *map(_quoted, columns.own.values()), "latest", '"index"', "mask"])
        constants = f"{_literal(one.index.name)}, {_literal(one.mask)}"
        insert = f"INSERT INTO {_ROWS} ({names}) VALUES ({places}, {constants})"  # noqa: S608  # names are quoted
        every = 0 if fixed_legend(one.index) else max(1, one.rows // _SAMPLE)
        for table in one.tables():
            latest = _latest(table)
            values = (_values(table.column("fid")), *(_values(table.column(name)) for name in columns.own), latest)
            base.executemany(insert, zip(*values, strict=True))
            _look(told, table, every)
        seen.append(told)
    base.execute(f"CREATE INDEX rows_of_feature ON {_ROWS} ({_FEATURE})")
    # With the feature, so that counting the rows of a view, or finding its first date, reads the index alone.
    date = _quoted(columns.own["date"])
    base.execute(f'CREATE INDEX rows_by_date ON {_ROWS} ("index", mask, {date}, {_FEATURE})')
    base.execute(f'CREATE INDEX latest_rows ON {_ROWS} ("index", mask) WHERE latest')
    base.execute(f"ANALYZE {_ROWS}")  # so that SQLite knows which of them finds fewer rows
    return seen


def _sql_type(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return "DATETIME"
    if pa.types.is_integer(kind):
        return "INTEGER"
    return "REAL" if pa.types.is_floating(kind) else "TEXT"


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Return a column's values as SQLite stores them; equal texts are one object."""
    if pa.types.is_string(column.type) or pa.types.is_timestamp(column.type):
        column = column.combine_chunks().dictionary_encode()
        coded = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        known = coded.dictionary
        if pa.types.is_timestamp(known.type):
            seconds = known.to_numpy(zero_copy_only=False).astype("datetime64[s]")
            texts: list[Any] = [f"{time}.000Z" for time in seconds.astype(str).tolist()]  # as the standard has it
        else:
            texts = known.to_pylist()
        texts.append(None)
        return [texts[code] for code in coded.indices.fill_null(-1).to_pylist()]
    # SQLite stores NaN as null.
    values: list[Any] = column.to_numpy().tolist()
    return values


def _latest(table: pa.Table) -> list[bool]:
    """Return for each row whether it is the last one with values of its feature; rows are by feature, then date."""
    fid = table.column("fid").to_numpy()
    latest = np.zeros(len(fid), dtype=bool)
    with_values = np.flatnonzero(table.column("count").to_numpy() > 0)
    own = fid[with_values]
    latest[with_values[np.append(own[1:] != own[:-1], True)[: len(own)]]] = True
    found: list[bool] = latest.tolist()
    return found


def _look(told: _Seen, table: pa.Table, every: int) -> None:
    told.rows += table.num_rows
    if every:
        told.sample.append(table.column("mean").to_numpy()[::every])
    fid = table.column("fid").to_numpy()
    days = table.column("date").to_numpy().astype("datetime64[D]").astype(np.int64)
    gaps = np.diff(days)[np.diff(fid) == 0]
    kept, counts = np.unique(gaps[gaps > 0], return_counts=True)
    for gap, count in zip(kept.tolist(), counts.tolist(), strict=True):
        told.gaps[gap] += count


# -------------------------------------------------------------------------------------------------------------- views


def _add_views(base: sqlite3.Connection, one: IndexSeries, name: str, columns: _Columns) -> None:
    """Add the view of a series and that of its latest rows, both registered as layers."""
    kept, id_field = columns.attributes, one.features.id_field
    first = [kept[id_field]] if id_field else []
    others = [attribute for attribute in kept.values() if attribute not in first]
    picked = [
        f"r.{_KEY} AS {_KEY}", f"f.{_GEOMETRY} AS {_GEOMETRY}", f"r.{_FEATURE} AS {_FEATURE}",
        *(f"f.{_quoted(attribute)} AS {_quoted(attribute)}" for attribute in first),
        *(f"r.{_quoted(column)} AS {_quoted(column)}" for column in columns.own.values()),
        *(f"f.{_quoted(attribute)} AS {_quoted(attribute)}" for attribute in others),
    ]  # fmt: skip
    scale = "index units" if one.scale == 1 else f"values times {one.scale:g}"
    for view, also, what in (
        (name, "", "every date"),
        (f"{name}_latest", "r.latest AND ", "the latest date with values of each feature"),
    ):
        where = f'{also}r."index" = {_literal(one.index.name)} AND r.mask = {_literal(one.mask)}'
        base.execute(
            f"CREATE VIEW {_quoted(view)} AS SELECT {', '.join(picked)} "  # noqa: S608  # names are quoted
            # A left join, so that SQLite begins with the rows, of which it has an index by date.
            f"FROM {_ROWS} AS r LEFT JOIN {_FEATURES} AS f ON f.{_KEY} = r.{_FEATURE} + 1 WHERE {where}"
        )
        base.execute(
            "INSERT INTO gpkg_contents "
            "(table_name, data_type, identifier, description, min_x, min_y, max_x, max_y, srs_id) "
            "SELECT ?, 'features', ?, ?, min_x, min_y, max_x, max_y, srs_id FROM gpkg_contents WHERE table_name = ?",
            (view, view, f"{one.index.name} under {one.mask}, {what}, {scale}", _FEATURES),
        )
        base.execute(
            "INSERT INTO gpkg_geometry_columns SELECT ?, column_name, geometry_type_name, srs_id, z, m "
            "FROM gpkg_geometry_columns WHERE table_name = ?",
            (view, _FEATURES),
        )


def _add_styles(base: sqlite3.Connection, one: IndexSeries, view: str, seen: _Seen, *, kind: str, label: str) -> None:
    """Add the styles of a series' two views."""
    sample = np.concatenate(seen.sample) / one.scale if seen.sample else None
    legend = legend_of(one.index, sample)
    style = MapStyle(kind, label)
    for name, dates in ((view, ("date", seen.days_shown())), (f"{view}_latest", None)):
        _add_style(base, name, value_style(style, legend, scale=one.scale, column="mean", dates=dates))


def _add_style(base: sqlite3.Connection, table: str, style: str) -> None:
    base.execute(
        "INSERT INTO layer_styles "
        "(f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, styleQML, styleSLD, "
        " useAsDefault, description, owner, update_time) "
        "VALUES ('', '', ?, ?, 'sen2chain', ?, '', 1, '', '', strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))",
        (table, _GEOMETRY, style),
    )


# --------------------------------------------------------------------------------------------------------- provenance


def _note(base: sqlite3.Connection, provenance: Mapping[str, Any]) -> None:
    """Keep the provenance in the standard's table of metadata, without the products, which may be thousands."""
    short = {name: value for name, value in provenance.items() if name != "products"}
    base.execute(
        "INSERT INTO gpkg_metadata VALUES (1, 'dataset', ?, 'application/json', ?)", (_PROVENANCE_URI, to_json(short))
    )
    base.execute(
        "INSERT INTO gpkg_metadata_reference (reference_scope, table_name, md_file_id) VALUES ('table', ?, 1)", (_ROWS,)
    )


def _asked(path: Path, query: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
    """Return the result of a query on an existing file; an empty list where it is not a GeoPackage of ours."""
    try:
        # Read as it is, without locks and without the changes of a program that has it open.
        base = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        with contextlib.closing(base):
            return base.execute(query, tuple(values)).fetchall()
    except sqlite3.Error:
        return []


def geopackage_provenance(path: Path) -> bytes | None:
    """Return the provenance that a GeoPackage holds, as JSON; None where it holds none."""
    found = _asked(path, "SELECT metadata FROM gpkg_metadata WHERE md_standard_uri = ?", [_PROVENANCE_URI])
    return str(found[0][0]).encode() if found else None


def geopackage_columns(path: Path) -> list[str]:
    """Return the columns of a GeoPackage's table of rows; an empty list where it has none."""
    return [str(name) for (name,) in _asked(path, "SELECT name FROM pragma_table_info(?)", [_ROWS])]


def geopackage_has_rows(path: Path) -> bool:
    """Tell whether a GeoPackage is there and its table of rows has one."""
    return bool(_asked(path, f"SELECT 1 FROM {_ROWS} LIMIT 1"))  # noqa: S608  # a constant
