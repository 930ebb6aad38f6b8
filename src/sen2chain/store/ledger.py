"""The ledger of a layer's folder: the state of every image, and the inputs of every compiled file.

The ledger is a SQLite file, so that each step is written as a whole or not at all, whatever kills the process; any tool
for SQLite opens it. Tables: ``images``, ``compiled``, ``facts``, and ``pixels`` of `kept_catalogue`.
"""

from __future__ import annotations

import contextlib
import enum
import json
import sqlite3
from collections import Counter
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from sen2chain.errors import GridMismatchError, RequestError, StoreError, escaped
from sen2chain.grid import Grid
from sen2chain.products import ProductId
from sen2chain.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from sen2chain.rows import Batch

_VERSION = "1"
_TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS images (
    index_name TEXT NOT NULL, mask TEXT NOT NULL, product TEXT NOT NULL,
    state TEXT NOT NULL, rows INTEGER NOT NULL, reasons TEXT NOT NULL,
    value_source TEXT NOT NULL, mask_source TEXT NOT NULL, error TEXT NOT NULL,
    file TEXT NOT NULL, size INTEGER NOT NULL, inputs TEXT NOT NULL, grid TEXT NOT NULL, cover REAL,
    changed TEXT NOT NULL,
    PRIMARY KEY (index_name, mask, product)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS compiled (
    path TEXT PRIMARY KEY, family TEXT NOT NULL, made_from TEXT NOT NULL, size INTEGER NOT NULL,
    changed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pixels (
    product TEXT PRIMARY KEY, file TEXT NOT NULL, size INTEGER NOT NULL, positions TEXT NOT NULL, margin REAL NOT NULL,
    rasters TEXT NOT NULL, inputs TEXT NOT NULL, facts TEXT NOT NULL, changed TEXT NOT NULL
) WITHOUT ROWID;
"""


class State(enum.StrEnum):
    """The state of an image."""

    DONE = "done"
    """Rows were written."""
    EMPTY = "empty"
    """It was looked at, and no feature has a row; the reasons are counted."""
    FAILED = "failed"
    """A file could not be used; it is tried again."""
    PENDING = "pending"
    """A run began that was to extract it, and did not come to it, or its files were changed while they were read."""
    ORIGINAL = "original"
    """The original program wrote its rows."""


_BROKEN = {Reason.UNREADABLE, Reason.GRID_MISMATCH, Reason.FAILED}


@dataclass(frozen=True, slots=True)
class Entry:
    """One image: an index under a mask of a product."""

    index: str
    mask: str
    product: str
    state: State
    rows: int = 0
    """Rows in its file."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """How many features have no row, by reason."""
    value_source: str = ""
    mask_source: str = ""
    error: str = ""
    file: str = ""
    """Name of its file; empty where there is none."""
    size: int = 0
    """Bytes of its file."""
    inputs: str = ""
    """Identity of the files it was made from, see `sen2chain.store.inputs`."""
    grid: Grid | None = None
    """The product's 10 m grid."""
    cover: float | None = None
    """Cloud cover of the product in percent, where its metadata tell."""
    changed: str = field(default="", compare=False)
    """When it was entered, UTC."""

    @classmethod
    def of(cls, batch: Batch, inputs: str, grid: Grid | None, cover: float | None) -> Self:
        """Make the entry of a batch; its file is not known yet."""
        failed, changed = bool(batch.reasons.keys() & _BROKEN), Reason.CHANGED in batch.reasons
        made = State.DONE if batch.rows else State.EMPTY
        return cls(
            batch.index,
            batch.mask,
            str(batch.product),
            State.PENDING if changed else State.FAILED if failed else made,
            batch.rows,
            {reason.value: count for reason, count in batch.reasons.items()},
            batch.value_source,
            batch.mask_source,
            batch.error,
            inputs=inputs,
            grid=None if failed or changed else grid,
            cover=cover,
        )

    @property
    def key(self) -> tuple[str, str, str]:
        """Key of the image: (index, mask, product)."""
        return self.index, self.mask, self.product

    @property
    def mismatched(self) -> bool:
        """Whether the product has another grid than its tile."""
        return Reason.GRID_MISMATCH.value in self.reasons


@dataclass(frozen=True, slots=True)
class CompiledFile:
    """A compiled file as it was written."""

    path: str
    """Path in the layer's folder, with slashes."""
    family: str
    """Index, mask, kind, week, cloud cover, content and format, which the files of all its periods share."""
    made_from: str
    """Identity of everything it depends on."""
    size: int
    """Bytes."""
    changed: int
    """Time of the last change in nanoseconds."""


class ImageLedger:
    """The ledger, opened for one run that holds the folder's lock.

    Entries that cannot be read, of whatever origin, are dropped when it is opened: their images are then new ones.

    Parameters
    ----------
    path
        The file; it is made where it does not exist.
    read_only
        Change nothing; without a file the ledger is empty.

    Attributes
    ----------
    notes
        Sentences on what was dropped.

    Raises
    ------
    StoreError
        If the file is damaged, or made by a newer version.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self.notes: list[str] = []
        place = ":memory:" if read_only and not path.exists() else path
        with self._sentences():
            self._base = sqlite3.connect(place, isolation_level=None, timeout=60)
            try:
                self._base.execute("PRAGMA synchronous = FULL")
                if not read_only or place != path:
                    self._base.executescript(_TABLES)
                version = self.fact("version")
                if version is None and not read_only:
                    self.set_fact("version", _VERSION)
            except BaseException:
                self._base.close()
                raise
        if version not in {None, _VERSION}:
            self._base.close()
            raise StoreError(f"{path} was written by a newer version of sen2chain; update sen2chain.")
        self._drop_unreadable(read_only=read_only)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._base.close()

    def entries(self, index: str, mask: str) -> dict[str, Entry]:
        """Return all images of an index under a mask, by product."""
        with self._sentences():
            rows = self._base.execute("SELECT * FROM images WHERE index_name = ? AND mask = ?", (index, mask))
            return {row[2]: _entry(row) for row in rows}

    def outputs(self) -> list[tuple[str, str]]:
        """Return the names of each index and mask that has images."""
        with self._sentences():
            rows = self._base.execute("SELECT DISTINCT index_name, mask FROM images ORDER BY index_name, mask")
            return [(index, mask) for index, mask in rows]

    def count(self, index: str, mask: str) -> Counter[State]:
        """Return how many images of an index under a mask are in which state."""
        with self._sentences():
            rows = self._base.execute(
                "SELECT state, count(*) FROM images WHERE index_name = ? AND mask = ? GROUP BY state", (index, mask)
            )
            return Counter({State(state): count for state, count in rows})

    def record(self, entries: Iterable[Entry]) -> None:
        """Enter images, all of them or none; former entries of the same images are replaced."""
        places = ", ".join("?" * len(fields(Entry)))
        with self.transaction():
            self._base.executemany(
                f"INSERT OR REPLACE INTO images VALUES ({places})",  # noqa: S608  # question marks only
                [_row(entry) for entry in entries],
            )

    def expect(self, keys: Iterable[tuple[str, str, str]]) -> None:
        """Enter images that a run is about to extract, so that after a kill the next run knows.

        What is known of their last extraction stays, but for their state.
        """
        blank = [_row(Entry(*key, State.PENDING)) for key in keys]
        places = ", ".join("?" * len(fields(Entry)))
        with self.transaction():
            self._base.executemany(
                f"INSERT INTO images VALUES ({places}) "  # noqa: S608  # question marks only
                "ON CONFLICT DO UPDATE SET state = excluded.state, changed = excluded.changed",
                blank,
            )

    def grids(self, without: Collection[str] = ()) -> dict[str, Counter[Grid]]:
        """Return how many products of each tile, but for some of them, have which grid."""
        found: dict[str, Counter[Grid]] = {}
        with self._sentences():
            rows = self._base.execute("SELECT DISTINCT product, grid FROM images WHERE grid != ''").fetchall()
        for product, grid in rows:
            if product in without:
                continue
            found.setdefault(ProductId.parse(product).tile, Counter())[_grid(grid)] += 1
        return found

    def fact(self, name: str) -> str | None:
        """Return something noted about the folder."""
        with self._sentences():
            row = self._base.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_fact(self, name: str, value: str) -> None:
        """Note something about the folder."""
        with self.transaction():
            self._base.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def forget_fact(self, name: str) -> None:
        """Forget something that was noted about the folder."""
        with self.transaction() as write:
            write("DELETE FROM facts WHERE name = ?", [(name,)])

    def compiled(self) -> dict[str, CompiledFile]:
        """Return the compiled files by their path in the folder."""
        with self._sentences():
            rows = self._base.execute("SELECT path, family, made_from, size, changed FROM compiled")
            return {row[0]: CompiledFile(*row) for row in rows}

    def set_compiled(self, files: Iterable[CompiledFile] = (), gone: Iterable[str] = ()) -> None:
        """Enter compiled files, and forget those that are gone."""
        with self.transaction():
            self._base.executemany("DELETE FROM compiled WHERE path = ?", [(path,) for path in gone])
            self._base.executemany(
                "INSERT OR REPLACE INTO compiled VALUES (?, ?, ?, ?, ?)",
                [(f.path, f.family, f.made_from, f.size, f.changed) for f in files],
            )

    def _drop_unreadable(self, *, read_only: bool) -> None:
        """Drop the entries that hold a value which cannot be read; where nothing may change, from a copy in memory."""
        with self._sentences():
            if self._base.execute("SELECT count(*) FROM sqlite_master WHERE name = 'images'").fetchone() == (0,):
                return
            wrong = [
                (value, column)
                for column, read in _READERS.items()
                for (value,) in self._base.execute(f"SELECT DISTINCT {column} FROM images")  # noqa: S608  # a fixed name
                if not _is_readable(read, value)
            ]
            found = [self._base.execute(f"SELECT product FROM images WHERE {_ODD} LIMIT 1").fetchone()]  # noqa: S608
            found += [
                self._base.execute(f"SELECT product FROM images WHERE {column} IS ? LIMIT 1", (value,)).fetchone()  # noqa: S608
                for value, column in wrong
            ]
            example = next((str(row[0]) for row in found if row), None)
            if example is None:
                return
            if read_only:
                copy = sqlite3.connect(":memory:", isolation_level=None)
                self._base.backup(copy)
                self._base.close()
                self._base = copy
        before = self._base.total_changes
        with self.transaction():
            self._base.execute(f"DELETE FROM images WHERE {_ODD}")  # noqa: S608  # a fixed text
            for value, column in wrong:
                self._base.execute(f"DELETE FROM images WHERE {column} IS ?", (value,))  # noqa: S608  # a fixed name
        count = self._base.total_changes - before
        self.notes.append(
            f"{self._path.name} held {count} {'entry' if count == 1 else 'entries'} that cannot be read, as that of "
            f"{escaped(example)}; what the archive has of {'it' if count == 1 else 'them'} is extracted again."
        )

    def select(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a table that another module defines; an empty list where there is no such table."""
        with self._sentences():
            table = statement.rpartition(" FROM ")[2]
            known = self._base.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            return self._base.execute(statement).fetchall() if known != (0,) else []

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Callable[[str, list[tuple[Any, ...]]], object]]:
        """Enter everything of the block, or nothing; blocks inside it belong to it.

        Yields
        ------
        callable
            Takes an SQL statement, and the values of each row for which it is run.
        """
        if self._base.in_transaction:
            yield self._base.executemany
            return
        with self._sentences():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield self._base.executemany
                self._base.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._base.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            cause = "check the disk and the rights"
            if "locked" in str(error):  # this run holds the folder, so that no other one can hold the file
                cause = "its file system does not support locks, as some network mounts; use a folder on another one"
            raise StoreError(f"{self._path} cannot be used ({error}); {cause}.") from error
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"{self._path} is damaged ({error}); remove it: images in Parquet files are then extracted again, and "
                "those in CSV files and kept pixels stay."
            ) from error


