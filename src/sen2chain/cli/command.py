"""How a command ends: errors are one sentence, and the exit code says what kind they are."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import click

from sen2chain.cli.codes import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_USAGE, INTERRUPTED
from sen2chain.errors import RequestError, Sen2ChainError
from sen2chain.progress import printable

# What other tools, or the classes, call an option; too far from ours for a comparison of letters.
_MEANT = {
    **dict.fromkeys(("--date-min", "--datemin", "--date-from", "--start", "--start-date", "--since"), "--from"),
    **dict.fromkeys(("--date-max", "--datemax", "--date-to", "--end", "--end-date", "--until"), "--to"),
    **dict.fromkeys(("--indices", "--indexes"), "--index"),
    **dict.fromkeys(("--masks", "--cm-version", "--cloud-mask"), "--mask"),
    **dict.fromkeys(("--output", "--out-path", "--out-dir", "--output-dir"), "--out"),
    **dict.fromkeys(("--threads", "--jobs", "--multiproc", "--nb-proc"), "--workers"),
    **dict.fromkeys(("--max-clouds", "--max-cloud", "--cloud-cover"), "--cover-max"),
    **dict.fromkeys(("--stats", "--statistics"), "--stat"),
    **dict.fromkeys(("--alldata", "--all-data"), "--all"),
    **dict.fromkeys(("--smoothing",), "--smooth"),
    **dict.fromkeys(("--unit",), "--units"),
    **dict.fromkeys(("--replace",), "--overwrite"),
}


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
        try:
            return super().parse_args(ctx, args)
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
        except Sen2ChainError as error:
            if ctx.params.get("debug"):
                raise
            fail(str(error), EXIT_USAGE if isinstance(error, RequestError) else EXIT_ERROR)
        except KeyboardInterrupt:
            if ctx.params.get("debug"):
                raise
            fail(f"{INTERRUPTED} {self._interrupted}".rstrip(), EXIT_INTERRUPTED)
        except BrokenPipeError:
            sys.exit(EXIT_ERROR)  # the reader has seen enough
        except OSError as error:
            if ctx.params.get("debug"):
                raise
            where = f" ({error.filename})" if error.filename else ""
            fail(f"{error.strerror or error}{where}.")


def fail(sentence: str, code: int = EXIT_ERROR) -> NoReturn:
    """Say what went wrong and leave."""
    click.echo(f"sen2chain: {printable(sentence)}", err=True)
    sys.exit(code)
