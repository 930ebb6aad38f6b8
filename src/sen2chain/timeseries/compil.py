"""`TimeSeriesCompil`: one folder per layer that grows with the archive, and tables compiled from its rows."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, get_args

from sen2chain import periods, settings
from sen2chain.errors import RequestError, choice, truth
from sen2chain.files import absolute
from sen2chain.plan import parse_date
from sen2chain.products import Source
from sen2chain.progress import empty_results, say
from sen2chain.provenance import check_outside_tables
from sen2chain.store import PixelFolder, State
from sen2chain.store.images import RawFormat
from sen2chain.suggestions import suggest_keywords
from sen2chain.timeseries.compilation import Compilation, Compiled, CompileRequest
from sen2chain.timeseries.folder_update import Extracted, FolderUpdate, folder_report, look
from sen2chain.timeseries.layer_folder import LayerFolder
from sen2chain.timeseries.series_gis import SeriesGis
from sen2chain.timeseries.series_page import SeriesPage
from sen2chain.timeseries.series_pixels import SeriesPixels
from sen2chain.timeseries.series_plots import SeriesPlots
from sen2chain.timeseries.series_quicklooks import SeriesQuicklooks
from sen2chain.timeseries.series_tables import SeriesTables
from sen2chain.timeseries.smoothed_files import smoothed_names

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import geopandas as gpd
    import xarray as xr

    from sen2chain.archive import StacCatalogue
    from sen2chain.indices import Index
    from sen2chain.masks import Mask
    from sen2chain.plan import ExtractionPlan
    from sen2chain.report import Report
    from sen2chain.spool import Spool
    from sen2chain.store import DroppedPixels


class TimeSeriesCompil(SeriesGis, SeriesPage, SeriesPixels, SeriesPlots, SeriesQuicklooks, SeriesTables):
    """Statistics per polygon and date that are extracted once, continued when the archive grows, and compiled as asked.

    Parameters
    ----------
    vectors_file
        Polygon layer: a file (GeoPackage, shapefile, GeoJSON, GeoParquet, ...), a GeoDataFrame, or a GeoSeries; in any
        CRS.
    indices
        Names of the twelve indices, or `Index` values; None means the twelve, and when compiling those of them that
        were extracted.
    date_min, date_max
        First and last sensing date to extract, inclusive, as ``YYYY-MM-DD`` or dates; None is open.
    cover_min, cover_max
        Limits of the products' cloud cover in percent, when extracting and when compiling; products without a figure
        are kept.
    field_names
        An attribute of the layer that names features in plots.
    multiproc
        Number of threads, or of worker processes with ``executor="dask"``: 0 uses all processors. Results do not depend
        on it.
    cm_version, probability, iterations, cld_shad, cld_med_prob, cld_hi_prob, thin_cir
        The cloud mask, see `sen2chain.Mask.from_keywords`.
    masks, library, safe, stac, collection, layer, name, id_field, encoding, crs, buffer, pixels, stats, min_valid,
    prefer, verify, executor, scheduler, quiet
        As for `TimeSeries`. Other `buffer`, `pixels`, `stats` and `min_valid` have a folder of their own, whose name
        says so.
    pixels_from
        As for `TimeSeries`; it may be the folder of this layer itself.
    extraction
        Folder of all layers' folders; by default that of the library, or of the user's home (also for a catalogue and
        for a source that is an object).
    raw_format
        Of new files of rows: ``parquet``, or ``csv`` for the documented one. Both are read.
    keep_pixels
        Keep the digital numbers under the features in the folder, so that later questions need not read the archive
        again: True for the bands that are decoded anyway, where masks leave anything of a feature; or names of bands,
        as ``["B02", "B03", "B04", "B08"]``, for these under all features. SCL and CLDPRB are kept with them.
        With `verify`, kept files that are damaged are made again.
    keep_margin
        Metres around the features in which SCL and CLDPRB are kept, so that cloud masks can be dilated; None is 300.
        With `keep_pixels` only.
    wait
        Seconds to wait for another run on the same folder; None is as long as it takes.

    Raises
    ------
    RequestError
        If a parameter cannot be used; the message lists what is allowed.
    LayerError
        If the layer cannot be used.
    LibraryError
        If the extraction folder is to be that of `library`, and that is not a library. The archive itself is looked at
        only to extract.

    Examples
    --------
    >>> ts = TimeSeriesCompil("parcels.shp", indices=["NDVI"], cm_version="CM004")  # doctest: +SKIP
    >>> ts.extract_data()  # doctest: +SKIP
    >>> ts.compile_data(alldata=True, monthly=True)  # doctest: +SKIP
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
        cm_version: str = "CM004",
        probability: int = 1,
        iterations: int = 1,
        cld_shad: bool = True,  # noqa: FBT001, FBT002  # the documented interface
        cld_med_prob: bool = True,  # noqa: FBT001, FBT002
        cld_hi_prob: bool = True,  # noqa: FBT001, FBT002
        thin_cir: bool = True,  # noqa: FBT001, FBT002
        *,
        masks: Iterable[str | Mask] | str | Mask | None = None,
        library: str | Path | Source | None = None,
        safe: str | Path | None = None,
        stac: str | Path | StacCatalogue | None = None,
        collection: str | None = None,
        pixels_from: str | Path | None = None,
        extraction: str | Path | None = None,
        layer: str | None = None,
        name: str | None = None,
        id_field: str | None = None,
        encoding: str | None = None,
        crs: Any = None,
        buffer: float | None = None,
        pixels: str = "center",
        stats: Iterable[str] | str | None = None,
        min_valid: float = 0.0,
        prefer: str | None = None,
        verify: str = "never",
        raw_format: RawFormat = "parquet",
        keep_pixels: bool | str | Iterable[str] = False,
        keep_margin: float | None = None,
        executor: Any = None,
        scheduler: str | None = None,
        wait: float | None = None,
        quiet: bool = False,
    ) -> None:
        choice("raw format", raw_format, get_args(RawFormat))
        super().__init__(locals())
        self._raw_format = raw_format
        if extraction is None or (isinstance(extraction, str) and not extraction):
            extraction = settings.paths(None if isinstance(library, Source) else library).extraction
        self._folder = LayerFolder(absolute(extraction), self._engine, wait)
        self._spools: dict[tuple[str, str], Spool] = {}

    @property
    def folder(self) -> Path:
        """The layer's folder; the first extraction makes it."""
        return self._folder.folder.root

    @property
    def plan(self) -> ExtractionPlan:
        """All requested acquisitions.

        Raises
        ------
        LibraryError
            If there is no archive.
        """
        return self._engine.plan

    @property
    def has_products(self) -> bool:
        """Whether the archive has any product near the layer; False where its disk is not mounted, for example.

        A catalogue that has none in these dates has answered, which is no fault of it: this is True then.

        Raises
        ------
        LibraryError
            If there is no archive.
        """
        return bool(self.plan.tiles) or self._engine.has_catalogue

    @suggest_keywords
    def extract_data(self, getstat: bool = True, force: bool = False, *, redo_old: bool = False) -> Extracted:  # noqa: FBT001, FBT002  # the documented interface
        """Extract what is new: images that the folder does not have, failed ones, and those whose files have changed.

        Where the archive has no product of these dates, or the folder no row, a warning of the logger
        ``sen2chain.results`` says why.

        Parameters
        ----------
        getstat
            False reads no raster; the result then says what would be done.
        force
            Extract every image again.
        redo_old
            Extract again what the original program wrote.

        Returns
        -------
        Extracted
            What was done, as numbers and as a sentence.

        Raises
        ------
        OutputError
            If the folder cannot be written.
        LibraryError
            If there is no archive, or the catalogue cannot be read.
        RequestError
            If no product of a catalogue has what a cloud mask is computed from; the message names masks that work.
        StoreError
            If another run holds the folder for longer than `wait`, or its ledger is damaged.
        ExecutorError
            If the cluster cannot be used.
        """
        self._engine.forget_archive()  # which may have grown since
        plan = self.plan  # without an archive no folder is begun
        if not getstat and not self._folder.exists:
            result = look(self._engine)
        else:
            with self._folder.held() if getstat else self._folder.read() as (folder, ledger, engine):
                run = FolderUpdate(engine, folder, ledger, self._raw_format)
                result = run.run(only_look=not getstat, force=force, redo_old=redo_old)
        if self._folder.hint:
            result.notes.append(self._folder.hint)
        if not getstat:
            result.notes += self._engine.notes_on_far_features()
        result.notes += self._engine.notes_on_kept_pixels
        said = [*result.notes, str(result)]
        warns = empty_results.isEnabledFor(logging.WARNING)
        if not plan.tasks:
            result.notes.append(self._engine.why_nothing(self._engine.first_report()))
            said = said if warns else [*result.notes, str(result)]
        self._report = self._frames = None
        self._spools.clear()
        for sentence in said:
            say(sentence, quiet=self._quiet)
        if not plan.tasks or (getstat and not (result.images or result.kept)):
            self._engine.warn_of_nothing(self._engine.first_report() if not plan.tasks else self._reported())
        return result

    @suggest_keywords
    def drop_pixels(
        self, first: dt.date | str | None = None, last: dt.date | str | None = None, *, dry_run: bool = False
    ) -> DroppedPixels:
        """Remove kept pixels from the folder; its rows stay, and so do the pixels of other dates.

        Parameters
        ----------
        first, last
            First and last sensing date, inclusive, as ``YYYY-MM-DD`` or dates; None is open.
        dry_run
            Remove nothing; the result then says what would be removed.

        Returns
        -------
        DroppedPixels
            What was removed, as numbers and as a sentence.

        Raises
        ------
        RequestError
            If a parameter cannot be used.
        StoreError
            If the folder does not exist, or another run holds it for longer than `wait`.
        OutputError
            If files cannot be removed; the others are.
        """
        begin, end, looks = parse_date("first", first), parse_date("last", last), truth("dry_run", dry_run)
        if begin and end and begin > end:
            raise RequestError(f"first {begin} is after last {end}; swap them.")
        self._folder.check()
        with self._folder.read() if looks else self._folder.held() as (folder, ledger, _):
            dropped = PixelFolder(folder, ledger).drop(begin, end, dry_run=looks)
        say(str(dropped), quiet=self._quiet)
        return dropped

    @suggest_keywords
    def compile_data(
        self,
        alldata: bool = False,  # noqa: FBT001, FBT002  # the documented interface
        daily: bool = False,  # noqa: FBT001, FBT002
        weekly: bool = False,  # noqa: FBT001, FBT002
        monthly: bool = False,  # noqa: FBT001, FBT002
        yearly: bool = False,  # noqa: FBT001, FBT002
        datemin: dt.date | str | None = None,
        datemax: dt.date | str | None = None,
        covermax: float = 75,
        smoothing: bool | str = False,  # noqa: FBT001, FBT002
        reset_smoothing: bool = False,  # noqa: FBT001, FBT002
        window_length: int = 11,
        polyorder: int = 3,
        season_mean: bool = False,  # noqa: FBT001, FBT002
        *,
        aggregate: str | Iterable[str] | None = None,
        week: periods.Week = "sunday",
        formats: str | Sequence[str] = "csv",
        overwrite: bool = False,
    ) -> Compiled:
        """Compile the rows of all dates in the folder; only files that would differ are written.

        Parameters
        ----------
        alldata, daily, weekly, monthly, yearly
            Which files: one of all dates, or one for each day, week, month or year.
        datemin, datemax
            A range of dates, inclusive, for one more file; either may be None for an open range.
        covermax
            For smoothing: a date counts where fewer than this percentage of a feature's pixels are missing.
        smoothing
            True or ``savgol``, ``whittaker``, ``harmonic``; or ``original`` to continue a series that the original
            program began. Smoothed files stand beside those of `alldata` and of the range.
        reset_smoothing
            Smooth all dates anew where ``original`` would continue a series, or replace a file that was smoothed the
            other way.
        window_length, polyorder
            Of the Savitzky-Golay filter, in steps of five days.
        season_mean
            With ``original``: fill long gaps with the mean of other years.
        aggregate
            One row per feature and period too: ``mean``, ``median``, ``max``, ``count``, ``weighted_mean``; several may
            be given.
        week
            ``sunday``: weeks as ``%U`` counts them; ``iso``: ISO 8601.
        formats
            ``csv``, ``parquet``, or both.
        overwrite
            Replace files too that were made in another way: with another formula of the index, for example.

        Returns
        -------
        Compiled
            The files.

        Raises
        ------
        RequestError
            If nothing is asked for, or a parameter cannot be used.
        OutputError
            If a file cannot be written, or one that was made in another way is there; nothing is written then.
        StoreError
            If nothing was extracted, or a file of rows cannot be read.
        """
        wanted = CompileRequest.of(locals())
        self._folder.check()
        with self._folder.held() as (folder, ledger, engine):
            result = Compilation(engine, folder, ledger, wanted, only_known=self._all_indices).run(overwrite=overwrite)
            result.remarks += ledger.notes
        for sentence in (*result.notes, *result.remarks, str(result)):
            say(sentence, quiet=self._quiet)
        return result

    def _rows_of(self, index: str, mask: str) -> Spool:
        if (index, mask) not in self._spools:
            with self._folder.read() as (folder, ledger, engine):
                spool = Compilation(engine, folder, ledger, CompileRequest()).spool(index, mask)
            self._spools[index, mask] = spool
        return self._spools[index, mask]

    def _results_folder(self, out_path: str | Path | None, index: str | None = None, mask: str | None = None) -> Path:
        if out_path is not None:
            place = absolute(out_path)
            check_outside_tables(place)
            return place / self._engine.layer.name
        self._folder.check()
        folder = self._folder.folder
        return folder.root if index is None or mask is None else folder.compiled(index, mask, periods.ALL)

    def _shown_outputs(self) -> list[tuple[str, str]]:
        outputs = super()._shown_outputs()
        if not self._all_indices or not self._folder.exists:
            return outputs
        with self._folder.read() as (_, ledger, _):
            counts = [ledger.count(*output) for output in outputs]
        # As when compiling: those of the twelve indices that were extracted.
        known = [bool(count[State.DONE] or count[State.ORIGINAL]) for count in counts]
        return [output for output, is_known in zip(outputs, known, strict=True) if is_known] or outputs

    def _smoothed_files(self, index: str, mask: str) -> list[Path]:
        folder, cover = self._folder.folder, (self.request.cover_min, self.request.cover_max)
        stem = periods.compiled_stem(folder.stem, cover, index, periods.ALL, "")
        known = set(smoothed_names(stem))
        found = [path for path in folder.compiled(index, mask, periods.ALL).glob("*_smooth.csv") if path.name in known]
        return sorted(found, key=lambda path: path.stat().st_mtime_ns)

    @suggest_keywords
    def to_xarray(
        self,
        kind: str | None = None,
        *,
        aggregate: str | Iterable[str] = ("mean", "count"),
        week: periods.Week = "sunday",
        complete: bool = False,
    ) -> xr.Dataset:
        """Return the compiled rows as fid x date, or aggregates of them as fid x period, with the geometry (WKT).

        Where there are several indices or masks, they are leading dimensions. Units and definitions are attributes, as
        the CF conventions 1.11 say; the dataset's methods `to_netcdf` and `to_zarr` write it as it is.

        Parameters
        ----------
        kind
            None for the rows; ``all_data``, ``yearly``, ``monthly``, ``weekly`` or ``daily`` for aggregates.
        aggregate, week
            As for `compile_data`.
        complete
            Include the dates (or periods) of all images of the folder, also those without any row.

        Raises
        ------
        RequestError
            If a parameter cannot be used.
        StoreError
            If nothing was extracted.
        """
        every = truth("complete", complete)
        wanted = CompileRequest() if kind is None else CompileRequest.of_kind(kind, aggregate, week)
        with self._folder.read() as (folder, ledger, engine):
            return Compilation(engine, folder, ledger, wanted).dataset(kind, complete=every)

    @property
    def notes(self) -> list[str]:
        """Sentences on the layer, the archive and the folder as a whole."""
        hint = [self._folder.hint] if self._folder.hint else []
        return [*hint, *self._reported().notes, *dict.fromkeys(self._remarks)]

    @property
    def has_rows(self) -> bool:
        """Whether the folder has rows of the requested indices and masks, of any date."""
        if not self._folder.exists:
            return False
        with self._folder.read() as (_, ledger, engine):
            counts = [ledger.count(*output) for output in engine.outputs]
        return any(count[state] for count in counts for state in (State.DONE, State.ORIGINAL))

    def has_rows_under(self, mask: Mask) -> bool:
        """Tell whether the folder has files of rows of any index under a mask, requested or not."""
        folder = self._folder.folder
        return any(path for index in folder.indices() for path in folder.raw(index, mask.name).glob("*"))

    def _reported(self) -> Report:
        if self._report is None:
            if not self._folder.exists:
                return self._engine.first_report()
            with self._folder.read() as (folder, ledger, engine):
                self._report = folder_report(engine, folder, ledger)
        return self._report

    def _facts(self) -> list[tuple[str, object]]:
        return [("Folder", self.folder), ("State", "" if self._folder.exists else "nothing extracted yet")]

    def _next_step(self) -> str:
        if not self._folder.exists:
            return "ts.extract_data()"
        return f'ts.extract_data(), ts.compile_data(alldata=True), ts.data["{self.request.indices[0].name}"]'

    def __repr__(self) -> str:
        return f"TimeSeriesCompil({self._in_words()}; {self.folder})"
