"""Identity tokens of files on disk and in zip files: name, size, time of change, and content where that is needed.

The content is compared by a digest of parts: of the whole file up to one MiB, else of 17 blocks spread evenly over it.
So a copied archive, whose files have new times, is recognised.

A file that was changed within the last two seconds may change again under the same time (the resolution of some file
systems), so the SHA-256 of its whole content is compared.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from sen2chain.archive.file_contents import file_of
from sen2chain.files import is_young, open_regular
from sen2chain.products import OF_PARTS, IdentityToken

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_WHOLE = 1 << 20  # bytes up to which all of a file counts
_BLOCKS, _BLOCK = 17, 1 << 14  # an odd number, so that one lies in the middle
_DIGITS = 32


class FileIdentity:
    """The part of a source that tells whether its files have changed; for sources whose locations are files."""

    def identify(self, locations: Iterable[str], contents: Collection[str] | None = None) -> dict[str, IdentityToken]:
        """Look at files, see `sen2chain.products.Source.identify`."""
        hashed: dict[str, str] = {}  # all files of a zipped product lie in one
        return {
            location: _look(location, hashed, None if contents is None else location in contents)
            for location in locations
        }

    def digest(self, location: str) -> str:
        """Return the digest of parts of a file, see `sen2chain.products.Source.digest`."""
        return digest_of_parts(location)


def _look(location: str, hashed: dict[str, str], whole: bool | None) -> IdentityToken:  # noqa: FBT001  # inner loop
    """Look at a file.

    Parameters
    ----------
    location
        The file.
    hashed
        File -> its SHA-256, kept from one location to the next.
    whole
        Whether the SHA-256 of its content is added; None adds it where the file is young.
    """
    name = os.path.basename(location)  # noqa: PTH119  # thousands of texts, some of them no paths
    try:
        file = file_of(location)
        facts = os.stat(file)  # noqa: PTH116
    except (OSError, ValueError):
        return IdentityToken(name)
    content = ""
    if whole or (whole is None and is_young(facts)):
        content = hashed[file] = hashed.get(file) or _sha256(file)
    return IdentityToken(name, facts.st_size, facts.st_mtime_ns, content, facts.st_ctime_ns)


def _sha256(file: str) -> str:
    try:
        with open_regular(file) as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return "unreadable"


def digest_of_parts(location: str) -> str:
    """Return a digest of the content of a small file, or of blocks of a large one; "" where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open_regular(file_of(location)) as file:
            size = os.fstat(file.fileno()).st_size
            if size <= _WHOLE:
                digest.update(file.read())
            else:
                for n in range(_BLOCKS):
                    file.seek((size - _BLOCK) * n // (_BLOCKS - 1))
                    digest.update(file.read(_BLOCK))
    except OSError:
        return ""
    return f"{OF_PARTS}{digest.hexdigest()[:_DIGITS]}"
