import numpy as np
import pytest

from anomaly.localization.boxes import Box, boxes_of_mask
from anomaly.localization.measures import aupro, box_iou, box_overlap, mask_overlap, pixel_auroc
from robustcls import InputError


@pytest.fixture
def masks():
    masks = np.zeros((3, 12, 12), bool)
    masks[0, :6, :6] = True  # a large defect, and a small one
    masks[1, 10:, 10:] = True
    return masks


def slow_aupro(maps, masks, limit):
    """The definition, threshold by threshold; regions are known."""
    regions = [np.s_[0, :6, :6], np.s_[1, 10:, 10:]]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        above = maps >= threshold
        false = above[~masks].mean()
        points.append((false, np.mean([above[region].mean() for region in regions])))
    false, overlap = np.array(points).T
    grid = np.linspace(0, limit, 200_001)
    # Where false stays and overlap grows, the curve jumps: the highest point counts to the right.
    return (
        np.trapezoid(np.interp(grid, false + 1e-12 * np.arange(len(false)), overlap), grid) / limit
    )


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("levels", [5, 1000])
def test_aupro_is_its_definition(masks, limit, levels):
    generator = np.random.default_rng(0)
    maps = np.round(levels * (generator.random(masks.shape) + 0.4 * masks)) / levels
    assert aupro(maps, masks, limit=limit) == pytest.approx(
        slow_aupro(maps, masks, limit), abs=2e-4
    )


def test_perfect_random_and_reversed_maps(masks):
    noise = np.random.default_rng(0).random(masks.shape)
    assert pixel_auroc(masks + 0.5 * noise, masks) == 1
    assert aupro(masks + 0.5 * noise, masks) == pytest.approx(1)
    assert pixel_auroc(-(masks + 0.5 * noise), masks) == 0
    assert aupro(-(masks + 0.5 * noise), masks) == 0
    # A map that knows nothing: overlap equals the share of false pixels.
    generator = np.random.default_rng(1)
    areas = [aupro(generator.random(masks.shape), masks) for _ in range(200)]
    assert np.mean(areas) == pytest.approx(0.15, abs=0.02)


def test_a_missed_small_defect_costs_as_much_as_a_large_one(masks):
    only_large = masks.astype(float)
    only_large[1] = 0
    only_small = masks.astype(float)
    only_small[0] = 0
    assert aupro(only_large, masks) == pytest.approx(aupro(only_small, masks))
    assert pixel_auroc(only_large, masks) > pixel_auroc(only_small, masks) + 0.3


def test_what_cannot_be_measured_is_one_line(masks):
    with pytest.raises(InputError, match=r"masks must have the shape of the maps"):
        aupro(np.zeros((3, 12, 11)), masks)
    with pytest.raises(InputError, match="received none of a defect"):
        pixel_auroc(np.zeros(masks.shape), np.zeros_like(masks))
    with pytest.raises(InputError, match=r"limit must be"):
        aupro(np.zeros(masks.shape), masks, limit=0)


def test_overlap_of_pixels_is_counted(masks):
    maps = masks.astype(np.float32)
    assert mask_overlap(maps, masks, 0.5) == (1, 1)
    assert mask_overlap(maps, masks, 2.0) == (0, 0)
    maps[2, :4, :5] = 1  # 20 pixels too many beside 40
    iou, f1 = mask_overlap(maps, masks, 0.5)
    assert iou == pytest.approx(40 / 60)
    assert f1 == pytest.approx(2 * 40 / (40 + 60))
    with pytest.raises(InputError, match="shape of the maps"):
        mask_overlap(maps[:2], masks, 0.5)


def test_iou_of_boxes():
    box = Box(0, 0, 4, 4, 1.0)
    assert box_iou(box, box) == 1
    assert box_iou(box, Box(2, 0, 6, 4, 1.0)) == pytest.approx(8 / 24)
    assert box_iou(box, Box(4, 0, 8, 4, 1.0)) == 0
    assert box_iou(box, Box(6, 6, 8, 8, 1.0)) == 0
    assert box_iou(box, Box(1, 1, 2, 2, 1.0)) == 1 / 16


def test_boxes_and_defects_find_each_other_one_for_one(masks):
    true = [boxes_of_mask(mask) for mask in masks]
    assert true[0] == [Box(0, 0, 6, 6, 1.0)]
    assert box_overlap(true, masks) == (1, 1)
    assert box_overlap([[], [], []], masks) == (0, 0)
    # Twice the same box, and one where nothing is: two of four boxes are of use.
    many = [true[0] * 2, true[1], [Box(0, 0, 2, 2, 1.0)]]
    best, f1 = box_overlap(many, masks)
    assert best == 1
    assert f1 == pytest.approx(2 * 2 / (2 + 4))
    # A box that is a third of the defect's counts for the mean alone.
    best, f1 = box_overlap([[Box(0, 0, 6, 2, 1.0)], [], []], masks)
    assert best == pytest.approx((1 / 3 + 0) / 2)
    assert f1 == 0
    for boxes, marks, words in ((true[:2], masks, "3 images"), (true, masks & False, "defect")):
        with pytest.raises(InputError, match=words):
            box_overlap(boxes, marks)
