"""Files on servers: ranges, what is fetched for them, troubles of servers, and which locations may be read."""

from __future__ import annotations

import gzip
import pickle
import random
import re
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen2chain.errors import RequestError, UnreadableError
from sen2chain.remote import (
    Access,
    check_href,
    connections,
    counting,
    fetch_document,
    fetchers,
    is_remote,
    open_remote,
    remote_file,
    split_query,
    transfer,
)
from troubled_server import Request, Trouble, TroubledServer, started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sen2chain.remote import RemoteFile

DATA = random.Random(5).randbytes(300_000)
PATH = "/folder/a.tif"
TWO_MB = bytes(2_000_000)
CERTIFICATE = Path(__file__).with_name("loopback.pem")
"""Certificate and key for 127.0.0.1 and localhost; no other machine trusts it."""


@pytest.fixture
def server() -> Iterator[TroubledServer]:
    with TroubledServer({PATH: DATA, "/small.tif": DATA[:5000], "/large.tif": TWO_MB, "/empty.tif": b""}) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "patience", transfer.Patience(pauses=(0.001,) * 4, longest=0.2))


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def opened(server: TroubledServer, path: str = PATH, beginning: int = 1000, **access: Any) -> RemoteFile:
    return open_remote(server.url + path, Access(**access), beginning)


def wait_for(what: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not what():
        assert time.monotonic() < end
        time.sleep(0.002)


# Ranges.


def test_a_range_is_what_lies_there(server: TroubledServer) -> None:
    with opened(server) as file:
        assert file.size == len(DATA)
        assert file.version
        assert file.read(0, 10) == DATA[:10]
        assert file.read(990, 5000) == DATA[990:5990]
        assert file.read(299_000, 5000) == DATA[299_000:]
        assert file.read(300_000, 1) == file.read(-5, 3) == file.read(10, 0) == b""
    assert server.ranges(PATH) == [(0, 1000), (1000, 4990), (299_000, 1000)]


RANGES = st.lists(st.tuples(st.integers(0, 7000), st.integers(0, 4000)), min_size=1, max_size=4)
STEPS = st.lists(st.tuples(st.sampled_from(["read", "fetch", "release"]), RANGES), max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(0, 6000),
    steps=STEPS,
    ahead=st.integers(0, 3000),
    beginning=st.integers(1, 5000),
    gap=st.integers(0, 200),
    largest=st.integers(1000, 3000),
)
def test_any_reads_fetches_and_releases_give_the_bytes_of_the_file(
    size: int, steps: list[tuple[str, list[tuple[int, int]]]], ahead: int, beginning: int, gap: int, largest: int
) -> None:
    content = DATA[:size]
    with pytest.MonkeyPatch.context() as patch, TroubledServer({PATH: content}) as server:
        patch.setattr(remote_file, "LARGEST_GAP", gap)
        patch.setattr(remote_file, "LARGEST_PIECE", largest)
        with opened(server, beginning=beginning, at_once=3) as file:
            for kind, named in steps:
                if kind == "fetch":
                    file.fetch(named)
                elif kind == "release":
                    file.release(named)
                else:
                    for offset, length in named:
                        assert file.read(offset, length, ahead) == content[offset : offset + length]
            assert file.read(0, 10_000) == content


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12), st.integers(0, 5), st.integers(1, 20))
def test_merged_ranges_cover_what_was_asked_for_and_little_else(
    ranges: list[tuple[int, int]], gap: int, largest: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote_file, "LARGEST_GAP", gap)
        patch.setattr(remote_file, "LARGEST_PIECE", largest)
        joined = remote_file.merged(ranges)
        pieces = [piece for group in remote_file.grouped(joined) for piece in remote_file.cut(group)]
    wanted = {at for start, stop in ranges for at in range(start, stop)}
    got = [at for start, stop in pieces for at in range(start, stop)]
    assert got == sorted(set(got))  # each byte once, in order
    assert wanted <= set(got)
    assert all(0 < stop - start <= largest for start, stop in pieces)
    for at in set(got) - wanted:  # only between two wanted ranges that are near
        before, after = max(w for w in wanted if w < at), min(w for w in wanted if w > at)
        assert after - before - 1 <= gap


def test_near_ranges_come_by_one_request_and_large_ones_by_several(
    server: TroubledServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_file, "LARGEST_PIECE", 40_000)
    with opened(server, at_once=1) as file:
        file.fetch([(70_000, 500), (10_000, 300), (11_324, 100), (12_449, 50), (100_000, 90_000)])
        assert file.read(100_000, 90_000) == DATA[100_000:190_000]
        assert file.read(70_000, 500) == DATA[70_000:70_500]
        assert file.read(11_000, 1000) == DATA[11_000:12_000]
    found = sorted(server.ranges(PATH))
    assert found == [
        (0, 1000),
        (10_000, 1424),  # 1024 bytes between them
        (11_424, 576),  # read, though it had not been asked for
        (12_449, 50),  # 1025 bytes
        (70_000, 500),
        (100_000, 40_000),
        (140_000, 40_000),
        (180_000, 10_000),
    ]


def test_what_is_held_or_on_its_way_is_not_fetched_again(server: TroubledServer) -> None:
    with opened(server, at_once=2) as file:
        server.script(PATH, Trouble(wait=0.05), Trouble(wait=0.05))
        file.fetch([(500, 2000), (500, 2000), (5000, 1000)])
        file.fetch([(5998, 1000)])  # overlaps by two bytes
        assert file.read(900, 6000 - 900) == DATA[900:6000]
        assert file.read(5000, 1998) == DATA[5000:6998]
        file.fetch([(0, 7000 - 2)])
        assert file.read(0, 6998) == DATA[:6998]
    assert sorted(server.ranges(PATH)) == [(0, 1000), (1000, 1500), (2500, 2500), (5000, 1000), (6000, 998)]


