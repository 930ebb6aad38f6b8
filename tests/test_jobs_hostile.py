"""Files of jobs that were made to do harm run no command, leave no folder and give no traceback.

While a file is checked and run, an audit hook of Python sees every process that is started and every file that is
opened for writing, made, renamed or removed, wherever that happens in this process; the folders around are compared
before and after, for libraries that open files without Python. `rsync`, `ssh`, `crontab` and `systemctl` are stand-ins,
and nothing else is on the path.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

import hostile_jobs
from hostile_jobs import CM004, HEADER, TOKENS, corpus, job, line
from sen2chain import JobExtraction, demo
from sen2chain.cli import main
from sen2chain.errors import JobError, RequestError, Sen2ChainError
from sen2chain.jobs import list_jobs
from sen2chain.jobs.delivery import Bucket, deliver, hidden, parse_destination, same_place
from sen2chain.jobs.job_file import COLUMNS, JobFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "hostile"
SECONDS = 20.0
"""How long a file may take; on a quiet machine most take a tenth of one."""
_PROCESSES = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "pty.spawn"}
_CHANGES = {
    "os.rename": 2, "os.link": 2, "os.symlink": 2, "os.remove": 1, "os.rmdir": 1, "os.mkdir": 1, "os.truncate": 1,
    "os.chmod": 1, "os.chown": 1, "os.utime": 1, "shutil.rmtree": 1, "shutil.move": 2,
}  # fmt: skip
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_RSYNC = re.compile(
    r"--(?:times|omit-dir-times|copy-links|relative|no-implied-dirs|files-from=-|from0|protect-args|timeout=60|"
    r"itemize-changes|8-bit-output|mkpath)"
)
_SSH = "ssh -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15 -o ServerAliveCountMax=4"
_FAR = re.compile(r"(?:[A-Za-z0-9._][A-Za-z0-9._-]*@)?(?:[A-Za-z0-9._][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\]):(?:/|\./).*/")


class Hang(BaseException):
    """Not an `Exception`, so that nobody takes it for an error of a line."""


class Watch:
    """What happened while it was on."""

    def __init__(self) -> None:
        self.on = False
        self.allowed: tuple[str, ...] = ()
        self.commands: list[tuple[str, ...]] = []
        """Commands that the file names for the end of a run."""
        self.wrong: list[str] = []
        self.started: list[list[str]] = []

    def __call__(self, event: str, given: tuple[Any, ...]) -> None:
        if not self.on or not event.startswith(("open", "os.", "subprocess.", "shutil.", "pty.")):
            return
        if event in _PROCESSES:
            self._process(event, given)
        elif event == "open":
            path, mode, flags = given
            if not isinstance(path, int) and ((flags or 0) & _WRITES or set(mode or "") & set("wax+")):
                self._change(event, path)
        elif event in _CHANGES:
            # A name that is relative to an open folder is not ours: only shutil.rmtree has such.
            if event != "os.rename" and isinstance(given[-1], int) and given[-1] >= 0 and event != "os.mkdir":
                return
            for path in given[: _CHANGES[event]]:
                if event != "os.symlink" or path is given[1]:
                    self._change(event, path)

    def _change(self, event: str, path: Any) -> None:
        if isinstance(path, int):
            return
        path = os.fsdecode(path)
        if event == "open":
            place = os.path.realpath(path)
        else:  # what takes a name away, or gives it, does so to a link and not to where that leads
            place = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))  # noqa: PTH118, PTH119, PTH120
        if (
            place != os.devnull
            and "__pycache__" not in place
            and not place.startswith("/proc/")
            and not place.startswith(self.allowed)
        ):
            self.wrong.append(f"{event} {place}")

    def _process(self, event: str, given: tuple[Any, ...]) -> None:
        words = [os.fsdecode(word) for word in given[1]] if event == "subprocess.Popen" else []
        self.started.append(words)
        if not words or not self._may(words):
            self.wrong.append(f"{event} {given[:2]!r}"[:500])
            raise FileNotFoundError(2, "refused by the test")
        if tuple(words[:-1]) in self.commands and words[0] != "hook":
            raise FileNotFoundError(2, "no such program")  # whatever it is, no test needs it

    def _may(self, words: list[str]) -> bool:
        match words:
            case ["rsync", *options, "-e", shell, "--", root, far]:
                return (
                    all(map(_RSYNC.fullmatch, options))
                    and shell == _SSH
                    and root.startswith("/")
                    and _FAR.fullmatch(far) is not None
                )
            case [program, "-l" | "-"] if program.endswith("/crontab"):
                return True
            case [program, "--user", "daemon-reload"] if program.endswith("/systemctl"):
                return True
            case [*command, record]:
                inside = record.startswith(self.allowed) and "/logs/job_" in record and record.endswith(".json")
                return inside and tuple(command) in self.commands
        return False


WATCH = Watch()
sys.addaudithook(WATCH)


@dataclass
class Ground:
    """Folders, and what may be changed in them."""

    base: Path
    home: Path
    layer: Path
    allowed: tuple[Path, ...] = field(init=False)

    def __post_init__(self) -> None:
        inside = ("data/EXTRACTION", "logs", "config/jobs_extr")
        self.allowed = (
            *(self.home / name for name in inside),
            *(self.base / name for name in ("cache", "far", "scratch", "state")),
        )

    @property
    def path(self) -> Path:
        return self.home / "config" / "jobs_extr" / f"job_{NAME}.cfg"

    @property
    def logs(self) -> Path:
        return self.home / "logs" / f"job_{NAME}"

    def fill(self, content: str | bytes) -> bytes:
        """Return a file's bytes with the places of this ground."""
        if isinstance(content, str):
            content = content.encode("utf-8", "surrogatepass")
        return content.replace(b"{L}", os.fsencode(self.layer)).replace(b"{T}", os.fsencode(self.base))

    def write(self, content: str | bytes) -> bytes:
        filled = self.fill(content)
        shutil.rmtree(self.logs, ignore_errors=True)
        self.path.write_bytes(filled)
        return filled

    def state(self) -> dict[str, tuple[int, ...]]:
        """Return size, time and kind of all that nobody may change."""
        found: dict[str, tuple[int, ...]] = {}
        for folder, folders, names in os.walk(self.base):
            folders[:] = [name for name in folders if Path(folder, name) not in self.allowed]
            for name in names:
                state = Path(folder, name).lstat()
                found[f"{folder}/{name}"] = (state.st_mode, state.st_size, state.st_mtime_ns, state.st_ino)
            found[f"{folder}/"] = (len(folders), len(names))
        return found


