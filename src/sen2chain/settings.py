"""Locations of home, archive, extraction folders, logs and cache: read on each call, never at import.

This module creates no folders; the code that writes into a folder creates it.
"""

from __future__ import annotations

import configparser
import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from sen2chain.errors import LibraryError, RequestError, quoted, real_number
from sen2chain.files import absolute, is_file, is_folder, read_limited

HOME_VARIABLE = "SEN2CHAIN_HOMEPATH"
CACHE_VARIABLE = "SEN2CHAIN_CACHE"
PATIENCE_VARIABLE = "SEN2CHAIN_WORKERS_TIMEOUT"
OPENJPEG_VARIABLE = "SEN2CHAIN_OPENJPEG"

_HOME_NAME = "sen2chain_data"
_CONFIG_FILE = "config.cfg"
_ARCHIVE_NAMES = ("L2A", "INDICES", "CLOUDMASKS")


@dataclass(frozen=True, slots=True)
class Paths:
    """Folders of one archive, as absolute paths; any of them may be missing on disk."""

    home: Path
    """Folder that contains the others, unless the configuration sets them."""
    l2a: Path
    """L2A products, ``<TILE>/<L2A id>.SAFE``."""
    indices: Path
    """Index rasters, ``<INDEX>/<TILE>/<L2A id>/``."""
    cloudmasks: Path
    """Cloud masks, ``<TILE>/<L2A id>/``."""
    quicklooks: Path
    """Quicklooks of products, ``<TILE>/<L2A id>/``."""
    extraction: Path
    """Extracted time series."""
    logs: Path
    """Log files."""
    temp: Path
    """Scratch space."""
    config: Path
    """The folder of ``config.cfg`` and of the jobs."""

    @property
    def has_archive(self) -> bool:
        """Whether one of the folders of products, indices and masks is there."""
        return any(map(is_folder, (self.l2a, self.indices, self.cloudmasks)))

    ocm_models: Path | None = None
    """Folder with the weights of OmniCloudMask, where the configuration names one; see `ocm_models`."""


def home() -> Path:
    """Return the user's home of data, ``$SEN2CHAIN_HOMEPATH/sen2chain_data`` or ``~/sen2chain_data``.

    Raises
    ------
    LibraryError
        If this user has no home folder.
    """
    chosen = os.environ.get(HOME_VARIABLE)
    if not chosen and not has_home():
        raise LibraryError(
            f"This user has no home folder; set HOME or {HOME_VARIABLE}, or name the library (--library, library=)."
        )
    return absolute(chosen or "~") / _HOME_NAME


def has_home() -> bool:
    """Whether ``~`` expands to a folder; it does not for a user that the system does not know."""
    return os.path.expanduser("~") != "~"  # noqa: PTH111  # Path raises an error instead


def cache_dir() -> Path:
    """Return the cache folder: ``$SEN2CHAIN_CACHE``, or the system's folder for caches.

    For a user without a home folder it is a path that cannot be created, so that nothing is cached.
    """
    if chosen := os.environ.get(CACHE_VARIABLE):
        return absolute(chosen)
    with contextlib.suppress(RuntimeError):  # newer versions of platformdirs raise it, older ones return ~/.cache
        if (found := platformdirs.user_cache_path("sen2chain")).is_absolute():
            return found
    return Path(os.devnull, "sen2chain")


def patience() -> float:
    """Seconds that a run waits for a Dask cluster without workers: ``$SEN2CHAIN_WORKERS_TIMEOUT``, or 600.

    Raises
    ------
    RequestError
        If it is not a number of seconds.
    """
    text = os.environ.get(PATIENCE_VARIABLE) or "600"
    try:
        return check_seconds(PATIENCE_VARIABLE, float(text))
    except ValueError:  # RequestError is one too
        raise RequestError(
            f"{PATIENCE_VARIABLE} is {quoted(text)}; give seconds from 0 to {MOST_SECONDS:.0f}, as in 600."
        ) from None


MOST_SECONDS = 1e9  # of a wait, about thirty years


def check_seconds(parameter: str, value: object) -> float:
    """Check a waiting time in seconds and return it.

    Raises
    ------
    RequestError
        If it is not a number from 0 to 1e9.
    """
    return real_number(parameter, value, 0, MOST_SECONDS, "seconds")


def uses_openjpeg() -> bool:
    """Whether JPEG 2000 files may be decoded by OpenJPEG itself: not where ``$SEN2CHAIN_OPENJPEG`` is ``off``.

    Raises
    ------
    RequestError
        If it is neither ``on`` nor ``off``.
    """
    text = os.environ.get(OPENJPEG_VARIABLE) or "on"
    if text.lower() not in {"on", "off"}:
        raise RequestError(
            f"{OPENJPEG_VARIABLE} is {quoted(text)}; set it to off, so that GDAL decodes JPEG 2000 files, or to on."
        )
    return text.lower() == "on"


