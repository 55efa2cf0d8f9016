"""Pastes defects on real images and shows the red boxes that a detector draws around them.

    python scripts/pasted_defects.py [PNG]

trains on 870 pictures of trousers, in less than a minute on two cores.
"""

import sys

import numpy as np

import anomaly
import robustcls as rc
from anomaly.reports.pictures import draw_image_rows

TROUSERS = 1


def paste_defects(images: np.ndarray, seed: int) -> np.ndarray:
    """Returns copies with a spot or a scratch each, float32 [N, H, W, C] in [0, 1]."""
    generator = np.random.default_rng(seed)
    images = images.copy()
    for number, image in enumerate(images):
        row, column = generator.integers(6, 18, 2)
        if number % 2:
            for step in range(7):
                place = row + step // 2, column - 3 + step
                image[place] = float(image[place][0] < 0.5)
                image[place[0] + 1, place[1]] = image[place]
        else:
            image[row : row + 5, column : column + 5] = float(image[row, column, 0] < 0.5)
    return images


def main(path: str = "pasted_defects.png") -> None:
    """Trains, pastes, draws."""
    splits = rc.load("fashion_mnist_mini")
    train, test = (
        split.take(split.labels == TROUSERS).float_images() for split in (splits.train, splits.test)
    )
    detector = anomaly.MemAE(image_shape=splits.image_shape, epochs=40, query="position")
    detector.fit(train, verbose=0)
    defective = paste_defects(test[:10], seed=0)
    shown = {"image": defective, "map": detector.anomaly_map(defective)[..., None]}
    figure = draw_image_rows(
        shown, detector.score(defective), detector.threshold, detector.boxes(defective)
    )
    figure.savefig(path)
    with_boxes = np.mean([len(boxes) > 0 for boxes in detector.boxes(test[10:])])
    print(f"{path}; {100 * with_boxes:.0f} % of {len(test) - 10} images without defects have a box")


if __name__ == "__main__":
    main(*sys.argv[1:])
