"""How a command ends: errors are one sentence, and the exit code says what kind they are."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import click

from sen2chain.cli.codes import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_USAGE, INTERRUPTED
from sen2chain.errors import RequestError, Sen2ChainError
from sen2chain.progress import printable


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
