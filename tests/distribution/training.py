"""What the tests train: by itself this file is one worker of TF_CONFIG's."""

import sys

import keras
import numpy as np

import anomaly
import robustcls as rc
from robustcls.distribution import for_workers, start
from robustcls.training.objectives import PGDTraining

IMAGES = np.random.default_rng(0).random((20, 16, 16, 1), "float32")
LABELS = np.random.default_rng(1).integers(0, 3, 20)


def network():
    """Strides, batch norm and a head, the same weights every time."""
    images = keras.Input((16, 16, 1))
    first, second = (keras.initializers.GlorotUniform(seed=seed) for seed in (0, 1))
    x = keras.layers.Conv2D(4, 3, 2, use_bias=False, kernel_initializer=first)(images)
    x = keras.layers.ReLU()(rc.FusedBatchNormalization()(x))
    return keras.Model(
        images, keras.layers.Dense(3, kernel_initializer=second)(keras.layers.Flatten()(x))
    )


def train(scope):
    """Trains one of each kind and returns what came out, arrays by name."""
    found = {}
    with scope:
        kinds = {
            "plain": network(),
            "nsl": rc.AdversarialRegularization(
                network(), iterations=2, epsilon=0.05, random_start=True
            ),
            "pgd": rc.RobustTrainer(network(), PGDTraining(steps=2)),
        }
        for name, model in kinds.items():
            model.compile(
                keras.optimizers.SGD(0.05, momentum=0.9),
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                metrics=["accuracy"],
            )
            history = for_workers(model).fit(
                rc.train_batches((IMAGES, LABELS), batch_size=8, seed=3),
                # The last batch has one row, and so no row for the second replica.
                validation_data=rc.evaluation_batches((IMAGES[:9], LABELS[:9]), batch_size=4),
                epochs=2,
                shuffle=False,
                verbose=0,
            )
            for number, weight in enumerate(getattr(model, "base_model", model).get_weights()):
                found[f"{name}/{number}"] = weight
            for key, values in history.history.items():
                found[f"{name}/{key}"] = np.array(values)
        found["predictions"] = kinds["plain"].predict(IMAGES[:7], batch_size=3, verbose=0)
        detector = anomaly.MemAE(image_shape=(16, 16, 1), epochs=2, batch_size=8, items=10)
        detector.fit(IMAGES, validation=1 - IMAGES, verbose=0)
        for number, weight in enumerate(detector.networks["memae"].get_weights()):
            found[f"memae/{number}"] = weight
        found["threshold"] = np.array(detector.threshold)
    return found


if __name__ == "__main__":
    np.savez(sys.argv[1], **train(start("multi_worker").scope()))
