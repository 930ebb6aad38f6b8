"""OmniCloudMask: what the model is given, what becomes of its classes, and what is said where it cannot run.

The library is a stand-in, see `omnicloudmask_double`; the test that is marked `ocm` runs the real one.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio

import omnicloudmask_double as double
import oracle
from sen2chain import demo, settings
from sen2chain.acquisition import MaskLayer, read
from sen2chain.archive import open_library
from sen2chain.errors import MissingExtraError, ModelError, OutputError, RequestError
from sen2chain.masks import Mask
from sen2chain.parallel import apart
from sen2chain.produce import cloud_model, model_library
from sen2chain.produce.cloud_model import CloudModel
from sen2chain.raster_tags import FROM_MODEL, RasterTags

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from sen2chain.products import Acquisition

    Array = npt.NDArray[Any]

SIZE = 240


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoArchive:
    """Two products of one tile: with an offset and the edge of a swath in it, and without an offset."""
    season = demo.season()
    scene = demo.Scene(
        tiles=("31TGJ",), size=SIZE, parcels=4, overpasses=(season[3], season[7]), bands=("B03", "B04", "B8A"), seed=3
    )
    scene = replace(scene, overpasses=(season[3], replace(season[7], edge=0.6, cut=())))
    return demo.build(tmp_path_factory.mktemp("cloud-model"), scene)


@pytest.fixture
def acquisitions(archive: demo.DemoArchive) -> list[Acquisition]:
    return list(open_library(archive.library).acquisitions("31TGJ"))


@pytest.fixture
def model(archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CloudModel:
    double.install(tmp_path / "library", monkeypatch)
    return find(archive, folder=double.write_weights(tmp_path / "weights"))


def find(archive: demo.DemoArchive, resolution: int = 10, folder: Path | None = None) -> CloudModel:
    return CloudModel.find(replace(settings.paths(archive.library), ocm_models=folder), resolution)


def make(model: CloudModel, acquisition: Acquisition, path: Path, **options: Any) -> RasterTags:
    tags = RasterTags(str(acquisition.id), model.name, inputs="of today", version="2.0")
    return apart(lambda: model.make(acquisition, path, tags, **options))


def bands(acquisition: Acquisition, resolution: int) -> list[Array]:
    """Read red, green and near infrared with rasterio and bring them to a resolution with numpy."""
    found = []
    for band in ("B04", "B03", "B8A"):
        with rasterio.open(acquisition.bands[band]) as dataset:
            dn = dataset.read(1).astype(float)
        dn[dn == 0] = np.nan
        if resolution == 10 and band == "B8A":
            dn = oracle.to_ten_metres(dn)
        if resolution == 20 and band != "B8A":
            quarters = np.stack([dn[i::2, j::2] for i in (0, 1) for j in (0, 1)])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of four pixels without data
                dn = np.nanmean(quarters, axis=0)
        found.append(np.rint(np.nan_to_num(dn)))
    return found


# ---------------------------------------------------------------------------------------------------------- the mask


@pytest.mark.parametrize("resolution", [10, 20])
def test_the_mask_is_where_the_model_sees_clouds(
    model: CloudModel, acquisitions: list[Acquisition], tmp_path: Path, resolution: int
) -> None:
    model = replace(model, resolution=resolution)
    for acquisition in acquisitions:
        path = tmp_path / f"{acquisition.id}.tif"
        tags = make(model, acquisition, path)
        seen = bands(acquisition, resolution)
        classes = double.classes(*seen)
        assert all((classes == number).any() for number in range(4)), "else the test shows little"
        with rasterio.open(path) as dataset, rasterio.open(acquisition.bands["B04"]) as red:
            assert dataset.dtypes == ("uint8",)
            assert dataset.nodata is None
            np.testing.assert_array_equal(dataset.read(1), classes > 0)
            assert (dataset.crs, dataset.bounds) == (red.crs, red.bounds)
            assert dataset.res == (resolution, resolution)
            assert RasterTags.read(dataset.tags()) == tags
        missing = (np.stack(seen) == 0).all(axis=0)
        assert (tags.name, tags.source, tags.inputs) == ("OCM_v1_8_1", FROM_MODEL, "of today")
        assert tags.more == {
            "library": "omnicloudmask 1.8.1",
            "model": "4.0",
            "resolution": str(resolution),
            "clear": str(((classes == 0) & ~missing).sum()),
            "thick_cloud": str((classes == 1).sum()),
            "thin_cloud": str((classes == 2).sum()),
            "cloud_shadow": str((classes == 3).sum()),
            "no_data": str(missing.sum()),
        }
    assert int(tags.more["no_data"]) > 0


def test_the_mask_is_what_extraction_reads(model: CloudModel, acquisitions: list[Acquisition], tmp_path: Path) -> None:
    made = tmp_path / "mask.tif"
    make(model, acquisitions[0], made)
    known = replace(acquisitions[0], masks={model.name: str(made)})
    layer = MaskLayer(Mask.parse("OCM"))
    np.testing.assert_array_equal(read(known, [layer])[layer], double.classes(*bands(acquisitions[0], 10)) > 0)


def test_the_model_gets_digital_numbers_in_their_own_type(
    model: CloudModel, acquisitions: list[Acquisition], tmp_path: Path
) -> None:
    make(model, acquisitions[0], tmp_path / "mask.tif")
    library: Any = importlib.import_module("omnicloudmask")
    assert library.calls == [((3, SIZE, SIZE), "uint16", SIZE // 2, SIZE // 4, model.library.folder)]


def test_the_model_sees_red_green_and_near_infrared() -> None:
    assert cloud_model.BANDS == ("B04", "B03", "B8A")


def test_small_images_are_padded_without_a_change(model: CloudModel, tmp_path: Path) -> None:
    scene = demo.Scene(tiles=("31TGJ",), size=64, parcels=2, overpasses=demo.season(1), bands=("B03", "B04", "B8A"))
    small = demo.build(tmp_path / "small", scene)
    (acquisition,) = open_library(small.library).acquisitions("31TGJ")
    make(model, acquisition, tmp_path / "mask.tif")
    library: Any = importlib.import_module("omnicloudmask")
    assert [call[0] for call in library.calls] == [(3, 100, 100)]
    with rasterio.open(tmp_path / "mask.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), double.classes(*bands(acquisition, 10)) > 0)


def test_a_product_without_data_has_an_empty_mask(model: CloudModel, tmp_path: Path) -> None:
    scene = demo.Scene(
        tiles=("31TGJ",), size=64, parcels=2, bands=("B03", "B04", "B8A"),
        overpasses=(replace(demo.season(1)[0], edge=0.0),),
    )  # fmt: skip
    (acquisition,) = open_library(demo.build(tmp_path / "none", scene).library).acquisitions("31TGJ")
    tags = make(model, acquisition, tmp_path / "mask.tif")
    assert (tags.more["no_data"], tags.more["clear"]) == (str(64 * 64), "0")
    with rasterio.open(tmp_path / "mask.tif") as dataset:
        assert not dataset.read(1).any()


def test_one_model_runs_at_a_time(model: CloudModel, acquisitions: list[Acquisition], tmp_path: Path) -> None:
    model.load()
    library: Any = importlib.import_module("omnicloudmask")
    library.delay = 0.05
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: make(model, acquisitions[k % 2], tmp_path / f"{k}.tif"), range(4)))
    assert library.most == 1
    assert len(list(tmp_path.glob("*.tif"))) == 4


# ------------------------------------------------------------------------------------------------------------ faults


def test_a_failure_of_the_model_leaves_what_was_there(
    model: CloudModel, acquisitions: list[Acquisition], tmp_path: Path
) -> None:
    path = tmp_path / "out" / "mask.tif"
    path.parent.mkdir()
    path.write_bytes(b"before")
    model.load()
    library: Any = importlib.import_module("omnicloudmask")
    library.failure = RuntimeError("out of memory:\nall of it")
    with pytest.raises(ModelError, match=r"^OmniCloudMask failed \(out of memory:\)\.$"):
        make(model, acquisitions[0], path)
    assert path.read_bytes() == b"before"
    assert [file.name for file in path.parent.iterdir()] == ["mask.tif"]


@pytest.mark.parametrize(
    "wrong",
    [
        "np.zeros((1, 5, 5), np.uint8)",
        "np.zeros(input_array.shape[1:], np.uint8)",
        "np.full((1, *input_array.shape[1:]), 4, np.uint8)",
        "np.zeros((1, *input_array.shape[1:]), np.float32)",
    ],
)
def test_classes_of_another_kind_are_refused(
    archive: demo.DemoArchive,
    acquisitions: list[Acquisition],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wrong: str,
) -> None:
    source = f"def predict_from_array(input_array, **options):\n    return {wrong}"
    double.install(tmp_path / "library", monkeypatch, "9.0", more=source)
    model = find(archive, folder=double.write_weights(tmp_path / "weights"))
    with pytest.raises(
        ModelError, match=r"OmniCloudMask (9\.0 has returned an array of .*install version 1\.8|failed \()"
    ):
        make(model, acquisitions[0], tmp_path / "mask.tif")
    assert not (tmp_path / "mask.tif").exists()


def test_a_machine_with_little_memory_is_told_what_helps(
    model: CloudModel, acquisitions: list[Acquisition], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud_model, "memory", lambda: 1_200_000_000)
    with pytest.raises(ModelError, match=r"needs about 1\.2 GB of memory for 240 x 240 .* use .*--resolution 20"):
        make(model, acquisitions[0], tmp_path / "mask.tif")
    monkeypatch.setattr(cloud_model, "memory", lambda: None)
    make(model, acquisitions[0], tmp_path / "mask.tif")


def test_the_caller_can_end_the_work(model: CloudModel, acquisitions: list[Acquisition], tmp_path: Path) -> None:
    class StopError(BaseException):
        pass

    def stop(share: float) -> None:
        raise StopError(share)

    with pytest.raises(StopError):
        make(model, acquisitions[0], tmp_path / "mask.tif", advance=stop)
    assert not (tmp_path / "mask.tif").exists()
    make(model, acquisitions[0], tmp_path / "mask.tif")  # the lock is free again


def test_a_missing_band_is_named(model: CloudModel, acquisitions: list[Acquisition], tmp_path: Path) -> None:
    rest = {band: where for band, where in acquisitions[0].bands.items() if band != "B8A"}
    with pytest.raises(RequestError, match="has no band B8A"):
        make(model, replace(acquisitions[0], bands=rest), tmp_path / "mask.tif")


def test_a_folder_that_cannot_be_written_is_one_sentence(
    model: CloudModel, acquisitions: list[Acquisition], tmp_path: Path
) -> None:
    (tmp_path / "mask.tif").mkdir()
    with pytest.raises(OutputError, match=r"mask\.tif"):
        make(model, acquisitions[0], tmp_path / "mask.tif")


# ------------------------------------------------------------------------------------------------- library and weights


def test_without_the_library_one_sentence_says_what_to_install(
    archive: demo.DemoArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "omnicloudmask", None)
    assert model_library.installed() == ""
    with pytest.raises(MissingExtraError, match=r"need omnicloudmask, .*sen2chain\[ocm\]"):
        find(archive)


@pytest.mark.parametrize(
    ("version", "name"),
    [("1.8.1", "OCM_v1_8_1"), ("1.10", "OCM_v1_10"), ("1.9.0.dev3+g1a2b", "OCM_v1_9_0"), ("2.0rc1", "OCM_v2_0")],
)
def test_masks_are_named_after_the_version(
    archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, name: str
) -> None:
    double.install(tmp_path / "library", monkeypatch, version)
    assert find(archive).name == name
    assert Mask.parse(name) == Mask.parse("OCM")
    assert "omnicloudmask" not in sys.modules, "planning does not import it"


@pytest.mark.parametrize(
    ("present", "size", "said"),
    [
        ((), 2 << 20, r"lacks {0} and {1}; load"),
        ((0,), 2 << 20, r"lacks {1}; load"),
        ((0, 1), 1000, r"lacks {0} and {1}; load"),  # the library takes them for incomplete, and loads them again
        (None, 0, r"is not a folder; load"),
    ],
)
def test_a_named_folder_without_weights_is_an_error_that_names_them(
    archive: demo.DemoArchive,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    present: tuple[int, ...] | None,
    size: int,
    said: str,
) -> None:
    double.install(tmp_path / "library", monkeypatch)
    folder = tmp_path / "weights"
    if present is not None:
        double.write_weights(folder, tuple(double.WEIGHTS[k] for k in present), size)
    with pytest.raises(ModelError) as failed:
        find(archive, folder=folder)
    sentence = str(failed.value)
    assert said.format(*double.WEIGHTS) in sentence
    for part in (str(folder), *double.WEIGHTS, "config/config.cfg", "ocm_models = FOLDER"):
        assert part in sentence
    assert double.OLD not in sentence


def test_the_configuration_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, acquisitions: list[Acquisition]
) -> None:
    double.install(tmp_path / "library", monkeypatch)
    home = tmp_path / "sen2chain_data"
    (home / "config").mkdir(parents=True)
    (home / "config" / "config.cfg").write_text("[DATA PATHS]\nocm_models = weights\n", encoding="utf-8")
    double.write_weights(home / "weights")
    model = CloudModel.find(settings.paths(home))
    assert model.library.folder == home / "weights"
    model.load()
    make(model, acquisitions[0], tmp_path / "mask.tif")
    library: Any = importlib.import_module("omnicloudmask")
    assert {call[4] for call in library.calls} == {home / "weights"}


def test_without_a_network_the_error_names_files_and_setting(
    archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    double.install(tmp_path / "library", monkeypatch)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    model = find(archive)
    with pytest.raises(ModelError) as failed:
        model.load(quiet=True)
    sentence = str(failed.value)
    assert sentence.startswith("The weights of OmniCloudMask cannot be loaded (Name or service not known); load ")
    for part in (*double.WEIGHTS, "[DATA PATHS]: ocm_models = FOLDER"):
        assert part in sentence


def test_weights_that_the_library_has_loaded_are_used(
    archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, acquisitions: list[Acquisition]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    own = double.write_weights(tmp_path / "data" / "omnicloudmask" / "1.8.1")
    double.install(tmp_path / "library", monkeypatch, own=own)
    model = find(archive)
    model.load()
    make(model, acquisitions[0], tmp_path / "mask.tif")
    library: Any = importlib.import_module("omnicloudmask")
    library.failure = RuntimeError("Error(s) in loading state_dict:\n  Missing key(s)")
    with pytest.raises(ModelError, match=r"cannot be run \(Error\(s\) in loading state_dict:\); install it and its we"):
        model.load()


def test_a_library_that_cannot_be_imported_is_one_sentence(
    archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    double.install(
        tmp_path / "library", monkeypatch, more='raise RuntimeError("operator torchvision::nms does not exist")'
    )
    model = find(archive, folder=double.write_weights(tmp_path / "weights"))
    with pytest.raises(ModelError, match=r"cannot be loaded \(operator torchvision::nms does not exist\); its libr"):
        model.load()


def test_importing_leaves_the_process_as_it_was(
    archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = """
import os
os.environ["TORCHINDUCTOR_CACHE_DIR"] = "/somewhere"
warnings.filterwarnings("ignore", category=RuntimeWarning)
warnings.warn("a remark on its own code", DeprecationWarning)
"""
    double.install(tmp_path / "library", monkeypatch, more=more)
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    before = list(warnings.filters), dict(os.environ), threading.active_count()
    find(archive, folder=double.write_weights(tmp_path / "weights")).load()
    assert (list(warnings.filters), dict(os.environ), threading.active_count()) == before


# ------------------------------------------------------------------------------------------------------ time, memory


@pytest.mark.parametrize("shape", [(10980, 10980), (5490, 5490), (2000, 3001), (1000, 1000), (240, 800), (30, 4000)])
def test_calls_of_models_are_counted_as_the_library_makes_them(model: CloudModel, shape: tuple[int, int]) -> None:
    patch, overlap = model_library.patches(shape)
    tops, lefts = (
        {min(first, max(0, n - patch)) for first in range(0, n, patch - overlap)} for n in shape
    )  # as its documentation describes patches: at equal steps, the last one moved inside
    assert model.library.calls(shape) == 2 * len(tops) * len(lefts)


def test_the_expected_time_is_said(model: CloudModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud_model, "workers", lambda: 4)
    assert model.expected_seconds() == pytest.approx(256 * 9.8 / 4)
    assert replace(model, resolution=20).expected_seconds() == pytest.approx(64 * 9.8 / 4)
    assert model.sentence(12) == (
        "OmniCloudMask: 12 masks at 10 m, one at a time, about 10 minutes each, about 2.1 hours in all (4 processors; "
        "a graphics card is faster), with 7.5 GB of memory."
    )
    assert "1 mask at 20 m, one at a time, about 3 minutes each (4 pro" in replace(model, resolution=20).sentence(1)


# --------------------------------------------------------------------------------------------------- the real library


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the true architecture, at random, in files of the true names."""
    torch: Any = importlib.import_module("torch")
    networks: Any = importlib.import_module("segmentation_models_pytorch")
    files: Any = importlib.import_module("safetensors.torch")
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    names = model_library._listed_weights()[1]
    for name, encoder in zip(names, ("tu-regnety_004", "tu-edgenext_small"), strict=True):
        assert encoder.removeprefix("tu-") in name
        network = networks.Unet(encoder_name=encoder, encoder_weights=None, in_channels=3, classes=4)
        files.save_file(network.state_dict(), folder / name)
    return folder