def test_a_reader_that_goes_on_is_served_ahead(server: TroubledServer) -> None:
    with opened(server) as file:
        assert file.read(5000, 10, ahead=4000) == DATA[5000:5010]
        assert file.read(8000, 1000, ahead=4000) == DATA[8000:9000]
        assert file.read(299_990, 5, ahead=4000) == DATA[299_990:299_995]
    assert server.ranges(PATH) == [(0, 1000), (5000, 4000), (299_990, 10)]


def test_what_is_released_is_forgotten_but_for_the_beginning(server: TroubledServer) -> None:
    with opened(server) as file:
        first, second = (5000, 1000), (6500, 1000)
        file.fetch([first, second])
        file.fetch([second])
        file.read(5000, 2500)
        file.read(9000, 10)
        file.release([first, (0, 1000)])
        file.read(5000, 2500)  # the second one came with the first
        assert len(server.ranges(PATH)) == 3
        file.release([second])  # however often it was asked for
        file.release([(8990, 30)])
        assert (
            file.read(6500, 10) + file.read(9000, 10) + file.read(0, 10)
            == DATA[6500:6510] + DATA[9000:9010] + DATA[:10]
        )
    assert sorted(server.ranges(PATH)) == [(0, 1000), (5000, 2500), (6500, 10), (9000, 10), (9000, 10)]


def test_a_range_that_is_released_before_it_is_begun_is_not_fetched(server: TroubledServer) -> None:
    with opened(server, at_once=1) as file:
        _ = file.size
        server.script(PATH, Trouble(wait=0.1))
        file.fetch([(5000, 1000)])
        file.fetch([(50_000, 1000), (90_000, 1000)])
        file.release([(50_000, 1000)])
        assert file.read(90_000, 1000) == DATA[90_000:91_000]
    assert (50_000, 1000) not in server.ranges(PATH)


def test_what_is_waited_for_comes_before_what_was_asked_for_in_advance(server: TroubledServer) -> None:
    gate = threading.Event()

    def waits(_: Request) -> None:
        gate.wait(10)

    with opened(server, at_once=1) as file, ThreadPoolExecutor(2) as pool:
        _ = file.size
        server.answers[PATH] = waits
        file.fetch([(at, 100) for at in range(10_000, 30_000, 5000)])
        wait_for(lambda: server.most_at_once and len(file._fetchers._waiting) == 3)
        reads = [pool.submit(file.read, at, 100) for at in (25_000, 99_000)]
        wait_for(lambda: len(file._fetchers._waiting) == 5)
        gate.set()
        assert [read.result() for read in reads] == [DATA[25_000:25_100], DATA[99_000:99_100]]
        file.read(15_000, 100)
        file.read(20_000, 100)
    asked = [offset for offset, _ in server.ranges(PATH)]
    assert (asked[:2], sorted(asked[2:4]), asked[4:]) == ([0, 10_000], [25_000, 99_000], [15_000, 20_000])


def test_as_many_requests_are_in_flight_as_allowed(server: TroubledServer) -> None:
    server.latency = 0.01
    with opened(server, at_once=7) as file:
        file.fetch([(at, 100) for at in range(0, 300_000, 5000)])
        assert all(file.read(at, 100) == DATA[at : at + 100] for at in range(0, 300_000, 5000))
    assert server.most_at_once == 7
    assert server.connections <= 8  # kept for the next request


def test_many_threads_read_one_file(server: TroubledServer) -> None:
    draws = random.Random(3)
    ranges = [(draws.randrange(300_000), draws.randrange(3000)) for _ in range(200)]
    with opened(server, at_once=5) as file, ThreadPoolExecutor(8) as pool:
        file.fetch(ranges[::2])
        found = list(pool.map(lambda each: file.read(*each), ranges))
    assert found == [DATA[offset : offset + length] for offset, length in ranges]


def test_an_empty_and_a_short_file(server: TroubledServer) -> None:
    with opened(server, "/empty.tif") as file:
        file.fetch([(10, 20)])
        assert (file.size, file.read(0, 10)) == (0, b"")
    with opened(server, "/small.tif", beginning=100_000) as file:
        file.fetch([(90_000, 10), (200_000, 10)])  # before the size is known
        assert (file.size, file.read(4990, 100)) == (5000, DATA[4990:5000])
    assert server.log[-1].status in {206, 416}


def test_requests_bytes_and_retries_are_counted(server: TroubledServer) -> None:
    server.script(PATH, Trouble(503), Trouble(cut_after=600))
    with counting() as outer:
        with counting() as inner, opened(server) as file:
            file.read(0, 10)
            wait_for(lambda: inner.bytes >= 1000)
        with opened(server) as file:
            file.read(0, 10)
    assert (inner.requests, inner.bytes, inner.retries) == (3, 1000, 2)
    assert (outer.requests, outer.bytes, outer.retries) == (4, 2000, 2)


# Troubles.


