"""`TimeSeries`: statistics of a layer's polygons by date, extracted at once.

The constructor prepares: it checks every parameter, reads the layer and finds the products. The first output runs.
"""

from __future__ import annotations

import functools
import itertools
import os
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sen2chain import export
from sen2chain.atomic import NAME_MAX, check_folder
from sen2chain.errors import EmptyResultError, OutputError, RequestError, choice, truth
from sen2chain.files import absolute, is_folder
from sen2chain.jit import unsaved
from sen2chain.parallel import closed, workers
from sen2chain.progress import activity
from sen2chain.provenance import PlannedTable, check_outside_tables, check_results, conditions, empty_tables, has_rows
from sen2chain.select import select
from sen2chain.spool import Spool
from sen2chain.suggestions import suggest_keywords
from sen2chain.timeseries.estimate import estimate
from sen2chain.timeseries.series_gis import SeriesGis
from sen2chain.timeseries.series_page import SeriesPage
from sen2chain.timeseries.series_pixels import SeriesPixels
from sen2chain.timeseries.series_plots import SeriesPlots
from sen2chain.timeseries.series_quicklooks import SeriesQuicklooks
from sen2chain.timeseries.series_tables import SeriesTables

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import geopandas as gpd
    import xarray as xr

    from sen2chain.archive import StacCatalogue
    from sen2chain.extract.extraction import TaskResult
    from sen2chain.indices import Index
    from sen2chain.masks import Mask
    from sen2chain.products import Source
    from sen2chain.report import Report
    from sen2chain.rows import Batch
    from sen2chain.spool import RowFormat
    from sen2chain.timeseries.estimate import Estimate


_OF_FILES = {
    ".csv", ".parquet", ".geoparquet", ".tsv", ".txt", ".json", ".geojson", ".xlsx", ".xls", ".ods", ".gpkg", ".shp",
    ".nc", ".feather", ".zip", ".gz",
}  # fmt: skip
"""Suffixes that people give to a file of results; a folder's name may hold any other dot."""


_SUFFIXES = {"csv": ".csv", "parquet": ".parquet", "excel": "_excel.csv", "excel_semicolon": "_excel.csv"}
"""Kind of result -> what comes after the stem of its files."""


