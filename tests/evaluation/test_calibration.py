import numpy as np
import pytest

from robustcls import InputError
from robustcls.evaluation.calibration import BINS, calibration


def logits_of(confidence, classes=4):
    """Logits whose largest probability is `confidence`, for class 0."""
    rest = (1 - np.asarray(confidence)) / (classes - 1)
    columns = [confidence, *[rest] * (classes - 1)]
    return np.log(np.stack(columns, axis=1)) + 7


def test_error_is_the_distance_of_confidence_and_accuracy():
    """Ten answers at 0.95, eight right; ten at 0.55, all right."""
    confidence = np.repeat([0.95, 0.55], 10)
    labels = np.array([0] * 8 + [1] * 2 + [0] * 10)
    found = calibration(logits_of(confidence), labels)
    assert found.accuracy == pytest.approx(0.9)
    assert found.mean_confidence == pytest.approx(0.75)
    assert found.ece == pytest.approx((0.15 + 0.45) / 2)
    assert sum(found.bin_count) == found.count == 20
    assert found.bin_count[14] == found.bin_count[8] == 10
    assert found.bin_accuracy[14] == pytest.approx(0.8)
    # A right answer beats a wrong one in no pair, and ties in 8 of 18.
    assert found.auroc == pytest.approx(8 / 18 / 2)


def test_a_calibrated_model_has_no_error_to_speak_of():
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.3, 1, 20000)
    labels = np.where(generator.uniform(size=20000) < confidence, 0, 1)
    found = calibration(logits_of(confidence), labels)
    assert found.ece < 0.02
    assert found.auroc > 0.7
    overconfident = calibration(3 * logits_of(confidence), labels)
    assert overconfident.ece > 0.1
    assert overconfident.accuracy == found.accuracy


def test_edges():
    sure = calibration(np.array([[1e4, 0.0], [0.0, 1e4]]), np.array([0, 1]))
    assert (sure.ece, sure.auroc) == (0, None)
    assert sure.bin_count == (0,) * (BINS - 1) + (2,)
    assert calibration(np.array([[1.0, 0.0]]), np.array([1])).auroc is None
    with pytest.raises(InputError, match="logits must be"):
        calibration(np.zeros((0, 3)), np.zeros(0, np.int64))
    with pytest.raises(InputError, match="labels must be 2 class ids"):
        calibration(np.zeros((2, 3)), np.zeros(3, np.int64))
