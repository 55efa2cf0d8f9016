"""Rebuilds robustcls/data/embedded/fashion_mnist_mini.npy.xz from Fashion-MNIST's own files.

    python scripts/make_embedded_set.py [OUT]

The files come from Debian's package dataset-fashion-mnist, installed or not, and are compared
with upstream's MD5s. Taken are the first 1,000 images of each class of the training file and the
first 200 of each class of the test file, in the files' order. The result is the same bytes each
time.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from robustcls.data.embedded_sets import RECORD, pack
from robustcls.data.tfds.mirrors import MIRRORS

OUT = Path(__file__).parents[1] / "robustcls/data/embedded/fashion_mnist_mini.npy.xz"


def select(images: Path, labels: Path, per_class: int, test: bool) -> np.ndarray:
    """Returns records of the first `per_class` images of each class of two idx files."""
    classes = np.fromfile(labels, np.uint8, offset=8)
    pixels = np.fromfile(images, np.uint8, offset=16).reshape(-1, 28, 28, 1)
    chosen = np.sort(
        np.concatenate([np.flatnonzero(classes == label)[:per_class] for label in range(10)])
    )
    records = np.zeros(len(chosen), RECORD)
    records["test"] = test
    records["index"] = chosen
    records["label"] = classes[chosen]
    records["image"] = pixels[chosen]
    return records


def main(out: Path) -> None:
    """Writes the set to `out`."""
    with tempfile.TemporaryDirectory() as folder:
        files = MIRRORS["fashion_mnist"].files(Path(folder))
        parts = [
            select(
                files[f"{name}-images-idx3-ubyte.gz"],
                files[f"{name}-labels-idx1-ubyte.gz"],
                per_class,
                test,
            )
            for name, per_class, test in (("train", 1000, False), ("t10k", 200, True))
        ]
    out.write_bytes(pack(np.concatenate(parts)))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
