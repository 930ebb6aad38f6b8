"""Facts on an installation for a bug report: libraries, machine, folders, environment; and what is wrong with them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import platformdirs

from sen2chain import parallel, settings
from sen2chain.cli.library_probes import ERROR, OPENJPEG, probe
from sen2chain.errors import Sen2ChainError, escaped
from sen2chain.files import absolute, is_folder

_PACKAGE = Path(__file__).parents[1]
_VARIABLES = re.compile(r"(?:SEN2CHAIN|GDAL|PROJ|NUMBA|CPL|OPJ|AWS)_\w+|TMPDIR|XDG_CACHE_HOME", re.IGNORECASE)
"""Variables that change what the program does."""
_SECRET = re.compile(r"PASS|PWD|TOKEN|SECRET|KEY|AUTH|HEADER|COOKIE|CREDENTIAL|BEARER|USER|PROXY", re.IGNORECASE)
"""Parts of names of variables whose values are not shown."""
_CREDENTIALS = re.compile(r"://[^/\s]*@|://\S*[?&]|[;,=]\s*(?:Bearer|Basic)\b", re.IGNORECASE)
"""Parts of values that carry a password or a token."""
_PROJ = ("PROJ_LIB", "PROJ_DATA")
"""Variables that name the folder of PROJ's database."""
HIDDEN = "(set, not shown)"
_EXTRA = re.compile(r"""extra == ["']([\w.-]+)["']""")
_NAME_END = re.compile(r"[^\w.-]")

Facts = dict[str, Any]


def diagnose(library: str | None = None) -> Facts:
    """Collect the facts. No probe fails: what goes wrong with one is what it reports.

    Parameters
    ----------
    library
        The archive, as the other commands take it.

    Returns
    -------
    dict
        Section -> facts, which JSON can hold. ``"unusable"`` lists sentences on what keeps the program from working,
        ``"remarks"`` those on what makes it slower or less exact.
    """
    facts: Facts = {"sen2chain": _program(), "libraries": probe(_requirements()), "openjpeg": {}}
    facts["openjpeg"] = probe([OPENJPEG])[OPENJPEG]
    facts["extras"] = extras()
    facts["machine"] = _machine()
    facts["folders"], wrong = _folders(library)
    facts["environment"] = environment()
    facts["unusable"] = [*_broken(facts["libraries"]), *wrong, *_settings()]
    facts["remarks"] = _remarks(facts)
    return facts


def _program() -> Facts:
    try:
        version = importlib.metadata.version("sen2chain")
    except importlib.metadata.PackageNotFoundError:
        version = "not installed, run from its sources"
    return {
        "version": version,
        "folder": str(_PACKAGE),
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": platform.platform(),
    }


def _requirement_lines() -> list[str]:
    """Return the requirements of the package and its extras, as its metadata has them."""
    try:
        return importlib.metadata.requires("sen2chain") or []
    except importlib.metadata.PackageNotFoundError:  # run from its sources
        return []


def extras() -> dict[str, dict[str, str]]:
    """Return the versions of the distributions of each extra; an empty text for one that is not installed."""
    found: dict[str, dict[str, str]] = {}
    for line in _requirement_lines():
        if match := _EXTRA.search(line):
            name = _NAME_END.split(line, maxsplit=1)[0]
            try:
                version = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                version = ""
            found.setdefault(match[1], {})[name] = version
    return found


def _requirements() -> list[str]:
    """Return the distributions that the package needs, from its metadata; the most important ones where it has none."""
    needed = [_NAME_END.split(line, maxsplit=1)[0] for line in _requirement_lines() if "extra ==" not in line]
    first = ["numpy", "numba", "rasterio", "pyogrio", "pyproj"]
    return first + [name for name in needed if name not in first]


def _machine() -> Facts:
    return {"processors": parallel.workers(), "memory": parallel.memory()}


# ------------------------------------------------------------------------------------------------------------- folders


