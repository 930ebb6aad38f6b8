"""`sen2chain library`: what an archive holds, checks of its files, and conversions."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from sen2chain.cli import options as shared
from sen2chain.cli import show
from sen2chain.cli.click_command import Command, fail
from sen2chain.cli.codes import EXIT_NOTHING, EXIT_PARTLY
from sen2chain.errors import RequestError
from sen2chain.progress import counted, printable

if TYPE_CHECKING:
    from sen2chain.inspection import ArchiveCheck, ArchiveInfo
    from sen2chain.library import Library
    from sen2chain.produce import Conversion

_INFO_EXAMPLES = """
\b
Examples:
  sen2chain library info                                   the library of the home folder
  sen2chain library info --library ~/archive --verbose
  sen2chain library info --safe ~/downloads                a folder of SAFE products
  sen2chain library info --json > archive.json

\b
Exit codes: 0 done, 1 error, 2 an option that cannot be used, 3 there is no product.
"""

_CHECK_EXAMPLES = """
\b
Examples:
  sen2chain library check --library ~/archive
  sen2chain library check --tile 40KCB --from 2024-01-01 --only offsets
  sen2chain library check --quick                          headers and metadata alone
  sen2chain library check --fix                            moves damaged files aside

\b
Exit codes: 0 nothing is wrong, 1 error, 2 an option that cannot be used, 4 something is wrong.
"""

_CONVERT_EXAMPLES = """
\b
Examples:
  sen2chain library convert --library ~/archive --dry-run
  sen2chain library convert --tile 40KCB --index NDVI
  sen2chain library convert --move-old ~/old-rasters

