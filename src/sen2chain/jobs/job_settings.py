"""The meaning of a job's file: its settings and the tasks of its table.

`read_settings` gives the `Settings` above the table, `read_task` the `JobTask` of one row; both return the problems
that they find.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

from sen2chain import periods
from sen2chain.coverage import PixelRule
from sen2chain.errors import RequestError, Sen2ChainError, UnknownNameError, quoted
from sen2chain.files import absolute, is_file, is_folder
from sen2chain.indices import Index, is_name, resolve_indices
from sen2chain.jobs.cell_words import EARLIEST, Day, cell_number, is_off, is_on, items, percentage, switch
from sen2chain.jobs.delivery import parse_destination
from sen2chain.jobs.job_file import COLUMNS, DESTINATION, KNOWN, JobFile, Problem, Row, safe
from sen2chain.jobs.schedule import Timing
from sen2chain.masks import NO_MASK, Mask
from sen2chain.parallel import MOST_WORKERS
from sen2chain.plan import MOST_MARGIN, kept_bands, resolve_masks
from sen2chain.plan.extraction_request import MOST_BUFFER, Verify
from sen2chain.smoothing import METHODS
from sen2chain.zonal import Statistics

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from sen2chain.archive import StacCatalogue
    from sen2chain.jobs.delivery import Destination

DEFAULTS = {
    "logs": "False", "timing": "0 0 * * *", "nb_proc": "8", "process_by_line": "0", "on_failure": "",
    "on_success": "", "delivery_timeout": "3600", "keep_runs": "400", "safe": "", "library": "",
    "collection": "", "stac_asset": "", "stac_allow": "", "verify": "never", "page": "False",
}  # fmt: skip
"""Settings, and their texts where a file lacks them."""
_NOT_REPEATED = (DESTINATION, "library")
"""Column and setting that may hold a password, and whose errors do not repeat it."""
OF_CATALOGUE = "stac:"
"""Beginning of the setting ``library`` that names a STAC catalogue."""
SOURCES = ("library", "safe", "collection", "stac_asset", "stac_allow")
"""Settings that say where products come from."""
MOST_LINES = 100_000
"""Largest number of rows in a batch, and of runs whose records are kept."""
LONGEST_DELIVERY = 7 * 86400
"""Largest time limit of a delivery, seconds."""
_RANGE, _ALL_DATA, _EVERY_INDEX = "all", periods.ALL, "all"
_KINDS = ("yearly", "monthly", "weekly", "daily")
_BARE = {"probability": 1, "iterations": 1}  # what completes a bare CM003 or CM004, as in TimeSeriesCompil
_SMOOTHING = (*METHODS, "original")
_OF_THE_KERNEL = (f"{os.sep}proc{os.sep}", f"{os.sep}sys{os.sep}", f"{os.sep}dev{os.sep}")  # some are read without end
_MISPLACED = "it looks like a destination with a login, and is not repeated here; is a ; missing before it?"
_LAYER_NAME = "|layername="  # as QGIS writes a layer of a file that has several


class LayerFile(NamedTuple):
    """The file of a polygon layer."""

    path: Path
    """The file, absolute."""
    layer: str | None = None
    """Layer in a file that has several."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings above the table; the fields are named after them."""

    logs: bool
    """Whether each run leaves a log and a record."""
    timing: Timing
    """When the job runs."""
    nb_proc: int
    """Number of threads; 0 uses all processors."""
    process_by_line: int
    """Number of rows in a batch, which is extracted before its first row is compiled; 0 is all rows."""
    on_failure: tuple[str, ...]
    """Program and arguments that are called after a run that failed, wholly or partly, in a new way."""
    on_success: tuple[str, ...]
    """Program and arguments that are called after a run that did everything."""
    delivery_timeout: float
    """Time limit of a delivery, seconds."""
    keep_runs: int
    """Number of runs whose logs and records are kept; 0 is all."""
    safe: str
    """Folder of SAFE products to read in place of the library's archive, as written; empty reads the archive."""
    library: str
    """Address or file of a STAC catalogue to read in place of the library's archive, as written behind ``stac:``; empty
    reads the archive."""
    collection: str | None
    """Collection of the catalogue; None is the one that it is known for."""
    stac_asset: Mapping[str, str]
    """Band -> name of the asset that holds it, beside the names that are known."""
    stac_allow: tuple[str, ...]
    """Hosts and buckets that items of the catalogue may refer to, beside the known ones."""
    verify: Verify
    """Whether the files of products are compared with their checksums before they are first extracted."""
    page: bool
    """Whether each line writes an HTML page of its series after it is compiled."""

    def folder_of_products(self, home: Path) -> Path | None:
        """Return the folder of SAFE products, or None; a relative path starts in the home."""
        return absolute(self.safe, home) if self.safe else None

    def catalogue(self, home: Path) -> StacCatalogue | None:
        """Return the STAC catalogue, or None; a relative path starts in the home. No request is made.

        Raises
        ------
        RequestError
            If it cannot be one.
        """
        if not self.library:
            return None
        from sen2chain.archive import StacCatalogue, provider_named  # noqa: PLC0415  # only jobs with a catalogue

        place: str | Path = self.library
        if "://" not in self.library:
            file = absolute(self.library, home)
            place = file if provider_named(self.library) is None or os.path.lexists(file) else self.library
        return StacCatalogue(place, self.collection, assets=self.stac_asset, allow=self.stac_allow)


