"""Search of a STAC API, page by page: complete, or an error.

pystac-client (an extra) writes the requests. They are sent here, so that sizes, hosts, repetitions and retries have
limits, and no query string gets into a message or a log. Its own paging would take a page without items for the end.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import itertools
import json
import logging
import threading
from collections import deque
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from time import sleep
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from sen2chain.archive.stac.documents import LARGEST_REMOTE, parse_json, public, without_secrets
from sen2chain.archive.stac.stac_items import key_of, mapping_of, number_of, text_of
from sen2chain.errors import LibraryError, MissingExtraError, UnreadableError, shown
from sen2chain.parallel import detached

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from sen2chain.archive.stac.search_boxes import Box

    Span = tuple[dt.datetime | None, dt.datetime | None]

logger = logging.getLogger(__name__)

PAGE = 100
"""Items of a page that are asked for: some servers cannot send more than 6 MB at once."""
MOST_PAGES = 10_000
"""Largest number of pages of one search."""
_AT_ONCE = 4  # boxes that are asked for at a time
_TRIES = 5
_PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds between tries
_LONGEST_PAUSE = 60.0  # seconds that a server may ask for
_TIMEOUT = (10.0, 120.0)  # seconds to connect, and between two pieces of an answer
_STALE = 3  # pages without anything new, one after the other, from which on a server goes round in circles
_AGAIN = frozenset({429, 500, 502, 503, 504})
_SAME_HOST_REDIRECTS = 5


def is_api(document: Mapping[str, Any]) -> bool:
    """Whether a document is the landing page of a STAC API."""
    return "conformsTo" in document or _link(document, "search") is not None


def has_next_page(document: Mapping[str, Any]) -> bool:
    """Whether a document is a page of items that another one follows."""
    return _link(document, "next") is not None


@dataclass
class ApiSearch:
    """Searches one API; it is made new for each search of a user."""

    location: str
    """Location of the landing page."""
    landing: Mapping[str, Any]
    """The landing page."""
    collection: str
    """The collection."""
    cover: tuple[float, float] = (0.0, 100.0)
    """Smallest and largest cloud cover in percent; items without one are left out by the server where it is limited."""
    _io: Any = field(default=None, repr=False)
    _ended: threading.Event = field(default_factory=threading.Event, repr=False)  # no more pages are asked for
    _in_thread: bool = field(default=False, repr=False)  # whether it runs in a thread that nothing waits for

    def items(self, boxes: Sequence[Box], span: Span) -> Iterator[Any]:
        """Yield the items that meet any of the boxes, each version of each once.

        Parameters
        ----------
        boxes
            Boxes in degrees; several are asked for at a time.
        span
            First and last time, None for open.

        Raises
        ------
        LibraryError
            If the API does not answer, answers something else, or repeats itself, so that items may be missing.
        MissingExtraError
            If pystac-client is not installed.
        """
        if len(boxes) == 1:  # page by page, so that not all of them are held
            yield from self._of_box(boxes[0], span)
            return
        _library()
        seen: set[tuple[str, ...]] = set()
        waiting: deque[Future[list[Any]]] = deque()
        left = iter(boxes)

        def begin(count: int) -> None:
            for box in itertools.islice(left, count):
                waiting.append(detached(functools.partial(self._all_of_box, box, span)))

        try:
            begin(_AT_ONCE)
            while waiting:
                for item in waiting.popleft().result():
                    if _key(item) not in seen:
                        seen.add(_key(item))
                        yield item
                begin(1)
        finally:
            self._ended.set()

    def check_collection(self) -> None:
        """Check that the API has the collection, for a search that found nothing.

        Raises
        ------
        LibraryError
            If it has not.
        """
        url = f"{self.location.rstrip('/')}/collections"
        try:
            listed = self._ask(url, "GET", None).get("collections")
        except LibraryError:
            return  # an API need not list its collections
        finally:
            self.close()
        names = [text_of(mapping_of(one).get("id")) for one in listed] if isinstance(listed, list) else []
        if names and self.collection not in names and len(names) < 1000:  # more stand on other pages
            alike = [name for name in names if "sentinel-2" in name.lower()] or names
            raise LibraryError(
                f"The STAC API {self.location} has no collection {self.collection}; it has "
                f"{', '.join(map(shown, alike[:8]))}. Pass one as collection."
            )

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        if self._io is not None:
            self._io.session.close()

    # ---------------------------------------------------------------------------------------------------------- inside

    def _all_of_box(self, box: Box, span: Span) -> list[Any]:
        """Return the items of a box, over connections of its own."""
        return list(replace(self, _io=None, _in_thread=True).items([box], span))

    def _of_box(self, box: Box, span: Span) -> Iterator[Any]:
        """Yield the items of a box, and close the connections then."""
        try:
            yield from self._pages(box, span)
        finally:
            self.close()

    def _pages(self, box: Box, span: Span) -> Iterator[Any]:
        url, method, body = self._first(box, span)
        asked: set[str] = set()
        own: set[tuple[str, ...]] = set()
        ids: set[tuple[str, ...]] = set()
        stale, repeated, matched, most = 0, False, None, 0
        for _ in range(MOST_PAGES):
            asked.add(_fingerprint(url, method, body))
            page = self._ask(url, method, body)
            features = page.get("features")
            if not isinstance(features, list):
                raise LibraryError(
                    f"The STAC API {self.location} answered something else than a page of items "
                    f"({_complaint(page) or 'it has no features'}); check the address and the collection."
                )
            matched = _matched(page, matched)
            fresh, most = False, max(most, len(features))
            for item in features:
                key = _key(item)
                ids.add(key[:2])
                if key not in own:
                    fresh = True
                    own.add(key)
                    yield item
            stale = 0 if fresh or not features else stale + 1
            repeated |= bool(features) and not fresh
            following = _link(page, "next")
            if following is None:
                # The last page is full, so that more may lie behind it. (A number of its own may be an estimate.)
                if matched is not None and len(ids) < matched and len(features) == most and not repeated:
                    raise LibraryError(
                        f"The STAC API {self.location} sent {len(ids)} of {matched} items and no address of a next "
                        "page; ask for fewer dates, or a smaller area."
                    )
                break
            url, method, body = self._next(following, body)
            if _fingerprint(url, method, body) in asked or stale >= _STALE:
                repeated = True
                if matched is None or len(ids) < matched:
                    raise LibraryError(
                        f"The STAC API {self.location} sends the same page of items again and again (after {len(ids)} "
                        "items), so some may be missing; try again later, or ask for fewer dates."
                    )
                break
        else:
            raise LibraryError(
                f"The STAC API {self.location} did not come to an end within {MOST_PAGES} pages; ask for fewer dates."
            )
        if repeated and matched is not None and len(ids) < matched:
            raise LibraryError(
                f"The STAC API {self.location} sent a page twice, and only {len(ids)} of {matched} items; try again."
            )

    def _first(self, box: Box, span: Span) -> tuple[str, str, dict[str, Any] | None]:
        """Return the first request of a search: address, method and body."""
        item_search, _ = _library()
        link = self._search_link()
        parameters: dict[str, Any] = {}
        if self.cover != (0.0, 100.0):
            low, high = self.cover
            classes = self.landing.get("conformsTo")
            told = " ".join(text_of(one) for one in classes) if isinstance(classes, list) else ""
            if "item-search#query" in told:
                parameters["query"] = {"eo:cloud_cover": {"gte": low, "lte": high}}
            elif "cql2-json" in told:
                name = {"property": "eo:cloud_cover"}
                limits = [{"op": ">=", "args": [name, low]}, {"op": "<=", "args": [name, high]}]
                parameters |= {"filter": {"op": "and", "args": limits}, "filter_lang": "cql2-json"}
        search = item_search(
            link[0],
            method=link[1],
            limit=PAGE,
            collections=[self.collection],
            bbox=list(box),
            datetime=None if span == (None, None) else f"{_written(span[0])}/{_written(span[1])}",
            **parameters,
        )
        found: dict[str, Any] = search.get_parameters()
        return link[0], link[1], found

    def _search_link(self) -> tuple[str, str]:
        """Return address and method of the search: by POST where the API has it."""
        links = self.landing.get("links")
        found = [
            link
            for one in (links if isinstance(links, list) else [])
            if text_of((link := mapping_of(one)).get("rel")) == "search"
        ]
        if not found:
            return f"{self.location.rstrip('/')}/search", "POST"
        best = next((link for link in found if text_of(link.get("method")).upper() == "POST"), found[0])
        return self._own(text_of(best.get("href"))), text_of(best.get("method")).upper() or "GET"

    def _next(self, link: Mapping[str, Any], body: dict[str, Any] | None) -> tuple[str, str, dict[str, Any] | None]:
        """Return the request of the next page."""
        url = self._own(text_of(link.get("href")))
        if text_of(link.get("method")).upper() != "POST":
            return url, "GET", None  # the address holds all parameters
        own = dict(mapping_of(link.get("body")))
        return url, "POST", {**(body or {}), **own} if link.get("merge") is True else own

    def _own(self, href: str) -> str:
        """Return the address of a link of the API, which must be on the API's host.

        Raises
        ------
        LibraryError
            If it is not.
        """
        home, url, parts = urlsplit(self.location), href, None
        try:
            url = urljoin(f"{self.location.rstrip('/')}/", href)
            parts = urlsplit(url)
            same = parts.hostname == home.hostname and parts.scheme in {"http", "https"}
            # Behind a proxy an API may not know its own scheme and port.
            if same and (parts.scheme, parts.port) != (home.scheme, home.port):
                same = home.scheme == "https" and parts.port in {None, 80, 443}
                parts = parts._replace(scheme=home.scheme, netloc=home.netloc)
        except ValueError:
            same = False
        if not same or parts is None:
            raise LibraryError(
                f"The STAC API {self.location} leads to another host ({shown(public(url))}), which is not followed."
            )
        return urlunsplit(parts._replace(netloc=home.netloc))

    # --------------------------------------------------------------------------------------------------------- sending

    def _ask(self, url: str, method: str, body: dict[str, Any] | None) -> dict[str, Any]:
        """Send a request, again where that may help, and return the answer.

        Raises
        ------
        LibraryError
            If there is no answer, or not one in JSON.
        """
        if self._io is None:
            _, api_io = _library()
            self._io = api_io(max_retries=None)
        cause = ""
        for attempt in range(_TRIES):
            if attempt:
                logger.info("%s: asking again (%s)", self.location, cause)
            if self._ended.is_set() and self._in_thread:
                raise LibraryError(f"The search of the STAC API {self.location} was given up.")
            if self._in_thread:
                status, content, pause, cause = self._send(url, method, body)
            else:
                status, content, pause, cause = detached(functools.partial(self._send, url, method, body)).result()
            if status == 200:
                try:
                    return parse_json(content, f"The answer of {self.location}")
                except UnreadableError as error:
                    cause, pause = str(error).rstrip("."), 0.0
            elif status and status not in _AGAIN:
                with contextlib.suppress(UnreadableError):
                    cause = ": ".join(filter(None, (cause, _complaint(parse_json(content, "")))))
                raise LibraryError(f"The STAC API {self.location} refuses the search ({cause}); check the request.")
            if attempt < _TRIES - 1:
                sleep(max(pause, _PAUSES[attempt]))
        raise LibraryError(
            f"The STAC API {self.location} cannot be read ({cause}, {_TRIES} times); check the address and the "
            "network, and try again."
        )

    def _send(self, url: str, method: str, body: dict[str, Any] | None) -> tuple[int, bytes, float, str]:
        """Send a request once: status (0 for none), content, pause that is asked for, and the trouble in words."""
        import requests  # noqa: PLC0415  # an extra

        session = self._io.session
        for _ in range(_SAME_HOST_REDIRECTS):
            posted, asked = (body, None) if method == "POST" else (None, body)
            try:
                request = session.prepare_request(requests.Request(method, url, json=posted, params=asked))
                settings = session.merge_environment_settings(request.url, {}, True, None, None)  # noqa: FBT003  # stream
                with session.send(request, timeout=_TIMEOUT, allow_redirects=False, **settings) as answer:
                    if answer.is_redirect:
                        url = self._own(urljoin(url, answer.headers.get("location", "")))
                        if answer.status_code in {301, 302, 303}:
                            return answer.status_code, b"", 0.0, f"it moved to {shown(public(url))}"
                        continue
                    content = bytearray()
                    for piece in answer.iter_content(1 << 16):
                        content += piece
                        if len(content) > LARGEST_REMOTE:
                            raise LibraryError(
                                f"The STAC API {self.location} sends a page of more than {LARGEST_REMOTE >> 20} MB."
                            )
                    pause = _pause(answer.headers.get("retry-after", ""))
                    return answer.status_code, bytes(content), pause, f"it answered {answer.status_code}"
            except (requests.RequestException, OSError, ValueError) as error:
                return 0, b"", 0.0, _trouble(error)
        return 0, b"", 0.0, "it redirects in circles"


def _library() -> tuple[Any, Any]:
    """Return the classes of pystac-client that write requests and send them.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        from pystac_client.item_search import ItemSearch  # noqa: PLC0415  # an extra
        from pystac_client.stac_api_io import StacApiIO  # noqa: PLC0415
    except ImportError:
        raise MissingExtraError("STAC APIs", "pystac-client", "stac") from None
    return ItemSearch, StacApiIO


