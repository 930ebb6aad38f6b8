"""The plan of a production: which files a request asks for, and for each whether and why it is made.

No pixel is read and nothing is written. Rasters that exist are judged by their tags, which the source keeps from run to
run, so that planning opens no file the second time.
"""

from __future__ import annotations

import enum
import hashlib
import json
import shutil
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from sen2chain.archive.library_tree import index_file, mask_file, quicklook_file
from sen2chain.errors import RequestError, UnknownNameError
from sen2chain.files import is_file
from sen2chain.masks import NO_MASK, Mask
from sen2chain.plan import MaskKind, ValueKind, resolve_mask, resolve_sources
from sen2chain.progress import counted, sized
from sen2chain.raster_tags import FROM_BANDS, FROM_LOSSY, RULES
