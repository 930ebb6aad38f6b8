"""The exceptions of this package.

::

    Sen2ChainError
    ├── RequestError              a parameter cannot be used                    (also a ValueError)
    │   ├── UnknownNameError      no such index, mask, band, statistic, option
    │   ├── UnknownKeywordError   no such keyword                               (also a TypeError)
    │   ├── FormulaError          a formula of an index cannot be parsed
    │   ├── TooShortError         series with too few dates for smoothing
    │   └── SmoothingError        series that cannot be smoothed; everything else was compiled
    ├── LayerError                the polygon layer cannot be used
    │   └── IncompleteLayerError  a layer, without a CRS or a feature; or several of them, of which none is named
    ├── LibraryError              the archive cannot be found or read
    ├── RasterError               one raster cannot be used; the run goes on
    │   ├── UnreadableError       missing, truncated, corrupt
    │   └── GridMismatchError     another grid or CRS than its tile's
    ├── MissingExtraError         an optional library is not installed
    ├── ModelError                a trained model cannot be loaded or run: a library, its weights, the memory
    ├── ExecutorError             the chosen executor cannot run tasks
    ├── StoreError                a folder of raw and compiled rows cannot be used
    ├── OutputError               the result cannot be written, or would replace another one
    │   ├── SheetLimitError       a table has more rows or columns than a sheet of Excel
    │   └── EmptyResultError      the new table has no rows, the existing one has; other files were written
    └── JobError                  a job cannot be used: bad file, bad name, or another run in progress
        ├── ScheduleError         the schedule is wrong, or cron or systemd cannot be used
        └── DeliveryError         files cannot be sent to their destination

Each message is one sentence that names the item and says what to do. All exceptions that the package raises on purpose
derive from `Sen2ChainError`, so ``except Sen2ChainError`` catches them all. Messages contain file names and other texts
from outside; their unprintable characters are escaped when the exception is built.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import numbers
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def escaped(text: str) -> str:
    r"""Escape a text from outside, so that it is printable and on one line.

    Unprintable characters become Python escapes: line breaks, terminal control characters, and bytes of file names that
    are not UTF-8 (``\xff``). Escaping the result again does not change it.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(char: str) -> str:
    # Python keeps the bytes 0x80 to 0xff of a file name that is not UTF-8 as U+DC80 to U+DCFF.
    raw = ord(char) - 0xDC00
    return f"\\x{raw:02x}" if 0x80 <= raw <= 0xFF else char.encode("unicode_escape").decode("ascii")


