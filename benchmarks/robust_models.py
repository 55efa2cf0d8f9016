"""The models that the benchmarks of attacks attack: of the zoo, and small ones trained here.

A small network is trained on the embedded Fashion-MNIST images at the first call, in one to three
minutes on two cores, and kept in a folder. `plain` knows clean images alone; `fgsm` was trained
against one step, `pgd`, `trades` and `mart` against several, `pgd_l2` in an L2 ball; those with
`wide` have twice the filters.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import robustcls as rc
from robustcls import objectives
from robustcls.models.torch_files import read_state_dict

EPOCHS, BATCH = 8, 64
# Of github.com/yaodongyu/TRADES, where its authors put it; left out where the file is not there.
TRADES_ON_MNIST = "model_mnist_smallcnn.pt"


@dataclass(frozen=True, eq=False)
class Attacked:
    """A model, and the test images and the ball that it is attacked with.

    Attributes:
        name: of the model.
        model: images in [0, 1] to logits.
        images: float32 [N, H, W, C], the first of the test set.
        labels: int64 [N].
        epsilon: radius of the ball.
        norm: of the ball.
    """

    name: str
    model: keras.Model
    images: np.ndarray
    labels: np.ndarray
    epsilon: float
    norm: str


# Radius and norm of the ball that each is attacked in: that of its training, or one in which it
# still gets some images right.
BALLS = {
    "plain": (0.02, "inf"),
    "wide_plain": (0.02, "inf"),
    "fgsm": (0.1, "inf"),
    "pgd": (0.1, "inf"),
    "wide_pgd": (0.1, "inf"),
    "trades": (0.1, "inf"),
    "mart": (0.1, "inf"),
    "pgd_small_ball": (0.05, "inf"),
    "pgd_l2": (1.5, "2"),
}


def attacked_models(folder: Path, count: int, names: list[str] | None = None) -> Iterator[Attacked]:
    """Yields the models one after the other, with `count` test images each.

    Args:
        folder: keeps what is trained here.
        count: of the images.
        names: of the models; None takes all.
    """
    test = rc.load("fashion_mnist_mini").test
    images, labels = test.float_images()[:count], test.labels[:count]
    for name, (epsilon, norm) in BALLS.items():
        if names is None or name in names:
            yield Attacked(name, small_model(name, folder), images, labels, epsilon, norm)
    zoo = "fashion_mnist_mini_linf_0.1_ibp"
    if names is None or zoo in names:
        yield Attacked(zoo, rc.load_pretrained(zoo), images, labels, 0.1, "inf")
    weights, zoo = folder / TRADES_ON_MNIST, "mnist_linf_0.3_ibp"
    if names is None or {zoo, "trades_mnist"} & set(names):
        test = rc.load("mnist").test
        images, labels = test.float_images()[:count], test.labels[:count]
        if names is None or zoo in names:
            yield Attacked(zoo, rc.load_pretrained(zoo), images, labels, 0.3, "inf")
        if weights.is_file() and (names is None or "trades_mnist" in names):
            yield Attacked("trades_mnist", _trades_on_mnist(weights), images, labels, 0.3, "inf")


def small_model(name: str, folder: Path) -> keras.Model:
    """Returns a network of `BALLS`, trained at most once."""
    path = folder / f"{name}.keras"
    if path.is_file():
        return keras.saving.load_model(path, compile=False)
    train = rc.load("fashion_mnist_mini").train
    keras.utils.set_random_seed(0)
    model = _network(2 if name.startswith("wide") else 1)
    epsilon, norm = BALLS[name]
    trainer = _trainer(name, model, epsilon, norm)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, EPOCHS * (len(train) // BATCH))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trainer.compile(keras.optimizers.Adam(rate), loss=loss)
    trainer.fit(train.float_images(), train.labels, batch_size=BATCH, epochs=EPOCHS, verbose=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return model


def _network(width: int) -> keras.Sequential:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16 * width, 4, strides=2, activation="relu"),
            layers.Conv2D(32 * width, 4, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(64 * width, activation="relu"),
            layers.Dense(10),
        ]
    )


def _trainer(name: str, model: keras.Model, epsilon: float, norm: str) -> Any:
    if name.endswith("plain"):
        return model
    if norm == "2":
        return rc.AdversarialRegularization(
            model,
            multiplier=4.0,
            step_size=epsilon / 4,
            grad_norm="l2",
            iterations=5,
            epsilon=epsilon,
            random_start=True,
        )
    several = {"epsilon": epsilon, "steps": 5}
    objective: Any = {
        "fgsm": lambda: objectives.PGDTraining(
            epsilon=epsilon, steps=1, step_size=epsilon, random_start=False
        ),
        "trades": lambda: objectives.TRADES(**several),
        "mart": lambda: objectives.MART(**several),
    }.get(name, lambda: objectives.PGDTraining(**several))
    return rc.RobustTrainer(model, objective())


def _trades_on_mnist(path: Path) -> keras.Model:
    """The network of Zhang et al. (2019) for MNIST with the weights that its authors published."""
    weights = {name.partition(".")[2]: value for name, value in read_state_dict(path).items()}
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu", name="conv1"),
            layers.Conv2D(32, 3, activation="relu", name="conv2"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu", name="conv3"),
            layers.Conv2D(64, 3, activation="relu", name="conv4"),
            layers.MaxPooling2D(),
            # PyTorch flattens channel by channel.
            layers.Permute((3, 1, 2)),
            layers.Flatten(),
            layers.Dense(200, activation="relu", name="fc1"),
            layers.Dense(200, activation="relu", name="fc2"),
            layers.Dense(10, name="fc3"),
        ]
    )
    for layer in model.layers:
        if layer.weights:
            kernel, bias = (weights[f"{layer.name}.{kind}"] for kind in ("weight", "bias"))
            axes = (2, 3, 1, 0) if kernel.ndim == 4 else (1, 0)
            layer.set_weights([kernel.transpose(axes), bias])
    return model
