import numpy as np
import pytest
import tensorflow as tf
from sklearn.neighbors import NearestNeighbors

from anomaly import OneClassDetector
from anomaly.autoencoder import AutoEncoder
from anomaly.detection.neighbors import NeighborDistance
from anomaly.memae.detector import MemAE
from robustcls import InputError

SHAPE = (28, 28, 1)


@pytest.mark.parametrize("count", [50, 20, 3])
def test_the_distance_is_that_of_the_kth_nearest(count):
    generator = np.random.default_rng(0)
    # Far from zero, where distances from squares alone would be off.
    codes = (1000 + generator.normal(size=(count, 6))).astype(np.float32)
    queries = (1000 + generator.normal(size=(9, 6))).astype(np.float32)
    layer = NeighborDistance(3, count=20)
    np.testing.assert_array_equal(layer(queries), np.ones(9))
    layer.adapt(codes)
    kept = (layer.codes + layer.center).numpy()[: min(count, 20)]
    drawn = NearestNeighbors(n_neighbors=1).fit(codes).kneighbors(kept)
    assert drawn[0].max() < 1e-3
    assert len(np.unique(drawn[1])) == len(kept)
    expected = NearestNeighbors(n_neighbors=3).fit(kept).kneighbors(queries)[0][:, -1]
    np.testing.assert_allclose(layer(queries), expected, rtol=1e-3)


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "contrast"),
    [(AutoEncoder, True), pytest.param(MemAE, False, marks=pytest.mark.exhaustive)],
)
def test_the_score_is_multiplied_by_the_distance(
    kind, contrast, normal_images, other_normal_images, defective_images, tmp_path
):
    detector = kind(
        image_shape=SHAPE,
        epochs=3,
        batch_size=32,
        code_neighbors=5,
        contrast_normalization=contrast,
    )
    seen = []
    detector.fit(
        normal_images,
        validation=other_normal_images,
        verbose=0,
        watch=lambda stage, epoch: seen.append(detector.score(defective_images)),
    )
    images = np.concatenate([other_normal_images[:20], defective_images])
    codes = NearestNeighbors(n_neighbors=5).fit(detector.encode(normal_images))
    distances = codes.kneighbors(detector.encode(images))[0][:, -1]
    layer = detector.networks["neighbors"].get_layer("neighbors")
    scores = detector.score(images)
    layer.used.assign(0)
    residuals = detector.score(images)
    np.testing.assert_allclose(residuals[20:], seen[-1], rtol=1e-5)
    np.testing.assert_allclose(scores, residuals * distances, rtol=1e-3)
    layer.used.assign(len(normal_images))
    np.testing.assert_allclose(detector.score(images, batch_size=7), scores, rtol=1e-5)
    loaded = OneClassDetector.load(detector.save(tmp_path))
    np.testing.assert_array_equal(loaded.score(images), scores)
    assert (scores[20:] > detector.threshold).mean() > 0.9


def test_neighbors_must_be_there():
    with pytest.raises(InputError, match="code_neighbors must be a number <= 16"):
        AutoEncoder(image_shape=SHAPE, batch_size=16, code_neighbors=17)
    with pytest.raises(InputError, match="code_neighbors must be"):
        MemAE(image_shape=SHAPE, code_neighbors=1.5)


@pytest.mark.exhaustive
def test_an_export_keeps_the_codes(normal_images, tmp_path):
    detector = AutoEncoder(
        image_shape=SHAPE, epochs=1, batch_size=32, code_size=8, code_neighbors=5
    ).fit(normal_images, verbose=0)
    loaded = tf.saved_model.load(str(detector.export(tmp_path)))
    answer = loaded.signatures["detect"](
        images=tf.constant(normal_images[:9]), threshold=tf.fill([9], np.nan)
    )
    np.testing.assert_allclose(answer["score"], detector.score(normal_images[:9]), rtol=1e-4)
