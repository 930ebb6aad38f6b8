"""Signatures of requests: S3's, and the tokens of Planetary Computer. No signature, key or token is ever logged.

Requests to S3 are signed in their headers, by the rules of Signature Version 4
(https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html), with the keys, region and address that
botocore finds: in the environment, in ``~/.aws``, or from the machine. Without keys nothing is signed. botocore signs
queries or logs what it signs, which is why it does not sign here.

Files in Azure's blob storage are read with a token of their container, which the service at ``PC_SDK_SAS_URL`` gives
(by default Planetary Computer's), with the key in ``PC_SDK_SUBSCRIPTION_KEY`` if that is set. These are the variables
of the package planetary-computer. Tokens last some 45 minutes; they are renewed before they end.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import hashlib
import hmac
import json
import logging
import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlsplit

from sen2chain.errors import MissingExtraError, UnreadableError
from sen2chain.parallel import Memo
from sen2chain.remote.access import host_of, is_loopback, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sen2chain.remote.access import Access

    Ask = Callable[[str, Mapping[str, str]], bytes]

SAS_VARIABLE = "PC_SDK_SAS_URL"
KEY_VARIABLE = "PC_SDK_SUBSCRIPTION_KEY"
_SAS_ADDRESS = "https://planetarycomputer.microsoft.com/api/sas/v1/token"
_BLOB_HOSTS = ".blob.core.windows.net"
_AHEAD = 120.0  # seconds before the end of a token at which it is renewed; half of its life, if that is shorter
_NOT_AGAIN = 60.0  # seconds in which keys are not looked up again
_SAME_FAILURE = 10.0  # seconds in which a service that has failed is not asked again
_UNSIGNED = "UNSIGNED-PAYLOAD"
_SECRET_LOGGERS = (
    "botocore.auth", "botocore.endpoint", "botocore.httpsession", "botocore.parsers", "botocore.tokens",
    "urllib3.connectionpool",
)  # fmt: skip
"""Loggers to which botocore writes contents of requests and answers, when it fetches temporary keys."""


@dataclass(frozen=True, slots=True)
class Signed:
    """How a file is asked for; nothing secret is in its repr."""

    url: str
    """Address without query."""
    query: str = field(default="", repr=False)
    """Query with the signature."""
    trusted: bool = False
    """Whether the host is one that the user's own settings name."""


class Signer(Protocol):
    """Signs the requests for files."""

    def sign(self, location: str) -> Signed:
        """Return how a file is asked for."""

    def headers(self, signed: Signed, path: str, authority: str) -> Mapping[str, str]:
        """Return the headers of one request for it.

        Parameters
        ----------
        signed
            What `sign` has returned.
        path
            Path and query of the request, as they are sent.
        authority
            Its header ``Host``.
        """

    def renew(self, signed: Signed, region: str) -> bool:
        """Sign anew after a refusal; returns whether a second request makes sense.

        Parameters
        ----------
        signed
            What was refused.
        region
            Region that the answer of an S3 server named; empty: none.
        """

    def advice(self) -> str:
        """Return what a refusal may come from, as a part of a sentence; empty where nothing is known."""


class Plain:
    """No signature but the query that an href came with.

    Parameters
    ----------
    query
        The query.
    """

    def __init__(self, query: str) -> None:
        self._query = query

    def sign(self, location: str) -> Signed:
        """Return how a file is asked for."""
        return Signed(location, self._query)

    def headers(self, signed: Signed, path: str, authority: str) -> Mapping[str, str]:  # noqa: ARG002  # of the protocol
        """Return no headers."""
        return {}

    def renew(self, signed: Signed, region: str) -> bool:  # noqa: ARG002  # as above
        """Return False: a query that came with an href cannot be renewed."""
        return False

    def advice(self) -> str:
        """Return what a refusal may come from."""
        return "the signature of its href may have expired, search the catalogue again" if self._query else ""


@dataclass(frozen=True, slots=True)
class _Token:
    text: str = field(repr=False)
    renew_at: float


