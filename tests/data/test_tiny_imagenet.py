import io
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from robustcls._validation import InputError
from robustcls.data import load, prepare
from robustcls.data.tfds.builders.tiny_imagenet import TinyImagenet

CLASSES = 200
# Unsorted, as in the published wnids.txt.
WNIDS = [f"n{(number * 7919) % 99_991:08}" for number in range(CLASSES)]


def jpeg(label, number):
    """One flat colour a label, so that a picture tells its label."""
    buffer = io.BytesIO()
    colour = (label, 255 - label, 10 * number)
    Image.new("RGB", (64, 64), colour).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def write_archive(folder):
    """A zip laid out like the published one: 2 training images and 1 validation image a class."""
    path = Path(folder) / "tiny-imagenet-200.zip"
    root = "tiny-imagenet-200"
    order = sorted(WNIDS)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{root}/", "")
        archive.writestr(f"{root}/wnids.txt", "\n".join(WNIDS))
        rows = [f"{wnid}\tthing {order.index(wnid)}, other word" for wnid in WNIDS]
        archive.writestr(f"{root}/words.txt", "\n".join(["n99999999\tunused", *rows]))
        annotations = []
        for label, wnid in enumerate(order):
            boxes = []
            for number in range(2):
                name = f"{wnid}_{number}.JPEG"
                archive.writestr(f"{root}/train/{wnid}/images/{name}", jpeg(label, number))
                boxes.append(f"{name}\t0\t0\t62\t62")
            archive.writestr(f"{root}/train/{wnid}/{wnid}_boxes.txt", "\n".join(boxes))
            archive.writestr(f"{root}/val/images/val_{label}.JPEG", jpeg(label, 5))
            annotations.append(f"val_{label}.JPEG\t{wnid}\t0\t32\t44\t62")
        archive.writestr(f"{root}/val/val_annotations.txt", "\n".join(annotations) + "\n")
        archive.writestr(f"{root}/test/images/test_0.JPEG", jpeg(0, 9))
    return path


class TinyImagenetTest(tfds.testing.DatasetBuilderTestCase):
    """TFDS' own test of a builder, on a made-up archive."""

    DATASET_CLASS = TinyImagenet
    SPLITS = {"train": 2 * CLASSES, "validation": CLASSES}  # noqa: RUF012
    SKIP_CHECKSUMS = True

    @classmethod
    def setUpClass(cls):
        cls.EXAMPLE_DIR = tempfile.mkdtemp()
        write_archive(cls.EXAMPLE_DIR)
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.EXAMPLE_DIR)


def check(splits):
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [200, 200, 200]
    assert splits.image_shape == (64, 64, 3)
    assert splits.class_names == tuple(
        f"{wnid} thing {label}" for label, wnid in enumerate(sorted(WNIDS))
    )
    for split in (splits.train, splits.validation, splits.test):
        red = split.images[:, 32, 32, 0].astype(int)
        assert np.abs(red - split.labels).max() <= 4
    assert all(name.startswith("train/train/n") for name in splits.train.ids)
    assert all(name.startswith("validation/val/images/val_") for name in splits.test.ids)
    assert "test: the validation split" in splits.source


@pytest.mark.parametrize("where", ["", "downloads/manual"])
def test_load_from_the_archive(tmp_path, where):
    folder = tmp_path / where
    folder.mkdir(parents=True, exist_ok=True)
    write_archive(folder)
    check(load("tiny_imagenet", data_dir=tmp_path))
    assert prepare("tiny_imagenet", tmp_path) == tmp_path / "tiny_imagenet" / "1.0.0"


def test_load_from_the_unpacked_archive(tmp_path):
    archive = write_archive(tmp_path)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path)
    archive.unlink()
    check(load("tiny_imagenet", data_dir=tmp_path))


def test_other_archives_are_refused(tmp_path):
    archive = tmp_path / "tiny-imagenet-200.zip"
    archive.write_bytes(b"no zip")
    with pytest.raises(InputError, match="tiny_imagenet could not be prepared: File is not a zip"):
        load("tiny_imagenet", data_dir=tmp_path)
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("elsewhere/wnids.txt", "")
    with pytest.raises(InputError, match=r"lacks wnids\.txt: it is not the published archive"):
        load("tiny_imagenet", data_dir=tmp_path)
    assert not (tmp_path / "tiny_imagenet" / "1.0.0").exists()


def test_without_archive_and_network_it_says_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "robustcls.data.tfds.builders.tiny_imagenet.tiny_imagenet_dataset_builder._URL",
        "http://127.0.0.1:9/tiny-imagenet-200.zip",
    )
    with pytest.raises(InputError, match=r"downloads/manual: Put tiny-imagenet-200\.zip") as error:
        load("tiny_imagenet", data_dir=tmp_path)
    assert "upstream does not answer" in str(error.value)
    assert "\n" not in str(error.value)
