"""Images of classes by a certified and a plain model: python benchmarks/class_images.py RUN.

Ten classes of Fashion-MNIST in a row: the zoo's certified model by waves, the run's `base` by waves
and by pixels. Writes docs/images/classes.png in eight grays.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import robustcls as rc
from robustcls.explanation import Explainer, class_images
from robustcls.models.zoo import load_pretrained
from robustcls.runs import Run

OUT = Path(__file__).parents[1] / "docs" / "images" / "classes.png"
SIDE, ENLARGED, GRAYS = 28, 4, 8


def main() -> None:
    run = Run.open(sys.argv[1])
    certified = load_pretrained("fashion_mnist_mini_linf_0.1_ibp")
    plain = rc.load_classifier(run.folder("base") / "model.keras")
    rows = []
    for model, way, steps in (
        (certified, "fourier", 128),
        (plain, "fourier", 128),
        (plain, "pixels", 64),
    ):
        settings = {"steps": steps, "parametrization": way}
        images = class_images(Explainer(model), np.arange(10), (SIDE, SIDE, 1), **settings)
        rows.append(np.concatenate(list(images[..., 0]), axis=1))
    grays = np.round((GRAYS - 1) * np.concatenate(rows)).astype(np.uint8)
    picture = Image.fromarray(grays.repeat(ENLARGED, 0).repeat(ENLARGED, 1), "P")
    picture.putpalette([255 * at // (GRAYS - 1) for at in range(GRAYS) for _ in range(3)])
    picture.save(OUT, optimize=True)


if __name__ == "__main__":
    main()
