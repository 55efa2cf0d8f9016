import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from robustcls import train_batches
from robustcls._validation import InputError
from robustcls.data import load, prepare
from robustcls.data.tfds import sets
from robustcls.data.tfds.records import RecordImages


def _builders():
    """Imports the builders once: TFDS refuses to register a name twice."""
    name = "robustcls_test_builders"
    if name not in sys.modules:
        path = Path(__file__).with_name("tfds_builders.py")
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


pixels = _builders().pixels


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


def number_of(name):
    return int(name[-6:-4])


def test_splits_ids_and_pixels(data_dir):
    splits = load("robustcls_varied/gray", data_dir=data_dir)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [20, 20, 20]
    assert splits.class_names == ("a", "b")
    assert splits.source == "TFDS robustcls_varied/gray/1.0.0"
    assert splits.image_shape == (4, 5, 1)
    for split, name in ((splits.train, "train"), (splits.test, "test")):
        assert sorted(split.ids) == [f"{name}/{name}-{number:02}.png" for number in range(20)]
        for image, label, example in zip(split.images, split.labels, split.ids, strict=True):
            np.testing.assert_array_equal(image, pixels(number_of(example), (4, 5, 1)))
            assert label == number_of(example) % 2
    again = load("robustcls_varied/gray", data_dir=data_dir)
    assert again.train.ids.tolist() == splits.train.ids.tolist()
    assert again.fingerprint == splits.fingerprint


def test_what_is_larger_than_memory_stays_in_its_files(tmp_path, monkeypatch):
    """In several files, whose examples TFDS reads to and fro."""
    monkeypatch.setattr(sets, "get_builder", lambda name, folder: builder)
    builder = tfds.builder("robustcls_varied/gray", data_dir=tmp_path)
    settings = tfds.download.DownloadConfig(num_shards=3)
    builder.download_and_prepare(download_config=settings)
    assert len(builder.info.splits["train"].filepaths) == 3
    whole = load("robustcls_varied/gray", data_dir=tmp_path, image_size=(6, 7))
    streamed = load("robustcls_varied/gray", data_dir=tmp_path, image_size=(6, 7), memory=1e-8)
    assert streamed.fingerprint == whole.fingerprint
    assert streamed.changes == whole.changes
    images = streamed.train.images
    assert isinstance(images, RecordImages)
    assert images.nbytes == whole.train.images.nbytes
    np.testing.assert_array_equal(images[[3, 1, 17]], whole.train.images[[3, 1, 17]])
    orders = [
        [labels.numpy() for _, labels in train_batches(each, batch_size=5, seed=1)]
        for each in (whole, streamed)
    ]
    np.testing.assert_array_equal(*orders)
    for path in builder.info.splits["train"].filepaths:
        Path(path).write_bytes(b"other")
    with pytest.raises(InputError, match=r"varied-train.* cannot be read at example"):
        images[0]


def test_default_folder_is_the_environment_s(data_dir, monkeypatch):
    prepare("robustcls_varied/gray", data_dir)
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    assert prepare("robustcls_varied/gray") == data_dir / "robustcls_varied/gray/1.0.0"


def test_images_of_several_sizes(data_dir):
    with pytest.raises(InputError, match=r"one size unless image_size is given; robustcls_varied"):
        load("robustcls_varied/sizes", data_dir=data_dir)
    splits = load("robustcls_varied/sizes", data_dir=data_dir, image_size=(6, 7), channels=1)
    assert splits.image_shape == (6, 7, 1)
    source = Image.fromarray(
        pixels(number_of(splits.test.ids[3]), (4 + number_of(splits.test.ids[3]), 5, 3))
    )
    expected = source.convert("L").resize((7, 6), Image.BILINEAR)
    np.testing.assert_array_equal(splits.test.images[3, ..., 0], np.asarray(expected))


def test_sixteen_bits_are_scaled(data_dir):
    splits = load("robustcls_varied/deep", data_dir=data_dir)
    raw = pixels(number_of(splits.train.ids[0]), (4, 5, 1), np.uint16)
    np.testing.assert_array_equal(splits.train.images[0], np.round(raw / 257).astype(np.uint8))


def test_validation_is_the_test_split_where_test_has_no_labels(data_dir):
    splits = load("robustcls_varied/unlabelled", data_dir=data_dir)
    assert all(name.startswith("validation/") for name in splits.test.ids)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [18, 2, 20]
    assert "test: the validation split; validation: 0.1 of train" in splits.source


def test_a_single_split_is_divided(data_dir):
    splits = load("robustcls_varied/one_split", data_dir=data_dir, validation_fraction=0.25)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [12, 4, 4]
    names = [*splits.train.ids, *splits.validation.ids, *splits.test.ids]
    assert len(set(names)) == 20
    assert "test: 0.2 of train" in splits.source


def test_a_set_for_testing_stays_one(data_dir):
    splits = load("robustcls_varied/test_only", data_dir=data_dir)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [0, 0, 20]
    assert splits.image_shape == (4, 5, 3)


def test_channels_that_cannot_be_shown(data_dir):
    with pytest.raises(InputError, match=r"1 or 3 channels; received uint8 with 4"):
        load("robustcls_varied/alpha", data_dir=data_dir)


def test_a_damaged_prepared_set_is_named(tmp_path):
    folder = prepare("robustcls_varied/gray", tmp_path)
    for records in folder.glob("*train*"):
        records.write_bytes(records.read_bytes()[:100])
    with pytest.raises(InputError, match=r"gray/1.0.0 cannot be read as a prepared set: ") as error:
        load("robustcls_varied/gray", data_dir=tmp_path)
    assert "Delete it to prepare it anew" in str(error.value)
    assert "\n" not in str(error.value)
