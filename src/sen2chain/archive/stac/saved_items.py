"""Saved items of a catalogue: a file of items with what was searched for, to which later searches add."""

from __future__ import annotations

import datetime as dt
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sen2chain.archive.stac.documents import public, same_place, without_secrets
from sen2chain.archive.stac.providers import GENERIC
from sen2chain.archive.stac.stac_items import key_of, mapping_of, number_of, text_of, time_from, time_of
from sen2chain.errors import OutputError, UnreadableError, shown
from sen2chain.files import absolute, is_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from sen2chain.archive.stac.stac_items import Item

logger = logging.getLogger(__name__)

MARGIN = dt.timedelta(days=30)
"""How far a search for what is new goes back before the newest item that is known: items come late."""
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Saved:
    """What `save_items` did."""

    new: int
    """Items that the file did not have."""
    updated: int
    """Items whose newer version replaced the one in the file."""
    total: int
    """Items in the file now."""


def save_items(items: Iterable[Item], path: str | Path, *, replacing: bool = False) -> Saved:
    """Write items to a stac-geoparquet file; items that it already has stay, and of two versions the newer one.

    A search that found nothing writes no file. Addresses are written without logins and query strings, which may hold
    keys. Items without an id, or with texts that are not Unicode, are left out with a warning in the log.

    Parameters
    ----------
    items
        The items, as `StacCatalogue.search` returns them.
    path
        The file (``.parquet``).
    replacing
        Whether a file of another search is replaced.

    Raises
    ------
    OutputError
        If the file is that of another search, is not a table of items, or cannot be written.
    """
    from sen2chain.archive.stac.item_tables import write_items  # noqa: PLC0415  # pyarrow is heavy

    target = absolute(path)
    record = dict(getattr(items, "record", {}))
    kept: dict[tuple[str, str], Item] = {}
    if is_file(target) and not replacing:
        before, old = _read_saved(target)
        _check_same(before, record, target)
        kept = {key_of(item): item for item in old}
        record = _joined(before, record, target)
    record.pop("from", None)
    new = updated = odd = 0
    for item in items:
        key = key_of(item)
        clean = _writable(item) if key[1] else None
        if clean is None:
            odd += 1
            continue
        if key not in kept:
            new += 1
        elif _updated(clean) > _updated(kept[key]):
            updated += 1
        else:
            continue
        kept[key] = clean
    if odd:
        logger.warning("%s: %d items have no id or cannot be written, and are left out", target, odd)
    if not kept and not is_file(target):
        return Saved(0, 0, 0)
    write_items(list(kept.values()), target, record)
    return Saved(new, updated, len(kept))


def _writable(item: Item) -> Item | None:
    """Return an item as it may be written, without secrets; None where it cannot be written."""
    try:
        clean: Item = without_secrets(item)
        json.dumps(clean, ensure_ascii=False).encode()
    except (RecursionError, UnicodeError, ValueError, TypeError):
        return None
    return clean


def _updated(item: Item) -> str:
    """Return a text that is larger for a newer version of an item."""
    time = time_from(text_of(mapping_of(item.get("properties")).get("updated")))
    return "" if time is None else time.isoformat(timespec="microseconds")


