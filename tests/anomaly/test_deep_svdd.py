import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn import svm

from anomaly.deep_svdd.deep_sad import DeepSAD
from anomaly.deep_svdd.detector import DeepSVDD, Sphere
from anomaly.deep_svdd.sphere import DistanceToCenter
from anomaly.one_class_svm import OneClassSVM
from robustcls import AugmentationPolicy, InputError

SHAPE = (28, 28, 1)


@pytest.mark.parametrize("shape", [SHAPE, (32, 32, 3)])
def test_nothing_can_map_all_images_to_the_centre(shape):
    encoder = DeepSVDD(image_shape=shape).build()["encoder"]
    for layer in encoder.layers:
        assert not getattr(layer, "use_bias", False)
        if isinstance(layer, keras.layers.BatchNormalization):
            assert not layer.center
            assert not layer.scale
    assert encoder.output["features"].shape == (None, 32 if shape[-1] == 1 else 128)


def test_the_centre_is_the_mean_and_not_near_zero():
    layer = DistanceToCenter()
    features = np.array([[1, 0.05, -0.01], [3, -0.03, -0.05]], np.float32)
    layer.build(features.shape)
    layer.set_center(features)
    np.testing.assert_allclose(layer.center, [2, 0.1, -0.1], atol=1e-6)
    np.testing.assert_allclose(layer(features)[0], 1 + 0.05**2 + 0.09**2, rtol=1e-5)


class Distances(keras.Model):
    """Gives the first pixel, times a weight, as the distance."""

    def __init__(self):
        super().__init__()
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, images, training=None):
        return {"distance": images[:, 0, 0, 0] * self.scale}


def test_anomalies_count_by_their_inverse_distance_and_their_share():
    """The gradient by the weight, 1: a mean distance down, η / distance up."""
    images = np.full((30, 2, 2, 1), 0.5, np.float32)
    anomalies = np.full((10, 2, 2, 1), 0.2, np.float32)
    for known, expected in ((None, 0.5), (anomalies, 0.75 * 0.5 - 0.25 * 2.0 / 0.2)):
        encoder = Distances()
        model = Sphere(encoder, known, normal_count=30, eta=2.0)
        model.compile(keras.optimizers.SGD(0.01))
        model.train_step((tf.constant(images), None))
        assert float((1 - encoder.scale) / 0.01) == pytest.approx(expected, rel=1e-3)


def test_settings_out_of_range():
    for kind, settings in (
        (DeepSVDD, {"pretraining_epochs": -1}),
        (DeepSVDD, {"learning_rate": 0}),
        (DeepSAD, {"eta": 0}),
        (OneClassSVM, {"nu": 0}),
        (OneClassSVM, {"gamma": 0}),
        (OneClassSVM, {"max_images": 1}),
        (OneClassSVM, {"epochs": 2}),
        (OneClassSVM, {"augmentation": AugmentationPolicy()}),
    ):
        (name,) = settings
        with pytest.raises(InputError, match=f"{name} must be"):
            kind(image_shape=SHAPE, **settings)


def test_the_one_class_svm_is_scikit_learns(normal_images, defective_images):
    detector = OneClassSVM(image_shape=SHAPE, max_images=100)
    detector.fit(normal_images[:100], validation=normal_images[100:], verbose=0)
    images = np.concatenate([normal_images[200:], defective_images])
    theirs = svm.OneClassSVM(nu=0.1, gamma=2**-7).fit(normal_images[:100].reshape(100, -1))
    expected = -theirs.decision_function(images.reshape(len(images), -1))
    expected /= theirs.dual_coef_.sum()
    np.testing.assert_allclose(detector.score(images), expected, atol=1e-5)
