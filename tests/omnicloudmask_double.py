"""A stand-in for the library omnicloudmask: its names, files and limits, and a rule of three bands in place of models.

It is installed as a library is, as a folder with metadata on `sys.path`, so that everything around the model is the
same with it and with the real one. Each band, its place and its scale decide about some class, so that bands in another
order, with another scale or with an offset give another mask.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    import pytest

WEIGHTS = ("PM_model_OCM_7_first_state.safetensors", "PM_model_OCM_7_second_state.safetensors")
OLD = "PM_model_2_PT_state.pth"

_SOURCE = """
import pathlib, time, warnings
import numpy as np

__version__ = "{version}"
calls, delay, running, most = [], 0.0, 0, 0
failure = None


def classes(red, green, nir):
    red, green, nir = (band.astype(float) for band in (red, green, nir))
    found = np.where(red > nir, 1, np.where(green > red + 90, 2, np.where(nir > 2600, 3, 0)))
    return np.where((red == 0) & (green == 0) & (nir == 0), 0, found).astype(np.uint8)


def predict_from_array(
    input_array, patch_size=1000, patch_overlap=300, batch_size=1, inference_device=None, mosaic_device=None,
    inference_dtype="float32", export_confidence=False, softmax_output=True, no_data_value=0, apply_no_data_mask=True,
    custom_models=None, pred_classes=4, destination_model_dir=None, model_download_source="hugging_face",
    compile_models=False, compile_mode="default", model_version=None,
):
    global running, most
    folder = pathlib.Path(destination_model_dir or "{own}")
    if any(not (folder / name).exists() for name in {weights!r}):
        raise ValueError("the download failed") from OSError("Name or service not known\\nand more")
    if failure is not None:
        raise failure
    assert no_data_value == 0 and apply_no_data_mask and not export_confidence
    shape = input_array.shape
    assert len(shape) == 3 and min(shape[1:]) >= 50 and patch_size <= min(shape[1:]) / 2 or min(shape[1:]) >= 2000
    assert 50 <= patch_size <= 1000 and 0 < patch_overlap < patch_size
    running += 1
    most = max(most, running)
    time.sleep(delay)
    calls.append((shape, str(input_array.dtype), patch_size, patch_overlap, destination_model_dir))
    running -= 1
    return classes(*input_array)[None]
"""


def install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, version: str = "1.8.1", own: Path | None = None, more: str = ""
) -> None:
    """Install it until the test ends.

    Parameters
    ----------
    folder
        An empty folder.
    monkeypatch
        Puts everything back.
    version
        Version of the library.
    own
        The folder into which it has loaded weights; None for one that lacks them.
    more
        Lines at the end of its source.
    """
    package, facts = folder / "omnicloudmask", folder / f"omnicloudmask-{version}.dist-info"
    package.mkdir(parents=True)
    facts.mkdir()
    source = _SOURCE.format(version=version, own=own or folder / "nowhere", weights=WEIGHTS)
    (package / "__init__.py").write_text(f"{source}\n{more}\n", encoding="utf-8")
    rows = [f"{OLD},resnet,1,1,fastai", *(f"{name},resnet,{k},4,smp" for k, name in enumerate(WEIGHTS))]
    listed = "\n".join(["file_name,timm_model_name,google_drive_id,version,model_library", *rows])
    (package / "model_download_links.csv").write_text(f"{listed}\n", encoding="utf-8")
    (facts / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: omnicloudmask\nVersion: {version}\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(str(folder))
    # Set first, so that what a test imports is taken away again.
    monkeypatch.setitem(sys.modules, "omnicloudmask", None)
    del sys.modules["omnicloudmask"]


def write_weights(folder: Path, names: tuple[str, ...] = WEIGHTS, size: int = (1 << 20) + 1) -> Path:
    """Write files of weights, which nobody reads."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        with (folder / name).open("wb") as file:
            file.truncate(size)
    return folder


def classes(red: npt.NDArray[Any], green: npt.NDArray[Any], nir: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Compute what the stand-in should see, from whole bands, written apart from it."""
    out = np.zeros(red.shape, np.uint8)
    out[nir > 2600] = 3
    out[green > red + 90.0] = 2
    out[red > nir] = 1
    out[(red == 0) & (green == 0) & (nir == 0)] = 0
    return out
