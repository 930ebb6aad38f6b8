"""The options that several commands share, each defined once, as decorators of one or a few options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sen2chain.cli.click_command import BANDS, REAL, RENAMED, WHOLE
from sen2chain.errors import OutputError, RequestError, quoted
from sen2chain.files import absolute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from sen2chain.archive import StacCatalogue
    from sen2chain.masks import Mask

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def together(*options: Decorator) -> Decorator:
    """Make one decorator of several options, which the help lists in this order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


layer_file = click.argument("layer_file", metavar="LAYER")


def indices(default: str) -> Decorator:
    """Add the indices; `default` says which they are where none is named."""
    return click.option(
        "--index",
        "-i",
        "indices",
        multiple=True,
        metavar="NAME",
        help=f"Index, as `sen2chain indices` lists them, or NAME=formula. Default: {default}.",
    )


def dates(first: str, last: str, names: tuple[str, str] = ("date_min", "date_max")) -> Decorator:
    """Add the first and the last date.

    Parameters
    ----------
    first, last
        What they mean.
    names
        The parameters that they become.
    """
    return together(
        click.option("--from", names[0], metavar="YYYY-MM-DD", help=first),
        click.option("--to", names[1], metavar="YYYY-MM-DD", help=last),
    )


sensing_dates = dates("First sensing date, inclusive.", "Last sensing date, inclusive.")


masks = together(
    click.option(
        "--mask", "-m", "masks", multiple=True, metavar="MASK",
        help="Cloud mask, as CM004 or in full; none masks nothing. Default: CM004.",
    ),
    click.option("--probability", type=WHOLE, help="CM003: CLDPRB from which a pixel is cloud. Default: 1."),
    click.option("--iterations", type=WHOLE, help="Number of dilations. Default: 5 for CM003, 1 for CM004."),
    click.option("--cld-shad/--no-cld-shad", default=True, help="CM004: mask cloud shadows."),
    click.option("--cld-med-prob/--no-cld-med-prob", default=True, help="CM004: mask clouds of medium probability."),
    click.option("--cld-hi-prob/--no-cld-hi-prob", default=True, help="CM004: mask clouds of high probability."),
    click.option("--thin-cir/--no-thin-cir", default=True, help="CM004: mask thin cirrus."),
)  # fmt: skip
_DEFAULT_MASK = "CM004"
_SWITCHES = ("cld_shad", "cld_med_prob", "cld_hi_prob", "thin_cir")


def masks_of(options: Mapping[str, Any], *, iterations: Mapping[str, int] | None = None) -> list[Mask]:
    """Return the masks that the options name.

    A short name is what `Mask.parse` takes it for, but for the parameters that are given.

    Parameters
    ----------
    options
        The options of `masks`.
    iterations
        Short name -> number of dilations where none is given, for one that stood for another mask before.

    Raises
    ------
    RequestError
        If a name is unknown, or a number cannot be used.
    """
    from sen2chain.masks import Mask

    found = []
    for name in options["masks"] or (_DEFAULT_MASK,):
        meant = Mask.parse(name)
        given = {key: options[key] for key in ("probability", "iterations") if options[key] is not None}
        usual = {
            "probability": 1 if meant.probability is None else meant.probability,
            "iterations": (iterations or {}).get(name.upper(), meant.iterations),
        }
        found.append(Mask.from_keywords(name, **{**usual, **given}, **{key: options[key] for key in _SWITCHES}))
    return found


library = click.option(
    "--library", metavar="DIR", help="Sen2Chain library. Default: that of SEN2CHAIN_HOMEPATH or the home folder."
)

_safe = click.option(
    "--safe", metavar="DIR",
    help="Folder of SAFE products, also zipped, instead of a library, or of the products of --library.",
)  # fmt: skip

folders = together(library, _safe)

tiles = click.option(
    "--tile", "tiles", multiple=True, metavar="TILE", help="Tile, as 40KCB. Default: all that there are."
)

threads = click.option(
    "--workers", type=WHOLE, default=0, show_default=True, help="Number of threads; 0 uses all processors."
)

as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document instead of tables, also with --quiet."
)

