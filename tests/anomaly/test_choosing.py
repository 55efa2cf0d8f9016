"""Passes and batches that detectors choose by the number of normal images."""

import pytest

from anomaly import EBGAN, AutoEncoder, DeepSVDD, OGNet, OneClassSVM
from anomaly.detection.fitting import kept_settings
from robustcls import InputError

SHAPE = (28, 28, 1)


def test_many_images_have_the_usual_settings():
    detector = AutoEncoder(image_shape=SHAPE)
    assert detector.epochs is detector.batch_size is None
    assert detector.choose(5400) == "Chosen for 5,400 normal images: batch_size 64, epochs 30."
    assert (detector.batch_size, detector.epochs) == (64, 30)


@pytest.mark.parametrize("count", [5, 20, 126, 180, 500, 1500])
def test_few_images_make_as_many_steps(count):
    detector = DeepSVDD(image_shape=SHAPE)
    detector.choose(count)
    assert 2 <= detector.batch_size <= count
    steps = count // detector.batch_size * detector.epochs
    assert 30 * 30 <= steps <= 30 * (30 + count // detector.batch_size)
    assert detector.pretraining_epochs == detector.epochs


def test_given_settings_stay():
    detector = EBGAN(image_shape=SHAPE, epochs=2, batch_size=30)
    words = detector.choose(126)
    assert (detector.epochs, detector.batch_size) == (2, 30)
    assert "batch_size" not in words
    assert " epochs" not in words
    assert detector.pretraining_epochs == 5 * 8
    assert OneClassSVM(image_shape=SHAPE, batch_size=64).choose(126) == ""


def test_another_number_of_images_is_another_choice():
    detector = AutoEncoder(image_shape=SHAPE)
    detector.choose(126)
    first = detector.epochs
    detector.choose(5400)
    assert detector.epochs == 30 < first
    given = AutoEncoder(image_shape=SHAPE, epochs=7)
    given.choose(126)
    given.choose(5400)
    assert given.epochs == 7


def test_an_interrupted_training_goes_on_with_its_own(tmp_path):
    detector = AutoEncoder(image_shape=SHAPE)
    detector.choose(126, {"epochs": 30, "batch_size": 64, "augmentation": None})
    assert (detector.epochs, detector.batch_size) == (30, 64)
    assert kept_settings(tmp_path) is None


def test_ognet_copies_its_old_generator_half_way():
    detector = OGNet(image_shape=SHAPE)
    detector.choose(126)
    assert detector.old_epochs == detector.epochs // 2
    with pytest.raises(InputError, match="old_epochs must be below epochs, 2; received 3"):
        OGNet(image_shape=SHAPE, epochs=2, old_epochs=3)
    with pytest.raises(InputError, match="old_epochs must be below epochs"):
        OGNet(image_shape=SHAPE, old_epochs=100).choose(126)