def _read_saved(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read a file that is to be added to.

    Raises
    ------
    OutputError
        If it is not a table of items.
    """
    from sen2chain.archive.stac.item_tables import ItemTable  # noqa: PLC0415  # pyarrow is heavy

    try:
        with ItemTable(str(path), GENERIC.access) as table:
            return table.record, list(table.items())
    except UnreadableError as error:
        raise OutputError(f"{error} It is not replaced; remove it, or choose another name.") from None


def _check_same(before: Mapping[str, Any], record: Mapping[str, Any], path: Path) -> None:
    """Check that a file is of the same search.

    Raises
    ------
    OutputError
        If it is not.
    """
    advice = "pass --overwrite (replacing=True) to replace it, or choose another name"
    if record and not before:
        raise OutputError(
            f"{path} was written by another program, so that it is not known what was searched for; {advice}."
        )
    words = {"catalogue": "catalogue", "collection": "collection", "boxes": "area", "cover": "cloud cover"}
    other = [word for name, word in words.items() if _compared(before, name) != _compared(record, name)]
    if other:
        raise OutputError(
            f"{path} holds the items of another search (another {', another '.join(other)}) and is not replaced: "
            f"{_told_of(before)}; {advice}."
        )


def _compared(record: Mapping[str, Any], name: str) -> Any:
    """Return a part of a record as it is compared: a catalogue has several spellings."""
    value = record.get(name)
    return same_place(value) if name == "catalogue" and isinstance(value, str) else value


def _told_of(record: Mapping[str, Any]) -> str:
    """Say what a file was searched for."""
    collection = text_of(record.get("collection"))
    parts = [public(text_of(record.get("catalogue"))) or "an unknown catalogue"]
    parts += [f"collection {shown(collection)}"] if collection else []
    first, last = text_of(record.get("first")), text_of(record.get("last"))
    parts.append(f"{shown(first) or 'the beginning'} to {shown(last) or 'today'}")
    boxes = [box for box in numbers_in(record.get("boxes")) if len(box) == 4]
    if boxes:
        west, south = (min(box[side] for box in boxes) for side in (0, 1))
        east, north = (max(box[side] for box in boxes) for side in (2, 3))
        parts.append(f"{west:g} to {east:g} degrees east, {south:g} to {north:g} degrees north")
    (cover,) = numbers_in([record.get("cover")]) or [[]]
    if len(cover) == 2 and cover != [0, 100]:
        parts.append(f"cloud cover {cover[0]:g} to {cover[1]:g} percent")
    return f"it was searched in {', '.join(parts)}"


def _joined(before: Mapping[str, Any], record: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the record of two searches that differ only in their dates, None being open.

    Raises
    ------
    OutputError
        If days lie between them that were not searched.
    """
    start = text_of(record.get("from")) or text_of(record.get("first"))
    for end, begin in ((before, start), (record, text_of(before.get("first")))):
        reached = text_of(end.get("reached"))
        if reached and begin and dt.date.fromisoformat(begin) > dt.date.fromisoformat(reached) + _DAY:
            raise OutputError(
                f"{path} would lack the days from {reached} to {begin}, which no search was for; search with known= "
                "(as sen2chain stac search --save does), or choose another name."
            )
    for name, better in (("first", min), ("last", max), ("reached", max)):
        both = text_of(before.get(name)), text_of(record.get(name))
        record[name] = better(both) if all(both) else None
    return record


def ask_from(path: Path, record: Mapping[str, Any]) -> dt.date | None:
    """Return the date from which on a search has to be made again, where a file has what lies before.

    Raises
    ------
    OutputError
        If the file is that of another search.
    """
    before, items = _read_saved(path)
    _check_same(before, record, path)
    first, known_first = text_of(record.get("first")), text_of(before.get("first"))
    begin = dt.date.fromisoformat(first) if first else None
    newest = max((time for item in items if (time := time_of(item)) is not None), default=None)
    if newest is None or (known_first and first < known_first):
        return begin  # it goes farther back than the file
    since = newest.date() - MARGIN
    if last := text_of(record.get("last")):
        since = min(since, dt.date.fromisoformat(last) - MARGIN)
    # From there on without a gap, even where the new search begins later.
    return max(since, dt.date.fromisoformat(known_first)) if known_first else since


def numbers_in(value: object) -> list[list[float]]:
    """Return the lists of numbers in a list of JSON; without those that hold anything else."""
    lists = [one for one in value if isinstance(one, list)] if isinstance(value, list) else []
    known = [[number for edge in one if (number := number_of(edge)) is not None] for one in lists]
    return [numbers for numbers, one in zip(known, lists, strict=True) if len(numbers) == len(one)]
