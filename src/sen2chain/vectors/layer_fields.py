"""Attributes of a layer that a user names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sen2chain.errors import LayerError, items_of, quoted

if TYPE_CHECKING:
    from sen2chain.vectors.layer import Layer


def named_fields(layer: Layer, keyword: str, wanted: Any) -> tuple[str, ...]:
    """Return the attributes that a keyword names, under the names they have in the layer.

    Raises
    ------
    LayerError
        If the layer lacks one of them.
    """
    if wanted is None:
        return ()
    found = []
    for name in [wanted] if isinstance(wanted, str) else items_of(keyword, wanted, "the name of an attribute"):
        field = next((text for text in (name, f"attr_{name}") if text in layer.attributes), None)
        if field is None:
            listing = ", ".join(layer.attributes.columns) or "none"
            raise LayerError(f"{keyword}: {layer.name} has no attribute {quoted(name)}; its attributes are: {listing}.")
        found.append(field)
    return tuple(found)
