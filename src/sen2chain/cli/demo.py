"""`sen2chain demo`: write a demo archive and extract from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sen2chain import atomic
from sen2chain.cli import options as shared
from sen2chain.cli.click_command import WHOLE, Command
from sen2chain.cli.show import finish, say_if_compiling, table

if TYPE_CHECKING:
    from sen2chain.timeseries import TimeSeries


@click.command(cls=Command, interrupted="The archive may lack files; run it again.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--size", type=WHOLE, metavar="PIXELS", help="Edge of the tiles in 10 m pixels, up to 10980.  [default: 360]"
)
@click.option("--parcels", type=WHOLE, metavar="N", help="Number of parcels.  [default: 48]")
@click.option("--seed", type=WHOLE, help="Another season, other fields.  [default: 1]")
@shared.overwrite("a table or the page in DIR/out")
@shared.common(shared.EVERY_ACQUISITION)
def demo(folder: Path, *, size: int | None, parcels: int | None, seed: int | None, **options: Any) -> None:
    """Write a small but truthful archive with parcels to DIR and run the extraction on it.

    Two overlapping tiles in different UTM zones, a season of growth, clouds with their shadows, a swath edge, the
    change to baseline 04.00 in the middle, one reprocessed acquisition and one damaged file.
    """
    from dataclasses import replace

    from sen2chain import demo as generator
    from sen2chain.progress import progress
    from sen2chain.timeseries import TimeSeries

    default = generator.DEFAULT
    scene = replace(
        default,
        size=default.size if size is None else size,
        parcels=default.parcels if parcels is None else parcels,
        seed=default.seed if seed is None else seed,
    )
    atomic.check_folder(folder)
    quiet = options["quiet"]
    with progress("writing the archive", quiet=quiet) as step:
        archive = generator.build(folder, scene, progress=step)
    if not quiet:
        click.echo(f"Wrote {len(archive.products)} products to {archive.library} and the parcels to {archive.layer}.")
        click.echo(
            f"\nsen2chain extract {archive.layer} --library {archive.library} --index NDVI --index NBR "
            f"--mask CM004 --iterations 1 --id parcel --out {folder / 'out'}\n"
        )
    say_if_compiling(quiet=quiet)
    series = TimeSeries(
        archive.layer,
        ["NDVI", "NBR"],
        cm_version="CM004",
        iterations=1,
        library=archive.library,
        id_field="parcel",
        quiet=quiet,
    )
    files = series.to_csv(folder / "out", overwrite=options["overwrite"])
    page = series.to_html(folder / "out", overwrite=options["overwrite"])
    files.append(page)
    if not quiet:
        _show_season(series)
    finish(series, files, quiet=quiet, verbose=options["verbose"], damage_is_part_of_it=True)
    if not quiet:
        click.echo(f"\nLook at it in a browser: {page}")


def _show_season(series: TimeSeries) -> None:
    """Print the mean NDVI of the first parcels by date, so that there is something to look at."""
    frame = series.data["NDVI"]
    chosen = frame[frame["fid"] < 4].reset_index()
    chosen["date"] = chosen["date"].dt.date
    means = (chosen.pivot_table(index="date", columns="fid", values="mean") / 10000).round(2)
    names = series.layer.attributes.iloc[:4, :2].astype(str).agg(" ".join, axis=1)
    rows = [[str(date), *("" if v != v else f"{v:.2f}" for v in row)] for date, *row in means.itertuples()]  # noqa: PLR0124
    table("Mean NDVI of the first parcels", ["date", *names[means.columns]], rows, numeric=range(1, 5))
