"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from provider_layouts import ProviderFiles
    from sen2chain.demo import DemoArchive
    from stac_servers import Api, FileServer, ObjectStore

ROOT = Path(__file__).resolve().parents[1]

# A first example may compile a kernel, and machines are busy: how long an example takes is not what tests are about.
hypothesis.settings.register_profile("any_time", deadline=None)
hypothesis.settings.load_profile("any_time")


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("the real pixels of ../shared are not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def shared_data(shared: Path) -> Path:
    return shared / "data"


@pytest.fixture(scope="session")
def bolzano(shared_data: Path) -> Path:
    return shared_data / "bolzano"


@pytest.fixture(scope="session")
def few_fields(tmp_path_factory: pytest.TempPathFactory) -> DemoArchive:
    """Six parcels in two overlapping tiles on four dates: the smallest archive with all that tables may hold."""
    from sen2chain import demo  # noqa: PLC0415  # most tests need none of its libraries

    scene = demo.Scene(size=90, parcels=6, overpasses=demo.season(4), bands=("B03", "B04", "B08", "SCL", "CLDPRB"))
    return demo.build(tmp_path_factory.mktemp("few-fields"), scene)


@pytest.fixture(scope="session")
def provider_files(tmp_path_factory: pytest.TempPathFactory) -> ProviderFiles:
    """Small products in the forms of providers; the processes of a run share them, so tests must not change them."""
    from provider_layouts import ProviderFiles  # noqa: PLC0415  # most tests need none of its libraries

    base = tmp_path_factory.getbasetemp()
    return ProviderFiles((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "provider-files")


@pytest.fixture(scope="session")
def file_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    from stac_servers import FileServer  # noqa: PLC0415  # most tests need none of its libraries

    with FileServer(tmp_path_factory.mktemp("nginx")) as server:
        yield server


@pytest.fixture(scope="session")
def stac_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    from stac_servers import started_api  # noqa: PLC0415  # most tests need none of its libraries

    with started_api(tmp_path_factory.mktemp("stac-api")) as api:
        yield api


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    pytest.importorskip("moto", reason="moto is not installed")
    from stac_servers import ObjectStore  # noqa: PLC0415  # most tests need none of its libraries

    with ObjectStore(tmp_path_factory.mktemp("moto")) as store:
        yield store


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep saved pixel plans and the user's own archive out of the tests."""
    monkeypatch.setenv("SEN2CHAIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("SEN2CHAIN_HOMEPATH", raising=False)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests of the real cloud model where its library, which brings PyTorch along, is not installed."""
    if importlib.util.find_spec("omnicloudmask") is None and (
        left := [item for item in items if item.get_closest_marker("ocm")]
    ):
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that is marked `jpeg2000` twice: JPEG 2000 is decoded by OpenJPEG itself, and by GDAL alone."""
    if metafunc.definition.get_closest_marker("jpeg2000"):
        metafunc.parametrize("_decoder", ["openjpeg", "gdal"], indirect=True)


@pytest.fixture(autouse=True)
def _decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode as the parameter says; by default as users do."""
    decoder = getattr(request, "param", "")
    if decoder == "gdal":
        monkeypatch.setenv("SEN2CHAIN_OPENJPEG", "off")
    elif decoder:
        from sen2chain.jpeg2000 import openjpeg  # noqa: PLC0415  # most tests need none of its libraries

        monkeypatch.delenv("SEN2CHAIN_OPENJPEG", raising=False)
        assert openjpeg.library(), openjpeg.unavailable()  # else both would be GDAL