stac = together(
    click.option(
        "--stac", metavar="URL|FILE",
        help="STAC catalogue instead of a library: address of an API, or file of items (.json, .parquet).",
    ),
    click.option(
        "--collection", metavar="NAME", help="Collection of --stac. Default: the one that the catalogue is known for."
    ),
    click.option(
        "--stac-asset", "assets", multiple=True, metavar="BAND=ASSET",
        help="Name of the asset of --stac that holds a band, as B04=red. Default: the names of known catalogues.",
    ),
    click.option(
        "--stac-allow", "allow", multiple=True, metavar="HOST",
        help="Host or bucket (s3://NAME) that items of --stac may refer to, besides the known ones of the catalogue.",
    ),
)  # fmt: skip

archive = together(library, _safe, stac)

pixels_from = click.option(
    "--pixels-from", metavar="DIR",
    help="Layer's folder with kept pixels: they are read wherever they suffice, the archive for the rest.",
)  # fmt: skip


def catalogue_of(options: Mapping[str, Any]) -> str | StacCatalogue | None:
    """Return the catalogue that the options of `stac` name, as the classes take it; None where they name none.

    Raises
    ------
    RequestError
        If options of a catalogue are given without one, or cannot be used.
    """
    named, assets, allow = options["stac"], options["assets"], options["allow"]
    if named is None:
        if assets or allow:
            raise RequestError(f"{'--stac-asset' if assets else '--stac-allow'} belongs to --stac; add --stac URL.")
        return None
    if not (assets or allow):
        return str(named)
    from sen2chain.archive import StacCatalogue

    return StacCatalogue(named, options["collection"], assets=assets_of(assets), allow=allow)


def assets_of(texts: Iterable[str]) -> dict[str, str]:
    """Read names of assets by band from texts as ``B04=red``.

    Raises
    ------
    RequestError
        If a text has another form.
    """
    found = {}
    for text in texts:
        band, is_there, asset = (part.strip() for part in text.partition("="))
        if not (band and is_there and asset):
            raise RequestError(f"--stac-asset {quoted(text)} does not name a band and its asset; write B04=red.")
        found[band.upper()] = asset
    return found


layer_name = together(
    click.option("--layer", metavar="NAME", help="Layer of a file that has several."),
    click.option(
        "--id", "id_field", metavar="FIELD",
        help="Attribute that is your own key of features; stands right after fid in every result.",
    ),
    click.option(
        "--encoding", metavar="NAME",
        help="Encoding of the layer's texts, as cp1252. Default: what the file says, or else what fits.",
    ),
    click.option("--crs", metavar="CRS", help="CRS of a layer that has none, as EPSG:32632."),
)  # fmt: skip

pixels_and_buffer = together(
    click.option("--buffer", type=REAL, metavar="METRES", help="Grow (or shrink, if negative) the features first."),
    click.option(
        "--pixels",
        type=click.Choice(["center", "all_touched", "weighted"]),
        default="center",
        show_default=True,
        help="Which pixels belong to a polygon.",
    ),
)

pixels = together(
    pixels_and_buffer,
    click.option("--stat", "stats", multiple=True, metavar="NAME", help="Statistic besides the documented columns."),
)  # fmt: skip

cover = together(
    click.option(
        "--cover-min", type=REAL, default=0.0, show_default=True, metavar="PERCENT",
        help="Smallest cloud cover of a product.",
    ),
    click.option(
        "--cover-max", type=REAL, default=100.0, show_default=True, metavar="PERCENT",
        help="Largest cloud cover of a product.",
    ),
)  # fmt: skip

prefer = click.option(
    "--prefer", type=click.Choice(["stored", "masked"]), help="Read stored rasters before bands."
)  # fmt: skip

verify = click.option(
    "--verify", type=click.Choice(["never", "first"]), default="never", show_default=True, is_flag=False,
    flag_value="first",
    help="Compare the files of a product with the checksums of its manifest.safe before it is extracted; alone: first.",
)  # fmt: skip

_DECODED = "decoded"
"""What `--keep-pixels` alone means: the bands that are decoded anyway."""