def _link(document: Mapping[str, Any], rel: str) -> Mapping[str, Any] | None:
    links = document.get("links")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("rel") == rel and text_of(link.get("href")):
            return link
    return None


def _key(item: object) -> tuple[str, ...]:
    """Return what tells an item of a page from others, whatever it is: collection and id, then its version."""
    if not isinstance(item, dict):
        return "", shown(item)
    # An item that is updated while pages are sent may come twice; which version is used is decided later.
    return *key_of(item), text_of(mapping_of(item.get("properties")).get("updated"))


def _written(time: dt.datetime | None) -> str:
    return ".." if time is None else time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _fingerprint(url: str, method: str, body: object) -> str:
    return json.dumps([url, method, body], sort_keys=True)


def _matched(page: Mapping[str, Any], before: int | None) -> int | None:
    """Return how many items an API says that there are."""
    for found in (page.get("numberMatched"), mapping_of(page.get("context")).get("matched")):
        number = number_of(found)
        if number is not None and number >= 0:
            return int(number)
    return before


def _complaint(answer: Mapping[str, Any]) -> str:
    """Return what an API says of an error, without addresses' query strings."""
    for name in ("description", "detail", "message", "title"):
        if text := text_of(answer.get(name)):
            return shown(without_secrets(text))
    return ""


