"""The search for OpenJPEG, with folders as the wheels of each system have them, and what its declarations give."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import sys
import threading
from ctypes import POINTER, byref
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from sen2chain.errors import RequestError
from sen2chain.jpeg2000 import openjpeg
from sen2chain.parallel import Memo

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN = openjpeg.library()
needs_library = pytest.mark.skipif(OWN is None, reason=f"no OpenJPEG here: {openjpeg.unavailable()}")

LAYOUTS = {
    "Linux": ("rasterio.libs", "libopenjp2-650ed7df.so.2.5.3"),
    "macOS": ("rasterio/.dylibs", "libopenjp2.2.5.4.dylib"),
    "Windows": ("rasterio.libs", "openjp2-c1951c6e297b4dfbc1ecfed46df803af.dll"),
}
"""Folder and name in wheels of rasterio 1.4 and 1.5."""


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search anew in this test, and leave what was found before it."""
    monkeypatch.setattr(openjpeg, "_found", Memo())
    monkeypatch.delenv("SEN2CHAIN_OPENJPEG", raising=False)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of packages, the only one that is searched; the system has no library."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    for name in ("rasterio", "PIL", "imagecodecs"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(ctypes.util, "find_library", lambda _: None)
    importlib.invalidate_caches()
    return tmp_path


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths that are loaded; those whose names say so are broken, old or lack a function."""
    paths: list[str] = []

    class Api:
        def __init__(self, path: str) -> None:
            paths.append(path)
            if "broken" in path:
                raise OSError(f"{path}: invalid ELF header")

            def version() -> bytes:
                return b"2.4.0" if "old" in path else b"2.5.3"

            self.opj_version = version

        def __getattr__(self, name: str) -> Any:
            if name == "opj_decoder_set_strict_mode" and "lacking" in paths[-1]:
                raise AttributeError(name)
            return SimpleNamespace()

    monkeypatch.setattr(ctypes, "CDLL", Api)
    return paths


def package(site: Path, name: str, *libraries: str) -> list[str]:
    """Make a package with library files, which are no libraries."""
    (site / name).mkdir(parents=True, exist_ok=True)
    (site / name / "__init__.py").touch()
    for library in libraries:
        (site / library).parent.mkdir(parents=True, exist_ok=True)
        (site / library).write_text("not a library")
    importlib.invalidate_caches()
    return [str(site / library) for library in libraries]


@pytest.mark.parametrize("system", LAYOUTS)
def test_the_library_of_rasterios_wheel_is_found(site: Path, loaded: list[str], system: str) -> None:
    folder, name = LAYOUTS[system]
    (path,) = package(site, "rasterio", f"{folder}/{name}")
    package(site, "rasterio", f"{folder}/libtiff-1.so.6", f"{folder}/libopenjp2.txt", f"{folder}/openjp2.pdb")
    found = openjpeg.library()
    assert found is not None
    assert (found.version, found.path, found.origin) == ("2.5.3", path, "rasterio")
    assert loaded == [path]
    assert openjpeg.unavailable() == ""


@pytest.mark.parametrize(
    ("name", "library", "origin"),
    [
        ("PIL", "pillow.libs/libopenjp2-e530e1bf.so.2.5.4", "pillow"),
        ("PIL", "Pillow.libs/libopenjp2-56811f71.so.2.5.0", "pillow"),
        ("PIL", "PIL/.dylibs/libopenjp2.2.5.4.dylib", "pillow"),
        ("imagecodecs", "imagecodecs.libs/libopenjp2-987144be.so.2.5.4", "imagecodecs"),
        ("numpy", "prefix/lib/libopenjp2.so.2.5.3", "conda"),
        ("numpy", "prefix/lib/libopenjp2.dylib", "conda"),
        ("numpy", "prefix/Library/bin/openjp2.dll", "conda"),
    ],
)
@pytest.mark.usefixtures("loaded")
def test_other_wheels_and_conda_bring_one_too(site: Path, name: str, library: str, origin: str) -> None:
    (site / "prefix" / "conda-meta").mkdir(parents=True)
    package(site, "rasterio")  # linked in, so without a library of its own
    (path,) = package(site, name, library)
    found = openjpeg.library()
    assert found is not None
    assert (found.path, found.origin) == (path, origin)


@pytest.mark.usefixtures("loaded")
def test_the_system_goes_before_pillow(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", {"openjp2": "libopenjp2.so.7"}.get)
    package(site, "PIL", "pillow.libs/libopenjp2-56811f71.so.2.5.3")
    found = openjpeg.library()
    assert found is not None
    assert (found.path, found.origin) == ("libopenjp2.so.7", "system")


def test_what_cannot_be_used_is_passed_over_with_its_reason(site: Path, loaded: list[str]) -> None:
    broken, lacking, old = package(
        site,
        "rasterio",
        "rasterio.libs/libopenjp2-broken.so",
        "rasterio.libs/libopenjp2-lacking.so",
        "rasterio.libs/libopenjp2-old.so",
    )
    assert openjpeg.library() is None
    assert loaded == [broken, lacking, old]
    assert openjpeg.passed_over() == (
        f"{broken} (rasterio) cannot be loaded: {broken}: invalid ELF header",
        f"{lacking} (rasterio) has no function opj_decoder_set_strict_mode",
        f"{old} (rasterio) is version 2.4.0",
    )
    assert openjpeg.unavailable().startswith(f"No OpenJPEG 2.5 or newer can be used: {broken}")
    assert openjpeg.unavailable().endswith(f"{old} (rasterio) is version 2.4.0.")
    (good,) = package(site, "PIL", "pillow.libs/libopenjp2.so.7")
    openjpeg._found = Memo()
    found = openjpeg.library()
    assert found is not None
    assert found.path == good
    assert len(openjpeg.passed_over()) == 3


@pytest.mark.usefixtures("loaded")
def test_without_any_library_the_reason_says_where_one_is(site: Path) -> None:
    assert list(site.iterdir()) == []
    assert openjpeg.library() is None
    assert openjpeg.passed_over() == ()
    assert openjpeg.unavailable() == "No OpenJPEG 2.5 or newer is installed; the wheels of rasterio contain one."


@pytest.mark.skipif(sys.platform != "linux", reason="Linux maps a library that is cut, other systems check it")
@needs_library
@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.5, 0.999])
def test_a_cut_library_does_not_kill_the_process(site: Path, share: float) -> None:
    assert OWN is not None
    content = Path(OWN.path).read_bytes()
    (path,) = package(site, "rasterio", "rasterio.libs/libopenjp2-1.so")
    Path(path).write_bytes(content[: int(len(content) * share)])
    assert openjpeg.library() is None
    (reason,) = openjpeg.passed_over()
    assert reason.startswith(f"{path} (rasterio) ")
    assert reason.endswith("is cut") or "cannot be loaded" in reason


@pytest.mark.usefixtures("loaded")
def test_a_search_that_fails_is_passed_over(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(name: str) -> None:
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr(importlib.util, "find_spec", locked)
    monkeypatch.setattr(ctypes.util, "find_library", locked)
    (site / "prefix" / "conda-meta").mkdir(parents=True)
    (path,) = package(site, "numpy", "prefix/lib/libopenjp2.so.7")
    found = openjpeg.library()
    assert found is not None
    assert found.path == path
    (reason,) = openjpeg.passed_over()
    assert reason.startswith("the search in rasterio failed (")
    assert "Permission denied" in reason


def test_a_library_that_may_not_be_read_is_passed_over(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(site, "rasterio", "rasterio.libs/libopenjp2-1.so")

    def locked(self: Path, *_args: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", locked)
    assert openjpeg.library() is None
    assert "Permission denied" in openjpeg.unavailable()


def test_the_search_happens_once_in_all_threads(site: Path, loaded: list[str]) -> None:
    package(site, "rasterio", "rasterio.libs/libopenjp2-1.so")
    together, found = threading.Barrier(4), []

    def look() -> None:
        together.wait()
        found.append(openjpeg.library())

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 1
    assert found[0] is not None
    assert all(library is found[0] for library in found)


@needs_library
def test_a_variable_switches_it_off_and_on_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("off", "OFF"):
        monkeypatch.setenv("SEN2CHAIN_OPENJPEG", text)
        assert openjpeg.library() is None
        assert openjpeg.unavailable() == "SEN2CHAIN_OPENJPEG is off."
    for text in ("", "on"):
        monkeypatch.setenv("SEN2CHAIN_OPENJPEG", text)
        assert openjpeg.library() is not None
    monkeypatch.setenv("SEN2CHAIN_OPENJPEG", "no")
    with pytest.raises(RequestError, match=r"^SEN2CHAIN_OPENJPEG is 'no'; set it to off, so that GDAL decodes"):
        openjpeg.library()
    with pytest.raises(RequestError, match="SEN2CHAIN_OPENJPEG"):
        openjpeg.unavailable()


# ----------------------------------------------------------------------------------------------------- its declarations


class Decoder:
    """A code stream in memory, decoded with nothing but the declarations."""

    def __init__(self, stream: bytes) -> None:
        assert OWN is not None
        self.api, self.at, self.said = OWN.api, 0, []  # type: ignore[var-annotated]
        api = OWN.api

        def read(buffer: int, size: int, _: object) -> int:
            part = stream[self.at : self.at + size]
            ctypes.memmove(buffer, part, len(part))
            self.at += len(part)
            return len(part) or openjpeg.END_OF_STREAM

        def skip(count: int, _: object) -> int:
            self.at += count
            return count

        def seek(position: int, _: object) -> int:
            self.at = position
            return 1

        def say(text: bytes, _: object) -> None:
            self.said.append(text.decode().strip())

        self.kept = openjpeg.Read(read), openjpeg.Skip(skip), openjpeg.Seek(seek), openjpeg.Message(say)
        self.stream = api.opj_stream_create(1 << 16, 1)
        api.opj_stream_set_read_function(self.stream, self.kept[0])
        api.opj_stream_set_skip_function(self.stream, self.kept[1])
        api.opj_stream_set_seek_function(self.stream, self.kept[2])
        api.opj_stream_set_user_data(self.stream, None, openjpeg.Free())
        api.opj_stream_set_user_data_length(self.stream, len(stream))
        self.codec = api.opj_create_decompress(openjpeg.JP2)
        parameters = openjpeg.DecoderParameters()
        ctypes.memset(byref(parameters), 0xFF, ctypes.sizeof(parameters))
        api.opj_set_default_decoder_parameters(byref(parameters))
        assert (parameters.decod_format, parameters.cod_format) == (-1, -1)
        parameters.decod_format = parameters.cod_format = 0
        assert not any(bytes(parameters)), "as long as OpenJPEG's own, which it clears"
        assert api.opj_set_error_handler(self.codec, self.kept[3], None)
        assert api.opj_set_warning_handler(self.codec, self.kept[3], None)
        assert api.opj_setup_decoder(self.codec, byref(parameters))
        assert api.opj_decoder_set_strict_mode(self.codec, 1)
        assert api.opj_codec_set_threads(self.codec, 0)
        self.image = POINTER(openjpeg.Image)()

    def header(self) -> openjpeg.Image:
        assert self.api.opj_read_header(self.stream, self.codec, byref(self.image)), self.said
        return self.image.contents

    def window(self, x0: int, y0: int, x1: int, y1: int) -> np.ndarray[Any, np.dtype[np.int32]]:
        assert self.api.opj_set_decode_area(self.codec, self.image, x0, y0, x1, y1), self.said
        assert self.api.opj_decode(self.codec, self.stream, self.image), self.said
        component = self.image.contents.comps[0]
        return np.ctypeslib.as_array(component.data, (component.h, component.w)).copy()

    def close(self) -> None:
        self.api.opj_destroy_codec(self.codec)
        self.api.opj_stream_destroy(self.stream)
        if self.image:
            self.api.opj_image_destroy(self.image)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray[Any, np.dtype[np.uint16]]:
    return np.random.default_rng(5).integers(0, 10000, (150, 170)).astype(np.uint16)


@pytest.fixture(scope="module")
def stream(pixels: np.ndarray[Any, np.dtype[np.uint16]], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("stream") / "a.jp2"
    profile = {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES", "RESOLUTIONS": 3, "NBITS": 15}
    place = {"crs": "EPSG:32632", "transform": Affine(10, 0, 600000, 0, -10, 5200020), "count": 1, "dtype": "uint16"}
    with rasterio.open(path, "w", width=170, height=150, **profile, **place) as dataset:
        dataset.write(pixels, 1)
    return path.read_bytes()


@pytest.fixture
def decoder(stream: bytes) -> Iterator[Decoder]:
    made = Decoder(stream)
    yield made
    made.close()


@needs_library
def test_declared_functions_decode_windows(decoder: Decoder, pixels: np.ndarray[Any, np.dtype[np.uint16]]) -> None:
    image = decoder.header()
    assert (image.x0, image.y0, image.x1, image.y1, image.numcomps) == (0, 0, 170, 150, 1)
    component = image.comps[0]
    assert (component.dx, component.dy, component.w, component.h) == (1, 1, 170, 150)
    assert (component.prec, component.sgnd) == (15, 0)
    for x0, y0, x1, y1 in ((30, 20, 51, 41), (0, 0, 1, 1), (100, 100, 170, 150), (0, 0, 170, 150)):
        window = decoder.window(x0, y0, x1, y1)
        np.testing.assert_array_equal(window, pixels[y0:y1, x0:x1])
        component = decoder.image.contents.comps[0]
        assert (component.x0, component.y0, component.resno_decoded, component.factor) == (x0, y0, 2, 0)
    assert decoder.api.opj_end_decompress(decoder.codec, decoder.stream)
    assert decoder.said == []


@needs_library
def test_declared_functions_decode_reduced_resolutions(stream: bytes, decoder: Decoder, tmp_path: Path) -> None:
    decoder.header()
    assert decoder.api.opj_set_decoded_resolution_factor(decoder.codec, 1)
    window = decoder.window(0, 0, 170, 150)
    path = tmp_path / "a.jp2"
    path.write_bytes(stream)
    with rasterio.open(path, overview_level=0) as dataset:
        np.testing.assert_array_equal(window, dataset.read(1))
    assert decoder.image.contents.comps[0].factor == 1


@needs_library
def test_messages_reach_their_handler(stream: bytes) -> None:
    decoder = Decoder(stream[: len(stream) // 2])
    try:
        decoder.header()
        assert decoder.api.opj_set_decode_area(decoder.codec, decoder.image, 0, 0, 170, 150)
        assert not decoder.api.opj_decode(decoder.codec, decoder.stream, decoder.image)
        assert decoder.said
    finally:
        decoder.close()
