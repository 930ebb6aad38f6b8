"""Quicklooks of both classes: the chips of features through time as single images and as contact sheets."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sen2chain.atomic import NAME_MAX, FileGroup, check_folder
from sen2chain.chips import ChipNotes, ChipSize
from sen2chain.errors import RequestError, real_number
from sen2chain.masks import NO_MASK
from sen2chain.parallel import closed
from sen2chain.pictures.chip_images import ChipPainter, ChipStyle, jpeg, need_pillow
from sen2chain.pictures.contact_sheets import ContactSheet, SheetText
from sen2chain.suggestions import suggest_keywords
from sen2chain.timeseries.chip_series import ChipSeries, chip_legend

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from sen2chain.chips import Chip
    from sen2chain.index_series import IndexSeries
    from sen2chain.products import Acquisition, ProductId
    from sen2chain.provenance import PlannedTable

    Fids = npt.NDArray[np.int64]

MOST = 20
"""Features that quicklooks are made of where none are named."""
_SINGLE, _CELL = 320, 144  # pixels of the longer side of an image
_COLOUR = "L2A"  # as the documented names call the true colour


class SeriesQuicklooks(ChipSeries):
    """Quicklooks of the features of a series."""

    def check_quicklooks(self, features: Any = None) -> None:
        """Make sure, before any work starts, that quicklooks can be made of some features.

        Parameters
        ----------
        features
            As for `extract_ql`.

        Raises
        ------
        RequestError
            If a feature is not in the layer.
        MissingExtraError
            If Pillow is not installed.
        """
        need_pillow()
        self._engine.features.find(features)

    @suggest_keywords
    def extract_ql(
        self, out_path: str | Path | None = None, *, features: Any = None, margin: float = 0.2
    ) -> list[Path]:
        """Write images of features through time: one of each date, and contact sheets of all dates.

        They show the true colour (``L2A`` in file names) and each index of the run, with the cloud mask hatched, pixels
        without data grey, and the outline of the feature. Where the archive has indices but no bands, there are images
        of the indices alone, and `notes` says so.

        Parameters
        ----------
        out_path
            Folder; images go to ``<out_path>/<stem>/QL_<key>/``, where the key is the feature's value of `id_field`,
            else its name, else its fid, made fit for file names. A `TimeSeriesCompil` needs none: None is the folder of
            its compiled files of all dates.
        features
            Values of `id_field` where there is one, else fids, or names; None takes the first 20, and `notes` says so.
        margin
            Ground around a feature on each side, as a part of its longer side, from 0 to 10.

        Returns
        -------
        list
            The files: for each feature the contact sheets, then the images by date.

        Raises
        ------
        RequestError
            If a feature is not in the layer, or a parameter cannot be used.
        LibraryError
            If there is no archive: quicklooks are read from its rasters.
        OutputError
            If the folder cannot be written.
        MissingExtraError
            If Pillow is not installed.
        """
        need_pillow()
        size = ChipSize(margin=real_number("margin", margin, 0, 10))
        known = self._engine.features
        fids = known.find(features)
        remarks = []
        if features is None and len(fids) > MOST:
            fids = fids[:MOST]
            remarks.append(
                f"Quicklooks show the first {MOST} of {len(known)} features; name others with features= (--feature)."
            )
        acquisitions = self._chip_acquisitions(fids)
        series = self._series()
        pictures = self._pictures(out_path, series, fids)
        self._check_names(pictures, fids)
        notes = ChipNotes()
        folders = [check_folder(picture.folder) for picture in pictures]
        with FileGroup(_common(folders)) as group:
            writer = _Writer(pictures, known.keys, known.names, group, _repeated_days(acquisitions))
            with closed(
                self._read_chips(fids, size=size, notes=notes, series=series, acquisitions=acquisitions)
            ) as chips:
                for chip in chips:
                    writer.add(chip)
            files = writer.finish()
            group.finish()
        without = len(fids) - len(writer.shown)
        if without:
            have = "1 feature has no image: it has" if without == 1 else f"{without} features have no image: they have"
            remarks.append(f"Quicklooks: {have} no geometry, or no acquisition has data there.")
        self._remarks += [*remarks, *notes.sentences()]
        return files

    def _planned_results(self, out_path: str | Path | None, kind: str) -> list[PlannedTable]:
        if kind != "quicklooks":
            return super()._planned_results(out_path, kind)
        self.check_quicklooks()
        return []

    def _pictures(self, out_path: str | Path | None, series: Sequence[IndexSeries], fids: Fids) -> list[_Picture]:
        """Return what is shown of each chip, and where it goes."""
        several = len(self.request.masks) > 1
        pictures = []
        indices = self.request.indices
        for mask in self.request.masks:
            hatched = None if mask.family == NO_MASK else mask.name
            names = (self._engine.layer.name, f"_{mask.name}" if several else "")
            dates = f"{self.request.first}_{self.request.last}"
            first = self._results_folder(out_path, indices[0].name, mask.name)
            pictures.append(_Picture(ChipStyle(None, None, hatched), _COLOUR, first, *names, dates))
            for index in indices:
                one = next(s for s in series if s.index is index and s.mask == mask.name)
                style = ChipStyle(index, chip_legend(one, fids), hatched)
                folder = self._results_folder(out_path, index.name, mask.name)
                pictures.append(_Picture(style, index.name, folder, *names, dates))
        return pictures

    def _check_names(self, pictures: Iterable[_Picture], fids: Fids) -> None:
        """Make sure that file names are not too long.

        Raises
        ------
        RequestError
            If one is.
        """
        keys = [self._engine.features.keys[fid] for fid in fids.tolist()]
        names = [picture.sheet_name(key) for picture in pictures for key in keys]
        over = max((len(os.fsencode(name)) for name in names), default=0) + len("2022-06-01T101559") - NAME_MAX
        if over > 0:
            raise RequestError(
                f"The names of quicklooks are too long for a file by {over} bytes; pass a shorter name=, or rename the "
                "layer's file."
            )


@dataclass(frozen=True, slots=True)
class _Picture:
    """What is shown of chips, and the names of its files."""

    style: ChipStyle
    what: str
    """``L2A`` or the name of the index."""
    folder: Path
    stem: str
    suffix: str
    """The mask, where there are several."""
    dates: str

    def image_path(self, key: str, date: str, product: ProductId) -> Path:
        """Return the path of the image of one date."""
        name = f"{self.stem}_QL_{key}_{self.what}_{date}_{product.tile}_{product.platform}{self.suffix}.jpg"
        return self.folder / f"QL_{key}" / name

    def sheet_name(self, key: str) -> str:
        """Return the file name of a contact sheet."""
        return f"{self.stem}_MOZ-QL_{key}_{self.what}_{self.dates}{self.suffix}.jpg"

    @property
    def subtitle(self) -> str:
        """What a contact sheet shows."""
        return f"{'True colour' if self.style.index is None else self.what} of {self.stem}"


@dataclass(slots=True)
class _Writer:
    """Writes the images of chips, and the contact sheets at the end."""

    pictures: Sequence[_Picture]
    keys: Sequence[str]
    names: Sequence[str]
    group: FileGroup
    repeated: set[tuple[dt.date, str, str]]
    shown: dict[int, dict[int, ContactSheet]] = field(default_factory=dict)
    """fid -> position of a picture -> its contact sheet."""
    files: dict[int, list[Path]] = field(default_factory=dict)
    """fid -> its images."""
    _painters: list[tuple[ChipPainter, ChipPainter]] = field(default_factory=list)
    """For each picture, the painter of single images and that of contact sheets."""

    def __post_init__(self) -> None:
        large: dict[Any, Any] = {}
        small: dict[Any, Any] = {}
        self._painters = [
            (ChipPainter(picture.style, _SINGLE, large), ChipPainter(picture.style, _CELL, small))
            for picture in self.pictures
        ]

    def add(self, chip: Chip) -> None:
        """Write the images of a chip."""
        key = self.keys[chip.fid]
        for k, picture in enumerate(self.pictures):
            style = picture.style
            if not style.fits(chip):
                continue
            single, small = self._painters[k]
            date = f"{chip.date:%Y-%m-%dT%H%M%S}" if _day(chip.product) in self.repeated else f"{chip.date:%Y-%m-%d}"
            path = picture.image_path(key, date, chip.product)
            self.group.append(path, jpeg(single.paint(chip)))
            self.files.setdefault(chip.fid, []).append(path)
            sheets = self.shown.setdefault(chip.fid, {})
            if k not in sheets:
                text = SheetText(
                    self.names[chip.fid], picture.subtitle, style.mask or "", style.name or "", style.legend
                )
                sheets[k] = ContactSheet(text, _CELL)
            sheets[k].add(chip.date, chip.valid_share(style.name, style.mask), small.paint(chip))

    def finish(self) -> list[Path]:
        """Write the contact sheets; return all files."""
        found: list[Path] = []
        for fid, sheets in self.shown.items():
            for k in sorted(sheets):
                path = self.pictures[k].folder / f"QL_{self.keys[fid]}" / self.pictures[k].sheet_name(self.keys[fid])
                self.group.append(path, jpeg(sheets[k].draw()))
                found.append(path)
            found += self.files[fid]
        return found


def _day(product: ProductId) -> tuple[dt.date, str, str]:
    return product.sensing.date(), product.tile, product.platform


def _repeated_days(acquisitions: Iterable[Acquisition]) -> set[tuple[dt.date, str, str]]:
    """Return day, tile and platform of acquisitions of which a day has several; names of their files need the time."""
    times = {(_day(acquisition.id), acquisition.id.sensing) for acquisition in acquisitions}
    return {day for day, count in Counter(day for day, _ in times).items() if count > 1}


def _common(folders: Sequence[Path]) -> Path:
    """Return a folder that holds some others."""
    return type(folders[0])(os.path.commonpath(folders))
