"""TFDS builder of Tiny ImageNet, from the archive as published."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import tensorflow_datasets as tfds

_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"

_DESCRIPTION = """
Tiny ImageNet has 200 of ImageNet's classes, 500 training and 50 validation images each, cut and
shrunk to 64×64. The published test images come without labels and are left out. Class ids follow
the sorted WordNet ids.
"""

_CITATION = """
@techreport{le2015tiny,
  title={Tiny {ImageNet} Visual Recognition Challenge},
  author={Le, Ya and Yang, Xuan S.},
  institution={Stanford University, CS 231N},
  year={2015}
}
"""


class Builder(tfds.core.GeneratorBasedBuilder):
    """Tiny ImageNet with the splits `train` (100,000 images) and `validation` (10,000).

    Each example has `image` (uint8 [64, 64, 3]), `label`, and `id`, the file's path in the
    archive. A class name is the WordNet id and the first English word for it, such as
    `n01443537 goldfish`.
    """

    ARCHIVE = "tiny-imagenet-200"
    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Put {ARCHIVE}.zip, or the folder {ARCHIVE} that it unpacks to, there."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=(64, 64, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(num_classes=200),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="http://cs231n.stanford.edu/",
            citation=_CITATION,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        names, open_file = _archive(self._find(dl_manager))
        if "wnids.txt" not in names:
            raise ValueError(f"{self.ARCHIVE} lacks wnids.txt: it is not the published archive")
        with open_file("wnids.txt") as file:
            wnids = sorted(file.read().decode().split())
        with open_file("words.txt") as file:
            words = dict(line.split("\t", 1) for line in file.read().decode().splitlines() if line)
        self.info.features["label"].names = [
            f"{wnid} {words[wnid].split(',')[0].strip()}" for wnid in wnids
        ]
        with open_file("val/val_annotations.txt") as file:
            rows = [line.split("\t")[:2] for line in file.read().decode().splitlines() if line]
        labels = {wnid: label for label, wnid in enumerate(wnids)}
        train = [
            (name, labels[name.split("/")[1]])
            for name in names
            if name.startswith("train/") and name.endswith(".JPEG")
        ]
        validation = [(f"val/images/{name}", labels[wnid]) for name, wnid in rows]
        return {
            "train": self._generate_examples(train, open_file),
            "validation": self._generate_examples(validation, open_file),
        }

    def _generate_examples(
        self, labelled: list[tuple[str, int]], open_file: Callable[[str], BinaryIO]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, label in labelled:
            with open_file(name) as file:
                yield name, {"id": name, "image": file, "label": label}

    def _find(self, dl_manager: Any) -> Path:
        """Returns the archive or its folder: put there by hand, else downloaded."""
        try:
            manual = Path(dl_manager.manual_dir)
        except AssertionError:  # TFDS' word for an empty or missing folder
            manual = None
        if manual is not None:
            for path in (manual / self.ARCHIVE, manual / f"{self.ARCHIVE}.zip"):
                if path.exists():
                    return path
        path = Path(dl_manager.download(_URL))
        with path.open("rb") as file:
            digest = hashlib.md5(usedforsecurity=False)
            while block := file.read(2**20):
                digest.update(block)
        if digest.hexdigest() != _MD5:
            raise ValueError(f"the download has MD5 {digest.hexdigest()} instead of {_MD5}")
        return path


def _archive(path: Path) -> tuple[list[str], Callable[[str], BinaryIO]]:
    """Returns the sorted file names under `tiny-imagenet-200/`, and a function that opens one."""
    if path.is_dir():
        names = sorted(
            file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()
        )
        return names, lambda name: (path / name).open("rb")
    archive = zipfile.ZipFile(path)
    prefix = f"{Builder.ARCHIVE}/"
    names = sorted(
        name.removeprefix(prefix)
        for name in archive.namelist()
        if name.startswith(prefix) and not name.endswith("/")
    )
    return names, lambda name: archive.open(prefix + name)  # type: ignore[return-value]
