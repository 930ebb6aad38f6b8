"""`ArchiveInfo` as text: what there is, what can be made from it, and what to look at."""

from __future__ import annotations

import textwrap
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sen2chain.inspection.availability import MODEL, joined
from sen2chain.inspection.text_tables import TextTable, as_text
from sen2chain.progress import sized

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sen2chain.inspection.holdings import AvailabilityCount, Holdings
    from sen2chain.products import ProductId, Skipped

_MOST_TILES = 20  # rows of the table of tiles, unless all are asked for
_FEW = 5  # examples of what to look at
_FEW_DETAILS = 2  # sentences of one reason
_FEW_NAMED = 3  # products of one cause


class Found(Protocol):
    """What an archive holds, see `sen2chain.inspection.ArchiveInfo`."""

    @property
    def source(self) -> str:
        """What was read."""
        ...

    @property
    def total(self) -> Holdings:
        """All tiles together."""
        ...

    @property
    def tiles(self) -> Mapping[str, Holdings]:
        """Each tile."""
        ...

    @property
    def skipped(self) -> Sequence[Skipped]:
        """What cannot be used."""
        ...

    @property
    def unread(self) -> Sequence[str]:
        """What could not be looked at."""
        ...


def lines_of(info: Found, *, verbose: bool, width: int) -> list[str]:
    """Return the lines of the text.

    Parameters
    ----------
    info
        What was found.
    verbose
        Add what each tile has, and lists in full.
    width
        Columns of the tables.
    """
    total = info.total
    lines = _wrapped([headline(info)], width)
    if total.products:
        tables = as_text(_tables(info, verbose=verbose), width)
        lines += [*_wrapped(_facts(total), width), "", *tables.split("\n"), ""]
    elif total.files:
        lines += ["", *as_text([_bytes_table(total)], width).split("\n"), ""]
    remarks = _remarks(info, verbose=verbose)
    lines += _wrapped((f"! {sentence}" for sentence in remarks), width)
    return lines if remarks or not total.products else [*lines, "Nothing in it needs attention."]


