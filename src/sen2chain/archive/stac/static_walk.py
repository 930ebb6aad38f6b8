"""Static catalogues: documents that link to children and items, on disk or on a server."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from sen2chain.archive.stac.documents import place_of, read_json, resolve
from sen2chain.archive.stac.search_boxes import meets
from sen2chain.archive.stac.stac_items import mapping_of, number_of, text_of, time_from
from sen2chain.errors import LibraryError, RequestError, UnreadableError
from sen2chain.parallel import ahead, detached
from sen2chain.products import Skipped
from sen2chain.reasons import Reason
from sen2chain.remote import is_remote

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Mapping, Sequence

    from sen2chain.archive.stac.search_boxes import Box
    from sen2chain.remote import Access

MOST_DOCUMENTS = 200_000
"""Largest number of documents of one catalogue that are read."""
DEEPEST = 20
"""Largest number of links from the first document to an item."""
_LARGEST_DOCUMENT = 16 << 20  # bytes of one catalogue, collection or item
_AT_ONCE = 16  # items of a server that are read at once
_LOST = 20  # items that cannot be read one after the other, from which on the server counts as gone


def walk(
    location: str,
    document: Mapping[str, Any],
    access: Access,
    *,
    boxes: Sequence[Box] | None = None,
    span: tuple[dt.datetime | None, dt.datetime | None] = (None, None),
    collection: str | None = None,
) -> Iterator[tuple[str, dict[str, Any]] | Skipped]:
    """Yield the items of a static catalogue, each with the location of its document, or why one is left out.

    Links that leave the host of the catalogue are not followed. Collections whose extent does not meet boxes and times
    are left out; items are given whether they meet or not.

    Parameters
    ----------
    location, document
        The catalogue or collection.
    access
        How addresses are fetched.
    boxes, span
        Boxes in degrees and times that are asked for.
    collection
        Id of the only collection that is asked for.

    Raises
    ------
    LibraryError
        If a catalogue or a collection in it cannot be read, or it has too many documents.
    """
    seen = {location}
    waiting: list[tuple[str, Mapping[str, Any], int]] = [(location, document, 0)]
    while waiting:
        where, catalogue, depth = waiting.pop()
        if text_of(catalogue.get("type")) == "Collection" and not _may_have(catalogue, boxes, span, collection):
            continue
        items: list[str] = []
        children: list[str] = []
        for link in _links(catalogue):
            kind = text_of(link.get("rel"))
            if kind not in {"item", "child"}:
                continue
            target = _target(link, where, location)
            if isinstance(target, Skipped):
                yield target
            elif target not in seen:
                seen.add(target)
                (items if kind == "item" else children).append(target)
        if len(seen) > MOST_DOCUMENTS:
            raise LibraryError(
                f"The catalogue {location} has more than {MOST_DOCUMENTS} documents; name one of its collections, "
                "or pass its items in one file (.parquet)."
            )
        yield from _items(items, access)
        if children and depth >= DEEPEST:
            raise LibraryError(f"The catalogue {location} is more than {DEEPEST} links deep at {where}.")
        for child in children:
            try:
                waiting.append((child, read_json(child, access, _LARGEST_DOCUMENT), depth + 1))
            except UnreadableError as error:
                raise LibraryError(f"A part of the catalogue {location} is missing: {error}") from None


def _items(locations: Sequence[str], access: Access) -> Iterator[tuple[str, dict[str, Any]] | Skipped]:
    """Yield the documents of items, several at once where they are on a server."""

    def read(location: str) -> dict[str, Any] | UnreadableError:
        try:
            return read_json(location, access, _LARGEST_DOCUMENT)
        except UnreadableError as error:
            return error

    documents: Iterator[dict[str, Any] | UnreadableError] = map(read, locations)
    if locations and is_remote(locations[0]):
        # None is waited for when the user interrupts a server that does not answer.
        begun = (detached(functools.partial(read, location)) for location in locations)
        documents = (future.result() for future in ahead(begun, lambda: _AT_ONCE - 1))
    lost = 0
    for location, found in zip(locations, documents, strict=True):
        if not isinstance(found, UnreadableError):
            lost = 0
            yield location, found
            continue
        lost += 1
        if lost >= _LOST:
            raise LibraryError(f"The catalogue cannot be read any further, item after item: {found}")
        yield Skipped(location.rpartition("/")[2], "", Reason.UNREADABLE, str(found))


def _links(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    links = document.get("links")
    return [mapping_of(link) for link in links] if isinstance(links, list) else []


def _target(link: Mapping[str, Any], base: str, catalogue: str) -> str | Skipped:
    """Return the location that a link leads to, or why it is not followed."""
    href = text_of(link.get("href"))
    try:
        target, _ = resolve(href, base)
    except RequestError as error:
        return Skipped(base, "", Reason.UNREADABLE, str(error))
    if place_of(target) == place_of(catalogue) and is_remote(target) == is_remote(catalogue):
        return target
    detail = f"The link from {base} to {target} leaves the catalogue's host and is not followed; pass {target} itself."
    return Skipped(target, "", Reason.UNREADABLE, detail)


def _may_have(
    document: Mapping[str, Any],
    boxes: Sequence[Box] | None,
    span: tuple[dt.datetime | None, dt.datetime | None],
    collection: str | None,
) -> bool:
    """Tell from its id and extent whether a collection may have items that are asked for."""
    if collection is not None and text_of(document.get("id")) != collection:
        # A collection may hold others.
        return any(text_of(link.get("rel")) == "child" for link in _links(document))
    extent = mapping_of(document.get("extent"))
    box = _first(mapping_of(extent.get("spatial")).get("bbox"))
    if isinstance(box, list) and len(box) in {4, 6}:
        edges = [number_of(edge) for edge in (*box[:2], *box[len(box) // 2 :][:2])]
        known = [edge for edge in edges if edge is not None]
        if len(known) == 4 and not meets((known[0], known[1], known[2], known[3]), boxes):
            return False
    interval = _first(mapping_of(extent.get("temporal")).get("interval"))
    if isinstance(interval, list) and len(interval) == 2:
        begin, end = (time_from(text_of(value)) for value in interval)
        first, last = span
        if (end and first and end < first) or (begin and last and begin > last):
            return False
    return True


def _first(value: object) -> object:
    """Return the first of several extents, which is the whole one."""
    return value[0] if isinstance(value, list) and value else None
