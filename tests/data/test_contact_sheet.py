import numpy as np
import pytest
from PIL import Image

from robustcls._validation import InputError
from robustcls.data import AugmentationPolicy, Split, Splits, contact_sheet, load
from robustcls.data.contact_sheet import _GAP, _HEADER, _MARGIN, _TILE


def flat_set(classes=3, count=10, shape=(8, 8, 3)):
    """Each class is one gray level, so a tile tells its class."""
    labels = np.repeat(np.arange(classes), count)
    images = np.zeros((len(labels), *shape), np.uint8) + (labels * 20 + 10)[
        :, None, None, None
    ].astype(np.uint8)
    split = Split(images, labels, np.array([str(number) for number in range(len(labels))]))
    names = tuple(f"class number {number}" for number in range(classes))
    return Splits(split, split.take(slice(0)), split, names, "made up")


def tile(sheet, row, column, block=0, columns=5):
    left = _MARGIN + block * (columns * (_TILE + _GAP) + 2 * _GAP) + column * (_TILE + _GAP)
    return sheet[_HEADER + row * (_TILE + _GAP) + 4, left + 4]


def read(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_a_row_for_each_class(tmp_path):
    path = contact_sheet(flat_set(), tmp_path / "new" / "sheet.png")
    assert path == tmp_path / "new" / "sheet.png"
    sheet = read(path)
    for row, level in enumerate((10, 30, 50)):
        for column in range(5):
            assert tile(sheet, row, column).tolist() == [level] * 3
    assert (sheet[_HEADER:, :_MARGIN] < 128).any()  # the names


def test_twins_lie_beside_their_originals(tmp_path):
    seeds = []

    def invert(images, seed):
        assert images.dtype == np.float32
        assert images.max() <= 1
        seeds.append(seed)
        return 1 - images

    sheet = read(contact_sheet(flat_set(), tmp_path / "a.png", policy=invert, seed=3))
    for row, level in enumerate((10, 30, 50)):
        assert tile(sheet, row, 2).tolist() == [level] * 3
        assert tile(sheet, row, 2, block=1).tolist() == [255 - level] * 3
    assert seeds == [(3, 0)]
    sheet = read(
        contact_sheet(flat_set(), tmp_path / "b.png", policy=lambda images, seed: images * 0 + 0.5)
    )
    assert tile(sheet, 0, 0, block=1).tolist() == [128] * 3


def test_same_seed_same_bytes(tmp_path):
    splits = load("fashion_mnist_mini")
    policy = AugmentationPolicy()
    written = [
        contact_sheet(splits, tmp_path / f"{number}.png", policy=policy, seed=seed).read_bytes()
        for number, seed in enumerate((0, 0, 1))
    ]
    assert written[0] == written[1]
    assert written[0] != written[2]


def test_many_classes_few_images_large_pictures(tmp_path):
    sheet = read(contact_sheet(flat_set(12, 2), tmp_path / "a.png", max_classes=4))
    assert sheet.shape == (_HEADER + 4 * (_TILE + _GAP), _MARGIN + 2 * (_TILE + _GAP) + 2 * _GAP, 3)
    large = flat_set(2, 3, (300, 100, 1))
    sheet = read(contact_sheet(large, tmp_path / "b.png", images_per_class=1))
    assert tile(sheet, 1, 0).tolist() == [30] * 3
    assert sheet[_HEADER + 4, _MARGIN + 60].tolist() == [255] * 3  # a tall image keeps its shape


def test_bad_input(tmp_path):
    splits = flat_set()
    with pytest.raises(InputError, match=r"path must end in \.png; received 'sheet\.jpg'"):
        contact_sheet(splits, "sheet.jpg")
    for name in ("images_per_class", "max_classes"):
        with pytest.raises(InputError, match=f"{name} must be"):
            contact_sheet(splits, tmp_path / "a.png", **{name: 0})
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        contact_sheet(splits, tmp_path / "file" / "a.png")
    empty = Splits(splits.validation, splits.validation, splits.test, splits.class_names, "")
    with pytest.raises(InputError, match="splits must have training images"):
        contact_sheet(empty, tmp_path / "a.png")
