"""The group of all commands."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import TYPE_CHECKING, Any

import click

from sen2chain.cli.catalogues import stac
from sen2chain.cli.click_command import fail
from sen2chain.cli.codes import EXIT_INTERRUPTED, INTERRUPTED
from sen2chain.cli.compile import compile_
from sen2chain.cli.demo import demo
from sen2chain.cli.doctor import doctor
from sen2chain.cli.extract import extract
from sen2chain.cli.indices import indices
from sen2chain.cli.job import job
from sen2chain.cli.library import library
from sen2chain.cli.page import page
from sen2chain.cli.pixels import pixels
from sen2chain.cli.produce import produce
from sen2chain.cli.show_folder import show_folder
from sen2chain.cli.update import update
from sen2chain.cli.zonal import zonal
from sen2chain.progress import empty_results

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["main"]


class Program(click.Group):
    """The commands, on streams that can show every text."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line; the streams are afterwards as they were."""
        with contextlib.ExitStack() as stack:
            # Commands say themselves why there is nothing, with an exit code.
            stack.callback(setattr, empty_results, "disabled", empty_results.disabled)
            empty_results.disabled = True
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, io.TextIOWrapper):
                    # A terminal that lacks a letter of a layer's name shows its number.
                    stack.callback(stream.reconfigure, errors=stream.errors)
                    stream.reconfigure(errors="backslashreplace")
            return super().main(*args, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Understand the command line."""
        with _interruptible():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, which says more where it is interrupted itself."""
        with _interruptible():
            return super().invoke(ctx)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Leave as an interrupted program does, where click would say "Aborted!" and exit with 1."""
    try:
        yield
    except KeyboardInterrupt:
        fail(INTERRUPTED, EXIT_INTERRUPTED)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="sen2chain", prog_name="sen2chain")
def main() -> None:
    """Sentinel-2 archive in, clean time series out.

    \b
    Try it:   sen2chain demo demo-archive
    Use it:   sen2chain extract parcels.gpkg --index NDVI --mask CM004 --out out
    No data?  sen2chain extract parcels.gpkg --stac https://earth-search.aws.element84.com/v1 --index NDVI --out out
    Keep it:  sen2chain update parcels.gpkg --index NDVI
              sen2chain compile parcels.gpkg --index NDVI --monthly
              sen2chain show
    See it:   sen2chain page parcels.gpkg --index NDVI
    Pixels:   sen2chain pixels parcels.gpkg --index NDVI --bands B02,B03,B04,B08 --out out
    Nightly:  sen2chain job new lakes
    Rasters:  sen2chain zonal dem.tif parcels.gpkg --out relief.csv
    Archive:  sen2chain library info
              sen2chain produce --index NDVI --mask CM004
    Indices:  sen2chain indices red edge
    Trouble?  sen2chain doctor
    """  # noqa: D301  # the mark that keeps lines apart is a real backspace


for _command in (
    extract,
    update,
    compile_,
    page,
    pixels,
    show_folder,
    zonal,
    library,
    produce,
    stac,
    job,
    indices,
    demo,
    doctor,
):
    main.add_command(_command)
