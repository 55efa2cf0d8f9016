"""Xplique's part of explanations_parity.py, which runs it: python THIS FOLDER."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import xplique.attributions as attributions
import xplique.metrics as metrics
from xplique.attributions.gradient_statistics.gradient_statistic import GradientStatistic

FOLDER = Path(sys.argv[1])
given = dict(np.load(FOLDER / "given.npz"))
model = keras.models.load_model(FOLDER / "model.keras")
images, classes = given["images"], given["classes"]
targets = tf.one_hot(classes, model.output_shape[-1]).numpy()
window = int(given["window"])
found: dict[str, object] = {}


def probabilities(inputs: tf.Tensor) -> tf.Tensor:
    return tf.nn.softmax(model(inputs))


def noisy(inputs: tf.Tensor, count: int, noise: float) -> tf.Tensor:
    """The noise that was given, for the one image that is asked for."""
    at = int(np.abs(images - np.asarray(inputs)).sum((1, 2, 3)).argmin())
    return tf.repeat(inputs, count, axis=0) + given["noise"][at][:count]


GradientStatistic._perturb_samples = staticmethod(noisy)


def masks_of(binary: tf.Tensor) -> np.ndarray:
    """`_get_masks` returns numbers of masks in place of cells; this, the masks."""
    return given["rise"][np.asarray(binary)[:, 0, 0, 0].astype(int)][..., None]


attributions.Rise._get_masks = staticmethod(
    lambda shape, count, *rest: tf.reshape(tf.range(count, dtype=tf.float32), [-1, 1, 1, 1])
)
attributions.Rise._apply_masks = staticmethod(
    lambda image, binary, value: (image[None] * masks_of(binary), tf.constant(masks_of(binary)))
)


def grid(image: tf.Tensor) -> tf.Tensor:
    cells = np.arange(image.shape[0]) * 7 // image.shape[0]
    return tf.constant(7 * cells[:, None] + cells, tf.int32)


# Theirs fits an intercept; two heavy samples hold the empty coalition and that of all.
joined = given["coalitions"]
ends = np.stack([np.zeros_like(joined[0]), np.ones_like(joined[0])])
every = np.concatenate([joined, ends]).astype(np.int32)


class KernelShap(attributions.KernelShap):
    def __init__(self, *arguments: object, **settings: object) -> None:
        super().__init__(*arguments, **settings)
        self.pertub_func = lambda features, count: tf.constant(every)
        self.similarity_kernel = lambda image, samples, perturbed: tf.where(
            (tf.reduce_sum(samples, 1) == 0) | (tf.reduce_all(samples == 1, axis=1)), 1e6, 1.0
        )


samples = given["noise"].shape[1]
settings = {
    "Saliency": {},
    "GradientInput": {},
    "IntegratedGradients": {"steps": int(given["steps"])},
    "SmoothGrad": {"nb_samples": samples, "batch_size": samples},
    "VarGrad": {"nb_samples": samples, "batch_size": samples},
    "GuidedBackprop": {},
    "GradCAM": {"conv_layer": "last"},
    "Occlusion": {"patch_size": window, "patch_stride": window // 2},
    "Rise": {"nb_samples": len(given["rise"])},
    "KernelShap": {"nb_samples": len(every), "map_to_interpret_space": grid},
}
for name, own in settings.items():
    kind = KernelShap if name == "KernelShap" else getattr(attributions, name)
    explainer = kind(probabilities if name == "Rise" else model, **own)
    explainer.explain(images, targets)  # the first call traces
    start = time.perf_counter()
    maps = np.asarray(explainer.explain(images, targets))
    found[f"{name}_s"] = (time.perf_counter() - start) / len(images)
    if name == "Occlusion":  # theirs is the sum over windows, ours the mean
        side = images.shape[1]
        starts = np.arange(0, side - window + 1, window // 2)
        counts = sum(
            ((np.arange(side) >= s) & (np.arange(side) < s + window)).astype(float) for s in starts
        )
        maps = maps / np.outer(counts, counts)[..., None]
    if name == "KernelShap":  # theirs paints a cell with its value, ours spreads it
        cells = grid(images[0]).numpy()
        sizes = np.bincount(cells.ravel())[cells]
        maps = maps / sizes[..., None]
    found[name] = maps.reshape(images.shape[:3])

maps = given["maps"]
for name, kind in (("deletion", metrics.Deletion), ("insertion", metrics.Insertion)):
    measure = kind(probabilities, images, targets, baseline_mode=0.0, steps=10)
    found[name] = measure(maps)
subsets = given["subsets"][..., None]


class MuFidelity(metrics.MuFidelity):
    def _perturb_samples(self, inputs: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        masks = tf.repeat(tf.constant(subsets)[None], len(inputs), axis=0)
        return tf.reshape(inputs[:, None] * masks, (-1, *images.shape[1:])), masks


found["mu_fidelity"] = MuFidelity(
    model, images, targets, batch_size=len(subsets), nb_samples=len(subsets)
)(maps)
found["sparseness"] = metrics.Sparseness()(maps)
found["complexity"] = metrics.Complexity()(maps)
np.savez(FOLDER / "found.npz", **found)
