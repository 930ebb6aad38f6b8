"""What an archive holds, per tile and in total: products, dates, rasters, bytes, and what can be made."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sen2chain.inspection.date_gaps import DateGap, find_gaps

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping, Sequence

    from sen2chain.inspection.availability import Availability
    from sen2chain.products import ProductId

T = TypeVar("T", str, int)

BYTE_KINDS = (
    "L2A products",
    "index rasters, lossless",
    "index rasters, lossy",
    "masked copies",
    "masks",
    "quality rasters of deleted products",
    "quicklooks",
    "products that are not read",
    "incomplete files",
    "other files",
)
"""Kinds of files whose bytes are counted."""


@dataclass(frozen=True, slots=True)
class ProductEntry:
    """One product of an archive."""

    id: ProductId
    """The product."""
    has_safe: bool
    """Whether its own folder (or zip file) is there, and not only rasters made from it."""
    cloud_cover: float | None
    """Cloud cover in percent; None where the product does not say it."""
    bands: tuple[str, ...]
    """Bands and quality rasters that are there."""
    indices: Mapping[str, Availability]
    """Index -> how it can be had."""
    masks: Mapping[str, Availability]
    """Mask -> how it can be had."""
    metadata_fault: str = ""
    """Why its metadata cannot be used, a sentence; empty where they can, or where there is no SAFE folder."""
    remark: str = ""
    """Why its folder gives no bands, or not all, a clause."""

    @property
    def stored_indices(self) -> list[str]:
        """Indices of which an unmasked raster is stored."""
        return [name for name, found in self.indices.items() if found.stored or found.lossy or found.distrusted]

    @property
    def stored_masks(self) -> list[str]:
        """Masks of which a raster is stored, also one that is not used."""
        return [name for name, found in self.masks.items() if found.stored or found.distrusted]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file, or all files of a product, of one kind."""

    path: str
    """Its path."""
    kind: str
    """One of `BYTE_KINDS`."""
    tile: str
    """Its tile; empty where it belongs to none."""
    size: int
    """Bytes."""
    files: int = 1
    """Number of files."""
    redundant: bool = False
    """Of a masked copy: whether the unmasked raster of the same make and the mask are there, or can be computed."""


