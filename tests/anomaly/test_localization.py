import json

import numpy as np
import pytest
from PIL import Image

from anomaly.localization.boxes import Box, draw_boxes, find_boxes, smooth
from robustcls import InputError


def test_boxes_of_a_drawn_map():
    smoothed = np.zeros((3, 20, 30), np.float32)
    smoothed[0, 2:5, 3:9] = 0.6
    smoothed[0, 4, 8] = 0.7
    smoothed[0, 5, 9] = 0.8  # touches the first at a corner
    smoothed[0, 15:20, 25:30] = 0.9
    smoothed[0, 10, 10] = 0.5  # not above the threshold
    smoothed[2] = 1
    first, second, third = find_boxes(smoothed, 0.5)
    score = float(np.float32(0.9))
    assert first[0] == Box(left=25, top=15, right=30, bottom=20, score=score)
    assert first[1] == Box(left=3, top=2, right=10, bottom=6, score=float(np.float32(0.8)))
    assert len(first) == 2
    assert second == []
    assert third == [Box(0, 0, 30, 20, 1.0)]


def test_a_box_has_the_score_of_its_own_pixels():
    """The first group's rectangle covers the second group."""
    smoothed = np.zeros((1, 9, 9), np.float32)
    smoothed[0, 0, :] = smoothed[0, :, 0] = 1
    smoothed[0, 4:6, 4:6] = 2
    small, large = find_boxes(smoothed, 0.5)[0]
    assert (small.score, large.score) == (2, 1)
    assert (large.right, large.bottom) == (9, 9)


def test_smoothing_keeps_each_image_to_itself():
    maps = np.zeros((2, 64, 64), np.float32)
    maps[0, 30, 30] = 1
    smoothed = smooth(maps)
    assert smoothed.dtype == np.float32
    assert (smoothed[1] == 0).all()
    # A Gaussian of two pixels, 64 / 32, has 1 / (2π · 4) at its centre.
    assert abs(smoothed[0, 30, 30] - 1 / (8 * np.pi)) < 2e-3
    assert abs(smoothed[0].sum() - 1) < 1e-3
    np.testing.assert_allclose(smooth(np.full((1, 28, 28), 0.3, np.float32)), 0.3, rtol=1e-5)


def test_a_group_is_cut_at_half_of_its_peak():
    smoothed = np.zeros((1, 20, 30), np.float32)
    smoothed[0, 2:18, 2:28] = 0.6  # one group, far above the threshold
    smoothed[0, 5:8, 5:8] = 2
    smoothed[0, 10:12, 20:24] = 1.5
    assert find_boxes(smoothed, 0.5)[0] == [Box(5, 5, 8, 8, 2.0), Box(20, 10, 24, 12, 1.5)]


def test_drawn_boxes_are_red_and_around_their_pixels(tmp_path):
    images = np.full((2, 28, 30, 1), 0.5, np.float32)
    boxes = [[Box(3, 5, 10, 9, 0.7)], []]
    written = draw_boxes(images, boxes, tmp_path / "out", ["a.png", "b.png"])
    first, second = json.loads(written.read_text())
    assert first["image"] == "a.png"
    assert first["boxes"] == [{"left": 3, "top": 5, "right": 10, "bottom": 9, "score": 0.7}]
    assert second == {"image": "b.png", "picture": "00001.png", "boxes": []}
    pixels = np.asarray(Image.open(tmp_path / "out" / first["picture"]))
    scale = pixels.shape[0] // 28
    assert pixels.shape == (28 * scale, 30 * scale, 3)
    rows, columns = np.nonzero((pixels == (255, 0, 0)).all(-1))
    assert (rows.min(), rows.max() + 1) == (5 * scale, 9 * scale)
    assert (columns.min(), columns.max() + 1) == (3 * scale, 10 * scale)
    assert (pixels[7 * scale, 6 * scale] == 128).all()
    assert (np.asarray(Image.open(tmp_path / "out" / "00001.png")) == 128).all()
    with pytest.raises(InputError, match="boxes must be one for each of 2 images; received 1"):
        draw_boxes(images, boxes[:1], tmp_path / "none")
