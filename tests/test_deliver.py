from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import example, given
from hypothesis import strategies as st

from far_end import HOST, FarEnd, lock, make_key, old_rsync, slow_rsync, small_disk, wait_until
from sen2chain.atomic import is_temporary, temporary_name
from sen2chain.errors import DeliveryError
from sen2chain.jobs.delivery import (
    Bucket,
    Folder,
    GoneError,
    IncompleteError,
    Remote,
    deliver,
    parse_destination,
    ready,
)
from sen2chain.jobs.delivery.rsync import command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NASTY = (
    "NDVI/CM004/monthly/a b.csv",
    'NDVI/it\'s/say "x".csv',
    "NDVI/a;b & c|d/$(touch pwned).csv",
    "NDVI/`touch pwned`/$HOME.csv",
    "NDVI/*/[x]?{a,b}.csv",
    "-rf/-e.csv",
    "#comment.csv",
    ";comment.csv",
    "~/~.csv",
    "é/日本 ü.csv",
    "back\\slash/\\#134.csv",
    "a:b/c@d:e.csv",
)
MIB = 1 << 20


@pytest.fixture(autouse=True)
def _memory_is_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users are refused what is gone with the run; for tests of uploads it is just right."""
    monkeypatch.setattr("sen2chain.jobs.delivery.destination._NO_PLACES", {"cached"})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarEnd]:
    with FarEnd(tmp_path_factory.mktemp("far")) as end:
        yield end


@pytest.fixture
def far(server: FarEnd, monkeypatch: pytest.MonkeyPatch) -> FarEnd:
    monkeypatch.setenv("RSYNC_RSH", server.shell())
    server.place = Path(tempfile.mkdtemp(dir=server.folder, prefix="place-"))
    return server


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "compiled"
    folder.mkdir()
    return folder


def write(root: Path, name: str, content: str | bytes, age: float = 100) -> None:
    """Write a file that was last changed so many seconds ago."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    changed = int(time.time() - age)
    os.utime(path, (changed, changed))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fails(root: Path, names: list[str], to: str, **keywords: Any) -> str:
    """Deliver in vain; the message is one line that names the destination."""
    with pytest.raises(DeliveryError) as caught:
        deliver(root, names, to, **{"pauses": (), **keywords})
    message = str(caught.value)
    assert str(parse_destination(to)) in message
    assert message.endswith(".")
    assert message.isprintable()
    assert len(message) < 900
    return message


def during(work: Callable[[], object]) -> Iterator[None]:
    """Loop while something is done in a thread."""
    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        yield
    thread.join()


# What users write.


