"""Real images in every form that a signature takes: for warm-up and for comparing answers."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from robustcls._validation import check_images
from robustcls.data.decoding import read_image
from robustcls.data.resizing import fit_all
from robustcls.data.sources import load
from robustcls.serving.exports.endpoints import EXAMPLE_FEATURE

#: Odd, and more than the largest batch of the batching configuration.
COUNT = 33


@dataclass(frozen=True)
class Samples:
    """The same images as tensors and as files, and larger photos of them.

    Attributes:
        images: float32 [N, H, W, C] in [0, 1].
        files: bytes [N], the images as PNG.
        examples: bytes [N], the PNG files as `tf.train.Example`.
        photos: bytes [N], larger JPEG files.
        read_photos: float32 [N, H, W, C], the photos as `robustcls.load` reads them.
    """

    images: np.ndarray
    files: np.ndarray
    examples: np.ndarray
    photos: np.ndarray
    read_photos: np.ndarray


def embedded_images(image_shape: tuple[int, int, int]) -> np.ndarray:
    """Returns uint8 [COUNT, H, W, C], real images that come with the package."""
    images = load("fashion_mnist_mini").test.images[:COUNT]
    return fit_all(images, image_shape[:2], image_shape[2])


def bytes_of(images: Any) -> np.ndarray:
    """Returns uint8 images [N, H, W, C] of these or of floats in [0, 1].

    Args:
        images: an array.

    Raises:
        InputError: it is neither.
    """
    array = np.asarray(images)
    if array.dtype == np.uint8 and array.ndim == 4 and array.size:
        return array
    return np.round(255 * check_images(images)).astype(np.uint8)


def make_samples(images: np.ndarray) -> Samples:
    """Returns uint8 images [N, H, W, C] in all their forms."""
    height, width, channels = images.shape[1:]
    files, photos, read = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for place, image in enumerate(images):
            picture = Image.fromarray(image if channels == 3 else image[..., 0])
            files.append(_encoded(picture, "PNG"))
            # Another size for each, of which no side is a multiple of the image's.
            photo = picture.resize((width * 3 // 2 + place, height * 2 + 1))
            photos.append(_encoded(photo, "JPEG"))
            path = Path(folder) / f"{place}.jpg"
            path.write_bytes(photos[-1])
            read.append(read_image(path, (height, width), channels))
    return Samples(
        images=images.astype(np.float32) / np.float32(255),
        files=np.array(files, object),
        examples=np.array([_example(file) for file in files], object),
        photos=np.array(photos, object),
        read_photos=np.stack(read).astype(np.float32) / np.float32(255),
    )


def _encoded(picture: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind)
    return stream.getvalue()


def _example(encoded: bytes) -> bytes:
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
    features = tf.train.Features(feature={EXAMPLE_FEATURE: feature})
    return tf.train.Example(features=features).SerializeToString()
