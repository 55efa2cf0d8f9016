import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from anomaly.memae.detector import MemAE, MemoryReconstruction
from anomaly.memae.memory import MemoryModule, MemoryUsage, address_entropy
from anomaly.memae.video_networks import build_video_memae
from robustcls import InputError


def read_by_hand(queries, memory, shrinkage):
    logits = queries @ memory.T
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    kept = np.maximum(weights - shrinkage, 0) * weights / (np.abs(weights - shrinkage) + 1e-12)
    kept /= np.maximum(kept.sum(-1, keepdims=True), 1e-12)
    return kept @ memory, kept


@pytest.mark.parametrize("shape", [(4, 7, 16), (2, 3, 5, 16), (2, 2, 3, 3, 16)])
@pytest.mark.parametrize("shrinkage", [0, 0.05, 0.2])
def test_the_memory_is_read_by_the_papers_equations(shape, shrinkage):
    queries = np.random.default_rng(0).normal(0, 4, shape).astype(np.float32)
    layer = MemoryModule(items=10, shrinkage=shrinkage, seed=1)
    read, addresses = layer(queries)
    memory = layer.memory.numpy()
    assert np.abs(memory).max() <= 16**-0.5
    expected, kept = read_by_hand(queries, memory, shrinkage)
    np.testing.assert_allclose(read, expected, atol=1e-5)
    np.testing.assert_allclose(addresses, kept, atol=1e-5)
    assert read.shape == shape
    assert layer.compute_output_shape(shape) == (shape, (*shape[:-1], 10))
    again = MemoryModule.from_config(layer.get_config())
    again.build(shape)
    np.testing.assert_array_equal(again.memory, memory)


def test_cosine_does_not_see_lengths():
    layer = MemoryModule(items=10, shrinkage=0.05, similarity="cosine")
    queries = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    np.testing.assert_allclose(layer(queries)[1], layer(9 * queries)[1], atol=1e-5)
    dot = MemoryModule(items=10, shrinkage=0.05)
    assert not np.allclose(dot(queries)[1], dot(9 * queries)[1], atol=1e-2)


def test_usage_tells_a_sound_memory_from_a_collapsed_one():
    sound = tf.reshape(tf.eye(10), (5, 2, 10))
    for addresses, used in (
        (sound, 10),
        (tf.one_hot([3, 3, 3], 10), 1),
        (tf.zeros((4, 10)), 0),
        (tf.fill((3, 10), 0.1), 10),
    ):
        usage = MemoryUsage(10)
        usage.update_state(addresses)
        assert float(usage.result()) == pytest.approx(used, rel=1e-5)
    np.testing.assert_allclose(address_entropy(sound), 0, atol=1e-6)
    np.testing.assert_allclose(address_entropy(tf.fill((2, 10), 0.1)), np.log(10), rtol=1e-5)
    # Shrinkage above 1 / items can drop every address, and no NaN comes of it.
    layer = MemoryModule(items=10, shrinkage=0.2)
    read, addresses = layer(tf.zeros((2, 16)))
    assert (read.numpy() == 0).all()
    assert (addresses.numpy() == 0).all()
    assert np.isfinite(address_entropy(addresses)).all()


def test_the_loss_is_error_and_entropy(normal_images):
    detector = MemAE(image_shape=(28, 28, 1))
    network = detector.build()["memae"]
    model = MemoryReconstruction(network, entropy_weight=0.5)
    images = tf.constant(normal_images[:8])
    outputs = network(images, training=False)
    error = np.mean((outputs["reconstruction"] - images) ** 2)
    entropy = np.mean(address_entropy(outputs["addresses"]))
    loss = model.compute_loss(None, images, outputs)
    assert float(loss) == pytest.approx(error + 0.5 * entropy, rel=1e-4)
    assert entropy > 0.01


@pytest.mark.long
def test_a_trained_memory_is_used_and_the_sparse_one_sparsely(normal_images, other_normal_images):
    """The failures reported of others: one item for all queries, and no item at all."""
    usage = {}
    for name, settings in {"sparse": {}, "control": {"shrinkage": 0, "entropy_weight": 0}}.items():
        detector = MemAE(
            **{"image_shape": (28, 28, 1), "items": 20, "epochs": 6, "batch_size": 32},
            **{"learning_rate": 0.005, **settings},
        )
        detector.fit(normal_images, verbose=0)
        usage[name] = detector.memory_usage(other_normal_images)
        assert detector.memory.shape[0] == 20
    assert usage["sparse"]["effective_items"] > 2
    assert usage["sparse"]["entropy"] < usage["control"]["entropy"]
    assert usage["control"]["used_items"] == 20


def test_a_query_is_an_image_or_a_position():
    for query, items, addresses in (
        ("image", (100, 576), (None, 1, 1, 100)),
        ("position", (100, 64), (None, 3, 3, 100)),
    ):
        network = MemAE(image_shape=(28, 28, 1), query=query).build()["memae"]
        assert network.get_layer("memory").memory.shape == items
        assert network.output["addresses"].shape == addresses
    assert MemAE(image_shape=(32, 32, 3)).items == 500


@pytest.mark.long
def test_the_network_for_clips_learns():
    model = build_video_memae((8, 32, 32, 1), items=12, shrinkage=0.05, width=0.05)
    paper = inspect.signature(build_video_memae).parameters
    defaults = [paper[name].default for name in ("items", "shrinkage", "width")]
    assert defaults == [2000, 0.0025, 1.0]
    generator = np.random.default_rng(0)
    clips = 0.5 + 0.3 * np.sin(
        np.arange(8)[:, None, None, None] + generator.random((4, 1, 1, 1, 1))
    )
    clips = np.broadcast_to(clips, (4, 8, 32, 32, 1)).astype(np.float32)
    outputs = model(clips)
    assert outputs["reconstruction"].shape == clips.shape
    assert outputs["addresses"].shape == (4, 1, 2, 2, 12)
    trainer = MemoryReconstruction(model, entropy_weight=0.0002)
    trainer.compile(keras.optimizers.Adam(0.01), loss="mse")
    history = trainer.fit(clips, np.zeros(4), batch_size=4, epochs=15, verbose=0).history
    assert history["reconstruction_error"][-1] < 0.5 * history["reconstruction_error"][0]
    assert history["memory_usage"][-1] > 1
    with pytest.raises(InputError, match="clip_shape must be"):
        build_video_memae((12, 32, 32, 1))


@pytest.mark.parametrize(
    "settings",
    [
        {"items": 1},
        {"shrinkage": 1},
        {"shrinkage": -0.1},
        {"entropy_weight": -1},
        {"similarity": "l2"},
        {"query": "row"},
        {"learning_rate": 0},
    ],
)
def test_settings_out_of_range(settings):
    (name,) = settings
    with pytest.raises(InputError, match=f"{name} must be"):
        MemAE(image_shape=(28, 28, 1), **settings)