@pytest.mark.parametrize(
    "troubles",
    [
        [Trouble(503)] * 4,
        [Trouble(500), Trouble(502), Trouble(504), Trouble(408)],
        [Trouble(429, {"Retry-After": "0"})] * 3,
        [Trouble(cut_after=100), Trouble(cut_after=0), Trouble(cut_after=7, reset=True)],
        [Trouble(cut_after=20_000, reset=True)],
        [Trouble(headers={"Connection": "close"})],
        [Trouble(chunked=True)],
        [Trouble(chunked=True, cut_after=5000)],
        [Trouble(wait=0.5)],
        [Trouble(503, {"Retry-After": "Sat, 01 Jan 2000 00:00:00 GMT"})],
        [Trouble(503, {"Retry-After": "soon"})],
        [Trouble(503, {"Retry-After": "-5"})],
        [Trouble(503, chunked=True, body=b"x" * 3000)],
        [Trouble(503, body=b"x" * 300_000)],
    ],
)
def test_a_trouble_that_passes_is_not_noticed(
    server: TroubledServer, monkeypatch: pytest.MonkeyPatch, troubles: list[Trouble]
) -> None:
    monkeypatch.setattr(connections, "SILENT_SECONDS", 0.2)
    connections.close_idle()
    with opened(server) as file:
        assert file.read(0, 10) == DATA[:10]
        server.script(PATH, *troubles)
        assert file.read(50_000, 60_000) == DATA[50_000:110_000]
        assert file.read(0, 300_000) == DATA


def test_a_range_that_is_cut_goes_on_where_it_was_cut(server: TroubledServer) -> None:
    with opened(server, beginning=100) as file:
        _ = file.size
        server.script(PATH, Trouble(cut_after=30_000), Trouble(503), Trouble(cut_after=30_000))
        assert file.read(100_000, 90_000) == DATA[100_000:190_000]
    assert server.ranges(PATH)[1:] == [(100_000, 90_000), (130_000, 60_000), (130_000, 60_000), (160_000, 30_000)]


def test_cuts_do_not_count_where_much_has_come(server: TroubledServer) -> None:
    with opened(server, "/large.tif") as file:
        _ = file.size
        server.script("/large.tif", *[Trouble(cut_after=100_000)] * 15)
        assert file.read(100_000, 1_800_000) == TWO_MB[:1_800_000]


def test_a_connection_that_the_server_has_closed_meanwhile_is_no_trouble(server: TroubledServer) -> None:
    with opened(server) as file, counting() as traffic:
        for at in range(5000, 50_000, 5000):
            server.script(PATH, Trouble(cut_after=1 << 20))  # closed after a whole answer
            file.read(at, 10)
        assert traffic.retries == 0


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        (Trouble(503), "its server answered 503 five times."),
        (Trouble(503, body=b"<Error><Code>SlowDown</Code></Error>"), "its server answered 503 (SlowDown) five times."),
        (Trouble(404), "its server answered 404."),
        (Trouble(403, {"x-ms-error-code": "AuthenticationFailed"}), "its server answered 403 (AuthenticationFailed)."),
        (Trouble(404, body=b"<Code>No<b>Such</b></Code>"), "its server answered 404."),
        (Trouble(cut_after=5), "its connection was cut five times."),
        (Trouble(cut_after=0, reset=True), "its connection was cut five times."),
        (Trouble(wait=5), "its server did not answer in time five times."),
        (Trouble(shift=1), "its server sent bytes 50001 to 110000 instead of 50000 to 109999."),
        (Trouble(undeclared=True), "its server does not tell which range it sent."),
        (Trouble(headers={"Content-Range": "bytes 50000-109999/*"}), "its server does not tell which range it sent."),
        (Trouble(headers={"Content-Range": "bytes 50000-60000/300000"}),
         "its server sent bytes 50000 to 60000 instead of 50000 to 109999."),
        (Trouble(headers={"Content-Range": "bytes 50000-109999/400000"}), "it changed while it was being read."),
        (Trouble(etag='"other"'), "it changed while it was being read."),
        (Trouble(416, {"Content-Range": "bytes */300000"}), "its server refuses a range within the file."),
        (Trouble(headers={"Content-Encoding": "gzip"}), "its server compresses ranges."),
        (Trouble(302, {"Location": PATH}), "its server redirects six times."),
        (Trouble(999), "its server answered 999."),
    ],
)  # fmt: skip
def test_a_trouble_that_stays_is_one_sentence(
    server: TroubledServer, monkeypatch: pytest.MonkeyPatch, trouble: Trouble, sentence: str
) -> None:
    monkeypatch.setattr(connections, "SILENT_SECONDS", 0.05)
    connections.close_idle()
    with opened(server) as file:
        _ = file.size
        server.script(PATH, *[trouble] * 8)
        with pytest.raises(UnreadableError) as error:
            file.read(50_000, 60_000)
        assert str(error.value) == f"{server.url}{PATH} cannot be read: {sentence}"
        before = len(server.log)
        with pytest.raises(UnreadableError):
            file.read(50_000, 100)  # not tried again
        assert len(server.log) == before


def test_a_trouble_at_the_beginning_comes_from_every_way_to_read(server: TroubledServer) -> None:
    with opened(server, "/missing.tif") as file:
        file.fetch([(5000, 10)])
        for ask in (lambda: file.size, lambda: file.version, lambda: file.read(5000, 10)):
            with pytest.raises(UnreadableError, match=r"answered 404 \(NoSuchKey\)\.$"):
                ask()


def test_a_file_of_another_version_is_not_mixed_with_the_first(server: TroubledServer) -> None:
    with opened(server) as file:
        file.read(0, 10)
        server.files[PATH] = DATA[::-1]
        with pytest.raises(UnreadableError, match="it changed while it was being read"):
            file.read(5000, 10)
        with pytest.raises(UnreadableError, match="it changed while it was being read"):
            file.read(0, 10)