def _wrapped(sentences: Iterable[str], width: int) -> list[str]:
    """Break sentences into lines; paths and names stay whole."""
    return [
        line
        for sentence in sentences
        for line in textwrap.wrap(
            sentence, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    ]


def headline(info: Found) -> str:
    """Return the sentence on what was read and how much there is."""
    total, dates = info.total, info.total.dates
    source = info.source[:1].upper() + info.source[1:]
    if not dates:
        return f"{source}: no product was found."
    span = f"on {dates[0]}" if len(dates) == 1 else f"on {len(dates)} dates from {dates[0]} to {dates[-1]}"
    tiles = f"in tile {total.products[0].id.tile}" if len(info.tiles) == 1 else f"in {len(info.tiles)} tiles"
    return f"{source}: {_number(len(total.products), 'product')} {span} {tiles}, {sized(total.size)}."


def _facts(total: Holdings) -> list[str]:
    """Sentences on bands and cloud cover; none where there is no product but rasters made from some."""
    if not total.with_safe and not total.bands:
        return []
    every = len(total.products)
    by_count: dict[int, list[str]] = defaultdict(list)
    for band, count in total.bands.items():
        by_count[count].append(band)
    parts = [f"{' '.join(names)} in {_of(count, every)}" for count, names in sorted(by_count.items(), reverse=True)]
    sentences = [f"Bands: {'; '.join(parts) if parts else 'none'}."]
    cover = total.cloud_cover
    unknown = f"; {cover['unknown']} without a figure" if cover["unknown"] else ""
    if cover["median"] is None:
        sentences.append("Cloud cover: no product has a figure.")
    elif cover["min"] == cover["max"]:
        sentences.append(f"Cloud cover: {cover['median']:.0f} %{unknown}.")
    else:
        sentences.append(
            f"Cloud cover: {cover['min']:.0f} to {cover['max']:.0f} %, half of the products from "
            f"{cover['quartile_1']:.0f} to {cover['quartile_3']:.0f} %, median {cover['median']:.0f} %{unknown}."
        )
    return sentences


def _of(count: int, every: int) -> str:
    if count == every:
        return f"all {every:,} products" if every > 1 else "the product"
    return f"{count:,} of {every:,} products"


def _tables(info: Found, *, verbose: bool) -> list[TextTable]:
    total = info.total
    tables = [
        tile_table(info.tiles, most=None if verbose else _MOST_TILES),
        _availability_table("Indices", total.indices, len(total.products)),
        _availability_table(_title_of_masks(total.masks), total.masks, len(total.products)),
        _bytes_table(total),
    ]
    if not verbose:
        return tables
    for found in info.tiles.values() if len(info.tiles) > 1 else ():
        every = len(found.products)
        tables += [
            _availability_table(f"{found.tile}: indices", found.indices, every),
            _availability_table(f"{found.tile}: cloud masks", found.masks, every),
            _bytes_table(found),
        ]
    gaps = [
        [gap.tile, str(gap.orbit), str(gap.after), str(gap.before), str(gap.days), f"{gap.usual:g}", str(gap.missing)]
        for gap in total.gaps
    ]
    if gaps:
        header = ["tile", "orbit", "date before", "date after", "days", "usual", "missing dates"]
        tables.append(TextTable("Gaps in time", header, gaps, (1, 4, 5, 6)))
    several = [
        [found.tile, f"{found.sensing:%Y-%m-%d %H:%M:%S}", _baselines(found.products)] for found in total.reprocessed
    ]
    if several:
        tables.append(TextTable("Acquisitions in several baselines", ["tile", "time", "baselines"], several))
    return tables


def tile_table(tiles: Mapping[str, Holdings], *, most: int | None) -> TextTable:
    """Return the table of tiles.

    Parameters
    ----------
    tiles
        The tiles by name.
    most
        Largest number of rows; None for all.
    """
    header = ["tile", "products", "first", "last", "platforms", "orbits", "baselines", "cloud %", "size"]
    rows = []
    for found in list(tiles.values())[:most]:
        dates, baselines, median = found.dates, list(found.baselines), found.cloud_cover["median"]
        rows.append(
            [
                found.tile,
                f"{len(found.products):,}",
                str(dates[0]) if dates else "-",
                str(dates[-1]) if dates else "-",
                " ".join(found.platforms),
                " ".join(map(str, found.orbits)),
                baselines[0] if len(baselines) == 1 else f"{baselines[0]}-{baselines[-1]}" if baselines else "-",
                "-" if median is None else f"{median:.0f}",
                sized(found.size),
            ]
        )
    title = "Tiles" if len(rows) == len(tiles) else f"Tiles: the first {len(rows)} of {len(tiles)}; --verbose shows all"
    return TextTable(title, header, rows, (1, 7, 8))


_COLUMNS = (
    ("stored", "stored"),
    ("stored lossy", "lossy"),
    ("can be made", "makeable"),
    ("lossy only", "only_lossy"),
    ("masked only", "only_masked"),
    ("not possible", "impossible"),
)


def _availability_table(title: str, counts: Iterable[AvailabilityCount], products: int) -> TextTable:
    """Return a table with a row for all indices or masks that have the same figures; columns of zeros are left out."""
    alike: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for found in counts:
        alike[tuple(getattr(found, name) for _, name in _COLUMNS)].append(found.name)
    shown = [i for i in range(len(_COLUMNS)) if i in {0, 2} or any(figures[i] for figures in alike)]
    rows = [
        [" ".join(names), *(f"{figures[i]:,}" if figures[i] else "-" for i in shown)]
        for figures, names in alike.items()
    ]
    header = [f"of {_number(products, 'product')}", *(_COLUMNS[i][0] for i in shown)]
    return TextTable(title, header, rows, range(1, len(header)))


def _title_of_masks(masks: Iterable[AvailabilityCount]) -> str:
    needs_model = any(found.name == MODEL and found.makeable for found in masks)
    return f"Cloud masks ({MODEL} is made with the extra sen2chain[ocm])" if needs_model else "Cloud masks"


def _bytes_table(found: Holdings) -> TextTable:
    rows = [[kind, f"{count:,}", sized(size)] for kind, (count, size) in found.bytes.items()]
    if len(rows) > 1:
        rows.append(["all", f"{sum(count for count, _ in found.bytes.values()):,}", sized(found.size)])
    title = f"{found.tile}: disk space" if found.tile else "Disk space"
    return TextTable(title, ["kind", "files", "size"], rows, (1, 2))


# ------------------------------------------------------------------------------------------------------ what to look at


def _remarks(info: Found, *, verbose: bool) -> list[str]:
    """Sentences on what is wrong, lacking or can be removed."""
    total = info.total
    sentences = _skipped(info.skipped, verbose=verbose)
    if info.unread:
        sentences.append(
            f"{_number(len(info.unread), 'folder or file')} could not be looked at, so sizes leave "
            f"{'it' if len(info.unread) == 1 else 'them'} out: {_listed(info.unread, verbose=verbose)}."
        )
    sentences += _product_faults(total, verbose=verbose)
    sentences += _impossible(total, verbose=verbose)
    sentences += _unstored(total)
    sentences += _without_safe(total)
    for found in (*total.indices, *total.masks):
        for why, count in found.distrusted.items():
            stored = f"{_number(count, 'stored raster')} of {found.name} {_are(count)} not used"
            sentences.append(f"{stored}: {'it' if count == 1 else 'each'} {why}.")
    return [*sentences, *_dates(total, verbose=verbose), *_files(total)]


def _skipped(skipped: Iterable[Skipped], *, verbose: bool) -> list[str]:
    """Name what cannot be used, grouped by reason."""
    by_reason: dict[str, list[Skipped]] = defaultdict(list)
    for item in skipped:
        by_reason[item.reason.sentence].append(item)
    sentences = []
    for reason, items in by_reason.items():
        shown = items if verbose else items[:_FEW_DETAILS]
        more = f" ... and {len(items) - len(shown):,} more." if len(items) > len(shown) else ""
        details = " ".join(item.detail for item in shown)
        head = f"{len(items):,} files or folders are not read ({reason}): " if len(items) > 1 else ""
        sentences.append(f"{head}{details}{more}")
    return sentences


def _product_faults(total: Holdings, *, verbose: bool) -> list[str]:
    sentences = []
    faults = [entry.metadata_fault for entry in total.products if entry.metadata_fault]
    if faults:
        shown = faults if verbose else faults[:_FEW_DETAILS]
        more = f" ... and {len(faults) - len(shown):,} more." if len(faults) > len(shown) else ""
        sentences.append(
            f"The metadata of {_number(len(faults), 'product')} cannot be used, so no index can be made from "
            f"{'its' if len(faults) == 1 else 'their'} bands: {' '.join(shown)}{more}"
        )
    remarks = [entry.remark for entry in total.products if entry.remark]
    if remarks:
        sentences.append(
            f"{_number(len(remarks), 'SAFE folder')} {'gives' if len(remarks) == 1 else 'give'} no bands, or not all: "
            f"{_listed(remarks, verbose=verbose)}."
        )
    return sentences


@dataclass(frozen=True, slots=True)
class ImpossibleFiles:
    """Indices and masks that cannot be made in some products, for one cause."""

    cause: str
    """The cause, a clause without the number of products."""
    names: tuple[str, ...]
    """The indices and masks."""
    products: tuple[str, ...]
    """The products."""

    def to_dict(self) -> dict[str, object]:
        """Return it as plain values, with the first products."""
        return {
            "reason": self.cause,
            "names": list(self.names),
            "products": len(self.products),
            "first_products": list(self.products[:_FEW_NAMED]),
        }


def impossible_files(total: Holdings) -> list[ImpossibleFiles]:
    """Find which indices and masks cannot be made, those of one cause together, the most frequent cause first."""
    found: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[str]] = defaultdict(list)
    for entry in total.products:
        alike: dict[str, tuple[list[str], dict[str, None]]] = {}
        for name, how in (*entry.indices.items(), *entry.masks.items()):
            if not how.stored and not how.makeable and how.missing:
                names, missing = alike.setdefault(how.lacking, ([], {}))
                names.append(name)
                missing |= dict.fromkeys(how.missing)
        order = entry.id.sensor.names.index
        for cause, (of, lacks) in alike.items():
            found[cause, tuple(of), tuple(sorted(lacks, key=order))].append(str(entry.id))
    return [
        ImpossibleFiles(f"{cause.format(joined(lacks), _are(len(lacks)))} {_place(cause)}", without, tuple(products))
        for (cause, without, lacks), products in sorted(found.items(), key=lambda item: -len(item[1]))
    ]


