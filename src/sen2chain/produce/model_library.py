"""The library omnicloudmask and its weights: found without loading them, loaded, and run on an image.

It is an optional library, which brings PyTorch along, and this is the only module that imports it. What it sets for the
whole process is put back.
"""

from __future__ import annotations

import csv
import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
import threading
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import platformdirs

from sen2chain import settings
from sen2chain.errors import MissingExtraError, ModelError, shown
from sen2chain.files import is_folder, read_limited
from sen2chain.parallel import detached, recorded_warnings
from sen2chain.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Numbers = npt.NDArray[np.uint16]
    Advance = Callable[[float], object]

CLASSES = ("clear", "thick_cloud", "thin_cloud", "cloud_shadow")
"""Classes of the model by number."""
PATCH = 1000
"""Pixels along the edge of a patch of a tile."""
TURN = threading.Lock()
"""Held by the thread that runs the model: PyTorch uses all processors by itself."""

_LIBRARY, _EXTRA = "omnicloudmask", "ocm"
_WEIGHTS = "model_download_links.csv"  # of the library: its models, the latest has the highest version
_COMPLETE = 1 << 20  # bytes; the library takes a smaller file of weights for an incomplete one, and loads it again
_OVERLAP, _SMALLEST = 300, 50  # pixels


def installed() -> str:
    """Return the version of the library; empty where it is not installed. The library is not imported."""
    try:
        return importlib.metadata.version(_LIBRARY) if importlib.util.find_spec(_LIBRARY) else ""
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return ""


