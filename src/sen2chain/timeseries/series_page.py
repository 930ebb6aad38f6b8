"""`to_html` of both classes: the page of a run."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from sen2chain.atomic import check_folder, replacing, writing
from sen2chain.chips import ChipNotes
from sen2chain.errors import EmptyResultError
from sen2chain.export import beside
from sen2chain.files import is_file
from sen2chain.page import Chip, Curves, RunAccount, content_of, page_html
from sen2chain.parallel import closed
from sen2chain.progress import activity
from sen2chain.provenance import PlannedTable, check_results, conditions, is_current, shared_note
from sen2chain.reasons import Reason
from sen2chain.report import remarks
from sen2chain.suggestions import suggest_keywords
from sen2chain.timeseries.chip_series import ChipSeries
from sen2chain.timeseries.series_plots import SeriesPlots, smoother_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from sen2chain.index_series import Fids, IndexSeries
    from sen2chain.report import Report
    from sen2chain.smoothing import Smoother

_MOST_CHIPS = 20
"""Features with images where none are named."""
_CHIP_EDGE = 96  # pixels
_SHOWN = {
    "date_min": "First date", "date_max": "Last date", "cover_min": "Smallest cloud cover, %",
    "cover_max": "Largest cloud cover, %", "pixels": "Pixels of a feature", "buffer": "Buffer, m",
    "stats": "Further statistics", "min_valid": "Smallest valid share", "units": "Units of the rows",
    "keep_empty": "Rows without values kept", "prefer": "Preferred rasters", "sensor": "Sensor",
}  # fmt: skip
"""Parameters that the page shows, as people read them."""


class SeriesPage(SeriesPlots, ChipSeries):
    """The page of a run: one HTML file with a map, series and a table of the features."""

    @suggest_keywords
    def to_html(
        self,
        out_path: str | Path | None = None,
        *,
        features: Any = None,
        statistics: str | Iterable[str] | None = None,
        sample: int | str | None = None,
        smoothing: bool | str | Smoother | None = None,
        chips: Any = None,
        overwrite: bool = False,
    ) -> Path:
        """Write one self-contained HTML page.

        It is ``<out_path>/<stem>/<stem>_<date_min>_<date_max>.html``, with a JSON beside it.

        The page has a map of the features by date, series with their spread and the dates without a value, a table that
        sorts and filters, the reasons why values are missing, parameters and versions. It opens from a disk or an
        e-mail, reaches no network, and has all indices and masks of the run.

        Parameters
        ----------
        out_path
            Folder; None is the layer's own folder for `TimeSeriesCompil`, and cannot be used with `TimeSeries`.
        features
            Features to show: values of `id_field` where there is one, else fids, or names; None is all.
        statistics
            Columns in index units: ``mean``, ``std``, ``median``, ``percentile_25``, ... The valid share is always
            there. By default mean, std, median and both percentiles, or mean and std where the page would be large.
        sample
            Number of features to take evenly from the layer, or ``fit`` for as many as the page holds; it then names
            the sample.
        smoothing
            True or ``savgol``, ``whittaker``, ``harmonic`` draws smoothed curves too, as does a
            `sen2chain.smoothing.Smoother`. None takes the curves that `TimeSeriesCompil` has written, if it has; False
            draws none.
        chips
            Features that are shown with small images of each date, named as for `features`; True takes the first 20.
            They are read from the archive, and need Pillow.
        overwrite
            Replace a page that was made in another way too.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        RequestError
            If a feature or a statistic is unknown, or the page would be larger than 20 MB.
        LibraryError
            If there is no archive to read images from.
        MissingExtraError
            If images are asked for and Pillow is not installed.
        OutputError
            If the folder cannot be written, or a page that was made in another way is there.
        EmptyResultError
            If a page is there and this run gave no rows.
        """
        (planned,) = self._planned_results(out_path, "html")
        return self.write_page(
            planned.path,
            features=features,
            statistics=statistics,
            sample=sample,
            smoothing=smoothing,
            chips=chips,
            overwrite=overwrite,
        )

    def write_page(
        self,
        path: Path,
        *,
        features: Any = None,
        statistics: str | Iterable[str] | None = None,
        sample: int | str | None = None,
        smoothing: bool | str | Smoother | None = None,
        chips: Any = None,
        overwrite: bool = False,
    ) -> Path:
        """Write the page to a file of any name; all else is as for `to_html`."""
        smoother = smoother_of(smoothing)
        if not overwrite:
            self._remarks += check_results([self._planned_page(path)]).sentences()
        check_folder(path.parent)
        series = self._shown()
        if not overwrite and is_file(path) and not any(one.rows for one in series):
            raise EmptyResultError(
                f"{path} is kept, since this run gave no rows; overwrite=True (--overwrite) replaces it."
            )
        images, told = self._images(series, features, chips)
        shown = np.union1d(series[0].features.find(features), np.array(list(images), dtype=np.int64))
        rows = sum(one.rows for one in series)
        note, mark = shared_note(path, {**self.provenance(), **self._page_note()}, rows)
        with activity(f"writing {path.name}", quiet=self._quiet):
            content = content_of(
                series,
                self._account(note, series, told),
                features=features,
                statistics=statistics,
                sample=sample,
                curves=self._smooth(series, shown, smoother, files=smoothing is None),
                chips=images,
            )
            with replacing(path, beside(path, note)) as file, writing(path):
                file.write(page_html(content, mark))
        self._remarks += content.notes
        return path

    def _smooth(
        self, series: Sequence[IndexSeries], fids: Fids, smoother: Smoother | None, *, files: bool
    ) -> dict[tuple[str, str], Curves]:
        """Return the smoothed curves of each index under each mask that has some."""
        found = {}
        for one in series:
            if smoother is None and not (files and self._smoothed_files(one.index.name, one.mask)):
                continue
            curves = self._curves(one, one.frame(fids), fids, smoother, files=files)
            found[one.index.name, one.mask] = Curves(curves.name, curves.points)
        return found

    def _images(
        self, series: Sequence[IndexSeries], features: Any, chips: Any
    ) -> tuple[dict[int, list[Chip]], list[str]]:
        """Return the small images of the features that are chosen for it, and sentences on faults."""
        if chips is None or chips is False:
            return {}, []
        layer = series[0].features
        fids = layer.find(features)[:_MOST_CHIPS] if chips is True else layer.find(chips)
        found: dict[int, list[Chip]] = {fid: [] for fid in fids.tolist()}
        notes = ChipNotes()
        with closed(self._thumbnails(fids, edge=_CHIP_EDGE, notes=notes, series=series)) as thumbnails:
            for one in thumbnails:
                date = int(np.datetime64(one.date, "s").astype(np.int64))
                found[one.fid].append(Chip(date, one.index, one.mask, one.share, one.jpeg))
        return found, notes.sentences()

    def _planned_results(self, out_path: str | Path | None, kind: str) -> list[PlannedTable]:
        if kind != "html":
            return super()._planned_results(out_path, kind)
        return [self._planned_page(self._results_folder(out_path) / f"{self._results_stem()}.html")]

    def page_is_current(self, path: Path) -> bool:
        """Tell whether a page was made by this version, with these parameters, of this layer with its attributes."""
        return is_current(path, {**conditions(self.request, self._engine.layer), **self._page_note()})

    def _page_note(self) -> dict[str, Any]:
        """Return what a page depends on besides the request and the outlines, for its JSON."""
        features = self._engine.features
        texts = features.attributes.astype(str).to_csv(index=False).encode("utf-8", "surrogatepass")
        names = {"id_field": features.id_field, "field_names": list(features.name_fields)}
        return {"page": {**names, "attributes_sha256": hashlib.sha256(texts).hexdigest()}}

    def _planned_page(self, path: Path) -> PlannedTable:
        return PlannedTable(path, conditions(self.request, self._engine.layer))

    def _account(self, note: Mapping[str, Any], series: Sequence[IndexSeries], told: Sequence[str]) -> RunAccount:
        """Return what the page tells about the run; `told` are sentences on its images."""
        report = self._reported()
        return RunAccount(
            # Of a folder, the report counts the rows of each image, before one of them is chosen for each date.
            reasons=[{**_reasons(report, one.index.name, one.mask), "rows": one.rows} for one in series],
            remarks=remarks(report.frame()),
            notes=[*report.notes, *told],
            facts=_facts(note),
        )


def _reasons(report: Report, index: str, mask: str) -> dict[str, Any]:
    """Return the numbers of an index under a mask: its acquisitions and rows, and features left out by reason."""
    outputs = zip(report.texts["index"], report.texts["mask"], strict=True)
    own = report.take([line for line, output in enumerate(outputs) if output == (index, mask)])
    totals = own.totals()
    return {
        "index": index, "mask": mask, "acquisitions": len({name for name in own.texts["acquisition"] if name}),
        "rows": own.rows, "why": "" if own.rows else own.main_cause() or report.skipped_cause(),
        "counts": [(reason.value, reason.sentence, totals[reason]) for reason in Reason if totals[reason]],
    }  # fmt: skip


def _facts(note: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return parameters, layer, archive and versions as names and texts."""
    parameters, layer = note["parameters"], note["layer"]
    facts = [("Made", note["created"])]
    facts += [(f"Index {name}", str(formula)) for name, formula in parameters["indices"].items()]
    facts.append(("Cloud masks", ", ".join(parameters["masks"])))
    shown = {name: parameters[name] for name in _SHOWN if parameters.get(name) not in (None, [])}
    facts += [(_SHOWN[name], _text(value)) for name, value in shown.items()]
    facts += [
        ("Layer", str(layer["path"] or layer["name"])), ("CRS of the layer", layer["crs"].partition("\n")[0][:200]),
        ("Features of the layer", f"{layer['features']:,}"), ("SHA-256 of the outlines", layer["sha256"]),
        ("Archive", note["archive"]), ("Products", f"{len({p.get('acquisition') for p in note['products']}):,}"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in note["versions"].items())),
    ]  # fmt: skip
    return facts


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