class TimeSeries(SeriesGis, SeriesPage, SeriesPixels, SeriesPlots, SeriesQuicklooks, SeriesTables):
    """Statistics of masked radiometric indices per polygon and date.

    Nothing is read from rasters until the first output (or `run`) asks for it.

    Parameters
    ----------
    vectors_file
        Polygon layer: a file (GeoPackage, shapefile, GeoJSON, GeoParquet, ...), a GeoDataFrame, or a GeoSeries; in any
        CRS.
    indices
        Names of the twelve indices, or `Index` values; None means the twelve.
    date_min, date_max
        First and last sensing date, inclusive, as ``YYYY-MM-DD`` or dates; None is open.
    cover_min, cover_max
        Limits of the products' cloud cover in percent; products without a figure are kept.
    field_names
        An attribute of the layer that names features in plots.
    multiproc
        Number of threads, or of worker processes with ``executor="dask"``: 0 uses all processors (or as many threads as
        suit the source). Results do not depend on it.
    getstat
        False only prepares; the run then has to be asked for by `run`.
    cm_version, probability, iterations, cld_shad, cld_med_prob, cld_hi_prob, thin_cir
        The cloud mask, see `sen2chain.Mask.from_keywords`.
    reproject
        Kept for older scripts. Layers are always brought into the CRS of each tile.
    masks
        Several cloud masks in one run, by full or short name, in any case; the keywords above complete CM003 and CM004.
        Results then have a ``mask`` column. ``none`` masks nothing.
    library
        Folder of a Sen2Chain library; by default ``$SEN2CHAIN_HOMEPATH/sen2chain_data`` or ``~/sen2chain_data``. Or an
        object with the methods of `sen2chain.products.Source`, as `sen2chain.archive.MemorySource`.
    safe
        A folder of SAFE products, also zipped, instead of a library.
    stac
        A STAC catalogue, instead of a library: the address of an API or of a static catalogue, or a file of items
        (``.json``, ``.parquet``). Or a `sen2chain.archive.StacCatalogue`, which also takes asset names and hosts. Needs
        the extra ``sen2chain[stac]``.
    collection
        Name of the collection of `stac`; by default the one that the catalogue is known for.
    pixels_from
        Folder of a layer whose pixels were kept (`TimeSeriesCompil` with ``keep_pixels``), or an extraction folder with
        one such folder, or with one of this layer and buffer. Kept pixels are read wherever they hold what is asked
        for, and the archive for the rest; rows are the same. The layer may be another one, as a part of that layer, if
        its pixels are among those that are kept. Without an archive, kept pixels alone serve, and `notes` says so.
    layer
        Name of the layer where the file has several.
    name
        Stem of result files for a GeoDataFrame.
    id_field
        The attribute that is your own key of features. It stands right after ``fid`` in every result, and names
        features in pictures. A note says when it is not unique.
    encoding
        Encoding of the file's texts, as ``cp1252``; by default what the file says, or else what fits (a note says so).
    crs
        CRS of a layer that has none, or only a local one, as ``EPSG:32632``.
    buffer
        Metres, in the tile's CRS, by which features grow (or shrink, if negative) first.
    pixels
        ``center``: pixels whose centre is inside; ``all_touched``; ``weighted``: area fractions.
    stats
        Statistics besides the documented columns: ``sum variance range cv mad percentile_<p> majority minority
        variety histogram scl_fractions``.
    min_valid
        Rows with a smaller share of valid pixels are left out.
    units
        ``scaled``: values times 10000, as the columns have always been; ``index``: 0.72.
    keep_empty
        Write rows for features without valid pixels too, with the reason as a column.
    prefer
        ``stored`` takes stored index rasters before bands, ``masked`` stored masked rasters before all.
    verify
        ``first``: before a product is extracted, each file that is read of it is compared with the checksum in the
        product's ``manifest.safe``; a damaged one makes the product unreadable. ``never``: it is not.
    executor
        Who does the work: ``threads`` (the default), ``serial``, ``dask`` (worker processes on this machine, or those
        of `scheduler`), or a `distributed.Client`. Results do not depend on it.
    scheduler
        Address of a Dask scheduler, as in ``tcp://10.0.0.1:8786``.
    quiet
        Show no progress; it is shown on a terminal only anyway.

    Raises
    ------
    RequestError
        If a parameter cannot be used; the message lists what is allowed. With `stac`, also if no product of the
        catalogue has what a cloud mask is computed from; the message names masks that work.
    LayerError
        If the layer cannot be used.
    LibraryError
        If there is no archive, or the catalogue cannot be read.

    Examples
    --------
    >>> ts = TimeSeries("parcels.shp", indices=["NDVI"], cm_version="CM004", iterations=1)  # doctest: +SKIP
    >>> ts.to_csv("out")  # doctest: +SKIP
    """

    @suggest_keywords
    def __init__(
        self,
        vectors_file: str | Path | gpd.GeoDataFrame | gpd.GeoSeries,
        indices: Sequence[str | Index] | str | Index | None = None,
        date_min: dt.date | str | None = None,
        date_max: dt.date | str | None = None,
        cover_min: float = 0,
        cover_max: float = 100,
        field_names: str | Sequence[str] | None = None,
        multiproc: int = 0,
        getstat: bool = True,  # noqa: FBT001, FBT002  # the documented interface
        cm_version: str = "CM001",
        probability: int = 1,
        iterations: int = 5,
        cld_shad: bool = True,  # noqa: FBT001, FBT002
        cld_med_prob: bool = True,  # noqa: FBT001, FBT002
        cld_hi_prob: bool = True,  # noqa: FBT001, FBT002
        thin_cir: bool = True,  # noqa: FBT001, FBT002
        reproject: bool = True,  # noqa: FBT001, FBT002
        *,
        masks: Iterable[str | Mask] | str | Mask | None = None,
        library: str | Path | Source | None = None,
        safe: str | Path | None = None,
        stac: str | Path | StacCatalogue | None = None,
        collection: str | None = None,
        pixels_from: str | Path | None = None,
        layer: str | None = None,
        name: str | None = None,
        id_field: str | None = None,
        encoding: str | None = None,
        crs: Any = None,
        buffer: float | None = None,
        pixels: str = "center",
        stats: Iterable[str] | str | None = None,
        min_valid: float = 0.0,
        units: str = "scaled",
        keep_empty: bool = False,
        prefer: str | None = None,
        verify: str = "never",
        executor: Any = None,
        scheduler: str | None = None,
        quiet: bool = False,
    ) -> None:
        super().__init__(locals())
        self.source: Source = self._engine.source
        self.plan = self._engine.plan
        self._wants_stats = truth("getstat", getstat)
        self._spool: Spool | None = None

    def estimate(self) -> Estimate:
        """Estimate what `run` would be: acquisitions, what serves them, time and size; no pixel is read.

        Returns
        -------
        Estimate
            Its text is a sentence.
        """
        return estimate(self._engine, getattr(self._engine.executor, "count", 0) or workers())

    def run(self) -> TimeSeries:
        """Extract. A second call does nothing.

        Where there is no row, a warning of the logger ``sen2chain.results`` says why.

        Raises
        ------
        OutputError
            If rows do not fit on the disk.
        ExecutorError
            If the cluster cannot be used.
        """
        if self._report is not None:
            return self
        engine = self._engine
        report, before = engine.first_report(), engine.notes_on_kept_pixels
        report.notes += engine.unverified(self.plan.tasks)
        spool = Spool(self._row_format())
        # Only products of one sensing time compete for a row, so rows are final as soon as that time is over.
        with closed(engine.run(self.plan.tasks)) as results:
            for _, together in itertools.groupby(results, key=lambda result: result.task.product.sensing):
                for batches in _by_output(together):
                    for batch in select(batches):
                        engine.note_rows_left_out(batch)
                        report.add(batch)
                        spool.add(batch)
        engine.renew_notes(report, before)
        report.notes += unsaved()
        self._report, self._spool = report, spool
        engine.warn_of_nothing(report)
        return self

    def _row_format(self) -> RowFormat:
        return self._engine.row_format(with_mask=len(self.request.masks) > 1, with_reason=self.request.keep_empty)

    def _finished(self) -> tuple[Report, Spool]:
        if self._report is None and not self._wants_stats:
            raise RequestError("Nothing has been extracted, as getstat=False says; call run() first.")
        self.run()
        assert self._report is not None  # noqa: S101  # run made both
        assert self._spool is not None  # noqa: S101
        return self._report, self._spool

    def _reported(self) -> Report:
        return self._finished()[0]

    def _rows_of(self, index: str, mask: str) -> Spool:  # noqa: ARG002  # one spool has the rows of all
        return self._finished()[1]

    def _results_folder(self, out_path: str | Path | None, index: str | None = None, mask: str | None = None) -> Path:  # noqa: ARG002
        if out_path is None:
            raise OutputError("Results of a TimeSeries have no folder of their own; pass out_path.")
        return self._folder(out_path)

    @property
    def notes(self) -> list[str]:
        """Sentences on the layer, the archive and the results as a whole: repaired features, products left out."""
        return [*self._reported().notes, *dict.fromkeys(self._remarks)]

    @suggest_keywords
    def to_csv(self, out_path: str | Path, *, dialect: str = "plain", overwrite: bool = False) -> list[Path]:
        """Write one CSV file per index (and mask) to ``<out_path>/<stem>/``, each with a JSON beside it.

        A file that is there is replaced where it was made in the same way: of the same layer, with the same mask and
        the same other parameters. `notes` then says so.

        Parameters
        ----------
        out_path
            Folder; it is made where it does not exist.
        dialect
            ``plain``, or for Excel (``..._excel.csv``, UTF-8 with a byte order mark): ``excel`` with commas between
            columns, ``excel-semicolon`` with semicolons and decimal commas. In those, texts that Excel would take for
            formulas begin with an apostrophe.
        overwrite
            Replace files that were made in another way too.

        Returns
        -------
        list
            The files. An index without any row gets a file that holds the header alone, `notes` name it, and the report
            says why.

        Raises
        ------
        OutputError
            If the folder cannot be written, or a file that was made in another way is there, before any work starts;
            or if the disk is full.
        EmptyResultError
            If a file with rows is there and this run gave none; all other files are written.
        """
        choice("dialect", dialect, export.DIALECTS)
        return self._write(out_path, ".csv" if dialect == "plain" else "_excel.csv", dialect, overwrite=overwrite)

    @suggest_keywords
    def to_parquet(self, out_path: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write Parquet files, as `to_csv` does."""
        return self._write(out_path, ".parquet", overwrite=overwrite)

    def _planned_results(self, out_path: str | Path | None, kind: str) -> list[PlannedTable]:
        suffix = _SUFFIXES.get(kind)
        if suffix is None:
            return super()._planned_results(out_path, kind)
        return self._planned(self._results_folder(out_path), suffix)

    def _write(self, out_path: str | Path, suffix: str, dialect: str = "plain", *, overwrite: bool) -> list[Path]:
        folder = self.check_folder(out_path)
        planned = self._planned(folder, suffix)
        if not overwrite:
            self._remarks += check_results(planned).sentences()
        spool = self._finished()[1]
        write = functools.partial(export.write_csv, dialect=export.DIALECTS[dialect])
        if suffix == ".parquet":
            write = export.write_parquet  # type: ignore[assignment]  # called in the same way
        files, kept, empty = [], [], []
        for (index, mask), table in zip(self._engine.outputs, planned, strict=True):
            path = table.path
            if not (overwrite or spool.rows(index, mask)) and has_rows(path):
                kept.append(path)
                continue
            with activity(f"writing {path.name}", quiet=self._quiet):
                write(spool.tables(index, mask), path, self.provenance(index, mask), spool.schema)
            files.append(path)
            if not spool.rows(index, mask):
                empty.append(path)
        self._remarks += empty_tables(empty)
        if kept:
            more = f" (and {len(kept) - 1} more)" if len(kept) > 1 else ""
            raise EmptyResultError(
                f"{kept[0]}{more} has rows and is kept, since this run gave none; "
                "overwrite=True (--overwrite) replaces it.",
                files,
            )
        return files

    def _planned(self, folder: Path, suffix: str) -> list[PlannedTable]:
        """Return the tables of a format, one for each of the engine's outputs."""
        return [
            PlannedTable(
                folder / f"{self._results_stem(index, mask)}{suffix}",
                conditions(self.request, self._engine.layer, index=index, mask=mask),
                # A file for Excel may have other separators.
                None if suffix == "_excel.csv" else lambda: self._row_format().schema.names,
            )
            for index, mask in self._engine.outputs
        ]

    def check_folder(self, out_path: str | Path) -> Path:
        """Make the folder that results go to, and prove that it can be written.

        Raises
        ------
        OutputError
            If it cannot.
        """
        return check_folder(self._folder(out_path))

    def _folder(self, out_path: str | Path) -> Path:
        if isinstance(out_path, str) and not out_path:
            raise OutputError("The folder for the results is empty; name one.")
        folder = absolute(out_path)
        check_outside_tables(folder)
        if folder.suffix.lower() in _OF_FILES and not is_folder(folder):
            raise OutputError(
                f"{out_path} looks like the name of a file, and results are files in a folder; name the folder, as "
                f"{folder.stem}."
            )
        stems = (self._results_stem(*output) for output in self._engine.outputs)
        longest = max(stems, key=lambda stem: len(os.fsencode(stem)))
        over = len(os.fsencode(f"{longest}.parquet")) - NAME_MAX
        if over > 0:
            raise RequestError(
                f"The names of results, as {longest[:60]}..., are too long for a file by {over} bytes; pass a shorter "
                "name=, or rename the layer's file."
            )
        return folder / self._engine.layer.name

    @suggest_keywords
    def to_xarray(self, *, complete: bool = False) -> xr.Dataset:
        """Return the statistics as fid x date, with the layer's attributes and geometry (WKT) as coordinates.

        Where a run has several indices or masks, they are leading dimensions. Units and definitions are attributes, as
        the CF conventions 1.11 say; the dataset's methods `to_netcdf` and `to_zarr` write it as it is.

        Parameters
        ----------
        complete
            Include the dates of all acquisitions of the run, also those without any row.

        Raises
        ------
        RequestError
            If the cube would take more than half of the memory.
        """
        report, spool = self._finished()
        outputs = self._engine.outputs
        every = {date for date in report.dates if date is not None} if truth("complete", complete) else set()
        columns = pa.schema([field for field in spool.layout.own if field.name != "mask"])
        export.check_cube(
            features=len(self._engine.layer),
            steps=len(every.union(*(spool.dates(*key) for key in outputs))),
            outputs=len(outputs),
            columns=len(columns) - len(("date", "fid")),
            instead="to_parquet",
        )
        frames = {
            key: export.to_frame([table.select(columns.names) for table in spool.tables(*key)], columns)
            for key in outputs
        }
        return export.to_dataset(
            frames,
            geometry=self._engine.layer.geometry,
            crs=self._engine.layer.crs,
            attributes=self._engine.attributes,
            definitions=self._engine.definitions,
            provenance=self.provenance(),
            steps=every,
        )

    def _facts(self) -> list[tuple[str, object]]:
        return [("Acquisitions", len(self.plan.tasks))]

    def _next_step(self) -> str:
        index = self.request.indices[0].name
        if self._report is None:
            return f'ts.run(), or at once ts.data["{index}"] or ts.to_csv("out")'
        return f'ts.data["{index}"], ts.report, ts.to_csv("out")'

    def __repr__(self) -> str:
        state = f"{self._report.rows} rows" if self._report is not None else "not run"
        return f"TimeSeries({self._in_words()}; {len(self.plan.tasks)} acquisitions; {state})"


def _by_output(results: Iterable[TaskResult]) -> list[list[Batch]]:
    """Return the batches grouped by index and mask."""
    found: dict[tuple[str, str], list[Batch]] = {}
    for result in results:
        for batch in result.batches:
            found.setdefault((batch.index, batch.mask), []).append(batch)
    return list(found.values())
