"""Encoded images to model inputs inside the graph, as `robustcls.data` reads files."""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

#: Images with more pixels are refused before they are unpacked.
MAX_PIXELS = 40_000_000

_ORIENTATION = 0x0112
# JPEG: an APP1 segment of any length that holds EXIF data. PNG: a chunk. Both near the start, the
# latter also near the end of a file.
_EXIF_OF_JPEG = (0xFF, 0xE1, None, None, *b"Exif\0\0")
_EXIF_OF_PNG = (*b"eXIf",)
_EXIF_WITHIN = 1 << 17


def decode_batch(encoded: tf.Tensor, image_shape: tuple[int, int, int]) -> tf.Tensor:
    """Returns float32 [N, H, W, C] in [0, 1].

    The EXIF orientation is applied, transparent pixels are laid over white, 16 bits
    become 8, colour becomes gray by ITU-R 601 luma, and resizing is bilinear with antialiasing
    and without keeping the aspect ratio: what `robustcls.load` does to image files. Where a
    resized value lies halfway between two of 255 levels, the other one may be taken.

    Args:
        encoded: string [N], JPEG or PNG files of any size up to `MAX_PIXELS`.
        image_shape: (height, width, channels) of the result, 1 or 3 channels.

    Raises:
        tf.errors.InvalidArgumentError: when run, for a string that is no readable image.
    """
    return _compiled(tuple(image_shape))(encoded)


# Tracing takes a second; an export's endpoints, each traced twice, share it.
@functools.lru_cache
def _compiled(image_shape: tuple[int, int, int]) -> Callable[[tf.Tensor], tf.Tensor]:
    function: Callable[[tf.Tensor], tf.Tensor] = tf.function(
        lambda encoded: _decode_all(encoded, image_shape),
        input_signature=[tf.TensorSpec([None], tf.string, name="encoded")],
        autograph=False,
    )
    return function


def _decode_all(encoded: tf.Tensor, image_shape: tuple[int, int, int]) -> tf.Tensor:
    spec = tf.TensorSpec(image_shape, tf.float32)
    # One after the other: a batch of the largest images would not fit into memory together.
    images = tf.map_fn(
        lambda one: decode(one, image_shape),
        encoded,
        parallel_iterations=1,
        fn_output_signature=spec,
    )
    return tf.ensure_shape(images, [None, *image_shape])


def decode(encoded: tf.Tensor, image_shape: tuple[int, int, int]) -> tf.Tensor:
    """Returns one image, float32 [H, W, C] in [0, 1]; see `decode_batch`."""
    height, width, channels = image_shape
    is_png = tf.strings.substr(encoded, 0, 8) == b"\x89PNG\r\n\x1a\n"
    is_jpeg = tf.strings.substr(encoded, 0, 3) == b"\xff\xd8\xff"
    check = tf.debugging.Assert(is_png | is_jpeg, ["image_bytes must be a JPEG or PNG file"])
    with tf.control_dependencies([check]):
        pixels = tf.cond(is_png, lambda: _decode_png(encoded), lambda: _decode_jpeg(encoded))
    if channels == 1:
        pixels = _luma(pixels)
    # One axis at a time, with 8 bits between, as Pillow does.
    pixels = _resize(pixels, [tf.shape(pixels)[0], width])
    pixels = _resize(pixels, [height, width])
    return tf.ensure_shape(tf.cast(pixels, tf.float32) / 255.0, image_shape)


