"""Xplique's part of explanations_speed.py, which runs it: python THIS FOLDER."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import xplique.attributions as attributions

FOLDER = Path(sys.argv[1])
given = dict(np.load(FOLDER / "given.npz"))
model = keras.models.load_model(FOLDER / "model.keras")
images, classes = given["images"], given["classes"]
targets = tf.one_hot(classes, model.output_shape[-1]).numpy()
batch, samples, masks = (int(given[name]) for name in ("batch", "samples", "masks"))
window, layer = int(given["window"]), str(given["layer"])


def grid(image: tf.Tensor) -> tf.Tensor:
    cells = np.arange(image.shape[0]) * 7 // image.shape[0]
    return tf.constant(7 * cells[:, None] + cells, tf.int32)


own = {
    "IntegratedGradients": {"steps": int(given["steps"])},
    "SmoothGrad": {"nb_samples": samples},
    "VarGrad": {"nb_samples": samples},
    "GradCAM": {"conv_layer": layer},
    "GradCAMPP": {"conv_layer": layer},
    "Occlusion": {"patch_size": window, "patch_stride": window // 2},
    "Rise": {"nb_samples": masks},
    "KernelShap": {"nb_samples": masks, "map_to_interpret_space": grid},
}
found = {}
for name, count in zip(given["names"].tolist(), given["turns"].tolist(), strict=True):
    explainer = getattr(attributions, name)(model, batch_size=batch, **own.get(name, {}))
    explainer.explain(images, targets)  # the first call traces
    turns = []
    for _ in range(count):
        start, busy = time.perf_counter(), time.process_time()
        explainer.explain(images, targets)
        turns.append((time.process_time() - busy, time.perf_counter() - start))
    found[name] = [statistics.median(kind) / len(images) for kind in zip(*turns, strict=True)]
    print("Xplique", name, found[name], flush=True)
np.savez(FOLDER / "found.npz", **found)
