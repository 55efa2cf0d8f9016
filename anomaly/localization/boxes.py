"""Where in an image the anomaly is: smoothed maps, connected pixels, red boxes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from robustcls._validation import InputError, check_images
from robustcls.runs import atomic, write_json

#: Standard deviation of the smoothing as a share of the longer side.
SMOOTHING = 1 / 32
#: Pictures of boxes are enlarged towards this many pixels a side.
MINIMUM_PICTURE = 224
RED = (255, 0, 0)
_TOUCHING = np.ones((3, 3))


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels around an anomaly.

    Attributes:
        left: its first column.
        top: its first row.
        right: the column after its last.
        bottom: the row after its last.
        score: the highest value of the smoothed map in it.
    """

    left: int
    top: int
    right: int
    bottom: int
    score: float


def smooth(maps: np.ndarray) -> np.ndarray:
    """Returns anomaly maps after a Gaussian filter, so that no single pixel makes a box.

    Args:
        maps: float32 [N, H, W].

    Returns:
        float32 [N, H, W].
    """
    sigma = SMOOTHING * max(maps.shape[1:])
    return ndimage.gaussian_filter(maps, (0, sigma, sigma), mode="nearest")


def find_boxes(smoothed: np.ndarray, threshold: float) -> list[list[Box]]:
    """Returns boxes around the connected groups of pixels above `threshold`.

    Pixels that touch at a corner are connected. A group is cut at half of its peak, because
    smoothing and reconstruction blur the edges of what is far above the threshold; each part that
    is left gets a box.

    Args:
        smoothed: float32 [N, H, W].
        threshold: pixels above it are anomalous.

    Returns:
        For each of the N maps its boxes, the highest score first.
    """
    return [_boxes_of(values, np.float32(threshold)) for values in smoothed]


def boxes_of_mask(mask: np.ndarray) -> list[Box]:
    """Returns a box around each connected group of marked pixels; touching corners connect.

    Args:
        mask: bool [H, W].
    """
    groups, _ = ndimage.label(mask, _TOUCHING)
    return [
        Box(columns.start, rows.start, columns.stop, rows.stop, 1.0)
        for rows, columns in ndimage.find_objects(groups)
    ]


def _boxes_of(values: np.ndarray, threshold: np.float32) -> list[Box]:
    groups, count = ndimage.label(values > threshold, _TOUCHING)
    if not count:
        return []
    peaks = np.append(0, ndimage.maximum(values, groups, range(1, count + 1)))
    parts, _ = ndimage.label((groups > 0) & (values > peaks[groups] / 2), _TOUCHING)
    boxes = [
        Box(columns.start, rows.start, columns.stop, rows.stop, float(values[parts == n].max()))
        for n, (rows, columns) in enumerate(ndimage.find_objects(parts), 1)
    ]
    return sorted(boxes, key=lambda box: -box.score)


def draw_boxes(
    images: np.ndarray,
    boxes: Sequence[Sequence[Box]],
    folder: Path | str,
    names: Sequence[str] | None = None,
) -> Path:
    """Writes each image as a PNG with its boxes in red, and all boxes to `boxes.json`.

    Small images are enlarged by a whole factor; the boxes in the JSON are in the pixels of the
    images as they came.

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        boxes: as `find_boxes` gives them.
        folder: where the files go; the PNGs are named by number, `00000.png`.
        names: what `boxes.json` calls the images; their numbers by default (default None).

    Returns:
        The path of `boxes.json`, written last: `[{"image", "picture", "boxes"}]`.

    Raises:
        InputError: not a list of boxes and a name for each image, or a folder that cannot be
            written.
    """
    images = check_images(images)
    names = [str(number) for number in range(len(images))] if names is None else names
    for argument, values in (("boxes", boxes), ("names", names)):
        if len(values) != len(images):
            raise InputError(
                f"{argument} must be one for each of {len(images)} images; received {len(values)}."
            )
    folder = Path(folder)
    entries = []
    for number, (image, found, name) in enumerate(zip(images, boxes, names, strict=True)):
        picture = f"{number:05d}.png"
        with atomic(folder / picture) as path:
            picture_of(image, found).save(path, "PNG")
        listed = [dataclasses.asdict(box) for box in found]
        entries.append({"image": name, "picture": picture, "boxes": listed})
    write_json(folder / "boxes.json", entries)
    return folder / "boxes.json"


def picture_of(image: np.ndarray, boxes: Sequence[Box] = ()) -> Image.Image:
    """Returns one image in RGB, enlarged to be seen, with its boxes around the pixels in red.

    Args:
        image: float32 [H, W, C] in [0, 1].
        boxes: in pixels of `image` (default ()).
    """
    scale = max(1, MINIMUM_PICTURE // max(image.shape[:2]))
    pixels = np.round(255 * np.broadcast_to(image, (*image.shape[:2], 3))).astype(np.uint8)
    picture = Image.fromarray(pixels.repeat(scale, 0).repeat(scale, 1))
    draw = ImageDraw.Draw(picture)
    thickness = max(1, scale // 4, max(picture.size) // 250)
    for box in boxes:
        corners = (box.left, box.top, box.right, box.bottom)
        left, top, right, bottom = (scale * corner for corner in corners)
        draw.rectangle((left, top, right - 1, bottom - 1), outline=RED, width=thickness)
    return picture
