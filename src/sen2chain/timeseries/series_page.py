"""`to_html` of both classes: the page of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sen2chain.atomic import check_folder, replacing, writing
from sen2chain.errors import EmptyResultError
from sen2chain.export import beside
from sen2chain.files import is_file
from sen2chain.page import RunAccount, content_of, page_html
from sen2chain.progress import activity
from sen2chain.provenance import PlannedTable, check_results, conditions
from sen2chain.reasons import Reason
from sen2chain.report import remarks
from sen2chain.timeseries.layer_series import LayerSeries
from sen2chain.timeseries.suggestions import suggest_keywords

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from sen2chain.index_series import IndexSeries
    from sen2chain.report import Report

_SHOWN = {
    "date_min": "First date", "date_max": "Last date", "cover_min": "Smallest cloud cover, %",
    "cover_max": "Largest cloud cover, %", "pixels": "Pixels of a feature", "buffer": "Buffer, m",
    "stats": "Further statistics", "min_valid": "Smallest valid share", "units": "Units of the rows",
    "keep_empty": "Rows without values kept", "prefer": "Preferred rasters", "sensor": "Sensor",
}  # fmt: skip
"""Parameters that the page shows, as people read them."""


class SeriesPage(LayerSeries):
    """The page of a run: one HTML file with a map, series and a table of the features."""

    @suggest_keywords
    def to_html(
        self,
        out_path: str | Path | None = None,
        *,
        features: Any = None,
        statistics: str | Iterable[str] | None = None,
        sample: int | str | None = None,
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
        OutputError
            If the folder cannot be written, or a page that was made in another way is there.
        EmptyResultError
            If a page is there and this run gave no rows.
        """
        (planned,) = self._planned_results(out_path, "html")
        return self.write_page(
            planned.path, features=features, statistics=statistics, sample=sample, overwrite=overwrite
        )

    def write_page(
        self,
        path: Path,
        *,
        features: Any = None,
        statistics: str | Iterable[str] | None = None,
        sample: int | str | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write the page to a file of any name; all else is as for `to_html`."""
        if not overwrite:
            self._remarks += check_results([self._planned_page(path)]).sentences()
        check_folder(path.parent)
        series = self._shown()
        if not overwrite and is_file(path) and not any(one.rows for one in series):
            raise EmptyResultError(
                f"{path} is kept, since this run gave no rows; overwrite=True (--overwrite) replaces it."
            )
        with activity(f"writing {path.name}", quiet=self._quiet):
            note = self.provenance()
            content = content_of(
                series, self._account(note, series), features=features, statistics=statistics, sample=sample
            )
            with replacing(path, beside(path, note)) as file, writing(path):
                file.write(page_html(content))
        self._remarks += content.notes
        return path

    def _shown(self) -> list[IndexSeries]:
        """Return the rows of what was asked for, without indices that were neither named nor extracted."""
        texts = self._reported().texts
        looked_at = set(zip(texts["index"], texts["mask"], strict=True))
        series = self._series()
        known = [one for one in series if (one.index.name, one.mask) in looked_at]
        return known if known and self._all_indices else series

    def _planned_results(self, out_path: str | Path | None, kind: str) -> list[PlannedTable]:
        if kind != "html":
            return super()._planned_results(out_path, kind)
        return [self._planned_page(self._results_folder(out_path) / f"{self._results_stem()}.html")]

    def _planned_page(self, path: Path) -> PlannedTable:
        return PlannedTable(path, conditions(self.request, self._engine.layer))

    def _account(self, note: Mapping[str, Any], series: Sequence[IndexSeries]) -> RunAccount:
        """Return what the page tells about the run."""
        report = self._reported()
        return RunAccount(
            reasons=[_reasons(report, one.index.name, one.mask) for one in series],
            remarks=remarks(report.frame()),
            notes=report.notes,
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
