"""Arrays to pictures that an HTML file carries within itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

# From white to the orange and the blue that colour-blind readers tell apart (Okabe and Ito, 2008).
POSITIVE = ("#ffffff", "#d55e00", "#4a1c00")
NEGATIVE = ("#ffffff", "#0072b2", "#00243a")
HEAT = ("#00243a", "#0072b2", "#f0e442", "#d55e00")
_SMALLEST_SIDE = 64
# A JPEG has hardly less than a tenth of a byte for a pixel.
_PIXELS_A_BYTE = 10


def to_colours(values: np.ndarray, ramp: Sequence[str]) -> np.ndarray:
    """Returns uint8 [H, W, 3].

    Args:
        values: float [H, W]; 0 is the first colour of the ramp, 1 the last.
        ramp: two or more colours such as "#ffffff".
    """
    stops = np.array([[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in ramp])
    places = np.clip(np.nan_to_num(values), 0, 1) * (len(stops) - 1)
    left = np.minimum(places.astype(int), len(stops) - 2)
    share = (places - left)[..., None]
    return np.round(stops[left] * (1 - share) + stops[left + 1] * share).astype(np.uint8)


def to_pixels(image: np.ndarray) -> np.ndarray:
    """Returns uint8 [H, W, 3] of float [H, W, 1 or 3] in [0, 1]."""
    pixels = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def overlay(image: np.ndarray, values: np.ndarray, ramp: Sequence[str]) -> np.ndarray:
    """Returns uint8 [H, W, 3], the values in colours over a gray, faint image.

    Args:
        image: float [H, W, 1 or 3] in [0, 1].
        values: float [H, W] in [0, 1].
        ramp: as for `to_colours`.
    """
    gray = to_pixels(image.mean(axis=-1, keepdims=True)).astype(np.float32)
    return np.round(0.35 * gray + 0.65 * to_colours(values, ramp)).astype(np.uint8)


def amplifying_factor(changes: np.ndarray) -> int:
    """Returns the largest whole factor that keeps changes within the colours there are.

    Args:
        changes: float, of any shape, of values in [0, 1].
    """
    largest = float(np.abs(changes).max(initial=0.0))
    return max(1, int(0.5 / largest + 1e-3)) if largest > 0 else 1


def outline(
    pixels: np.ndarray,
    boxes: Sequence[tuple[int, int, int, int]],
    colour: tuple[int, int, int] = (224, 0, 0),
) -> np.ndarray:
    """Returns a larger copy, uint8, with the outlines of boxes drawn around their pixels.

    Args:
        pixels: uint8 [H, W, 3].
        boxes: (left, top, right, bottom), the right and bottom ones beyond the last pixel.
        colour: red, green, blue.
    """
    factor = max(1, -(-112 // min(pixels.shape[:2])))
    drawn = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    for box in boxes:
        left, top, right, bottom = (factor * int(side) for side in box)
        for thickness in range(2):
            rows = (top + thickness, bottom - 1 - thickness)
            columns = (left + thickness, right - 1 - thickness)
            for row in rows:
                drawn[row, left:right] = colour
            for column in columns:
                drawn[top:bottom, column] = colour
    return drawn


def data_uri(pixels: np.ndarray, *, most_bytes: int = 40_000) -> str:
    """Returns a `data:` address of a picture: PNG where that is small, else JPEG.

    A picture that is still too large is made smaller, down to 64 pixels. One of so many pixels that
    no JPEG of them is small enough is made smaller before anything is tried.

    Args:
        pixels: uint8 [H, W, 3].
        most_bytes: aimed at.
    """
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture = picture.reduce(_factor(picture.size, most_bytes))
    encoded = _encode(picture, "PNG")
    kind = "png"
    if len(encoded) > most_bytes:
        encoded = _encode(picture, "JPEG", quality=85)
        kind = "jpeg"
    while len(encoded) > most_bytes and max(picture.size) > _SMALLEST_SIDE:
        side = 0.95 * max(picture.size) * (most_bytes / len(encoded)) ** 0.5
        side = max(_SMALLEST_SIDE, int(side))
        picture.thumbnail((side, side), Image.Resampling.BILINEAR)
        encoded = _encode(picture, "JPEG", quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"


def smaller(plane: np.ndarray, most_bytes: int) -> np.ndarray:
    """Returns a plane of no more pixels than a picture of so many bytes can show, float32 [h, w].

    Args:
        plane: float [H, W]; blocks of it become their means.
        most_bytes: of the picture, as for `data_uri`.
    """
    factor = _factor(plane.shape, most_bytes)
    if factor == 1:
        return plane
    return np.asarray(Image.fromarray(plane.astype(np.float32)).reduce(factor))


def _factor(sides: tuple[int, ...], most_bytes: int) -> int:
    return max(1, round((sides[0] * sides[1] / (_PIXELS_A_BYTE * most_bytes)) ** 0.5))


def _encode(picture: Image.Image, form: str, **settings: int) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **settings)
    return stream.getvalue()
