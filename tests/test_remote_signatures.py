"""Signed requests: to S3, checked with botocore's signatures; with tokens of containers; what no log may show."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import logging
import random
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from sen2chain.errors import MissingExtraError, Sen2ChainError, UnreadableError
from sen2chain.remote import Access, counting, fetch_document, open_remote, signatures, transfer
from troubled_server import Request, Trouble, TroubledServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stac_servers import ObjectStore

DATA = random.Random(6).randbytes(100_000)
PATH = "/eodata/Sentinel-2/a b+c/ü(1)'.jp2"
LOCATION = "s3:/" + PATH
KEY, SECRET, SESSION = "AKIAEXAMPLEKEY", "a/SECRET+key", "SECRET-session/+="


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Keep the keys and settings of this machine's user out, and let pauses be short."""
    for name in (
        "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE",
        "AWS_SESSION_TOKEN", "PC_SDK_SAS_URL", "PC_SDK_SUBSCRIPTION_KEY", "HTTP_PROXY", "http_proxy",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(transfer, "patience", transfer.Patience(pauses=(0.001,) * 4, longest=0.05))
    signatures._services.cache_clear()
    yield
    signatures._services.cache_clear()


def without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")


@pytest.fixture
def server() -> Iterator[TroubledServer]:
    with TroubledServer({PATH: DATA}) as opened:
        yield opened


def refusal(asked: Request, region: str, session: str = "") -> Trouble | None:
    """Refuse a request whose signature is not the one that botocore makes of it."""
    from botocore.auth import S3SigV4Auth  # noqa: PLC0415  # the oracle of these tests alone
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.credentials import Credentials  # noqa: PLC0415

    sent = asked.headers.get("authorization", "")
    if not sent:
        return Trouble(403, body=b"<Code>AccessDenied</Code>")
    signed = sent.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    request = AWSRequest("GET", f"http://{asked.headers['host']}{asked.target}")
    request.context = {"timestamp": asked.headers["x-amz-date"], "payload_signing_enabled": False, "signing": {}}
    for name in signed:
        request.headers[name] = asked.headers[name]
    oracle = S3SigV4Auth(Credentials(KEY, SECRET, session or None), "s3", region)
    canonical = oracle.canonical_request(request)
    expected = oracle.signature(oracle.string_to_sign(request, canonical), request)
    scope = f"Credential={KEY}/{asked.headers['x-amz-date'][:8]}/{region}/s3/aws4_request,"
    fits = sent.endswith(f"Signature={expected}") and scope in sent and {"host", "x-amz-date"} <= set(signed)
    return None if fits else Trouble(403, body=b"<Code>SignatureDoesNotMatch</Code>")


# S3.


def test_requests_to_s3_are_signed_as_botocore_signs_them(server: TroubledServer) -> None:
    server.answers["*"] = lambda asked: refusal(asked, "us-east-1")
    with open_remote(LOCATION, Access(signing="s3", endpoint=server.url), 1000) as file:
        assert file.location == LOCATION
        assert file.read(500, 20_000) == DATA[500:20_500]
    assert fetch_document(LOCATION, Access(endpoint=server.url)) == DATA
    assert {entry.query for entry in server.log} == {""}  # signed in the headers


def test_files_of_an_object_store(object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a b+c(1).jp2").write_bytes(DATA)
    object_store.upload("remote-files", tmp_path / "files", "Sentinel-2/ü/")
    location = "s3://remote-files/Sentinel-2/ü/a b+c(1).jp2"
    with counting() as traffic, open_remote(location, Access(endpoint=object_store.href), 1000) as file:
        assert (file.size, len(file.version) > 2) == (len(DATA), True)
        file.fetch([(50_000, 1000), (51_500, 1000), (99_990, 100)])
        assert file.read(50_000, 2500) == DATA[50_000:52_500]
        assert file.read(99_990, 100) == DATA[99_990:]
    assert (traffic.requests, traffic.retries) == (3, 0)
    missing = Access(endpoint=object_store.href)
    with open_remote(f"{location}.aux", missing) as file, pytest.raises(UnreadableError, match=r"404 \(NoSuchKey\)\.$"):
        file.read(0, 1)
    without_keys(monkeypatch)
    signatures._services.cache_clear()
    with (
        open_remote(location, Access(endpoint=object_store.href)) as file,
        pytest.raises(UnreadableError, match="no keys"),
    ):
        file.read(0, 1)
    asked = [line for line in object_store.log().splitlines() if "GET /remote-files/" in line]
    assert len(asked) >= 5
    assert not any("X-Amz" in line or "SECRET" in line for line in asked)


def test_region_session_and_payment_are_signed_too(server: TroubledServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", SESSION)
    server.answers["*"] = lambda asked: refusal(asked, "eu-central-1", SESSION)
    access = Access(endpoint=server.url, region="eu-central-1", requester_pays=True)
    with open_remote(LOCATION, access) as file:
        assert file.read(0, 10) == DATA[:10]
    headers = server.log[0].headers
    assert headers["x-amz-request-payer"] == "requester"
    assert "x-amz-request-payer" in headers["authorization"]
    assert "x-amz-security-token" in headers["authorization"]


@pytest.mark.parametrize("place", ["environment", "file"])
def test_address_region_and_keys_are_found_as_botocore_finds_them(
    server: TroubledServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    if place == "environment":
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    else:
        without_keys(monkeypatch)
        monkeypatch.setenv("AWS_PROFILE", "mine")
        (tmp_path / "config").write_text(f"[profile mine]\nregion = eu-west-3\nendpoint_url = {server.url}\n")
        (tmp_path / "credentials").write_text(f"[mine]\naws_access_key_id={KEY}\naws_secret_access_key={SECRET}\n")
    server.answers["*"] = lambda asked: refusal(asked, "eu-west-3")
    with open_remote(LOCATION, Access(catalogue="https://stac.example.org", allowed=("s3://eodata",))) as file:
        assert file.read(0, 10) == DATA[:10]


def test_without_keys_nothing_is_signed(server: TroubledServer, monkeypatch: pytest.MonkeyPatch) -> None:
    without_keys(monkeypatch)
    with open_remote(LOCATION, Access(endpoint=server.url)) as file:
        assert file.read(0, 10) == DATA[:10]
    assert not {"authorization", "x-amz-date"} & set(server.log[0].headers)
    server.answers["*"] = lambda asked: refusal(asked, "us-east-1")
    with (
        open_remote(LOCATION, Access(endpoint=server.url)) as file,
        pytest.raises(UnreadableError) as error,
    ):
        file.read(0, 10)
    assert str(error.value) == (
        f"{LOCATION} cannot be read: its server answered 403 (AccessDenied); no keys were found for s3://, set "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    )


def test_addresses_of_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    without_keys(monkeypatch)

    def address(bucket: str, **access: str) -> str:
        return signatures.S3Requests(
            access.get("endpoint", ""), access.get("region", ""), requester_pays=False
        ).sign(f"s3://{bucket}/a/b c.tif").url  # fmt: skip

    assert (
        address("sentinel-cogs", region="us-west-2") == "https://sentinel-cogs.s3.us-west-2.amazonaws.com/a/b%20c.tif"
    )
    assert address("with.dots", region="us-west-2") == "https://s3.us-west-2.amazonaws.com/with.dots/a/b%20c.tif"
    assert address("eodata", endpoint="https://eodata.example.org") == "https://eodata.example.org/eodata/a/b%20c.tif"
    with pytest.raises(UnreadableError, match="botocore finds no address"):
        address("eodata", endpoint="no address")


def test_the_region_that_a_server_names_is_taken(server: TroubledServer, monkeypatch: pytest.MonkeyPatch) -> None:
    found = signatures.S3Requests._found_place

    def place(own: signatures.S3Requests, bucket: str, region: str) -> tuple[str, str]:
        there = f"s3.{region}" if region else "s3"
        assert found(own, bucket, region)[0] == f"https://eodata.{there}.amazonaws.com/"
        return f"{server.url}/eodata/", region or "us-east-1"

    def answer(asked: Request) -> Trouble | None:
        wrong = refusal(asked, "eu-central-1")
        return wrong and Trouble(
            next(statuses), {"x-amz-bucket-region": "eu-central-1", "Location": "https://evil.com/"}
        )

    monkeypatch.setattr(signatures.S3Requests, "_found_place", place)
    server.answers["*"] = answer
    for status in (301, 400):
        signatures._services.cache_clear()
        statuses = iter([status])
        with open_remote(LOCATION, Access()) as file:
            assert file.read(0, 10) == DATA[:10]
            assert file.read(90_000, 10) == DATA[90_000:90_010]
    assert len(server.log) == 6


def test_keys_that_have_been_renewed_meanwhile_are_taken(
    server: TroubledServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_keys(monkeypatch)
    monkeypatch.setattr(signatures, "_NOT_AGAIN", 0.0)
    keys = tmp_path / "credentials"
    keys.write_text("[default]\naws_access_key_id=OLD\naws_secret_access_key=OLD\n")
    server.answers["*"] = lambda asked: refusal(asked, "us-east-1")
    with (
        open_remote(LOCATION, Access(endpoint=server.url)) as file,
        pytest.raises(UnreadableError, match="answered 403"),
    ):
        file.read(0, 10)
    assert len(server.log) == 1  # the same keys again would not help
    keys.write_text(f"[default]\naws_access_key_id={KEY}\naws_secret_access_key={SECRET}\n")
    with open_remote(LOCATION, Access(endpoint=server.url)) as file:
        assert file.read(0, 10) == DATA[:10]


def test_signing_costs_little() -> None:
    own = signatures.S3Requests("http://127.0.0.1:1", "", requester_pays=False)
    signed = own.sign(LOCATION)
    begun = time.process_time()
    for _ in range(200):
        own.headers(own.sign(LOCATION), "/eodata/a", "127.0.0.1")
    assert time.process_time() - begun < 0.2  # usually 0.01
    assert SECRET not in repr((signed, own.headers(signed, "/eodata/a", "127.0.0.1"), own._keys))


def test_s3_without_botocore_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore", None)
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(MissingExtraError, match=r"^Files in s3:// need botocore, .* sen2chain\[stac\]\)\.$"):
        open_remote(LOCATION, Access())


# Tokens of containers.


class Tokens:
    """A signing service and a store that takes its tokens for a while, on one server."""

    def __init__(self, server: TroubledServer, seconds: float = 3600, *, key: str = "") -> None:
        self.server, self.seconds, self.key = server, seconds, key
        self.given: list[str] = []
        self.taken: set[str] = set()
        server.files["/acc/box/a.tif"] = DATA
        server.answers["/sign/acc/box"] = self.give
        server.answers["/acc/box/a.tif"] = self.check

    def give(self, asked: Request) -> Trouble:
        if self.key and asked.headers.get("ocp-apim-subscription-key") != self.key:
            return Trouble(401)
        token = f"st=2026&sig=SECRET{len(self.given)}%2B%3D"
        self.given.append(token)
        self.taken = {token}
        end = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self.seconds)
        return Trouble(200, body=json.dumps({"msft:expiry": f"{end:%Y-%m-%dT%H:%M:%SZ}", "token": token}).encode())

    def check(self, asked: Request) -> Trouble | None:
        return None if asked.query in self.taken else Trouble(403, {"x-ms-error-code": "AuthenticationFailed"})

    @property
    def location(self) -> str:
        return f"{self.server.url}/acc/box/a.tif"


ACCESS = Access(signing="planetary-computer", at_once=8)


@pytest.fixture
def tokens(server: TroubledServer, monkeypatch: pytest.MonkeyPatch) -> Tokens:
    monkeypatch.setenv("PC_SDK_SAS_URL", f"{server.url}/sign/")
    return Tokens(server)


def test_one_token_serves_all_files_of_a_container(tokens: Tokens) -> None:
    tokens.server.latency = 0.01
    with ThreadPoolExecutor(8) as pool:
        files = list(pool.map(lambda _: open_remote(tokens.location, ACCESS, 100), range(20)))
        assert {file.read(5000, 10) for file in files} == {DATA[5000:5010]}
        for file in files:
            file.close()
    assert len(tokens.given) == 1


def test_a_token_is_renewed_before_its_end(tokens: Tokens) -> None:
    tokens.seconds = 1
    with open_remote(tokens.location, ACCESS, 100) as file:
        file.read(0, 1)
        own: Any = signatures._services().once(f"{tokens.server.url}/sign/", lambda: None)
        (token,) = own._tokens.values()
        assert token.renew_at - time.monotonic() <= 1  # not later than its end
        own._tokens["acc", "box"] = signatures._Token(token.text, time.monotonic())
        assert file.read(5000, 10) == DATA[5000:5010]
    assert len(tokens.given) == 2
    assert all(entry.status == 206 for entry in tokens.server.log if entry.path == "/acc/box/a.tif")


def test_a_token_that_is_refused_is_renewed_once(tokens: Tokens) -> None:
    with open_remote(tokens.location, ACCESS, 100) as file:
        file.read(0, 1)
        tokens.taken = set()
        file.fetch([(at, 10) for at in range(5000, 90_000, 5000)])
        assert file.read(5000, 10) == DATA[5000:5010]
        assert all(file.read(at, 10) == DATA[at : at + 10] for at in range(5000, 90_000, 5000))
        assert len(tokens.given) == 2  # not once for each request that failed
        tokens.server.answers["/acc/box/a.tif"] = lambda _: Trouble(403)
        with pytest.raises(UnreadableError, match=r"a\.tif cannot be read: its server answered 403\.$"):
            file.read(95_000, 10)
    assert len(tokens.given) == 3


def test_the_subscription_key_is_sent_to_the_service_alone(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens.key = "SECRET-subscription"
    with (
        open_remote(tokens.location, ACCESS) as file,
        pytest.raises(UnreadableError, match="/sign/acc/box cannot be read"),
    ):
        file.read(0, 1)
    monkeypatch.setenv("PC_SDK_SUBSCRIPTION_KEY", tokens.key)
    signatures._services.cache_clear()
    with open_remote(tokens.location, ACCESS) as file:
        file.read(0, 1)
    assert "ocp-apim-subscription-key" not in tokens.server.log[-1].headers


@pytest.mark.parametrize(
    "answer",
    [
        Trouble(200, body=b"{}"),
        Trouble(200, body=b"<html>SECRET</html>"),
        Trouble(200, body=b'{"token": "SECRET", "msft:expiry": "soon"}'),
        Trouble(200, body=b'{"token": "", "msft:expiry": "2026-01-01T00:00:00Z"}'),
        Trouble(200, body=b'["SECRET"]'),
        Trouble(200, body=b"[" * 50_000),
        Trouble(200, body=b"x" * 100_000),
        Trouble(404),
        Trouble(503),
        Trouble(302, {"Location": "https://evil.example.com/"}),
    ],
)
def test_a_service_that_gives_no_token(tokens: Tokens, answer: Trouble) -> None:
    tokens.server.answers["/sign/acc/box"] = lambda _: answer
    with open_remote(tokens.location, ACCESS) as file, pytest.raises(UnreadableError) as error:
        file.read(0, 1)
    assert f"{tokens.server.url}/sign/acc/box" in str(error.value)
    assert "SECRET" not in "".join(traceback.format_exception(error.value))
    assert not any(entry.path == "/acc/box/a.tif" for entry in tokens.server.log)


def test_a_container_that_redirects_is_followed_without_another_token(tokens: Tokens) -> None:
    tokens.server.answers["/acc/box/old.tif"] = lambda _: Trouble(302, {"Location": "/other/a.tif"})
    tokens.server.files["/other/a.tif"] = DATA
    location = tokens.location.replace("a.tif", "old.tif")
    with open_remote(location, Access(signing="planetary-computer", catalogue=tokens.server.url)) as file:
        assert file.read(0, 10) == DATA[:10]
    assert len(tokens.given) == 1
    assert tokens.server.log[-1].query == ""


def test_a_service_that_fails_is_not_asked_by_each_file(tokens: Tokens) -> None:
    tokens.server.answers["/sign/acc/box"] = lambda _: Trouble(503)
    for _ in range(3):
        with open_remote(tokens.location, ACCESS) as file, pytest.raises(UnreadableError, match="503 five times"):
            file.read(0, 1)
    assert len(tokens.server.log) == 5


@pytest.mark.parametrize(
    ("location", "container"),
    [
        ("https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/32/T/a.tif", ("sentinel2l2a01", "sentinel2-l2")),
        ("https://Acc.Blob.Core.Windows.net/a.tif", ("acc", "$root")),
        ("https://signing.example.org/acc/box/a.tif", None),
        ("https://signing.example.org/api/stac/v1", None),
        ("https://blob.core.windows.net/box/a.tif", None),
        ("http://acc.blob.core.windows.net/box/a.tif", None),
        ("https://acc.blob.core.windows.net.evil.com/box/a.tif", None),
        ("https://evil.com/acc.blob.core.windows.net/a.tif", None),
    ],
)
def test_only_files_in_containers_get_a_token(location: str, container: tuple[str, str] | None) -> None:
    asked: list[str] = []

    def ask(url: str, _: object) -> bytes:
        asked.append(url)
        return b'{"token": "?t", "msft:expiry": "2026-01-01T00:00:00"}'

    own = signatures.ContainerTokens("https://signing.example.org/api/token/", ask)
    assert own.container(location) == container
    assert own.sign(location).query == ("t" if container else "")
    assert asked == ([f"https://signing.example.org/api/token/{container[0]}/{container[1]}"] if container else [])


@pytest.mark.parametrize(
    ("location", "container"),
    [
        ("http://127.0.0.1:99/acc/box/a.tif", ("acc", "box")),
        ("http://127.0.0.1/acc/a.tif", None),
        ("https://other.example.org/acc/box/a.tif", None),
    ],
)
def test_an_emulator_has_its_files_on_this_machine(location: str, container: tuple[str, str] | None) -> None:
    own = signatures.ContainerTokens("http://127.0.0.1:98/api/sas/v1/token", lambda _, __: b"")
    assert own.container(location) == container


@pytest.mark.parametrize("variable", [True, False])
def test_documents_of_the_catalogue_on_the_host_of_the_service_need_no_token(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch, *, variable: bool
) -> None:
    if not variable:
        monkeypatch.delenv("PC_SDK_SAS_URL")
        monkeypatch.setattr(signatures, "_SAS_ADDRESS", f"{tokens.server.url}/sign/")
    tokens.server.files |= {"/api/stac/v1/": b"{}", "/api/stac/v1/collections/a.json": b"{}"}
    root = f"{tokens.server.url}/api/stac/v1/"
    access = replace(ACCESS, catalogue=root)
    assert fetch_document(root, access) == b"{}"
    assert fetch_document(f"{root}collections/a.json", access) == b"{}"
    with open_remote(root, access) as file:  # a table of items
        assert file.read(0, 2) == b"{}"
    assert not tokens.given


@pytest.mark.parametrize("path", ["", "/search", "/collections/sentinel-2-l2a/items"])
def test_the_catalogue_of_planetary_computer_is_asked_without_a_token(path: str) -> None:
    catalogue = "https://planetarycomputer.microsoft.com/api/stac/v1"
    access = replace(ACCESS, catalogue=catalogue)
    assert isinstance(signatures.signer(catalogue + path, access, "", lambda _, __: b""), signatures.Plain)


# Secrets.


@pytest.fixture
def log() -> Iterator[Callable[[], str]]:
    """Everything that is logged at any level meanwhile."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s %(args)r"))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream.getvalue
    root.removeHandler(handler)
    root.setLevel(before)


@pytest.mark.parametrize(
    "trouble",
    [
        Trouble(), Trouble(403), Trouble(503), Trouble(cut_after=5), Trouble(shift=1), Trouble(wait=3),
        Trouble(302, {"Location": "/SECRETS?sig=SECRET"}), Trouble(302, {"Location": "http://localhost/?sig=SECRET"}),
        Trouble(headers={"broken header": "SECRET"}), Trouble(400, body=b"<Code>Bad</Code><Key>SECRET</Key>"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["query", "s3", "tokens"])
def test_no_secret_reaches_a_log_or_an_error(
    tokens: Tokens, log: Callable[[], str], monkeypatch: pytest.MonkeyPatch, kind: str, trouble: Trouble
) -> None:
    from sen2chain.remote import connections  # noqa: PLC0415  # this test alone

    monkeypatch.setattr(connections, "SILENT_SECONDS", 0.05)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SESSION)
    monkeypatch.setenv("PC_SDK_SUBSCRIPTION_KEY", "SECRET-subscription")
    connections.close_idle()
    server = tokens.server
    if kind == "query":
        location = f"{server.url}{PATH}"
        access = Access(queries={location: "sig=SECRET"}, catalogue=server.url)
    elif kind == "s3":
        location = LOCATION
        access = Access(endpoint=server.url, catalogue=server.url, allowed=("s3://eodata",))
    else:
        location, access = tokens.location, ACCESS
    server.script(server_path := unquote(location.split(server.url)[-1]).replace("s3:/", ""), None, *[trouble] * 5)
    said = [repr(access)]
    with counting() as traffic, open_remote(location, access, 100) as file:
        with contextlib.suppress(Sen2ChainError):
            file.read(5000, 10)
        for piece in file._pieces:
            if piece.error is not None:
                said += [str(piece.error), repr(piece.error), "".join(traceback.format_exception(piece.error))]
        said += [repr(file), repr(file._requests), repr(traffic)]
    assert any(entry.path == server_path for entry in server.log)
    assert "SECRET" not in "".join(said).replace("/SECRETS", "")
    assert "SECRET" not in log()
    assert "Signature" not in log()


def test_botocore_says_nothing_about_the_keys_it_fetches(log: Callable[[], str]) -> None:
    with signatures._botocore():
        logging.getLogger("botocore.parsers").debug("SECRET")
        logging.getLogger("botocore.hooks").debug("shown")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(logging.getLogger("botocore.parsers").debug, "of another thread").result()
    logging.getLogger("botocore.parsers").debug("afterwards")
    assert "SECRET" not in log()
    assert all(text in log() for text in ("shown", "of another thread", "afterwards"))


def test_keys_that_cannot_be_renewed_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> object:
        raise ValueError("SECRET")

    own = signatures.S3Requests("http://127.0.0.1:1", "", requester_pays=False)
    monkeypatch.setattr(own, "_credentials", SimpleNamespace(get_frozen_credentials=fails))
    with pytest.raises(UnreadableError, match=r"^The keys for s3:// cannot be renewed \(ValueError\); log in again\.$"):
        own.headers(own.sign(LOCATION), "/", "127.0.0.1")
