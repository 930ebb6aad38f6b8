"""The folder of a pixel table or store, and the JSON beside it that protects it from another result."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

from sen2chain.atomic import (
    NAME_MAX,
    check_folder,
    is_abandoned,
    is_temporary,
    replacing,
    sync_all,
    sync_folder,
    temporary,
    writing,
)
from sen2chain.errors import OutputError, RequestError
from sen2chain.export import to_json
from sen2chain.files import is_folder
from sen2chain.progress import counted
from sen2chain.provenance import differences

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

_REPLACE = "choose another folder or name, or replace it with overwrite=True (--overwrite)"


class DatasetFolder:
    """A folder that holds one result in many files.

    Parameters
    ----------
    path
        The folder; the JSON beside it has its name with the suffix ``.json``.
    pattern
        Pattern of the names of its files, below the folder; empty for a Zarr store.
    """

    def __init__(self, path: Path, pattern: str = "") -> None:
        self.path, self._pattern = path, pattern
        self._json = path.with_suffix(".json")
        self._holds_another = False
        self._former: bytes | None = None

    def check(self, note: Mapping[str, Any], *, overwrite: bool) -> list[str]:
        """Make sure that no other result is replaced; nothing is written.

        Parameters
        ----------
        note
            What `sen2chain.provenance.conditions` returns.
        overwrite
            Whether another result is replaced.

        Returns
        -------
        list
            A sentence on the result that is replaced.

        Raises
        ------
        RequestError
            If the folder's name is too long.
        OutputError
            If a result that was made in another way is there, or files that are not of such a result.
        """
        over = len(os.fsencode(self.path.name)) - NAME_MAX
        if over > 0:
            raise RequestError(
                f"The name {self.path.name[:60]}... is too long for a folder by {over} bytes; pass a shorter name=, or "
                "rename the layer's file."
            )
        if self.path.exists() and not is_folder(self.path):
            raise OutputError(f"{self.path} is there and is not a folder; choose another folder or name.")
        strange = self._strange()
        if strange is not None:
            raise OutputError(
                f"{strange} is not a file of this table, and programs would read it with it; move it away."
            )
        there = is_folder(self.path) and any(self.path.iterdir())
        if there and not self._pattern and not (self.path / ".zgroup").is_file():
            raise OutputError(f"{self.path} is there and is not a Zarr store; choose another folder or name.")
        differ = differences(self._json, note)
        if differ is None and self._json.exists() and not there:
            raise OutputError(
                f"{self.path} would have its JSON in {self._json.name}, which is there and is not one of sen2chain; "
                "choose another folder or name."
            )
        self._holds_another = there and (differ is None or bool(differ))
        if overwrite:
            return [f"{self.path} of an earlier run is replaced."] if there else []
        if there and differ is None:
            raise OutputError(f"{self.path} is there, and no JSON says how it was made; {_REPLACE}.")
        if differ and (there or self._other_kind()):
            raise OutputError(f"{self.path} is another result: {'; '.join(differ)}; {_REPLACE}.")
        return [f"{self.path} of an earlier run is replaced."] if there else []

    def _other_kind(self) -> bool:
        """Whether the result of another kind that shares the JSON is there."""
        return any(is_folder(self.path.with_suffix(end)) for end in (".parquet", ".zarr"))

    def _strange(self) -> Path | None:
        """Return a file in the folder that is not one of its table; None where all are."""
        if not self._pattern or not is_folder(self.path):
            return None
        known = set(self.files())
        others = (path for path in self.path.rglob("*") if not path.is_dir() and not is_temporary(path.name))
        return next((path for path in sorted(others) if path not in known), None)

    def files(self) -> list[Path]:
        """Return the files of the table that are there."""
        return sorted(self.path.glob(self._pattern))

    def begin(self, note: Mapping[str, Any]) -> None:
        """Make the folder, and say in the JSON that its table is not complete yet; a store is replaced at the end.

        Files of another result, which is replaced, go first, so that no two results are ever mixed.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        check_folder(self.path.parent)
        sweep_folders(self.path.parent)
        if not self._pattern:
            return
        with contextlib.suppress(OSError):
            self._former = self._json.read_bytes()
        self.write_json({**note, "complete": False})
        if self._holds_another:
            self.remove_others(())

    def restore(self) -> None:
        """Put the JSON back that was there before, for a result that is kept."""
        if self._former is not None:
            with replacing(self._json) as file, writing(self._json):
                file.write(self._former)

    def write_json(self, content: Mapping[str, Any]) -> None:
        """Write the JSON beside the folder."""
        with replacing(self._json) as file, writing(self._json):
            file.write(to_json(content).encode())

    def replace(self, part: Path) -> None:
        """Give a complete folder the name of this one, in the place of a former one.

        Parameters
        ----------
        part
            A folder beside this one, whose files are closed.

        Raises
        ------
        OutputError
            If the disk is full or the folder cannot be written.
        """
        former = temporary(self.path)
        with writing(self.path):
            sync_all(part.parent, [path for path in part.rglob("*") if path.is_file()])
            if self.path.exists():
                self.path.rename(former)
            part.rename(self.path)
            sync_folder(self.path.parent)
        remove_folder(former)

    def remove_others(self, written: Collection[Path]) -> list[str]:
        """Remove the files of the table that this run has not written.

        Returns
        -------
        list
            A sentence on them.
        """
        others = [path for path in self.files() if path not in set(written)]
        for path in others:
            with writing(path):
                path.unlink()
            for folder in (path.parent, path.parent.parent):
                if not any(folder.iterdir()):
                    folder.rmdir()
        if not others:
            return []
        what = "is" if len(others) == 1 else "are"
        return [f"{counted(len(others), 'file')} of an earlier run that this one has no rows for {what} removed."]


def remove_folder(path: Path) -> None:
    """Remove an incomplete folder, if it is there."""
    shutil.rmtree(path, ignore_errors=True)


def sweep_folders(folder: Path) -> None:
    """Remove incomplete folders of killed runs."""
    for path in folder.iterdir():
        if is_temporary(path.name) and path.is_dir() and not path.is_symlink():
            with writing(path):
                age = time.time() - path.stat().st_mtime
            if is_abandoned(path.name, age):
                remove_folder(path)