def test_a_range_that_goes_on_in_another_version_is_refused(server: TroubledServer) -> None:
    with opened(server) as file:
        file.read(0, 10)
        server.script(PATH, Trouble(cut_after=10_000), Trouble(etag='"other"'))
        with pytest.raises(UnreadableError, match="it changed while it was being read"):
            file.read(5000, 50_000)


def test_a_server_without_ranges_is_read_where_the_file_is_small(server: TroubledServer) -> None:
    server.script("*", *[Trouble(whole=True)] * 9)
    with opened(server) as file:
        assert file.read(250_000, 100_000) == DATA[250_000:]
        assert file.read(0, 300_000) == DATA
    assert len(server.log) == 1
    with opened(server, "/large.tif") as file, counting() as traffic:
        with pytest.raises(UnreadableError, match="sends the whole file when it is asked for a range"):
            file.read(0, 10)
        assert traffic.bytes < 100_000


def test_a_whole_file_that_is_cut_is_not_mixed_with_a_range(server: TroubledServer) -> None:
    server.script(PATH, Trouble(cut_after=20_000), Trouble(whole=True, cut_after=150_000), None)
    with opened(server, beginning=70_000) as file:
        assert file.read(0, 70_000) == DATA[:70_000]
    server.script(PATH, Trouble(cut_after=20_000), Trouble(whole=True, etag='"other"'))
    with (
        opened(server, beginning=70_000) as file,
        pytest.raises(UnreadableError, match="changed while it was being read"),
    ):
        file.read(0, 10)


def test_the_pause_that_a_server_asks_for_is_kept_by_all_requests_to_it(server: TroubledServer) -> None:
    asked = iter([Trouble(429, {"Retry-After": "1"})])
    with opened(server, at_once=3) as file:
        _ = file.size
        server.answers[PATH] = lambda _: next(asked, None)
        transfer._rests.clear()
        file.fetch([(5000, 10)])
        wait_for(lambda: bool(transfer._rests))  # until the client has read the answer
        begun = time.monotonic()
        file.read(9000, 10)
        assert time.monotonic() - begun > 0.15  # the longest pause of these tests
        assert file.read(5000, 10) == DATA[5000:5010]


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [("7", 7, 7), (" 7 ", 7, 7), ("", 0, 0), ("-1", 0, 0), ("9" * 400, 1e8, 1e9), ("x", 0, 0), ("\u0667", 0, 0),
     ("Sat, 01 Jan 2000 00:00:00 GMT", 0, 0), ("Fri, 31 Dec 9999 23:59:59 GMT", 1e9, 1e12)],
)  # fmt: skip
def test_the_pause_that_a_server_asks_for(text: str, least: float, most: float) -> None:
    assert least <= transfer._pause_asked(text) <= most


def test_an_answer_that_trickles_is_broken_off(server: TroubledServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LONGEST_SECONDS", 0.2)
    monkeypatch.setattr(connections, "_SLOWEST", 1 << 20)
    monkeypatch.setattr(connections, "_watch", connections._Watch(0.02))
    with opened(server) as file:
        _ = file.size
        server.script(PATH, *[Trouble(trickle=0.01)] * 5)
        with pytest.raises(UnreadableError, match="did not answer in time five times"):
            file.read(5000, 10_000)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 2", b"SSH-2.0-OpenSSH_9\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200]
)
def test_a_server_that_does_not_speak_http(answer: bytes) -> None:
    def serve() -> None:
        for _ in range(5):
            sock, _ = listener.accept()
            with sock:
                sock.recv(1 << 16)
                sock.sendall(answer + b"\r\n" * (len(answer) > 1000))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        with (
            open_remote(f"http://127.0.0.1:{listener.getsockname()[1]}/a", Access()) as file,
            pytest.raises(UnreadableError, match=r"cannot be read: its (server does not answer as|connection was cut)"),
        ):
            file.read(0, 1)


def test_a_server_that_is_not_there_is_not_asked_for_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        open_remote(f"http://127.0.0.1:{port}/a", Access()) as file,
        pytest.raises(UnreadableError, match=r"its server cannot be reached \(Connection refused\) three times\."),
    ):
        file.read(0, 1)


def test_a_name_that_no_server_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    label = "a" * 70
    with (
        open_remote(f"https://{label}.org/a", Access()) as file,
        pytest.raises(UnreadableError, match=rf"/a is not read: {label}\.org is not the name of a host\.$"),
    ):
        file.read(0, 1)
    monkeypatch.setattr(socket, "getaddrinfo", fails)
    with (
        open_remote("https://data.example.org/a", Access()) as file,
        pytest.raises(UnreadableError, match=r"cannot be reached \(Name or service not known\) three times\.$"),
    ):
        file.read(0, 1)


def test_closing_ends_what_waits_and_what_is_on_its_way(server: TroubledServer) -> None:
    file = opened(server)
    _ = file.size
    server.script(PATH, Trouble(wait=5))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(file.read, 5000, 10)
        wait_for(lambda: server.most_at_once)
        time.sleep(0.02)
        file.close()
        with pytest.raises(UnreadableError, match="it has been closed"):
            waiting.result(timeout=3)
    file.fetch([(9000, 10)])
    with pytest.raises(UnreadableError, match="it has been closed"):
        file.read(0, 10)
    file.close()