@dataclass(frozen=True, slots=True)
class AvailabilityCount:
    """Numbers of products in which an index or a mask is stored, can be made, or neither.

    Each product counts once in the first that holds of `stored`, `makeable`, `only_lossy`, `only_masked` and
    `impossible`.
    """

    name: str
    """The index or the mask."""
    stored: int
    """Products with a raster of exactly it."""
    makeable: int
    """Products without such a raster that have what it is made from."""
    only_lossy: int
    """Products that have a lossy raster alone."""
    only_masked: int
    """Products that have a masked copy alone."""
    impossible: int
    """Products that have none of these."""
    lossy: int
    """Products with a lossy raster, whatever else they have."""
    distrusted: Mapping[str, int]
    """Why stored rasters are not used, a clause whose subject is the raster -> number of products."""
    reasons: Mapping[str, int]
    """Why it cannot be made, a clause -> number of products in which it is not stored either."""
    unstored: tuple[str, ...]
    """Names of the products without any raster of it; empty where no product has one."""
    unstored_makeable: int
    """Those of `unstored` in which it can be made."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "stored": self.stored,
            "makeable": self.makeable,
            "only_lossy": self.only_lossy,
            "only_masked": self.only_masked,
            "impossible": self.impossible,
            "lossy": self.lossy,
            "not_used": dict(self.distrusted),
            "reasons": dict(self.reasons),
            "products_without": list(self.unstored),
            "makeable_of_these": self.unstored_makeable,
        }


@dataclass(frozen=True, slots=True)
class Reprocessed:
    """An acquisition that is there in several baselines."""

    tile: str
    """The tile."""
    sensing: dt.datetime
    """Its time."""
    products: tuple[ProductId, ...]
    """The products, the one that an extraction prefers first."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What an archive holds of one tile, or in total."""

    tile: str
    """The tile; empty for the total."""
    products: Sequence[ProductEntry]
    """The products, by name."""
    files: Sequence[StoredFile]
    """The files."""
    indices: tuple[AvailabilityCount, ...]
    """The twelve indices, and others that are stored."""
    masks: tuple[AvailabilityCount, ...]
    """The masks with short names, and others that are stored."""
    gaps: tuple[DateGap, ...]
    """Gaps in time, see `sen2chain.inspection.date_gaps`."""
    reprocessed: tuple[Reprocessed, ...]
    """Acquisitions in several baselines."""

    @property
    def dates(self) -> list[dt.date]:
        """Sensing dates, each once, ascending."""
        return sorted({entry.id.sensing.date() for entry in self.products})

    @property
    def platforms(self) -> dict[str, int]:
        """Platform -> number of products."""
        return _counted(entry.id.platform for entry in self.products)

    @property
    def orbits(self) -> dict[int, int]:
        """Relative orbit -> number of products."""
        return _counted(entry.id.orbit for entry in self.products)

    @property
    def baselines(self) -> dict[str, int]:
        """Processing baseline, as ``04.00`` -> number of products."""
        return _counted(f"{entry.id.baseline / 100:05.2f}" for entry in self.products)

    @property
    def bands(self) -> dict[str, int]:
        """Band or quality raster -> number of products that have it, in the order of their sensor."""
        counts = Counter(band for entry in self.products for band in entry.bands)
        sensors = {entry.id.sensor.name: entry.id.sensor for entry in self.products}.values()
        return {name: counts[name] for sensor in sensors for name in sensor.names if name in counts}

    @property
    def with_safe(self) -> int:
        """Number of products whose own folder (or zip file) is there."""
        return sum(entry.has_safe for entry in self.products)

    @property
    def cloud_cover(self) -> dict[str, float | int | None]:
        """Smallest, quartiles and largest cloud cover in percent (numpy's default rule), and products without a figure.

        The figures are None where no product has one.
        """
        known = sorted(entry.cloud_cover for entry in self.products if entry.cloud_cover is not None)
        quarters = statistics.quantiles(known, n=4, method="inclusive") if len(known) > 1 else known * 3
        names = ("min", "quartile_1", "median", "quartile_3", "max")
        figures = [known[0], *quarters, known[-1]] if known else [None] * 5
        return {**dict(zip(names, figures, strict=True)), "unknown": len(self.products) - len(known)}

    @property
    def bytes(self) -> dict[str, tuple[int, int]]:
        """Kind -> number of files and bytes, of the kinds that there are."""
        sums: dict[str, tuple[int, int]] = {}
        for file in self.files:
            count, size = sums.get(file.kind, (0, 0))
            sums[file.kind] = count + file.files, size + file.size
        return {kind: sums[kind] for kind in BYTE_KINDS if kind in sums}

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def redundant_bytes(self) -> int:
        """Bytes of `redundant`, with the files beside them."""
        return sum(file.size for file in self.files if file.redundant)

    @property
    def redundant(self) -> list[StoredFile]:
        """Masked copies that are redundant now."""
        return [file for file in self.files if file.redundant and not file.path.endswith(".aux.xml")]

    @property
    def indices_without_safe(self) -> list[ProductId]:
        """Products that have index rasters, masked ones included, and whose own folder is not there."""
        return [
            entry.id
            for entry in self.products
            if not entry.has_safe and (entry.stored_indices or any(found.masked for found in entry.indices.values()))
        ]

    @property
    def masks_without_safe(self) -> list[ProductId]:
        """Products that have masks, and whose own folder is not there."""
        return [entry.id for entry in self.products if not entry.has_safe and entry.stored_masks]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        dates, cover = self.dates, self.cloud_cover
        return {
            "tile": self.tile or None,
            "products": len(self.products),
            "products_with_safe": self.with_safe,
            "dates": len(dates),
            "first": dates[0].isoformat() if dates else None,
            "last": dates[-1].isoformat() if dates else None,
            "platforms": self.platforms,
            "orbits": {str(orbit): count for orbit, count in self.orbits.items()},
            "baselines": self.baselines,
            "bands": self.bands,
            "cloud_cover": cover,
            "indices": {found.name: found.to_dict() for found in self.indices},
            "masks": {found.name: found.to_dict() for found in self.masks},
            "indices_without_safe": [str(product) for product in self.indices_without_safe],
            "masks_without_safe": [str(product) for product in self.masks_without_safe],
            "metadata_faults": {str(e.id): e.metadata_fault for e in self.products if e.metadata_fault},
            "remarks": {str(e.id): e.remark for e in self.products if e.remark},
            "bytes": {kind: {"files": count, "bytes": size} for kind, (count, size) in self.bytes.items()},
            "redundant_masked_copies": {
                "files": len(self.redundant),
                "bytes": self.redundant_bytes,
                "paths": [file.path for file in self.redundant],
            },
            "incomplete_files": [file.path for file in self.files if file.kind == "incomplete files"],
            "gaps": [
                {
                    "tile": gap.tile,
                    "orbit": gap.orbit,
                    "after": gap.after.isoformat(),
                    "before": gap.before.isoformat(),
                    "days": gap.days,
                    "usual_days": gap.usual,
                    "missing_dates": gap.missing,
                }
                for gap in self.gaps
            ],
            "several_baselines": [
                {
                    "tile": found.tile,
                    "sensing": found.sensing.isoformat(),
                    "products": [str(product) for product in found.products],
                }
                for found in self.reprocessed
            ],
        }


