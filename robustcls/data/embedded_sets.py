"""The real image set inside the package, so that everything runs with no download."""

from __future__ import annotations

import functools
import io
import lzma
from pathlib import Path

import numpy as np

from robustcls.data.held_out import assign
from robustcls.data.resizing import changes, fit_all
from robustcls.data.splits import Reading, Split, Splits

FASHION_MNIST_MINI = "fashion_mnist_mini"

#: As TFDS names the classes of `fashion_mnist`.
CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

#: One record an image: `index` is its place in the upstream file.
RECORD = np.dtype([("test", "u1"), ("index", "<u2"), ("label", "u1"), ("image", "u1", (28, 28, 1))])


def folder() -> Path:
    """Returns where the embedded files and their licence lie."""
    return Path(__file__).parent / "embedded"


def read_fashion_mnist_mini() -> tuple[Split, Split]:
    """Returns the 10,000 training and 2,000 test images, both class-balanced.

    Ids are `train/INDEX` and `test/INDEX`, the index being that of the upstream files.
    """
    records = _records()
    return _split(records[records["test"] == 0], "train"), _split(
        records[records["test"] == 1], "test"
    )


@functools.cache
def _records() -> np.ndarray:
    # 9 MB, and half a second to unpack.
    packed = (folder() / f"{FASHION_MNIST_MINI}.npy.xz").read_bytes()
    return np.load(io.BytesIO(lzma.decompress(packed)), allow_pickle=False)


def load_embedded(name: str, reading: Reading) -> Splits:
    """Reads the embedded set.

    Args:
        name: of the set.
        reading: how.
    """
    stored = dict(zip(("train", "test"), read_fashion_mnist_mini(), strict=True))
    assignment = assign(
        {part: (split.labels, split.ids) for part, split in stored.items()},
        reading.validation_fraction,
        reading.seed,
    )
    parts = {}
    for part, (source, indices) in assignment.parts.items():
        split = stored[source].take(indices)
        images = fit_all(split.images, reading.size, reading.channels)
        parts[part] = Split(images, split.labels, split.ids)
    return Splits(
        parts["train"],
        parts["validation"],
        parts["test"],
        CLASS_NAMES,
        source="; ".join([f"{name} (embedded)", *assignment.notes]),
        changes=changes([stored["test"].images.shape[1:]], reading.size, reading.channels),
    )


def pack(records: np.ndarray) -> bytes:
    """Returns `records` (of dtype `RECORD`) as the bytes of the embedded file."""
    plain = io.BytesIO()
    np.save(plain, records, allow_pickle=False)
    return lzma.compress(plain.getvalue(), preset=9 | lzma.PRESET_EXTREME)


def _split(records: np.ndarray, name: str) -> Split:
    return Split(
        images=np.ascontiguousarray(records["image"]),
        labels=records["label"].astype(np.int64),
        ids=np.array([f"{name}/{index:05d}" for index in records["index"]]),
    )