def _row(entry: Entry) -> tuple[Any, ...]:
    """Return an entry as it stands in the table."""
    values = {f.name: getattr(entry, f.name) for f in fields(Entry)}
    values["reasons"] = json.dumps(dict(entry.reasons))
    values["changed"] = datetime.now(UTC).isoformat(timespec="seconds")
    values["grid"] = json.dumps([entry.grid.crs, entry.grid.transform, entry.grid.shape]) if entry.grid else ""
    return tuple(values.values())


def _entry(row: tuple[Any, ...]) -> Entry:
    values = dict(zip((f.name for f in fields(Entry)), row, strict=True))
    values["state"] = State(values["state"])
    values["reasons"] = json.loads(values["reasons"])
    values["grid"] = _grid(values["grid"]) if values["grid"] else None
    return Entry(**values)


def _grid(text: str) -> Grid:
    crs, transform, shape = json.loads(text)
    return Grid(crs, tuple(transform), tuple(shape))


def _reasons(text: str) -> dict[Reason, int]:
    return {Reason(reason): int(count) for reason, count in json.loads(text).items()}


_READERS: Mapping[str, Callable[[str], object]] = {
    "product": ProductId.parse,
    "state": State,
    "reasons": _reasons,
    "grid": lambda text: text and _grid(text),
}
"""Column of ``images`` -> what reads its values, which are few beside the entries."""

_ODD = """(
    typeof(rows) != 'integer' OR typeof(size) != 'integer' OR typeof(cover) NOT IN ('real', 'null')
    OR datetime(changed) IS NULL OR NOT (inputs = '' OR json_valid(inputs))
)"""
"""Condition for entries with a damaged value in another column."""


def _is_readable(read: Callable[[str], object], value: str) -> bool:
    try:
        read(value)
    except (ValueError, TypeError, KeyError, AttributeError, RequestError, GridMismatchError):
        return False
    return True