def paths(library: str | Path | None = None) -> Paths:
    """Find the folders of an archive.

    Parameters
    ----------
    library
        A home (it has ``config/`` or ``data/``), the folder that contains ``sen2chain_data``, or a folder that holds
        ``L2A``, ``INDICES`` or ``CLOUDMASKS`` itself. By default `home`, whether it exists or not.

    Raises
    ------
    LibraryError
        If `library` is not one of these, or the configuration file cannot be read.
    RequestError
        If it is the address of a catalogue; the message does not repeat it, since it may hold a key.
    """
    if library is None:
        return _from_home(home())
    if isinstance(library, str) and ("://" in library or library.lower().startswith("stac:")):
        raise RequestError("A library is a folder; pass the address of a STAC catalogue as stac= (--stac).")
    folder = absolute(library)
    if not is_folder(folder):
        raise LibraryError(f"The library {folder} is not a folder; pass the folder that holds L2A or {_HOME_NAME}.")
    # A configuration file decides before names do: it may well point at folders directly under the home. The
    # vague `data` comes last, because any project folder may have one beside its `sen2chain_data`.
    if is_file(folder / "config" / _CONFIG_FILE):
        return _from_home(folder)
    if any(is_folder(folder / name) for name in _ARCHIVE_NAMES):
        return _from_names(folder, folder, logs=folder / "logs", chosen={})
    if is_folder(folder / _HOME_NAME):
        return _from_home(folder / _HOME_NAME)
    if is_folder(folder / "config") or is_folder(folder / "data"):
        return _from_home(folder)
    raise LibraryError(
        f"{folder} is not a library: it has none of {', '.join((*_ARCHIVE_NAMES, _HOME_NAME, 'config', 'data'))}; "
        "pass the folder that holds one of them.",
    )


def target_paths(library: str | Path | None = None) -> Paths:
    """Find the folders of an archive that rasters are written into, which may be a new one.

    Parameters
    ----------
    library
        As for `paths`; or a folder that is empty or does not exist, whose parts will lie in it as ``INDICES`` and
        ``CLOUDMASKS``.

    Raises
    ------
    LibraryError
        If it is another folder or a file, or the configuration file cannot be read.
    RequestError
        If it is the address of a catalogue.
    """
    try:
        return paths(library)
    except LibraryError as error:
        if library is None:
            raise
        folder = absolute(library)
        if not _is_empty(folder):
            raise LibraryError(f"{error} A new library needs a folder that is empty or does not exist.") from None
    return _from_names(folder, folder, logs=folder / "logs", chosen={})


def _is_empty(folder: Path) -> bool:
    """Whether there is nothing at a path, or a folder without visible files."""
    try:
        return not any(entry.name != "lost+found" and not entry.name.startswith(".") for entry in folder.iterdir())
    except FileNotFoundError:
        return not folder.is_symlink()
    except OSError:  # a file, a part of the path that is a file, or a folder that may not be read
        return False


def _from_home(folder: Path) -> Paths:
    """Folders of a home: as its configuration sets them, else ``data/<NAME>``."""
    config = _read_config(folder / "config" / _CONFIG_FILE)
    chosen = {
        key.removesuffix("_path"): absolute(text, folder)
        for (section, key), text in config.items()
        if section == "DATA PATHS" and text
    }
    logs = config.get(("LOG PATH", "log_path")) or "logs"
    return _from_names(folder, folder / "data", logs=absolute(logs, folder), chosen=chosen)


def _from_names(folder: Path, data: Path, *, logs: Path, chosen: dict[str, Path]) -> Paths:
    """Folders under `data` with their names in capitals, except the `chosen` ones."""
    names = ("l2a", "indices", "cloudmasks", "quicklooks", "extraction", "temp")
    found = {name: chosen.get(name, data / name.upper()) for name in names}
    return Paths(home=folder, logs=logs, config=folder / "config", ocm_models=chosen.get("ocm_models"), **found)


def ocm_models(library: Paths) -> Path | None:
    """Return the folder with the weights of OmniCloudMask: that of a library's configuration, else that of the home's.

    Returns
    -------
    Path or None
        ``ocm_models`` in the section ``[DATA PATHS]``, which may be missing on disk; None where neither names one.

    Raises
    ------
    LibraryError
        If the configuration of the home cannot be read.
    """
    if library.ocm_models is not None:
        return library.ocm_models
    if not (os.environ.get(HOME_VARIABLE) or has_home()):
        return None
    return _from_home(home()).ocm_models


def _read_config(file: Path) -> dict[tuple[str, str], str]:
    """Read an INI file as (section, key) -> text; a missing file gives an empty dict.

    Raises
    ------
    LibraryError
        If the file exists but cannot be read or parsed.
    """
    # A path may contain a percent sign, which the default interpolation would take for a reference.
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_limited(file).decode("utf-8-sig"), source=str(file))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        cause = " ".join(str(error).split())
        raise LibraryError(f"The configuration {file} cannot be read ({cause}); mend or remove it.") from error
    return {(section, key): text.strip() for section in parser.sections() for key, text in parser.items(section)}
