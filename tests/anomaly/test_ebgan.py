import keras
import numpy as np
import pytest
import tensorflow as tf

from anomaly.ebgan.detector import EBGAN, build_autoencoder, build_generator
from anomaly.ebgan.training import EnergyGAN, energy, pulling_away
from robustcls import InputError

SHAPE = (28, 28, 1)


def test_the_pulling_away_term_is_squared_and_leaves_out_each_code_itself():
    codes = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    unit = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    pairs = [(unit[i] @ unit[j]) ** 2 for i in range(5) for j in range(5) if i != j]
    assert float(pulling_away(codes)) == pytest.approx(np.mean(pairs), rel=1e-5)
    assert float(pulling_away(np.eye(4, dtype=np.float32))) == pytest.approx(0, abs=1e-6)
    # Opposite codes are as alike as equal ones.
    assert float(pulling_away(np.array([[1, 0], [-1, 0]], np.float32))) == pytest.approx(1)


def test_the_discriminators_loss_has_a_margin(normal_images, monkeypatch):
    """No gradient pushes energies that are above it."""
    images = tf.constant(normal_images[:8])
    losses = []
    for margin in (1e-6, 5.0):
        model = EnergyGAN(build_autoencoder(SHAPE), build_generator(SHAPE, 4), margin, 0.1, seed=0)
        model.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.0))
        seen = []
        original = tf.nn.relu

        def watch(x, *rest, seen=seen, original=original):
            seen.append(x)
            return original(x, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(tf.nn, "relu", watch)
            logs = model.train_step((images, None))
        gaps = seen[-1].numpy() if len(seen[-1].shape) == 1 else None
        losses.append((margin - float(logs["generated_energy"]), gaps))
    for mean, gaps in losses:
        assert gaps is not None
        assert gaps.mean() == pytest.approx(mean, rel=1e-4)
    assert losses[0][1].max() < 0 < losses[1][1].min()


def test_energy_is_the_mean_squared_error():
    images = np.random.default_rng(0).random((3, 4, 5, 1), np.float32)
    np.testing.assert_allclose(energy(images, 0 * images), (images**2).mean((1, 2, 3)), rtol=1e-5)
    for shape in (SHAPE, (45, 33, 3)):
        assert build_generator(shape, 8).output_shape == (None, *shape)


@pytest.mark.long
def test_unlearning_raises_known_anomalies_and_their_like(
    normal_images, other_normal_images, anomalies, defective_images
):
    detector = EBGAN(
        **{"image_shape": SHAPE, "epochs": 1, "pretraining_epochs": 6, "batch_size": 32},
        **{"learning_rate": 0.002, "unlearning_epochs": 4},
    ).fit(normal_images, verbose=0)
    before = detector.score(defective_images), detector.score(other_normal_images)
    threshold = detector.threshold
    assert detector.unlearn(anomalies, normal_images, verbose=0) is detector
    after = detector.score(defective_images), detector.score(other_normal_images)
    assert np.median(after[0]) > 1.2 * np.median(before[0])
    assert np.median(after[0]) / np.median(after[1]) > np.median(before[0]) / np.median(before[1])
    assert detector.threshold != threshold
    with pytest.raises(InputError, match="anomalies must be"):
        detector.unlearn(anomalies[:0], normal_images)
    with pytest.raises(InputError, match="epochs must be an integer >= 1"):
        detector.unlearn(anomalies, normal_images, epochs=0)
    with pytest.raises(InputError, match="fitted before unlearn"):
        EBGAN(image_shape=SHAPE).unlearn(anomalies, normal_images)


def test_the_margin_follows_the_batch():
    assert EBGAN(image_shape=SHAPE, batch_size=32).margin == 1
    assert EBGAN(image_shape=SHAPE, batch_size=128).margin == 2
    for settings in ({"margin": 0}, {"noise_size": 0}, {"pulling_weight": -1}):
        (name,) = settings
        with pytest.raises(InputError, match=f"{name} must be"):
            EBGAN(image_shape=SHAPE, **settings)