def _pause(text: str) -> float:
    """Return the seconds that a server asks to wait (``Retry-After``), at most a minute; 0 where it does not ask."""
    found = 0.0
    try:
        found = float(text)
    except ValueError:
        with contextlib.suppress(ValueError, TypeError, IndexError):
            found = (parsedate_to_datetime(text) - dt.datetime.now(dt.UTC)).total_seconds()
    return min(max(found, 0.0), _LONGEST_PAUSE) if found == found else 0.0  # noqa: PLR0124  # NaN


def _trouble(error: BaseException) -> str:
    """Say in a few words why a request failed, without its address."""
    seen: set[int] = set()
    inner: BaseException | None = error
    names = []
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        names.append(type(inner).__name__)
        if isinstance(inner, ConnectionRefusedError):
            return "the connection is refused"
        reason = getattr(inner, "reason", None)
        held = inner.args[0] if inner.args and isinstance(inner.args[0], BaseException) else None
        inner = reason if isinstance(reason, BaseException) else inner.__cause__ or inner.__context__ or held
    told = " ".join(names)
    if "NameResolution" in told or "gaierror" in told:
        return "its name is not known, or there is no network"
    if "Timeout" in told:
        return "it does not answer in time"
    if "SSL" in told or "Certificate" in told:
        return "its certificate cannot be checked"
    return "the connection is broken"