def _decode_png(encoded: tf.Tensor) -> tf.Tensor:
    """Returns uint8 [H, W, 3]."""
    padded = tf.strings.substr(tf.strings.join([encoded, b"\0" * 26]), 16, 10)
    header = tf.cast(tf.io.decode_raw(padded, tf.uint8), tf.int64)
    sizes = tf.reduce_sum(tf.reshape(header[:8], [2, 4]) * [1 << 24, 1 << 16, 1 << 8, 1], 1)
    with tf.control_dependencies([_check_pixels(sizes)]):
        encoded = tf.identity(encoded)

    def gray_16_bits() -> tf.Tensor:
        pixels = tf.io.decode_png(encoded, channels=1, dtype=tf.uint16)
        pixels = (tf.cast(pixels, tf.int32) * 255 + 32767) // 65535
        return tf.repeat(tf.cast(pixels, tf.uint8), 3, axis=-1)

    def others() -> tf.Tensor:
        # The sum below just fits into 16 bits; 32 would take twice the memory.
        pixels = tf.cast(tf.io.decode_png(encoded, channels=4), tf.uint16)
        colour, alpha = pixels[..., :3], pixels[..., 3:]
        # Below 8 bits TensorFlow writes "opaque" as the highest value that the bits hold.
        opaque = tf.cast(tf.bitwise.left_shift(1, tf.minimum(depth, 8)) - 1, tf.uint16)
        full = tf.constant(255, tf.uint16)
        alpha = tf.where(alpha == opaque, full, alpha)
        return tf.cast((colour * alpha + full * (full - alpha) + 127) // 255, tf.uint8)

    depth, colour_type = tf.unstack(tf.cast(header[8:], tf.int32), num=2)
    pixels = tf.cond((depth == 16) & (colour_type == 0), gray_16_bits, others)
    size = tf.strings.length(encoded)
    end = tf.strings.substr(encoded, tf.maximum(size - _EXIF_WITHIN, 0), _EXIF_WITHIN)
    ends = tf.strings.join([tf.strings.substr(encoded, 0, _EXIF_WITHIN), end])
    return _upright(pixels, _exif_orientation(ends, _EXIF_OF_PNG))


def _decode_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Returns uint8 [H, W, 3], upright."""
    shape = tf.cast(tf.io.extract_jpeg_shape(encoded), tf.int64)
    with tf.control_dependencies([_check_pixels(shape[:2])]):
        encoded = tf.identity(encoded)
    pixels = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    start = tf.strings.substr(encoded, 0, _EXIF_WITHIN)
    return _upright(pixels, _exif_orientation(start, _EXIF_OF_JPEG))


def _upright(pixels: tf.Tensor, turned: tf.Tensor) -> tf.Tensor:
    """Returns pixels [H, W, 3] turned and mirrored as their EXIF orientation asks."""
    pixels = tf.cond(turned >= 5, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
    upside_down = tf.reduce_any(turned == [3, 4, 7, 8])
    mirrored = tf.reduce_any(turned == [2, 3, 6, 7])
    return tf.raw_ops.Reverse(tensor=pixels, dims=tf.stack([upside_down, mirrored, False]))


def _check_pixels(sizes: tf.Tensor) -> tf.Operation:
    count = tf.reduce_prod(tf.cast(sizes, tf.int64))
    # Either side may be up to 2^32, so their product may overflow.
    small = tf.reduce_all(sizes <= MAX_PIXELS) & (count <= MAX_PIXELS)
    return tf.debugging.Assert(
        small, [f"image_bytes must have at most {MAX_PIXELS} pixels; received a picture of", sizes]
    )


def _exif_orientation(encoded: tf.Tensor, pattern: tuple[int | None, ...]) -> tf.Tensor:
    """Returns the orientation tag, 1 (upright) to 8, of the EXIF data that follow `pattern`.

    1 when there is none.
    """
    data = tf.io.decode_raw(encoded, tf.uint8)
    data = tf.pad(tf.cast(data, tf.int32), [[0, len(pattern)]])
    last = tf.size(data) - 1

    def byte(at: tf.Tensor) -> tf.Tensor:
        return tf.gather(data, tf.clip_by_value(at, 0, last))

    found = tf.ones([tf.size(data) - len(pattern)], tf.bool)
    for offset, value in enumerate(pattern):
        if value is not None:
            found &= data[offset : tf.size(data) - len(pattern) + offset] == value
    start = tf.cast(tf.argmax(found), tf.int32) + len(pattern)
    little = byte(start) == ord("I")

    def short(at: tf.Tensor) -> tf.Tensor:
        first, second = byte(at), byte(at + 1)
        return tf.where(little, first + 256 * second, 256 * first + second)

    # Of the four bytes of the directory's place the two low ones are enough within 64 kB.
    directory = start + short(start + tf.where(little, 4, 6))
    entries = directory + 2 + 12 * tf.range(short(directory))
    orientations = tf.where(short(entries) == _ORIENTATION, short(entries + 8), 0)
    orientation = tf.reduce_max(tf.concat([orientations, [0]], 0))
    valid = tf.reduce_any(found) & (orientation >= 1) & (orientation <= 8)
    return tf.where(valid, orientation, 1)


def _luma(pixels: tf.Tensor) -> tf.Tensor:
    """Returns uint8 [H, W, 1] in the fixed-point arithmetic of Pillow's mode L."""
    weighted = tf.cast(pixels, tf.int32) * [19595, 38470, 7471]
    luma = (tf.reduce_sum(weighted, -1, keepdims=True) + 32768) // 65536
    return tf.cast(luma, tf.uint8)


def _resize(pixels: tf.Tensor, size: list) -> tf.Tensor:
    resized = tf.image.resize(pixels[None], size, method="bilinear", antialias=True)[0]
    return tf.cast(tf.clip_by_value(tf.floor(resized + 0.5), 0, 255), tf.uint8)
