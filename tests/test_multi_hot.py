"""Images of several classes: a yes or no to each, through every entry."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit

import robustcls as rc
from robustcls.bounds.certification import certify_by_bounds
from robustcls.evaluation.calibration import calibration

pytestmark = pytest.mark.slow
SHAPE = (8, 8, 1)
EPSILON = 0.004
DRAWS = np.random.default_rng(0)
WEIGHTS = DRAWS.normal(0, 30, (64, 3)).astype(np.float32)
IMAGES = DRAWS.uniform(0.3, 0.7, (20, *SHAPE)).astype(np.float32)
BIAS = -np.median(IMAGES.reshape(20, 64) @ WEIGHTS, 0)
LOGITS = IMAGES.reshape(20, 64) @ WEIGHTS + BIAS
ROWS = (LOGITS > 0).astype(np.float32)
ROWS[:4, 1] = 1 - ROWS[:4, 1]
# Each answer is turned within the ball when its logit is nearer to 0 than this.
REACH = EPSILON * np.abs(WEIGHTS).sum(0)
STANDS = (((LOGITS > 0) == ROWS) & (np.abs(LOGITS) > REACH)).all(1)


def make(activation="sigmoid"):
    head = keras.layers.Dense(3, activation=activation)
    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), head])
    head.set_weights([WEIGHTS, BIAS.astype(np.float32)])
    return model


@pytest.fixture(scope="module", params=["sigmoid", None], ids=["sigmoids", "logits"])
def model(request):
    return make(request.param)


def test_the_labels_tell():
    assert 0.2 < STANDS.mean() < 0.7
    assert len(set(ROWS.sum(1))) > 2


def test_fgsm_raises_summed_binary_cross_entropy(model):
    """Where every answer was right, the step is the sign of the gradient that a tape gives."""
    found = rc.attacks.FGSM(epsilon=EPSILON)(model, IMAGES, ROWS)
    points = tf.constant(IMAGES)
    with tf.GradientTape() as tape:
        tape.watch(points)
        logits = tf.reshape(points, [-1, 64]) @ WEIGHTS + BIAS.astype(np.float32)
        loss = tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(ROWS, logits))
    moved = IMAGES + EPSILON * np.sign(tape.gradient(loss, points))
    right = ((LOGITS > 0) == ROWS).all(1)
    np.testing.assert_array_equal(found.adversarial[~right], IMAGES[~right])
    fallen = ~(((moved.reshape(20, 64) @ WEIGHTS + BIAS) > 0) == ROWS).all(1)
    np.testing.assert_array_equal(found.success, fallen | ~right)
    np.testing.assert_allclose(found.adversarial[found.success & right], moved[fallen & right])


@pytest.mark.parametrize(
    "attack",
    [
        rc.attacks.PGD(epsilon=EPSILON, steps=20, restarts=2),
        rc.attacks.APGD(epsilon=EPSILON, steps=20),
        rc.attacks.APGD(epsilon=EPSILON, steps=20, loss="dlr"),
        rc.attacks.FAB(epsilon=EPSILON, steps=10, target_classes=3),
        rc.attacks.Square(epsilon=EPSILON, queries=400),
    ],
    ids=lambda attack: attack.name,
)
def test_every_attack_turns_what_can_be_turned(attack):
    """The model is linear, so what stands can be computed."""
    found = attack(make(), IMAGES, ROWS)
    assert np.abs(found.adversarial - IMAGES).max() <= EPSILON + 1e-6
    answers = (found.adversarial.reshape(20, 64) @ WEIGHTS + BIAS) > 0
    np.testing.assert_array_equal(found.success, (answers != ROWS).any(1))
    assert not (found.success & STANDS).any()
    # Aiming at the nearest answers but one may miss an image.
    assert (found.success == ~STANDS).sum() >= 19


def test_the_loss_of_a_sure_model_keeps_its_digits():
    sure = make()
    sure.layers[-1].set_weights([1e3 * WEIGHTS, 1e3 * BIAS.astype(np.float32)])
    found = rc.attacks.PGD(epsilon=EPSILON, steps=20)(sure, IMAGES, ROWS)
    assert (found.success == ~STANDS).sum() >= 19


def test_a_combination_can_be_aimed_at(model):
    goal = (LOGITS > 0).astype(int)
    goal[:, 2] = 1 - goal[:, 2]
    goal[0] = [1, 1, 1]
    attack = rc.attacks.PGD(epsilon=0.3, steps=40, targeted=True)
    found = attack(model, IMAGES, goal)
    answers = (found.adversarial.reshape(20, 64) @ WEIGHTS + BIAS) > 0
    np.testing.assert_array_equal(found.success, (answers == goal).all(1))
    assert found.success.mean() > 0.8


def test_evaluate_counts_images_whose_every_answer_is_right(model):
    attack = rc.attacks.PGD(epsilon=EPSILON)
    batches = tf.data.Dataset.from_tensor_slices((IMAGES, ROWS)).batch(7)
    for data in ((IMAGES, ROWS), (IMAGES, ROWS.astype(bool)), batches):
        found = rc.evaluate(model, data, attacks=[attack], corruptions=None)
        assert found.accuracies["clean"] == 16 / 20
        assert found.accuracies["pgd20"] == pytest.approx(STANDS.mean(), abs=1 / 20)


def test_a_part_whose_rows_all_name_one_class_is_read_like_the_rest(model, monkeypatch):
    """Attacks get the images piece by piece."""
    monkeypatch.setattr("robustcls.evaluation.evaluator._PIECE", 1)
    attack = rc.attacks.PGD(epsilon=EPSILON)
    found = rc.evaluate(model, (IMAGES, ROWS), attacks=[attack], corruptions=None)
    assert found.accuracies["pgd20"] == pytest.approx(STANDS.mean(), abs=1 / 20)


def test_calibration_is_of_single_answers():
    found = calibration(LOGITS, ROWS)
    right = (LOGITS > 0) == ROWS
    assert (found.count, found.accuracy) == (60, pytest.approx(right.mean()))
    assert found.mean_confidence == pytest.approx(expit(np.abs(LOGITS)).mean())


def test_training():
    trainer = rc.AdversarialRegularization(make(None), step_size=EPSILON)
    trainer.compile(keras.optimizers.SGD(0.0), keras.losses.BinaryCrossentropy(from_logits=True))
    watch = rc.callbacks.RobustAccuracy(rc.attacks.PGD(epsilon=EPSILON), (IMAGES, ROWS))
    batches = rc.train_batches((IMAGES, ROWS), batch_size=20)
    logs = trainer.fit(batches, callbacks=[watch], verbose=0).history
    expected = tf.nn.sigmoid_cross_entropy_with_logits(ROWS, LOGITS.astype(np.float32))
    assert logs["clean_loss"][0] == pytest.approx(float(tf.reduce_mean(expected)), rel=1e-4)
    assert logs["robust_accuracy"][0] == pytest.approx(STANDS.mean(), abs=1 / 20)


def test_a_report_of_explanations(tmp_path):
    names = ("cat", "dog", "hat")
    found = rc.explain(
        make(),
        (IMAGES, ROWS),
        tmp_path,
        attack=rc.attacks.PGD(epsilon=EPSILON),
        methods=["gradients"],
        class_names=names,
        limit=20,
        quality_limit=0,
    )
    right = dict(zip(map(str, found.explained.ids), found.explained.labels, strict=True))
    records = [
        json.loads(line) for line in (tmp_path / "explanations.jsonl").read_text().splitlines()
    ]
    assert sum(record["correct"] for record in records) == 16
    for record in records:
        assert record["label"] == np.flatnonzero(right[record["id"]]).tolist()
        assert record["label_name"] == (", ".join(names[k] for k in record["label"]) or "none")
    turned = sum(record["flipped"] and record["correct"] for record in records)
    assert turned == pytest.approx(16 - STANDS.sum(), abs=1)
    assert "16 of 20 right" in (tmp_path / "explanations.html").read_text()
    only = rc.explain(
        make(), (IMAGES, ROWS), tmp_path, only="wrong", methods=["gradients"], quality_limit=0
    )
    assert len(only.explained.ids) == 4
    some = rc.explain(
        make(),
        (IMAGES, ROWS),
        tmp_path,
        classes=["dog"],
        class_names=names,
        methods=["gradients"],
        quality_limit=0,
    )
    assert len(some.explained.ids) == ROWS[:, 1].sum()


def test_where_no_several_classes_can_be_one_line_says_so(tmp_path):
    softmax = make("softmax")
    with pytest.raises(
        rc.InputError, match="ends in a softmax; received multi-hot rows, of 0 to 3"
    ):
        rc.attacks.FGSM()(softmax, IMAGES, ROWS)
    one = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(1)])
    with pytest.raises(rc.InputError, match="which has one output; received multi-hot"):
        rc.evaluate(one, (IMAGES, ROWS[:, :2]))
    with pytest.raises(rc.InputError, match="a column for each of the model's 3 classes"):
        rc.evaluate(make(), (IMAGES, ROWS[:, :2]))
    with pytest.raises(rc.InputError, match=r"does not say .* sigmoids; received multi-hot rows"):
        rc.explain(make(None), (IMAGES, ROWS), tmp_path)
    for call in (
        lambda: rc.Explainer(make())("gradients", IMAGES, ROWS),
        lambda: certify_by_bounds(make(), IMAGES, ROWS, epsilon=EPSILON),
        lambda: rc.evaluation.trust.check(make(), IMAGES, ROWS),
    ):
        with pytest.raises(rc.InputError, match="must name one class an image here; received"):
            call()
