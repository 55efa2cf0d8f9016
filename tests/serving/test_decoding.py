import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from robustcls.data.decoding import read_image
from robustcls.serving.decoding import decode_batch

RNG = np.random.default_rng(0)


def photo(height, width, channels):
    rows, columns = np.mgrid[:height, :width]
    waves = [127 + 100 * np.sin(rows / 7 + k) * np.cos(columns / (5 + k)) for k in range(channels)]
    noise = RNG.normal(0, 20, (height, width, channels))
    return (np.stack(waves, -1) + noise).clip(0, 255).astype(np.uint8)


def with_orientation(number):
    exif = Image.Exif()
    exif[0x010E] = "a description"
    exif[0x0112] = number
    return {"exif": exif}


PICTURES = {
    "colour.png": (Image.fromarray(photo(91, 133, 3)), {}),
    "same size.png": (Image.fromarray(photo(32, 48, 3)), {}),
    "transparent.png": (Image.fromarray(photo(60, 40, 4), "RGBA"), {}),
    "gray and alpha.png": (Image.fromarray(photo(60, 40, 2), "LA"), {}),
    "palette.png": (Image.fromarray(photo(60, 40, 3)).quantize(32), {}),
    "2 bits.png": (Image.fromarray(photo(60, 40, 3)).quantize(4), {}),
    "1 bit.png": (Image.fromarray(photo(30, 30, 1)[..., 0] > 127), {}),
    "16 bits.png": (Image.fromarray(photo(60, 40, 1)[..., 0].astype(np.uint16) * 251), {}),
    "colour.jpg": (Image.fromarray(photo(200, 300, 3)), {}),
    "gray.jpg": (Image.fromarray(photo(28, 28, 1)[..., 0]), {}),
    "tiny.jpg": (Image.fromarray(photo(9, 13, 3)), {}),
    **{
        f"turned {number}.{ending}": (Image.fromarray(photo(80, 60, 3)), with_orientation(number))
        for number in range(1, 9)
        for ending in ("jpg", "png")
    },
}


@pytest.fixture(scope="module", params=[(28, 28, 1), (32, 48, 3)], ids=["gray", "colour"])
def decoder(request):
    shape = request.param
    function = tf.function(
        lambda encoded: decode_batch(encoded, shape),
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )
    return shape, function


def test_files_become_what_evaluation_makes_of_them(decoder, tmp_path):
    (height, width, channels), function = decoder
    files = []
    for name, (picture, settings) in PICTURES.items():
        picture.save(tmp_path / name, **settings)
        files.append((tmp_path / name).read_bytes())
    decoded = function(tf.constant(files)).numpy()
    assert decoded.dtype == np.float32
    for name, image in zip(PICTURES, decoded, strict=True):
        expected = read_image(tmp_path / name, (height, width), channels)
        difference = np.abs(np.round(image * 255) - expected)
        assert difference.max() <= 1, name
        assert difference.mean() < 0.3, name
    same = list(PICTURES).index("same size.png")
    if channels == 3:
        np.testing.assert_array_equal(np.round(decoded[same] * 255), photo_of("same size.png"))


def photo_of(name):
    return np.asarray(PICTURES[name][0])


def truncated(name, count):
    stream = io.BytesIO()
    PICTURES[name][0].save(stream, "PNG" if name.endswith("png") else "JPEG")
    return stream.getvalue()[:count]


BOMB = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\xff\xff\xff\xff\xff\xff\xff\x08\x02"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "JPEG or PNG"),
        (b"hello", "JPEG or PNG"),
        (b"GIF89a" + bytes(20), "JPEG or PNG"),
        (b"\xff\xd8\xff", "Invalid JPEG"),
        (truncated("colour.png", 300), "Invalid PNG"),
        (truncated("colour.jpg", 400), "Invalid JPEG"),
        (BOMB, "at most 40000000 pixels"),
        (BOMB[:16] + b"\0\1\0\0\0\1\0\0" + BOMB[24:], "at most 40000000 pixels"),
    ],
)
def test_what_is_no_image_is_refused(decoder, content, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        decoder[1](tf.constant([content]))


def test_a_damaged_orientation_is_ignored(decoder):
    stream = io.BytesIO()
    PICTURES["turned 6.jpg"][0].save(stream, "JPEG", **with_orientation(6))
    content = bytearray(stream.getvalue())
    start = content.index(b"Exif\0\0") + 6
    upright = io.BytesIO()
    PICTURES["turned 6.jpg"][0].save(upright, "JPEG")
    expected = decoder[1](tf.constant([upright.getvalue()])).numpy()
    content[start + 4 : start + 8] = b"\xff\xff\xff\xff"  # where the tags are
    np.testing.assert_array_equal(decoder[1](tf.constant([bytes(content)])), expected)


def test_an_orientation_behind_the_pixels_of_a_png(decoder, tmp_path):
    """The standard lets the chunk stand on either side of them."""
    (height, width, channels), function = decoder
    path = tmp_path / "turned.png"
    Image.fromarray(photo(400, 300, 3)).save(path, **with_orientation(6))
    content = path.read_bytes()
    assert len(content) > 1 << 18
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    path.write_bytes(content[:start] + content[end:-12] + content[start:end] + content[-12:])
    expected = read_image(path, (height, width), channels)
    decoded = function(tf.constant([path.read_bytes()])).numpy()[0]
    assert np.abs(np.round(decoded * 255) - expected).max() <= 1
