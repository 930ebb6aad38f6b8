"""Produced files: what they hold equals independent computations, and each file ends with its true outcome."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio

import oracle
from sen2chain.archive import LibrarySource, open_target
from sen2chain.indices import INDICES, Index
from sen2chain.masks import Mask
from sen2chain.produce import FileKind, Outcome, Production, ProductRequest, plan_products, produce_files

if TYPE_CHECKING:
    from pathlib import Path

CM004 = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"


def request(*names: str, **options: Any) -> ProductRequest:
    """Ask for indices and masks by name."""
    indices = [name for name in names if name in INDICES or "=" in name]
    masks = tuple(Mask.parse(name) for name in names if name not in indices)
    return ProductRequest(tuple(Index.parse(name) for name in indices), masks, **options)


def produce(source: LibrarySource, *names: str, **options: Any) -> Production:
    return produce_files(plan_products(request(*names, **options), source), source, quiet=True)


def outcomes(production: Production) -> dict[str, int]:
    return {str(outcome): count for outcome, count in production.counts().items()}


def values(path: Path) -> Any:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[LibrarySource, Production]:
    """Everything that Bolzano's ten metre bands give, on three of its dates."""
    source = open_target(tmp_path_factory.mktemp("bolzano"), shared_data / "bolzano" / "L2A")
    days = {"first": dt.date(2022, 6, 1), "last": dt.date(2022, 6, 8)}
    names = [name for name, index in INDICES.items() if not {"B05", "B06", "B07", "B12"} & set(index.bands)]
    return source, produce(source, *names, "CM004", masked=True, **days)


def test_indices_equal_numpy_on_real_pixels(real: tuple[LibrarySource, Production], bolzano: Path) -> None:
    source, production = real
    made = [file for file in production.made if file.kind is FileKind.INDEX]
    checked = 0
    for safe in oracle.safes(bolzano / "L2A" / "32TPS"):
        for file in made:
            if file.product == safe.folder.stem and file.outcome is Outcome.MADE:
                wanted, ties = oracle.index(safe, file.name)
                differ = values(file.path) != wanted
                assert not (differ & ~ties).any()
                assert np.abs(values(file.path)[differ].astype(int) - wanted[differ]).max(initial=0) <= 1
                checked += 1
    assert checked == sum(file.outcome is Outcome.MADE for file in made) >= 9
    assert source.tiles() == ["32TPS"]