STAND_IN = """#!/bin/sh
printf '%s\\n' "$(basename "$0")" >> "{state}/started"
"""
CRONTAB = """
[ "$1" = - ] && exec /bin/cat > "{state}/table"
[ -f "{state}/table" ] && exec /bin/cat "{state}/table"
echo "no crontab for me" >&2
exit 1
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    base = tmp_path_factory.mktemp("hostile").resolve()
    scene = demo.Scene(size=40, parcels=2, overpasses=demo.season(1), bands=("B04", "B08", "SCL", "CLDPRB"))
    archive = demo.build(base / "archive", scene)
    ground = Ground(base, base / "home" / "sen2chain_data", base / "parcels.gpkg")
    shutil.copytree(archive.library, ground.home)
    odd = ("$(touch pwned).gpkg", "-rf.gpkg", "a'b`id`.gpkg", "..gpkg", "%n[b]*.gpkg", "one.gpkg")
    for name in ("parcels.gpkg", *odd):
        shutil.copy(archive.layer, base / name)
    shutil.rmtree(base / "archive")
    for name in ("cache", "far", "scratch", "bin", "out", "here", "state"):
        (base / name).mkdir()
    ground.path.parent.mkdir(parents=True)
    (ground.home / "logs").mkdir()
    (base / "secret").write_text("root:x:0:0\n", encoding="utf-8")
    (base / "other.vrt").write_text("<OGRVRTDataSource></OGRVRTDataSource>\n", encoding="utf-8")
    (base / "link.gpkg").symlink_to("one.gpkg")
    (base / "dangling").symlink_to("nowhere")
    (base / "loop").symlink_to("loop")
    os.mkfifo(base / "pipe")
    os.mkfifo(base / "pipe.shp")
    for name in ("rsync", "ssh", "crontab", "systemctl", "hook"):
        script = STAND_IN + (CRONTAB if name == "crontab" else "")
        (base / "bin" / name).write_text(script.replace("{state}", str(base / "state")), encoding="utf-8")
        (base / "bin" / name).chmod(0o755)
    return ground


@pytest.fixture
def ground(built: Ground, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    """Make the folders the place where everything happens."""
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(built.home.parent))
    monkeypatch.setenv("SEN2CHAIN_CACHE", str(built.base / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(built.base / "out"))
    monkeypatch.setenv("HOME", str(built.base / "far"))
    monkeypatch.setenv("PATH", str(built.base / "bin"))
    monkeypatch.delenv("RSYNC_RSH", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(built.base / "scratch"))
    monkeypatch.chdir(built.base / "here")
    monkeypatch.setattr(os, "fsync", lambda _: None)  # thousands of them take longer than all the rest
    assert JobExtraction.run.__kwdefaults__ is not None
    monkeypatch.setitem(JobExtraction.run.__kwdefaults__, "pauses", ())
    yield built
    for path in built.path.parent.iterdir():
        path.unlink() if path.is_symlink() or not path.is_dir() else path.rmdir()
    for path in (built.home / "logs").iterdir():
        path.unlink() if path.is_symlink() or not path.is_dir() else shutil.rmtree(path)
    (built.base / "state" / "table").unlink(missing_ok=True)


@contextlib.contextmanager
def watched(ground: Ground, content: bytes = b"") -> Iterator[Watch]:
    """Fail if anything is done that may not be, or takes too long."""

    def hang(*_: object) -> None:
        raise Hang(f"more than {SECONDS} s")

    WATCH.allowed = tuple(f"{path}" for path in ground.allowed)
    WATCH.commands = list(_commands(content))
    WATCH.wrong, WATCH.started = [], []
    before = ground.state()
    earlier = signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    WATCH.on = True
    try:
        yield WATCH
    finally:
        WATCH.on = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
    # To make a folder where there is a file is tried, and fails.
    assert not [text for text in WATCH.wrong if not text.startswith("os.mkdir ") or os.path.isdir(text[9:])]  # noqa: PTH112
    after = ground.state()
    assert after == before, {name for name in {*before, *after} if before.get(name) != after.get(name)}


def _commands(content: bytes) -> Iterator[tuple[str, ...]]:
    """Find the commands that a file names, without the parser that is tested."""
    for text in re.findall(r"(?m)^[\s\ufeff]*on_(?:failure|success)\s*=(.*)$", content.decode("utf-8", "replace")):
        for shorter in (text, re.split(r"\s#", text)[0], text.rstrip("; \t")):  # as a spreadsheet ends its lines
            with contextlib.suppress(ValueError):
                if words := tuple(shlex.split(shorter)):
                    yield words


def quietly(call: Callable[[], object]) -> object:
    """Call, and let pass what is promised to be raised."""
    with contextlib.suppress(Sen2ChainError):
        return call()
    return None


def cli(*words: str, charset: str = "utf-8") -> str:
    """Call the command and return what it printed."""
    done = CliRunner(charset=charset).invoke(main, ["job", *words], catch_exceptions=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise AssertionError(f"job {words}: {done.exception!r}") from done.exception
    assert done.exit_code in {0, 1, 2, 3, 4, 5}, words
    assert "Traceback" not in done.output
    return done.output


def exercise(ground: Ground, content: str | bytes, *words: str) -> None:
    """Do with a file all that reads it."""
    filled = ground.write(content)
    with watched(ground, filled):
        for call in (
            lambda: JobExtraction(NAME).check(),
            lambda: JobExtraction(NAME).run(quiet=True, pauses=()),
            lambda: repr(JobExtraction(NAME)),
            lambda: JobExtraction(NAME).tasks,
        ):
            quietly(call)
        for word in words:
            cli(word, *([NAME] if word != "list" else []), *(["--quiet"] if word == "run" else []))
    assert ground.path.read_bytes() == filled
    if ground.logs.is_dir():
        records = [path for path in ground.logs.iterdir() if path.suffix == ".json"]
        for path in records:
            json.loads(path.read_text("utf-8"))
        for path in ground.logs.glob("*.log"):
            for text in path.read_text("utf-8").split("\n")[:-1]:
                assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", text), text


# ---------------------------------------------------------------------------------------------------------- the corpus

CORPUS = corpus()


@pytest.mark.parametrize("name", CORPUS)
def test_a_hostile_file_is_data(ground: Ground, name: str) -> None:
    # What prints is called for each, what has been done once without the command for a third.
    again = ("run", "check") if list(CORPUS).index(name) % 3 == 0 or len(CORPUS[name]) < 500 else ()
    exercise(ground, CORPUS[name], *again, "show", "list", "logs")
    assert not (ground.base / "pwned").exists()


def test_the_watch_sees_what_it_looks_for(ground: Ground, tmp_path: Path) -> None:
    for wrong in (
        lambda: (tmp_path / "a").write_text("x", "utf-8"),
        (tmp_path / "b").mkdir,
        lambda: os.system("true"),  # noqa: S605, S607
        lambda: (ground.base / "one.gpkg").rename(ground.base / "two.gpkg"),
        lambda: os.utime(ground.base / "secret", (1, 1)),
    ):
        with pytest.raises(AssertionError), watched(ground), contextlib.suppress(FileNotFoundError):
            wrong()
    (ground.base / "two.gpkg").rename(ground.base / "one.gpkg")
    with pytest.raises(AssertionError), watched(ground):
        (ground.base / "canary").symlink_to("x")
    (ground.base / "canary").unlink()
    with watched(ground):
        assert WATCH.started == []


def test_a_good_line_among_bad_ones_is_done(ground: Ground) -> None:
    bad = [line(copy_server="-e@h:x"), line(indices="X=__import__('os')"), line(shapefile="{T}/pipe"), '"', "; ;x"]
    content = job(*bad, line(copy_server="{T}/far/good"), line(copy_server="me@host:a b/$(id)/-rf"), *bad)
    exercise(ground, content, "check", "run")
    filled = ground.write(content)
    with watched(ground, filled) as seen:
        record = JobExtraction(NAME).run(quiet=True, pauses=())
    assert [done.status for done in record.lines] == ["failed"] * 5 + ["done"] * 2 + ["failed"] * 5
    assert list((ground.base / "far" / "good").rglob("*.csv"))
    assert [words[-1] for words in seen.started] == ["me@host:./a b/$(id)/-rf/./"]


def test_destinations_are_data_when_files_are_sent(ground: Ground) -> None:
    root = ground.base / "far" / "root"
    root.mkdir(exist_ok=True)
    names = ["a b;$(id).csv", "-rf.csv", "#x.csv"]
    for name in names:
        (root / name).write_text("x", encoding="utf-8")
    with watched(ground) as seen:
        for text in (*hostile_jobs.DESTINATIONS, *hostile_jobs.OPTIONS, *hostile_jobs.SHELL):
            place = os.fsdecode(ground.fill(text))
            quietly(lambda place=place: deliver(root, names, place, time_limit=5, pauses=()))  # type: ignore[misc]
    assert {words[0] for words in seen.started} == {"rsync"}
    assert len(seen.started) > 8


def test_commands_get_their_arguments_without_a_shell(ground: Ground) -> None:
    head = "on_failure = hook $(touch {T}/pwned) `id` ; | > {T}/pwned '* ~' %s \\; --x=$HOME\n"
    filled = ground.write(job(line(shapefile="nowhere"), head=head))
    with watched(ground, filled) as seen:
        record = JobExtraction(NAME).run(quiet=True, pauses=())
    pwned = f"{ground.base}/pwned"
    assert seen.started == [
        ["hook", "$(touch", f"{pwned})", "`id`", ";", "|", ">", pwned, "* ~", "%s", ";", "--x=$HOME", str(record.path)]
    ]
    assert not Path(pwned).exists()


def test_an_unreadable_file_touches_nothing(ground: Ground) -> None:
    before = sorted((ground.home / "data").rglob("*"))
    for name in ("UTF-16", "a picture", "no table", "too large", "a header twice"):
        filled = ground.write(CORPUS[name])
        if name == "a header twice":  # its second header is a line of the table
            continue
        with watched(ground, filled), pytest.raises(JobError):
            JobExtraction(NAME).run(quiet=True, pauses=())
    assert sorted((ground.home / "data").rglob("*")) == before


# ------------------------------------------------------------------------------------------------------------- changes


def _readable() -> list[str]:
    found = []
    for name, content in CORPUS.items():
        with contextlib.suppress(UnicodeError):
            text = content if isinstance(content, str) else content.decode()
            if 0 < len(text) < 200_000:
                found.append(name)
    return found


@pytest.mark.parametrize("part", range(4))
def test_a_change_keeps_all_other_bytes(ground: Ground, part: int) -> None:
    wrong = []
    for name in _readable()[part::4]:
        before = ground.write(CORPUS[name]).decode()
        found = JobExtraction(NAME)
        rows = len(found.tasks)
        number = found._file.rows[-1].line - 1 if rows else -1
        if rows:
            quietly(lambda found=found, rows=rows: found.task_edit(rows - 1, max_clouds="37"))  # type: ignore[misc]
        quietly(lambda found=found: setattr(found, "timing", "7 7 * * *"))  # type: ignore[misc]
        quietly(found.save)
        after = ground.path.read_bytes().decode()
        old, new = re.findall(r"[^\n]*\n|[^\n]+$", before), re.findall(r"[^\n]*\n|[^\n]+$", after)
        parsed = JobFile.parse(before)
        header = parsed.header - 1 if rows and "max_clouds" not in parsed.columns else -1
        changed = [
            at for at, text in enumerate(old) if at in {number, header} or re.match(r"[\s\ufeff]*timing\s*=", text)
        ]
        kept = [text.rstrip("\r\n") for at, text in enumerate(old) if at not in changed]
        rest = [text.rstrip("\r\n") for text in new]
        it = iter(rest)
        if not all(text in it for text in kept) or not len(old) <= len(new) <= len(old) + 1:
            wrong.append(f"{name}: lines")
        if rows and "max_clouds" in found._file.columns and "max_clouds" in JobFile.parse(before).rows[-1].cells:
            was, now = JobFile.parse(before).rows[-1], JobFile.parse(after).rows[-1]
            if now.text("max_clouds") != "37" or any(
                was.text(column) != now.text(column) for column in COLUMNS if column != "max_clouds"
            ):
                wrong.append(f"{name}: cells")
    assert not wrong


# ------------------------------------------------------------------------------------------------------------ the fuzz

_CELLS = st.sampled_from(TOKENS) | st.text(max_size=8) | st.sampled_from(["", "", "NDVI", CM004, "{L}", "today"])
_ROWS = st.builds(";".join, st.lists(_CELLS, min_size=1, max_size=11)) | st.builds(
    lambda cells: line(**cells), st.dictionaries(st.sampled_from(COLUMNS), _CELLS, max_size=3)
)
_HEADS = st.lists(
    st.builds("{} = {}".format, st.sampled_from([*hostile_jobs.SETTINGS, "process_by_line"]), _CELLS), max_size=3
)
_STRUCTURED = st.builds(
    lambda head, rows, end: end.join((*head, HEADER, *rows)) + end,
    _HEADS, st.lists(_ROWS, max_size=4), st.sampled_from(["\n", "\r\n"]),
)  # fmt: skip
_PIECES = re.compile(r"[;=\n\"]|[^;=\n\"]+")
_SMALL = sorted(name for name in _readable() if len(CORPUS[name]) < 1500)


@st.composite
def _mutated(draw: st.DrawFn) -> str:
    """Take a file, and delete, double, swap, splice and replace its pieces."""
    content = CORPUS[draw(st.sampled_from(_SMALL))] if draw(st.booleans()) else job(line(), line(date_min="today-9"))
    pieces = _PIECES.findall(content if isinstance(content, str) else content.decode())
    for _ in range(draw(st.integers(1, 6))):
        at, other = draw(st.integers(0, len(pieces))), draw(st.integers(0, len(pieces)))
        match draw(st.integers(0, 4)):
            case 0:
                del pieces[at : at + 2]
            case 1:
                pieces[at:at] = pieces[other : other + 4]
            case 2:
                pieces[at : at + 1], pieces[other : other + 1] = pieces[other : other + 1], pieces[at : at + 1]
            case 3:
                pieces.insert(at, draw(st.sampled_from(TOKENS)))
            case _:
                pieces[at : at + 1] = [draw(st.sampled_from(TOKENS))]
    return "".join(pieces)


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(content=_mutated() | _STRUCTURED | st.binary(max_size=200))
@example(content=job(line(copy_server="host:$(id)"), head="on_success = hook '$(id)'\n"))
@example(content="timing = $(id)\non_failure = {L};;2016-01-01;;CM004;NDVI;;monthly;;\n")
def test_no_file_does_harm(ground: Ground, content: str | bytes) -> None:
    exercise(ground, content, "run")
    assert not (ground.base / "pwned").exists()


# ------------------------------------------------------------------------------------------------ size, time and memory


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("logs = True" + " " * 100_000 + "x\n" + job(line(shapefile="x")), id="spaces"),
        pytest.param("on_failure = hook" + " #" * 20_000 + "\n" + job(line(shapefile="x")), id="marks"),
        pytest.param(job(";" * 50_000), id="cells"),
        pytest.param(job('"a' * 150_000 + ";"), id="quotes"),
        pytest.param(job(line(), header=HEADER + ";" * 30_000), id="columns"),
        pytest.param(job(*("!" * (i % 5 > 0) + line(shapefile=f"{i}") for i in range(10_000))), id="lines"),
        pytest.param("x\n" * 30_000 + job(), id="settings"),
        pytest.param(job(line(cloudmasks="/".join(f"CM003-PRB{i % 101}-ITER{i}" for i in range(20_000)),
                              date_max="2016-01-01")), id="masks"),
    ],
)  # fmt: skip
def test_large_files_take_no_long_time_and_little_room(ground: Ground, content: str) -> None:
    filled = ground.write(content)
    room = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    with watched(ground, filled):
        quietly(lambda: JobExtraction(NAME).check())
        quietly(lambda: JobExtraction(NAME).run(quiet=True, pauses=()))
        repr(JobExtraction(NAME))
    assert time.monotonic() - began < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - room < 500_000  # kilobytes
    written = sum(path.stat().st_size for path in ground.logs.rglob("*"))
    assert written < 20 * len(filled) + 100_000


# ----------------------------------------------------------------------------------------------------- around the file


@pytest.mark.parametrize("kind", ["folder", "pipe", "zero", "loop", "dangling", "locked"])
def test_what_is_no_file_is_no_job(ground: Ground, kind: str) -> None:
    path = ground.path
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "zero":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path.name)
        case "dangling":
            path.symlink_to("nowhere")
        case _:
            path.write_text(job(line()), encoding="utf-8")
            path.chmod(0)
    with watched(ground):
        for call in (
            lambda: JobExtraction(NAME).check(),
            lambda: JobExtraction(NAME).run(quiet=True, pauses=()),
            lambda: repr(JobExtraction(NAME)),
        ):
            quietly(call)
        for words in (("check", NAME), ("run", NAME, "--quiet"), ("show", NAME), ("list",)):
            cli(*words)


def test_names_of_files_in_the_folder_of_jobs_are_data(ground: Ground) -> None:
    names = (
        b"job_-rf.cfg", b"job_$(touch pwned).cfg", b"job_a;b.cfg", b"job_[b].cfg", b"job_a\nb.cfg", b"job_.cfg",
        b"job_\x1b]0;x\x07.cfg", b"job_caf\xe9.cfg", b"job_" + b"x" * 200 + b".cfg", b"job_..cfg", b"job_a%n.cfg",
        "job_\u202ex.cfg".encode(), b"job_x.cfg.cfg", b"job_a b.cfg", b"job_ok.cfg", b"job_{0}.cfg",
    )  # fmt: skip
    for name in names:
        Path(os.fsdecode(os.fsencode(ground.path.parent) + b"/" + name)).write_text(job(line()), encoding="utf-8")
    with watched(ground):
        assert {"ok", "x.cfg"} <= set(list_jobs())
        for known in list_jobs():
            assert re.fullmatch(r"\w[\w.-]*", known)
            with contextlib.suppress(Sen2ChainError):
                assert JobExtraction(known).tasks
        out = cli("list")
        for name in names:
            cli("check", os.fsdecode(name)[4:-4])
    assert "\x1b" not in out


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"status": ["x"], "started": 5, "job": 1, "log": 7}', id="types"),
        pytest.param(b'{"status": "done", "started": "x", "job": "a"}', id="time"),
        pytest.param(b'{"status": "[/x]", "started": "2021-01-01T00:00:00Z", "job": "a"}', id="markup"),
        pytest.param(b'{"status": "\\u001b[2J", "started": "2021-01-01T00:00:00Z", "job": "a"}', id="escape"),
        pytest.param(b'{"status": "done", "started": "2021-01-01T00:00:00Z", "job": "a", "log": "\\u0000"}', id="NUL"),
        pytest.param(b'{"status": "done", "started": "2021-01-01T00:00:00Z", "job": "a", "log": "PIPE"}', id="pipe"),
        pytest.param(b"\xff\xfe{}", id="bytes"),
        pytest.param(None, id="dangling"),
    ],
)
def test_hostile_records_are_data(ground: Ground, record: bytes | None) -> None:
    ground.write(job(line()))
    ground.logs.mkdir()
    path = ground.logs / f"job_{NAME}_last_run.json"
    if record is None:
        path.symlink_to("nowhere")
    else:
        path.write_bytes(record.replace(b"PIPE", os.fsencode(ground.base / "pipe")))
    with watched(ground):
        quietly(lambda: JobExtraction(NAME).last_run())
        quietly(lambda: JobExtraction(NAME).runs())
        for words in (("show", NAME), ("list",), ("logs", NAME)):
            assert "\x1b" not in cli(*words)


def test_a_log_that_is_no_text_is_shown_without_a_traceback(ground: Ground) -> None:
    ground.write(job(line()))
    log = Path(JobExtraction(NAME).run(quiet=True, pauses=()).log)
    log.write_bytes(b"2021 \xff\xfe\n\x1b]0;x\x07\n")
    cli("logs", NAME)


@pytest.mark.parametrize(
    "kind", ["file", "link out", "dangling", "lock is a folder", "lock is a pipe", "holder is a link"]
)
def test_hostile_folders_of_logs(ground: Ground, kind: str) -> None:
    ground.write(job(line()))
    match kind:
        case "file":
            ground.logs.write_text("x", encoding="utf-8")
        case "link out":
            (ground.base / "far" / "logs").mkdir(exist_ok=True)
            ground.logs.symlink_to(ground.base / "far" / "logs")
        case "dangling":
            ground.logs.symlink_to(ground.base / "nowhere")
        case _:
            ground.logs.mkdir()
    if kind == "lock is a folder":
        (ground.logs / ".lock").mkdir()
    elif kind == "lock is a pipe":
        os.mkfifo(ground.logs / ".lock")
    elif kind == "holder is a link":
        (ground.logs / ".lock-holder").symlink_to(ground.base / "secret")
    with watched(ground):
        quietly(lambda: JobExtraction(NAME).run(quiet=True, pauses=()))
        quietly(lambda: JobExtraction(NAME).is_running)
        quietly(lambda: JobExtraction(NAME).cron_enable())
        for words in (("run", NAME, "--quiet"), ("show", NAME), ("list",), ("logs", NAME)):
            cli(*words)


@pytest.mark.parametrize("when", ["@reboot", "99 99 * * *", "* * * * *;id"])
def test_a_hostile_crontab_keeps_no_job_from_being_listed(ground: Ground, when: str) -> None:
    ground.write(job(line()))
    with watched(ground):
        quietly(lambda: JobExtraction(NAME).cron_enable())
    table = ground.base / "state" / "table"
    table.write_text(table.read_text("utf-8").replace("0 0 * * *", when), encoding="utf-8")
    with watched(ground):
        assert "last run" in cli("list")  # the table's header, or what `show` says last
        assert "last run" in cli("show", NAME)


# ------------------------------------------------------------------------------------------ secrets, logs and terminals


LEAKS = (
    "user:{S}@host:path", "user:{S}@host/path", "user:{S}@host", "me@corp.org:{S}@host:x", "me:{S}@[::1]:x",
    "me:{S}@host:~other/x", "me:{S}@ho st:x", "htp:/user:{S}@host", "htp:/{S}@host/x", "htp//{S}@host/x",
    "https:/host/x?sig={S}", "https//user:{S}@host/x", "://user:{S}@host/x", "//user:{S}@host/x", "//{S}@host/x",
    "/user:{S}@host/x", "~user:{S}@host/x", "~/user:{S}@host/x", "file://user:{S}@host/x", "file:///x?sig={S}",
    "ftp://user:{S}@127.0.0.1:1/x", "ftp://{S}@127.0.0.1:1/", "ftp://{S}:@127.0.0.1:1/x", "ftp://{S}:x@127.0.0.1:1/x",
    "ftp://127.0.0.1:1/x?token={S}", "ftp://127.0.0.1:1/x#{S}", "https://{S}@127.0.0.1/", "https://a/x?a=1&sig={S}#b",
    "s3://key:{S}@bucket/x", "s3://:{S}@bucket/x", "s3:/key:{S}@bucket/x", "a::ftp://me:{S}@host/x",
    "ftp://me:{S}%40host/x", "ftp://me:/{S}%40host/x", "s3://me:{S}%40bucket/x",
    "sftp://me:{S}", "rsync://me:{S}@host/x", "nosuch://me:{S}@host/x", "a_b://me:{S}@host/x", "memory://me:{S}@host",
)  # fmt: skip
"""Destinations, right and mistyped, with a secret {S}."""


@pytest.mark.parametrize("secret", ["S3CRET", "pa/S3CRET;x"])
def test_secrets_are_nowhere(ground: Ground, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on the screen, in log, record, registry or arguments, nor is one looked up on the network."""
    hosts: list[str] = []

    def look_up(host: Any, *_: object, **__: object) -> list[Any]:
        hosts.append(str(host))
        raise socket.gaierror(socket.EAI_NONAME, f"{host} is not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    places = [place.replace("{S}", secret) for place in LEAKS]
    cells = ['"' + place + '"' for place in places]
    wrong = [line(**{column: cell}) for column in COLUMNS[:-1] for cell in cells[::9]]
    end = [f"{line()};{cells[0]}", f"{line(copy_server=cells[0][:-1])}", "\u202e" + line(copy_server=cells[0])]
    ground.write(job(*(line(copy_server=cell, indices="BIRNIR") for cell in cells), *wrong, *end))
    shown: list[str] = []
    with watched(ground):
        shown += [str(JobExtraction(NAME).check()), repr(JobExtraction(NAME)), cli("show", NAME)]
        record = JobExtraction(NAME).run(quiet=True, pauses=(), echo=shown.append)
        shown += [cli("logs", NAME)]
    kept = [path for path in ground.logs.parent.rglob("*") if path.is_file()]
    assert {"destinations.json", Path(record.log).name} <= {path.name for path in kept}
    shown += [path.read_text("utf-8") for path in kept]
    shown += hosts + [" ".join(words) for words in WATCH.started]
    leaks = {text for part in shown for text in re.findall(r".{0,60}S3CRET.{0,20}", part)}
    assert not leaks
    assert set(hosts) <= {"127.0.0.1"}


@pytest.mark.parametrize("wrong", ["copy_server = {S}", "{S}", "lakes.shp;2021;{S}", "on_failure = 'x {S}"])
def test_secrets_of_a_file_that_cannot_be_used_are_nowhere(ground: Ground, wrong: str) -> None:
    for place in LEAKS[::7]:
        ground.write(job(line(), head=wrong.replace("{S}", place.replace("{S}", "S3CRET")) + "\n"))
        with watched(ground, b"x"):
            shown = [str(JobExtraction(NAME).check()), repr(JobExtraction(NAME)), cli("run", NAME), cli("list")]
        assert not [part for part in shown if "S3CRET" in part], place


@given(st.sampled_from(LEAKS), st.text("ab/@:?#%;.~\\* \n", max_size=6), st.text("ab/@:?#%;.~\\* \n", max_size=6))
def test_no_text_about_a_destination_has_its_secret(place: str, before: str, after: str) -> None:
    assume("@" not in before)  # then it would be a host
    text = place.replace("{S}", f"{before}S3CRET{after}")
    shown = [hidden(text)]
    try:
        found = parse_destination(text)
    except Sen2ChainError as error:
        shown.append("".join(traceback.format_exception(error)))
    else:
        shown += [str(found), repr(found), same_place(found)]
        if isinstance(found, Bucket):
            shown.append(found.without_secrets(f"cannot open {found.url!r}: {text}"))
    assert not [part for part in shown if "S3CRET" in part]


def test_secrets_are_not_shown_with_the_job(ground: Ground) -> None:
    ground.write(job(line(copy_server="s3://key:SECRET@bucket/x")))
    assert "SECRET" not in repr(JobExtraction(NAME))
    assert "SECRET" not in cli("show", NAME)


def test_what_a_command_says_cannot_steer_the_terminal_or_the_log(ground: Ground) -> None:
    (ground.base / "bin" / "hook").write_text(
        "#!/bin/sh\nprintf 'x\\r\\n2021-01-01T00:00:00Z forged \\033]0;x\\007\\033[2J\\302\\233' >&2\nexit 3\n", "utf-8"
    )
    filled = ground.write(job(line(), head="on_success = hook\nlogs = True\n"))
    said: list[str] = []
    try:
        with watched(ground, filled):
            record = JobExtraction(NAME).run(quiet=True, pauses=(), echo=said.append)
    finally:
        (ground.base / "bin" / "hook").write_text("#!/bin/sh\n", encoding="utf-8")
    text = Path(record.log).read_text("utf-8")
    assert "forged" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text + "".join(said))