@pytest.mark.ocm
def test_the_real_library(
    archive: demo.DemoArchive,
    acquisitions: list[Acquisition],
    random_weights: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    torch: Any = importlib.import_module("torch")
    library: Any = importlib.import_module("omnicloudmask")
    model = find(archive, folder=random_weights)
    before = torch.get_num_threads(), torch.is_grad_enabled(), list(warnings.filters), dict(os.environ)
    model.load()
    for resolution in (10, 20):
        model = replace(model, resolution=resolution)
        shares: list[float] = []
        path = tmp_path / f"{resolution}.tif"
        tags = make(model, acquisitions[1], path, advance=shares.append)
        assert shares[:2] == [0.0, 0.0]
        assert shares == sorted(shares)
        assert 0.5 < shares[-1] <= 1.0, "patches without data are left out"
        given = np.stack(bands(acquisitions[1], resolution)).astype(np.uint16)
        patch, overlap = model_library.patches(given.shape[1:])
        (want,) = library.predict_from_array(
            given, patch_size=patch, patch_overlap=overlap, destination_model_dir=random_weights
        )
        with rasterio.open(path) as dataset:
            np.testing.assert_array_equal(dataset.read(1), want > 0)
        assert [int(tags.more[name]) for name in ("thick_cloud", "thin_cloud", "cloud_shadow")] == [
            (want == k).sum() for k in (1, 2, 3)
        ]
        assert tags.name == f"OCM_v{library.__version__.replace('.', '_')}"
        # Dark pixels of a product with an offset: subtracting it would make another mask of them.
    assert before == (torch.get_num_threads(), torch.is_grad_enabled(), list(warnings.filters), dict(os.environ))
    assert not torch.nn.modules.module._global_forward_hooks
    assert capfd.readouterr() == ("", "")


@pytest.mark.ocm
def test_the_real_library_can_be_stopped(
    archive: demo.DemoArchive, acquisitions: list[Acquisition], random_weights: Path, tmp_path: Path
) -> None:
    torch: Any = importlib.import_module("torch")
    model = find(archive, folder=random_weights)

    def advance(share: float) -> None:
        if share > 0.2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(model, acquisitions[0], tmp_path / "mask.tif", advance=advance)
    assert threading.active_count() == 1
    assert not torch.nn.modules.module._global_forward_hooks
    assert not list(tmp_path.iterdir())


@pytest.mark.ocm
def test_the_real_library_names_what_it_cannot_load(
    archive: demo.DemoArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(importlib.import_module("huggingface_hub.constants"), "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"The weights of OmniCloudMask cannot be loaded \(.*\); load PM_model_OCM"):
        find(archive).load(quiet=True)
    broken = double.write_weights(tmp_path / "broken", model_library._listed_weights()[1])
    with pytest.raises(ModelError, match=r"OmniCloudMask cannot be run \(.*\); install it and its weights again"):
        find(archive, folder=broken).load()
