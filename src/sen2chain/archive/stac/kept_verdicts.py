"""What pixels of items showed of their offsets, kept from run to run, so that a later run reads no pixels for it.

An entry is a line of a file; 256 files share the items. Several processes append at once. A line that was torn or
damaged fails its checksum and does not count, so that its item is looked at again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import zlib
from typing import TYPE_CHECKING

from sen2chain import cache
from sen2chain.archive.offset_check import Verdict
from sen2chain.files import read_limited
from sen2chain.parallel import Memo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CALIBRATION = "1"  # a new one forgets all verdicts; change it with the limits in `offset_check`
_LARGEST = 1 << 18  # bytes of a file; about 5000 items, 1.3 million in all files
_MOST = 1 << 17  # verdicts in memory
_LINE = re.compile(rb"^([0-9a-f]{32}) ([a-z]+) ([0-9a-f]{8})$", re.MULTILINE)

_known: dict[tuple[str, str], Verdict] = {}
_memo = Memo(_known)


def once(folder: Path, identity: str, look: Callable[[], Verdict]) -> Verdict:
    """Return the verdict on an item; the pixels are looked at where neither this process nor the folder knows it.

    Parameters
    ----------
    folder
        Folder of the files, created if absent. Where it cannot be written, only this process keeps the verdict.
    identity
        Text that changes with the item and its version.
    look
        Looks at the pixels. What it raises is not kept.
    """
    key = hashlib.sha256(f"{_CALIBRATION} {identity}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
    path = folder / f"{key[:2]}.txt"

    def make() -> Verdict:
        kept = _read(path).get(key)
        if kept is not None:
            return kept
        found = look()
        _append(path, key, found)
        return found

    found = _memo.once((str(folder), key), make)
    if len(_known) > _MOST:
        with _memo.lock:
            _known.clear()
    return found


def _read(path: Path) -> dict[str, Verdict]:
    """Return the entries of a file, the last of each item; none where it cannot be read."""
    try:
        content = read_limited(path, 2 * _LARGEST)
    except OSError:
        return {}
    found = {}
    for key, word, checksum in _LINE.findall(content):
        if int(checksum, 16) == zlib.crc32(key + word):
            with contextlib.suppress(ValueError):
                found[key.decode()] = Verdict(word.decode())
    return found


def _append(path: Path, key: str, verdict: Verdict) -> None:
    """Add an entry; where that fails, the next run looks at the pixels again."""
    line = _line(key, verdict)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        # One call in append mode: lines of several processes follow each other.
        target = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            # The line may follow one that was torn.
            os.write(target, b"\n" + line)
            size = os.fstat(target).st_size
        finally:
            os.close(target)
        if size > _LARGEST:
            _shorten(path)


def _shorten(path: Path) -> None:
    """Drop the older half of a file's entries. What another process appends meanwhile may be lost and found again."""
    entries = list(_read(path).items())
    cache.save_bytes(path, b"".join(_line(key, verdict) for key, verdict in entries[len(entries) // 2 :]))


def _line(key: str, verdict: Verdict) -> bytes:
    start, word = key.encode(), verdict.encode()
    return b"%s %s %08x\n" % (start, word, zlib.crc32(start + word))
