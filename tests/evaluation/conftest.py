import keras
import numpy as np
import pytest
import tensorflow as tf

import robustcls as rc

layers = keras.layers
SIDE = 14


@pytest.fixture(scope="session")
def splits():
    """Fashion-MNIST, made small."""
    return rc.load("fashion_mnist_mini", image_size=SIDE)


@pytest.fixture(scope="session")
def few(splits):
    """(images, labels) of 200 test images."""
    return splits.test.float_images()[:200], splits.test.labels[:200]


def train(splits, *, epsilon, steps, epochs, width=16):
    """A small network, trained on adversarial examples alone."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1)),
            layers.Conv2D(width, 3, padding="same", activation="relu"),
            layers.MaxPool2D(),
            layers.Conv2D(2 * width, 3, padding="same", activation="relu"),
            layers.MaxPool2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.Adam(3e-3)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(images, labels):
        moved = images
        for _ in tf.range(steps):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(moved)
                value = loss(labels, model(moved, training=False))
            moved += 1.25 / steps * epsilon * tf.sign(tape.gradient(value, moved))
            moved = tf.clip_by_value(moved, images - epsilon, images + epsilon)
            moved = tf.clip_by_value(moved, 0.0, 1.0)
        with tf.GradientTape() as tape:
            value = loss(labels, model(moved, training=True))
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    images, labels = splits.train.float_images(), splits.train.labels
    generator = np.random.default_rng(0)
    for _ in range(epochs):
        for chosen in generator.permutation(3000)[:2944].reshape(-1, 64):
            step(tf.constant(images[chosen]), tf.constant(labels[chosen]))
    return model


@pytest.fixture(scope="session")
def honest(splits):
    """Five small steps: what PGD says of this model is true."""
    return train(splits, epsilon=0.1, steps=5, epochs=3)


@pytest.fixture(scope="session")
def overfitted(splits):
    """One step as long as the ball is wide: catastrophic overfitting, at epsilon 0.3."""
    return train(splits, epsilon=0.3, steps=1, epochs=10)
