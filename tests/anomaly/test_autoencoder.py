import numpy as np
import pytest
import tensorflow as tf

from anomaly import AutoEncoder, MemAE
from anomaly.detection.layers import stages
from anomaly.detection.reconstruction import Reconstruction, quarter_turns, split_noise
from robustcls import AugmentationPolicy, InputError

QUICK = {"image_shape": (28, 28, 1), "batch_size": 32, "learning_rate": 0.005}


def test_the_score_is_the_root_mean_square_of_the_residuals_lengths():
    images = np.random.default_rng(0).random((40, 32, 32, 3), np.float32)
    detector = AutoEncoder(image_shape=(32, 32, 3))
    detector.networks = detector.build()
    residual = images - detector.reconstruct(images)
    lengths = np.sqrt((residual**2).sum(-1))
    np.testing.assert_allclose(detector.anomaly_map(images), lengths, rtol=1e-4, atol=1e-6)
    expected = np.sqrt((lengths**2).mean((1, 2)))
    np.testing.assert_allclose(detector.score(images), expected, rtol=1e-5)


def test_the_code_is_the_one_the_images_are_reconstructed_from(normal_images):
    """Gray 28×28 to 3×3×64 by strides 2, 2, 3, as the paper's network for MNIST."""
    detector = AutoEncoder(image_shape=(28, 28, 1))
    detector.networks = detector.build()
    codes = detector.encode(normal_images[:5])
    assert codes.shape == (5, 3 * 3 * 64)
    assert codes.min() >= 0
    network = detector.networks["autoencoder"]
    first = [layer.name for layer in network.layers].index("decoder_3")
    x = tf.reshape(codes, (5, 3, 3, 64))
    for layer in network.layers[first:]:
        x = layer(x)
    np.testing.assert_allclose(x, detector.reconstruct(normal_images[:5]), atol=1e-5)
    colour = AutoEncoder(image_shape=(32, 32, 3)).build()["autoencoder"]
    assert colour.get_layer("encoder_4_relu").output.shape == (None, 2, 2, 256)
    assert colour.output.shape == (None, 32, 32, 3)
    assert [filters for filters, _ in stages((32, 32, 3))] == [64, 128, 128, 256]


@pytest.mark.long
def test_training_reconstructs_better(normal_images, other_normal_images):
    errors = []
    detector = AutoEncoder(epochs=12, **QUICK)

    def watch(stage, epoch):
        images = detector.reconstruct(other_normal_images)
        errors.append(float(((images - other_normal_images) ** 2).mean()))

    detector.fit(normal_images, verbose=0, watch=watch)
    assert len(errors) == 12
    assert errors[-1] < errors[0] / 4
    assert errors[-1] < 0.25 * other_normal_images.var()


def test_noise_goes_into_the_input_alone(normal_images, monkeypatch):
    """With a network that copies its input, the loss is the noise that the input got."""

    class Copy(tf.keras.Model):
        def __init__(self):
            super().__init__()
            self.scale = self.add_weight(shape=(), initializer="ones")

        def call(self, images, training=None):
            return images * self.scale

    noise = AugmentationPolicy.none()
    noise = AugmentationPolicy.from_config(
        noise.get_config()
        | {
            "noise_probability": 1,
            "gaussian_stddev": None,
            "poisson_photons": None,
            "salt_and_pepper_amount": None,
            "speckle_stddev": 0.3,
        }
    )
    losses = []
    for policy in (noise, None):
        model = Reconstruction(Copy(), policy, seed=1)
        model.compile("sgd", loss="mse")
        batch = tf.constant(normal_images[:128]), tf.zeros(128, tf.int64)
        losses.append([float(model.train_step(batch)["loss"]) for _ in range(2)])
        assert float(model.evaluate(*batch, verbose=0)) < 1e-3
    assert 5e-4 < losses[0][0] < 2e-2
    assert losses[0][0] != losses[0][1]
    assert max(losses[1]) < 1e-12


@pytest.mark.exhaustive
def test_denoising_learns_to_remove_noise(normal_images, other_normal_images):
    generator = np.random.default_rng(0)
    noisy = other_normal_images + generator.normal(0, 0.15, other_normal_images.shape)
    noisy = np.clip(noisy, 0, 1).astype(np.float32)
    errors = []
    for policy in (
        None,
        AugmentationPolicy(
            noise_probability=1,
            gaussian_stddev=0.3,
            poisson_photons=None,
            salt_and_pepper_amount=None,
            horizontal_flip=False,
            crop_padding=0,
        ),
    ):
        detector = AutoEncoder(
            image_shape=(28, 28, 1), epochs=12, batch_size=32, augmentation=policy
        )
        images = detector.fit(normal_images, verbose=0).reconstruct(noisy)
        errors.append(float(((images - other_normal_images) ** 2).mean()))
    assert errors[1] < 0.7 * errors[0]


