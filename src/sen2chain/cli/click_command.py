"""The class of all commands: errors end as one sentence with an exit code; numbers are checked by the classes."""

from __future__ import annotations

import os
import re
import sys
from itertools import pairwise
from typing import Any, NoReturn

import click

from sen2chain.cli.codes import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_USAGE, INTERRUPTED
from sen2chain.errors import RequestError, Sen2ChainError, quoted
from sen2chain.progress import printable

# What other tools, or the classes, call an option; too far from ours for a comparison of letters.
_MEANT = {
    **dict.fromkeys(("--date-min", "--datemin", "--date-from", "--start", "--start-date", "--since"), "--from"),
    **dict.fromkeys(("--date-max", "--datemax", "--date-to", "--end", "--end-date", "--until"), "--to"),
    **dict.fromkeys(("--indices", "--indexes"), "--index"),
    **dict.fromkeys(("--masks", "--cm-version", "--cloud-mask"), "--mask"),
    **dict.fromkeys(("--output", "--out-path", "--out-dir", "--output-dir"), "--out"),
    **dict.fromkeys(("--threads", "--jobs", "--multiproc", "--nb-proc"), "--workers"),
    **dict.fromkeys(("--tiles",), "--tile"),
    **dict.fromkeys(("--max-clouds", "--max-cloud", "--cloud-cover"), "--cover-max"),
    **dict.fromkeys(("--stats", "--statistics"), "--stat"),
    **dict.fromkeys(("--alldata", "--all-data"), "--all"),
    **dict.fromkeys(("--smoothing",), "--smooth"),
    **dict.fromkeys(("--unit",), "--units"),
    **dict.fromkeys(("--replace",), "--overwrite"),
}


RENAMED = {"workers": "multiproc"}
"""Option -> parameter of the classes, where they are called otherwise."""

_OF_LIMITS = frozenset({"date_min", "date_max", "datemin", "datemax", "cover_min", "cover_max"})
"""Parameters that sentences name in pairs."""


class Command(click.Command):
    """A command whose errors are one sentence, with a traceback only where `--debug` asks for it.

    Parameters
    ----------
    interrupted
        What an interruption leaves, and what the next run does.
    """

    def __init__(self, *args: Any, interrupted: str = "", **options: Any) -> None:
        super().__init__(*args, **options)
        self._interrupted = interrupted

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line; an option that other tools have is answered with ours."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.BadParameter as error:
            option = error.param
            if not isinstance(option, click.Option) or not _takes_next_word(option, given):
                raise
            places = [p.make_metavar(ctx) for p in self.params if isinstance(p, click.Argument)]
            behind = f"{option.opts[-1]} behind {places[-1]}, or " if places else ""
            sentence = f"{error.message.rstrip('.')}. Write {behind}{_with_value(option)}."
            raise click.BadParameter(sentence, ctx, option) from None
        except click.NoSuchOption as error:
            known = {option for parameter in self.params for option in parameter.opts}
            meant = _MEANT.get(error.option_name.lower().replace("_", "-"))
            if meant not in known:
                raise
            sentence = f"No such option '{error.option_name}'. Did you mean '{meant}'?"
            raise click.NoSuchOption(error.option_name, sentence, ctx=ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except RequestError as error:
            if ctx.params.get("debug"):
                raise
            option = self._option(error.parameter)
            sentence = self._with_options(str(error), error.parameter, option)
            is_number = option is not None and isinstance(option.type, Number)
            if is_number and isinstance(error.value, str) and not _is_number(error.value):
                raise click.UsageError(sentence, ctx) from None
            fail(sentence, EXIT_USAGE)
        except Sen2ChainError as error:
            if ctx.params.get("debug"):
                raise
            fail(str(error), EXIT_ERROR)
        except KeyboardInterrupt:
            if ctx.params.get("debug"):
                raise
            fail(f"{INTERRUPTED} {self._interrupted}".rstrip(), EXIT_INTERRUPTED)
        except MemoryError:
            if ctx.params.get("debug"):
                raise
            fail("The memory does not suffice; free some, or use fewer --workers.")
        except BrokenPipeError:
            sys.exit(EXIT_ERROR)  # the reader has seen enough
        except OSError as error:
            if ctx.params.get("debug"):
                raise
            where = f" ({error.filename})" if error.filename else ""
            fail(f"{error.strerror or error}{where}.")

    def _option(self, parameter: str) -> click.Option | None:
        """Return the option of a parameter; None where there is none."""
        name = next((option for option, keyword in RENAMED.items() if keyword == parameter), parameter)
        return next((p for p in self.params if p.name == name and isinstance(p, click.Option)), None)

    def _with_options(self, sentence: str, parameter: str, option: click.Option | None) -> str:
        """Return a sentence about a parameter with the names of options in the place of those of parameters."""
        if option is not None:
            begin = f"{parameter} is "
            if not sentence.startswith(begin):
                return f"{option.opts[0]}: {sentence}"
            return f"{option.opts[0]} is {sentence.removeprefix(begin)}"
        names = {p.name: p.opts[0] for p in self.params if isinstance(p, click.Option) and p.name in _OF_LIMITS}
        # What stands in quotes was given by the user.
        return re.sub(r"(?<!['\w-])\w+(?!['\w])", lambda word: names.get(word[0], word[0]), sentence)


def _takes_next_word(option: click.Option, args: list[str]) -> bool:
    """Whether an option that can stand alone was given with the next word as its value."""
    stands_alone = not option.is_flag and isinstance(option.flag_value, str)
    return stands_alone and any(one in option.opts and not other.startswith("-") for one, other in pairwise(args))


def _with_value(option: click.Option) -> str:
    """Return an example of an option that can stand alone with a value."""
    example = getattr(option.type, "example", option.flag_value)
    return f"{option.opts[-1]}={example}"


class BandList(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in newer versions only
    """Names of bands with commas between them, which the classes check; paths are refused."""

    name = "bands"
    example = "BANDS"
    """A value, for messages."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the text."""
        if set(value) & set("./\\") or os.path.exists(value):  # noqa: PTH110 - unlike Path.exists it is False for odd texts
            self.fail(f"{quoted(value)} is not a band.", param, ctx)
        return value


class Number(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in newer versions only
    """A number of any range, since the classes check ranges; text that is not a number is passed on as text."""

    def __init__(self, kind: type[int | float]) -> None:
        self._kind = kind
        self.name = "integer" if kind is int else "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ARG002  # as click calls it
        """Read a number."""
        try:
            return self._kind(value)
        except ValueError:  # of a whole number with more than 4300 digits too
            return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


WHOLE, REAL, BANDS = Number(int), Number(float), BandList()


def fail(sentence: str, code: int = EXIT_ERROR) -> NoReturn:
    """Print an error and exit."""
    click.echo(f"sen2chain: {printable(sentence)}", err=True)
    sys.exit(code)
