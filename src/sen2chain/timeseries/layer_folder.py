"""The extraction folder of a layer: find or create it, and lock it while it is used."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from sen2chain import settings
from sen2chain.atomic import NAME_MAX, check_folder
from sen2chain.errors import RequestError, StoreError
from sen2chain.files import is_file
from sen2chain.progress import activity
from sen2chain.sensor import ESA_NAMING, SENTINEL2
from sen2chain.store import ExtractionFolder, ImageLedger, locked, make_folder, recognise, stored_layer, sweep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sen2chain.plan import Request
    from sen2chain.timeseries.engine import Engine
    from sen2chain.vectors import Layer

_LONGEST = len(f"_{ESA_NAMING.example}_.parquet") + 20


class LayerFolder:
    """The extraction folder of a layer, for the options of a request.

    Parameters
    ----------
    extraction
        The folder of all layers' folders.
    engine
        The request and the layer.
    wait
        Seconds to wait for another run on the same folder; None waits without limit.

    Raises
    ------
    RequestError
        If the request is for another sensor than Sentinel-2, `wait` is not a number of seconds, or the layer's name is
        too long for names of files.
    """

    def __init__(self, extraction: Path, engine: Engine, wait: float | None) -> None:
        if (sensor := engine.request.sensor) != SENTINEL2:
            raise RequestError(
                f"Folders of layers keep rows of {SENTINEL2.name} alone, not of {sensor.name}; use TimeSeries."
            )
        self._extraction, self._engine = extraction, engine
        self._wait = None if wait is None else settings.check_seconds("wait", wait)
        self._tag = tag_of(engine.request)
        self._layers = settings.cache_dir() / "layers"
        self._own: Layer | None = None
        with activity("looking for the layer's folder", quiet=engine.quiet):
            self._found = recognise(extraction, engine.layer, self._tag, self._layers)
        self._check_names()

    @property
    def folder(self) -> ExtractionFolder:
        """The folder, whether it exists or not."""
        return self._found.folder

    def _check_names(self) -> None:
        """Make sure, before any file is made, that no file name will be too long.

        Raises
        ------
        RequestError
            If the layer's name makes one too long.
        """
        outputs = [f"{index}_{mask}" for index, mask in self._engine.outputs]
        tail = max(len(os.fsencode(output)) for output in outputs) + _LONGEST
        most = NAME_MAX - tail
        if most < 1:
            long = max(outputs, key=lambda output: len(os.fsencode(output)))
            raise RequestError(f"The name of the index in {long[:40]}... is too long for names of files; shorten it.")
        for name in (self.folder.stem, self.folder.root.name):
            if len(os.fsencode(name)) > most:
                raise RequestError(
                    f"The layer's name {name[:40]}... is too long for names of files; "
                    f"pass name= with up to {most} letters, or rename the file."
                )

    @property
    def hint(self) -> str:
        """For a new folder, a sentence on the folder that held the layer before its features changed; else empty."""
        return self._found.hint

    def check(self) -> None:
        """Make sure that something was extracted.

        Raises
        ------
        StoreError
            If the folder does not exist.
        """
        if self.exists:
            return
        place = self._extraction
        if is_file(ExtractionFolder(place).ledger):
            raise StoreError(
                f"{place} is the folder of one layer; pass the folder that it lies in, {place.parent} (extraction, "
                "--extraction)."
            )
        folders = ExtractionFolder.all_in(place)
        others = [found.root.name for found in folders if found.checksum == self.folder.checksum]
        if others:
            raise StoreError(
                f"{place} has the layer {self._engine.layer.name} with another pixel rule, buffer, statistics or "
                f"min_valid ({others[0]}); pass those of its update."
            )
        raise StoreError(
            f"Nothing of the layer {self._engine.layer.name} is in {place}; pass the folder that an update had as its "
            "extraction folder (extraction, --extraction), or call extract_data() (sen2chain update) first."
        )

    @property
    def exists(self) -> bool:
        """Whether something was extracted."""
        return self.folder.root.is_dir()

    @contextlib.contextmanager
    def read(self) -> Iterator[tuple[ExtractionFolder, ImageLedger, Engine]]:
        """Open the folder for reading only, also while another run holds it.

        Yields
        ------
        tuple
            As `held` does.

        Raises
        ------
        StoreError
            If the folder does not exist, or its ledger is damaged.
        """
        self.check()
        layer = self._engine.layer
        stored = self._own or stored_layer(self.folder, self._layers, layer)
        known = replace(stored, name=self.folder.stem, notes=layer.notes) if stored else layer
        engine = self._engine.on(known)
        with ImageLedger(self.folder.ledger, read_only=True) as ledger:
            yield self.folder, ledger, engine

    @contextlib.contextmanager
    def held(self) -> Iterator[tuple[ExtractionFolder, ImageLedger, Engine]]:
        """Lock the folder, creating it where it does not exist, and open its ledger.

        Yields
        ------
        tuple
            The folder, the ledger, and the engine on the folder's own copy of the layer.

        Raises
        ------
        OutputError
            If the folder cannot be written.
        StoreError
            If another run holds it for too long, or its ledger is damaged.
        """
        layer, quiet = self._engine.layer, self._engine.quiet
        if not self._found.exists:
            # Of two first runs at once the second finds the folder of the first.
            check_folder(self._extraction)
            with locked(self._extraction, wait=self._wait, quiet=quiet):
                again = recognise(self._extraction, layer, self._tag, self._layers)
                make_folder(again, layer, self._layers)
            self._found = replace(again, exists=True, hint=self._found.hint)
        folder = self.folder
        check_folder(folder.root)
        with locked(folder.root, wait=self._wait, quiet=quiet):
            sweep(folder.root)
            self._own = self._own or make_folder(self._found, layer, self._layers)
            with ImageLedger(folder.ledger) as ledger:
                yield folder, ledger, self._engine.on(self._own)


def tag_of(request: Request) -> str:
    """Return the part of the folder's name for options that give other rows; empty for the documented rows."""
    parts = []
    if request.pixels != "center":
        parts.append(request.pixels.replace("_", "-"))
    if request.buffer:
        parts.append(f"buffer{request.buffer:g}")
    if request.statistics.extra:
        digest = hashlib.sha256(",".join(request.statistics.columns).encode()).hexdigest()
        parts.append(f"stats-{digest[:8]}")
    if request.min_valid:
        parts.append(f"min-valid{request.min_valid:g}")
    return "".join(f"_{part}" for part in parts)
