"""Maps and measures beside those of the peers' own code, on equal models and equal maps.

    python benchmarks/explanations_parity.py --xplique VENV --quantus VENV

compares maps with tf-keras-vis in this process; maps and measures with Xplique, which needs
TensorFlow <= 2.20, and measures with Quantus, each in a process of its own environment:

    python -m venv VENV && VENV/bin/pip install xplique "tensorflow-cpu<=2.20"
    python -m venv VENV && VENV/bin/pip install quantus

Everything random (noise, masks, coalitions, neighbours) is drawn here and handed to the peer.
Writes benchmarks/results/explanations_parity.json: the largest difference, as a share of the
largest value of each map, and of measures as they are; and what one picture takes in seconds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from robustcls.attacks import draws
from robustcls.explanation import MEASURES, Explainer, Maps
from robustcls.explanation.methods.kernel_shap import coalitions
from robustcls.explanation.methods.rise import RandomMasks
from robustcls.explanation.quality.faithfulness import curves
from robustcls.explanation.quality.measures import fidelity
from robustcls.explanation.quality.measures.remove_and_debias import paint_over
from robustcls.explanation.quality.measures.trial import NEIGHBOURS, RADIUS, Trial
from robustcls.runs import versions, write_json

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
    from tf_keras_vis.layercam import Layercam
    from tf_keras_vis.saliency import Saliency
    from tf_keras_vis.scorecam import Scorecam
    from tf_keras_vis.utils.scores import CategoricalScore

HERE = Path(__file__).parent
SIDE, COUNT, CLASSES = 28, 8, 4
SETTINGS = {"samples": 8, "masks": 200, "window": 4, "steps": 500}


def model() -> keras.Model:
    """Of random weights; the layer of its maps has the size of the image, so nobody resizes."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    images = keras.Input((SIDE, SIDE, 1), name="images")
    maps = layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(images)
    maps = layers.Conv2D(8, 3, padding="same", activation="relu", name="last")(maps)
    hidden = layers.Dense(16, activation="relu", name="hidden")(layers.Flatten()(maps))
    return keras.Model(images, layers.Dense(CLASSES, name="logits")(hidden), name="tiny")