class ContainerTokens:
    """Tokens of containers of blob storage, of one signing service.

    Parameters
    ----------
    address
        Address of the service; account and container are added to it.
    ask
        Fetches a document: (address, headers) -> contents.
    """

    def __init__(self, address: str, ask: Ask) -> None:
        self._address, self._ask = address.rstrip("/"), ask
        host = host_of(urlsplit(self._address))
        self._emulator = host if is_loopback(host) else None  # of any other service, its host has the catalogue, too
        self._tokens: dict[tuple[str, str], _Token] = {}
        self._memo = Memo(self._tokens)
        self._failed: dict[tuple[str, str], tuple[float, str]] = {}

    def container(self, location: str) -> tuple[str, str] | None:
        """Return account and container of a file; None where it is not in blob storage.

        That is ``https://<account>.blob.core.windows.net/<container>/...``. Emulators have the service and the files,
        ``<account>/<container>/...``, on this machine: that counts where the address of the service is a loopback one.
        """
        parts = split(location)
        host, names = host_of(parts), parts.path.split("/")
        if host.endswith(_BLOB_HOSTS):
            if parts.scheme != "https":
                return None  # a token is not sent where others can read it
            return host.removesuffix(_BLOB_HOSTS), names[1] if len(names) > 2 else "$root"
        if host == self._emulator and len(names) > 3:
            return names[1], names[2]
        return None

    def sign(self, location: str) -> Signed:
        """Return how a file is asked for.

        Raises
        ------
        UnreadableError
            If there is no token to be had.
        """
        container = self.container(location)
        return Signed(location, self._token(container).text if container else "")

    def headers(self, signed: Signed, path: str, authority: str) -> Mapping[str, str]:  # noqa: ARG002  # of the protocol
        """Return no headers."""
        return {}

    def renew(self, signed: Signed, region: str) -> bool:  # noqa: ARG002  # as above
        """Forget the token that was refused, unless another thread has renewed it."""
        container = self.container(signed.url)
        if container is None:
            return False
        with self._memo.lock:
            kept = self._tokens.get(container)
            if kept is not None and kept.text == signed.query:
                del self._tokens[container]
        return True

    def advice(self) -> str:
        """Return nothing: the token is new."""
        return ""

    def _token(self, container: tuple[str, str]) -> _Token:
        with self._memo.lock:
            kept = self._tokens.get(container)
            if kept is not None and time.monotonic() >= kept.renew_at:
                del self._tokens[container]
        return self._memo.once(container, lambda: self._asked(container))

    def _asked(self, container: tuple[str, str]) -> _Token:
        failed, sentence = self._failed.get(container, (-_SAME_FAILURE, ""))
        if time.monotonic() - failed < _SAME_FAILURE:  # the threads that waited for it do not all try in turn
            raise UnreadableError(sentence)
        account, name = (quote(part, safe="$") for part in container)
        url = f"{self._address}/{account}/{name}"
        key = os.environ.get(KEY_VARIABLE, "")
        try:
            content = self._ask(url, {"Ocp-Apim-Subscription-Key": key} if key else {})
        except UnreadableError as error:
            self._failed[container] = time.monotonic(), str(error)
            raise
        try:
            document = json.loads(content)
            text, end = str(document["token"]).removeprefix("?"), dt.datetime.fromisoformat(document["msft:expiry"])
            left = (end if end.tzinfo else end.replace(tzinfo=dt.UTC)).timestamp() - time.time()
        except (ValueError, TypeError, LookupError, RecursionError):
            text = ""
        if not text:
            # The contents may hold a token, so that they are not shown.
            raise UnreadableError(f"{url} did not answer with a token and the time of its end.") from None
        # Where this machine's clock is wrong, the refusal of a token tells its end.
        return _Token(text, time.monotonic() + max(left - _AHEAD, left / 2, 1.0))


@dataclass(frozen=True, slots=True)
class _Keys:
    """Keys of S3."""

    name: str = field(repr=False)
    secret: str = field(repr=False)
    session: str = field(repr=False)


class _NotSentError(Exception):
    """A request of botocore's was prepared and not sent."""


