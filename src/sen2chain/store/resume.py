"""The remaining work of a run: its plan compared with the ledger of all images."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from sen2chain.plan import MaskKind, ValueKind, kind_of_label, value_order
from sen2chain.reasons import Reason
from sen2chain.store.extraction_folder import product_of
from sen2chain.store.images import all_files, chosen
from sen2chain.store.inputs import Inputs
from sen2chain.store.ledger import Entry, State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sen2chain.grid import Grid
    from sen2chain.plan import Keeping, Output, Request, Task
    from sen2chain.products import Source
    from sen2chain.store.extraction_folder import ExtractionFolder
    from sen2chain.store.images import RawImage
    from sen2chain.store.kept_catalogue import KeptEntry
    from sen2chain.store.ledger import ImageLedger


NEW = "they are new"
"""Reason to extract an image that is not in the ledger."""

_NOT_KEPT = {Reason.NOT_KEPT.value, Reason.MASK_REACH.value}
_LOST = "their file of rows is gone or was changed"

# How long a run that has nothing to extract from them may read files, only to know them again when they are copied.
_SECONDS_FOR_DIGESTS = 20.0


@dataclass(slots=True, eq=False)
class Work:
    """The images that a run has to extract, and those that it keeps."""

    inputs: Inputs
    """The files of the archive as they are now."""
    tasks: list[Task] = field(default_factory=list)
    """The acquisitions, each with the outputs that are to be extracted."""
    kept: int = 0
    """Number of images that are as they should be."""
    missing: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """(index, mask) -> for each image that cannot be made, what the archive lacks for it."""
    known: list[Entry] = field(default_factory=list)
    """Entries of images that are kept, but whose entry has changed; to be recorded."""
    files: dict[tuple[str, str, str], list[Path]] = field(default_factory=dict)
    """Image -> its files of rows; a killed run may have left a second one."""
    before: dict[tuple[str, str, str], Entry] = field(default_factory=dict)
    """Image -> what the ledger says of it."""
    leftover: list[Path] = field(default_factory=list)
    """Files of rows that a killed run was about to remove."""
    why: Counter[str] = field(default_factory=Counter)
    """Reason to extract images -> their number."""
    only_read: set[tuple[str, str, str]] = field(default_factory=set)
    """Images that are read for the pixels to keep alone: their rows stay as they are."""
    pixels_kept: int = 0
    """Acquisitions whose pixels are kept as they should be."""
    no_pixels: list[str] = field(default_factory=list)
    """Products whose pixels are to be kept, but of which nothing can be read."""

    @property
    def keys(self) -> list[tuple[str, str, str]]:
        """The images that are to be extracted."""
        every = ((o.index.name, o.mask.name, str(task.product)) for task in self.tasks for o in task.outputs)
        return [key for key in every if key not in self.only_read]

    def add(self, task: Task, outputs: list[Output], kept: KeptEntry | None, *, force: bool) -> None:
        """Add an acquisition with the outputs to extract and the pixels to keep, unless there are neither.

        Parameters
        ----------
        task
            The acquisition with all requested outputs and pixels.
        outputs
            Those that are to be extracted.
        kept
            Its pixels that are kept already; None where none are.
        force
            Keep them again.
        """
        keep = _to_keep(task, kept, self.inputs, force=force)
        if keep is not None:
            made = self._with_pixels(task, outputs, keep)
        else:
            made = replace(task, outputs=tuple(outputs), keep=None)
            self.pixels_kept += task.keep is not None
        if made.outputs:
            self.tasks.append(made)

    def _with_pixels(self, task: Task, outputs: list[Output], keep: Keeping) -> Task:
        """Return a task whose pixels are to be kept, with the outputs to extract and the others that are there.

        What masks leave of the features decides what is decoded, and so all outputs are read. Pixels come from the
        archive, even where a run reads kept ones.
        """
        source = task.otherwise or task
        found = [output for output in source.outputs if output.reason is None]
        wanted = {(output.index.name, output.mask.name) for output in outputs}
        names = ((output.index.name, output.mask.name) for output in found)
        self.only_read |= {(*name, str(task.product)) for name in names if name not in wanted}
        if not found:
            self.no_pixels.append(str(task.product))
        return replace(source, outputs=tuple(found), keep=keep)


def what_is_new(
    tasks: Sequence[Task],
    source: Source,
    folder: ExtractionFolder,
    ledger: ImageLedger,
    request: Request,
    *,
    force: bool = False,
    redo_old: bool = False,
    features: int,
    only_look: bool = False,
    kept: Mapping[str, KeptEntry] | None = None,
) -> Work:
    """Compare a plan with what the folder has.

    An image is extracted when the ledger does not know it, when a run was to extract it and did not come to it, when it
    failed, when its file of rows is gone, and when the files it was made from have changed. It is kept when they are
    merely gone, or when only a lesser source is left.

    An acquisition is read, too, when pixels of it are to be kept that are not kept yet, or that its files have changed
    since.

    Parameters
    ----------
    tasks
        All requested acquisitions, with all outputs.
    source
        The source they come from.
    folder
        The layer's folder.
    ledger
        Its ledger.
    request
        What is asked for.
    force
        Extract everything again.
    redo_old
        Extract what the original program wrote again.
    features
        Number of features of the layer.
    only_look
        Read no more than the decision takes: nothing is entered into the ledger.
    kept
        The pixels that are kept already, by product.
    """
    work = Work(Inputs(source, 0.0 if only_look else _SECONDS_FOR_DIGESTS))
    images = _compare_files(work, folder, ledger, request)
    grids = {tile: grid for tile, votes in ledger.grids().items() for grid, n in votes.most_common(1) if n > 1}
    judge = _Judge(work.inputs, {kind.value: n for n, kind in enumerate(value_order(request.prefer))}, force, redo_old)
    for task in tasks:
        outputs, product = [], str(task.product)
        for output in task.outputs:
            name = (output.index.name, output.mask.name, product)
            entry = work.before.get(name)
            why = judge.why_to_do(task, output, entry, images.get(name), grids.get(task.product.tile))
            if why:
                outputs.append(output)
                work.why[why] += 1
                continue
            now = judge.refreshed(task, output, entry)
            if now is None:
                now = _nothing_to_read(task, output, work.inputs, task.details.cloud_cover(), features)
                work.missing.setdefault(name[:2], []).append(output.detail)
            else:
                work.kept += 1
            if now.cover is None and (found_cover := task.details.cloud_cover()) is not None:
                now = replace(now, cover=found_cover)
            if now != entry:
                work.known.append(now)
        work.add(task, outputs, (kept or {}).get(product), force=force)
    return work


def _to_keep(task: Task, entry: KeptEntry | None, inputs: Inputs, *, force: bool) -> Keeping | None:
    """Return what is still to be kept of a task's pixels; None where nothing is.

    A margin that is larger already stays.
    """
    keep = task.keep
    if keep is None or force or entry is None:
        return keep
    files = (task.otherwise or task).details.inputs
    same = entry.inputs.keys() == files.keys() and all(inputs.is_same(entry.inputs[r], w) for r, w in files.items())
    known = {where: entry.rasters[name].token for name, where in keep.rasters.items() if name in entry.rasters}
    if not (same and all(inputs.is_same(token, where) for where, token in known.items())):
        return keep  # one file tells that the product is another one now
    masks = _masks_by_band(task.otherwise or task)
    lacking = {}
    for name, location in keep.rasters.items():
        held = entry.rasters.get(name)
        is_band = task.product.sensor.band(name) is not None
        far_enough = is_band or entry.margin >= keep.margin
        needed = masks.get(name, set()) if is_band and not keep.complete else None
        if not (held and held.suffices(needed) and far_enough):
            lacking[name] = location
    return replace(keep, rasters=lacking, margin=max(keep.margin, entry.margin)) if lacking else None


def _masks_by_band(task: Task) -> dict[str, set[str]]:
    """Return band -> masks under which an output of a task is computed from it."""
    found: dict[str, set[str]] = {}
    for output in task.outputs:
        if output.reason is None and output.value is not None and output.value.kind is ValueKind.BANDS:
            for band in output.value.rasters:
                found.setdefault(band, set()).add(output.mask.name)
    return found


def _compare_files(
    work: Work, folder: ExtractionFolder, ledger: ImageLedger, request: Request
) -> dict[tuple[str, str, str], RawImage]:
    """Compare the files of rows with the ledger, and return the valid file of each image.

    Files missing from the ledger were written by the original program; files that it marks as removed are leftovers of
    an interrupted run.
    """
    images: dict[tuple[str, str, str], RawImage] = {}
    for key in ((index.name, mask.name) for index in request.indices for mask in request.masks):
        entries = ledger.entries(*key)
        found = all_files(folder, *key)
        for image in found:
            work.files.setdefault((*key, str(image.product)), []).append(image.path)
        for image in chosen(found, {product: entry.file for product, entry in entries.items() if entry.file}):
            product = str(image.product)
            entry = entries.get(product)
            if entry is not None and _is_leftover(entry, image):
                work.leftover.append(image.path)
                continue
            images[(*key, product)] = image
            changed = entry is not None and entry.state is State.ORIGINAL and entry.size != image.size
            if entry is None or changed:
                adopted = _adopted(*key, image)
                if adopted is not None:
                    entries[product] = adopted
                    work.known.append(adopted)
                elif entry is not None:
                    entries[product] = replace(entry, state=State.FAILED)
        work.leftover += [
            image.path
            for image in found
            if (entry := entries.get(str(image.product)))
            and entry.file
            and image.path.name != entry.file
            and entry.state not in {State.PENDING, State.ORIGINAL}
            and images[(*key, str(image.product))] != image
        ]
        work.before |= {entry.key: entry for entry in entries.values()}
    return images


def _why_again(entry: Entry) -> str:
    if entry.state is State.FAILED:
        return "they failed before"
    if Reason.CHANGED.value in entry.reasons:
        return "their files changed while they were read"
    return "a run was stopped before it came to them"


def _why_lost(entry: Entry, image: RawImage | None, grid: Grid | None) -> str:
    if entry.file and (image is None or image.path.name != entry.file or image.size != entry.size):
        return _LOST
    # An image may have come before it was known which grid its tile has.
    odd = grid is not None and entry.grid is not None and entry.grid != grid
    return "their grid is not that of their tile" if odd else ""


def _why_kept(task: Task, entry: Entry) -> str:
    """Return why rows from kept pixels are not all there can be; empty where they are, or no archive has the rest."""
    lacked = not entry.reasons.keys().isdisjoint(_NOT_KEPT)
    has_archive = task.otherwise is not None or not task.is_on_kept_pixels
    return "the archive has what the kept pixels lacked" if lacked and has_archive else ""


@dataclass(frozen=True, slots=True)
class _Judge:
    inputs: Inputs
    rank: dict[str, int]
    force: bool
    redo_old: bool

    def why_to_do(
        self, task: Task, output: Output, entry: Entry | None, image: RawImage | None, grid: Grid | None
    ) -> str:
        """Return the reason to extract an image, in a few words; empty where the image is kept."""
        if output.reason is not None:
            return ""  # nothing can be made of it now; what was made before stays, since archives are thinned out
        if entry is None:
            return NEW
        if entry.state in {State.PENDING, State.FAILED}:
            return _why_again(entry)
        if self.force:
            return "all are asked for (force)"
        if entry.state is State.ORIGINAL:
            wanted = "the rows of the original program are to be replaced (redo_old)" if self.redo_old else ""
            return wanted or ("" if image else _LOST)
        return _why_lost(entry, image, grid) or _why_kept(task, entry) or self._better_inputs(task, output, entry)

    def _better_inputs(self, task: Task, output: Output, entry: Entry) -> str:
        # A stored mask that has gone and can be computed is the same mask.
        gone = bool(output.clouds and output.clouds.kind is MaskKind.COMPUTED and entry.mask_source == MaskKind.STORED)
        why = self.inputs.difference(task, output, entry.inputs, but_mask=gone)
        kind = output.value.kind.value if output.value else ""
        before = kind_of_label(entry.value_source)
        lesser = self.rank.get(kind, len(self.rank)) > self.rank.get(before, len(self.rank))
        return "" if lesser else why

    def refreshed(self, task: Task, output: Output, entry: Entry | None) -> Entry | None:
        """Return the up-to-date entry of an image that is kept; None where the former entry is obsolete."""
        if output.reason is not None:
            made = entry is not None and (entry.file or (entry.state is State.EMPTY and '"files"' in entry.inputs))
            return entry if made else None
        if entry is None or entry.state not in {State.DONE, State.EMPTY}:
            return entry
        now = self.inputs.identity(task, output, entry.inputs)
        before = json.loads(entry.inputs or "{}").get("files", {})
        if now == entry.inputs or before.keys() != json.loads(now)["files"].keys():
            return entry
        # The same files under new times, or with a digest that is known only now.
        return entry if self.inputs.difference(task, output, entry.inputs) else replace(entry, inputs=now)


def _nothing_to_read(task: Task, output: Output, inputs: Inputs, cover: float | None, features: int) -> Entry:
    """Return the entry of an image that cannot be made, because the archive lacks its inputs."""
    reason = output.reason.value if output.reason else ""
    return Entry(
        output.index.name,
        output.mask.name,
        str(task.product),
        State.EMPTY,
        reasons={reason: features},
        error=output.detail,
        inputs=inputs.identity(task, output),
        cover=cover,
    )


def _is_leftover(entry: Entry, image: RawImage) -> bool:
    """Tell whether a file holds rows that the ledger marks as removed: a run was killed before it removed the file."""
    gone = entry.state is State.EMPTY or (entry.state is State.FAILED and entry.mismatched)
    return gone and not entry.file and image.changed < (datetime.fromisoformat(entry.changed).timestamp() + 1) * 1e9


def _adopted(index: str, mask: str, image: RawImage) -> Entry | None:
    """Return the entry of an image that the original program wrote; None where its file is not complete."""
    if image.path.suffix != ".csv":
        return None
    lines = _whole_lines(image.path)
    if lines is None:
        return None
    name = image.path.name
    return Entry(index, mask, str(product_of(name)), State.ORIGINAL, lines - 1, file=name, size=image.size)


def _whole_lines(path: Path) -> int | None:
    """Count the lines of a CSV file of rows; None where the header is missing or the last line is cut off."""
    with path.open("rb") as file:
        if not file.readline().startswith(b"date,fid,"):
            return None
        lines, last = 1, b"\n"
        while chunk := file.read(1 << 20):
            lines += chunk.count(b"\n")
            last = chunk
    return lines if last.endswith(b"\n") else None
