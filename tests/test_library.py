"""`Library`: the facade over production, inspection and conversion of an archive."""

from __future__ import annotations

import datetime as dt
import inspect
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import sen2chain
from sen2chain import INDICES, Library, Mask, demo
from sen2chain.archive import MemorySource
from sen2chain.cli import main
from sen2chain.errors import LibraryError, RequestError, UnknownKeywordError, UnknownNameError
from sen2chain.produce import Production, ProductPlan

if TYPE_CHECKING:
    from pathlib import Path

CM004 = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scene = demo.Scene(size=60, parcels=2, overpasses=demo.season(2), bands=("B04", "B08", "SCL", "CLDPRB"))
    return demo.build(tmp_path_factory.mktemp("built"), scene).library


@pytest.fixture
def home(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a library; it is the home folder."""
    shutil.copytree(built, tmp_path / "sen2chain_data")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(done: Production | ProductPlan) -> Production:
    assert isinstance(done, Production)
    return done


def planned(plan: Production | ProductPlan) -> ProductPlan:
    assert isinstance(plan, ProductPlan)
    return plan


def files(plan: ProductPlan) -> list[str]:
    return sorted(file.path.name for order in plan.orders for file in order.files)


def test_the_example_of_the_issue(home: Path) -> None:
    library = Library("sen2chain_data")
    assert "31TGJ" in str(library.info())
    done = made(library.produce(indices=["NDVI"], masks=["CM004"], tiles=["31TGJ"]))
    assert done.counts() == {"made": 4}
    assert {path.name.partition("_20")[0] for path in done.files} != set()
    assert len(list(home.rglob(f"*_{CM004}.tif"))) == 2, "the command's meaning of a short name"
    assert library.check().exit_code == 0
    assert made(library.produce(indices=["NDVI"], masks=["CM004"], tiles=["31TGJ"])).counts() == {"kept": 4}


def test_a_dry_run_is_a_plan_that_can_be_carried_out(home: Path) -> None:
    library = Library()
    plan = planned(library.produce("NDVI", tiles="31TGJ", dry_run=True))
    assert len(plan.orders) == 2
    assert not list(home.rglob("*.tif"))
    assert library.run(plan).counts() == {"made": 2}


@pytest.mark.usefixtures("home")
def test_a_plan_says_what_the_command_says() -> None:
    plan = planned(Library().produce(["NDVI", "NBR"], tiles="31TGJ", dry_run=True))
    said = CliRunner().invoke(main, ["produce", "--index", "NDVI", "--index", "NBR", "--tile", "31TGJ", "--dry-run"])
    assert f"{plan}\n" == said.stdout
    assert repr(plan) == "<ProductPlan of 2 products: 2 to make, 2 impossible>"
    told = json.loads(json.dumps(plan.to_dict(), allow_nan=False))
    assert told["counts"] == {"to make": 2, "impossible": 2}
    assert [file["path"] for file in told["files"]] == plan.to_frame()["path"].to_list()
    assert plan.to_frame()["state"].value_counts().to_dict() == told["counts"]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("masks", "names"),
    [
        ("CM004", [CM004]),
        (["CM003", "cm001"], ["CM003-PRB1-ITER5", "CM001"]),
        (Mask.parse("SCL-3-ITER0"), ["SCL-3-ITER0"]),
        ([CM004, Mask.parse("CM004"), "cm004"], [CM004]),
    ],
)
def test_masks_by_name_and_by_value(masks: Any, names: list[str]) -> None:
    plan = planned(Library().produce(masks=masks, tiles="31TGJ", date_max="2021-10-20", dry_run=True))
    assert sorted(name.partition("T31TGJ_")[2].partition("_")[2] for name in files(plan)) == sorted(
        f"{name}.tif" for name in names
    )


@pytest.mark.usefixtures("home")
def test_dates_as_texts_and_values() -> None:
    library = Library()
    for first in ("2021-10-20", dt.date(2021, 10, 20), dt.datetime(2021, 10, 20, 12)):  # noqa: DTZ001  # as users write
        assert len(planned(library.produce("NDVI", date_min=first, dry_run=True)).orders) == 2
        assert len(planned(library.produce("NDVI", date_max=first, dry_run=True)).orders) == 2
    assert not planned(library.produce("NDVI", date_min="2030-01-01", dry_run=True)).orders


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "Nothing is asked for"),
        ({"indices": [], "masks": []}, "Nothing is asked for"),
        ({"masks": "none"}, "masks nothing"),
        ({"indices": "NDVI", "tiles": []}, "tiles is"),
        ({"indices": "NDVI", "tiles": [5]}, "tiles is"),
        ({"indices": "NDVI", "tiles": "31TGH"}, "there are: 31TGJ, 32TLP"),
        ({"indices": "NDVI", "tiles": "32TLQ"}, "there are: 32TLP, 31TGJ"),
        ({"indices": "NDVI", "mask_format": "jp2"}, "is for masks"),
        ({"indices": "NDVI", "resolution": 20}, "belongs to the mask OCM"),
        ({"indices": "NDVI", "cover_min": 5, "cover_max": 4}, "swap them"),
        ({"indices": "NDVI", "date_min": "2022", "date_max": None}, "date_min is '2022'"),
        ({"indices": "NDVI", "verify": "often"}, "Unknown verification"),
        ({"indices": "NDVI", "masked": "yes"}, "masked is 'yes'"),
        ({"indices": "NDVI", "quiet": "yes"}, "quiet is 'yes'"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError) as caught:
        Library().produce(**options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_many_tiles_are_not_all_listed(home: Path) -> None:
    products = sorted((home / "sen2chain_data" / "data" / "L2A").glob("*/*20211015*"))
    for letter in "ABCDEFGHJKLM":
        name = products[0].name.replace(products[0].parent.name, f"32UP{letter}")
        (home / "sen2chain_data" / "data" / "L2A" / f"32UP{letter}" / name / "GRANULE").mkdir(parents=True)
    with pytest.raises(RequestError, match=r"there are: 32UP., 32UP., .* and 6 more\.$"):
        Library().produce("NDVI", tiles="32UPN")


@pytest.mark.usefixtures("home")
def test_keywords_of_others_are_answered_with_ours() -> None:
    library: Any = Library()
    for wrong, right in (("tile", "tiles"), ("start", "date_min"), ("format", "mask_format"), ("cm_version", "masks")):
        with pytest.raises(UnknownKeywordError, match=f"did you mean {right}"):
            library.produce("NDVI", **{wrong: 1})
    with pytest.raises(UnknownKeywordError, match="did you mean parts"):
        library.check(only="offsets")
    with pytest.raises(UnknownKeywordError, match="did you mean library"):
        sen2chain.Library(archive="x")  # type: ignore[call-arg]


def test_places_that_are_no_archive_are_refused_at_once(home: Path) -> None:
    with pytest.raises(LibraryError, match="is not a folder"):
        Library("nowhere")
    with pytest.raises(LibraryError, match="neither a folder nor a zip file"):
        Library(safe="nowhere")
    with pytest.raises(RequestError, match="MemorySource takes no rasters"):
        Library(MemorySource([]))  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="stac="):
        Library("https://example.org")
    shutil.rmtree(home / "sen2chain_data")
    with pytest.raises(LibraryError, match="There is no archive"):
        Library()


def test_downloads_alone_need_no_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.move(home / "sen2chain_data" / "data" / "L2A", home / "downloads")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    monkeypatch.delenv("HOME")
    library = Library(safe=home / "downloads")
    assert "31TGJ" in str(library.info())
    with pytest.raises(LibraryError, match="This user has no home folder"):
        library.produce("NDVI")
    assert made(Library(home / "new", home / "downloads").produce("NDVI", tiles="31TGJ")).counts() == {"made": 2}


def test_a_new_library_is_begun_by_the_first_raster(home: Path) -> None:
    library = Library("new", safe="sen2chain_data/data/L2A")
    assert (library.is_new, len(library.where())) == (True, 1)
    library.info()
    library.check()
    library.produce("NDVI", date_min="2030-01-01")
    assert not (home / "new").exists()
    library.produce(quicklooks=False, masks="CM004", tiles="31TGJ")
    assert (library.is_new, library.where()) == (False, [])
    assert {"CLOUDMASKS", "INDICES"} <= {path.name for path in (home / "new").iterdir()}
    assert Library("new").paths.indices == home / "new" / "INDICES"


@pytest.mark.usefixtures("home")
def test_texts_for_terminals_and_notebooks() -> None:
    library = Library("sen2chain_data", safe="sen2chain_data/data/L2A")
    assert repr(library) == "Library(library='sen2chain_data', safe='sen2chain_data/data/L2A')"
    assert repr(Library()) == "Library()"
    assert "INDICES" in library._repr_html_()
    plan = planned(library.produce("NDVI", tiles="31TGJ", dry_run=True))
    done = library.run(plan)
    assert len(repr(plan)) + len(repr(done)) < 200
    for result in (plan, done, library.info(), library.check(), library.convert()):
        assert result._repr_html_().startswith("<")
        assert str(result)
        assert len(result.to_frame().columns)


def test_methods_take_the_keywords_of_the_time_series() -> None:
    known = inspect.signature(sen2chain.TimeSeries.__init__).parameters
    for name, parameter in inspect.signature(Library.produce).parameters.items():
        if name in known and name not in {"self", "indices", "masks", "quiet"}:
            assert parameter.default == known[name].default, name


@pytest.mark.usefixtures("home")
def test_all_indices() -> None:
    plan = planned(Library().produce("all", tiles="31TGJ", date_max="2021-10-20", dry_run=True))
    assert len(files(plan)) == len(INDICES)
    with pytest.raises(UnknownNameError, match="Did you mean NDVI"):
        Library().produce("NDVU")
