"""Suggestions for unknown keywords: names that are misspelled, or that other tools use."""

from __future__ import annotations

import difflib
import functools
import inspect
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from sen2chain.errors import UnknownKeywordError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")

# Too far from the right one for a comparison of letters.
_MEANT = {
    "mask": ("masks",), "index": ("indices",), "indexes": ("indices",), "cloud_mask": ("masks",),
    "start": ("date_min", "datemin"), "date_start": ("date_min", "datemin"), "start_date": ("date_min", "datemin"),
    "date_from": ("date_min", "datemin"), "first": ("date_min", "datemin"), "begin": ("date_min", "datemin"),
    "end": ("date_max", "datemax"), "date_end": ("date_max", "datemax"), "end_date": ("date_max", "datemax"),
    "date_to": ("date_max", "datemax"), "last": ("date_max", "datemax"), "stop": ("date_max", "datemax"),
    "cloud_cover": ("cover_max",), "max_clouds": ("cover_max",), "max_cloud_cover": ("cover_max",),
    "file": ("vectors_file",), "shapefile": ("vectors_file",), "vector": ("vectors_file",),
    "workers": ("multiproc",), "multiproc": ("workers",), "threads": ("multiproc", "workers"),
    "n_jobs": ("multiproc", "workers"), "nb_proc": ("multiproc", "workers"), "tile": ("tiles",),
    "cm_version": ("masks",), "only": ("parts",), "part": ("parts",),
    "field": ("field_names",), "archive": ("library",), "statistics": ("stats",), "iter": ("iterations",),
    "all": ("alldata",), "all_data": ("alldata",), "smooth": ("smoothing",), "format": ("formats", "mask_format"),
    "all_touched": ("pixels",), "replace": ("overwrite",),
}  # fmt: skip


def suggest_keywords(function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """Decorate a method so that the error about an unknown keyword names the keyword that is probably meant."""
    known = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY} and name != "self"
    ]
    method = f".{function.__name__}".removesuffix(".__init__")

    @functools.wraps(function)
    def checked(*arguments: Parameters.args, **keywords: Parameters.kwargs) -> Returned:
        for name in keywords:
            if name not in known:
                raise UnknownKeywordError(f"{type(arguments[0]).__name__}{method}", name, known, meant(name, known))
        return function(*arguments, **keywords)

    return checked


def meant(name: str, known: Collection[str]) -> str:
    """Return the known keyword that is most similar to an unknown one; an empty text where none is similar."""
    plain = name.lower().strip("_")
    said = [word for word in _MEANT.get(plain, ()) if word in known]
    near = difflib.get_close_matches(plain, known, n=1, cutoff=0.7)
    return next(iter([*said, *near]), "")