def _place(cause: str) -> str:
    return "in" if cause.startswith("{0}") else "for"


def _impossible(total: Holdings, *, verbose: bool) -> list[str]:
    """Say which indices and masks cannot be made, and in which products."""
    if not total.with_safe:  # one sentence tells it of all
        return []
    sentences = []
    found = impossible_files(total)
    for one in found if verbose else found[:_FEW]:
        count = len(one.products)
        named = ""
        if (count == 1 or verbose) and len(total.products) > 1:
            more = f" and {count - _FEW_NAMED:,} more" if count > _FEW_NAMED else ""
            named = f" ({', '.join(one.products[:_FEW_NAMED])}{more})"
        told = f"{one.cause} {_of(count, len(total.products))}{named}, so {joined(one.names)} cannot be made."
        sentences.append(told[:1].upper() + told[1:])
    if len(sentences) < len(found):
        sentences.append(f"{len(found) - len(sentences):,} more causes like these; --verbose shows all.")
    return sentences


def _unstored(total: Holdings) -> list[str]:
    """Name the indices that some products have stored and others have not."""
    alike: dict[tuple[int, int], list[str]] = defaultdict(list)
    for found in total.indices:
        if found.unstored:
            alike[len(found.unstored), found.unstored_makeable].append(found.name)
    sentences = []
    for (count, makeable), names in alike.items():
        head = f"{', '.join(names)}: stored for some products, not for {count:,} other{'s' * (count > 1)}"
        if makeable:
            which = "for which" if makeable == count else f"for {makeable:,} of which"
            sentences.append(f"{head}, {which} sen2chain produce can make it.")
        else:
            sentences.append(f"{head}, for which it cannot be made.")
    return sentences


