"""`sen2chain produce`: make rasters of indices and masks, and quicklooks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from sen2chain.cli import options as shared
from sen2chain.cli import show
from sen2chain.cli.click_command import REAL, WHOLE, Command, fail
from sen2chain.cli.codes import EXIT_ERROR, EXIT_NOTHING, EXIT_PARTLY
from sen2chain.errors import LibraryError, RequestError
from sen2chain.progress import counted, printable, sized
from sen2chain.report import BROKEN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sen2chain.library import Library
    from sen2chain.produce import Production, ProductPlan
    from sen2chain.products import Skipped

_EXAMPLES = """
\b
Examples:
  sen2chain produce --index NDVI --index NBR --mask CM004 --tile 40KCB --from 2021-01-01 --dry-run
  sen2chain produce --index NDVI --mask CM004-CSH1-CMP1-CHP1-TCI1-ITER1 --workers 2
  sen2chain produce --safe ~/downloads --library ~/archive --index NDVI      makes the library ~/archive
  sen2chain produce --index "SAVI=1.5*(B08-B04)/(B08+B04+0.5)" --precision 0.001
  sen2chain produce --mask OCM --resolution 20
  sen2chain produce --index NDVI --mask CM004 --masked --quicklooks
  sen2chain produce --index NDVI --mask CM004 --quiet                        every night, from cron

