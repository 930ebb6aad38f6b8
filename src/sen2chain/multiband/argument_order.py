"""The order of arguments: rasters come first and the layer last, and a sentence tells where they were mixed up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sen2chain.errors import IncompleteLayerError, LayerError, RasterError, RequestError
from sen2chain.parallel import apart, recorded_warnings
from sen2chain.rasters import ANY_FORMAT_OPTIONS, BandStack, as_text, environment, local_location
from sen2chain.vectors import read_layer

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

_HOW = "name the rasters first, and the layer last"


def mixed_up(rasters: Sequence[str | os.PathLike[str]], layer: Any, crs: str | None = None) -> str:
    """Return that a raster was given as the layer, or a layer as a raster, in a sentence; empty where neither was.

    Parameters
    ----------
    rasters
        What was given as rasters and cannot be opened, or may be a layer.
    layer
        What was given as the layer.
    crs
        CRS of rasters that have none.
    """
    no_raster = next((as_text(raster) for raster in rasters if _is_layer(raster)), "")
    is_path = isinstance(layer, str) or hasattr(layer, "__fspath__")
    no_layer = as_text(layer) if is_path and _is_raster(layer, crs) else ""
    if no_raster and no_layer:
        return f"{no_raster} is a layer, and {no_layer} is a raster; {_HOW}."
    if no_layer:
        return f"{no_layer} was given as the layer, and is a raster; {_HOW}."
    return f"{no_raster} was given as a raster, and is a layer; {_HOW}." if no_raster else ""


def _is_raster(path: str | os.PathLike[str], crs: str | None) -> bool:
    def opens() -> bool:
        with environment(options=ANY_FORMAT_OPTIONS), recorded_warnings():
            try:
                BandStack(local_location(path), crs).close()
            except (RasterError, RequestError):
                return False
        return True

    return apart(opens)


def _is_layer(path: str | os.PathLike[str]) -> bool:
    try:
        read_layer(path)
    except IncompleteLayerError:
        return True
    except (LayerError, RequestError):
        return False
    return True