def test_a_fault_of_the_program_reaches_the_reader(server: TroubledServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> object:
        raise ZeroDivisionError

    with opened(server) as file:
        _ = file.size
        monkeypatch.setattr(transfer.FileRequests, "part", fails)
        with pytest.raises(UnreadableError, match="ZeroDivisionError"):
            file.read(9000, 10)


# Documents.


def test_a_document_is_fetched_whole_and_never_larger_than_its_limit(server: TroubledServer) -> None:
    url = server.url + PATH
    assert fetch_document(url, Access()) == DATA
    assert fetch_document(url, Access(), limit=len(DATA)) == DATA
    packed = Trouble(200, {"Content-Encoding": "gzip"}, gzip.compress(DATA))
    server.script(PATH, packed, Trouble(chunked=True), Trouble(cut_after=5000), Trouble(503))
    assert [fetch_document(url, Access()) for _ in range(3)] == [DATA] * 3
    for trouble in (Trouble(), Trouble(chunked=True), packed):
        server.script(PATH, trouble)
        with pytest.raises(UnreadableError, match=r"has more than 299,999 bytes\.$"):
            fetch_document(url, Access(), limit=len(DATA) - 1)


def test_a_document_that_inflates_without_end_is_refused(server: TroubledServer) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    server.script(PATH, Trouble(200, {"Content-Encoding": "gzip"}, bomb))
    with pytest.raises(UnreadableError, match="has more than 1,000,000 bytes"):
        fetch_document(server.url + PATH, Access(), limit=1_000_000)


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        (Trouble(404), "its server answered 404."),
        (Trouble(cut_after=50), "its connection was cut five times."),
        (Trouble(chunked=True, cut_after=500), "its connection was cut five times."),
        (Trouble(200, {"Content-Encoding": "gzip"}, b"no gzip"), "its gzip data are damaged"),
        (Trouble(200, {"Content-Encoding": "gzip"}, gzip.compress(DATA)[:-9]), "its gzip data are cut off."),
        (Trouble(200, {"Content-Encoding": "br"}, b"..."), "it came encoded as 'br'."),
        (Trouble(301), "its server answered 301."),
    ],
)
def test_a_document_that_cannot_be_read(server: TroubledServer, trouble: Trouble, sentence: str) -> None:
    server.script(PATH, *[trouble] * 5)
    with pytest.raises(UnreadableError, match=re.escape(sentence)):
        fetch_document(server.url + PATH, Access())


def test_a_document_that_is_not_on_a_server() -> None:
    with pytest.raises(RequestError, match=r"^/etc/passwd is not on a server\.$"):
        fetch_document("/etc/passwd", Access())


# Redirects, and what may be read.


def test_a_redirect_is_followed_and_kept_for_the_file(server: TroubledServer) -> None:
    server.answers["/old.tif"] = lambda _: Trouble(307, {"Location": f"{PATH}?sig=s"})
    with opened(server, "/old.tif", catalogue=server.url) as file:
        assert file.read(5000, 10) == DATA[5000:5010]
        assert file.read(9000, 10) == DATA[9000:9010]
    assert [entry.path for entry in server.log].count("/old.tif") == 1
    assert {entry.query for entry in server.log if entry.path == PATH} == {"sig=s"}


def test_a_redirect_that_has_expired_is_asked_for_again(server: TroubledServer) -> None:
    server.answers["/old.tif"] = lambda _: Trouble(307, {"Location": f"{PATH}?sig=s"})
    with opened(server, "/old.tif", catalogue=server.url) as file:
        _ = file.size
        server.script(PATH, Trouble(403))
        assert file.read(9000, 10) == DATA[9000:9010]
        server.script(PATH, Trouble(403), Trouble(403))
        with pytest.raises(UnreadableError, match="answered 403"):
            file.read(19_000, 10)
    assert [entry.path for entry in server.log].count("/old.tif") == 3


@pytest.mark.parametrize("catalogue", ["http://127.0.0.1/v1", "items.json"])
@pytest.mark.parametrize(
    "there",
    ["http://localhost:{port}/folder/a.tif?sig=SECRET", "file:///etc/passwd", "http://[::1]:{port}/a", "//0.0.0.0/a"],
)
def test_a_redirect_to_where_a_catalogue_may_not_point_is_refused(
    server: TroubledServer, catalogue: str, there: str
) -> None:
    server.answers["/old.tif"] = lambda _: Trouble(302, {"Location": there.format(port=server.port)})
    with opened(server, "/old.tif", catalogue=catalogue) as file, pytest.raises(UnreadableError) as error:
        file.read(0, 1)
    assert re.search("redirects to|private address|cannot be reached", str(error.value))
    assert "SECRET" not in str(error.value)
    assert all(entry.path == "/old.tif" for entry in server.log)


@pytest.mark.parametrize("there", ["http://[::1/a?sig=SECRET", "//[/a", "http://h:99999/a"])
def test_a_redirect_to_what_is_not_an_address_is_one_sentence(server: TroubledServer, there: str) -> None:
    server.answers["/old.tif"] = lambda _: Trouble(302, {"Location": there})
    with pytest.raises(UnreadableError, match="its server redirects to ") as error:
        fetch_document(f"{server.url}/old.tif", Access())
    assert "SECRET" not in str(error.value)


def test_a_redirect_to_a_host_that_is_allowed(server: TroubledServer) -> None:
    server.answers["/old.tif"] = lambda _: Trouble(302, {"Location": f"http://localhost:{server.port}{PATH}"})
    with opened(server, "/old.tif", catalogue=server.url, allowed=("localhost",)) as file:
        assert file.read(0, 10) == DATA[:10]


