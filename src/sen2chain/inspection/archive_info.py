"""The result of `sen2chain library info`: text, plain values, tables for pandas and for notebooks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sen2chain.errors import choice
from sen2chain.inspection.info_text import headline, impossible_files, lines_of, tile_table
from sen2chain.inspection.text_tables import WIDTH
from sen2chain.notebook import card
from sen2chain.progress import sized

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from sen2chain.inspection.holdings import Holdings, ProductEntry
    from sen2chain.products import Skipped


@dataclass(frozen=True, slots=True, repr=False)
class ArchiveInfo:
    """What an archive holds: the result of `sen2chain.inspection.read_contents`.

    ``str()`` of it is what ``sen2chain library info`` prints.
    """

    source: str
    """What was read, in words."""
    total: Holdings
    """What it holds in total."""
    tiles: Mapping[str, Holdings]
    """What it holds of each tile, by name."""
    skipped: Sequence[Skipped]
    """Files and folders that are called like products and cannot be used, with the reason."""
    unread: Sequence[str] = ()
    """Folders that could not be listed, and files that could not be looked at: paths, with the reason. Their bytes are
    not counted."""

    def text(self, *, verbose: bool = False, width: int = WIDTH) -> str:
        """Return it as text for people.

        Parameters
        ----------
        verbose
            Add what each tile has, and lists in full.
        width
            Columns of the text.
        """
        return "\n".join(lines_of(self, verbose=verbose, width=width))

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {headline(self)}>"

    def _repr_html_(self) -> str:
        total = self.total
        dates = total.dates
        facts = [
            ("products", len(total.products)),
            ("dates", f"{len(dates)}, {dates[0]} to {dates[-1]}" if dates else "none"),
            ("size", sized(total.size)),
            ("indices stored", ", ".join(found.name for found in total.indices if found.stored or found.lossy)),
            ("can be made", ", ".join(found.name for found in total.indices if found.makeable)),
            ("masks stored", ", ".join(found.name for found in total.masks if found.stored)),
        ]
        table = tile_table(self.tiles, most=None)
        return card(self.source, facts, "print(info)", [table.header, *table.rows])

    def to_frame(self, by: Literal["tile", "product"] = "tile") -> pd.DataFrame:
        """Return a table with a row for each tile, or for each product.

        Parameters
        ----------
        by
            ``tile``: dates, counts and bytes of each tile. ``product``: each product with its date, cloud cover, bands
            and stored rasters; lists are texts, with a space between their parts.

        Raises
        ------
        RequestError
            If `by` is something else.
        """
        import pandas as pd  # noqa: PLC0415  # needed here only

        choice("table", by, ("tile", "product"))
        if by == "tile":
            return pd.DataFrame([_tile_row(found) for found in self.tiles.values()], columns=_TILE_COLUMNS)
        return pd.DataFrame([_product_row(entry) for entry in self.total.products], columns=_PRODUCT_COLUMNS)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, as ``--json`` prints them."""
        return {
            "archive": self.source,
            **{name: value for name, value in self.total.to_dict().items() if name != "tile"},
            "not_possible": [found.to_dict() for found in impossible_files(self.total)],
            "tiles": [found.to_dict() for found in self.tiles.values()],
            "skipped": [
                {"name": item.name, "tile": item.tile or None, "reason": item.reason.value, "detail": item.detail}
                for item in self.skipped
            ],
            "unread": list(self.unread),
        }


_TILE_COLUMNS = [
    "tile", "products", "with_safe", "dates", "first", "last", "platforms", "orbits", "baselines", "cloud_cover_median",
    "gaps", "several_baselines", "redundant_bytes", "bytes",
]  # fmt: skip


def _tile_row(found: Holdings) -> list[Any]:
    dates = found.dates
    return [
        found.tile,
        len(found.products),
        found.with_safe,
        len(dates),
        dates[0].isoformat() if dates else None,
        dates[-1].isoformat() if dates else None,
        " ".join(found.platforms),
        " ".join(map(str, found.orbits)),
        " ".join(found.baselines),
        found.cloud_cover["median"],
        len(found.gaps),
        len(found.reprocessed),
        found.redundant_bytes,
        found.size,
    ]


_PRODUCT_COLUMNS = [
    "product", "tile", "date", "platform", "orbit", "baseline", "has_safe", "cloud_cover", "bands", "indices", "masks",
    "metadata_fault",
]  # fmt: skip


def _product_row(entry: ProductEntry) -> list[Any]:
    return [
        str(entry.id),
        entry.id.tile,
        entry.id.sensing,
        entry.id.platform,
        entry.id.orbit,
        f"{entry.id.baseline / 100:05.2f}",
        entry.has_safe,
        entry.cloud_cover,
        " ".join(entry.bands),
        " ".join(entry.stored_indices),
        " ".join(entry.stored_masks),
        entry.metadata_fault,
    ]
