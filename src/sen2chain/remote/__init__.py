"""Files on servers: ranges of bytes over HTTP and S3, with signatures, retries, and a rule for which hosts are read.

GDAL never touches the network: `rasters` and `jpeg2000` read the ranges that are fetched here. So the number of
requests, retries, pauses, signatures, allowed hosts and secrets are decided in one place.
"""

from __future__ import annotations

from sen2chain.remote.access import Access, Stop, check_href, is_remote, split_query
from sen2chain.remote.remote_file import RemoteFile, fetch_document, open_remote, requests_for
from sen2chain.remote.traffic import Traffic, counting

__all__ = [
    "Access",
    "RemoteFile",
    "Stop",
    "Traffic",
    "check_href",
    "counting",
    "fetch_document",
    "is_remote",
    "open_remote",
    "requests_for",
    "split_query",
]