class S3Requests:
    """Addresses and signatures of files in the buckets of one S3 service; see the docstring of the module.

    Parameters
    ----------
    endpoint, region, requester_pays
        As of `Access`.

    Raises
    ------
    MissingExtraError
        If botocore is not installed.
    UnreadableError
        If its settings cannot be used.
    """

    def __init__(self, endpoint: str, region: str, *, requester_pays: bool) -> None:
        try:
            import botocore.session  # noqa: PLC0415  # only S3 needs it
        except ImportError:
            raise MissingExtraError("Files in s3://", "botocore", "stac") from None
        self._endpoint, self._pays = endpoint, requester_pays
        self._lock = threading.Lock()
        self._places: dict[str, tuple[str, str]] = {}  # bucket -> address of its files, region
        with _botocore():
            self._session: Any = botocore.session.Session()
            self._region = region or self._session.get_config_variable("region") or os.environ.get("AWS_REGION", "")
            self._credentials: Any = self._session.get_credentials()
        self._looked_up = time.monotonic()
        self._keys: tuple[float, _Keys | None] = (-_NOT_AGAIN, None)
        self._signing_key: tuple[tuple[str, ...], bytes] = ((), b"")

    def sign(self, location: str) -> Signed:
        """Return how a file is asked for."""
        bucket, _, key = location[len("s3://") :].partition("/")
        base, _ = self._place(bucket)
        return Signed(base + quote(key, safe="/-._~"), trusted=True)

    def headers(self, signed: Signed, path: str, authority: str) -> Mapping[str, str]:  # of the protocol
        """Return the headers with the signature of one request."""
        pays = {"x-amz-request-payer": "requester"} if self._pays else {}
        keys = self._current_keys()
        if keys is None:
            return pays
        now = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
        headers = {"host": authority, "x-amz-content-sha256": _UNSIGNED, "x-amz-date": now, **pays}
        if keys.session:
            headers["x-amz-security-token"] = keys.session
        names = sorted(headers)
        signed_names = ";".join(names)
        request = "\n".join(
            ["GET", path, "", *(f"{name}:{headers[name]}" for name in names), "", signed_names, _UNSIGNED]
        )
        region = self._region_of(signed.url)
        scope = f"{now[:8]}/{region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signature = hmac.new(self._key(keys, now[:8], region), text.encode(), hashlib.sha256).hexdigest()
        del headers["host"]  # which is sent with every request
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={keys.name}/{scope}, SignedHeaders={signed_names}, Signature={signature}"
        )
        return headers

    def renew(self, signed: Signed, region: str) -> bool:
        """Take the region that the server names, or keys that have changed since they were looked up."""
        with self._lock:
            bucket = next((name for name, (base, _) in self._places.items() if signed.url.startswith(base)), "")
            if region and bucket and not self._endpoint and region != self._places[bucket][1]:
                self._places[bucket] = self._found_place(bucket, region)
                return True
            if self._credentials is None or time.monotonic() - self._looked_up < _NOT_AGAIN:
                return False
            self._looked_up = time.monotonic()
            before = self._keys[1]
            with _botocore():
                import botocore.session  # noqa: PLC0415  # as above

                self._session = botocore.session.Session()
                self._credentials = self._session.get_credentials()
            self._keys = (-_NOT_AGAIN, None)
        return self._current_keys() != before

    def advice(self) -> str:
        """Return what a refusal may come from."""
        if self._credentials is not None:
            return ""
        return "no keys were found for s3://, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"

    def _place(self, bucket: str) -> tuple[str, str]:
        """Return the address of the files of a bucket, and its region."""
        place = self._places.get(bucket)
        if place is None:
            with self._lock:
                place = self._places.get(bucket)
                if place is None:
                    place = self._places[bucket] = self._found_place(bucket, self._region)
        return place

    def _region_of(self, url: str) -> str:
        places = list(self._places.values())
        return next((region for base, region in places if url.startswith(base)), self._region)

    def _found_place(self, bucket: str, region: str) -> tuple[str, str]:
        """Ask botocore for the address of a bucket, which depends on many settings."""
        import botocore.config  # noqa: PLC0415  # as above
        import botocore.exceptions  # noqa: PLC0415  # as above

        found: list[str] = []

        def keep(request: Any, **_: object) -> None:
            found.append(request.url)
            raise _NotSentError

        url = ""
        try:
            with _botocore():
                # With keys that are none: only the address is taken, and nothing sent. An address that botocore signs
                # in its query would not do, since it names no region.
                client = self._session.create_client(
                    "s3",
                    region_name=region or "us-east-1",
                    endpoint_url=self._endpoint or None,
                    aws_access_key_id="none",
                    aws_secret_access_key="none",  # noqa: S106  # see above
                    config=botocore.config.Config(signature_version="s3v4"),
                )
                client.meta.events.register("before-send.s3.GetObject", keep)
                with contextlib.suppress(_NotSentError):
                    client.get_object(Bucket=bucket, Key="k")
                client.close()
                url = found[0]
        except (botocore.exceptions.BotoCoreError, ValueError) as error:
            raise UnreadableError(
                f"s3://{bucket} cannot be read: botocore finds no address for it ({type(error).__name__})."
            ) from None
        return url.partition("?")[0].removesuffix("k"), client.meta.region_name

    def _current_keys(self) -> _Keys | None:
        """Return the keys; those that are lent for a while are asked for again."""
        looked_up, keys = self._keys
        if self._credentials is None or time.monotonic() - looked_up < _NOT_AGAIN:
            return keys
        try:
            with _botocore():
                found = self._credentials.get_frozen_credentials()
        except Exception as error:  # noqa: BLE001  # of any of botocore's ways to keys
            raise UnreadableError(
                f"The keys for s3:// cannot be renewed ({type(error).__name__}); log in again."
            ) from None
        keys = _Keys(found.access_key, found.secret_key, found.token or "") if found.access_key else None
        self._keys = time.monotonic(), keys
        return keys

    def _key(self, keys: _Keys, day: str, region: str) -> bytes:
        """Return the key that signs the requests of a day, which is derived once."""
        made_for = (keys.secret, day, region)
        kept, key = self._signing_key
        if kept != made_for:
            key = f"AWS4{keys.secret}".encode()
            for part in (day, region, "s3", "aws4_request"):
                key = hmac.new(key, part.encode(), hashlib.sha256).digest()
            self._signing_key = made_for, key
        return key