REMOTE = "https://stac.example.org/v1"


@pytest.mark.parametrize(
    ("href", "catalogue", "allowed"),
    [
        ("https://stac.example.org/a.tif", REMOTE, ()),
        ("https://STAC.example.org:8443/a.tif?x=1", REMOTE, ()),
        ("https://stac.example.org./a.tif", REMOTE, ()),
        ("https://user:pw@stac.example.org/a.tif", REMOTE, ()),
        ("https://data.example.org/a.tif", REMOTE, ("data.example.org",)),
        ("https://data.example.org/a.tif", REMOTE, ("https://Data.example.org:80/x",)),
        ("https://a.blob.core.windows.net/c/a.tif", REMOTE, ("*.blob.core.windows.net",)),
        ("https://data.example.com/a.tif", REMOTE, ("*",)),
        ("http://10.0.0.5/a.tif", REMOTE, ("10.0.0.5",)),
        ("http://[fd00::1]/a.tif", REMOTE, ("[fd00::1]",)),
        ("http://localhost:80/a.tif", REMOTE, ("localhost",)),
        ("http://127.0.0.1:99/a.tif", "http://127.0.0.1:8080/v1", ()),
        ("s3://eodata/a/b.jp2", REMOTE, ("s3://eodata",)),
        ("s3://eodata/a/b.jp2", REMOTE, ("s3://eo*",)),
        ("s3://eodata/a/b.jp2", "s3://eodata/catalog.json", ()),
        ("file:///data/a.tif", REMOTE, ("file",)),
        ("/data/a.tif", REMOTE, ("file",)),
        ("https://anywhere.example.com/a.tif", "items.json", ()),
        ("http://192.168.1.5/a.tif", "", ()),
        ("s3://any/a.tif", "/data/items.parquet", ()),
        ("file:///data/a.tif", "items.json", ()),
        ("C:\\data\\a.tif", "", ()),
    ],
)
def test_what_a_catalogue_may_point_to(href: str, catalogue: str, allowed: tuple[str, ...]) -> None:
    check_href(href, Access(catalogue=catalogue, allowed=allowed))


@pytest.mark.parametrize(
    ("href", "catalogue", "allowed", "sentence"),
    [
        ("https://evil.example.com/a.tif", REMOTE, (), "points to another host; allow it with --stac-allow evil"),
        ("https://stac.example.org.evil.com/a.tif", REMOTE, (), "another host"),
        ("https://stac.example.org@evil.com/a.tif", REMOTE, (), "another host"),
        ("https://evilblob.core.windows.net/a", REMOTE, ("*.blob.core.windows.net",), "another host"),
        ("https://evil.com/.blob.core.windows.net", REMOTE, ("*.blob.core.windows.net",), "another host"),
        ("http://127.0.0.1/a.tif", REMOTE, (), "private address"),
        ("http://127.0.0.1/a.tif", REMOTE, ("*",), "private address"),
        ("http://169.254.169.254/latest/meta-data", REMOTE, ("*",), "private address"),
        ("http://[::1]/a.tif", REMOTE, ("*",), "private address"),
        ("http://[::ffff:10.0.0.1]/a.tif", REMOTE, ("*",), "private address"),
        ("http://[64:ff9b::a00:1]/a.tif", REMOTE, ("*",), "private address"),
        ("http://[2002:a00:1::]/a.tif", REMOTE, ("*",), "private address"),
        ("http://[fe80::1%25eth0]/a.tif", REMOTE, ("*",), "private address"),
        ("http://100.64.0.1/a.tif", REMOTE, ("*",), "private address"),
        ("http://0.0.0.0/a.tif", REMOTE, ("*",), "private address"),
        ("http://localhost/a.tif", REMOTE, ("*",), "private address"),
        ("http://a.localhost/a.tif", REMOTE, ("*",), "private address"),
        ("file:///etc/passwd", REMOTE, (), "points to a local file; allow it with --stac-allow file"),
        ("FILE:///etc/passwd", REMOTE, ("*",), "local file"),
        ("/etc/passwd", REMOTE, (), "local file"),
        ("../a.tif", REMOTE, (), "local file"),
        ("/vsicurl/http://evil.com/a.tif", REMOTE, (), "local file"),
        ("C:\\data\\a.tif", REMOTE, (), "local file"),
        ("s3://other/a.tif", REMOTE, ("s3://eodata",), "another bucket; allow it with --stac-allow s3://other"),
        ("s3://other/a.tif", "s3://eodata/catalog.json", (), "another bucket"),
        ("http://eodata/a.tif", "s3://eodata/catalog.json", (), "another host"),
        ("s3://a@b/a.tif", "", (), "does not name a bucket"),
        ("s3:///a.tif", "", (), "is not the address of a file"),
        ("gs://bucket/a.tif", "", (), "only https://, http://, s3:// and local files are"),
        ("ftp://data.example.org/a.tif", REMOTE, ("*",), "only https://"),
        ("data:application/json,x", "", (), "only https://"),
        ("http:///a.tif", "", (), "is not the address of a file"),
        ("http://[::1/a.tif", "", (), "is not the address of a file"),
        ("http://a:99999/x", "", (), "is not the address of a file"),
    ],
)
def test_what_a_catalogue_may_not_point_to(href: str, catalogue: str, allowed: tuple[str, ...], sentence: str) -> None:
    access = Access(catalogue=catalogue, allowed=allowed)
    with pytest.raises(RequestError, match=re.escape(sentence)):
        check_href(href, access)
    if is_remote(href):
        with pytest.raises(UnreadableError, match=re.escape(sentence)):
            open_remote(href, access)
        with pytest.raises(RequestError, match=re.escape(sentence)):
            fetch_document(href, access)


