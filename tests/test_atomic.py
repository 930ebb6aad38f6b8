from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sen2chain import atomic
from sen2chain.atomic import (
    FileGroup,
    check_folder,
    is_abandoned,
    is_temporary,
    move_to_new_name,
    replacing,
    temporary,
    temporary_name,
)
from sen2chain.errors import OutputError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path, note = tmp_path / "a.csv", tmp_path / "a.json"
    with replacing(path, {note: b"{}"}) as file:
        file.write(b"1")
        assert all(map(is_temporary, names(tmp_path)))
    assert (path.read_bytes(), note.read_bytes()) == (b"1", b"{}")
    assert names(tmp_path) == ["a.csv", "a.json"]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"before")

    def fail() -> None:
        with replacing(path, {tmp_path / "a.json": b"{}"}) as file:
            file.write(b"after")
            raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        fail()
    assert path.read_bytes() == b"before"
    assert names(tmp_path) == ["a.csv"]


def test_files_written_piece_by_piece_appear_together(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.csv" for n in range(3)]
    with FileGroup(tmp_path) as files:
        for piece in (b"1", memoryview(b"2"), b"3"):
            for path in paths:
                files.append(path, piece)
        assert all(map(is_temporary, names(tmp_path)))
        assert len(names(tmp_path)) == 3
        files.finish()
    assert [path.read_bytes() for path in paths] == [b"123"] * 3
    with FileGroup(tmp_path) as files:
        files.append(paths[0], b"other")
    assert paths[0].read_bytes() == b"123"
    assert names(tmp_path) == ["0.csv", "1.csv", "2.csv"]


def test_more_files_than_may_be_open_at_once(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from sen2chain.atomic import FileGroup
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
with FileGroup(Path(sys.argv[1])) as files:
    for piece in range(2):
        for n in range(400):
            files.append(Path(sys.argv[1]) / f"{n}.csv", b"x")
    files.finish()
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)  # noqa: S603  # our own interpreter
    assert len(names(tmp_path)) == 400


@pytest.mark.parametrize("step", ["write", "finish"])
def test_a_full_disk_is_told_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a.csv"

    def fail() -> None:
        with FileGroup(tmp_path) as files:
            files.append(path, b"1")
            if step == "finish":
                monkeypatch.setattr(atomic, "sync", full)
            else:
                monkeypatch.setattr(Path, "open", full)
            files.append(path, b"2")
            files.finish()

    with pytest.raises(OutputError, match=r"No room is left on the disk for .*a\.csv"):
        fail()
    assert names(tmp_path) == []


def test_a_folder_is_proved_without_a_name_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(names(tmp_path / "a" / "b")))
    assert check_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert seen == [[]]  # a run that is killed here leaves nothing
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"Cannot write .*file"):
        check_folder(tmp_path / "file" / "below")


def test_temporary_names_are_known_from_others(tmp_path: Path) -> None:
    assert is_temporary(temporary(tmp_path / "a.csv").name)
    assert temporary(tmp_path / "a.csv").parent == tmp_path
    for name in ("a.tmp", ".a.tmp", ".0123456789abcdef.tmp~", "0123456789abcdef.tmp"):
        assert not is_temporary(name)


def test_what_a_killed_writer_left_is_swept_and_what_is_being_written_stays(tmp_path: Path) -> None:
    code = "import sys, pathlib, sen2chain.atomic as a; p = a.temporary(pathlib.Path(sys.argv[1])); p.touch(); print(p)"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "x.csv")], stdout=subprocess.PIPE, text=True)  # noqa: S603  # our own interpreter
    dead = Path(process.communicate()[0].strip())
    living, others = temporary(tmp_path / "x.csv"), tmp_path / ".0123456789abcdef-00000000-1.tmp"
    old, foreign = tmp_path / ".0123456789abcdef.tmp", tmp_path / ".somebody's.tmp"
    for path in (living, others, old, foreign):
        path.touch()
    os.utime(old, (1, 1))
    os.utime(foreign, (1, 1))
    assert dead.exists()
    check_folder(tmp_path)
    assert {path for path in (dead, living, others, old, foreign) if path.exists()} == {living, others, foreign}


@pytest.mark.skipif(sys.platform != "linux", reason="only there it can be seen")
def test_a_killed_process_that_nobody_asked_for_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:  # our own interpreter
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_abandoned(temporary_name().replace(f"-{os.getpid()}.", f"-{process.pid}."))


def test_a_file_is_never_moved_onto_itself(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    file = tmp_path / "folder" / "a.jp2"
    file.write_bytes(b"pixels")
    for same in (file, tmp_path / "link" / "a.jp2", tmp_path / "folder" / ".." / "link" / "a.jp2"):
        with pytest.raises(OutputError, match="the same place"):
            move_to_new_name(file, same)
        assert file.read_bytes() == b"pixels"