\b
Exit codes: 0 all is there, made now or before, 1 error, 2 an option that cannot be used, 3 there is nothing to make
or nothing can be made, 4 a part failed, was refused or cannot be made. --dry-run ends with the code that the run
would have, if nothing fails.
"""

_THERE = ("made", "made again", "kept", "made by another run")
_MISSING = ("failed", "not reached", "refused", "impossible")
"""Outcomes of files that are not there, worst first."""


@click.command(
    cls=Command, epilog=_EXAMPLES, interrupted="Files that are there are complete; the next run makes the others."
)
@shared.indices("none")
@click.option(
    "--mask",
    "-m",
    "masks",
    multiple=True,
    metavar="MASK",
    help="Cloud mask, in full or as CM004, which is CM004-CSH1-CMP1-CHP1-TCI1-ITER1. Default: none.",
)
@click.option("--masked", is_flag=True, help="Make each index under each mask too: masked pixels are no data.")
@click.option(
    "--quicklooks",
    is_flag=True,
    help="Make pictures too: true colour and each index, with the first mask hatched.",
)
@shared.folders
@shared.tiles
@shared.sensing_dates
@shared.cover
@click.option(
    "--precision",
    type=REAL,
    metavar="STEP",
    help="Round index values to this step, as 0.001, for smaller files. Default: all digits are kept.",
)
@click.option(
    "--format",
    "mask_format",
    type=click.Choice(["tif", "jp2"]),
    default="tif",
    show_default=True,
    help="Format of masks; index rasters are always tif.",
)
@click.option(
    "--resolution",
    type=WHOLE,
    default=10,
    show_default=True,
    metavar="METRES",
    help="OCM: size of the pixels that the model sees, 10 or 20.",
)
@click.option("--force", is_flag=True, help="Make again what exists, also of another formula, precision or resolution.")
@shared.verify
@shared.threads
@click.option("--dry-run", is_flag=True, help="Say what would be made, how large it is, and write nothing.")
@shared.common("every file, with the reason")
def produce(**options: Any) -> None:
    """Make rasters of indices and masks, and quicklooks, and keep them in the library.

    Rasters are Cloud-Optimized GeoTIFF without loss; each says in its tags what it was made from. Extraction reads them
    in the place of bands, and its rows stay the same. What exists is kept, unless the product or the rules have
    changed. A run that was stopped is completed by the next one, and several may run at once.
    """  # fmt: skip
    from sen2chain.library import Library

    if options["quiet"] and options["dry_run"]:
        raise RequestError("--dry-run says what would be made, and --quiet says nothing; leave one of them out.")
    target = Library(options["library"], options["safe"])
    plan = _plan(target, options)
    if not plan.orders:
        cause = (item.detail for item in _unusable(plan)[:1])
        fail(" ".join(["There is nothing to make.", plan.why_nothing, *cause]), EXIT_NOTHING)
    if options["quiet"] and plan.to_make and target.is_new:
        raise LibraryError(
            f"The library {target.paths.home} is not there, and --quiet does not begin one, since its disk may not be "
            "mounted; run it once without --quiet."
        )
    if not options["quiet"]:
        show.notes([*plan.sentences(), *(target.where() if plan.to_make else [])])
        show.notes(dict.fromkeys(f"! {item.detail}" for item in _unusable(plan)))
    if options["dry_run"]:
        if options["verbose"]:
            rows = [
                [file.label, str(order.acquisition.id), str(file.state), file.detail or "-"]
                for order in plan.orders
                for file in order.files
            ]
            show.table("Files", ["name", "product", "state", "reason"], rows, numeric=())
        else:
            show.notes(f"! {sentence}" for sentence in plan.reasons())
        _leave(plan, [(str(file.state), file.detail) for file in plan.files], quiet=False)
        return
    done = target.run(plan, quiet=options["quiet"])
    if not options["quiet"]:
        _tell(done, verbose=options["verbose"])
    if done.ended_by:
        fail(f"{done.ended_by} {done}", EXIT_ERROR)
    _leave(plan, [(str(file.outcome), file.detail) for file in done.made], quiet=options["quiet"])


def _plan(target: Library, options: Mapping[str, Any]) -> ProductPlan:
    """Return what is to be made."""
    from sen2chain.produce import ProductPlan

    names = (
        "masked", "quicklooks", "date_min", "date_max", "cover_min", "cover_max", "precision", "mask_format", "force",
        "verify", "workers", "resolution", "quiet",
    )  # fmt: skip
    plan = target.produce(
        options["indices"] or None,
        options["masks"] or None,
        tiles=options["tiles"] or None,
        dry_run=True,
        **{name: options[name] for name in names},
    )
    assert isinstance(plan, ProductPlan)  # noqa: S101  # of a dry run
    return plan


def _unusable(plan: ProductPlan) -> list[Skipped]:
    """Return what cannot be used of the tiles asked for, damaged products first."""
    tiles = plan.request.tiles
    asked = [item for item in plan.skipped if tiles is None or item.tile in {*tiles, ""}]
    return sorted(asked, key=lambda item: item.reason not in BROKEN)


def _tell(done: Production, *, verbose: bool) -> None:
    """Print what became of the files; nothing more than the plan has said where all were there before."""
    counts = done.counts()
    if not verbose and set(counts) == {"kept"}:
        return
    columns = [outcome for outcome in (*_THERE, *_MISSING) if outcome in counts]
    outcomes: dict[str, Counter[str]] = {}
    written: Counter[str] = Counter()
    for file in done.made:
        outcomes.setdefault(file.label, Counter())[file.outcome] += 1
        written[file.label] += file.bytes
    rows = [
        [name, *(str(found[column] or "-") for column in columns), sized(written[name]) if written[name] else "-"]
        for name, found in outcomes.items()
    ]
    show.table("Files", ["name", *columns, "written"], rows, numeric=range(1, len(columns) + 2))
    if verbose:
        every = [[file.label, file.product, file.outcome, file.detail or "-"] for file in done.made]
        show.table("Products", ["name", "product", "outcome", "reason"], every, numeric=())
    else:
        show.notes(f"! {sentence}" for sentence in done.reasons())
    click.echo(printable(str(done)))


def _leave(plan: ProductPlan, files: Sequence[tuple[str, str]], *, quiet: bool) -> None:
    """Leave with the exit code that says how it went, or would go; where a part is missing, with a sentence.

    Parameters
    ----------
    plan
        The plan.
    files
        Of each file what has become of it, or will, and the reason.
    quiet
        Whether nothing was printed, so that the sentence has to give a reason.
    """
    counts = Counter(outcome for outcome, _ in files)
    missing = {outcome: counts[outcome] for outcome in _MISSING if outcome in counts}
    broken = [item for item in _unusable(plan) if item.reason in BROKEN]
    if not missing and not broken:
        return
    said = []
    if missing:
        worst = next(iter(missing))
        number = ", ".join(f"{count} {outcome}" for outcome, count in missing.items())
        said = [f"{counted(len(files), 'file')}: {number}."]
        said += [next(detail for outcome, detail in files if outcome == worst)] if quiet else []
        if set(counts) == {"impossible"}:
            fail(" ".join(["Nothing can be made.", *said]), EXIT_NOTHING)
    if broken:
        number = f"{counted(len(broken), 'product')} cannot be used"
        said.append(f"{number}: {broken[0].detail}" if quiet else f"{number}.")
    fail(" ".join(["A part is missing.", *said]), EXIT_PARTLY)
