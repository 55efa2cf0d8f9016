"""Inputs that a model does not take are refused in one line, whatever their form."""

import keras
import numpy as np
import pytest

from robustcls import AdversarialRegularization, InputError
from robustcls.training.batches import arranged

IMAGES, NUMBERS = np.zeros((4, 6, 6, 1), np.float32), np.zeros((4, 3), np.float32)


def network(form):
    image, number = keras.Input((6, 6, 1), name="image"), keras.Input((3,), name="number")
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(image), number])
    inputs = {
        "dictionary": {"number": number, "image": image},
        "list": [image, number],
        "one": image,
        "dictionary of one": {"image": image},
    }[form]
    last = joined if form in ("dictionary", "list") else keras.layers.Flatten()(image)
    return keras.Model(inputs, keras.layers.Dense(2)(last), name="mine")


@pytest.mark.parametrize(
    ("form", "given", "line"),
    [
        (
            "dictionary",
            IMAGES,
            "inputs must be a dictionary of number, image for the model mine; received one array.",
        ),
        ("dictionary", (IMAGES, NUMBERS), "a dictionary of number, image .* received a tuple of 2"),
        ("dictionary", [IMAGES, NUMBERS], "a dictionary of number, image .* received a list of 2"),
        ("dictionary", {"image": IMAGES}, "hold the inputs of mine, number, image; received image"),
        ("dictionary", {"images": IMAGES, "number": NUMBERS}, "Did you mean 'images'?"),
        (
            "dictionary",
            {"image": IMAGES[..., 0, 0], "number": NUMBERS},
            r"input image of the model mine must have the shape \(N, 6, 6, 1\); received \(4, 6\)",
        ),
        ("dictionary", {"image": IMAGES, "number": NUMBERS[:, :2]}, r"\(N, 3\); received \(4, 2\)"),
        ("list", IMAGES, "a list of 2, image, number, for the model mine; received one array"),
        ("list", (IMAGES,), "a list of 2, image, number, .* received a tuple of 1"),
        ("one", (IMAGES, NUMBERS), "one array for the model mine; received a tuple of 2"),
        ("one", {"image": IMAGES[:, :5]}, r"\(N, 6, 6, 1\); received \(4, 5, 6, 1\)"),
        ("one", IMAGES[:, :5], r"\(N, 6, 6, 1\); received \(4, 5, 6, 1\)"),
    ],
)
def test_one_line(form, given, line):
    with pytest.raises(InputError, match=line) as error:
        arranged(network(form), given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("form", "given", "kind"),
    [
        ("dictionary", {"image": IMAGES, "number": NUMBERS, "id": NUMBERS}, dict),
        ("list", (IMAGES, NUMBERS), list),
        ("list", {"image": IMAGES, "number": NUMBERS}, dict),
        ("one", IMAGES, np.ndarray),
        ("one", IMAGES[..., 0], np.ndarray),
        ("one", [IMAGES], np.ndarray),
        ("one", {"any": IMAGES}, np.ndarray),
        ("dictionary of one", IMAGES, dict),
        ("dictionary of one", {"any": IMAGES}, dict),
    ],
)
def test_what_is_taken(form, given, kind):
    model = network(form)
    found = arranged(model, given)
    assert type(found) is kind
    assert model(found).shape == (4, 2)


def test_a_trainer_says_it():
    trainer = AdversarialRegularization(network("dictionary"), step_size=0.1)
    trainer.compile()
    labels = np.arange(4) % 2
    for act in (trainer.fit, trainer.evaluate):
        with pytest.raises(InputError, match=r"a dictionary of number, image .* one array"):
            act(IMAGES, labels, verbose=0)
    with pytest.raises(InputError, match=r"a dictionary of number, image .* one array"):
        trainer.predict(IMAGES, verbose=0)
    trainer.fit({"image": IMAGES, "number": NUMBERS}, labels, verbose=0)
