"""Signatures of requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sen2chain.remote.access import Access


@dataclass(frozen=True, slots=True)
class Signed:
    """How a file is asked for; nothing secret is in its repr."""

    url: str
    """Address without query."""
    query: str = field(default="", repr=False)
    """Query with the signature."""
    token: str = field(default="", repr=False)
    """What was signed with, so that it is renewed once when many requests fail at a time."""
    trusted: bool = False
    """Whether the host is one that the user's settings name."""


class Signer(Protocol):
    """Signs the requests for files."""

    def sign(self, location: str) -> Signed:
        """Return how a file is asked for."""

    def headers(self, signed: Signed, path: str, authority: str) -> Mapping[str, str]:
        """Return the headers of one request for it."""

    def renew(self, signed: Signed, region: str) -> bool:
        """Sign anew after a refusal; returns whether a second request makes sense.

        Parameters
        ----------
        signed
            What was refused.
        region
            Region that the answer of an S3 server named.
        """


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
        """Return False."""
        return False


def signer(location: str, access: Access, query: str = "") -> Signer:
    """Return what signs the requests for a file.

    Parameters
    ----------
    location
        The file, without query.
    access
        How it is reached.
    query
        Query that its href came with; empty: as `access` has it.
    """
    return Plain(query or access.queries.get(location, ""))