def test_no_query_and_no_login_is_shown() -> None:
    for href in (
        "https://u:SECRET@evil.com/a.tif?sig=SECRET#SECRET",
        "https://u:SECRET@[bad/a?SECRET",
        "gs://u:SECRET@b/x?SECRET",
    ):
        with pytest.raises(RequestError) as error:
            check_href(href, Access(catalogue="https://u:SECRET@stac.example.org/v1?key=SECRET"))
        assert "SECRET" not in str(error.value)


@pytest.mark.parametrize("allowed", ["*.example.org", "data.example.org"])
def test_a_name_that_leads_to_a_private_address(
    server: TroubledServer, monkeypatch: pytest.MonkeyPatch, allowed: str
) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    access = Access(catalogue=REMOTE, allowed=(allowed,))
    with open_remote(f"http://data.example.org:{server.port}{PATH}", access) as file:
        if allowed.startswith("*"):
            with pytest.raises(
                UnreadableError, match=r"the private address 127\.0\.0\.1; allow it with --stac-allow data"
            ):
                file.read(0, 1)
            assert not server.log
        else:  # named by the user
            assert file.read(0, 10) == DATA[:10]


@pytest.mark.parametrize(
    ("href", "location", "query"),
    [
        ("https://a.org/b.tif?x=1&y=2#z", "https://a.org/b.tif", "x=1&y=2"),
        ("HTTPS://U:p@A.org:8443/B.tif", "https://a.org:8443/B.tif", ""),
        ("http://[::1]:80/b?x", "http://[::1]:80/b", "x"),
        ("http://[::1]/b#x", "http://[::1]/b", ""),
        ("https://a.org", "https://a.org", ""),
        ("https://a.org/%41 b/ü.tif", "https://a.org/%41 b/ü.tif", ""),
        ("s3://Bucket/a b/c#d.tif?x", "s3://Bucket/a b/c#d.tif", "x"),
        ("/data/a?b.tif", "/data/a?b.tif", ""),
        ("file:///data/a?b.tif", "file:///data/a?b.tif", ""),
        ("C:\\a?b", "C:\\a?b", ""),
    ],
)
def test_a_location_has_no_query(href: str, location: str, query: str) -> None:
    assert split_query(href) == (location, query)
    assert split_query(location)[0] == location


@pytest.mark.parametrize("path", ["/a b/ü.tif", "/a%20b/c.tif", "/a+b/(c)'.tif", "/a\x0b\x00:/b.tif", "/"])
def test_any_path_is_asked_for_as_it_is(server: TroubledServer, path: str) -> None:
    from urllib.parse import unquote  # noqa: PLC0415  # this test alone

    server.files[unquote(path)] = DATA
    with opened(server, path) as file:
        assert file.read(0, 10) == DATA[:10]


def test_a_line_break_in_an_address_is_not_one_in_the_request(server: TroubledServer) -> None:
    with (
        opened(server, "/a.tif HTTP/1.1\r\nX: y\r\n\r\n") as file,
        pytest.raises(UnreadableError, match="answered 404"),
    ):
        file.read(0, 1)
    assert len(server.log) == 1
    assert "x" not in server.log[0].headers


def test_the_query_that_an_href_came_with_is_sent(server: TroubledServer) -> None:
    location, query = split_query(f"{server.url}{PATH}?sig=a%2Fb+c&x=ü")
    access = pickle.loads(pickle.dumps(Access(queries={location: query})))  # noqa: S301  # our own
    with open_remote(location, access) as file:
        file.read(0, 1)
        server.script(PATH, Trouble(403))
        with pytest.raises(
            UnreadableError, match=r"answered 403; the signature of its href may have expired, search the"
        ):
            file.read(50_000, 10)
    fetch_document(f"{location}?{query}", Access())
    assert {entry.query for entry in server.log} == {"sig=a%2Fb+c&x=%C3%BC"}
    assert access == Access()
    assert hash(access) == hash(Access())
    assert "c&x" not in repr(access)


def test_what_the_server_is_told(server: TroubledServer) -> None:
    with opened(server) as file:
        file.read(0, 1)
    headers = server.log[0].headers
    assert re.fullmatch(r"sen2chain/\d\S+", headers["user-agent"])
    assert headers["accept-encoding"] == "identity"
    assert headers["host"] == f"127.0.0.1:{server.port}"


# Proxies and encryption.


