"""Files of kept pixels as zip files whose members are stored as they are, each with its checksum.

Members have been compressed before, so that zip adds none of its own: no member can grow when it is read.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from sen2chain.errors import KeptPixelsError, PixelFormatError
from sen2chain.files import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import IO

_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\5\6"
_LARGEST_DIRECTORY = 1 << 20  # bytes; a member takes about 60
_LARGEST_FACTS = 4 << 20
_AGAIN = (
    "update the layer with keep_pixels and verify='first' (sen2chain update LAYER --keep-pixels --verify) to read "
    "these pixels from the archive again"
)


def write_members(members: Mapping[str, bytes]) -> bytes:
    """Return a file of some members; the same members give the same bytes."""
    memory = io.BytesIO()
    try:
        with zipfile.ZipFile(memory, "w", zipfile.ZIP_STORED, allowZip64=False) as file:
            for name, content in members.items():
                file.writestr(zipfile.ZipInfo(name), content)
    except zipfile.LargeZipFile as error:
        raise KeptPixelsError("More than 4 GB of pixels of one acquisition cannot be kept in a file.") from error
    return memory.getvalue()


def to_json(facts: Mapping[str, Any]) -> bytes:
    """Return facts as the content of a member."""
    return json.dumps(facts, ensure_ascii=True, separators=(",", ":")).encode("ascii")


class StoredMembers:
    """The members of an open file; they may be read in several threads.

    Parameters
    ----------
    name
        The file, for messages.
    file
        Its bytes; closed with this object.

    Raises
    ------
    KeptPixelsError
        If it is not such a file, or cut off.
    """

    def __init__(self, name: str, file: IO[bytes]) -> None:
        self.name, self._file = name, file
        try:
            with self.reading():
                _check_end(file)
                self._zip = zipfile.ZipFile(file)
                infos = self._zip.infolist()
        except KeptPixelsError:
            file.close()
            raise
        self._infos = {info.filename: info for info in infos}
        is_plain = all(i.compress_type == zipfile.ZIP_STORED and i.file_size == i.compress_size for i in infos)
        if len(self._infos) != len(infos) or not is_plain:
            self.close()
            raise self.damaged("its members are not as sen2chain writes them")

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a file on disk; errors as of the class."""
        try:
            file = open_regular(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            gone = isinstance(error, FileNotFoundError)
            how = "run again if an update has just replaced the file, or else " if gone else ""
            raise KeptPixelsError(f"Kept pixels {path} cannot be read: {reason}; {how}{_AGAIN}.") from error
        return cls(str(path), file)

    def __contains__(self, member: object) -> bool:
        return member in self._infos

    def read(self, member: str, largest: int) -> bytes:
        """Return the content of a member, compared with its checksum.

        Parameters
        ----------
        member
            Its name.
        largest
            Bytes that it may have at most.

        Raises
        ------
        KeptPixelsError
            If it is missing, larger, or damaged.
        """
        info = self._infos.get(member)
        if info is None:
            raise self.damaged(f"{member} is missing")
        if info.file_size > largest:
            raise self.damaged(f"{member} is larger than it can be")
        with self.reading():
            return self._zip.read(info)

    def read_all(self) -> dict[str, bytes]:
        """Return the content of all members; errors as of `read`."""
        return {name: self.read(name, info.file_size) for name, info in self._infos.items()}

    def facts(self, member: str) -> dict[str, Any]:
        """Return a member of `to_json`; errors as of `read`."""
        with self.reading():
            found = json.loads(self.read(member, _LARGEST_FACTS))
        if not isinstance(found, dict):
            raise self.damaged(f"{member} is not a table of facts")
        return found

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn the errors of a file that is read into a `KeptPixelsError`, which names it."""
        try:
            yield
        except KeptPixelsError:
            raise
        except (
            OSError, ValueError, TypeError, LookupError, EOFError, RuntimeError, OverflowError, struct.error,
            zipfile.BadZipFile,
        ) as error:  # fmt: skip
            raise self.damaged(str(error) or type(error).__name__) from error

    def damaged(self, what: str) -> KeptPixelsError:
        """Return the error for a file that is not as it was written."""
        return KeptPixelsError(f"Kept pixels {self.name} are damaged ({what}); {_AGAIN}.")

    def other_format(self, found: object, own: int) -> PixelFormatError:
        """Return the error for a file of another version of the format."""
        from_other = f"have the format {found!r} of another version of sen2chain, and this one reads format {own}"
        return PixelFormatError(
            f"Kept pixels {self.name} {from_other}; update sen2chain, or drop them (drop_pixels(), sen2chain pixels "
            "--drop) and keep them again."
        )

    def close(self) -> None:
        """Close the file."""
        self._zip.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_end(file: IO[bytes]) -> None:
    """Check the end of a file before zipfile looks for it: a comment or a huge directory is not ours."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(size - _END.size, 0))
    end = file.read(_END.size)
    if len(end) < _END.size:
        raise ValueError("it is empty or cut off")
    signature, disk, first_disk, here, count, length, offset, comment = _END.unpack(end)
    if signature != _END_SIGNATURE or comment:
        raise ValueError("it is cut off, or another kind of file")
    if disk or first_disk or here != count or length > _LARGEST_DIRECTORY or offset + length + _END.size != size:
        raise ValueError("its directory is not as sen2chain writes it")