class Sen2ChainError(Exception):
    """Base of all errors raised on purpose by this package."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(escaped(arg) if isinstance(arg, str) else arg for arg in args))


class RequestError(Sen2ChainError, ValueError):
    """A parameter has a value that cannot be used."""

    parameter: str = ""
    """Keyword of the number that is out of range; empty for other errors."""
    value: object = None
    """The value that was given for this keyword."""


class UnknownNameError(RequestError):
    """A name that is not in the list of allowed names.

    Parameters
    ----------
    kind
        Kind of thing that is named, as users call it: ``"index"``, ``"cloud mask"``, ``"statistic"``.
    name
        The name that was given.
    allowed
        The allowed names.
    others
        Further allowed names, too many to list; the most similar one is named.
    """

    def __init__(self, kind: str, name: object, allowed: Iterable[str], others: Iterable[str] = ()) -> None:
        self.kind, self.name, self.allowed, self.others = kind, name, tuple(allowed), tuple(others)
        said = shown(name)
        hint = ""
        near = [m for names in (self.allowed, self.others) if (m := _most_similar(said, names))]
        if near:
            hint = f" Did you mean {max(near, key=lambda match: match[0])[1]}?"  # of equals one that is listed
        super().__init__(f"Unknown {kind} {said!r}; allowed: {', '.join(self.allowed)}.{hint}")

    def __reduce__(self) -> tuple[type, tuple[str, object, tuple[str, ...], tuple[str, ...]]]:
        """Survive pickling between worker processes, which replays ``__init__``."""
        return type(self), (self.kind, self.name, self.allowed, self.others)


def _most_similar(name: str, known: Iterable[str]) -> tuple[float, str] | None:
    """Return how similar the most similar of some names is, and that name; upper and lower case count as the same."""
    by_upper = {other.upper(): other for other in known}
    near = difflib.get_close_matches(name.upper(), by_upper, n=1)
    return (difflib.SequenceMatcher(None, near[0], name.upper()).ratio(), by_upper[near[0]]) if near else None


class UnknownKeywordError(RequestError, TypeError):
    """A keyword argument that a function does not have.

    Parameters
    ----------
    function
        The function, as users call it.
    name
        The keyword that was given.
    known
        The keywords of the function.
    meant
        The most similar keyword; empty where none is similar.
    """

    def __init__(self, function: str, name: str, known: Iterable[str], meant: str = "") -> None:
        self.function, self.name, self.known, self.meant = function, name, tuple(known), meant
        hint = f"did you mean {meant}?" if meant else f"it has: {', '.join(self.known)}."
        super().__init__(f"{function}() has no keyword {name!r}; {hint}")

    def __reduce__(self) -> tuple[type, tuple[str, str, tuple[str, ...], str]]:
        """Survive pickling between worker processes, which replays ``__init__``."""
        return type(self), (self.function, self.name, self.known, self.meant)


def items_of(name: str, given: Iterable[Any], example: str) -> list[Any]:
    """Return the values given for a parameter that takes one or several, as a list.

    Parameters
    ----------
    name
        The parameter.
    given
        Any value; the caller has handled texts already.
    example
        A valid value, for the message.

    Raises
    ------
    RequestError
        If `given` is not iterable.
    """
    try:
        return list(given)
    except TypeError:
        raise RequestError(f"{name} is {quoted(given)}; pass one or several of them, as {example}.") from None


def out_of_range(parameter: str, value: object, allowed: str) -> RequestError:
    """Build the error for a value that is not a number or is out of range; the command line uses its `parameter`.

    Parameters
    ----------
    parameter
        The keyword or setting, as users call it.
    value
        What was given.
    allowed
        The allowed values, in words.
    """
    error = RequestError(f"{parameter} is {quoted(value)}; allowed: {allowed}.")
    error.parameter, error.value = parameter, value
    return error


def whole_number(parameter: str, value: object, low: int, high: int, allowed: str = "whole numbers") -> int:
    """Check a whole number from outside, Python's or numpy's, and return it as an ``int``.

    Parameters
    ----------
    parameter
        Name of the parameter, as users know it.
    value
        What was given.
    low, high
        Limits of the range, inclusive.
    allowed
        Kind of number, for the message.

    Raises
    ------
    RequestError
        If it is not a whole number (truth values are not), or is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not low <= int(value) <= high:
        raise out_of_range(parameter, value, f"{allowed} from {low} to {high}")
    return int(value)


def real_number(
    parameter: str, value: object, low: float, high: float, allowed: str = "numbers", more: str = ""
) -> float:
    """Check a number from outside and return it as a ``float``; parameters as for `whole_number`.

    `more` follows the range in the message.

    Raises
    ------
    RequestError
        If it is not a number, not finite, or out of range.
    """
    found: float = math.nan
    if not isinstance(value, bool) and isinstance(value, numbers.Real):
        with contextlib.suppress(OverflowError):  # a whole number or a fraction that is too large
            found = int(value) if isinstance(value, numbers.Integral) else float(value)
    if not low <= found <= high:
        raise out_of_range(parameter, value, f"{allowed} from {low:.15g} to {high:.15g}{more}")
    return found


def truth(parameter: str, value: object) -> bool:
    """Check a truth value from outside and return it as a ``bool``; 0, 1 and None are accepted, texts are not.

    Raises
    ------
    RequestError
        If it is neither.
    """
    if not isinstance(value, str | bytes):
        with contextlib.suppress(ValueError, TypeError):  # of arrays and tables, which have many
            return bool(value)
    raise out_of_range(parameter, value, "True or False")


def choice(kind: str, value: object, allowed: Iterable[str]) -> None:
    """Check that a value from outside is one of the allowed names.

    Raises
    ------
    UnknownNameError
        If it is not.
    """
    allowed = tuple(allowed)
    if not isinstance(value, str) or value not in allowed:
        raise UnknownNameError(kind, value, allowed)