class _Hushed(logging.Filter):
    """Drops the records of one thread."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread != self._thread


@contextlib.contextmanager
def _botocore() -> Iterator[None]:
    """Keep what botocore logs about keys in this thread from every log, whatever its level."""
    hushed = _Hushed()
    loggers = [logging.getLogger(name) for name in _SECRET_LOGGERS]
    for logger in loggers:
        logger.addFilter(hushed)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(hushed)


@functools.cache
def _services() -> Memo:
    """Signing services of this process; a function, so that a forked process can begin anew."""
    return Memo()


def signer(location: str, access: Access, query: str, ask: Ask, *, document: bool = False) -> Signer:
    """Return what signs the requests for a file.

    Parameters
    ----------
    location
        The file, without query.
    access
        How it is reached.
    query
        Query that its href came with; empty: as `access` has it.
    ask
        Fetches a document from a signing service: (address, headers) -> contents.
    document
        Whether the file is a document of a catalogue, which is in a container only on the hosts of blob storage.

    Raises
    ------
    MissingExtraError
        If botocore is needed and not installed.
    UnreadableError
        If its settings cannot be used.
    """
    if location.lower().startswith("s3://"):
        key = ("s3", access.endpoint, access.region, access.requester_pays)
        found: Signer = _services().once(
            key, lambda: S3Requests(access.endpoint, access.region, requester_pays=access.requester_pays)
        )
        return found
    if access.signing == "planetary-computer":
        address = os.environ.get(SAS_VARIABLE) or _SAS_ADDRESS
        tokens: ContainerTokens = _services().once(address, lambda: ContainerTokens(address, ask))
        document = document or location == access.catalogue
        if tokens.container(location) is not None and (not document or host_of(split(location)).endswith(_BLOB_HOSTS)):
            return tokens
    return Plain(query or access.queries.get(location, ""))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_services.cache_clear)
