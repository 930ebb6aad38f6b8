"""One self-contained HTML file: our scripts and styles, the browser libraries, and the data.

The file reaches nothing outside itself: its Content-Security-Policy allows the scripts that stand in it, by their
SHA-256, and images that it makes itself. Data stands in elements that a browser does not run.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import importlib.resources
import json
import re
from typing import TYPE_CHECKING, Any

from sen2chain.page.encoding import script_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sen2chain.page.page_content import PageContent

STYLES = ("leaflet.css", "uPlot.min.css", "tabulator_simple.min.css")
LIBRARIES = ("leaflet.js", "uPlot.iife.min.js", "tabulator.min.js")
SCRIPTS = ("decode.js", "model.js", "colours.js", "map.js", "chart.js", "table.js", "download.js", "page.js")
"""Our own scripts in the order in which they run; each uses those before it."""

_PLACE = re.compile(r"\{\{(\w+)\}\}")


def page_html(content: PageContent, mark: str = "") -> bytes:
    """Return the file.

    Parameters
    ----------
    content
        Everything that it shows.
    mark
        The mark by which the JSON beside it knows it, see `sen2chain.export.marks`.

    Raises
    ------
    ValueError
        If a script or a style holds what would end its element.
    """
    scripts = [_read("browser_libraries", name) for name in LIBRARIES] + [_read("assets", name) for name in SCRIPTS]
    styles = [_read("browser_libraries", name) for name in STYLES] + [_read("assets", "page.css")]
    for text in (*scripts, *styles):
        if re.search(r"</(script|style)|<!--", text, re.IGNORECASE):
            raise ValueError("A script or a style of the page holds what would end its element.")
    data = {"page-head": content.head, "page-licences": licences()}
    data |= {f"page-rows-{place}": block for place, block in enumerate(content.blocks)}
    data |= {f"page-chips-{place}": chips for place, chips in content.chips.items()}
    parts = {
        "mark": html.escape(mark),
        "policy": html.escape(policy(scripts)),
        "title": html.escape(content.title),
        "styles": "".join(f"<style>{text}</style>\n" for text in styles),
        "data": "".join(
            f'<script type="application/json" id="{name}">{script_json(value)}</script>\n'
            for name, value in data.items()
        ),
        "scripts": "".join(f"<script>{text}</script>\n" for text in scripts),
    }
    text = _PLACE.sub(lambda found: parts[found[1]], _read("assets", "page.html"))
    return text.encode("utf-8", "replace")


def policy(scripts: Sequence[str]) -> str:
    """Return the Content-Security-Policy that lets these inline scripts run and nothing else."""
    sums = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts)
    allowed = " ".join(f"'sha256-{one}'" for one in sums)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; "
        "form-action 'none'"
    )


@functools.cache
def licences() -> list[dict[str, Any]]:
    """Return name, version, licence and its text of each browser library."""
    found = json.loads(_read("browser_libraries", "libraries.json"))["libraries"]
    return [
        {key: one[key] for key in ("name", "version", "licence", "home")}
        | {"text": _read("browser_libraries", f"LICENSE.{one['name']}.txt")}
        for one in found
    ]


@functools.cache
def _read(folder: str, name: str) -> str:
    text = importlib.resources.files("sen2chain.page").joinpath(folder, name).read_text(encoding="utf-8")
    # A parser turns the line ends of HTML into line feeds before it takes the sum of a script.
    return text.replace("\r\n", "\n").replace("\r", "\n")