def test_a_policy_falls_into_noise_and_the_rest():
    policy = AugmentationPolicy(gaussian_stddev=0.3, speckle_stddev=0.1, crop_padding=3)
    noise, rest = split_noise(policy)
    assert noise.noises == policy.noises
    assert noise.noise_probability == policy.noise_probability
    assert rest.noises == {}
    assert rest.crop_padding == 3
    images = np.random.default_rng(0).random((64, 20, 20, 3), np.float32)
    # Whatever is not noise is in the rest alone.
    changed = np.asarray(noise(images, seed=(0, 0)) != images).any((1, 2, 3))
    assert 0.2 < changed.mean() < 0.8
    assert split_noise(None) == (None, None)
    assert split_noise(AugmentationPolicy(noise_probability=0))[0] is None


@pytest.mark.parametrize("rate", [0, -1, "fast", float("inf")])
def test_learning_rates_out_of_range(rate):
    with pytest.raises(InputError, match="learning_rate must be a number > 0"):
        AutoEncoder(image_shape=(28, 28, 1), learning_rate=rate)


@pytest.mark.parametrize("kind", [AutoEncoder, MemAE])
def test_the_score_is_relative_to_the_image_to_a_power(kind, normal_images):
    images = np.concatenate(
        [0.3 * normal_images[:20], normal_images[:20], np.zeros((1, 28, 28, 1))]
    )
    images = images.astype(np.float32)
    scores = {}
    for relativity in (0.0, 0.5, 1.0):
        detector = kind(image_shape=(28, 28, 1), relativity=relativity)
        detector.networks = detector.build()
        scores[relativity] = detector.score(images)
    length = np.maximum(np.sqrt((images**2).mean((1, 2, 3))), 1 / 255)
    np.testing.assert_allclose(scores[0.5], scores[0.0] / np.sqrt(length), rtol=1e-5)
    np.testing.assert_allclose(scores[1.0], scores[0.0] / length, rtol=1e-5)


@pytest.mark.parametrize("kind", [AutoEncoder, MemAE])
def test_the_score_is_of_cell_means(kind):
    images = np.random.default_rng(0).random((5, 28, 28, 3), np.float32)
    detector = kind(image_shape=(28, 28, 3), residual_pooling=4)
    detector.networks = detector.build()
    cells = (images - detector.reconstruct(images)).reshape(5, 7, 4, 7, 4, 3).mean((2, 4))
    expected = np.sqrt((cells**2).sum(-1).mean((1, 2)))
    np.testing.assert_allclose(detector.score(images), expected, rtol=1e-4)


def test_quarter_turns_are_even_and_follow_the_seed():
    images = np.random.default_rng(0).random((400, 3, 3, 1), np.float32)
    turned = np.asarray(quarter_turns(images, (0, 0)))
    matches = [(turned == np.rot90(images, turn, (1, 2))).all((1, 2, 3)).sum() for turn in range(4)]
    assert sum(matches) == 400
    assert min(matches) > 70
    np.testing.assert_array_equal(turned, quarter_turns(images, (0, 0)))
    assert (turned != np.asarray(quarter_turns(images, (0, 1)))).any()


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", [AutoEncoder, MemAE])
def test_turned_images_are_restored_where_that_was_trained(kind, normal_images):
    errors = []
    for rotations in (False, True):
        detector = kind(
            image_shape=(28, 28, 1), epochs=6, batch_size=16, restore_rotations=rotations
        )
        detector.fit(normal_images, verbose=0)
        restored = detector.reconstruct(np.ascontiguousarray(np.rot90(normal_images, 1, (1, 2))))
        errors.append(float(((restored - normal_images) ** 2).mean()))
    assert errors[1] < 0.7 * errors[0]


def test_only_square_images_can_be_turned():
    with pytest.raises(InputError, match="images of 28×32 pixels"):
        AutoEncoder(image_shape=(28, 32, 1), restore_rotations=True)


@pytest.mark.parametrize("shape", [(28, 28, 1), (33, 40, 3)])
@pytest.mark.parametrize("kind", [AutoEncoder, MemAE])
def test_all_that_is_reconstructed_goes_through_the_code(kind, shape):
    detector = kind(image_shape=shape, code_size=7)
    networks = detector.build()
    detector.networks = networks
    images = np.random.default_rng(0).random((3, *shape), np.float32)
    assert detector.encode(images).shape == (3, 7)
    assert detector.reconstruct(images).shape == images.shape
    (network,) = networks.values()
    code = network.get_layer("encoder_code").output
    assert code.shape == (None, 1, 1, 7)
    if kind is MemAE:
        assert detector.memory.shape[1] == 7
    # With the code at zero, nothing is left that tells images apart.
    dense = network.get_layer("encoder_dense")
    dense.set_weights([np.zeros_like(weights) for weights in dense.get_weights()])
    np.testing.assert_allclose(*detector.reconstruct(images[:2]), atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"code_size": 0},
        {"relativity": 1.5},
        {"relativity": -1},
        {"residual_pooling": 0},
        {"residual_pooling": 29},
        {"restore_rotations": 1},
    ],
)
def test_residual_settings_out_of_range(settings):
    (name,) = settings
    with pytest.raises(InputError, match=f"{name} must be"):
        AutoEncoder(image_shape=(28, 28, 1), **settings)
