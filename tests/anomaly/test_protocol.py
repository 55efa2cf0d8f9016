import dataclasses

import numpy as np
import pytest

from anomaly import evaluate_scores, one_class_splits
from robustcls import InputError, Split, Splits


def make_splits(train=40, validation=20, test=10, classes=3):
    """Every image's pixels are its class id, and its id names its split and place."""

    def part(name, count):
        labels = np.tile(np.arange(classes), count)
        images = np.broadcast_to(labels[:, None, None, None], (len(labels), 16, 16, 1))
        ids = np.array([f"{name}/{index}" for index in range(len(labels))], str)
        return Split(images.astype(np.uint8), labels, ids)

    parts = part("train", train), part("validation", validation), part("test", test)
    return Splits(*parts, tuple("abc"[:classes]), "made up")


@pytest.mark.parametrize("normal_class", [1, "b", np.int64(1)])
def test_only_normal_images_are_learned_from_and_all_are_tested(normal_class):
    splits = make_splits()
    parts = one_class_splits(splits, normal_class)
    assert parts.normal_class == 1
    for part, source in (parts.train, splits.train), (parts.validation, splits.validation):
        assert (part.images == 1).all()
        assert (part.labels == 0).all()
        assert list(part.ids) == list(source.ids[source.labels == 1])
    np.testing.assert_array_equal(parts.test.images, splits.test.images)
    np.testing.assert_array_equal(parts.test.labels, splits.test.labels != 1)
    assert list(parts.test.ids) == list(splits.test.ids)


@pytest.mark.parametrize("validation", [0, 5])
def test_too_few_validation_images_are_cut_anew(validation):
    splits = make_splits(train=60, validation=validation)
    parts = one_class_splits(splits, 2, seed=4)
    assert len(parts.validation) == 19
    assert len(parts.train) == 60 + validation - 19
    assert (parts.train.images == 2).all()
    assert (parts.validation.images == 2).all()
    assert not set(parts.train.ids) & set(parts.validation.ids)
    assert not any(name.startswith("test") for name in [*parts.train.ids, *parts.validation.ids])
    again, other = (one_class_splits(splits, 2, seed=seed) for seed in (4, 5))
    assert set(again.validation.ids) == set(parts.validation.ids)
    assert set(other.validation.ids) != set(parts.validation.ids)
    # A rarer false alarm takes more images.
    assert len(one_class_splits(splits, 2, false_alarm_rate=0.04).validation) == 24


def test_classes_and_sets_that_do_not_do():
    splits = make_splits()
    for bad, message in (
        (3, "normal_class must be an integer >= 0 and <= 2; received 3"),
        (-1, "normal_class"),
        (1.5, "normal_class"),
        ("cat", "must be one of a, b, c; received 'cat'"),
    ):
        with pytest.raises(InputError, match=message):
            one_class_splits(splits, bad)
    with pytest.raises(InputError, match="at least 38 .*; received 30".replace(".*", "[^;]*")):
        one_class_splits(make_splits(train=30, validation=0), 0)
    normal = splits.test.take(splits.test.labels == 0)
    with pytest.raises(InputError, match=f"{len(normal)} normal images and 0 anomalies"):
        one_class_splits(dataclasses.replace(splits, test=normal), 0)
    with pytest.raises(InputError, match="normal_class must be one of a, b, c; received none"):
        one_class_splits(splits)
    with pytest.raises(InputError, match="false_alarm_rate"):
        one_class_splits(splits, 0, false_alarm_rate=0)


def test_a_set_of_one_class_is_normal():
    parts = one_class_splits(make_splits(classes=1, test=30))
    assert parts.normal_class == 0
    assert parts.test.labels.tolist() == [0] * 30


def test_figures_of_a_small_case():
    scores = [0.1, 0.2, 0.3, 0.6, 0.25, 0.7, 0.8, 0.9]
    labels = [0, 0, 0, 0, 1, 1, 1, 1]
    found = evaluate_scores(scores, labels, threshold=0.3, false_alarm_rate=0.2)
    # Pairs: 0.25 beats two of four normals, each of the others all four.
    assert found["auroc"] == pytest.approx(14 / 16)
    # Precision at each anomaly from the top: 1, 1, 1, then 4 of 6.
    assert found["aupr"] == pytest.approx((1 + 1 + 1 + 4 / 6) / 4)
    assert found["anomaly_share"] == 0.5
    assert found["threshold"] == 0.3
    assert found["f1"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    # Exact 95 % intervals for 1 of 4 and 3 of 4.
    assert found["false_alarm_rate"] == pytest.approx(
        {"asked": 0.2, "got": 0.25, "low": 0.00631, "high": 0.80588, "count": 4}, abs=1e-5
    )
    assert found["detection_rate"] == pytest.approx(
        {"got": 0.75, "low": 0.19412, "high": 0.99369, "count": 4}, abs=1e-5
    )


def test_scores_that_cannot_be_judged():
    good = {"threshold": 0.5, "false_alarm_rate": 0.05}
    with pytest.raises(InputError, match="finite"):
        evaluate_scores([0.1, np.nan], [0, 1], **good)
    with pytest.raises(InputError, match="labels must be 2 class ids"):
        evaluate_scores([0.1, 0.2], [0, 1, 1], **good)
    with pytest.raises(InputError, match=r"labels must be in \[0, 2\)"):
        evaluate_scores([0.1, 0.2], [0, 7], **good)
    with pytest.raises(InputError, match="labels must hold normal images, 0; received 2 anomalies"):
        evaluate_scores([0.1, 0.2], [1, 1], **good)


def test_normal_images_alone_have_false_alarms_alone():
    found = evaluate_scores([0.1, 0.6], [0, 0], threshold=0.5, false_alarm_rate=0.05)
    assert found.keys() == {"threshold", "false_alarm_rate"}
    assert found["false_alarm_rate"]["got"] == 0.5
