"""The pixels that an update of a layer's folder keeps beside its rows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sen2chain.errors import KeptPixelsError, OutputError
from sen2chain.extract import kept_bytes
from sen2chain.plan import ValueKind
from sen2chain.progress import activity, counted, sized
from sen2chain.store import PixelFolder
from sen2chain.store.inputs import kept_locations

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sen2chain.extract import Coverages, KeptPixels
    from sen2chain.extract.extraction import TaskResult
    from sen2chain.pixel_store import TilePositions
    from sen2chain.plan import Task
    from sen2chain.products import ProductId
    from sen2chain.store import ExtractionFolder, ImageLedger, KeptEntry
    from sen2chain.store.inputs import Inputs
    from sen2chain.timeseries.engine import Engine


class PixelUpdate:
    """Writes the pixels of an update; what cannot be kept costs no rows, and is counted.

    Parameters
    ----------
    engine
        The request.
    folder, ledger
        The layer's folder, whose lock is held unless the update only looks, and its ledger.
    """

    def __init__(self, engine: Engine, folder: ExtractionFolder, ledger: ImageLedger) -> None:
        self._engine, self._files = engine, PixelFolder(folder, ledger)
        not_here = self._files.why_not()
        self._why_not = not_here if engine.keep else ""
        self._adopted = [] if not_here else self._files.adopt()
        self._usable = self._readable() if engine.keep and not self._why_not else {}
        self._lost: Counter[str] = Counter()
        self._superseded = 0
        self.kept = 0
        """Acquisitions whose pixels this update has kept, with all that was asked for."""
        self.size = 0
        """Bytes of their files."""

    @property
    def usable(self) -> dict[str, KeptEntry]:
        """The pixels that are kept already and can be read, by product."""
        return self._usable

    @property
    def failed(self) -> int:
        """Acquisitions whose pixels could not be kept, or not all of them."""
        return sum(self._lost.values())

    def _readable(self) -> dict[str, KeptEntry]:
        """Return the pixels that can be read; each file is read as a whole where the request says to verify files."""
        if self._engine.request.verify == "never":
            return self._files.usable()
        with activity("checking the files of kept pixels", quiet=self._engine.quiet):
            return self._files.usable(verify=True)

    def sweep(self) -> None:
        """Enter adopted pixels; remove the rest of what killed runs left, and positions that this one has replaced."""
        self._files.enter_adopted()
        if self._engine.keep and not self._why_not:
            self._files.sweep()

    def write(self, result: TaskResult, inputs: Inputs, coverages: Coverages) -> KeptEntry | None:
        """Write the pixels of an acquisition, and return the entry for `enter`; None where nothing was written."""
        task, kept = result.task, result.kept
        if task.keep is None or kept is None:
            return None
        why = self._why_not or next(iter(kept.lacking.values()), "")
        entry = None
        if kept.content and not self._why_not:
            try:
                entry = self._write(task, kept, inputs, coverages)
            except (OutputError, KeptPixelsError) as error:
                why = str(error)
        if why:
            self._lost[why] += 1
        else:
            self.kept += 1
        self.size += entry.size if entry is not None else 0
        return entry

    def _write(self, task: Task, kept: KeptPixels, inputs: Inputs, coverages: Coverages) -> KeptEntry:
        positions = _positions(task, kept, coverages)
        tokens = {role: inputs.record_of(where) for role, where in kept_locations(task).items()}
        former = self._former(task, kept, inputs)
        if former is not None:
            try:
                return self._files.write(task.product, kept, positions, tokens, former)
            except KeptPixelsError:  # it is damaged, and what is lacking then is read again by the next run
                pass
        return self._files.write(task.product, kept, positions, tokens, None)

    def _former(self, task: Task, kept: KeptPixels, inputs: Inputs) -> KeptEntry | None:
        """Return the pixels of the same files that are kept already; None where the files have changed."""
        former = self._usable.get(str(task.product))
        if former is None or task.keep is None or former.inputs.keys() != task.details.inputs.keys():
            return None
        recorded = {where: former.inputs[role] for role, where in task.details.inputs.items()}
        rasters = (name for name in kept.rasters if name in former.rasters)
        recorded |= {task.keep.rasters[name]: former.rasters[name].token for name in rasters}
        return former if all(inputs.is_same(token, where) for where, token in recorded.items()) else None

    def enter(self, entry: KeptEntry | None) -> None:
        """Enter pixels in the catalogue, in the same step as the rows."""
        if entry is not None:
            self._files.enter(entry)

    def tidy(self, entry: KeptEntry | None) -> None:
        """Remove what an entry replaces: former pixels, and those of an older product that the archive lacks."""
        if entry is None:
            return
        self._files.remove_former(entry)
        self._usable[entry.product] = entry
        self._superseded += len(self._files.superseded(entry.id, self._in_archive))

    def _has_all(self, product: str) -> bool:
        """Whether the pixels of a product are kept already, those of all bands that are asked for."""
        entry, keep = self._usable.get(product), self._engine.keep
        return entry is not None and keep is not None and entry.rasters.keys() >= set(keep.bands or ())

    def _in_archive(self, product: ProductId) -> Iterable[ProductId]:
        day = product.sensing.date()
        return [acquisition.id for acquisition in self._engine.source.acquisitions(product.tile, day, day)]

    # ------------------------------------------------------------------------------------------------------- sentences

    def notes(self, *, extracts: bool) -> list[str]:
        """Return sentences on what was kept and what was not.

        Parameters
        ----------
        extracts
            Whether the update has read any acquisition.
        """
        if self._engine.keep is None:
            count = len(self._files.entries) if extracts else 0
            if not count:
                return []
            what = f"The folder keeps the pixels of {counted(count, 'acquisition')}"
            return [f"{what}; this run keeps none (keep_pixels=True, --keep-pixels)."]
        found = [
            f"Pixels of {counted(count, 'acquisition')} could not be kept, or not all: {why}"
            for why, count in self._grouped().items()
        ]
        if self._superseded:
            old = counted(self._superseded, "older product")
            found.append(f"Pixels of {old} were removed, since the archive has newer products in their place.")
        return found

    def _grouped(self) -> Counter[str]:
        """Return an example of each kind of reason with the number of its acquisitions: they differ by file names."""
        example: dict[str, str] = {}
        counts: Counter[str] = Counter()
        for why, count in self._lost.items():
            kind = " ".join(word for word in why.split() if "/" not in word and "_" not in word)
            counts[example.setdefault(kind, why)] += count
        return counts

    def notes_on_plan(self, tasks: Iterable[Task], unreadable: list[str], *, only_look: bool) -> list[str]:
        """Return sentences on pixels that are asked for and cannot be had.

        Parameters
        ----------
        tasks
            All requested acquisitions.
        unreadable
            Products of which nothing can be extracted.
        only_look
            Whether the update reads nothing, so that it tells what a real one would find.
        """
        keep = self._engine.keep
        found = []
        if self._adopted:
            verb = "are to be" if only_look else "were"
            found.append(
                f"Pixels of {counted(len(self._adopted), 'acquisition')} {verb} entered again: their files are there, "
                "and the ledger did not list them."
            )
        if keep is None:
            return found
        tasks = list(tasks)
        keeping = [task.keep for task in tasks if task.keep is not None]
        found += [self._why_not] if only_look and self._why_not else []
        lacking = Counter(band for one in keeping for band in keep.bands or () if band not in one.rasters)
        for band, count in lacking.items():
            verb = "lacks" if count == 1 else "lack"
            found.append(
                f"{counted(count, 'acquisition')} {verb} {band}, or scale and offsets, so it is not kept of them."
            )
        gone = [str(task.product) for task in tasks if task.keep is None and not self._has_all(str(task.product))]
        if gone:
            what = f"Pixels of {counted(len(gone), 'acquisition')} are not kept, or not of all bands"
            found.append(f"{what}, since the archive does not have them: {gone[0]}.")
        if unreadable:
            what = f"Pixels of {counted(len(unreadable), 'acquisition')} are not kept, since nothing can be extracted"
            found.append(f"{what}: {unreadable[0]}.")
        if keep.bands is None and keeping and not any(_bands(task) for task in tasks):
            names = ", ".join(index.name for index in self._engine.request.indices)
            found.append(
                f"No band is decoded, since {names} comes from rasters of the index: of quality rasters alone pixels "
                'are kept; name the bands to keep (keep_pixels=["B04", "B08"], --keep-pixels B04,B08).'
            )
        return found


def expected_pixels(tasks: Iterable[Task], coverages: Coverages) -> list[str]:
    """Return a sentence on the pixels that tasks are to keep; an empty list where there are none.

    Parameters
    ----------
    tasks
        The tasks; headers of rasters of one task of each tile are read.
    coverages
        The layer's pixels.
    """
    by_tile: dict[object, list[Task]] = {}
    for task in tasks:
        if task.keep is not None:
            by_tile.setdefault((task.product.tile, tuple(task.keep.rasters)), []).append(task)
    size = sum(kept_bytes(alike[-1], coverages) * len(alike) for alike in by_tile.values())
    count = sum(map(len, by_tile.values()))
    verb = "is" if count == 1 else "are"
    return [f"Pixels of {counted(count, 'acquisition')} {verb} to be kept, about {sized(size)}."] if count else []


def _positions(task: Task, kept: KeptPixels, coverages: Coverages) -> TilePositions:
    """Return the positions of kept pixels.

    Raises
    ------
    KeptPixelsError
        If the worker had other ones.
    """
    if kept.grid is None:
        raise KeptPixelsError(f"The grid of the kept pixels of {task.product} is not known.")
    positions = coverages.kept(kept.grid, task.product.tile).positions(kept.margin)
    if positions.digest != kept.digest:
        raise KeptPixelsError(
            f"The worker that read {task.product} found other pixels under the layer than this machine; use the same "
            "versions of sen2chain and its libraries on both."
        )
    return positions


def _bands(task: Task) -> bool:
    """Whether a task decodes a band for its rows; also where it has no output that can be made."""
    outputs = [output for output in task.outputs if output.reason is None]
    return not outputs or any(o.value is not None and o.value.kind is ValueKind.BANDS for o in outputs)
