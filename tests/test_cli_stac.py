"""`--stac` of the commands, `sen2chain stac`, and jobs on a catalogue: a demonstration archive behind a file server."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from provider_layouts import Copy, items, overpass, product_files
from sen2chain import JobExtraction, TimeSeries, TimeSeriesCompil, demo
from sen2chain.archive import PROVIDERS, StacCatalogue
from sen2chain.cli import main
from sen2chain.errors import RequestError
from sen2chain.jobs.job_file import COLUMNS
from sen2chain.remote import transfer
from troubled_server import Trouble, TroubledServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCENE = demo.Scene(
    size=90,
    parcels=6,
    bands=("B04", "B08", "SCL", "CLDPRB"),
    overpasses=(overpass("2021-10-20", 214), overpass("2021-11-20", 301, cloud=0.2), overpass("2021-12-30", 301)),
)
CM004 = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"


class Served:
    """An archive, and the same products as a catalogue on a server."""

    def __init__(self, archive: demo.DemoArchive, server: TroubledServer, folder: Path) -> None:
        self.archive, self.server, self.folder = archive, server, folder
        self.layer = str(archive.layer)
        self.items = f"{server.url}/items.json"
        self.write("items.json", list(archive.products))

    def write(self, name: str, products: list[Any], **told: Any) -> Path:
        copies = []
        for product in products:
            files = product_files(self.archive.library, product)
            copies.append(Copy(product, {band: path for band, path in files.items() if band != "CLDPRB"}))
        found = items(copies, "cdse", self._href, says_subtracted=False, **told)
        path = self.folder / name
        path.write_text(json.dumps({"type": "FeatureCollection", "features": found}), encoding="utf-8")
        return path

    def _href(self, path: Path) -> str:
        return f"{self.server.url}/{path.relative_to(self.folder).as_posix()}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    archive = demo.build(folder / "archive", SCENE)
    with TroubledServer(folder=folder) as server:
        yield Served(archive, server, folder)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(tmp_path / "home"))


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def table(path: Path) -> pd.DataFrame:
    """Rows of a CSV without what a catalogue has otherwise."""
    return pd.read_csv(path).drop(columns="cldprb")


# -------------------------------------------------------------------------------------------------------- the commands


def test_extract_gives_the_rows_of_the_archive(served: Served, tmp_path: Path) -> None:
    asked = ["extract", served.layer, "--index", "NDVI", "--mask", "CM004", "--quiet", "--out"]
    ours = run(*asked, tmp_path / "a", "--library", served.archive.library)
    theirs = run(*asked, tmp_path / "b", "--stac", served.items)
    assert (ours.exit_code, theirs.exit_code) == (0, 0), theirs.output
    (expected,), (found,) = (list((tmp_path / name).rglob("*.csv")) for name in ("a", "b"))
    assert expected.name == found.name
    pd.testing.assert_frame_equal(table(found), table(expected))
    told = json.loads(found.with_suffix(".json").read_text(encoding="utf-8"))
    assert told["archive"] == f"STAC catalogue {served.items}"


def test_the_dry_run_tells_requests_and_megabytes(served: Served) -> None:
    asked = ["extract", served.layer, "--stac", served.items, "-i", "NDVI", "-m", "CM004"]
    result = run(*asked, "--dry-run")
    assert result.exit_code == 0, result.output
    told = re.search(r"([\d,]+) requests to servers for ([\d.]+) [kM]B, a few seconds", result.output)
    assert told is not None, result.output
    before = len(served.server.log)
    TimeSeries(served.layer, ["NDVI"], masks=["CM004"], stac=served.items, quiet=True).run()
    asked_for = [entry for entry in served.server.log[before:] if not entry.path.endswith(".json")]
    assert 0.5 * len(asked_for) <= int(told[1].replace(",", "")) <= 2 * len(asked_for)
    assert float(told[2]) > 0


def test_update_compile_and_page_work_on_a_catalogue(served: Served, tmp_path: Path) -> None:
    place = ["--extraction", tmp_path / "series", "-i", "NDVI"]
    first = run("update", served.layer, "--stac", served.items, *place)
    assert first.exit_code == 0, first.output
    assert "6 images extracted from 6 acquisitions" in first.output
    again = run("update", served.layer, "--stac", served.items, *place)
    assert again.exit_code == 0
    assert "Nothing new: 6 images are there already." in again.output
    before = len(served.server.log)
    assert run("compile", served.layer, "--stac", served.items, *place, "--all", "--quiet").exit_code == 0
    assert run("page", served.layer, "--stac", served.items, *place, "--quiet").exit_code == 0
    assert len(served.server.log) == before, "what is in the folder is shown without a network"
    # A month without an item is not an error, as in an archive.
    empty = run("update", served.layer, "--stac", served.items, *place, "--from", "2030-01-01")
    assert empty.exit_code == 0, empty.output
    assert "has no item for this layer, these dates and this cloud cover" in empty.output


def test_an_item_of_a_newer_version_is_extracted_again(served: Served, tmp_path: Path) -> None:
    place = ["--extraction", tmp_path / "series", "-i", "NDVI"]
    url = f"{served.server.url}/nightly.json"
    served.write("nightly.json", list(served.archive.products)[:4])
    assert "4 images extracted from 4 acquisitions" in run("update", served.layer, "--stac", url, *place).output
    served.write("nightly.json", list(served.archive.products)[:4], updated="2024-06-01T12:00:00Z")
    told = run("update", served.layer, "--stac", url, *place, "--dry-run")
    assert "4 images of 4 acquisitions to be extracted" in told.output, told.output
    assert "4 images extracted from 4 acquisitions" in run("update", served.layer, "--stac", url, *place).output
    assert "Nothing new: 4 images" in run("update", served.layer, "--stac", url, *place).output


def test_the_cloud_cover_is_asked_of_the_catalogue(served: Served, tmp_path: Path) -> None:
    cover = {
        item["properties"]["eo:cloud_cover"]
        for item in json.loads(served.folder.joinpath("items.json").read_text(encoding="utf-8"))["features"]
    }
    limit = sorted(cover)[-2]
    asked = ["stac", "search", served.layer, "--stac", served.items]
    assert "6 items" in run(*asked).output
    assert "5 items" in run(*asked, "--cover-max", str(limit + 0.01)).output
    series = TimeSeries(served.layer, ["NDVI"], masks=["CM004"], cover_max=limit + 0.01, stac=served.items, quiet=True)
    assert (len(series.plan.tasks), series.plan.outside_cover) == (5, 0)
    assert tmp_path.is_dir()


def test_no_key_of_the_address_is_written_anywhere(served: Served, tmp_path: Path) -> None:
    url, report = f"{served.items}?sig=s3cr3t", tmp_path / "report.csv"
    asked = ["extract", served.layer, "-i", "NDVI", "-m", "CM004", "--verbose"]
    result = run(*asked, "--stac", url, "--out", tmp_path / "out", "--html", "--report", report)
    assert result.exit_code == 0, result.output
    wrong = run(*asked, "--stac", f"{served.server.url}/absent.json?sig=s3cr3t", "--out", tmp_path / "out")
    assert wrong.exit_code == 1
    assert "absent.json cannot be read" in wrong.output
    assert "s3cr3t" not in result.output + wrong.output
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"s3cr3t" not in path.read_bytes(), path
    assert any("sig=s3cr3t" in entry.query for entry in served.server.log), "the server was asked with it"


def test_pictures_are_read_from_a_catalogue(served: Served, tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    asked = ["extract", served.layer, "--stac", served.items, "-i", "NDVI", "-m", "CM004", "--quiet", "--out", tmp_path]
    result = run(*asked, "--quicklooks", "--feature", "1")
    assert result.exit_code == 0, result.output
    assert list(tmp_path.rglob("*_MOZ-QL_*"))


def test_a_long_run_says_before_it_begins_how_much_it_fetches(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from sen2chain.timeseries import engine  # noqa: PLC0415  # its private limit

    said: list[str] = []
    monkeypatch.setattr(engine, "say", lambda sentence, **_: said.append(sentence))
    monkeypatch.setattr(engine, "is_watched", lambda *, quiet: not quiet)
    asked: dict[str, Any] = {"indices": ["NDVI"], "masks": ["CM004"], "stac": served.items}
    TimeSeries(served.layer, **asked, quiet=False).run()
    assert not said, "a short run says nothing"
    monkeypatch.setattr(engine, "_MANY_BYTES", 1000)
    TimeSeries(served.layer, **asked, quiet=False).run()
    assert re.fullmatch(r"\d+ requests to servers for [\d.]+ kB, a few seconds at 10.0 MB per second\.", said[0])
    said.clear()
    TimeSeries(served.layer, **asked, quiet=True).run()
    assert not said


def test_without_the_extra_an_api_is_one_sentence(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "pystac_client"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pystac_client", None)
    root = {"type": "Catalog", "id": "api", "stac_version": "1.0.0", "description": "An API.", "links": [
        {"rel": "search", "href": f"{served.server.url}/search", "type": "application/geo+json"}],
        "conformsTo": [f"https://api.stacspec.org/v1.0.0/{name}" for name in ("core", "item-search")]}  # fmt: skip
    (served.folder / "v1").write_text(json.dumps(root), encoding="utf-8")
    words = ["extract", served.layer, "--stac", f"{served.server.url}/v1", "-i", "NDVI", "--out", tmp_path]
    result = run(*words)
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert "pystac-client, which is not installed" in result.output
    assert "sen2chain[stac]" in result.output


def test_a_catalogue_that_does_not_answer_is_one_sentence(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "patience", transfer.Patience(pauses=(0.0,)))
    words = ["extract", served.layer, "--stac", "http://127.0.0.1:1/items.json", "-i", "NDVI", "--out", tmp_path]
    result = run(*words)
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert (
        "The STAC catalogue http://127.0.0.1:1/items.json cannot be read: its server cannot be reached" in result.output
    )
    assert not list(tmp_path.rglob("*.csv"))


def test_a_mask_that_no_product_has_is_one_sentence_before_any_pixel(served: Served, tmp_path: Path) -> None:
    before = len(served.server.log)
    for word in ("CM001", "CM003"):
        result = run("extract", served.layer, "--stac", served.items, "-i", "NDVI", "-m", word, "--out", tmp_path)
        assert result.exit_code == 2
        assert f"needs CLDPRB, which no product of the STAC catalogue {served.items} has; " in result.output
        assert "masks that work: CM004, none." in result.output
    with pytest.raises(RequestError, match=r"^CM001 needs CLDPRB, .* masks that work: CM004, none\.$"):
        TimeSeries(served.layer, ["NDVI"], stac=served.items, quiet=True)
    compiled = TimeSeriesCompil(served.layer, ["NDVI"], cm_version="CM003", stac=served.items, quiet=True)
    with pytest.raises(RequestError, match="masks that work: CM004, none"):
        compiled.extract_data()
    assert not compiled.folder.exists()
    assert {entry.path for entry in served.server.log[before:]} == {"/items.json"}


def test_options_of_a_catalogue_need_one(served: Served, tmp_path: Path) -> None:
    for words, part in (
        (["--collection", "c"], "is one of a STAC catalogue, but none was given"),
        (["--stac-asset", "B04=red"], "--stac-asset belongs to --stac; add --stac URL"),
        (["--stac-allow", "a.org"], "--stac-allow belongs to --stac"),
        (["--stac", served.items, "--stac-asset", "red"], "does not name a band and its asset; write B04=red"),
        (["--stac", served.items, "--safe", "x"], "pass one of them"),
    ):
        result = run("extract", served.layer, *words, "-i", "NDVI", "--out", tmp_path)
        assert (result.exit_code, part in result.output) == (2, True), result.output


def test_no_item_is_told_with_what_was_asked_for(served: Served, tmp_path: Path) -> None:
    words = ["--stac", served.items, "-i", "NDVI", "--from", "2030-01-01", "--out", tmp_path]
    result = run("extract", served.layer, *words)
    assert result.exit_code == 3
    assert f"The STAC catalogue {served.items} has no item for this layer, these dates" in result.output


def test_own_names_of_assets_and_hosts_reach_the_catalogue(served: Served, tmp_path: Path) -> None:
    content = json.loads((served.folder / "items.json").read_text(encoding="utf-8"))
    for item in content["features"]:
        item["assets"]["deep-red"] = item["assets"].pop("B04_10m")
        for asset in item["assets"].values():
            asset["href"] = asset["href"].replace("127.0.0.1", "localhost")
    (served.folder / "odd.json").write_text(json.dumps(content), encoding="utf-8")
    url = f"{served.server.url}/odd.json"
    asked = ["extract", served.layer, "--stac", url, "-i", "NDVI", "-m", "CM004", "--quiet", "--out", tmp_path]
    refused = run(*asked, "--stac-asset", "B04=deep-red")
    assert refused.exit_code != 0
    assert "--stac-allow localhost" in refused.output
    result = run(*asked, "--stac-asset", "B04=deep-red", "--stac-allow", "localhost")
    assert result.exit_code == 0, result.output


# ------------------------------------------------------------------------------------------------------ sen2chain stac


def test_search_says_what_there_is_and_saves_it(served: Served, tmp_path: Path) -> None:
    saved = tmp_path / "items.parquet"
    asked = ["stac", "search", served.layer, "--stac", served.items, "--from", "2021-11-01", "--save", saved]
    result = run(*asked)
    assert result.exit_code == 0, result.output
    for part in ("31TGJ", "32TLP", "2021-11-20", "2021-12-30", "4 items of 2 tiles", "Masks that work: CM004, none."):
        assert part in result.output
    assert f"{saved} holds 4 items (2 tiles, 2021-11-20 to 2021-12-30): 4 new, 0 updated." in result.output
    assert "2021-10-20" not in result.output
    again = run(*asked)
    assert "4 items of 2 tiles in the STAC catalogue" in again.output
    assert f"{saved} holds 4 items (2 tiles, 2021-11-20 to 2021-12-30): 0 new, 0 updated." in again.output
    later = run(*asked[:-2], "--from", "2021-12-01", "--save", saved)
    assert "2 items of 2 tiles in the STAC catalogue" in later.output, "what was asked for"
    assert f"{saved} holds 4 items (2 tiles, 2021-11-20 to" in later.output, "and, apart, what is in the file"
    other = run(*asked, "--cover-max", "99")
    assert (other.exit_code, "another search" in other.output) == (1, True), other.output
    assert run(*asked, "--cover-max", "99", "--overwrite").exit_code == 0
    assert run(*asked, "--overwrite").exit_code == 0
    out = tmp_path / "out"
    words = ["--stac", saved, "-i", "NDVI", "-m", "CM004", "--stac-allow", "127.0.0.1", "--quiet", "--out", out]
    done = run("extract", served.layer, *words)
    assert done.exit_code == 0, done.output
    (file,) = out.rglob("*.csv")
    assert set(pd.read_csv(file)["date"].str[:10]) == {"2021-11-20", "2021-12-30"}


def test_a_search_that_finds_nothing_and_one_without_a_catalogue(served: Served, tmp_path: Path) -> None:
    result = run("stac", "search", served.layer, "--stac", served.items, "--from", "2030-01-01")
    assert result.exit_code == 3
    assert "Nothing was found." in result.output
    missing = run("stac", "search", served.layer)
    assert (missing.exit_code, "Missing option '--stac'" in missing.output) == (2, True)
    assert "[required]" in run("stac", "search", "--help").output
    assert "[required]" not in run("extract", "--help").output.partition("--stac ")[2].partition("--collection")[0]
    wrong = run("stac", "search", served.layer, "--stac", served.items, "--save", tmp_path / "items.json")
    assert (wrong.exit_code, "name the file items.parquet" in wrong.output) == (2, True)


def test_items_that_cannot_be_used_are_told_once_per_reason(served: Served, tmp_path: Path) -> None:
    path = served.write("mixed.json", list(served.archive.products))
    document = json.loads(path.read_text(encoding="utf-8"))
    odd = []
    for number, item in enumerate(document["features"]):
        properties = {name: value for name, value in item["properties"].items() if not name.startswith("s2:")}
        odd.append({**item, "id": f"LC08_L2SP_{number}", "properties": {**properties, "title": f"Landsat {number}"}})
    document["features"] += odd
    path.write_text(json.dumps(document), encoding="utf-8")
    asked = ["stac", "search", served.layer, "--stac", f"{served.server.url}/mixed.json"]
    result = run(*asked)
    assert result.exit_code == 4, result.output
    assert "6 items of 2 tiles" in result.output
    assert result.output.count("LC08_L2SP_") == result.output.count("LC08_L2SP_0") >= 1
    assert result.output.count("6 items, as LC08_L2SP_0: ") == 1
    assert "6 items cannot be used." in result.output
    quiet = run(*asked, "--quiet")
    assert (quiet.exit_code, quiet.output.count("6 items, as LC08_L2SP_0: ")) == (4, 1)
    path.write_text(json.dumps({**document, "features": odd}), encoding="utf-8")
    saved = tmp_path / "none.parquet"
    none = run(*asked, "--save", saved)
    assert none.exit_code == 3, none.output
    assert "Nothing was found. 6 items cannot be used. 6 items, as LC08_L2SP_0: " in none.output
    assert none.output.count("6 items, as") == 1
    assert "provider:" not in none.output
    assert not saved.exists()


def test_a_search_that_finds_nothing_leaves_files_as_they_were(served: Served, tmp_path: Path) -> None:
    saved = tmp_path / "items.parquet"
    asked = ["stac", "search", served.layer, "--stac", served.items, "--save", saved]
    none = run(*asked, "--from", "2030-01-01")
    assert none.exit_code == 3
    assert f"{saved} is not written" in none.output
    assert list(tmp_path.glob("items*")) == []
    assert run(*asked).exit_code == 0
    before = saved.read_bytes()
    assert run(*asked, "--from", "2030-01-01", "--overwrite").exit_code == 3
    assert saved.read_bytes() == before


def test_providers_are_listed() -> None:
    result = run("stac", "providers")
    assert result.exit_code == 0
    for one in PROVIDERS:
        assert one.name in result.output
        assert one.title in result.output
        for fact in (one.offset, one.keys, one.documentation):
            assert fact.split(" ")[-1] in result.output
    assert "None of them was tried on its own server" in result.output
    assert max(len(line) for line in result.output.splitlines() if "http" not in line) <= 80


# ---------------------------------------------------------------------------------------------------------------- jobs


def test_a_job_reads_a_catalogue_and_shows_no_key(served: Served, tmp_path: Path) -> None:
    home = tmp_path / "home" / "sen2chain_data"
    job = JobExtraction("lakes")
    job.path.parent.mkdir(parents=True)
    cells = {"shapefile": served.layer, "cloudmasks": CM004, "indices": "NDVI", "compiled_data": "all_data"}
    head = f"logs = True\nlibrary = stac:{served.items}?sig=s3cr3t\n"
    line = ";".join(cells.get(column, "") for column in COLUMNS)
    job.path.write_text(f"{head}{';'.join(COLUMNS)}\n{line}\n", encoding="utf-8")
    job = JobExtraction("lakes")
    look = job.check()
    assert look.is_good, look
    assert f"Products come from the STAC catalogue {served.items}." in str(look)
    assert "6 new images of 6 acquisitions" in str(look)
    said: list[str] = []
    record = job.run(quiet=True, echo=said.append)
    assert record.status == "done", record.as_dict()
    told = record.as_dict()
    assert told["archive"] == f"STAC catalogue {served.items}"
    assert list((home / "data" / "EXTRACTION").rglob("*.csv"))
    assert record.path is not None
    written = record.path.read_text(encoding="utf-8") + record.path.with_suffix(".log").read_text(encoding="utf-8")
    for text in (*said, str(look), repr(job), job._repr_html_(), written):
        assert "s3cr3t" not in text


def job_with(served: Served, home: Path, head: str, mask: str = CM004) -> JobExtraction:
    job = JobExtraction("lakes")
    job.path.parent.mkdir(parents=True)
    cells = {"shapefile": served.layer, "cloudmasks": mask, "indices": "NDVI"}
    line = ";".join(cells.get(column, "") for column in COLUMNS)
    job.path.write_text(f"{head}\n{';'.join(COLUMNS)}\n{line}\n", encoding="utf-8")
    assert job.path.is_relative_to(home)
    return JobExtraction("lakes")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("stac:https://host.org/v1", "stac:https://host.org/v1"),
        ("stac:https://me:s3cr3t@host.org/v1?sig=s3cr3t", "stac:https://host.org/v1?..."),
        ("stac:s3://bucket/items.parquet", "stac:s3://bucket/items.parquet"),
        ("stac:items.parquet", "stac:items.parquet"),
    ],
)
def test_a_job_shows_its_catalogue_without_keys(served: Served, tmp_path: Path, written: str, shown: str) -> None:
    job = job_with(served, tmp_path, f"library = {written}")
    for text in (repr(job), run("job", "show", "lakes").output):
        assert f"library = {shown}\n" in text
        assert "s3cr3t" not in text


@pytest.mark.parametrize("head", ["library = https://host/v1", "collection = sentinel-2-l2a"])
def test_a_job_without_a_usable_catalogue_says_that_alone(served: Served, tmp_path: Path, head: str) -> None:
    found = job_with(served, tmp_path, head).check()
    assert len(found.problems) == 1, found.problems
    assert "was not looked at" in str(found)
    assert "There is no archive" not in str(found)


def test_a_mask_that_cannot_be_had_points_at_its_column(served: Served, tmp_path: Path) -> None:
    (problem,) = job_with(served, tmp_path, f"library = stac:{served.items}", "CM001").check().problems
    assert ", cloudmasks (character " in problem
    assert "CM001 needs CLDPRB" in problem


@pytest.mark.parametrize("place", ["stac:items.parquet", "https://me:s3cr3t@host.org/v1?sig=s3cr3t", "s3://b/i.json"])
def test_an_address_is_not_a_library(served: Served, place: str) -> None:
    with pytest.raises(RequestError, match=r"as stac= \(--stac\)") as caught:
        TimeSeries(served.layer, ["NDVI"], library=place, quiet=True)
    assert "s3cr3t" not in str(caught.value)


def test_a_night_without_the_catalogue_keeps_what_there_is(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "patience", transfer.Patience(pauses=(0.0,)))
    served.write("night.json", list(served.archive.products))
    job = JobExtraction("night")
    job.save()
    job.library = f"stac:{served.server.url}/night.json"
    job.task_edit(
        0, shapefile=served.layer, cloudmasks=CM004, indices="NDVI", date_min="", date_max="", compiled_data="all_data"
    )
    job.save()
    assert job.run(quiet=True).status == "done"
    served.server.answers["/night.json"] = lambda _: Trouble(503)
    record = job.run(quiet=True)
    (line,) = record.lines
    assert (record.status, line.status) == ("partly", "partly")
    (error,) = line.errors
    assert error["step"] == "extract"
    assert "night.json cannot be read: its server answered 503" in error["message"]
    assert line.compiled == {"written": [], "unchanged": 1}
    del served.server.answers["/night.json"]
    again = job.run(quiet=True)
    assert (again.status, again.rows) == ("done", 0)


def test_a_job_finds_its_items_beside_sen2chain_data(served: Served, tmp_path: Path) -> None:
    home = tmp_path / "home" / "sen2chain_data"
    home.mkdir(parents=True)
    done = run("stac", "search", served.layer, "--stac", served.items, "--save", home / "items.parquet", "--quiet")
    assert (done.exit_code, done.output) == (0, "")
    job = JobExtraction("saved")
    job.save()
    job.library, job.stac_allow = "stac:items.parquet", "127.0.0.1"
    job.task_edit(0, shapefile=served.layer, cloudmasks="CM001", indices="NDVI", date_min="", date_max="2021-11-30")
    job.save()
    look = job.check()
    assert f"STAC catalogue {home / 'items.parquet'}" in str(look)
    assert "masks that work: CM004, none" in str(look)
    job.task_edit(0, cloudmasks=CM004)
    job.save()
    assert "4 new images of 4 acquisitions" in str(job.check())


def test_a_catalogue_object_serves_all_classes(served: Served) -> None:
    catalogue = StacCatalogue(served.items)
    by_stac = TimeSeries(served.layer, ["NDVI"], masks=["CM004"], stac=catalogue, quiet=True)
    by_library = TimeSeries(served.layer, ["NDVI"], masks=["CM004"], library=catalogue, quiet=True)
    assert by_stac.rows == by_library.rows > 0
    with pytest.raises(RequestError, match="has its own; pass it to StacCatalogue"):
        TimeSeries(served.layer, ["NDVI"], masks=["CM004"], stac=catalogue, collection="other", quiet=True)
