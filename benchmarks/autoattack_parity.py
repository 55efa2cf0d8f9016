r"""Our AutoAttack and torchattacks' on the same weights: what is left of a robust classifier.

    results=benchmarks/results
    python benchmarks/autoattack_parity.py --norm inf --images 200 \
        --out $results/autoattack_parity_inf.json
    python benchmarks/autoattack_parity.py --norm 2 --images 200 \
        --out $results/autoattack_parity_2.json

A small network is trained adversarially on the embedded Fashion-MNIST images and its weights are
put into the same network in PyTorch; `logits_differ_by` says how exactly. Both are attacked on the
same test images with the published settings, which are the defaults here; torchattacks' own
AutoAttack takes 10 steps instead of 100 in APGD and FAB, so its attacks are put together from
their classes. After each attack of the sequence the share of images that still stand is noted.

Every adversarial image of either side is checked on the other's network: in the ball, and
misclassified there as well. `processor_seconds` are those of all cores together, up to the verdict.
Ten minutes on two cores for 200 images. Needs `torch` and
`pip install --no-deps torchattacks` (it asks for a version of requests that nothing else wants).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import torch
import torchattacks

import robustcls as rc
from robustcls.attacks import AutoAttack
from robustcls.runs import versions, write_json

BALLS = {"inf": 0.1, "2": 1.5}
NAMES = {"inf": "Linf", "2": "L2"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--models", type=Path, default=Path("runs/autoattack_parity"))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--norm", choices=list(BALLS), default="inf")
    arguments = parser.parse_args()
    splits = rc.load("fashion_mnist_mini")
    images = splits.test.float_images()[: arguments.images]
    labels = splits.test.labels[: arguments.images]
    model = trained(splits, arguments.norm, arguments.models)
    result: dict[str, Any] = {
        "command": f"python benchmarks/autoattack_parity.py --norm {arguments.norm} "
        f"--images {arguments.images}",
        "norm": arguments.norm,
        "epsilon": BALLS[arguments.norm],
        "images": len(images),
        "target_points": 0.5,
    }
    result |= compare(model, in_pytorch(model), images, labels, arguments.norm)
    names = ["torch", "torchattacks"]
    result["versions"] = versions() | {name: importlib.metadata.version(name) for name in names}
    print(json.dumps(result, indent=2))
    if arguments.out:
        write_json(arguments.out, result)


def trained(splits: Any, norm: str, folder: Path) -> keras.Model:
    path = folder / f"{norm}.keras"
    if path.is_file():
        return keras.saving.load_model(path, compile=False)
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 4, strides=2, activation="relu"),
            layers.Conv2D(64, 4, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10),
        ]
    )
    epochs, batch = 15, 64
    train = splits.train
    robust = rc.AdversarialRegularization(
        model,
        multiplier=4.0,
        step_size=BALLS[norm] / 4,
        grad_norm={"inf": "infinity", "2": "l2"}[norm],
        iterations=5,
        epsilon=BALLS[norm],
        random_start=True,
    )
    rate = keras.optimizers.schedules.CosineDecay(1e-3, epochs * (len(train) // batch))
    robust.compile(
        keras.optimizers.Adam(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    robust.fit(train.float_images(), train.labels, batch_size=batch, epochs=epochs, verbose=2)
    folder.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return model


class ChannelsLast(torch.nn.Module):
    """Flattens [N, C, H, W] in the order in which Keras flattens [N, H, W, C]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


def in_pytorch(model: keras.Model) -> torch.nn.Module:
    """The same network with the same weights, for images [N, C, H, W]."""
    parts: list[torch.nn.Module] = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.Flatten):
            parts.append(ChannelsLast())
            continue
        kernel, bias = (torch.from_numpy(np.array(w)) for w in layer.get_weights())
        if isinstance(layer, keras.layers.Conv2D):
            height, width, channels, filters = kernel.shape
            part: Any = torch.nn.Conv2d(channels, filters, (height, width), layer.strides)
            part.weight.data = kernel.permute(3, 2, 0, 1).contiguous()
        else:
            part = torch.nn.Linear(*kernel.shape)
            part.weight.data = kernel.T.contiguous()
        part.bias.data = bias
        parts.append(part)
        if layer.activation is keras.activations.relu:
            parts.append(torch.nn.ReLU())
    return torch.nn.Sequential(*parts).eval()


