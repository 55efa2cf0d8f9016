"""Quantus' part of explanations_parity.py, which runs it: python THIS FOLDER."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np

warnings.simplefilter("ignore")
import quantus  # noqa: E402
from quantus.functions.perturb_func import noisy_linear_imputation  # noqa: E402

FOLDER = Path(sys.argv[1])
given = dict(np.load(FOLDER / "given.npz"))
images = given["images"].transpose(0, 3, 1, 2)  # channels first
classes, maps, masks = given["classes"], given["maps"][:, None], given["masks"][:, None]
count, features = len(images), images[0].size


class Linear:
    """What Quantus asks of a model."""

    def __init__(self, softmax: bool) -> None:
        self.softmax = softmax

    def shape_input(self, x: np.ndarray, *_: object, **__: object) -> np.ndarray:
        return x

    def predict(self, x: np.ndarray) -> np.ndarray:
        logits = x.reshape(len(x), -1) @ given["weights"]
        odds = np.exp(logits - logits.max(-1, keepdims=True))
        return odds / odds.sum(-1, keepdims=True) if self.softmax else logits


quiet = {"disable_warnings": True, "normalise": False}
found: dict[str, np.ndarray] = {}
one_by_one = quantus.PixelFlipping(features_in_step=1, **quiet).evaluate_batch(
    Linear(True), images, classes, maps.copy()
)
points = [round(point / 10 * features) - 1 for point in range(1, 11)]
found["deletion curve"] = np.array(one_by_one)[:, points]
infidelity = quantus.Infidelity(perturb_patch_sizes=[4], n_perturb_samples=1, **quiet)
raw = infidelity.evaluate_batch(Linear(False), images, classes, given["slope"][:, None])
found["infidelity"] = np.asarray(raw) / given["lost"]


def explain(model: object, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return inputs * given["weights"][:, targets].T.reshape(inputs.shape)


near = iter(given["near"].transpose(0, 1, 4, 2, 3))
sensitivity = quantus.MaxSensitivity(
    nr_samples=len(given["near"]),
    perturb_func=lambda arr, **_: next(near).reshape(arr.shape),
    norm_numerator=lambda a: np.linalg.norm(a.reshape(count, -1), axis=1),
    norm_denominator=lambda a: np.linalg.norm(a.reshape(count, -1), axis=1),
    similarity_func=lambda a, b: a - b,
    **quiet,
)
sensitivity.changed_prediction_indices_func = lambda *_: np.zeros(0, int)
sensitivity.explain_batch = lambda model, x, y: explain(model, x, y)
found["max_sensitivity"] = sensitivity.evaluate_batch(Linear(False), images, classes, maps.copy())
sizes = np.abs(maps).astype(np.float64)
found["sparseness"] = quantus.Sparseness(**quiet).evaluate_batch(
    x_batch=images, a_batch=sizes.copy()
)
found["complexity"] = quantus.Complexity(**quiet).evaluate_batch(
    x_batch=images, a_batch=sizes.copy()
)
found["pointing_game"] = quantus.PointingGame(**quiet).evaluate_batch(
    a_batch=maps.copy(), s_batch=masks
)
found["mass_in_mask"] = quantus.RelevanceMassAccuracy(**quiet).evaluate_batch(
    a_batch=np.maximum(maps, 0), s_batch=masks
)
found["painting over, of ROAD"] = np.stack(
    [
        noisy_linear_imputation(arr=image, indices=gone, noise=0.0)
        for image, gone in zip(images, given["gone"], strict=True)
    ]
)
np.savez(FOLDER / "found.npz", **{name: np.asarray(values) for name, values in found.items()})
