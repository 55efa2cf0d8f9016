"""Sentences that stand above the figures, from made-up ones."""

import numpy as np
import pytest

from robustcls.data.splits import Split, Splits
from robustcls.evaluation.findings import findings
from robustcls.evaluation.intervals import clopper_pearson
from robustcls.evaluation.reports.report import summary
from robustcls.training.findings import (
    constant_answer,
    few_images,
    rising_loss,
    training_findings,
)

GOOD = [[30, 0, 0], [1, 29, 0], [0, 2, 28]]
GUESSED = [[9, 11, 10], [10, 12, 8], [11, 10, 9]]
ONE_ANSWER = [[30, 0, 0], [30, 0, 0], [30, 0, 0]]


def metrics(**confusions):
    """What `evaluate_models` makes of these, with figures under one attack."""
    made = {
        "models": list(confusions),
        "confusion": confusions,
        "class_names": ["a", "b", "rare"],
        "intervals": {},
        "attacks": ["pgd"],
        "count": int(np.sum(next(iter(confusions.values())))),
        "trust": {},
    }
    for model, counts in confusions.items():
        right, count = int(np.trace(counts)), int(np.sum(counts))
        low, high = clopper_pearson(right, count)
        made["intervals"][model] = {
            name: {"low": low, "high": high, "count": count} for name in ("clean", "pgd")
        }
        made[model] = {"clean": right / count, "pgd": right / count / 2}
    return made


def test_nothing_is_said_of_good_models():
    assert findings(metrics(base=GOOD, adversarial=GOOD)) == []


@pytest.mark.parametrize(
    ("counts", "word"),
    [
        (ONE_ANSWER, "no more than the one answer 'a' for all of them would reach (33.3 %)"),
        (GUESSED, "no more than"),
        # 17 of 30 with 15 of one class: not worse, but nobody can tell.
        ([[15, 0, 0], [13, 2, 0], [0, 0, 0]], "which cannot be told from what"),
        # 90 % right, where 93 % are of one class.
        ([[90, 3, 0], [7, 0, 0], [0, 0, 0]], "no more than the one answer 'a'"),
    ],
)
def test_worse_than_one_answer(counts, word):
    first, *_ = findings(metrics(base=counts))
    assert first.startswith("base classifies ")
    assert word in first


def test_a_class_that_is_never_recognized():
    assert findings(metrics(base=[[30, 0, 0], [0, 30, 0], [2, 1, 0]])) == [
        "base recognizes none of the test images of rare (3)."
    ]


def test_a_broken_reference_is_no_reference():
    broken = metrics(base=GUESSED, adversarial=GOOD)
    assert findings(broken)[-1].startswith("base, the reference, is broken: what adversarial gains")
    assert not any("Against base" in words for words in summary(broken))
    assert any("Against base" in words for words in summary(metrics(base=GOOD, adversarial=GOOD)))


def test_a_reference_worse_than_its_twin():
    half = [[30, 0, 0], [15, 15, 0], [15, 0, 15]]
    (words,) = findings(metrics(base=half, adversarial=GOOD))
    assert "fewer clean images right than adversarial (66.7 against 96.7 %)" in words


def test_notes_come_first():
    assert findings(metrics(base=GOOD), ["The images were made gray."]) == [
        "The images were made gray."
    ]


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([1.0, 1.4, 1.2], True),
        ([1.0, 1.01], False),
        ([1.0, 0.9, 3.0], False),  # it rose later: that is overfitting, not a broken start
        ([1.0], False),
        ([], False),
    ],
)
def test_rising_loss(losses, said):
    words = rising_loss("base", [{"val_loss": loss} for loss in losses])
    assert (words is not None) == said
    if said:
        assert "from 1 to 1.2" in words


def test_what_is_said_at_the_end_of_a_training(tmp_path):
    """18 of 30 validation images are of one class, and 17 are right."""
    history = tmp_path / "history.csv"
    history.write_text("epoch,val_loss,val_accuracy\n1,0.9,0.6\n2,1.1,0.5667\n")
    labels = np.repeat([0, 1], [18, 12])
    part = Split(np.zeros((30, 2, 2, 1), np.uint8), labels, np.arange(30).astype(str))
    rising, constant = training_findings("base", history, Splits(part, part, part, ("a", "b"), ""))
    assert rising.startswith("base: the validation loss rises from the first epoch on, from 0.9")
    assert constant == (
        "base classifies 56.7 % of 30 validation images right, no more than the one answer 'a' for "
        "all of them would reach (60.0 %)."
    )


def test_constant_answer_without_images():
    assert constant_answer("base", 0, np.zeros(0, int), ["a", "b"], "images") is None


def test_few_images():
    names = [f"class {at}" for at in range(8)]
    labels = np.repeat(np.arange(8), [20, *[3] * 7])
    assert few_images(labels, names) == (
        "Fewer than 10 images to learn from: class 1 (3), class 2 (3), class 3 (3), class 4 (3), "
        "class 5 (3) and 2 more."
    )
    assert few_images(np.repeat([0, 1], 10), ["a", "b"]) is None
