"""`sen2chain indices`: every index that has a name, with its formula and where it was published."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from sen2chain.cli.click_command import Command, fail
from sen2chain.cli.codes import EXIT_NOTHING
from sen2chain.cli.show import notes, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_EXAMPLES = """
\b
Examples:
  sen2chain indices
  sen2chain indices savi
  sen2chain indices red edge
  sen2chain indices B11 --long
  sen2chain extract parcels.gpkg --index SAVI --index NDVI --out out
"""
_FEW = 10
_WIDE = 140


@click.command(cls=Command, epilog=_EXAMPLES)
@click.argument("words", metavar="[TEXT]", nargs=-1)
@click.option("--long", "-l", "as_blocks", is_flag=True, help="Show all that is known of each index, also of many.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def indices(words: tuple[str, ...], *, as_blocks: bool, as_json: bool, **_: Any) -> None:
    """List the indices that --index takes by name, all of them or those with [TEXT].

    These are the twelve, which a run without --index extracts, and 222 of the catalogue Awesome Spectral Indices. The
    text is looked for in name, title, formula, field of use and reference, word by word and in capital or small
    letters; an index of exactly this name comes first.
    """
    text = " ".join(words)
    found = [index for index in _known() if _fits(index, text)]
    found.sort(key=lambda index: index["name"].lower() != text.lower())
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        named = [index for index in found if index["name"].lower() == text.lower()]
        in_full = found if as_blocks or len(found) <= _FEW else named
        for index in in_full:
            notes([*_block(index), ""])
        if len(in_full) < len(found):
            _list(found[len(in_full) :])
    if not found:
        fail(f"No index has {text!r} in its name, title, formula, field or reference.", EXIT_NOTHING)


def _list(found: Sequence[dict[str, Any]]) -> None:
    """Print a line for each index."""
    from rich.console import Console

    columns = {"name": "name", "domain": "field", "title": "what it is", "formula": "formula"}
    if sys.stdout.isatty() and Console().width < _WIDE:
        del columns["formula"]
    table("Indices", list(columns.values()), [[index[key] for key in columns] for index in found], numeric=())
    notes([f"{len(found)} indices; --long shows formula, range and reference of each."])


def _known() -> Iterator[dict[str, Any]]:
    """Yield what there is to show of the twelve and of the catalogue."""
    from sen2chain import index_catalogue
    from sen2chain.indices import INDICES, Index

    for index in INDICES.values():
        domain, reference = index_catalogue.of_the_twelve(index.name)
        yield _shown(index, domain, reference, by_default=True)
    for entry in index_catalogue.catalogue().values():
        index = Index.parse(entry.name)
        yield _shown(index, entry.domain, entry.reference, same_as=entry.same_as)


def _shown(index: Any, domain: str, reference: str, *, same_as: str = "", by_default: bool = False) -> dict[str, Any]:
    return {
        "name": index.name,
        "title": index.title,
        "formula": index.formula,
        "bands": list(index.bands),
        "domain": domain,
        "reference": reference,
        "scale": index.scale,
        "lowest": index.lowest,
        "highest": index.highest,
        "same_as": same_as,
        "by_default": by_default,
    }


def _fits(index: dict[str, Any], text: str) -> bool:
    words = text.lower().split()
    said = " ".join(str(index[key]) for key in ("name", "title", "formula", "domain", "reference")).lower()
    return all(word in said for word in words)


def _block(index: dict[str, Any]) -> Iterator[str]:
    """Yield the lines on one index."""
    kept = "; one of the twelve" if index["by_default"] else ""
    yield f"{index['name']}: {index['title']} ({index['domain']}{kept})"
    yield f"    {index['formula']}"
    yield f"    bands {' '.join(index['bands'])}; stored from {index['lowest']:g} to {index['highest']:g}"
    if index["same_as"]:
        yield f"    the same as {index['same_as']} of the twelve, which is also read from stored rasters"
    if index["reference"]:
        yield f"    {index['reference']}"