@pytest.mark.parametrize(
    ("text", "expected", "argument"),
    [
        ("user@server:path/to", Remote("user", "server", "path/to"), "user@server:./path/to/"),
        ("server:/data", Remote(None, "server", "/data"), "server:/data/"),
        (" u@s:x/ ", Remote("u", "s", "x/"), "u@s:./x/"),
        ("u@s:~/x", Remote("u", "s", "~/x"), "u@s:./x/"),
        ("u@s:~//x", Remote("u", "s", "~//x"), "u@s:./x/"),
        ("u@s:~", Remote("u", "s", "~"), "u@s:./"),
        ("u@s:/", Remote("u", "s", "/"), "u@s:/"),
        ("u@s:-x y;$(z)", Remote("u", "s", "-x y;$(z)"), "u@s:./-x y;$(z)/"),
        ("u@s:x:y", Remote("u", "s", "x:y"), "u@s:./x:y/"),
        ("u@[::1]:x", Remote("u", "[::1]", "x"), "u@[::1]:./x/"),
        ("u_1.b-c@10.0.0.1:x", Remote("u_1.b-c", "10.0.0.1", "x"), "u_1.b-c@10.0.0.1:./x/"),
    ],
)
def test_servers(text: str, expected: Remote, argument: str) -> None:
    found = parse_destination(text)
    assert found == expected
    assert isinstance(found, Remote)
    assert str(found) == text.strip()
    assert found.argument == argument


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data/a b", Folder(Path("/data/a b"))),
        ("/data/a:b*", Folder(Path("/data/a:b*"))),
        ("~/x", Folder(Path.home() / "x")),
        ("~", Folder(Path.home())),
        ("file:///data/x", Folder(Path("/data/x"))),
        ("s3://bucket/x", Bucket("s3://bucket/x")),
        ("ftp://u:p@host/x", Bucket("ftp://u:p@host/x")),
    ],
)
def test_folders_and_urls(text: str, expected: Folder | Bucket) -> None:
    assert parse_destination(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no server"),
        ("server", "user@server:path"),
        ("data/x", "begins with / or ~/"),
        ("./a:b", "cannot be understood"),
        ("u@s:", "names no folder"),
        ("@s:x", "is not a login"),
        ("u@:x", "is not the name of a server"),
        (":x", "is not the name of a server"),
        ("-oProxyCommand=x:y", "is not the name of a server"),
        ("u@-s:x", "is not the name of a server"),
        ("-l@s:x", "is not a login"),
        ("u v@s:x", "is not a login"),
        ("u@s t:x", "is not the name of a server"),
        ("a@b@c:x", "cannot be understood"),
        ("u@[::1;x]:x", "is not the name of a server"),
        ("u@[-x]:x", "is not the name of a server"),
        ("u@[::1:x", "cannot be understood"),
        ("s::module", "rsync daemon"),
        ("rsync://s/module", "rsync daemon"),
        ("u@s:~other/x", "home of another user"),
        ("~other/x", "home of another user"),
        ("u@s:a*", r"holds '\*', which rsync takes for a pattern"),
        ("u@s:[x]", "takes for a pattern"),
        ("u@s:a?", "takes for a pattern"),
        ("u@s:../a", "goes up with"),
        ("u@s:/a/../b", "goes up with"),
        ("u@s:a\nb", "control character"),
        ("u@s:x\n", "control character"),
        ("/a\0b", "control character"),
        ("u@s:a\u2028b", "control character"),
        ("s3://", "names no folder"),
        ("file://x", "three slashes"),
        ("simplecache::s3://b/x", "chain of URLs"),
        ("s3://b/x::s3://c", "chain of URLs"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_to_write(text: str, message: str) -> None:
    with pytest.raises(DeliveryError, match=message) as caught:
        parse_destination(text)
    assert str(caught.value).isprintable()
    assert str(caught.value).endswith(".")


@given(
    st.text()
    | st.from_regex(r"[-a-z~/@:\[\]]{0,8}@?[-a-z.:\[\] ]{0,6}:.{0,6}", fullmatch=True)
    | st.from_regex(r"[a-z0-9]{1,4}:{1,2}/{0,2}.*", fullmatch=True)
)
@example("-e@h:x")
@example("h:~")
@example("h:\ud800")
def test_any_text_is_refused_or_safe(text: str) -> None:
    try:
        found = parse_destination(text)
    except DeliveryError:
        return
    if isinstance(found, Remote):
        argument = command(Path("/root"), found, parents=False)[-1]
        found_host = re.match(r"(?:[^@:]*@)?(\[[^\]]*\]|[^:]*):(.*)", argument)
        assert found_host
        host, path = found_host.groups()
        assert re.fullmatch(r"[A-Za-z0-9._][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\]", host)
        assert not argument.startswith("-")
        assert path.startswith(("/", "./"))
        assert path.endswith("/")
        assert not set(path) & set("*?[\0\n")


def test_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    to = parse_destination("memory://me:s3cret@host/x")
    assert isinstance(to, Bucket)
    assert str(to) == "memory://***@host/x"
    assert "s3cret" not in repr(to)
    with pytest.raises(DeliveryError) as caught:
        parse_destination("a::ftp://me:s3cret@host/x")
    assert "s3cret" not in str(caught.value)

    def fail(*_: object) -> None:
        raise PermissionError("no: ftp://me:s3cret@host")

    monkeypatch.setattr(MemoryFileSystem, "info", fail)
    write(root, "a.csv", "1")
    message = fails(root, ["a.csv"], to.url)
    assert "s3cret" not in message
    assert "***" in message


# Names.


@pytest.mark.parametrize(
    "name", ["../a.csv", "x/../a.csv", "/a.csv", "./a.csv", "x//a.csv", "", "x/", "a\nb", "gone.csv", "x"]
)
def test_names_that_lead_elsewhere_are_refused_before_anything_is_sent(root: Path, tmp_path: Path, name: str) -> None:
    write(root, "x/a.csv", "1")
    write(tmp_path, "a.csv", "outside")
    with pytest.raises(DeliveryError, match=r"is not the name of a file|is not a file in|control character"):
        deliver(root, ["x/a.csv", name], str(tmp_path / "to"))
    assert not (tmp_path / "to").exists()


def test_no_names_ask_no_server(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert str(deliver(root, [], "u@h:x")) == "0 files sent to u@h:x, 0 unchanged."


# rsync over ssh.


def test_only_what_has_changed_is_sent(far: FarEnd, root: Path) -> None:
    names = ["NDVI/CM004/monthly/a.csv", "NDVI/CM004/monthly/b.csv", "NDVI/NOMASK/a.csv"]
    for name in names:
        write(root, name, name)
    first = deliver(root, [*names, names[0]], far.at("to"))
    assert first.sent == names
    assert str(first) == f"3 files sent to {far.at('to')}, 0 unchanged."
    assert first.seconds > 0
    assert content(far.place / "to") == content(root)
    assert (far.place / "to" / names[0]).stat().st_mtime == (root / names[0]).stat().st_mtime
    again = deliver(root, names, far.at("to"))
    assert (again.sent, again.unchanged) == ([], 3)
    write(root, names[1], "changed", age=10)
    third = deliver(root, names, far.at("to"))
    assert (third.sent, third.unchanged) == ([names[1]], 2)
    assert str(third) == f"1 file sent to {far.at('to')}, 2 unchanged."
    assert content(far.place / "to") == content(root)


def test_nasty_names_arrive_as_they_are_and_run_nothing(far: FarEnd, root: Path) -> None:
    for name in NASTY:
        write(root, name, name)
    assert deliver(root, NASTY, far.at("to")).sent == list(NASTY)
    assert content(far.place / "to") == content(root)
    assert deliver(root, NASTY, far.at("to")).unchanged == len(NASTY)
    assert not list(far.folder.rglob("pwned"))
    assert not (Path.home() / "pwned").exists()


def test_nasty_folders_arrive_as_they_are(far: FarEnd, root: Path) -> None:
    write(root, "a.csv", "1")
    path = 'a b/it\'s "x"/;x/$(touch pwned)/`touch pwned`/-x/ü 日/b\\s/{a,b}/#x/&|<>!/a:b/~x/ y \\'
    for sent in (1, 0):
        assert len(deliver(root, ["a.csv"], far.at(path)).sent) == sent
    assert content(far.place) == {f"{path}/a.csv": b"1"}
    assert not list(far.folder.rglob("pwned"))


def test_a_path_without_a_slash_is_below_the_home(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, "a.csv", "1")
    (tmp_path / "home").mkdir()
    with FarEnd(tmp_path, f'ForceCommand cd {tmp_path}/home && eval "$SSH_ORIGINAL_COMMAND"') as far:
        monkeypatch.setenv("RSYNC_RSH", far.shell())
        paths = ["~/x", "~/~y", "-z/$(touch pwned)", "~", " ;v"]
        for path in paths:
            deliver(root, ["a.csv"], f"{HOST}:{path}")
    assert sorted(content(tmp_path / "home")) == sorted(
        ["x/a.csv", "~y/a.csv", "-z/$(touch pwned)/a.csv", "a.csv", " ;v/a.csv"]
    )


def test_missing_parents_are_made(far: FarEnd, root: Path) -> None:
    write(root, "a.csv", "1")
    deliver(root, ["a.csv"], far.at("p/q r/s"))
    assert content(far.place) == {"p/q r/s/a.csv": b"1"}


def test_links_are_followed_here_and_never_replaced_there(far: FarEnd, root: Path) -> None:
    write(root, "real.csv", "1")
    (root / "NDVI").mkdir()
    (root / "NDVI" / "a.csv").symlink_to(root / "real.csv")
    (far.place / "disk").mkdir()
    (far.place / "NDVI").symlink_to(far.place / "disk")
    # rsync from 3.5 refuses to write through such a link, earlier ones do.
    with contextlib.suppress(IncompleteError):
        deliver(root, ["NDVI/a.csv"], far.at(), pauses=())
        assert (far.place / "disk" / "a.csv").read_bytes() == b"1"
    assert (far.place / "NDVI").is_symlink()
    deliver(root, ["NDVI/a.csv"], far.at("to"))
    assert not (far.place / "to" / "NDVI" / "a.csv").is_symlink()


def test_an_old_rsync_at_the_far_end_cannot_make_parents(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, "a.csv", "1")
    with FarEnd(tmp_path, f"SetEnv PATH={old_rsync(tmp_path / 'old')}") as far:
        monkeypatch.setenv("RSYNC_RSH", far.shell())
        assert deliver(root, ["a.csv"], far.at("to")).sent == ["a.csv"]
        assert "unknown option" in fails(root, ["a.csv"], far.at("p/q"))


def test_a_server_that_goes_away_in_the_middle_leaves_nothing_partial(
    far: FarEnd, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, "a.csv", "small")
    write(root, "b.csv", os.urandom(4 * MIB))
    names = ["a.csv", "b.csv"]
    with monkeypatch.context() as slow:
        slow.setenv("PATH", slow_rsync(tmp_path / "slow", 1000))
        said: list[str] = []
        loop = during(lambda: said.append(fails(root, names, far.at("to"))))
        for _ in loop:
            if any(path.stat().st_size for path in (far.place / "to").glob(".b.csv.*")):
                far.cut()
        assert "onnection" in said[0]
    for _ in wait_until("the far end has noticed"):
        if not far.busy():
            break
    assert not (far.place / "to" / "b.csv").exists()
    assert deliver(root, names, far.at("to")).sent[-1] == "b.csv"
    for name in names:
        assert (far.place / "to" / name).read_bytes() == (root / name).read_bytes()


def test_a_server_that_comes_back_gets_the_files(far: FarEnd, root: Path) -> None:
    write(root, "a.csv", "1")
    said: list[str] = []

    def come_back(sentence: str) -> None:
        said.append(sentence)
        if len(said) == 2:
            far.start()

    far.stop()
    assert deliver(root, ["a.csv"], far.at("to"), pauses=(0.1, 0.1, 0.1), on_retry=come_back).sent == ["a.csv"]
    assert len(said) == 2
    assert re.search(
        r"rsync ended with code \d+, .*\(\".*Connection refused.*\"\); try 'ssh .* The next try is in 0\.1 s\.", said[0]
    )


def test_pauses_end_with_the_time(far: FarEnd, root: Path) -> None:
    write(root, "a.csv", "1")
    far.stop()
    try:
        start = time.monotonic()
        message = fails(root, ["a.csv"], far.at("to"), pauses=(0.1, 60), time_limit=5)
    finally:
        far.start()
    assert time.monotonic() - start < 4
    assert "Connection refused" in message


def test_a_full_disk_at_the_far_end(far: FarEnd, root: Path) -> None:
    write(root, "a.csv", "1")
    write(root, "b.csv", os.urandom(2 * MIB))
    with small_disk(far.place / "disk") as disk:
        start = time.monotonic()
        message = fails(root, ["a.csv", "b.csv"], far.at("disk/to"))
        assert "rsync ended with code " in message
        assert "is not there" not in message
        assert time.monotonic() - start < 30
        for _ in wait_until("the far end has cleared up"):
            if not far.busy():
                break
        assert set(content(disk / "to")) <= {"a.csv"}


def test_a_far_end_that_may_not_be_written(far: FarEnd, root: Path) -> None:
    write(root, "a.csv", "1")
    with small_disk(far.place / "disk") as disk:
        lock(disk)
        for place in ("disk", "disk/p/q"):
            assert re.search(
                r"code (11|23), .*Read-only file system", fails(root, ["a.csv"], far.at(place), pauses=(60,))
            )


def test_a_file_in_the_way(far: FarEnd, root: Path) -> None:
    write(root, "a.csv", "1")
    write(far.place, "file", "")
    for path in ("file", "file/p", "file/p/q"):
        assert re.search(r"code (3|11|23), ", fails(root, ["a.csv"], far.at(path), pauses=(60,)))
    write(far.place, "to/a.csv/b", "")
    assert "code 23, partial transfer due to an error" in fails(root, ["a.csv"], far.at("to"), pauses=(60,))


def test_keys_that_do_not_fit(far: FarEnd, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, "a.csv", "1")
    other = make_key(tmp_path / "other")
    for how, said in (
        ("unknown", "Host key verification failed"),
        ("refused", "Permission denied ("),
        ("changed", "Host key"),
    ):
        shell = far.shell(
            known=tmp_path / "none" if how == "unknown" else None, key=other if how == "refused" else None
        )
        monkeypatch.setenv("RSYNC_RSH", shell)
        far.trust(other if how == "changed" else far.host_key)
        try:
            message = fails(root, ["a.csv"], far.at("to"))
        finally:
            far.trust(far.host_key)
        assert re.search(r"rsync ended with code (12|255), ", message)
        assert said in message
        assert f"try 'ssh {HOST}' by hand, as the user who runs the job and without a passphrase" in message
    assert content(far.place) == {}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("SetEnv PATH=/nonexistent", "not found"),
        ("ForceCommand echo welcome to this server", "code 2, protocol incompatibility"),
        ("ForceCommand exit 1", "rsync ended with code "),
    ],
)
def test_a_far_end_without_rsync(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, setting: str, message: str
) -> None:
    write(root, "a.csv", "1")
    with FarEnd(tmp_path, setting) as far:
        monkeypatch.setenv("RSYNC_RSH", far.shell())
        assert message in fails(root, ["a.csv"], far.at("to"))


def test_programs_that_are_missing_here(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, "a.csv", "1")
    to = parse_destination("u@h:x")
    monkeypatch.setenv("RSYNC_RSH", "nosuchssh -x")
    assert "There is no nosuchssh on this machine" in (ready(to) or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "There is no rsync on this machine" in (ready(to) or "")
    with pytest.raises(DeliveryError, match="install the package rsync"):
        deliver(root, ["a.csv"], to)


@pytest.mark.parametrize("how", ["time limit", "interrupt"])
def test_a_stopped_delivery_stops_rsync_too(
    far: FarEnd, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    write(root, "a.csv", os.urandom(20 * MIB))
    monkeypatch.setenv("PATH", slow_rsync(tmp_path / "slow", 1000))
    start = time.monotonic()
    if how == "time limit":
        assert "was stopped after 1.5 s" in fails(root, ["a.csv"], far.at("to"), time_limit=1.5)
    else:

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 1.5)
        try:
            with pytest.raises(KeyboardInterrupt):
                deliver(root, ["a.csv"], far.at("to"))
        finally:
            signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - start < 6
    for _ in wait_until("nobody is connected"):
        if not far.busy():
            break
    assert content(far.place) == {}


def versions(root: Path, number: int) -> None:
    write(root, "a.csv", bytes([number]) * (MIB + number), age=1000 - number)


def whole(data: bytes) -> bool:
    return len(set(data)) == 1 and len(data) == MIB + data[0]


def test_readers_see_whole_files_only(far: FarEnd, root: Path) -> None:
    seen = set()

    def deliver_many() -> None:
        for number in range(1, 7):
            versions(root, number)
            deliver(root, ["a.csv"], far.at("to"))

    for _ in during(deliver_many):
        with contextlib.suppress(FileNotFoundError):
            data = (far.place / "to" / "a.csv").read_bytes()
            assert whole(data)
            seen.add(data[0])
    assert len(seen) > 2


def test_deliveries_at_the_same_time_do_no_harm(far: FarEnd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", slow_rsync(tmp_path / "slow", 3000))
    failures: list[Exception] = []

    def one(number: int) -> None:
        root = tmp_path / str(number)
        versions(root, number)
        try:
            deliver(root, ["a.csv"], far.at("p/to"))
        except DeliveryError as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            with contextlib.suppress(FileNotFoundError):
                assert whole((far.place / "p" / "to" / "a.csv").read_bytes())
    assert not failures
    assert list(content(far.place)) == ["p/to/a.csv"]


# A folder of this machine.


def test_a_folder_gets_only_what_has_changed(root: Path, tmp_path: Path) -> None:
    to = tmp_path / "p" / "to $(x) *"
    for name in NASTY:
        write(root, name, name)
    assert deliver(root, NASTY, str(to)).sent == list(NASTY)
    assert content(to) == content(root)
    assert (to / NASTY[0]).stat().st_mtime_ns == (root / NASTY[0]).stat().st_mtime_ns
    assert deliver(root, NASTY, f"file://{to}").unchanged == len(NASTY)
    write(root, NASTY[1], NASTY[1].upper(), age=10)  # as long as before
    again = deliver(root, NASTY, str(to))
    assert again.sent == [NASTY[1]]
    assert content(to) == content(root)


def test_a_disk_that_knows_no_fractions_of_seconds_gets_no_file_twice(root: Path, tmp_path: Path) -> None:
    write(root, "a.csv", "1")
    os.utime(root / "a.csv", ns=(0, 1_700_000_001_987_654_321))
    deliver(root, ["a.csv"], str(tmp_path / "to"))
    for kept in (1_700_000_001_987_654_300, 1_700_000_001_000_000_000, 1_700_000_000_000_000_000):
        os.utime(tmp_path / "to" / "a.csv", ns=(0, kept))
        assert deliver(root, ["a.csv"], str(tmp_path / "to")).unchanged == 1


def test_a_full_disk_stops_the_delivery_to_a_folder(root: Path, tmp_path: Path) -> None:
    for name, size in (("a.csv", 10), ("b.csv", 2 * MIB), ("c.csv", 10)):
        write(root, name, os.urandom(size))
    with small_disk(tmp_path / "disk") as disk:
        with pytest.raises(IncompleteError, match=r"No room is left .*disk/to \(1 files were sent before\)") as caught:
            deliver(root, ["a.csv", "b.csv", "c.csv"], str(disk / "to"))
        assert caught.value.sent == ("a.csv",)
        assert list(content(disk)) == ["to/a.csv"]
        lock(disk)
        with pytest.raises(IncompleteError, match=r"2 of 3 files cannot be copied .*\(the first is b\.csv: Read-only"):
            deliver(root, ["a.csv", "b.csv", "c.csv"], str(disk / "to"))


def test_a_file_that_cannot_be_replaced_does_not_keep_the_others_back(root: Path, tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv", "c.csv"):
        write(root, name, name)
    write(tmp_path, "to/b.csv/x", "a folder in the way")
    with pytest.raises(IncompleteError, match=r"1 of 3 files .*b\.csv: Is a directory") as caught:
        deliver(root, ["a.csv", "b.csv", "c.csv"], str(tmp_path / "to"))
    assert caught.value.sent == ("a.csv", "c.csv")


def test_a_copy_that_is_killed_in_the_middle_has_no_name_yet(root: Path, tmp_path: Path) -> None:
    write(root, "a.csv", os.urandom(MIB))
    code = """
import sys, time
from pathlib import Path
from sen2chain import atomic
from sen2chain.jobs.delivery import deliver
def hang(file):
    file.flush()
    sys.stdout.write("now\\n")
    sys.stdout.flush()
    time.sleep(60)
atomic.sync = hang
deliver(Path(sys.argv[1]), ["a.csv"], sys.argv[2])
"""
    to = tmp_path / "to"
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code, str(root), str(to)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"now\n"
        process.kill()
    assert all(map(is_temporary, content(to)))
    assert deliver(root, ["a.csv"], str(to)).sent == ["a.csv"]
    assert (to / "a.csv").read_bytes() == (root / "a.csv").read_bytes()


def test_readers_of_a_folder_see_whole_files_only(root: Path, tmp_path: Path) -> None:
    def deliver_many() -> None:
        for number in range(1, 20):
            versions(root, number)
            deliver(root, ["a.csv"], str(tmp_path / "to"))

    for _ in during(deliver_many):
        with contextlib.suppress(FileNotFoundError):
            assert whole((tmp_path / "to" / "a.csv").read_bytes())


def test_the_time_limit_holds_for_folders_and_urls(root: Path, tmp_path: Path) -> None:
    write(root, "a.csv", "1")
    for to in (str(tmp_path / "to"), "memory://late"):
        assert "was stopped after 0 s" in fails(root, ["a.csv"], to, time_limit=0)


# Places of fsspec.


class Trouble(LocalFileSystem):  # type: ignore[misc]
    """A file system that is no object store, and fails as often as it is told."""

    protocol = "trouble"
    errors: list[Exception] = []  # noqa: RUF012 - shared by all instances, as fsspec makes them
    calls: list[str] = []  # noqa: RUF012

    def put_file(self, lpath: str, rpath: str, **keywords: Any) -> None:
        self.calls.append(rpath)
        if self.errors:
            Path(rpath).write_bytes(b"partial")
            raise self.errors.pop(0)
        super().put_file(lpath, rpath, **keywords)


@pytest.fixture
def trouble() -> type[Trouble]:
    fsspec.register_implementation("trouble", Trouble, clobber=True)
    Trouble.errors, Trouble.calls = [], []
    return Trouble


def test_uploads_only_what_has_changed(root: Path, trouble: type[Trouble], tmp_path: Path) -> None:
    names = [name for name in NASTY if not name.startswith("~")]  # a local path that begins so is a home
    for name in names:
        write(root, name, name)
    to = f"trouble://{tmp_path}/p/[x] *"
    assert deliver(root, names, to).sent == names
    assert content(tmp_path / "p" / "[x] *") == content(root)
    assert all(is_temporary(Path(path).name) for path in trouble.calls)
    assert deliver(root, names, to).unchanged == len(names)
    write(root, names[1], names[1].upper(), age=10_000)  # as long, and older than what is there
    assert deliver(root, names, to).sent == [names[1]]
    assert content(tmp_path / "p" / "[x] *") == content(root)


def test_memory_that_cannot_rename() -> None:
    assert MemoryFileSystem.mv is fsspec.AbstractFileSystem.mv


def test_uploads_to_memory(root: Path) -> None:
    write(root, "NDVI/[a]*.csv", "1")
    to = "memory://delivered/[x]"
    assert deliver(root, ["NDVI/[a]*.csv"], to).sent == ["NDVI/[a]*.csv"]
    memory = fsspec.filesystem("memory")
    assert [memory.cat_file(path) for path in memory.find("/delivered")] == [b"1"]
    assert deliver(root, ["NDVI/[a]*.csv"], to).unchanged == 1
    memory.rm("/delivered", recursive=True)


def test_object_stores_are_written_directly(
    root: Path, trouble: type[Trouble], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("sen2chain.jobs.delivery.uploads.OBJECT_STORES", frozenset({"trouble"}))
    write(root, "a.csv", "1")
    (tmp_path / "to").mkdir()
    deliver(root, ["a.csv"], f"trouble://{tmp_path}/to")
    assert trouble.calls == [f"{tmp_path}/to/a.csv"]


def test_a_connection_that_fails_twice(root: Path, trouble: type[Trouble], tmp_path: Path) -> None:
    write(root, "a.csv", "1")
    write(root, "b.csv", "2")
    trouble.errors = [ConnectionResetError("reset"), TimeoutError("slow")]
    said: list[str] = []
    to = f"trouble://{tmp_path}/to"
    assert deliver(root, ["a.csv", "b.csv"], to, pauses=(0.01, 0.02), on_retry=said.append).sent == ["a.csv", "b.csv"]
    assert content(tmp_path / "to") == {"a.csv": b"1", "b.csv": b"2"}  # and nothing partial
    assert said[0].endswith("(reset). The next try is in 0.01 s.")
    assert len(said) == 2


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError("denied"), "may not be written"),
        (FileNotFoundError("bucket"), "check that the place exists"),
        (OSError(28, "No space left on device"), "No room is left"),
        (NotImplementedError(), "only read"),
        (RuntimeError("no credentials"), "credentials"),
    ],
)
def test_what_will_not_pass_is_not_tried_again(
    root: Path, trouble: type[Trouble], tmp_path: Path, error: Exception, message: str
) -> None:
    write(root, "a.csv", "1")
    trouble.errors = [error]
    assert message in fails(root, ["a.csv"], f"trouble://{tmp_path}/to", pauses=(60,))
    assert content(tmp_path / "to") == {}


def test_packages_that_are_missing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, "a.csv", "1")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert "'pip install s3fs'" in fails(root, ["a.csv"], "s3://bucket/x")
    assert "does not know" in (ready(parse_destination("nosuch://x")) or "")
    assert ready(parse_destination("memory://x")) is None
    assert ready(parse_destination("/data")) is None
    monkeypatch.setitem(sys.modules, "fsspec", None)
    assert "'pip install fsspec'" in fails(root, ["a.csv"], "s3://bucket/x")


# Destinations that are gone, and what killed deliveries left.


@pytest.mark.parametrize("place", ["p/to", "to"])
@pytest.mark.usefixtures("trouble")
def test_the_folder_of_an_earlier_delivery_is_not_made_again(far: FarEnd, root: Path, place: str) -> None:
    write(root, "NDVI/a.csv", "1")
    for to in (far.at(place), f"{far.place}/{place}", f"trouble://{far.place}/{place}"):
        with pytest.raises(GoneError, match=r"is not there, but files were sent to it before; mount it"):
            deliver(root, ["NDVI/a.csv"], to, is_new=False)
        assert content(far.place) == {}
        assert not list(far.place.iterdir())
    (far.place / place).mkdir(parents=True)
    for to in (far.at(place), f"{far.place}/{place}", f"trouble://{far.place}/{place}"):
        deliver(root, ["NDVI/a.csv"], to, is_new=False)
        assert content(far.place) == {f"{place}/NDVI/a.csv": b"1"}
        (far.place / place / "NDVI" / "a.csv").unlink()


@pytest.mark.usefixtures("trouble")
def test_what_killed_deliveries_left_is_swept(root: Path, tmp_path: Path) -> None:
    write(root, "NDVI/a.csv", "1")
    name = temporary_name()
    dead = name.replace(f"-{os.getpid()}.", "-4194999999.")
    for to in (f"{tmp_path}/to", f"trouble://{tmp_path}/to"):
        for left in (name, dead):
            write(tmp_path, f"to/NDVI/{left}", "half")
        deliver(root, ["NDVI/a.csv"], to)
        assert set(content(tmp_path / "to")) == {"NDVI/a.csv", f"NDVI/{name}"}


class Store(Trouble):
    """A store that tells the MD5 of what it holds, or a tag."""

    protocol = "trouble"
    told = "ETag"
    reads: list[str] = []  # noqa: RUF012

    def ls(self, path: str, **keywords: Any) -> Any:
        return [self.tagged(entry) for entry in super().ls(path, **{**keywords, "detail": True})]

    def info(self, path: str, **keywords: Any) -> Any:
        return self.tagged(super().info(path, **keywords))

    def tagged(self, entry: dict[str, Any]) -> dict[str, Any]:
        if entry["type"] != "file":
            return entry
        digest = hashlib.md5(Path(entry["name"]).read_bytes(), usedforsecurity=False)
        told: dict[str, Any] = {
            "ETag": {"ETag": f'"{digest.hexdigest()}"'},
            "part": {"ETag": f'"{digest.hexdigest()[::-1]}-2"'},
            "md5Hash": {"md5Hash": base64.b64encode(digest.digest()).decode()},
            "azure": {"content_settings": {"content_md5": bytearray(digest.digest())}},
            "none": {},
        }
        return {**entry, **told[self.told]}

    def _open(self, path: str, mode: str = "rb", **keywords: Any) -> Any:
        self.reads.append(path)
        return super()._open(path, mode, **keywords)


@pytest.mark.parametrize(("told", "reads"), [("ETag", 0), ("md5Hash", 0), ("azure", 0), ("part", 1), ("none", 1)])
@pytest.mark.usefixtures("trouble")
def test_a_store_is_asked_for_the_content_and_not_for_the_time(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, reads: int
) -> None:
    fsspec.register_implementation("trouble", Store, clobber=True)
    monkeypatch.setattr("sen2chain.jobs.delivery.uploads.OBJECT_STORES", frozenset({"trouble"}))
    monkeypatch.setattr(Store, "told", told)
    (tmp_path / "to").mkdir()
    there, to = tmp_path / "to" / "a.csv", f"trouble://{tmp_path}/to"
    marks: dict[str, str] = {}
    write(root, "a.csv", "1")
    assert deliver(root, ["a.csv"], to, marks=marks).sent == ["a.csv"]
    Store.reads.clear()
    for age in (10_000, -10_000):
        write(root, "a.csv", "1", age=age)
        os.utime(there, (1, 1))
        assert deliver(root, ["a.csv"], to, marks=marks).sent == []
    assert not Store.reads
    assert deliver(root, ["a.csv"], to).sent == []  # without a mark, as after an earlier version
    assert len(Store.reads) == reads
    write(root, "a.csv", "2", age=10_000)
    assert deliver(root, ["a.csv"], to, marks=marks).sent == ["a.csv"]
    there.write_bytes(b"3")  # somebody else's, as long as ours
    assert deliver(root, ["a.csv"], to, marks=marks).sent == ([] if told == "none" else ["a.csv"])