keep_pixels = together(
    click.option(
        "--keep-pixels", type=BANDS, metavar="[BANDS]", is_flag=False, flag_value=_DECODED,
        help="Keep the pixels under the features too, so that later questions need not read the archive again: alone "
        "(behind LAYER) of the bands that are decoded anyway, of the features that clouds leave; or of bands, as "
        "B02,B03,B04,B08, which are then read of all features. SCL and CLDPRB are kept with them. With --verify, kept "
        "files that are damaged are made again.",
    ),
    click.option(
        "--keep-margin", type=REAL, metavar="METRES",
        help="How far around the features SCL and CLDPRB are kept, so that masks can be dilated: 40 m for each "
        "dilation. Default: 300.",
    ),
)  # fmt: skip

executor = together(
    click.option(
        "--workers",
        type=WHOLE,
        default=0,
        show_default=True,
        help="Threads, or Dask's processes; 0 uses all processors, or as many as suit a catalogue.",
    ),
    click.option(
        "--executor", type=click.Choice(["serial", "threads", "dask"]), help="Who does the work. Default: threads."
    ),
    click.option(
        "--scheduler", metavar="ADDRESS", help="Dask scheduler whose workers do the work: tcp://10.0.0.1:8786."
    ),
)


def overwrite(what: str, other: str = "mask, layer, unit, ...") -> Decorator:
    """Add the replacement of other results.

    Parameters
    ----------
    what
        The files that are replaced.
    other
        What may differ in them.
    """
    return click.option(
        "--overwrite",
        is_flag=True,
        help=f"Replace {what} also where it is another result (other {other}), or has rows and this run gives none. "
        "Without it only the same result made again is replaced.",
    )


plot = click.option(
    "--plot", is_flag=True, help="Draw pictures (PNG) too: all features over time, and one panel for each feature."
)

report = click.option("--report", metavar="FILE", help="Write the full report (CSV) to this file.")

extraction = together(
    click.option(
        "--extraction", metavar="DIR",
        help="Folder that has a folder for each layer. Default: EXTRACTION of the library, or of the home folder.",
    ),
    click.option(
        "--wait", type=click.FloatRange(min=0), metavar="SECONDS",
        help="How long to wait for another run on the same layer; 0 gives up at once. Default: until it is done.",
    ),
)  # fmt: skip


def common(more: str) -> Decorator:
    """Add the options of every command.

    Parameters
    ----------
    more
        The details that `--verbose` adds.
    """
    return together(
        click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors."),
        click.option("--verbose", "-v", is_flag=True, help=f"Say more: {more}."),
        click.option("--debug", is_flag=True, help="Show the traceback of an error."),
    )


EVERY_ACQUISITION = "every acquisition, its sources and reasons"

_OF_SERIES = (
    "indices", "date_min", "date_max", "library", "safe", "layer", "id_field", "encoding", "crs", "buffer", "pixels",
    "stats", "min_valid", "units", "cover_min", "cover_max", "prefer", "verify", "keep_empty", "workers", "executor",
    "scheduler", "extraction", "wait", "raw_format", "pixels_from", "keep_margin", "quiet",
)  # fmt: skip


def of_series(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are keywords of the time series; those that were not given several times are None."""
    catalogue = catalogue_of(options)
    return {
        "masks": masks_of(options),
        "stac": catalogue,
        # A catalogue that was made of its options has its collection.
        "collection": options["collection"] if catalogue is None or isinstance(catalogue, str) else None,
        **({"keep_pixels": _kept_bands(options["keep_pixels"])} if options.get("keep_pixels") is not None else {}),
        **{
            RENAMED.get(name, name): None if options[name] == () else options[name]
            for name in _OF_SERIES
            if name in options
        },
    }


def _kept_bands(text: str) -> bool | list[str]:
    """Return which bands `--keep-pixels` names; True where it names none."""
    return True if text == _DECODED else [name.strip() for name in text.split(",") if name.strip()]


def report_file(name: str | None) -> Path | None:
    """Return the file that `report` names.

    Raises
    ------
    OutputError
        If it is a folder, or has the suffix of the JSON beside it or of another format.
    """
    if not name:
        return None
    path = absolute(name)
    if path.is_dir():
        raise OutputError(f"{path} is a folder; --report takes the name of a file.")
    if path.suffix.lower() in {".json", ".parquet", ".gpkg", ".xlsx", ".html"}:
        raise OutputError(f"The report is a CSV file with a JSON beside it; name it {path.stem}.csv.")
    return path
