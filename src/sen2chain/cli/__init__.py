"""The command: parse, call, print, exit code. Everything else lives in the rooms it calls.

Exit codes: 0 all done, 1 an error, 2 an option that cannot be used, 3 nothing came out, 4 a part could not be
extracted, compiled or sent, 5 another run of the job is going on.

`command` turns errors into sentences and exit codes, `options` has every option that commands share, `show` prints, and
`extract`, `compiled`, `job` and `demo` are the commands.
"""

from __future__ import annotations

import io
import sys

import click

from sen2chain.cli.compiled import compile_, update
from sen2chain.cli.demo import demo
from sen2chain.cli.extract import extract
from sen2chain.cli.job import job

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="sen2chain", prog_name="sen2chain")
def main() -> None:
    """Sentinel-2 archive in, clean time series out.

    \b
    Try it:   sen2chain demo demo-archive
    Use it:   sen2chain extract parcels.gpkg --index NDVI --mask CM004 --iterations 1 --out out
    Keep it:  sen2chain update parcels.gpkg --index NDVI
              sen2chain compile parcels.gpkg --index NDVI --monthly
    Nightly:  sen2chain job new lakes
    """  # noqa: D301  # the mark that keeps lines apart is a real backspace
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that lacks a letter of a layer's name shows its number.
            stream.reconfigure(errors="backslashreplace")


for _command in (extract, update, compile_, job, demo):
    main.add_command(_command)
