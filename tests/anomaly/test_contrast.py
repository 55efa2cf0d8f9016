import numpy as np
import pytest
import tensorflow as tf

from anomaly import AutoEncoder, DeepSVDD, MemAE
from anomaly.detection.contrast import ContrastNormalization
from robustcls import InputError

SHAPE = (28, 28, 1)


def test_images_get_one_mean_and_one_contrast():
    generator = np.random.default_rng(0)
    images = generator.uniform(0.2, 0.6, (6, 8, 8, 3)).astype(np.float32)
    layer = ContrastNormalization()
    layer.build(images.shape)
    layer.adapt(images, batch_size=4)
    normalized = layer(images).numpy()
    assert normalized.min() == pytest.approx(0, abs=1e-6)
    assert normalized.max() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(normalized.mean((1, 2, 3)), normalized.mean(), atol=1e-5)
    deviations = np.abs(normalized - normalized.mean((1, 2, 3), keepdims=True)).mean((1, 2, 3))
    np.testing.assert_allclose(deviations, deviations.mean(), rtol=1e-4)
    # Fainter and darker is the same picture, and of one colour none at all.
    np.testing.assert_allclose(layer(0.3 * images + 0.1), normalized, atol=1e-5)
    assert np.isfinite(layer(tf.fill((2, 8, 8, 3), 0.4))).all()
    # Contrast beyond what `adapt` saw is clipped.
    spot = np.zeros((1, 8, 8, 3), np.float32)
    spot[0, 0, 0] = 1
    assert layer(spot).numpy().max() == 1
    np.testing.assert_allclose(layer.undo(layer(images), images), images, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (AutoEncoder, {}),
        pytest.param(MemAE, {"items": 10}, marks=pytest.mark.exhaustive),
        (DeepSVDD, {"pretraining_epochs": 1}),
    ],
)
def test_detectors_that_do_not_see_brightness(kind, settings, normal_images, tmp_path):
    settings |= {"image_shape": SHAPE, "epochs": 1, "batch_size": 32}
    detector = kind(contrast_normalization=True, **settings).fit(normal_images, verbose=0)
    images = normal_images[:9]
    np.testing.assert_allclose(
        detector.score(0.5 * images), detector.score(images), rtol=1e-3, atol=1e-5
    )
    np.testing.assert_allclose(detector.encode(0.5 * images), detector.encode(images), atol=1e-3)
    loaded = kind.load(detector.save(tmp_path))
    np.testing.assert_array_equal(loaded.score(images), detector.score(images))
    if kind is not DeepSVDD:
        # Reconstructions are of the images that came in.
        faint = detector.reconstruct(0.5 * images)
        np.testing.assert_allclose(faint, 0.5 * detector.reconstruct(images), atol=1e-4)
    with pytest.raises(InputError, match="contrast_normalization must be True or False"):
        kind(contrast_normalization="yes", **settings)


def test_the_score_is_relative_to_the_contrast():
    images = np.random.default_rng(0).random((9, *SHAPE), np.float32)
    images[1] = 0.5
    scores = []
    for relativity in (0.0, 0.75):
        detector = AutoEncoder(
            image_shape=SHAPE, contrast_normalization=True, relativity=relativity
        )
        detector.networks = detector.build()
        detector._contrast().adapt(images)
        scores.append(detector.score(images))
    prepared = detector._prepare(tf.constant(images)).numpy()
    deviation = np.maximum(prepared.std((1, 2, 3)), 1 / 255)
    np.testing.assert_allclose(scores[1], scores[0] / deviation**0.75, rtol=1e-4)
