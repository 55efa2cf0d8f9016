"""Trains a small network that is certified in an L-infinity ball: MNIST, radius 0.3, by default.

    python benchmarks/certified_training.py --out runs/mnist_ibp
    python benchmarks/certified_training.py --out runs/fashion_ibp --data fashion_mnist_mini \
        --radius 0.1 --epsilon 0.11 --epochs 12

Goes on where it was stopped. Writes `progress.json` after each epoch (validation images only),
and at the end `model.keras` and `result.json`: clean and certified accuracy of all test images,
with the seconds that training took.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import keras
import numpy as np

import robustcls as rc
from robustcls.bounds import certify_by_bounds, initialize_for_bounds
from robustcls.runs import atomic, read_json, write_json
from robustcls.training.checkpoints import EpochCheckpoint
from robustcls.training.objectives.interval import IBP
from robustcls.training.robust_trainer import RobustTrainer

VALIDATION = 2000


def small_network():
    """The small network of Gowal et al. (2018), about 330,000 parameters."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="images"),
            layers.Conv2D(16, 4, strides=2, activation="relu", name="conv1"),
            layers.Conv2D(32, 4, activation="relu", name="conv2"),
            layers.Flatten(name="flatten"),
            layers.Dense(100, activation="relu", name="dense"),
            layers.Dense(10, name="logits"),
        ],
        name="small_ibp",
    )


class Progress(keras.callbacks.Callback):
    """Certified accuracy of held-out images, and the seconds so far, over all starts."""

    def __init__(self, splits, radius, path):
        super().__init__()
        self.images = splits.validation.float_images()[:VALIDATION]
        self.labels = splits.validation.labels[:VALIDATION]
        self.radius, self.path = radius, path
        self.rows = read_json(path) if path.is_file() else []

    def on_epoch_begin(self, epoch, logs=None):
        self.rows = self.rows[:epoch]
        self.began = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        found = certify_by_bounds(
            self.model.base_model, self.images, self.labels, epsilon=self.radius, batch_size=500
        )
        before = self.rows[-1]["seconds"] if self.rows else 0.0
        row = {
            "epoch": epoch + 1,
            "seconds": before + time.monotonic() - self.began,
            "validation_clean": found.clean_accuracy,
            "validation_certified": found.certified_accuracy,
            "loss": float(logs["loss"]),
        }
        self.rows.append(row)
        write_json(self.path, self.rows)
        print(row, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--radius", type=float, default=0.3, help="to be certified")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--epsilon", type=float, default=0.35, help="of training")
    parser.add_argument("--kappa", type=float, default=0.3)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    splits = rc.load(given.data)
    batches = rc.train_batches(splits, None, batch_size=given.batch_size, seed=given.seed)
    keras.utils.set_random_seed(given.seed)
    model = small_network()
    initialize_for_bounds(model, given.seed)
    objective = IBP(
        epsilon=given.epsilon,
        kappa=given.kappa,
        warmup_epochs=1,
        ramp_epochs=0.4 * given.epochs,
    )
    trainer = RobustTrainer(model, objective, seed=given.seed)
    schedule = keras.optimizers.schedules.CosineDecay(
        given.learning_rate, given.epochs * len(batches)
    )
    trainer.compile(keras.optimizers.Adam(schedule), metrics=["accuracy"])
    checkpoint = EpochCheckpoint(given.out)
    first = checkpoint.restore(trainer)
    trainer.fit(
        batches,
        epochs=given.epochs,
        initial_epoch=first,
        callbacks=[Progress(splits, given.radius, given.out / "progress.json"), checkpoint],
        shuffle=False,
        verbose=0,
    )
    with atomic(given.out / "model.keras") as path:
        model.save(path)
    test = splits.test
    found = certify_by_bounds(
        model, test.float_images(), test.labels, epsilon=given.radius, batch_size=500
    )
    result = {
        "settings": {key: str(value) for key, value in vars(given).items()},
        "epsilon": given.radius,
        "images": len(test),
        "clean": found.clean_accuracy,
        "certified": found.certified_accuracy,
        "training_seconds": read_json(given.out / "progress.json")[-1]["seconds"],
        "parameters": int(np.sum([np.prod(w.shape) for w in model.weights])),
    }
    write_json(given.out / "result.json", result)
    print(result)


if __name__ == "__main__":
    main()