def test_the_proxy_of_the_environment_is_asked(server: TroubledServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url.replace("//", "//user:p%40ss@"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with open_remote(f"http://data.example.org{PATH}", Access()) as file:
        assert file.read(0, 10) == DATA[:10]
    assert server.log[0].headers["host"] == "data.example.org"
    assert server.log[0].headers["proxy-authorization"] == "Basic dXNlcjpwQHNz"
    with opened(server) as file:
        file.read(0, 1)
    assert "proxy-authorization" not in server.log[-1].headers
    monkeypatch.setenv("HTTP_PROXY", "socks5://127.0.0.1:1")
    with (
        open_remote(f"http://other.example.org{PATH}", Access()) as file,
        pytest.raises(UnreadableError, match=r"mend the variable HTTP_PROXY or add other\.example\.org to NO_PROXY"),
    ):
        file.read(0, 1)


@pytest.fixture
def encrypted() -> Iterator[TroubledServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    connections._certificates.cache_clear()
    with TroubledServer({PATH: DATA}, tls=context) as opened:
        yield opened
    connections._certificates.cache_clear()


def test_a_certificate_that_is_not_trusted_is_refused(encrypted: TroubledServer) -> None:
    with (
        opened(encrypted) as file,
        pytest.raises(
            UnreadableError, match=r"the certificate of its server is not valid \(self-signed certificate\)\.$"
        ),
    ):
        file.read(0, 1)
    assert not encrypted.log


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_an_encrypted_connection(encrypted: TroubledServer, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, str(CERTIFICATE))
    connections._certificates.cache_clear()
    with opened(encrypted) as file:
        assert file.read(0, 10) == DATA[:10]
        encrypted.script(PATH, Trouble(cut_after=20_000), Trouble(cut_after=20_000, reset=True))
        assert file.read(5000, 100_000) == DATA[5000:105_000]
    encrypted.answers["/old.tif"] = lambda _: Trouble(302, {"Location": f"http://127.0.0.1:{encrypted.port}{PATH}"})
    with opened(encrypted, "/old.tif") as file, pytest.raises(UnreadableError, match="which is not encrypted"):
        file.read(0, 1)


def test_an_encrypted_connection_through_a_proxy(encrypted: TroubledServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:pass@127.0.0.1:{encrypted.port}")
    connections._certificates.cache_clear()
    encrypted.begins_plain = True
    with open_remote(f"https://localhost{PATH}", Access()) as file:
        assert file.read(0, 10) == DATA[:10]
    assert [entry.path for entry in encrypted.log] == ["localhost:443", PATH]
    assert encrypted.log[0].headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"
    assert "proxy-authorization" not in encrypted.log[1].headers


def test_a_proxy_that_refuses(encrypted: TroubledServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{encrypted.port}")
    encrypted.begins_plain = True
    encrypted.script("*", *[Trouble(407)] * 5)
    with (
        open_remote(f"https://localhost{PATH}", Access()) as file,
        pytest.raises(UnreadableError, match=r"cannot be read: its proxy answered 407 five times\.$"),
    ):
        file.read(0, 10)


# Threads and processes.


def test_threads_end_when_they_have_been_idle(server: TroubledServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetchers, "_IDLE_SECONDS", 0.05)
    with opened(server, at_once=11) as file:
        file.read(0, 1)
        assert fetchers.fetchers(11)._threads == 1
        wait_for(lambda: not fetchers.fetchers(11)._threads)
        assert file.read(9000, 10) == DATA[9000:9010]


def run(program: str, *arguments: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  # our own interpreter
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *arguments],
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def test_a_server_that_stalls_does_not_keep_the_interpreter_from_ending(server: TroubledServer) -> None:
    server.script(PATH, None, *[Trouble(wait=30)] * 4)
    program = """
        import sys
        from sen2chain.remote import Access, open_remote
        file = open_remote(sys.argv[1], Access())
        print(file.size)
        file.fetch([(at, 10) for at in range(50_000, 290_000, 60_000)])
        """
    begun = time.monotonic()
    done = run(program, server.url + PATH)
    assert (done.returncode, done.stdout, done.stderr) == (0, "300000\n", "")
    assert time.monotonic() - begun < 10


def test_an_interruption_ends_a_read_at_once(server: TroubledServer) -> None:
    server.script(PATH, None, Trouble(wait=30))
    program = """
        import os, signal, sys, threading
        from sen2chain.remote import Access, open_remote
        file = open_remote(sys.argv[1], Access())
        file.size
        signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have what they start with & ignore it
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        try:
            file.read(50_000, 10)
        except KeyboardInterrupt:
            print("interrupted")
        """
    done = run(program, server.url + PATH)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system has no fork")
def test_a_forked_process_reads_with_threads_and_connections_of_its_own(server: TroubledServer) -> None:
    program = """
        import os, sys, warnings
        from sen2chain.remote import Access, open_remote
        warnings.simplefilter("ignore", DeprecationWarning)  # newer versions of Python warn of forks beside threads
        with open_remote(sys.argv[1], Access()) as file:
            before = file.read(50_000, 10)
            child = os.fork()
            if not child:
                with open_remote(sys.argv[1], Access()) as other:
                    sys.exit(int(other.read(50_000, 10) != before))
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            print(code, file.read(90_000, 10) != before)
        """
    done = run(program, server.url + PATH)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 True\n", "")
    assert len({entry.connection for entry in server.log if entry.first == 0}) == 2


def test_a_server_in_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(DATA)
    with started(tmp_path, latency=0.02) as server:
        begun = time.monotonic()
        with open_remote(f"{server.url}/a.tif", Access(at_once=4), 1000) as file:
            assert file.read(5000, 100) == DATA[5000:5100]
        assert time.monotonic() - begun > 0.04
        assert [(entry.first, entry.sent) for entry in server.take_log()] == [(0, 1000), (5000, 100)]
        assert server.take_log() == []
        assert isinstance(server.most_at_once(), int)


def test_a_log_entry_says_what_was_asked(server: TroubledServer) -> None:
    with opened(server) as file:
        file.read(0, 1)
    (entry,) = server.log
    assert (entry.path, entry.first, entry.last, entry.status, entry.sent) == (PATH, 0, 999, 206, 1000)
    assert isinstance(entry, Request)