def to_torch(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def compare(
    model: keras.Model, twin: torch.nn.Module, images: np.ndarray, labels: np.ndarray, norm: str
) -> dict[str, Any]:
    def torch_logits(points: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return twin(to_torch(points)).numpy()

    logits = model.predict(images, verbose=0)
    epsilon = BALLS[norm]
    found: dict[str, dict[str, Any]] = {}
    clean = logits.argmax(1) == labels

    begin = time.process_time()
    points, stands, after = images.copy(), clean.copy(), {}
    for member in AutoAttack(epsilon=epsilon, norm=norm).members(10):
        result = member(model, images[stands], labels[stands])
        index = np.flatnonzero(stands)[result.success]
        points[index], stands[index] = result.adversarial[result.success], False
        after[member.name] = float(stands.mean())
        print(norm, member.name, after[member.name], file=sys.stderr, flush=True)
    found["ours"] = {"after": after, "processor_seconds": time.process_time() - begin}
    found["ours"] |= verdict(points, images, labels, norm, torch_logits)

    begin = time.process_time()
    points, stands, after = images.copy(), clean.copy(), {}
    for name, theirs in torch_members(twin, epsilon, norm).items():
        index = np.flatnonzero(stands)
        adversarial = theirs(to_torch(images[index]), torch.from_numpy(labels[index]))
        adversarial = adversarial.detach().numpy().transpose(0, 2, 3, 1)
        fallen = torch_logits(adversarial).argmax(1) != labels[index]
        points[index[fallen]], stands[index[fallen]] = adversarial[fallen], False
        after[name] = float(stands.mean())
        print(norm, "torchattacks", name, after[name], file=sys.stderr, flush=True)

    def keras_logits(points: np.ndarray) -> np.ndarray:
        return model.predict(points, verbose=0)

    found["torchattacks"] = {"after": after, "processor_seconds": time.process_time() - begin}
    found["torchattacks"] |= verdict(points, images, labels, norm, keras_logits)
    accuracies = {name: entry["robust_accuracy"] for name, entry in found.items()}
    return {
        "clean_accuracy": float(clean.mean()),
        "logits_differ_by": float(np.abs(torch_logits(images) - logits).max()),
        "logits_up_to": float(np.abs(logits).max()),
        "points_above_torchattacks": 100 * (accuracies["ours"] - accuracies["torchattacks"]),
        **found,
    }


def torch_members(twin: torch.nn.Module, epsilon: float, norm: str) -> dict[str, Any]:
    ball: dict[str, Any] = {"norm": NAMES[norm], "eps": epsilon, "seed": 0}
    return {
        "apgd-ce": torchattacks.APGD(twin, steps=100, loss="ce", **ball),
        "apgd-dlr-t": torchattacks.APGDT(twin, steps=100, n_classes=10, **ball),
        "fab-t": torchattacks.FAB(twin, steps=100, multi_targeted=True, n_classes=10, **ball),
        "square": torchattacks.Square(twin, n_queries=5000, **ball),
    }


def verdict(
    points: np.ndarray, images: np.ndarray, labels: np.ndarray, norm: str, other: Any
) -> dict[str, float]:
    """Judged by the other side's network."""
    order = np.inf if norm == "inf" else 2
    offsets = (points - images).reshape(len(images), -1)
    return {
        "robust_accuracy": float((other(points).argmax(1) == labels).mean()),
        "farthest": float(np.linalg.norm(offsets, order, axis=1).max()),
    }


if __name__ == "__main__":
    main()