@dataclass(frozen=True, slots=True)
class JobTask:
    """One row of the table; the fields behind `line` are named after the columns."""

    line: int
    """Line of the file, from 1."""
    shapefile: LayerFile
    """The polygon layer."""
    date_min: Day | None
    """First sensing date; None is 2015-01-01."""
    date_max: Day | None
    """Last sensing date, inclusive; None is no limit."""
    max_clouds: float
    """Largest cloud cover of products, percent."""
    cloudmasks: tuple[Mask, ...]
    """Cloud masks."""
    indices: tuple[Index, ...] | None
    """Radiometric indices; None is all."""
    force_extraction: bool
    """Whether every image is extracted again."""
    compiled_data: tuple[str, ...]
    """Compilations: ``yearly``, ``monthly``, ``weekly``, ``daily``, ``all_data``, and last ``all``, the row's dates."""
    smooth_data: str | bool
    """Smoothing method of the series in ``all`` and ``all_data``, or False."""
    copy_server: Destination | None
    """Destination of compiled files."""
    pixels: PixelRule
    """Which pixels belong to a polygon."""
    buffer: float | None
    """Metres by which features grow or shrink."""
    stats: tuple[str, ...]
    """Statistics beyond the documented ones."""
    min_valid: float
    """Smallest share of valid pixels in a row of results."""
    aggregate: tuple[str, ...]
    """Aggregates of each period, which are written beside its rows."""
    id_field: str | None
    """The attribute that is the user's own key of features; None for none."""
    encoding: str | None
    """Encoding of the layer's texts; None detects it."""
    crs: str | None
    """CRS of a layer whose file names none."""
    keep_pixels: bool | tuple[str, ...]
    """Whether the pixels under the features are kept beside the rows, or the bands that are kept."""
    keep_margin: float | None
    """Metres around features in which quality rasters are kept; None is the default."""

    def dates(self, today: dt.date) -> tuple[dt.date, dt.date | None]:
        """Return the first and the last sensing date of a run."""
        first = self.date_min.on(today) if self.date_min else EARLIEST
        return first, self.date_max.on(today) if self.date_max else None

    def compilation(self, today: dt.date) -> dict[str, Any]:
        """Return the keywords of `TimeSeriesCompil.compile_data`."""
        first, last = self.dates(today)
        flags = {kind: kind in self.compiled_data for kind in _KINDS}
        within = {"datemin": first, "datemax": last} if _RANGE in self.compiled_data else {}
        return {
            **flags, "alldata": _ALL_DATA in self.compiled_data, "smoothing": self.smooth_data,
            "aggregate": self.aggregate or None, **within,
        }  # fmt: skip

    def request(self, today: dt.date) -> dict[str, Any]:
        """Return what the row asks for on a day, as it is recorded; optional columns only where they are set."""
        first, last = self.dates(today)
        optional = {
            "pixels": self.pixels if self.pixels != "center" else None, "buffer": self.buffer,
            "stats": list(self.stats) or None, "min_valid": self.min_valid or None,
            "aggregate": list(self.aggregate) or None, "id_field": self.id_field, "encoding": self.encoding,
            "crs": self.crs, "keep_pixels": _listed(self.keep_pixels),
            "keep_margin": self.keep_margin,
        }  # fmt: skip
        return {
            "indices": [index.name for index in self.indices] if self.indices else "All",
            "masks": [mask.name for mask in self.cloudmasks],
            "date_min": str(first),
            "date_max": str(last) if last else None,
            "max_clouds": self.max_clouds,
            "force_extraction": self.force_extraction,
            "compiled_data": list(self.compiled_data),
            "smooth_data": self.smooth_data,
            "copy_server": str(self.copy_server) if self.copy_server else None,
            **{name: value for name, value in optional.items() if value is not None},
        }


