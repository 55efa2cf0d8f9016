import keras
import numpy as np
import pytest
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.attacks import FGSM, PGD
from robustcls.data import noise, pipeline
from robustcls.data.splits import Split
from robustcls.evaluation import evaluator as engine
from robustcls.evaluation.evaluator import Evaluator
from robustcls.evaluation.prediction import prepared, subset
from robustcls.evaluation.robustness import evaluate


@pytest.fixture(scope="module")
def classifier():
    """Bright or dark, by the mean of the pixels; sure of itself in proportion."""
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    column = np.full(64, 1 / 64)
    model.set_weights([np.stack([-column, column], 1), np.array([0.5, -0.5])])
    return model


@pytest.fixture(scope="module")
def split():
    generator = np.random.default_rng(0)
    means = generator.uniform(0.2, 0.8, 300)
    images = np.clip(means[:, None, None] + generator.normal(0, 0.05, (300, 8, 8)), 0, 1)
    images = np.round(images * 255).astype(np.uint8)[..., None]
    labels = (images.mean((1, 2, 3)) > 127.5).astype(np.int64)
    labels[:30] = 1 - labels[:30]
    return Split(images, labels, np.array([f"test/{index}" for index in range(300)]))


def test_accuracies_are_what_a_count_by_hand_gives(classifier, split):
    epsilon = 0.1
    report = evaluate(
        classifier, split, attacks=[FGSM(epsilon=epsilon), PGD(epsilon=epsilon)], batch_size=70
    )
    assert report["clean"].accuracy == pytest.approx(0.9)
    # A linear model falls exactly when its margin is below epsilon.
    means = split.float_images().mean((1, 2, 3))
    right = (means > 0.5) == split.labels
    expected = np.mean(right & (np.abs(means - 0.5) > epsilon))
    assert report["fgsm"].accuracy == pytest.approx(expected, abs=1e-9)
    assert report["pgd20"].accuracy == pytest.approx(expected, abs=0.01)
    assert list(report.accuracies) == [
        "clean", "gaussian", "poisson", "salt_and_pepper", "fgsm", "pgd20",
    ]  # fmt: skip
    assert all(m.low <= m.accuracy <= m.high for m in report.measurements)


def test_noise_is_that_of_the_scale_and_seeded(classifier, split):
    settings = {"corruptions": "imagenet_c", "severity": 5, "batch_size": 300}
    first = evaluate(classifier, split, **settings, seed=1)
    assert first == evaluate(classifier, split, **settings, seed=1)
    strength = noise.SEVERITIES["imagenet_c"]["gaussian"][4]
    images = noise.gaussian(split.float_images(), strength, (1, 0))
    predicted = classifier.predict(images, verbose=0).argmax(-1)
    assert first["gaussian"].accuracy == pytest.approx(np.mean(predicted == split.labels))
    assert first["gaussian"].accuracy < first["clean"].accuracy


def test_arrays_limits_and_equal_names(classifier, split):
    report = evaluate(
        classifier,
        (split.float_images(), split.labels),
        attacks=[FGSM(epsilon=0.02), FGSM(epsilon=0.1)],
        corruptions=None,
        attack_limit=100,
    )
    assert list(report.accuracies) == ["clean", "fgsm", "fgsm (epsilon 0.1)"]
    assert report["clean"].count == 300
    assert report["fgsm"].count == 100


def test_datasets_are_measured_as_arrays(classifier, split, monkeypatch):
    images, labels = split.float_images(), split.labels
    expected = evaluate(classifier, split, attacks=[FGSM(epsilon=0.1)])
    pixels = tf.data.Dataset.from_tensor_slices((split.images, labels))
    for dataset in (
        tf.data.Dataset.from_tensor_slices((images, labels.astype(np.int32))).batch(70),
        pixels.batch(64),
        pixels.map(lambda x, y: (x, tf.one_hot(y, 2))),
        pixels.map(lambda x, y: {"image": x, "label": y, "id": 0}).batch(64),
    ):
        assert evaluate(classifier, dataset, attacks=[FGSM(epsilon=0.1)]) == expected
    for dataset, message in (
        (pixels.batch(9).repeat(), "an end; received one that repeats for ever"),
        (pixels.map(lambda x, y: {"x": x, "y": y}), r"a dictionary \(x, y\).*to a pair\?$"),
        (pixels.map(lambda x, y: ({"x": x}, y)), "a pair of which one is no tensor"),
        (pixels.map(lambda x, y: (x[: y + 5], y)).batch(9), r"can be read; .*,8,1\]$"),
        (pixels.map(lambda x, y: x), r"\(images, labels\); received elements of one part"),
        (pixels.take(0), "an empty dataset"),
        (pixels.map(lambda x, y: (tf.cast(x, tf.float32), y)), "Did you mean .* / 255"),
        (pixels.map(lambda x, y: (x, tf.fill([2], 0.5))), "labels of data must"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate(classifier, dataset)
    monkeypatch.setattr(pipeline, "MEMORY_LIMIT", 1000)
    with pytest.raises(InputError, match=r"fit into memory.*data\.take"):
        evaluate(classifier, pixels.batch(64).filter(lambda *_: True))


def test_subset_is_random_seeded_and_without_repeats():
    chosen = subset(1000, 100, seed=3)
    np.testing.assert_array_equal(chosen, subset(1000, 100, seed=3))
    assert len(set(chosen)) == 100
    assert chosen.max() > 500
    assert len(subset(50, None, 0)) == len(subset(50, 80, 0)) == 50


def test_attacked_piece_by_piece_is_attacked_at_once(classifier, split, monkeypatch):
    ready, images, labels = prepared(classifier, split)
    evaluator = Evaluator(ready, images, labels, batch_size=50)
    places, attack = subset(len(images), 250, seed=1), FGSM(epsilon=0.1)
    whole = evaluator.attacked(attack, places)
    monkeypatch.setattr(engine, "_PIECE", 64)
    pieces = evaluator.attacked(attack, places, name="mine")
    np.testing.assert_array_equal(pieces.right, whole.right)
    np.testing.assert_allclose(pieces.logits, whole.logits, atol=1e-6)
    np.testing.assert_array_equal(pieces.labels, split.labels[places])
    assert (pieces.name, pieces.measurement.count, whole.name) == ("mine", 250, "fgsm")
    # Who withstands the attack is right about the adversarial example too.
    np.testing.assert_array_equal(whole.right, whole.logits.argmax(axis=1) == whole.labels)


def test_bad_input(classifier, split):
    cases = [
        ({"corruptions": "cifar"}, "corruptions must be one of cifar_c.*Did you mean 'cifar_c'"),
        ({"severity": 6}, "severity must be an integer >= 1 and <= 5; received 6"),
        ({"attack_limit": 0}, "limit must be an integer >= 1; received 0"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1"),
    ]
    for settings, message in cases:
        with pytest.raises(InputError, match=message):
            evaluate(classifier, split, **settings)
    with pytest.raises(InputError, match="labels must be in"):
        evaluate(classifier, (split.float_images(), split.labels + 1))
    with pytest.raises(InputError, match="Did you mean images / 255"):
        evaluate(classifier, (split.float_images() * 255, split.labels))