def holdings_of(tile: str, products: Sequence[ProductEntry], files: Sequence[StoredFile]) -> Holdings:
    """Sum up products and files.

    Parameters
    ----------
    tile
        Their tile; empty for those of all tiles.
    products
        The products, by name.
    files
        The files.
    """
    dates: dict[tuple[str, int], list[dt.date]] = defaultdict(list)
    same: dict[tuple[str, str, dt.datetime], list[ProductId]] = defaultdict(list)
    cycle = 0
    for entry in products:
        dates[entry.id.tile, entry.id.orbit].append(entry.id.sensing.date())
        same[entry.id.tile, entry.id.platform, entry.id.sensing].append(entry.id)
        cycle = entry.id.sensor.cycle
    gaps = [gap for (of, orbit), days in sorted(dates.items()) for gap in find_gaps(of, {orbit: days}, cycle)]
    several = [
        Reprocessed(of, sensing, tuple(sorted(found, key=lambda p: (p.baseline_rank, p.generation), reverse=True)))
        for (of, _, sensing), found in sorted(same.items())
        if len({product.baseline for product in found}) > 1
    ]
    return Holdings(
        tile,
        products,
        files,
        _counts([(entry, entry.indices) for entry in products]),
        _counts([(entry, entry.masks) for entry in products]),
        tuple(gaps),
        tuple(several),
    )


def _counts(products: Iterable[tuple[ProductEntry, Mapping[str, Availability]]]) -> tuple[AvailabilityCount, ...]:
    """Count how each index or mask can be had."""
    found: dict[str, list[tuple[ProductEntry, Availability]]] = {}
    for entry, by_name in products:
        for name, how in by_name.items():
            found.setdefault(name, []).append((entry, how))
    return tuple(_count(name, hows) for name, hows in found.items())


def _count(name: str, products: Sequence[tuple[ProductEntry, Availability]]) -> AvailabilityCount:
    first = Counter(how.first for _, how in products)
    lacking = [(entry, how) for entry, how in products if not (how.stored or how.lossy or how.distrusted)]
    if len(lacking) == len(products):
        lacking = []
    return AvailabilityCount(
        name,
        first["stored"],
        first["makeable"],
        first["only_lossy"],
        first["only_masked"],
        first["impossible"],
        sum(how.lossy for _, how in products),
        _counted(how.distrusted for _, how in products if how.distrusted),
        _counted(how.reason for _, how in products if not how.stored and not how.makeable),
        tuple(str(entry.id) for entry, _ in lacking),
        sum(how.makeable for _, how in lacking),
    )


def _counted(values: Iterable[T]) -> dict[T, int]:
    """Count values, ascending."""
    return dict(sorted(Counter(values).items()))