def _listed(keep_pixels: bool | tuple[str, ...]) -> bool | list[str] | None:  # noqa: FBT001  # as it stands in the file
    return list(keep_pixels) if isinstance(keep_pixels, tuple) else keep_pixels or None


def _number_or_off(largest: int) -> Callable[[str], int]:
    """Return a reader of a whole number, which is 0 where the setting is off."""
    return lambda text: 0 if is_off(text) else cell_number(text, largest)


def _text_or_off(text: str) -> str | None:
    return None if is_off(text) else text


def _read_all(readers: Mapping[str, Callable[[str], Any]], texts: Mapping[str, str]) -> Iterator[tuple[str, Any, str]]:
    """Read texts by their names; yield each name with its value, or with None and a sentence on what is wrong."""
    for name, read in readers.items():
        text = texts[name]
        try:
            yield name, read(text), ""
        except Sen2ChainError as error:
            # A destination in the wrong column is not repeated: it may hold a password.
            harmless = name in _NOT_REPEATED or safe(text, path=name == COLUMNS[0]) == text
            yield name, None, str(error) if harmless else _MISPLACED


def read_settings(file: JobFile) -> tuple[Settings | None, list[Problem]]:
    """Read the settings above the table.

    Parameters
    ----------
    file
        The job's file.

    Returns
    -------
    tuple
        The settings, or None where anything is wrong with them or with the file as a whole; and all problems, in the
        order of their lines.
    """
    problems = list(file.problems)
    for name, (line, _) in file.settings.items():
        if name not in DEFAULTS:
            problems.append(Problem(str(UnknownNameError("setting", name, DEFAULTS)), line, name))
    values = {}
    texts = {name: file.settings.get(name, (0, default)) for name, default in DEFAULTS.items()}
    for name, value, trouble in _read_all(_SETTING_READERS, {name: text for name, (_, text) in texts.items()}):
        values[name] = value
        if trouble:
            problems.append(Problem(trouble, texts[name][0], name))
    if not problems:
        problems += _contradictions(values, {name: line for name, (line, _) in texts.items()})
    return (None if problems else Settings(**values)), sorted(problems, key=lambda problem: problem.line)


def _contradictions(values: Mapping[str, Any], lines: Mapping[str, int]) -> Iterator[Problem]:
    """Yield problems of settings on where products come from that do not go together."""
    if values["safe"] and values["library"]:
        yield Problem("products come from one place; remove library or safe.", lines["library"], "library")
    if not values["library"]:
        for name in ("collection", "stac_asset", "stac_allow"):
            if values[name]:
                yield Problem(f"it belongs to library = {OF_CATALOGUE}...; add that, or remove it.", lines[name], name)


def read_task(row: Row, home: Path, today: dt.date) -> tuple[JobTask | None, list[Problem]]:
    """Read one row of the table.

    Parameters
    ----------
    row
        The row.
    home
        Folder in which relative paths start.
    today
        Day of the run.

    Returns
    -------
    tuple
        The task, or None where anything is wrong with the row; and all problems, in the order of the columns.
    """
    problems, values = list(row.problems), {}
    readers = {COLUMNS[0]: lambda text: _layer(text, home), **_CELL_READERS}
    for column, value, trouble in _read_all(readers, {column: row.text(column) for column in KNOWN}):
        values[column] = value
        if trouble:
            problems.append(row.problem(column, trouble))
    if problems:
        return None, sorted(problems, key=lambda problem: problem.character)
    task = JobTask(row.line, **values)
    if task.smooth_data and not {_RANGE, _ALL_DATA} & {*task.compiled_data}:
        sentence = "whole series are smoothed; add all (the dates of this line) or all_data to compiled_data."
        return None, [row.problem("smooth_data", sentence)]
    if task.aggregate and not task.compiled_data:
        return None, [row.problem("aggregate", "periods are aggregated; name some in compiled_data.")]
    first, last = task.dates(today)
    if last is not None and first > last:
        return None, [row.problem("date_min", f"{first} is after date_max, {last}; swap them.")]
    return task, []