def test_a_command_that_leaves_something_behind_does_not_hold_the_run(ground: Ground) -> None:
    (ground.base / "bin" / "hook").write_text("#!/bin/sh\n/bin/sleep 2 &\n", "utf-8")
    filled = ground.write(job(line(shapefile="x"), head="on_failure = hook\n"))
    began = time.monotonic()
    try:
        with watched(ground, filled):
            JobExtraction(NAME).run(quiet=True, pauses=())
    finally:
        (ground.base / "bin" / "hook").write_text("#!/bin/sh\n", encoding="utf-8")
    assert time.monotonic() - began < 1.8


@pytest.mark.parametrize("name", ["UTF-16", "latin-1", "too large", "nothing", "no table"])
def test_a_file_that_cannot_be_used_has_the_exit_code_for_it(ground: Ground, name: str) -> None:
    ground.write(CORPUS[name])
    with watched(ground):
        for words in (["check", NAME], ["run", NAME, "--quiet"]):
            assert CliRunner().invoke(main, ["job", *words]).exit_code == 2, words


def test_who_watches_cannot_stop_a_run(ground: Ground) -> None:
    filled = ground.write(
        job(line(), line(indices="BIRNIR"), head="logs = True\non_failure = hook\non_success = hook\n")
    )

    def broken(_: str) -> None:
        raise UnicodeEncodeError("ascii", "\xe9", 0, 1, "the terminal knows no such letter")

    with watched(ground, filled) as seen, contextlib.suppress(UnicodeEncodeError):
        JobExtraction(NAME).run(quiet=True, pauses=(), echo=broken)
    last = JobExtraction(NAME).last_run()
    assert last is not None
    assert last["status"] != "running"
    assert [words[0] for words in seen.started] == ["hook"]