def _without_safe(total: Holdings) -> list[str]:
    indices, masks = len(total.indices_without_safe), len(total.masks_without_safe)
    parts = [f"index rasters of {_number(indices, 'product')}"] * bool(indices)
    parts += [f"masks of {_number(masks, 'product')}"] * bool(masks)
    if not parts:
        return []
    if not total.with_safe:
        told = f"There are {' and '.join(parts)}, and none of their SAFE folders, so nothing can be made from bands."
        return [f"{told} Where the products lie in another folder, name it, too: --safe DIR."]
    return [f"There are {' and '.join(parts)} whose SAFE folder is not there."]


def _dates(total: Holdings, *, verbose: bool) -> list[str]:
    """Sentences on gaps and on several baselines."""
    sentences = []
    if total.gaps:
        longest = sorted(total.gaps, key=lambda gap: (-gap.days, gap.tile, gap.orbit))[:_FEW]
        told = "; ".join(
            f"{gap.tile}, orbit {gap.orbit}, {gap.after} to {gap.before} ({gap.days} days, usually {gap.usual:g})"
            for gap in longest
        )
        which = "the longest: " if len(total.gaps) > 1 else ""
        sentences.append(
            f"{_number(len(total.gaps), 'gap')} in time {_are(len(total.gaps))} longer than usual, {which}{told}."
        )
    if total.reprocessed:
        pairs = Counter(_baselines(found.products) for found in total.reprocessed)
        told = "; ".join(
            f"{baselines} ({count:,})" for baselines, count in pairs.most_common(None if verbose else _FEW)
        )
        sentences.append(
            f"{_number(len(total.reprocessed), 'acquisition')} {_are(len(total.reprocessed))} there in "
            f"several baselines, of which an extraction prefers the newest: {told}."
        )
    return sentences


def _files(total: Holdings) -> list[str]:
    """Sentences on files that can be removed, or say too little."""
    sentences = []
    if redundant := total.redundant:
        copies = "masked copy" if len(redundant) == 1 else "masked copies"
        sentences.append(
            f"{len(redundant):,} {copies} ({sized(total.redundant_bytes)}) {_are(len(redundant))} redundant: the "
            "unmasked raster is there, and the mask is there or can be computed; --json lists them."
        )
    count, size = total.bytes.get("incomplete files", (0, 0))
    if count:
        sentences.append(
            f"{_number(count, 'incomplete file')} ({sized(size)}) of a run that is going on or was interrupted; "
            "sen2chain library check tells which."
        )
    return sentences


def _number(count: int, what: str) -> str:
    """Return a number with its noun, in the plural where needed."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _baselines(products: Iterable[ProductId]) -> str:
    return " and ".join(dict.fromkeys(f"{product.baseline / 100:05.2f}" for product in products))


def _listed(items: Sequence[str], *, verbose: bool) -> str:
    shown = items if verbose else items[:_FEW_DETAILS]
    more = f"; ... and {len(items) - len(shown):,} more" if len(items) > len(shown) else ""
    return f"{'; '.join(shown)}{more}"