def _layer(text: str, home: Path) -> LayerFile:
    """Read the path of a layer, as ``parcels.gpkg|layername=fields`` where the file has several."""
    name, found, layer = text.partition(_LAYER_NAME)
    if not name:
        raise RequestError("it is empty; write the path of a polygon layer.")
    path = absolute(name, home)
    if found and not layer:
        raise RequestError(f"{text!r} names no layer after {_LAYER_NAME}.")
    # A device or a pipe would be read without end.
    if not (is_file(path) or is_folder(path)):
        raise RequestError(f"{path} does not exist or is not a file; write the path of a polygon layer.")
    if os.path.realpath(path).startswith(_OF_THE_KERNEL):
        raise RequestError(f"{path} is not a file on a disk; write the path of a polygon layer.")
    if not os.access(path, os.R_OK):
        raise RequestError(f"{path} may not be read; give this user the right to.")
    return LayerFile(path, layer or None)


_FORMULA_OF = re.compile(r"\w+\s*=")


def _indices(text: str) -> tuple[Index, ...] | None:
    names: list[str] = []
    for item in items(text):
        # A / inside a formula, which begins with NAME=, does not begin another name.
        inside = names and "=" in names[-1] and not _FORMULA_OF.match(item) and not is_name(item)
        names[-1:] = [f"{names[-1]}/{item}"] if inside else [*names[-1:], item]
    if not names:
        raise RequestError("no index is named; write All, or names as NDVI/NBR.")
    if [name.lower() for name in names] == [_EVERY_INDEX]:
        return None
    return resolve_indices(names)


def _masks(text: str) -> tuple[Mask, ...]:
    names = _mask_names(text)
    if not names:
        raise RequestError("no cloud mask is named; write one or more, as CM004-CSH1-CMP1-CHP1-TCI1-ITER1.")
    return resolve_masks(names, _BARE)


def _mask_names(text: str) -> list[str]:
    # Elsewhere the word switches a column off, and there has to be a mask.
    return [NO_MASK] if text.strip().lower() == NO_MASK else items(text)


def mask_notes(text: str) -> list[str]:
    """Return sentences on names of masks that stand for another mask on the command line.

    Raises
    ------
    RequestError
        If the cell is not a list of masks.
    """
    found = []
    for name in _mask_names(text):
        (here,), elsewhere = resolve_masks(name, _BARE), Mask.parse(name)
        if here != elsewhere:
            found.append(f"{name} is {here} in job files, and {elsewhere} on the command line; write it in full.")
    return found


def _compiled(text: str) -> tuple[str, ...]:
    """Read the names of compilations, in a fixed order."""
    names = [name.lower() for name in items(text)]
    allowed = (*_KINDS, _RANGE, _ALL_DATA)
    for name in names:
        if name not in allowed:
            raise UnknownNameError("compilation", name, allowed)
    return tuple(kind for kind in (*periods.KINDS, _RANGE) if kind in names)


def _pixels(text: str) -> PixelRule:
    for rule in get_args(PixelRule):
        if text.lower() == rule:
            return cast("PixelRule", rule)
    if is_off(text):
        return "center"
    raise UnknownNameError("pixel rule", text, get_args(PixelRule))


def _buffer(text: str) -> float | None:
    if is_off(text):
        return None
    if not re.fullmatch(r"[-+]?[0-9]{1,6}(\.[0-9]{1,6})?", text) or abs(float(text)) > MOST_BUFFER:
        raise RequestError(
            f"{quoted(text)} is not a number of metres, at most {MOST_BUFFER:.0f}; write 10, or -10 to shrink."
        )
    return float(text) or None


def _keeping(text: str) -> bool | tuple[str, ...]:
    """Read whether pixels are kept, or the bands that are kept."""
    if is_off(text) or is_on(text):
        return is_on(text)
    return kept_bands([name.upper() for name in items(text)])


def _margin(text: str) -> float | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) or float(text) > MOST_MARGIN:
        raise RequestError(f"{quoted(text)} is not a number of metres, at most {MOST_MARGIN:.0f}; write 300.")
    return float(text)


def _stats(text: str) -> tuple[str, ...]:
    names = () if is_off(text) else tuple(name.strip() for name in text.split("/"))
    return Statistics.of(names).extra