def quoted(value: object) -> str:
    """Text of a value for a message, as `shown`; quoted if the value is a text."""
    return repr(shown(value)) if isinstance(value, str) else shown(value)


_LONG = 80


def shown(value: object) -> str:
    """Text of any value for a message, cut after 80 characters."""
    try:
        text = str(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return f"a {type(value).__name__} too large to be written"
    except Exception:  # noqa: BLE001  # a class of the user's that cannot be written
        return f"a {type(value).__name__}"
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."


def found_text(text: str) -> str:
    """Text that was found in a file, for a message: escaped, and cut after 80 characters."""
    return escaped(shown(text))


class FormulaError(RequestError):
    """A formula that cannot be parsed safely or uses an unknown band."""


class TooShortError(RequestError):
    """Series with too few dates for smoothing."""


class SmoothingError(RequestError):
    """Series that cannot be smoothed; raised after everything else was compiled.

    Parameters
    ----------
    sentence
        The message.
    compiled
        The compiled files, a `sen2chain.timeseries.Compiled`.
    too_short
        Whether the only cause is that the series have too few dates yet.
    """

    def __init__(self, sentence: str, compiled: object = None, *, too_short: bool = False) -> None:
        self.compiled, self.too_short = compiled, too_short
        super().__init__(sentence)


class LayerError(Sen2ChainError):
    """The polygon layer cannot be used."""


class IncompleteLayerError(LayerError):
    """A file is a layer without a CRS that can be used or without a feature, or has several of which none is named."""


class LibraryError(Sen2ChainError):
    """The archive cannot be found or read."""


class RasterError(Sen2ChainError):
    """One raster cannot be used; its product is reported and the run goes on."""


class UnreadableError(RasterError):
    """A file is missing, truncated or corrupt."""


class KeptPixelsError(UnreadableError):
    """Kept pixels are damaged, or do not hold what is asked of them; the message says which and why."""


class PixelFormatError(KeptPixelsError):
    """A file of kept pixels has the format of another version of sen2chain; the message names it."""


class PixelsNotKeptError(KeptPixelsError):
    """Kept pixels are whole, but what is asked for is not among them: it lies elsewhere, or was under clouds."""


class GridMismatchError(RasterError):
    """A raster has another grid or CRS than the other rasters of its tile."""


class MissingExtraError(Sen2ChainError):
    """An optional library is not installed.

    Parameters
    ----------
    what
        The subject of the sentence, in the plural, as ``"Pictures"``.
    library
        Name of the library, as pip knows it.
    extra
        Name of the extra of this package that includes the library.
    """

    def __init__(self, what: str, library: str, extra: str) -> None:
        self.what, self.library, self.extra = what, library, extra
        super().__init__(
            f"{what} need {library}, which is not installed; install it with: pip install {library} "
            f"(it belongs to the extra sen2chain[{extra}])."
        )

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        """Survive pickling between worker processes, which replays ``__init__``."""
        return type(self), (self.what, self.library, self.extra)


class ModelError(Sen2ChainError):
    """A trained model cannot be loaded or run: its library is broken, its weights are missing, the memory is small."""


class ExecutorError(Sen2ChainError):
    """The chosen executor cannot run tasks: no Dask, no scheduler, no shared folder."""


class StoreError(Sen2ChainError):
    """A folder of raw and compiled rows cannot be used: damaged, in use, or made with other options."""


class OutputError(Sen2ChainError):
    """A result cannot be written, or would replace a result that was made with other options."""


class SheetLimitError(OutputError):
    """A table has more rows or columns than a sheet of Excel takes."""


class EmptyResultError(OutputError):
    """A table without rows would replace one with rows; raised after everything else was written.

    Parameters
    ----------
    sentence
        The message; it names the tables that are kept.
    files
        The files that were written.
    """

    def __init__(self, sentence: str, files: Iterable[Path] = ()) -> None:
        self.files = list(files)
        super().__init__(sentence)


class JobError(Sen2ChainError):
    """A job cannot be used: its file cannot be understood, or another run of it is in progress."""


class ScheduleError(JobError):
    """A schedule cannot be understood, or this machine's cron or systemd cannot be used."""


class DeliveryError(JobError):
    """Files cannot be sent to their destination; extracted rows stay."""