def _folders(library: str | None) -> tuple[dict[str, Facts], list[str]]:
    """Return the folders by name, and sentences on those that cannot be used."""
    found, wrong = dict[str, Facts](), list[str]()
    try:
        places = settings.paths(library)
    except Sen2ChainError as error:
        found["home"] = {"reason": str(error)}
        if library is not None or settings.has_home():
            wrong.append(str(error))
    else:
        found["home"] = _folder(places.home)
        for name in ("l2a", "indices", "cloudmasks", "extraction"):
            found[name] = _folder(getattr(places, name))
    try:
        found["cache"] = _folder(settings.cache_dir())
    except Sen2ChainError as error:
        found["cache"] = {"reason": str(error)}
        wrong.append(str(error))
    found["numba cache"] = _numba_cache()
    try:
        found["temporary"] = _folder(Path(tempfile.gettempdir()))
    except OSError as error:
        found["temporary"] = {"reason": _cause(error)}
    if not found["temporary"].get("writable"):
        wrong.append("No temporary folder can be written; set TMPDIR to one that can.")
    return found, wrong


def _folder(path: Path) -> Facts:
    """Return path, whether it exists, and whether a file can be written there, or where it would be created."""
    facts: Facts = {"path": escaped(str(path)), "exists": is_folder(path), "writable": False}
    place = path
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place) as file:  # without a name where the system can, so nothing is left
            file.write(bytes(4096))
            file.flush()
            facts["writable"] = True
    except OSError as error:
        facts["reason"] = _cause(error)
    return facts


def _numba_cache() -> Facts:
    """Return the folder of machine code: the first that can be written of those that numba tries."""
    places = [_PACKAGE / "zonal" / "__pycache__"]
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        places.insert(0, absolute(chosen))
    if settings.has_home():
        places.append(platformdirs.user_cache_path("numba", appauthor=False))
    tried = [_folder(place) for place in places]
    return next((facts for facts in tried if facts["writable"]), tried[-1])


def _cause(error: OSError) -> str:
    return escaped(error.strerror or str(error))


# ---------------------------------------------------------------------------------------------------------- environment


def environment() -> dict[str, str]:
    """Return the variables that matter, without passwords and tokens."""
    return {
        escaped(name): HIDDEN if _SECRET.search(name) or _CREDENTIALS.search(value) else escaped(value)
        for name, value in sorted(os.environ.items())
        if _VARIABLES.fullmatch(name)
    }


def _settings() -> list[str]:
    """Return sentences on variables whose values cannot be used."""
    wrong = []
    for check in (settings.uses_openjpeg, settings.patience):
        try:
            check()
        except Sen2ChainError as error:
            wrong.append(str(error))
    return wrong


# -------------------------------------------------------------------------------------------------------------- verdict


def _broken(libraries: dict[str, Facts]) -> list[str]:
    sentences = []
    for name, facts in libraries.items():
        if ERROR in facts:
            strange = [variable for variable in _PROJ if "proj" in facts[ERROR].lower() and os.environ.get(variable)]
            advice = f"unset {' and '.join(strange)}, which leads it to another PROJ" if strange else "install it anew"
            sentences.append(f"{name} cannot be used ({facts[ERROR]}); {advice}.")
    return sentences


def _remarks(facts: Facts) -> list[str]:
    """Return sentences on what works, but could work better."""
    remarks = []
    openjpeg, folders, proj = facts["openjpeg"], facts["folders"], facts["libraries"]["pyproj"]
    if reason := openjpeg.get("unused"):
        remarks.append(f"{reason} GDAL decodes JPEG 2000 files, which takes longer.")
    if "path" not in folders["home"]:
        remarks.append(folders["home"]["reason"])
    if not folders["cache"].get("writable"):
        remarks.append("The cache cannot be written, so nothing is kept between runs; set SEN2CHAIN_CACHE to a folder.")
    if not folders["numba cache"]["writable"]:
        remarks.append(
            "No folder for numba's cache can be written, so each run compiles anew; set NUMBA_CACHE_DIR to a folder."
        )
    if proj.get("grids") == 0 and not proj.get("network"):
        remarks.append(
            "PROJ has no grids, so a layer in an old national datum may be shifted by metres; "
            "pyproj sync --list-files shows grids, PROJ_NETWORK=ON fetches them when they are needed."
        )
    return remarks
