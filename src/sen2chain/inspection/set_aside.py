"""Files moved aside into a dated folder of the library, with a list by which they can be put back.

Nothing is deleted, and nothing is overwritten: neither by moving aside nor by putting back. The list of all moves is on
the disk before the first file moves, so it is complete after an interruption too.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sen2chain.atomic import move_to_new_name, replacing, writing
from sen2chain.errors import LibraryError, OutputError
from sen2chain.files import is_folder, read_limited

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FOLDER = "set_aside"
"""The folder of a library that holds the dated folders."""
LIST = "moves.json"
"""The list of moves in a dated folder."""
_SIDE = ".aux.xml"
_LARGEST = 1 << 28  # bytes of a list
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Move:
    """A file that is moved aside."""

    source: Path
    """Where it was."""
    target: Path
    """Where it is."""
    why: str
    """Why, a clause."""


@dataclass(slots=True)
class Moves:
    """Files that were moved, aside or back."""

    folder: Path | None = None
    """The dated folder; None where nothing was moved."""
    moved: list[Move] = field(default_factory=list)
    """Those that were moved."""
    failed: list[str] = field(default_factory=list)
    """A sentence on each file that was not."""
    folders: list[Path] = field(default_factory=list)
    """Folders that were removed since nothing is left in them, or that were made again."""


def set_aside(home: Path, files: Mapping[str, str], roots: Iterable[Path] = ()) -> Moves:
    """Move files into a new dated folder of a library, and remove the folders that are empty then.

    They keep their path relative to the library; files outside of it keep their whole path. Side files
    (``.aux.xml``) go with their raster.

    Parameters
    ----------
    home
        The library.
    files
        Path -> why it is moved, a clause. Empty folders are removed; the list names them.
    roots
        Folders below which folders that became empty are removed; these stay.

    Raises
    ------
    OutputError
        If the folder cannot be made, or the list not be written; no file has moved then.
    """
    wanted = {Path(path): why for path, why in files.items() if os.path.lexists(path)}
    folders = sorted(path for path in wanted if path.is_dir() and not path.is_symlink())
    for path in folders:
        wanted.pop(path)
    for path, why in list(wanted.items()):
        side = path.with_name(path.name + _SIDE)
        if os.path.lexists(side):
            wanted.setdefault(side, why)
    moves = Moves()
    if not wanted and not folders:
        return moves
    moves.folder = _new_folder(home / FOLDER)
    planned = [Move(path, moves.folder / _inside(path, home), why) for path, why in sorted(wanted.items())]
    _write_list(moves.folder, home, planned, folders)
    for move in planned:
        _try(move.source, move.target, move, moves)
    for path in folders:
        _remove(path, moves)
    emptied = {move.source.parent for move in moves.moved} | {path.parent for path in moves.folders}
    for root in roots:
        _remove_empty({path for path in emptied if path.is_relative_to(root)}, root, moves)
    return moves


def _remove(folder: Path, moves: Moves) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        moves.failed.append(f"{folder} stays: {error.strerror}.")
    else:
        moves.folders.append(folder)


def _remove_empty(folders: Iterable[Path], root: Path, moves: Moves) -> None:
    """Remove folders and those above them, up to a root that stays, as far as they are empty."""
    for start in folders:
        folder = start
        while folder != root:
            try:
                folder.rmdir()
            except OSError:  # it holds something, or is gone with another one
                if folder.exists():
                    break
            else:
                moves.folders.append(folder)
            folder = folder.parent


def put_back(folder: str | Path) -> Moves:
    """Move files back to where they were before `set_aside`; files whose place is taken stay.

    Folders are made again. Where the library lies elsewhere now, they go to where it lies.

    Parameters
    ----------
    folder
        A dated folder.

    Raises
    ------
    LibraryError
        If it is not such a folder.
    OutputError
        If it cannot be written.
    """
    folder = Path(folder).absolute()
    planned, folders = _read_list(folder)
    moves = Moves(folder)
    for path in folders:
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            moves.failed.append(f"{path} cannot be made: {error.strerror}.")
        else:
            moves.folders.append(path)
    for move in planned:
        if os.path.lexists(move.target):
            _try(move.target, move.source, move, moves)
    if not moves.failed:
        with contextlib.suppress(OSError):
            (folder / LIST).unlink()
        for place, _, _ in sorted(os.walk(folder), reverse=True):
            with contextlib.suppress(OSError):  # it holds what was not moved by us
                Path(place).rmdir()
    return moves


def _try(source: Path, target: Path, move: Move, moves: Moves) -> None:
    """Move one file, and note whether that succeeded."""
    try:
        move_to_new_name(source, target)
    except OutputError as error:
        moves.failed.append(str(error))
    else:
        moves.moved.append(move)


def _new_folder(root: Path) -> Path:
    """Make a folder named after this moment (UTC) that was not there."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S")
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        for number in range(1000):
            folder = root / (f"{stamp}-{number + 1}" if number else stamp)
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), str(root))


def _inside(path: Path, home: Path) -> Path:
    """Return the path of a file inside of a dated folder."""
    for root in (home, Path(path.anchor)):
        if path.is_relative_to(root):
            return path.relative_to(root)
    return Path(path.name)


def _write_list(folder: Path, home: Path, planned: list[Move], folders: list[Path]) -> None:
    moves = [
        {"from": str(move.source), "to": str(move.target.relative_to(folder)), "why": move.why} for move in planned
    ]
    with replacing(folder / LIST) as file:
        content = {"version": _VERSION, "home": str(home), "moves": moves, "folders": [str(path) for path in folders]}
        file.write(json.dumps(content, indent=1).encode("ascii"))


def _read_list(folder: Path) -> tuple[list[Move], list[Path]]:
    """Read the list of a dated folder: moves, and empty folders that were removed."""
    try:
        moves, folders = _parsed(read_limited(folder / LIST, _LARGEST), folder)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        what = "is not a folder" if not is_folder(folder) else f"has no list {LIST} that can be read ({error})"
        raise LibraryError(f"{folder} {what}; pass a dated folder below {FOLDER} of a library.") from error
    for move in moves:
        inside = move.target.is_relative_to(folder) and ".." not in move.target.relative_to(folder).parts
        if not inside or not move.source.is_absolute() or ".." in move.source.parts:
            raise LibraryError(f"The list {folder / LIST} names {move.target}, which is not inside of its folder.")
    for path in folders:
        if not path.is_absolute() or ".." in path.parts:
            raise LibraryError(f"The list {folder / LIST} names the folder {path}, which is not a whole path.")
    return moves, folders


def _parsed(text: bytes, folder: Path) -> tuple[list[Move], list[Path]]:
    found = json.loads(text)
    if found["version"] != _VERSION:
        raise ValueError("it is of another version")
    home = found.get("home", "")
    library = folder.parents[1] if folder.parent.name == FOLDER and home else None

    def now(text: str) -> Path:
        """Return the path that a file of the library has today."""
        path = Path(text)
        return path if library is None or not path.is_relative_to(home) else library / path.relative_to(home)

    moves = [Move(now(move["from"]), folder / move["to"], str(move["why"])) for move in found["moves"]]
    return moves, [now(path) for path in found.get("folders", ())]
