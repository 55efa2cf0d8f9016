"""Explanations, their speed and their quality: python benchmarks/explain.py [RUN].

Without a run: 100 images of 32x32 and their attacked twins, signed gradients and Grad-CAM of a
MobileNetV2, by `Explainer` (tracing included and not) and by tf-keras-vis called once for each
image and map, and how far the maps are apart; writes benchmarks/results/explain.json.

With the folder of a run: deletion and insertion, randomization and stability of the methods on
its models, beside an edge detector, which never looks at the model; writes
benchmarks/results/explain_quality.json. Score-CAM, which takes hundreds of forward passes for an
image, is left out.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf
from scipy.ndimage import sobel

import robustcls as rc
from robustcls.data.resizing import fit_all
from robustcls.explanation import METHODS, Explainer, Maps, assess
from robustcls.explanation.methods.resampling import enlarge
from robustcls.runs import Run, versions, write_json

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.saliency import Saliency
    from tf_keras_vis.utils.scores import CategoricalScore

RESULTS = Path(__file__).parent / "results"
IMAGES = 100
ASSESSED = 48
# Of these tf-keras-vis' time is measured; a hundred more of the same would only take longer.
REFERENCE_IMAGES = 10


def ours(explainer: Explainer, images: np.ndarray, classes: np.ndarray) -> tuple[Maps, Maps]:
    return explainer("gradients", images, classes), explainer("grad_cam", images, classes)


def theirs(
    model: object, images: np.ndarray, classes: np.ndarray, layer: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    positive, negative, cams = [], [], []
    for image, label in zip(images, classes, strict=True):
        score = CategoricalScore([int(label)])
        for sign, found in ((1.0, positive), (-1.0, negative)):
            maps = Saliency(model)(
                score,
                image[None],
                gradient_modifier=lambda g, sign=sign: tf.nn.relu(sign * g),
                normalize_map=False,
            )
            found.append(maps[0])
        cam = Gradcam(model)(
            score,
            image[None],
            penultimate_layer=layer,
            seek_penultimate_conv_layer=False,
            expand_cam=False,
            normalize_cam=False,
        )
        cams.append(np.asarray(cam)[0])
    return np.stack(positive), np.stack(negative), np.stack(cams)


def compare() -> dict[str, object]:
    split = rc.load("fashion_mnist_mini").test
    images = fit_all(split.images[:IMAGES], (32, 32), 3).astype(np.float32) / 255
    model = rc.build_classifier(
        "mobilenet_v2", input_shape=(32, 32, 3), num_classes=10, weights="imagenet"
    )
    labels = split.labels[:IMAGES]
    twins = rc.attacks.FGSM()(model, images, labels).adversarial
    explainer = Explainer(model, batch_size=50)
    classes = explainer.classifier.predict(images).argmax(-1)
    seconds: dict[str, float] = {}
    # Wall time suffers from whatever else the machine does; the processor's time does not.
    processor: dict[str, float] = {}

    def timed(name: str, function: object, *arguments: object) -> object:
        start, busy = time.perf_counter(), time.process_time()
        result = function(*arguments)
        seconds[name] = time.perf_counter() - start
        processor[name] = time.process_time() - busy
        return result

    def both_ours() -> list[tuple[Maps, Maps]]:
        return [ours(explainer, part, classes) for part in (images, twins)]

    def both_theirs() -> list[tuple[np.ndarray, ...]]:
        few = slice(0, REFERENCE_IMAGES)
        return [theirs(model, part[few], classes[few], explainer.layer) for part in (images, twins)]

    timed("ours, with tracing", both_ours)
    found = timed("ours", both_ours)
    theirs(model, images[:1], classes[:1], explainer.layer)  # its first call is slower
    reference = timed("tf-keras-vis", both_theirs)
    scale = IMAGES / REFERENCE_IMAGES
    seconds["tf-keras-vis"] *= scale
    processor["tf-keras-vis"] *= scale
    apart = {"positive": 0.0, "negative": 0.0, "grad_cam": 0.0}
    for (gradients, cams), (positive, negative, small) in zip(found, reference, strict=True):
        for name, mine, other in (
            ("positive", gradients.positive, positive),
            ("negative", gradients.negative, negative),
            ("grad_cam", cams.positive, enlarge(small, 32, 32)),
        ):
            mine = mine[:REFERENCE_IMAGES]
            largest = other.max(axis=(1, 2), keepdims=True)
            difference = np.abs(mine - other) / np.where(largest > 0, largest, 1)
            apart[name] = max(apart[name], float(difference.max()))
    return {
        "images": IMAGES,
        "twins": True,
        "layer": explainer.layer,
        "load_average": os.getloadavg()[0],
        "seconds": seconds,
        "processor_seconds": processor,
        "tf_keras_vis_images_timed": REFERENCE_IMAGES,
        "times_faster": seconds["tf-keras-vis"] / seconds["ours"],
        "times_faster_with_tracing": seconds["tf-keras-vis"] / seconds["ours, with tracing"],
        "times_faster_by_processor": processor["tf-keras-vis"] / processor["ours"],
        "largest_difference": apart,
    }


def edges(images: np.ndarray, classes: np.ndarray) -> Maps:
    """A bad method on purpose: it never looks at the model."""
    gray = images.mean(-1)
    return Maps(np.hypot(sobel(gray, 1), sobel(gray, 2)).astype(np.float32))


def quality(run: Run) -> dict[str, object]:
    test = rc.load(run.config["train"]["data"]["name"]).test
    chosen = np.random.default_rng(0).permutation(len(test))[:ASSESSED]
    images = test.take(chosen).float_images()
    methods = {name: name for name in METHODS if name != "score_cam"} | {"edges": edges}
    found: dict[str, object] = {}
    for name in run.trained:
        explainer = Explainer(rc.load_classifier(run.folder(name) / "model.keras"))
        explainer.classifier.prepare(images)
        classes = explainer.classifier.predict(images).argmax(-1)
        assessed = assess(explainer, methods, images, classes, progress=True)
        found[name] = {method: entry.as_dict() for method, entry in assessed.items()}
        for method, entry in assessed.items():
            gain = entry.faithfulness.gain
            print(
                f"{name:12} {method:20} gain {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
                f"  random weights {entry.randomization.mean:+.2f}  {entry.verdict}"
            )
    return found


def main() -> None:
    about = {"date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "versions": versions()}
    if len(sys.argv) > 1:
        command = "python benchmarks/explain.py RUN"
        results = {"images": ASSESSED, "models": quality(Run(sys.argv[1]))}
        path = RESULTS / "explain_quality.json"
    else:
        command = "python benchmarks/explain.py"
        results = compare()
        path = RESULTS / "explain.json"
        print(results)
    write_json(path, {"command": command, **about, **results})


if __name__ == "__main__":
    main()
