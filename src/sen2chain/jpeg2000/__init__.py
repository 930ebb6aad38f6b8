"""Windows of JPEG 2000 rasters by code-block: only those that needed pixels lie in are decoded, by OpenJPEG.

`openjpeg` finds the library. `file_bytes` reads the file, also inside of a zip file; `codestream` finds the code of
each tile in it, `window_order` the windows that are decoded of a tile, and `tile_decoder` decodes them. `decoding`
holds these together. Forms of JPEG 2000 that are not known here are left to GDAL.
"""

from __future__ import annotations

from sen2chain.jpeg2000.codestream import Box, UnknownFormError
from sen2chain.jpeg2000.decoding import Jpeg2000Windows
from sen2chain.jpeg2000.file_bytes import open_bytes
from sen2chain.jpeg2000.openjpeg import library

__all__ = ["Box", "Jpeg2000Windows", "UnknownFormError", "library", "open_bytes"]