@dataclass(frozen=True, slots=True)
class ModelLibrary:
    """The library with its weights, which has not been loaded yet; build it with `find`."""

    version: str
    """Version of the library."""
    weights: tuple[str, ...]
    """Names of its files of weights, one for each of its models; empty where the library does not list them."""
    model: str
    """Version of the models; empty where the library does not say it."""
    folder: Path | None = None
    """Folder that the configuration names for the weights; None for the library's own, into which it loads them."""

    @classmethod
    def find(cls, library: settings.Paths) -> Self:
        """Find the library and its weights; nothing is imported or loaded.

        Parameters
        ----------
        library
            Folders of the archive, whose configuration may name the folder of the weights.

        Raises
        ------
        MissingExtraError
            If the library is not installed.
        ModelError
            If the configuration names a folder that lacks a file of weights.
        """
        version = installed()
        if not version:
            raise MissingExtraError("Masks of OmniCloudMask", _LIBRARY, _EXTRA)
        model, weights = _listed_weights()
        folder = settings.ocm_models(library)
        found = cls(version, weights, model, folder)
        if folder is not None and (missing := [name for name in weights if not _is_complete(folder / name)]):
            have = "is not a folder" if not is_folder(folder) else f"lacks {' and '.join(missing)}"
            raise ModelError(f"The folder of ocm_models, {folder}, {have}; {found._advice}")
        return found

    @property
    def name(self) -> str:
        """The mask as it stands in file names, as ``OCM_v1_8_1``."""
        return f"OCM_v{_release(self.version).replace('.', '_')}"

    @property
    def _advice(self) -> str:
        """What to do where weights are missing."""
        files = " and ".join(self.weights) or "its files of weights"
        return (
            f"load {files} from huggingface.co/NickWright/OmniCloudMask where there is a network, put them into one "
            "folder, and name it in config/config.cfg, section [DATA PATHS]: ocm_models = FOLDER."
        )

    def load(self, *, quiet: bool = False) -> None:
        """Load the library and its weights, and run the models on a small array, before the work begins.

        Parameters
        ----------
        quiet
            Do not say that weights are loaded from the network.

        Raises
        ------
        ModelError
            If that fails; the message says what to do.
        """
        # A request to a server does not end with Ctrl-C, so nothing waits for this thread then.
        detached(lambda: self._load(quiet=quiet)).result()

    def _load(self, *, quiet: bool) -> None:
        library = _imported()
        is_new = self.folder is None and not self._has_own_weights()
        if is_new:
            say("OmniCloudMask loads its weights from the network, about 60 MB, once.", quiet=quiet)
        numbers = np.random.default_rng(0).integers(1000, 3000, (3, 100, 100)).astype(np.uint16)
        try:
            with TURN, recorded_warnings(), _without_bars():
                self._run(library, numbers)
        except Exception as error:
            traceback.clear_frames(error.__traceback__)
            what = "The weights of OmniCloudMask cannot be loaded" if is_new else "OmniCloudMask cannot be run"
            again = "" if is_new else "install it and its weights again: "
            raise ModelError(f"{what} ({_cause(error)}); {again}{self._advice}") from error

    def classes(self, numbers: Numbers, advance: Advance) -> Bytes:
        """Return the class of each pixel, 0 where there are no data; hold `TURN` meanwhile.

        Parameters
        ----------
        numbers
            (3, rows, columns) of red, green and near infrared, 0 for no data.
        advance
            Called with the share that is done, 0 to 1, after each call of a model. An error that it raises ends the
            work.

        Returns
        -------
        numpy.ndarray
            (rows, columns) of numbers of `CLASSES`.

        Raises
        ------
        ModelError
            If the library cannot be loaded or run.
        """
        library, shape = _imported(), (numbers.shape[1], numbers.shape[2])
        if not numbers.any():
            return np.zeros(shape, np.uint8)
        stopped: BaseException | None = None
        try:
            with _watched(self.calls(shape), advance):
                found = self._run(library, numbers)
        except _StoppedError as stop:
            traceback.clear_frames(stop.__traceback__)
            stopped = stop.cause
        except Exception as error:
            # What the library holds in its frames are threads, too, which wait for one another.
            traceback.clear_frames(error.__traceback__)
            raise ModelError(f"OmniCloudMask failed ({_cause(error)}).") from error
        if stopped is not None:
            raise stopped
        if found.shape != (1, *shape) or found.dtype != np.uint8 or found.max() >= len(CLASSES):
            raise ModelError(
                f"OmniCloudMask {self.version} has returned an array of {found.dtype} and shape {found.shape} for "
                f"{shape[0]} x {shape[1]} pixels, with values up to {shown(found.max())}; install version 1.8.1."
            )
        classes: Bytes = found[0]
        return classes

    def _run(self, library: ModuleType, numbers: Numbers) -> npt.NDArray[Any]:
        """Call the library, which returns (1, rows, columns) of classes; it is given no reason to warn."""
        rows, columns = numbers.shape[1:]
        patch, overlap = patches((rows, columns))
        lacking = [(0, max(0, 2 * _SMALLEST - n)) for n in (rows, columns)]
        found: npt.NDArray[Any] = library.predict_from_array(
            np.pad(numbers, [(0, 0), *lacking]) if any(n for _, n in lacking) else numbers,
            patch_size=patch,
            patch_overlap=overlap,
            no_data_value=0,
            apply_no_data_mask=True,
            destination_model_dir=self.folder,
        )
        return found[:, :rows, :columns]

    def calls(self, shape: tuple[int, int]) -> int:
        """Return how often models are called for an image: once for each patch, and each of them."""
        patch, overlap = patches(shape)
        count = [1 + -(-max(0, n - patch) // (patch - overlap)) for n in shape]
        return count[0] * count[1] * max(1, len(self.weights))

    def _has_own_weights(self) -> bool:
        """Whether the library has loaded its weights before."""
        own = platformdirs.user_data_path(_LIBRARY, version=_release(self.version))
        return bool(self.weights) and all(_is_complete(own / name) for name in self.weights)


def _release(version: str) -> str:
    """Return the numbers of a version, without what follows them in a version between releases."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return found[0] if found else version


def patches(shape: tuple[int, int]) -> tuple[int, int]:
    """Return the pixels of a patch's edge, and those by which patches overlap; for a tile the library's own choice."""
    patch = max(_SMALLEST, min(PATCH, min(shape) // 2))
    return patch, min(_OVERLAP, patch // 2)


def _listed_weights() -> tuple[str, tuple[str, ...]]:
    """Return the version of the latest models, and the names of their files, as the library lists them."""
    found = importlib.util.find_spec(_LIBRARY)
    for folder in (found.submodule_search_locations or ()) if found else ():
        try:
            text = read_limited(Path(folder, _WEIGHTS)).decode()
            rows = [(float(row["version"]), row["file_name"]) for row in csv.DictReader(text.splitlines())]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        latest = max((version for version, _ in rows), default=0.0)
        return str(latest), tuple(name for version, name in rows if version == latest)
    return "", ()


def _is_complete(file: Path) -> bool:
    try:
        return file.stat().st_size > _COMPLETE
    except OSError:
        return False


def _imported() -> ModuleType:
    """Import the library; what that sets for the whole process is put back.

    Raises
    ------
    ModelError
        If it cannot be imported.
    """
    before = set(os.environ)
    try:
        with recorded_warnings():
            return importlib.import_module(_LIBRARY)
    except Exception as error:
        # One of its libraries, as torchvision beside a torch of another build, which is a RuntimeError.
        raise ModelError(
            f"OmniCloudMask cannot be loaded ({_cause(error)}); its libraries do not fit together, so install it in a "
            'new environment: pip install "sen2chain[ocm]".'
        ) from error
    finally:
        for name in set(os.environ) - before:
            if name.startswith("TORCH"):
                del os.environ[name]


def _cause(error: BaseException) -> str:
    """Return the first line of what an error came from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return shown(str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__)


class _StoppedError(Exception):
    """Carries an error of the caller's through the library."""

    def __init__(self, cause: BaseException) -> None:
        self.cause = cause
        super().__init__()


@contextmanager
def _watched(total: int, advance: Advance) -> Iterator[None]:
    """Call a function with the share that is done, after each call of a model in this thread.

    Parameters
    ----------
    total
        Number of calls of models.
    advance
        The function; an error that it raises ends the block as a `_StoppedError`.
    """
    if "torch" not in sys.modules:
        yield
        return
    torch: Any = importlib.import_module("torch.nn.modules.module")
    here, depth, calls = threading.get_ident(), 0, 0

    def enter(*_: object) -> None:
        nonlocal depth
        depth += threading.get_ident() == here

    def leave(*_: object) -> None:
        nonlocal depth, calls
        depth -= threading.get_ident() == here
        if depth or threading.get_ident() != here:
            return  # a part of a model, or a model of others
        calls += 1
        try:
            advance(min(1.0, calls / total))
        except BaseException as error:  # noqa: BLE001  # raised again behind the library
            raise _StoppedError(error) from None

    # PyTorch knows no other way to see the calls of models that it did not hand out.
    hooks = [torch.register_module_forward_pre_hook(enter), torch.register_module_forward_hook(leave)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep the library that loads weights from drawing bars."""
    hub: Any = sys.modules.get("huggingface_hub.utils")
    shows = hub is not None and not hub.are_progress_bars_disabled()
    if shows:
        hub.disable_progress_bars()
    try:
        yield
    finally:
        if shows:
            hub.enable_progress_bars()
