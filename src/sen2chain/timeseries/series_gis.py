"""Results for GIS programs: GeoPackage and GeoParquet."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from sen2chain.atomic import NAME_MAX, check_folder
from sen2chain.errors import EmptyResultError, OutputError, RequestError
from sen2chain.export import (
    GEOPACKAGE_KEY,
    check_not_open,
    estimated_geopackage_size,
    estimated_geoparquet_size,
    write_geopackage,
    write_geoparquet,
)
from sen2chain.progress import activity, sized
from sen2chain.provenance import PlannedTable, check_results, conditions, has_rows, shared_note
from sen2chain.suggestions import suggest_keywords
from sen2chain.timeseries.layer_series import LayerSeries

if TYPE_CHECKING:
    from pathlib import Path

_GPKG, _GEOPARQUET = "gpkg", "geoparquet"
_SPARE = 1 << 20  # bytes that a file takes at least, and that stay free on a disk


class SeriesGis(LayerSeries):
    """The outputs for GIS programs."""

    @suggest_keywords
    def to_geopackage(self, out_path: str | Path | None = None, *, overwrite: bool = False) -> Path:
        """Write one GeoPackage of all indices and masks, ``<stem>_<date_min>_<date_max>.gpkg``, with a JSON beside it.

        It has the features once (``features``), the rows once (``rows``), and two views per index that QGIS opens as
        layers: ``<INDEX>`` with all dates, coloured and ready for the temporal controller, and ``<INDEX>_latest`` with
        the latest date of each feature. With several masks, ``_<MASK>`` follows the index. The column ``feature`` is
        the ``fid`` of the CSV files.

        Parameters
        ----------
        out_path
            Folder; the file goes to ``<out_path>/<stem>/``. None is the folder of the layer, which only
            `TimeSeriesCompil` has.
        overwrite
            Replace a file that was made in another way too.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        OutputError
            If the folder cannot be written, or a file that was made in another way is there, before any work starts;
            if a program has the file open; or if the disk has not enough room, before anything is written.
        EmptyResultError
            If a file with rows is there and this run gave none.
        """
        check_folder(self._results_folder(out_path))
        (planned,) = self._planned_results(out_path, _GPKG)
        if not overwrite:
            self._remarks += check_results([planned]).sentences()
        series = self._shown()
        if not overwrite and not any(one.rows for one in series):
            _keep_rows(planned.path)
        note = _room(planned.path, estimated_geopackage_size(series))
        with activity(f"writing {planned.path.name} ({note})", quiet=self._quiet):
            write_geopackage(series, planned.path, shared_note(planned.path, self.provenance())[0])
        return planned.path

    @suggest_keywords
    def to_geoparquet(self, out_path: str | Path | None = None, *, overwrite: bool = False) -> list[Path]:
        """Write one GeoParquet 1.1 file per index (and mask), each row with the geometry of its feature.

        Files are called as those of `TimeSeries.to_parquet`, with ``_geo.parquet`` at the end, so that either format
        keeps its own files and GIS programs still know the suffix.

        Parameters
        ----------
        out_path
            Folder; files go to ``<out_path>/<stem>/``. None is the folder of the compiled CSV files, which only
            `TimeSeriesCompil` has.
        overwrite
            Replace files that were made in another way too.

        Returns
        -------
        list
            The files. An index without any row gets a file without rows, and the report says why.

        Raises
        ------
        OutputError
            As for `to_geopackage`.
        EmptyResultError
            If a file with rows is there and this run gave none; all other files are written.
        """
        planned = self._planned_results(out_path, _GEOPARQUET)
        if out_path is not None:
            check_folder(planned[0].path.parent)
        if not overwrite:
            self._remarks += check_results(planned).sentences()
        files: list[Path] = []
        kept: EmptyResultError | None = None
        paths = {output: table.path for output, table in zip(self._engine.outputs, planned, strict=True)}
        for one in self._shown():
            path = paths[one.index.name, one.mask]
            if not overwrite and not one.rows:
                try:
                    _keep_rows(path)
                except EmptyResultError as error:
                    kept = kept or error
                    continue
            note = _room(check_folder(path.parent) / path.name, estimated_geoparquet_size(one))
            with activity(f"writing {path.name} ({note})", quiet=self._quiet):
                write_geoparquet(one, path, self.provenance(one.index.name, one.mask))
            files.append(path)
        if kept:
            raise EmptyResultError(str(kept), files)
        return files

    def _planned_results(self, out_path: str | Path | None, kind: str) -> list[PlannedTable]:
        if kind == _GPKG:
            path = self._results_folder(out_path) / f"{self._results_stem()}.gpkg"
            check_not_open(path)
            return [
                PlannedTable(_fitting(path), conditions(self.request, self._engine.layer), lambda: [GEOPACKAGE_KEY])
            ]
        if kind != _GEOPARQUET:
            return super()._planned_results(out_path, kind)
        return [
            PlannedTable(
                _fitting(
                    self._results_folder(out_path, index, mask) / f"{self._results_stem(index, mask)}_geo.parquet"
                ),
                conditions(self.request, self._engine.layer, index=index, mask=mask),
                lambda: ["date"],  # every file of ours says in itself how it was made; others are not replaced
            )
            for index, mask in self._engine.outputs
        ]


def _fitting(path: Path) -> Path:
    """Return a path whose name is short enough for a file.

    Raises
    ------
    RequestError
        If it is too long.
    """
    over = len(os.fsencode(path.name)) - NAME_MAX
    if over > 0:
        raise RequestError(
            f"The name {path.name[:60]}... is too long for a file by {over} bytes; pass a shorter name=, or rename the "
            "layer's file."
        )
    return path


def _keep_rows(path: Path) -> None:
    """Refuse to replace rows by none.

    Raises
    ------
    EmptyResultError
        If there are rows.
    """
    if has_rows(path):
        raise EmptyResultError(
            f"{path} has rows and is kept, since this run gave none; overwrite=True (--overwrite) replaces it.", []
        )


def _room(path: Path, size: int) -> str:
    """Return a file's size in words.

    Raises
    ------
    OutputError
        If the disk has not enough room for it.
    """
    free = shutil.disk_usage(path.parent).free
    if 1.1 * size + _SPARE > free:  # an estimate
        raise OutputError(
            f"{path.name} takes about {sized(size)} and leaves {sized(_SPARE)} free, and {path.parent} has room for "
            f"{sized(free)}; choose another folder, or ask for fewer dates, indices or masks."
        )
    return f"about {sized(size)}"