@pytest.mark.parametrize("charset", ["ascii", "latin-1"])
def test_a_terminal_without_many_letters_gets_no_traceback(ground: Ground, charset: str) -> None:
    (ground.path.parent / "job_\u03a9.cfg").write_text(job(line()), encoding="utf-8")
    ground.write(job(line(shapefile="\u03a9mega\u202e.shp"), line(indices="\u03a9")))
    with watched(ground):
        for words in (("check", NAME), ("run", NAME), ("show", NAME), ("logs", NAME), ("list",)):
            cli(*words, charset=charset)


def test_values_from_python_that_no_file_can_hold_are_refused(ground: Ground) -> None:
    ground.write(job(line()))
    before = ground.path.read_bytes()
    for value in ("a\nb", "a\rb", "a\x00", "a\u2028b", "caf\udce9.shp", "\ufeff#x", "a\x1b[2J"):
        found = JobExtraction(NAME)
        with pytest.raises(RequestError):
            found.task_edit(0, copy_server=value)
        with pytest.raises(RequestError):
            found.on_failure = value
        found.save()
    assert ground.path.read_bytes() == before
    found = JobExtraction(NAME)
    for value in ("#x", "!x", '"x', "  #x", "\u3000#x", "x;y", '"'):
        found.task_edit(0, shapefile=value)
        assert len(found.tasks) == 1, value
        assert found.tasks[0]["shapefile"].strip() == value.strip(), value


