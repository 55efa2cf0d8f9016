import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from anomaly.localization.boxes import find_boxes, smooth
from anomaly.localization.graph import MOST_BOXES, as_arrays, boxes_of, smooth_maps


def random_maps(shape, sigma, seed):
    noise = np.random.default_rng(seed).random((6, *shape))
    maps = ndimage.gaussian_filter(noise, (0, sigma, sigma)).astype(np.float32)
    return maps - maps.min() + 0.01


@pytest.mark.parametrize("shape", [(28, 28), (20, 45)])
def test_smoothing_is_scipys(shape):
    maps = random_maps(shape, 1, 0)
    np.testing.assert_allclose(smooth_maps(tf.constant(maps)), smooth(maps), rtol=3e-7)


@pytest.mark.parametrize("sigma", [0.5, 1.5, 4])
@pytest.mark.parametrize("share", [0.4, 0.8, 0.97, 1])
def test_boxes_in_the_graph_are_those_of_numpy(sigma, share):
    """From many small groups, over groups that are cut, to none."""
    maps = random_maps((20, 31), sigma, 1) ** 4
    limit = np.float32(np.quantile(maps, share))
    expected = find_boxes(maps, limit)
    if share == 0.8 and sigma == 0.5:
        assert max(map(len, expected)) > MOST_BOXES
    found = tf.function(boxes_of, autograph=False)(tf.constant(maps), tf.constant([limit]))
    for name, value in as_arrays(expected).items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_a_spiral_is_one_group():
    spiral = np.zeros((1, 11, 11), np.float32)
    spiral[0, 0, :] = spiral[0, :, 10] = spiral[0, 10, :] = spiral[0, 2:, 0] = 1
    spiral[0, 2, :9] = spiral[0, 2:9, 8] = spiral[0, 8, 2:9] = 1
    found = boxes_of(tf.constant(spiral), tf.constant([0.5]))
    assert found["boxes"][0, 0].numpy().tolist() == [0, 0, 11, 11]
    assert found["box_scores"][0].numpy().tolist() == [1] + 15 * [0]
