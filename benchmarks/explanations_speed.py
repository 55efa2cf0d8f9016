"""Speed of explanations beside Xplique and tf-keras-vis, same model and pictures, in one run.

    python benchmarks/explanations_speed.py --xplique VENV

Stock `keras.applications.MobileNetV2` of random weights at 64x64; all methods that a peer has too,
with equal numbers of passes and batches of 32, the pictures given at once. Xplique, which needs
TensorFlow <= 2.20, runs in a process of its own environment, as explanations_parity.py says. Each
method is called once before it is timed; its time is the median of three calls, or of one where a
call is hundreds of passes: the processor's time of all threads, which other work on the machine
does not change (the clock's is in the JSON). Beside it stands what its passes through the model
take alone, as Keras' own layers compute them compiled.
Writes benchmarks/results/explanations_speed.json, .md and .csv.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from robustcls.explanation import Explainer
from robustcls.runs import versions, write_json, write_text

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
    from tf_keras_vis.layercam import Layercam
    from tf_keras_vis.saliency import Saliency
    from tf_keras_vis.scorecam import Scorecam
    from tf_keras_vis.utils.scores import CategoricalScore

HERE = Path(__file__).parent
SIDE, PICTURES, CLASSES, BATCH, TURNS = 64, 4, 10, 32, 3
# Methods of hundreds of passes are timed once: it is their number that counts.
LONG = ("score_cam", "occlusion", "rise", "kernel_shap")
SETTINGS = {"samples": 16, "steps": 32, "masks": 512, "window": 8}
LAYER = "block_13_expand_relu"
# Xplique's names; None where it has no such method.
METHODS = {
    "gradients": "Saliency",
    "gradient_times_input": "GradientInput",
    "integrated_gradients": "IntegratedGradients",
    "smoothgrad": "SmoothGrad",
    "vargrad": "VarGrad",
    "guided_backpropagation": "GuidedBackprop",
    "grad_cam": "GradCAM",
    "grad_cam_plus_plus": "GradCAMPP",
    "layer_cam": None,
    "score_cam": None,
    "occlusion": "Occlusion",
    "rise": "Rise",
    "kernel_shap": "KernelShap",
}
CAMS = {
    "grad_cam": Gradcam,
    "grad_cam_plus_plus": GradcamPlusPlus,
    "layer_cam": Layercam,
    "score_cam": Scorecam,
}


def timed(call: Callable[[], object], turns_taken: int = TURNS) -> tuple[float, float]:
    """Seconds a picture, of the processor and of the clock."""
    call()
    turns = []
    for _ in range(turns_taken):
        start, busy = time.perf_counter(), time.process_time()
        call()
        turns.append((time.process_time() - busy, time.perf_counter() - start))
    processor, clock = (statistics.median(kind) / PICTURES for kind in zip(*turns, strict=True))
    return processor, clock


def turns_of(name: str) -> int:
    return 1 if name in LONG else TURNS


def tf_keras_vis(
    model: keras.Model, images: np.ndarray, classes: np.ndarray
) -> dict[str, Callable[[], object]]:
    score = CategoricalScore(classes.tolist())
    quiet = {"normalize_map": False}
    cams = {"penultimate_layer": LAYER, "seek_penultimate_conv_layer": False}
    cams |= {"expand_cam": False, "normalize_cam": False}
    saliency = Saliency(model)
    noisy = {"smooth_samples": SETTINGS["samples"], "smooth_noise": 0.15}
    calls: dict[str, Callable[[], object]] = {
        "gradients": lambda: saliency(score, images, **quiet),
        "smoothgrad": lambda: saliency(score, images, **quiet, **noisy),
    }
    for name, kind in CAMS.items():
        visualization = kind(model)
        more = {"batch_size": BATCH} if name == "score_cam" else {}
        calls[name] = lambda v=visualization, more=more: v(score, images, **cams, **more)
    return calls


def passes(model: keras.Model, images: np.ndarray) -> dict[str, float]:
    """Seconds a picture of the passes alone, compiled, by Keras' own layers."""
    signature = [tf.TensorSpec([None, SIDE, SIDE, 3])]
    forward = tf.function(lambda x: model(x, training=False), input_signature=signature)

    @tf.function(input_signature=signature)
    def gradient(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            score = tf.reduce_max(model(x, training=False), 1)
        return tape.gradient(score, x)

    # One pass is of the pictures given, of more a batch.
    sizes = {PICTURES: images, BATCH: np.resize(images, (BATCH, SIDE, SIDE, 3))}
    (one_given, one), (back_given, back) = (
        [timed(lambda f=f, x=x: f(x))[0] * PICTURES / size for size, x in sizes.items()]
        for f in (forward, gradient)
    )
    windows = (2 * SIDE // SETTINGS["window"] - 1) ** 2
    lower = keras.Model(model.inputs[0], model.get_layer(LAYER).output)
    channels = float(lower(images).numpy().any(axis=(1, 2)).sum() / len(images))
    return {
        "gradients": back_given,
        "gradient_times_input": back_given,
        "integrated_gradients": SETTINGS["steps"] * back,
        "smoothgrad": SETTINGS["samples"] * back,
        "vargrad": SETTINGS["samples"] * back,
        "guided_backpropagation": back_given,
        "grad_cam": one_given,
        "grad_cam_plus_plus": one_given,
        "layer_cam": one_given,
        "score_cam": channels * one,
        "occlusion": windows * one,
        "rise": SETTINGS["masks"] * one,
        "kernel_shap": SETTINGS["masks"] * one,
    }


def xplique(
    venv: str, model: keras.Model, images: np.ndarray, classes: np.ndarray
) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
        given = {"batch": BATCH, **SETTINGS}
        np.savez(
            Path(folder) / "given.npz",
            images=images,
            classes=classes,
            layer=LAYER,
            names=[name for name in METHODS.values() if name],
            turns=[turns_of(own) for own, name in METHODS.items() if name],
            **given,
        )
        script = HERE / "explanations_speed_xplique.py"
        command = [str(Path(venv) / "bin" / "python"), str(script), folder]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run(command, check=True, env=environment)
        with np.load(Path(folder) / "found.npz") as stored:
            return {name: stored[name].tolist() for name in stored.files}


def table(seconds: dict[str, dict[str, float]]) -> list[list[str]]:
    rows = []
    for name, row in seconds.items():
        cells = [name, f"{1e3 * row['robustcls']:.1f}"]
        for peer in ("Xplique", "tf-keras-vis"):
            there = peer in row
            cells.append(f"{1e3 * row[peer]:.1f}" if there else "–")
            cells.append(f"{row[peer] / row['robustcls']:.1f}" if there else "–")
        rows.append([*cells, f"{1e3 * row['passes alone']:.1f}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--xplique", help="its environment; left out where there is none")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(
        (SIDE, SIDE, 3), weights=None, classes=CLASSES, classifier_activation=None
    )
    images = np.random.default_rng(1).random((PICTURES, SIDE, SIDE, 3)).astype(np.float32)
    classes = model.predict(images, verbose=0).argmax(-1)
    explainer = Explainer(model, layer=LAYER, batch_size=BATCH, **SETTINGS)
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for name in METHODS:
        found[name] = {
            "robustcls": timed(lambda name=name: explainer(name, images, classes), turns_of(name))
        }
        print(name, found[name], flush=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, call in tf_keras_vis(model, images, classes).items():
            found[name]["tf-keras-vis"] = timed(call, turns_of(name))
            print(name, found[name], flush=True)
    if arguments.xplique:
        theirs = xplique(arguments.xplique, model, images, classes)
        for name, their_name in METHODS.items():
            if their_name:
                found[name]["Xplique"] = tuple(theirs[their_name])
    seconds, clock = (
        {name: {who: pair[at] for who, pair in row.items()} for name, row in found.items()}
        for at in (0, 1)
    )
    for name, alone in passes(model, images).items():
        seconds[name]["passes alone"] = alone
    about = {
        "command": "python benchmarks/explanations_speed.py --xplique VENV",
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "versions": versions(),
        "pictures": PICTURES,
        "settings": {**SETTINGS, "batch_size": BATCH, "side": SIDE, "layer": LAYER},
    }
    results = HERE / "results" / "explanations_speed"
    write_json(
        results.with_suffix(".json"),
        {**about, "processor_seconds_a_picture": seconds, "seconds_a_picture": clock},
    )
    head = ["method", "robustcls", "Xplique", "×", "tf-keras-vis", "×", "its passes alone"]
    rows = table(seconds)
    lines = [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]]
    words = (
        f"Milliseconds of the processor a picture, {PICTURES} pictures of {SIDE}x{SIDE} at once, "
        "MobileNetV2."
    )
    write_text(results.with_suffix(".md"), "\n".join([words, "", *lines]) + "\n")
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([head, *rows])
    write_text(results.with_suffix(".csv"), stream.getvalue())
    print("\n".join(lines))


if __name__ == "__main__":
    tf.get_logger().setLevel("ERROR")
    main()
