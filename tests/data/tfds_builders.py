"""Small TFDS builders for the tests of preparing and reading."""

import os
import time
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds


def pixels(number, shape=(4, 5, 3), dtype=np.uint8):
    return np.random.default_rng(number).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


class RobustclsStripes(tfds.core.GeneratorBasedBuilder):
    """24 training and 8 test images, derived from one number in a file to download."""

    VERSION = tfds.core.Version("1.0.0")
    URL = "http://127.0.0.1:9/stripes.txt"
    url_infos = {}  # noqa: RUF012

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(4, 5, 3)),
                    "label": tfds.features.ClassLabel(names=["a", "b"]),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        start = int(Path(dl_manager.download_and_extract(self.URL)).read_text())
        return {
            "train": self._generate_examples(start, 24),
            "test": self._generate_examples(start + 24, 8),
        }

    def _generate_examples(self, start, count):
        for number in range(start, start + count):
            time.sleep(float(os.environ.get("STRIPES_SLEEP", "0")))
            yield number, {"image": pixels(number), "label": number % 2}


class RobustclsVaried(tfds.core.GeneratorBasedBuilder):
    """One configuration for each kind of set that `load` must cope with."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name=name)
        for name in ("sizes", "deep", "unlabelled", "one_split", "test_only", "gray", "alpha")
    ]

    def _info(self):
        shape, options = (4, 5, 3), {}
        match self.builder_config.name:
            case "sizes":
                shape = (None, None, 3)
            case "deep":
                shape, options = (4, 5, 1), {"dtype": np.uint16, "encoding_format": "png"}
            case "gray":
                shape = (4, 5, 1)
            case "alpha":
                shape = (4, 5, 4)
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "file_name": tfds.features.Text(),
                    "image": tfds.features.Image(shape=shape, **options),
                    "label": tfds.features.ClassLabel(names=["a", "b"]),
                    "weight": np.float32,
                }
            ),
        )

    def _split_generators(self, dl_manager):
        names = {
            "unlabelled": ("train", "validation", "test"),
            "one_split": ("full",),
            "test_only": ("test",),
        }.get(self.builder_config.name, ("train", "validation", "test"))
        return {name: self._generate_examples(name) for name in names}

    def _generate_examples(self, split):
        kind = self.builder_config.name
        for number in range(20):
            shape, dtype = self.info.features["image"].shape, np.uint8
            if kind == "sizes":
                shape = (4 + number, 5, 3)
            if kind == "deep":
                dtype = np.uint16
            hidden = kind == "unlabelled" and split == "test"
            yield (
                number,
                {
                    "file_name": f"{split}-{number:02}.png",
                    "image": pixels(number, shape, dtype),
                    "label": -1 if hidden else number % 2,
                    "weight": 1.0,
                },
            )
