"""`Library`: an archive as a whole - what it holds, rasters to make, checks of its files, and conversions."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Literal, TypedDict

from sen2chain import settings
from sen2chain.archive import open_library, open_target
from sen2chain.atomic import check_folder
from sen2chain.errors import (
    LibraryError,
    OutputError,
    RequestError,
    choice,
    items_of,
    out_of_range,
    quoted,
    real_number,
    truth,
    whole_number,
)
from sen2chain.indices import resolve_indices
from sen2chain.inspection import check_archive, put_back, read_contents
from sen2chain.masks import NO_MASK, Mask
from sen2chain.notebook import card
from sen2chain.parallel import MOST_WORKERS
from sen2chain.plan import parse_date
from sen2chain.produce import ProductRequest, convert_rasters, plan_products, produce_files
from sen2chain.products import Source
from sen2chain.progress import activity, say
from sen2chain.suggestions import suggest_keywords

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from sen2chain.archive import LibrarySource, SafeFolder
    from sen2chain.indices import Index
    from sen2chain.inspection import ArchiveCheck, ArchiveInfo, Moves
    from sen2chain.produce import Conversion, Production, ProductPlan
    from sen2chain.settings import Paths

_MODEL_MASK = "OCM"
_RESOLUTIONS = (10, 20)
_NEAREST = 8
"""Tiles that are named where an unknown one is asked for."""


class Library:
    """An archive: a Sen2Chain library, a folder of SAFE products, or a library with products from such a folder.

    Nothing is read or created until a method is called.

    Parameters
    ----------
    library
        Folder of a Sen2Chain library; by default ``$SEN2CHAIN_HOMEPATH/sen2chain_data`` or ``~/sen2chain_data``. With
        `safe` it may be a folder that is empty or does not exist: the first raster that is made makes it a library.
    safe
        A folder of SAFE products, also zipped, in the place of the library's own products. Where it is given alone,
        `info` and `check` look at this folder only, and `produce` writes into the library by default.

    Raises
    ------
    LibraryError
        If there is no archive at that place.
    RequestError
        If `library` is a catalogue or another source.

    Examples
    --------
    >>> library = Library("sen2chain_data")  # doctest: +SKIP
    >>> library.produce(indices=["NDVI"], masks=["CM004"], tiles=["40KCB"])  # doctest: +SKIP
    """

    @suggest_keywords
    def __init__(self, library: str | Path | None = None, safe: str | Path | None = None) -> None:
        self._library, self._safe = library, safe
        self._archive()

    @property
    def paths(self) -> Paths:
        """Folders of the library, as its configuration sets them now."""
        return settings.paths(self._library) if self._safe is None else settings.target_paths(self._library)

    @property
    def is_new(self) -> bool:
        """Whether the library has no folder of products, indices or masks yet."""
        return not self.paths.has_archive

    def __repr__(self) -> str:
        names = {"library": self._library, "safe": self._safe}
        given = (f"{name}={str(path)!r}" for name, path in names.items() if path is not None)
        return f"Library({', '.join(given)})"

    def _repr_html_(self) -> str:
        """Show the folders in a notebook; nothing is read."""
        paths = self.paths
        products = paths.l2a if self._safe is None else self._safe
        facts = [("L2A products", products), ("indices", paths.indices), ("masks", paths.cloudmasks)]
        return card("Library", [("folder", paths.home), *facts], "library.info()")

    def info(self, *, quiet: bool | None = None) -> ArchiveInfo:
        """Read what the archive holds: products, bands, masks, indices, what is missing, bytes.

        Metadata of products is read once and kept for later runs; no pixel is read.

        Parameters
        ----------
        quiet
            Show no progress; it is shown on a terminal or in a notebook only anyway.

        Returns
        -------
        ArchiveInfo
            Its text is a table; ``to_frame()`` and ``to_dict()`` give the figures.

        Raises
        ------
        LibraryError
            If a folder cannot be listed.
        """
        return read_contents(self._archive(), quiet=truth("quiet", quiet))

    @suggest_keywords
    def produce(
        self,
        indices: Sequence[str | Index] | str | Index | None = None,
        masks: Iterable[str | Mask] | str | Mask | None = None,
        *,
        masked: bool = False,
        quicklooks: bool = False,
        tiles: Iterable[str] | str | None = None,
        date_min: dt.date | str | None = None,
        date_max: dt.date | str | None = None,
        cover_min: float = 0,
        cover_max: float = 100,
        precision: float | None = None,
        mask_format: Literal["tif", "jp2"] = "tif",
        force: bool = False,
        verify: Literal["never", "first"] = "never",
        workers: int = 0,
        resolution: int = 10,
        dry_run: bool = False,
        quiet: bool | None = None,
    ) -> Production | ProductPlan:
        """Make rasters of indices and masks, and quicklooks, and write them into the library.

        What exists is kept, unless its inputs or the rules have changed. A run that was stopped is completed by the
        next one. One product's fault is a reason in the result and does not end the run.

        Parameters
        ----------
        indices
            Names of indices, ``NAME=formula``, or `Index` values; None makes no index raster.
        masks
            Names of masks in full, short ones of `sen2chain.Mask.parse` (``CM004`` is
            ``CM004-CSH1-CMP1-CHP1-TCI1-ITER1``), or `Mask` values; None makes no mask. ``OCM`` is OmniCloudMask and
            needs the extra ``sen2chain[ocm]``.
        masked
            Make each index under each mask too: a raster in which masked pixels are no data.
        quicklooks
            Make small pictures too: of the true colour and of each index, with the first mask hatched.
        tiles
            Names of tiles; None means all of the archive.
        date_min, date_max
            First and last sensing date, inclusive, as ``YYYY-MM-DD`` or dates; None is open.
        cover_min, cover_max
            Limits of the products' cloud cover in percent; products without a figure are kept.
        precision
            Step that index values are rounded to, as 0.001, which makes files smaller; None keeps all digits.
        mask_format
            ``tif`` (Cloud-Optimized GeoTIFF) or ``jp2`` (lossless JPEG 2000). Index rasters are always ``tif``.
        force
            Make again what exists, and replace rasters of another formula, precision or resolution.
        verify
            ``first``: compare the files of each product with its checksums before they are read.
        workers
            Number of threads; 0 uses all processors.
        resolution
            Pixel size in metres that OmniCloudMask works at: 10 or 20.
        dry_run
            Return the plan and write nothing.
        quiet
            Show no progress; it is shown on a terminal or in a notebook only anyway.

        Returns
        -------
        Production or ProductPlan
            What became of each file: made, kept, refused, impossible or failed, with the reason. With `dry_run` the
            plan, which `run` carries out.

        Raises
        ------
        RequestError
            If a parameter cannot be used; the message lists what is allowed.
        LibraryError
            If a folder cannot be listed, or there is no product at all.
        OutputError
            If a folder cannot be written, or the disk is full; files that are complete stay.
        MissingExtraError
            If a library that was asked for is not installed.
        """
        is_quiet, only_plan = truth("quiet", quiet), truth("dry_run", dry_run)
        source = self._target()
        request = ProductRequest(
            indices=_indices(indices),
            masks=_masks(masks),
            masked=truth("masked", masked),
            quicklooks=truth("quicklooks", quicklooks),
            cover=_cover(cover_min, cover_max),
            precision=0.0 if precision is None else precision,
            mask_format=mask_format,
            force=truth("force", force),
            verify=_is_verified(verify),
            workers=workers,
            model_resolution=_resolution(resolution),
            **_where_and_when(source, tiles, date_min, date_max),
        )
        _check_together(request)
        with activity("looking for products", quiet=is_quiet):
            plan = plan_products(request, source)
        if not (plan.orders or plan.skipped or source.tiles()):
            raise _without_products(source)
        return plan if only_plan else self.run(plan, quiet=is_quiet)

    @suggest_keywords
    def run(self, plan: ProductPlan, *, quiet: bool | None = None) -> Production:
        """Make the files of a plan that ``produce(..., dry_run=True)`` has returned; parameters and errors as there."""
        is_quiet = truth("quiet", quiet)
        if plan.to_make:
            _check_names(self.paths)
        for sentence in [*plan.sentences(), *self.where()]:
            say(sentence, quiet=is_quiet)
        if plan.to_make and self.is_new:
            for folder in (self.paths.indices, self.paths.cloudmasks):  # by which it is recognised
                check_folder(folder)
        return produce_files(plan, self._target(), quiet=is_quiet)

    def where(self) -> list[str]:
        """Say where rasters are written, where that does not follow from what was named: in one sentence, or none."""
        if self.is_new:
            return [f"{self.paths.home} becomes a library, with INDICES and CLOUDMASKS in it."]
        if self._library is None and self._safe is not None:
            return [f"Files go into your library {self.paths.home}; name another one with --library (library=)."]
        return []

    @suggest_keywords
    def check(
        self,
        *,
        tiles: Iterable[str] | str | None = None,
        date_min: dt.date | str | None = None,
        date_max: dt.date | str | None = None,
        parts: Iterable[str] | str | None = None,
        quick: bool = False,
        fix: bool = False,
        verify: Literal["never", "first"] = "first",
        workers: int = 0,
        quiet: bool | None = None,
    ) -> ArchiveCheck:
        """Read and judge what is stored: rasters, offsets, duplicates, leftovers of runs that were stopped.

        Parameters
        ----------
        tiles, date_min, date_max, workers, quiet
            As for `produce`.
        parts
            What is checked: some of ``rasters``, ``offsets``, ``duplicates``, ``leftovers``; None means all.
        quick
            Read headers and metadata alone.
        fix
            Move damaged files and leftovers of the library aside, into a folder that the result names, from which
            `put_back` takes them. Nothing is deleted, and nothing in SAFE products is moved.
        verify
            ``first``: compare the files of products with the checksums that they list; ``never``: do not.

        Returns
        -------
        ArchiveCheck
            The findings; its text is a table.

        Raises
        ------
        RequestError
            If a parameter cannot be used.
        LibraryError
            If a folder cannot be listed.
        OutputError
            If files cannot be moved.
        """
        source = self._archive()
        return check_archive(
            source,
            **_where_and_when(source, tiles, date_min, date_max),
            **({} if parts is None else {"parts": _texts("parts", parts, '"offsets"')}),
            quick=truth("quick", quick),
            fix=truth("fix", fix),
            verify=_is_verified(verify),
            workers=_workers(workers),
            quiet=truth("quiet", quiet),
        )

    @staticmethod
    def put_back(folder: str | Path) -> Moves:
        """Move files back that ``check(fix=True)`` has moved aside; those whose place is taken stay.

        The folder lies in its library, so ``Library.put_back(folder)`` needs no other one.

        Parameters
        ----------
        folder
            The folder that the check has named.

        Raises
        ------
        LibraryError
            If it is not such a folder.
        OutputError
            If files cannot be moved.
        """
        return put_back(folder)

    @suggest_keywords
    def convert(
        self,
        *,
        indices: Sequence[str | Index] | str | Index | None = None,
        tiles: Iterable[str] | str | None = None,
        date_min: dt.date | str | None = None,
        date_max: dt.date | str | None = None,
        move_old: str | Path | None = None,
        force: bool = False,
        dry_run: bool = False,
        workers: int = 0,
        quiet: bool | None = None,
    ) -> Conversion:
        """Convert index rasters of the original program, which are lossy JPEG 2000, into Cloud-Optimized GeoTIFF.

        They are computed from the bands where the product is still there, else taken from the JPEG 2000 file; the tags
        of the new file say which. The old file stays.

        Parameters
        ----------
        indices
            Names of indices; None means the twelve.
        tiles, date_min, date_max, force, dry_run, workers, quiet
            As for `produce`.
        move_old
            A folder that the old files are moved to when the new ones are complete.

        Returns
        -------
        Conversion
            What became of each file.

        Raises
        ------
        RequestError
            If a parameter cannot be used.
        LibraryError
            If a folder cannot be listed.
        OutputError
            If a folder cannot be written, or the disk is full.
        """
        source = self._target()
        if not truth("dry_run", dry_run):
            _check_names(source.paths)
        return convert_rasters(
            source,
            indices=None if indices is None else resolve_indices(indices),
            **_where_and_when(source, tiles, date_min, date_max),
            move_old=move_old,
            force=truth("force", force),
            dry_run=truth("dry_run", dry_run),
            workers=_workers(workers),
            quiet=truth("quiet", quiet),
        )

    def _target(self) -> LibrarySource:
        """Open the library that rasters are written into; it lists files as they are now."""
        return open_target(self._library, self._safe)

    def _archive(self) -> LibrarySource | SafeFolder:
        """Open what is looked at: without a library the folder of SAFE products alone."""
        if isinstance(self._library, Source) or (self._library is not None and self._safe is not None):
            return self._target()  # which refuses another source, and takes a new library
        # Folders are opened as one of the two.
        return open_library(self._library, self._safe)  # type: ignore[return-value]


def _indices(given: Sequence[str | Index] | str | Index | None) -> tuple[Index, ...]:
    """Return the indices that are named; none where none is."""
    if given is None or (isinstance(given, list | tuple) and not given):
        return ()
    return resolve_indices(given)


def _masks(given: Iterable[str | Mask] | str | Mask | None) -> tuple[Mask, ...]:
    """Return the masks that are named, each once; none where none is.

    Raises
    ------
    RequestError
        If a name is unknown, or stands for no mask.
    """
    if given is None:
        return ()
    items = [given] if isinstance(given, str | Mask) else items_of("masks", given, '"CM004"')
    found = dict.fromkeys(item if isinstance(item, Mask) else Mask.parse(item) for item in items)
    for mask in found:
        if mask.family == NO_MASK:
            raise RequestError(f"The mask {NO_MASK} masks nothing, so there is no raster to make; leave it out.")
    return tuple(found)


def _check_together(request: ProductRequest) -> None:
    """Refuse options that nothing in the request takes.

    Raises
    ------
    RequestError
        If the format of masks or the resolution of OmniCloudMask is given without such a mask.
    """
    if request.mask_format == "jp2" and not request.masks:
        raise RequestError("The format jp2 is for masks, and none is named; index rasters are always tif.")
    if request.model_resolution != _RESOLUTIONS[0] and all(mask.family != _MODEL_MASK for mask in request.masks):
        raise RequestError(f"A resolution belongs to the mask {_MODEL_MASK}, which is not named; leave it out.")


def _check_names(paths: Paths) -> None:
    """Make sure that GDAL can write into the library.

    Raises
    ------
    OutputError
        If the name of a folder holds bytes that are not UTF-8, which GDAL's bindings cannot pass on.
    """
    for folder in (paths.indices, paths.cloudmasks, paths.quicklooks):
        try:
            str(folder).encode()
        except UnicodeEncodeError:
            raise OutputError(
                f"No raster can be written into {folder}, since its name is not UTF-8; rename the folder."
            ) from None


def _is_verified(verify: str) -> bool:
    """Whether checksums are compared."""
    choice("verification", verify, ("never", "first"))
    return verify == "first"


def _workers(count: int) -> int:
    """Check the number of threads.

    Raises
    ------
    RequestError
        If it is no such number.
    """
    return whole_number("workers", count, 0, MOST_WORKERS, "0 for all processors, or numbers")


def _resolution(metres: int) -> int:
    """Check the size of the pixels that OmniCloudMask works at.

    Raises
    ------
    RequestError
        If it is another number than 10 or 20.
    """
    metres = whole_number("resolution", metres, *_RESOLUTIONS, "10 or 20 metres, whole numbers")
    if metres not in _RESOLUTIONS:
        raise out_of_range("resolution", metres, "10 or 20 metres")
    return metres


def _cover(low: float, high: float) -> tuple[float, float]:
    """Return the limits of the cloud cover.

    Raises
    ------
    RequestError
        If they are no percentages, or the wrong way round.
    """
    low = real_number("cover_min", low, 0, 100, "percentages")
    high = real_number("cover_max", high, 0, 100, "percentages")
    if low > high:
        raise RequestError(f"cover_min {low:g} is above cover_max {high:g}; swap them.")
    return low, high


class _WhereAndWhen(TypedDict):
    """Tiles and dates, as the steps of a library take them."""

    tiles: tuple[str, ...] | None
    first: dt.date | None
    last: dt.date | None


def _where_and_when(
    source: Source, tiles: Iterable[str] | str | None, date_min: dt.date | str | None, date_max: dt.date | str | None
) -> _WhereAndWhen:
    """Read tiles and dates.

    Raises
    ------
    RequestError
        If they cannot be used.
    LibraryError
        If the source has no product at all, although tiles are named.
    """
    first, last = parse_date("date_min", date_min), parse_date("date_max", date_max)
    if first and last and first > last:
        raise RequestError(f"date_min {first} is after date_max {last}; swap them.")
    return {"tiles": _tiles(tiles, source), "first": first, "last": last}


def _texts(parameter: str, given: Iterable[str] | str, example: str) -> list[str]:
    """Return one text or several as a list.

    Raises
    ------
    RequestError
        If there is none, or something else.
    """
    found = [given] if isinstance(given, str) else items_of(parameter, given, example)
    if not found or not all(isinstance(text, str) for text in found):
        raise RequestError(f"{parameter} is {quoted(given)}; pass one or several of them, as {example}, or None.")
    return found


def _without_products(source: Source) -> LibraryError:
    """Return the error for an archive without any product."""
    return LibraryError(f"There is no product in the {source.describe()}; is its disk mounted?")


def _tiles(given: Iterable[str] | str | None, source: Source) -> tuple[str, ...] | None:
    """Return the names of tiles as the source has them, each once; None where all are meant.

    Raises
    ------
    RequestError
        If the source has no product of a tile.
    LibraryError
        If it has no product at all.
    """
    if given is None:
        return None
    known = list(source.tiles())
    found = []
    for name in _texts("tiles", given, '"40KCB"'):
        tile = name.strip().upper()
        found.append(tile.removeprefix("T") if tile not in known else tile)
        if found[-1] in known:
            continue
        if not known:
            raise _without_products(source)
        alike = sorted(known, key=lambda other: -difflib.SequenceMatcher(None, other, found[-1]).ratio())
        more = f" and {len(alike) - _NEAREST} more" if len(alike) > _NEAREST else ""
        place, there = source.describe(), ", ".join(alike[:_NEAREST])
        raise RequestError(f"There is no product of tile {quoted(name)} in the {place}; there are: {there}{more}.")
    return tuple(dict.fromkeys(found))
