"""Pixels of both classes: a table with one row per feature, pixel and date, or chips of each feature."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from sen2chain.errors import EmptyResultError, choice, truth
from sen2chain.extract.executors import Serial, Threads
from sen2chain.extract.extraction import extract
from sen2chain.jit import unsaved
from sen2chain.parallel import closed, workers
from sen2chain.pixel_table import (
    ChipStore,
    ParquetWriter,
    PixelColumns,
    PixelExtraction,
    PixelTaskResult,
    RecordRoom,
    WrittenPixels,
    problems_of,
    served_features,
)
from sen2chain.provenance import conditions, provenance
from sen2chain.spool import attribute_table
from sen2chain.suggestions import suggest_keywords
from sen2chain.timeseries.layer_series import LayerSeries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa

    from sen2chain.extract import Executor
    from sen2chain.extract.executors import Work
    from sen2chain.pixel_table import PixelWriter
    from sen2chain.plan import Request
    from sen2chain.timeseries.engine import Engine

PixelFormat = Literal["parquet", "zarr"]


class SeriesPixels(LayerSeries):
    """The output of the pixels themselves."""

    @suggest_keywords
    def to_pixels(
        self,
        out_path: str | Path,
        format: PixelFormat = "parquet",  # noqa: A002  # the word that users of tables know
        bands: Sequence[str] | str | None = None,
        overwrite: bool = False,  # noqa: FBT001, FBT002
    ) -> WrittenPixels:
        """Write the pixels of the features: one row per feature, pixel and date, or chips for training.

        Pixels are those that rows are made of: of each feature and date, the product that its row comes from (under
        the first index and mask that give it one), the pixels of the pixel rule, masked or not. So a feature has as
        many rows as `count` + `nodata` of its row (with weights, their sum), without those beyond the edge of the
        raster. Features without a row on a date are left out, but for ``keep_empty=True``.

        The acquisitions are read anew, or kept pixels are; nothing has to be extracted before.

        Parameters
        ----------
        out_path
            Folder; the result goes to ``<out_path>/<stem>/``, with a JSON beside it.
        format
            ``parquet``: the folder ``<stem>_pixels_<date_min>_<date_max>.parquet``, a file for each product in folders
            by tile and month. ``zarr``: the store ``<stem>_chips_<date_min>_<date_max>.zarr`` with a group
            ``<tile>/<fid>`` for each feature; to open it takes the extra ``sen2chain[netcdf]``. Without dates the names
            end before them; of one date alone they say ``from_<date_min>`` or ``to_<date_max>``.
        bands
            Bands whose surface reflectance is written; None takes those of the indices, an empty list none.
        overwrite
            Replace a result that was made in another way too.

        Returns
        -------
        WrittenPixels
            Files, rows, bytes and problems.

        Raises
        ------
        RequestError
            If a parameter cannot be used.
        OutputError
            If the folder cannot be written, or a result that was made in another way is there, before any work starts;
            or if the disk is full.
        EmptyResultError
            If a table with rows is there and this run gave none.
        LibraryError
            If there is no archive.
        """
        choice("format", format, get_args(PixelFormat))
        replaces = truth("overwrite", overwrite)
        columns, keys = self._pixel_columns(bands)
        note = self._pixel_note(columns)
        writer = self._pixel_writer(out_path, format, columns, keys, note, overwrite=replaces)
        said = writer.folder.check(note, overwrite=replaces)
        begin = functools.partial(PixelExtraction, columns=columns, room=RecordRoom(writer.folder.path.parent))
        engine = self._engine.for_pixels(
            columns.bands, _executor(self._engine, functools.partial(extract, begin=begin))
        )
        _ = engine.plan  # without an archive nothing is begun
        writer.folder.begin(note)
        asked = [columns.mask_column(mask) for mask in columns.masks] + ([] if bands is None else [*columns.bands])
        return self._write_pixels(engine, writer, note, said, asked)

    def _write_pixels(
        self, engine: Engine, writer: PixelWriter, note: dict[str, Any], said: list[str], wanted: Sequence[str]
    ) -> WrittenPixels:
        """Run the tasks and write their pixels; columns that are not `wanted` may be empty without being a problem."""
        report = engine.first_report()
        lacking: list[tuple[str, str, str]] = []
        partly: list[tuple[str, str, str]] = []
        before = engine.notes_on_kept_pixels
        with writer, closed(engine.run(engine.plan.tasks, title="collecting pixels")) as results:
            for _, together in itertools.groupby(results, key=lambda result: result.task.product.sensing):
                products = [_with_pixels(result) for result in together]
                fids, batches = served_features(products, keep_empty=self.request.keep_empty)
                for batch in batches:
                    engine.note_rows_left_out(batch)
                    report.add(batch)
                for product, own in zip(products, fids, strict=True):
                    writer.add(product, own)
                    if product.pixels is not None and len(own):
                        name = str(product.task.product)
                        lacking += [(name, *why) for why in product.pixels.lacking.items()]
                        partly += [(name, *why) for why in product.pixels.partly.items()]
                        if (product.pixels.lacking.keys() | product.pixels.partly.keys()) & {*wanted}:
                            engine.note_lack(product.task.product)
            try:
                files, rows, size, removed = writer.finish()
            except EmptyResultError:
                writer.folder.restore()
                raise
        engine.renew_notes(report, before)
        report.notes += [*engine.unverified(engine.plan.tasks), *unsaved()]
        told = provenance(self.request, engine.layer, engine.archive, report)
        told["parameters"] |= note["parameters"]
        writer.folder.write_json({**told, "files": files, "pixels": rows, "complete": True})
        engine.warn_of_nothing(report)
        notes = [*report.notes, *said, *removed]
        problems: list[str] = []
        for found, of_what in ((lacking, ""), (partly, "some features of")):
            problems += problems_of([item for item in found if item[1] in wanted], of_what)
            notes += problems_of([item for item in found if item[1] not in wanted], of_what)
        return WrittenPixels(
            writer.folder.path,
            files,
            rows,
            size,
            tuple(notes),
            tuple(problems),
            report,
            tuple(engine.outputs),
            engine.why_nothing(report),
        )

    def _pixel_columns(self, bands: Any) -> tuple[PixelColumns, pa.ChunkedArray | None]:
        """Return the columns of the table, and the user's own keys by fid."""
        name = self._engine.features.id_field
        if name is None:
            return PixelColumns.of(self.request, bands), None
        keys = attribute_table(self._engine.attributes[[name]]).column(0)
        return PixelColumns.of(self.request, bands, name, keys.type), keys

    def _pixel_note(self, columns: PixelColumns) -> dict[str, Any]:
        """Return what is known of the result before the run, for its JSON."""
        note: dict[str, Any] = conditions(self.request, self._engine.layer)
        return {
            **note,
            "parameters": {**note["parameters"], "bands": list(columns.bands), "id_field": columns.id_field},
        }

    def _pixel_writer(
        self,
        out_path: str | Path,
        kind: PixelFormat,
        columns: PixelColumns,
        keys: pa.ChunkedArray | None,
        note: dict[str, Any],
        *,
        overwrite: bool,
    ) -> PixelWriter:
        """Return the writer of a format; nothing is written yet."""
        what = {"parquet": "pixels", "zarr": "chips"}[kind]
        stem = "_".join([self._engine.layer.name, what, *_dates(self.request)])
        path = self._results_folder(out_path) / f"{stem}.{kind}"
        if kind == "zarr":
            return ChipStore(path, columns, keys, note, overwrite=overwrite, quiet=self._quiet)
        return ParquetWriter(path, columns, keys, note, overwrite=overwrite)


def _dates(request: Request) -> list[str]:
    """Return the parts of a name that say which dates were asked for."""
    first, last = request.first, request.last
    if first and last:
        return [f"{first}", f"{last}"]
    return [f"from_{first}"] if first else [f"to_{last}"] if last else []


def _executor(engine: Engine, work: Work) -> Executor:
    """Return the threads of this process that read pixels, as many as the executor has."""
    if isinstance(engine.executor, Serial | Threads):
        return replace(engine.executor, work=work)
    return Threads(workers(), work)


def _with_pixels(result: Any) -> PixelTaskResult:
    """Return the result of a task as one with pixels, which a task that failed lacks."""
    if isinstance(result, PixelTaskResult):
        return result
    return PixelTaskResult(result.task, result.grid, result.batches, result.error)