def softmax(values: np.ndarray) -> np.ndarray:
    odds = np.exp(values - values.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


def apart(mine: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference of maps, each scaled by its largest value."""
    pair = [np.asarray(maps, np.float64).reshape(len(maps), -1) for maps in (mine, theirs)]
    scaled = [maps / np.abs(maps).max(axis=1, keepdims=True) for maps in pair]
    return float(np.abs(scaled[0] - scaled[1]).max())


def beside_tf_keras_vis(
    network: keras.Model, images: np.ndarray, classes: np.ndarray, explainer: Explainer
) -> dict[str, dict[str, float]]:
    kinds = {
        "gradients": Saliency,
        "grad_cam": Gradcam,
        "grad_cam_plus_plus": GradcamPlusPlus,
        "layer_cam": Layercam,
        "score_cam": Scorecam,
    }
    found = {}
    for method, kind in kinds.items():
        visualization = kind(network)
        settings: dict[str, object] = {"normalize_map": False}
        if method != "gradients":
            settings = {"penultimate_layer": "last", "seek_penultimate_conv_layer": False}
            settings |= {"expand_cam": False, "normalize_cam": False}

        def theirs(kind=visualization, settings=settings) -> np.ndarray:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return np.asarray(kind(CategoricalScore(classes.tolist()), images, **settings))

        def mine(method=method) -> np.ndarray:
            maps = explainer(method, images, classes)
            return maps.relevance

        pair, seconds = {}, {}
        for name, function in (("ours", mine), ("tf-keras-vis", theirs)):
            function()  # the first call traces
            start = time.perf_counter()
            pair[name] = function()
            seconds[name] = (time.perf_counter() - start) / len(images)
        mine_maps, other = pair["ours"], pair["tf-keras-vis"]
        if method == "score_cam":  # scaled to [0, 1] by them
            mine_maps, other = (m - m.min((1, 2), keepdims=True) for m in (mine_maps, other))
        found[method] = {"apart": apart(mine_maps, other), "seconds_a_picture": seconds}
    return found


def in_process(script: str, venv: str, folder: Path) -> dict[str, np.ndarray]:
    """What a peer's script makes of `given.npz`, as arrays."""
    command = [str(Path(venv) / "bin" / "python"), str(HERE / script), str(folder)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, check=True, env=environment)
    with np.load(folder / "found.npz") as stored:
        return dict(stored)


def beside_xplique(
    venv: str,
    network: keras.Model,
    images: np.ndarray,
    classes: np.ndarray,
    explainer: Explainer,
    folder: Path,
) -> dict[str, object]:
    names = {
        "gradients": "Saliency",
        "gradient_times_input": "GradientInput",
        "integrated_gradients": "IntegratedGradients",
        "smoothgrad": "SmoothGrad",
        "vargrad": "VarGrad",
        "guided_backpropagation": "GuidedBackprop",
        "grad_cam": "GradCAM",
        "occlusion": "Occlusion",
        "rise": "Rise",
        "kernel_shap": "KernelShap",
    }
    maps, seconds = {}, {}
    for method in names:
        explainer(method, images, classes)
        start = time.perf_counter()
        maps[method] = explainer(method, images, classes)
        seconds[method] = (time.perf_counter() - start) / len(images)
    key = np.array([explainer.seed], np.uint64)
    noise = [
        draws.normal(draws.derive(key, sample), images.shape[1:])[0]
        for sample in range(explainer.samples)
    ]
    ranges = np.ptp(images, axis=(1, 2, 3))[:, None, None, None, None]
    attribution = maps["integrated_gradients"]
    trial = Trial(explainer, "integrated_gradients", attribution, images, classes)
    network.save(folder / "model.keras")
    np.savez(
        folder / "given.npz",
        images=images,
        classes=classes,
        noise=(explainer.noise * ranges * np.stack(noise)).astype(np.float32),
        rise=RandomMasks(explainer.masks, SIDE, SIDE, explainer.seed).make(0, explainer.masks),
        coalitions=coalitions(49, explainer.masks, explainer.seed),
        subsets=fidelity._subsets(trial)[0].astype(np.float32),
        maps=attribution.signed,
        window=explainer.window,
        steps=explainer.steps,
    )
    theirs = in_process("explanations_parity_xplique.py", venv, folder)
    found: dict[str, object] = {"maps": {}, "measures": {}}
    for method, name in names.items():
        mine = maps[method].signed
        if method == "gradients":  # theirs has no sign
            mine = maps[method].relevance
        found["maps"][method] = {
            "apart": apart(mine, theirs[name]),
            "seconds_a_picture": {"ours": seconds[method], "Xplique": float(theirs[f"{name}_s"])},
        }
    for name in ("deletion", "insertion", "mu_fidelity", "sparseness", "complexity"):
        mine = MEASURES[name].function(trial).mean()
        found["measures"][name] = {"ours": mine, "Xplique": float(theirs[name])}
    return found


def beside_quantus(venv: str, folder: Path) -> dict[str, object]:
    """Of a linear model in NumPy, so that Quantus needs no framework."""
    generator = np.random.default_rng(0)
    side = 12
    images = generator.random((COUNT, side, side, 1)).astype(np.float32)
    images[:, 0, 0] = 0  # what Quantus calls black is the smallest value
    weights = generator.normal(0, 0.5, (side * side, CLASSES)).astype(np.float32)
    explainer = Explainer(lambda given: given.reshape(len(given), -1) @ weights)
    classes = (images.reshape(COUNT, -1) @ weights).argmax(-1)

    def method(images: np.ndarray, classes: np.ndarray) -> Maps:
        signed = images[..., 0] * weights[:, classes].T.reshape(-1, side, side)
        return Maps.of_signed(signed, attribution=True)

    maps = method(images, classes)
    masks = generator.random((COUNT, side, side)) < 0.3
    trial = Trial(explainer, method, maps, images, classes, masks)
    keys = draws.image_keys(images)
    near = [
        np.clip(
            images + RADIUS * (2 * draws.uniform(draws.derive(keys, 0, n), images.shape[1:]) - 1),
            0,
            1,
        )
        for n in range(NEIGHBOURS)
    ]
    blocks = np.ones((9, side, side), np.float32)
    for at in range(9):  # blocks of 4 x 4 go black one after the other and stay so
        row, column = divmod(at, 3)
        blocks[at:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 0
    logits = images.reshape(COUNT, -1) @ weights
    lost = np.stack(
        [
            np.take_along_axis(
                logits - (images * block[..., None]).reshape(COUNT, -1) @ weights,
                classes[:, None],
                1,
            )[:, 0]
            for block in blocks
        ],
        axis=1,
    )
    # An attribution that foretells by the share of an image that is lost: over the image.
    slope = maps.signed / np.maximum(images[..., 0], 1e-6) + generator.normal(
        0, 0.3, maps.signed.shape
    )
    sums = fidelity.sums_of(slope * images[..., 0], blocks)
    scale = (sums * lost).sum(1) / (sums**2).sum(1)
    gone = np.argsort(-maps.signed.reshape(COUNT, -1), axis=1)[:, : side * side // 3]
    np.savez(
        folder / "given.npz",
        images=images,
        classes=classes,
        weights=weights,
        maps=maps.signed,
        masks=masks,
        near=np.stack(near).astype(np.float32),
        slope=slope * scale[:, None, None],
        lost=(lost**2).mean(1),
        gone=gone,
    )
    theirs = in_process("explanations_parity_quantus.py", venv, folder)
    painted = []
    for image, places in zip(images, gone, strict=True):
        missing = np.zeros(side * side, bool)
        missing[places] = True
        painted.append(paint_over(image, missing.reshape(side, side)))
    mine = {
        "deletion curve": curves(explainer, maps, images, classes).deletion[:, 1:],
        "infidelity": fidelity.unforetold(sums, lost),
        "painting over, of ROAD": np.stack(painted)[..., 0],
        **{
            name: MEASURES[name].function(trial)
            for name in (
                "max_sensitivity",
                "sparseness",
                "complexity",
                "pointing_game",
                "mass_in_mask",
            )
        },
    }
    return {
        name: float(np.abs(values - theirs[name].reshape(values.shape)).max())
        for name, values in mine.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--xplique", help="its environment; left out where there is none")
    parser.add_argument("--quantus", help="its environment; left out where there is none")
    arguments = parser.parse_args()
    network = model()
    images = np.random.default_rng(1).random((COUNT, SIDE, SIDE, 1)).astype(np.float32)
    classes = network.predict(images, verbose=0).argmax(-1)
    explainer = Explainer(network, layer="last", **SETTINGS)
    results: dict[str, object] = {
        "command": "python benchmarks/explanations_parity.py --xplique VENV --quantus VENV",
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "versions": versions(),
        "pictures": COUNT,
        "settings": SETTINGS,
        "tf-keras-vis": beside_tf_keras_vis(network, images, classes, explainer),
    }
    with tempfile.TemporaryDirectory() as folder:
        if arguments.xplique:
            results["Xplique"] = beside_xplique(
                arguments.xplique, network, images, classes, explainer, Path(folder)
            )
        if arguments.quantus:
            results["Quantus"] = beside_quantus(arguments.quantus, Path(folder))
    write_json(HERE / "results" / "explanations_parity.json", results)
    print(results)


if __name__ == "__main__":
    tf.get_logger().setLevel("ERROR")
    main()
