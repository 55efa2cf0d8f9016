"""Runs the real NSL wrapper under tf-keras: `python nsl_reference.py CASES.npz OUT.npz`.

A process of its own, since tf-keras must be chosen before TensorFlow is imported.
"""

import json
import os
import sys

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

from robustcls.training.adversarial._nsl import nsl

tf_keras = tf.keras
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


def build(weights):
    model = tf_keras.Sequential(
        [
            tf_keras.Input((8, 8, 2), name="feature"),
            tf_keras.layers.Conv2D(6, 3, activation="tanh"),
            tf_keras.layers.BatchNormalization(),
            tf_keras.layers.Conv2D(5, 3, strides=2, activation="tanh"),
            tf_keras.layers.Flatten(),
            tf_keras.layers.Dense(4),
        ]
    )
    model.set_weights(weights)
    return model


def trained_by_replicas():
    """Weights after a step of our trainer on dictionaries, on one replica and on two."""
    import keras

    from robustcls import AdversarialRegularization

    images = np.linspace(0, 1, 16, dtype=np.float32).reshape(8, 2)
    batch = {"feature": images, "label": np.arange(8) % 2}
    weights = {}
    for source, devices in (
        ("one", ["CPU:0"]),
        ("dataset", ["CPU:0", "CPU:1"]),
        ("distributed", ["CPU:0", "CPU:1"]),
    ):
        strategy = tf.distribute.MirroredStrategy(devices)
        with strategy.scope():
            keras.utils.set_random_seed(0)
            base = keras.Sequential(
                [
                    keras.Input((2,), name="feature"),
                    keras.layers.Dense(
                        2,
                        kernel_regularizer=keras.regularizers.L2(0.1),
                        activity_regularizer=keras.regularizers.L2(0.1),
                    ),
                ]
            )
            model = AdversarialRegularization(base, multiplier=0.5, step_size=0.1)
            model.compile(keras.optimizers.SGD(1.0), metrics=["accuracy"])
        data = tf.data.Dataset.from_tensor_slices(batch).batch(8)
        if source == "distributed":
            data = strategy.experimental_distribute_dataset(data)
        logs = model.fit(batch if source == "one" else data, verbose=0)
        weights[f"{source}_weights"] = base.get_weights()[0]
        weights[f"{source}_loss"] = logs.history["loss"][0]
    return weights


def main(cases_path, out_path):
    with np.load(cases_path) as data:
        cases = json.loads(str(data["cases"]))
        images, labels = data["images"], data["labels"]
        weights = [data[f"w{index}"] for index in range(int(data["count"]))]
    results = trained_by_replicas()
    for number, case in enumerate(cases):
        base = build(weights)
        # NSL looks bounds up by feature name; a bare number would be ignored.
        for bound in ("clip_value_min", "clip_value_max"):
            if bound in case:
                case[bound] = {"feature": case[bound]}
        model = nsl.keras.AdversarialRegularization(
            base, label_keys=["label"], adv_config=nsl.configs.make_adv_reg_config(**case)
        )
        loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(tf_keras.optimizers.SGD(1.0), loss=loss)

        inputs = {"feature": tf.constant(images), "label": tf.constant(labels)}
        with tf.GradientTape() as tape:
            model(inputs, training=True)
            total = tf.add_n(model.losses)
        (clean, scaled_adversarial) = model.losses
        gradients = tape.gradient(total, base.trainable_variables)
        results[f"{number}_clean"] = clean.numpy()
        results[f"{number}_adversarial"] = scaled_adversarial.numpy() / case["multiplier"]
        for index, gradient in enumerate(gradients):
            results[f"{number}_g{index}"] = gradient.numpy()
        for index, variable in enumerate(base.non_trainable_variables):
            results[f"{number}_s{index}"] = variable.numpy()
    np.savez(out_path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
