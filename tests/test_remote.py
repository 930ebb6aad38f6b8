"""Files on servers: ranges, what is fetched for them, troubles of servers, signatures, and what may be read."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen2chain.remote import (
    Access,
    open_remote,
    remote_file,
    transfer,
)
from troubled_server import TroubledServer

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = random.Random(5).randbytes(300_000)
PATH = "/folder/a.tif"


@pytest.fixture
def server() -> Iterator[TroubledServer]:
    with TroubledServer({PATH: DATA, "/small.tif": DATA[:1000], "/empty.tif": b""}) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "patience", transfer.Patience(pauses=(0.001,) * 4, longest=0.05))


def test_a_range_is_what_lies_there(server: TroubledServer) -> None:
    with open_remote(server.url + PATH, Access(), beginning=1000) as file:
        assert file.size == len(DATA)
        assert file.version
        assert file.read(0, 10) == DATA[:10]
        assert file.read(990, 5000) == DATA[990:5990]
        assert file.read(299_000, 5000) == DATA[299_000:]
        assert file.read(300_000, 1) == file.read(-5, 3) == file.read(10, 0) == b""
    assert server.ranges(PATH) == [(0, 1000), (1000, 4990), (299_000, 1000)]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_reads_fetches_and_releases_give_the_bytes_of_the_file(data: st.DataObject) -> None:
    size = data.draw(st.integers(0, 6000))
    content = DATA[:size]
    ranges = st.tuples(st.integers(0, 7000), st.integers(0, 4000))
    kinds = st.sampled_from(["read", "fetch", "release"])
    steps = data.draw(st.lists(st.tuples(kinds, st.lists(ranges, min_size=1, max_size=4)), max_size=8))
    with pytest.MonkeyPatch.context() as patch, TroubledServer({PATH: content}) as server:
        patch.setattr(remote_file, "LARGEST_GAP", data.draw(st.integers(0, 200)))
        patch.setattr(remote_file, "LARGEST_PIECE", data.draw(st.integers(1000, 3000)))
        with open_remote(server.url + PATH, Access(at_once=3), data.draw(st.integers(1, 5000))) as file:
            for kind, named in steps:
                if kind == "fetch":
                    file.fetch(named)
                elif kind == "release":
                    file.release(named)
                else:
                    for offset, length in named:
                        assert file.read(offset, length) == content[offset : offset + length]
            assert file.read(0, 10_000) == content