def _share(text: str) -> float:
    if is_off(text):
        return 0.0
    if not re.fullmatch(r"[01]?(\.[0-9]{1,9})?", text) or float(text) > 1:
        raise RequestError(f"{quoted(text)} is not a share from 0 to 1; write 0.8 for 80 percent.")
    return float(text)


def _aggregates(text: str) -> tuple[str, ...]:
    names = items(text)
    return periods.Aggregation.of(names).names if names else ()


def _catalogue(text: str) -> str:
    """Read the setting ``library``; the message of an error does not repeat the address, which may hold a key."""
    if is_off(text):
        return ""
    kind, place = text[: len(OF_CATALOGUE)], text[len(OF_CATALOGUE) :].strip()
    if kind.lower() != OF_CATALOGUE or not place:
        raise RequestError(
            f"it does not name a catalogue; write {OF_CATALOGUE}https://... or {OF_CATALOGUE}items.parquet, or remove "
            "it to read the archive of sen2chain_data."
        )
    return place


def _assets(text: str) -> dict[str, str]:
    """Read names of assets by band, as ``B04=red/B08=nir``."""
    found = {}
    for item in items(text):
        band, is_there, asset = (part.strip() for part in item.partition("="))
        if not (band and is_there and asset):
            raise RequestError(f"{quoted(item)} does not name a band and its asset; write B04=red/B08=nir.")
        found[band.upper()] = asset
    return found


def _verify(text: str) -> Verify:
    for choice in get_args(Verify):
        if text.lower() == choice:
            return cast("Verify", choice)
    if is_off(text):
        return "never"
    raise UnknownNameError("verification", text, get_args(Verify))


def _smoothing(text: str) -> str | bool:
    if text.strip().lower() in _SMOOTHING:
        return text.strip().lower()
    try:
        return switch(text)
    except RequestError:
        raise UnknownNameError("smoothing", text, ("True", "False", *_SMOOTHING)) from None


def read_command(text: str) -> tuple[str, ...]:
    """Split a command into a program and its arguments, without a shell.

    Raises
    ------
    RequestError
        If a quote is not closed.
    """
    if text.strip().lower() in {"false", "none"}:
        return ()
    try:
        program, *arguments = shlex.split(text) or [""]
    except ValueError:
        raise RequestError("it has a quote that is not closed.") from None
    return (os.path.expanduser(program), *arguments) if program else ()  # noqa: PTH111  # it may be a plain name


def _seconds(text: str) -> float:
    number = cell_number(text, LONGEST_DELIVERY)
    if not number:
        raise RequestError("0 seconds leave no time; write 3600 for an hour.")
    return float(number)


_SETTING_READERS: dict[str, Callable[[str], Any]] = {
    "logs": switch,
    "timing": Timing.parse,
    "nb_proc": lambda text: cell_number(text or "0", MOST_WORKERS),
    "process_by_line": _number_or_off(MOST_LINES),
    "on_failure": read_command,
    "on_success": read_command,
    "delivery_timeout": _seconds,
    "keep_runs": _number_or_off(MOST_LINES),
    "safe": lambda text: _text_or_off(text) or "",
    "library": _catalogue,
    "collection": _text_or_off,
    "stac_asset": _assets,
    "stac_allow": lambda text: () if is_off(text) else tuple(text.split()),
    "verify": _verify,
    "page": switch,
}
"""How the text of each setting is read."""

_CELL_READERS: dict[str, Callable[[str], Any]] = {
    "date_min": Day.parse,
    "date_max": Day.parse,
    "max_clouds": percentage,
    "cloudmasks": _masks,
    "indices": _indices,
    "force_extraction": switch,
    "compiled_data": _compiled,
    "smooth_data": _smoothing,
    "copy_server": lambda text: None if is_off(text) else parse_destination(text),
    "pixels": _pixels,
    "buffer": _buffer,
    "stats": _stats,
    "min_valid": _share,
    "aggregate": _aggregates,
    "id_field": _text_or_off,
    "encoding": _text_or_off,
    "crs": _text_or_off,
    "keep_pixels": _keeping,
    "keep_margin": _margin,
}
"""How a cell of each column but the first is read."""


def default_settings() -> Settings:
    """Return the settings of a file that sets none."""
    return Settings(**{name: read(DEFAULTS[name]) for name, read in _SETTING_READERS.items()})