def test_a_comment_after_an_empty_setting_is_no_command(ground: Ground) -> None:
    ground.write(job(line(), head="on_success = # hook me\nlogs = # yes\n"))
    assert JobExtraction(NAME).on_success == ""


def test_saving_through_a_link_keeps_the_link(ground: Ground) -> None:
    target = ground.path.parent / "mine.cfg"
    target.write_text(job(line()), encoding="utf-8")
    ground.path.symlink_to(target)
    found = JobExtraction(NAME)
    found.timing = "7 7 * * *"
    found.save()
    assert ground.path.is_symlink()
    assert "timing = 7 7" in target.read_text("utf-8")


def test_lines_that_spell_one_destination_in_two_ways_do_not_overwrite_each_other(ground: Ground) -> None:
    (ground.base / "far" / "layer").mkdir(exist_ok=True)
    other = ground.base / "far" / "layer" / "parcels.gpkg"
    shutil.copy(ground.layer, other)
    import geopandas as gpd  # noqa: PLC0415  # heavy

    gpd.read_file(other).iloc[:1].to_file(other)
    places = ("host:x", "host:./x", "host:x/", "host:y/../x")
    rows = [line(copy_server=places[0]), *(line(shapefile=str(other), copy_server=place) for place in places[1:])]
    filled = ground.write(job(*rows))
    with watched(ground, filled) as seen:
        JobExtraction(NAME).run(quiet=True, pauses=())
    assert len(seen.started) == 1
