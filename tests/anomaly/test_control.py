"""The distance to the mean image, and what it says of a detector."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from anomaly.experiments.control import compare_with_control, mean_image_scores
from robustcls.data.splits import Split

LABELS = np.repeat([0, 1], 100)


def ranked(auroc, seed=0):
    """Scores whose AUROC is near one that is asked for."""
    return np.random.default_rng(seed).normal(size=200) + LABELS * 4 * (auroc - 0.5)


def split(images):
    return Split(images, np.zeros(len(images), np.int64), np.arange(len(images)).astype(str))


def test_scores_are_distances_to_the_mean_of_the_training_images():
    generator = np.random.default_rng(0)
    train, test = (generator.integers(0, 256, (n, 4, 4, 3), np.uint8) for n in (5, 3))
    expected = np.sqrt((((test - train.mean(0)) / 255) ** 2).mean((1, 2, 3)))
    np.testing.assert_allclose(mean_image_scores(split(train), split(test)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("own", "control", "said"),
    [
        (0.95, 0.7, []),
        (0.7, 0.95, ["is no better than the distance"]),
        (0.5, 0.95, ["no better than chance", "is no better than the distance"]),
        (0.76, 0.7, ["cannot be told from the distance"]),
    ],
)
def test_what_is_said(own, control, said):
    scores, reference = ranked(own), ranked(control, seed=1)
    found = compare_with_control(scores, reference, LABELS)
    assert found["mean_image_auroc"] == pytest.approx(roc_auc_score(LABELS, reference))
    assert len(found["findings"]) == len(said), found
    for words, part in zip(found["findings"], said, strict=True):
        assert part in words
        assert f"{100 * roc_auc_score(LABELS, scores):.1f}" in words


def test_a_control_that_does_as_well():
    (words,) = compare_with_control(LABELS * 1.0, LABELS * 2.0, LABELS)["findings"]
    assert (
        "no better than the distance to the mean normal image: AUROC 100.0 against 100.0" in words
    )


def test_ties_and_single_images():
    labels = np.array([0, 0, 1])
    found = compare_with_control(np.zeros(3), np.array([0.0, 1, 1]), labels)
    assert found["mean_image_auroc"] == 0.75
    assert "AUROC 50.0 % of 3 images" in found["findings"][0]


def test_one_kind_of_image_says_nothing():
    assert compare_with_control(np.arange(3.0), np.arange(3.0), np.zeros(3, int)) == {
        "findings": []
    }