\b
Exit codes: 0 done, also before, 1 error, 2 an option that cannot be used, 3 there is no index raster at all, neither
old nor new, 4 a part could not be converted or moved.
"""

_PARTS = ("rasters", "offsets", "duplicates", "leftovers")

_WIDE = 400
"""Width of tables in files, whose lines are not folded."""


@click.group()
def library() -> None:
    """Look at an archive as a whole: what it holds, whether its files are right, old rasters to convert.

    \b
    Look:     sen2chain library info
    Check:    sen2chain library check
    Convert:  sen2chain library convert --dry-run
    Make:     sen2chain produce --index NDVI --mask CM004
    """  # noqa: D301  # the mark that keeps lines apart is a real backspace


@library.command(cls=Command, epilog=_INFO_EXAMPLES)
@shared.folders
@shared.as_json
@shared.common("every index and mask of every tile")
def info(**options: Any) -> None:
    """Say what an archive or a folder of downloads holds, and what can be made of it.

    Tiles, dates, baselines, bands and cloud cover; which masks and indices are stored, possible, or impossible and why;
    what is missing; bytes of each kind. No pixel is read. Metadata is read once: the next call is fast.
    """
    found = _library(options).info(quiet=options["quiet"])
    _print(found, options)
    if not found.total.products:
        fail("There is no product.", EXIT_NOTHING)


@library.command(cls=Command, epilog=_CHECK_EXAMPLES)
@shared.folders
@shared.tiles
@shared.sensing_dates
@click.option(
    "--only", "parts", multiple=True, type=click.Choice(_PARTS), help="Part of the check. Default: all of them."
)
@click.option("--quick", is_flag=True, help="Read headers and metadata alone, no pixels.")
@click.option(
    "--fix", is_flag=True, help="Move damaged files and leftovers aside, into a folder that is named. Deletes nothing."
)
@click.option(
    "--put-back", metavar="FOLDER", help="Move the files of such a folder back to their places, and check nothing."
)
@click.option(
    "--verify",
    type=click.Choice(["never", "first"]),
    default="first",
    show_default=True,
    help="Compare the files of products with the checksums of their manifest.safe.",
)
@shared.threads
@shared.as_json
@shared.common("every finding")
def check(**options: Any) -> None:
    """Read the rasters of an archive and judge them.

    Every raster is read to its last block. It must lie on its tile's grid and have plausible values. Dark and stable
    pixels tell whether the offset of a date was forgotten or applied twice. Duplicates, leftovers of runs that were
    stopped, and stored masks that are known to be wrong are listed.
    """
    if options["put_back"]:
        _put_back(options)
        return
    found = _library(options).check(
        tiles=options["tiles"] or None,
        date_min=options["date_min"],
        date_max=options["date_max"],
        parts=options["parts"] or None,
        quick=options["quick"],
        fix=options["fix"],
        verify=options["verify"],
        workers=options["workers"],
        quiet=options["quiet"],
    )
    _print(found, options)
    if found.exit_code:
        said = found.summary() if options["quiet"] else found.problems_found()
        fail(said, found.exit_code)


def _put_back(options: dict[str, Any]) -> None:
    """Undo `--fix`; the folder lies in its library, which need not be named."""
    from sen2chain.library import Library

    moves = Library.put_back(options["put_back"])
    if not options["quiet"]:
        click.echo(f"{counted(len(moves.moved), 'file')} moved back.")
    if moves.failed:
        fail(f"{counted(len(moves.failed), 'file')} not moved back. {moves.failed[0]}", EXIT_PARTLY)


@library.command(cls=Command, epilog=_CONVERT_EXAMPLES, interrupted="Files that are there are complete; run it again.")
@shared.folders
@shared.indices("all twelve")
@shared.tiles
@shared.sensing_dates
@click.option("--move-old", metavar="FOLDER", help="Move the old files to this folder when the new ones are complete.")
@click.option("--force", is_flag=True, help="Convert again what exists.")
@click.option("--dry-run", is_flag=True, help="Say what would be converted, and write nothing.")
@shared.threads
@shared.as_json
@shared.common("every file")
def convert(**options: Any) -> None:
    """Convert index rasters of the original program into Cloud-Optimized GeoTIFF.

    Those are lossy JPEG 2000 files. Where the product is still there, the index is computed from its bands, without
    loss; else the values of the old file are taken, and the new file says so. The old file stays.
    """
    if options["quiet"] and options["dry_run"] and not options["as_json"]:
        raise RequestError("--dry-run says what would be converted, and --quiet says nothing; leave one of them out.")
    done = _library(options).convert(
        indices=list(options["indices"]) or None,
        tiles=options["tiles"] or None,
        date_min=options["date_min"],
        date_max=options["date_max"],
        move_old=options["move_old"],
        force=options["force"],
        dry_run=options["dry_run"],
        workers=options["workers"],
        quiet=options["quiet"],
    )
    if options["as_json"]:
        _print_json(done)
    elif not options["quiet"] and not done.nothing:
        show.notes(done.sentences())
        if options["verbose"] and done.files:
            rows = [
                [file.path.name, str(file.outcome), str(file.source), file.detail or file.left or "-"]
                for file in done.files
            ]
            show.table("Files", ["file", "outcome", "from", "reason"], rows, numeric=())
    if done.nothing:
        fail(str(done), EXIT_NOTHING)
    if done.failed or done.left:
        fail(str(done) if options["quiet"] else "A part could not be converted or moved.", EXIT_PARTLY)


def _library(options: dict[str, Any]) -> Library:
    """Open the archive that the options name."""
    from sen2chain.library import Library

    return Library(options["library"], options["safe"])


def _print(result: ArchiveInfo | ArchiveCheck, options: dict[str, Any]) -> None:
    """Print a result as tables or as JSON; with --quiet JSON alone."""
    if options["as_json"]:
        _print_json(result)
    elif not options["quiet"]:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDE
        click.echo(printable(result.text(verbose=options["verbose"], width=width)))


def _print_json(result: ArchiveInfo | ArchiveCheck | Conversion) -> None:
    """Print a result as one JSON document."""
    click.echo(json.dumps(result.to_dict(), indent=1, allow_nan=False))
