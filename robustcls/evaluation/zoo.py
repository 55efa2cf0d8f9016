"""The row of a model of a zoo: measured anew, or for the first time."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from robustcls._settings import NonNegativeInt, PositiveInt, checked
from robustcls._validation import InputError, check_choice, check_epsilon
from robustcls.attacks import PGD, AutoAttack
from robustcls.bounds.certification import certify_by_bounds
from robustcls.classifiers.adapters import adapt
from robustcls.classifiers.ranges import require_fitting_range
from robustcls.data.sources import load
from robustcls.evaluation.intervals import Measurement, measurement
from robustcls.models.building import load_classifier
from robustcls.models.zoo.cards import Card
from robustcls.models.zoo.loading import load_pretrained

PGD_STEPS = 100
_BATCH = 256


def evaluate_card(card: Card, *, seed: int = 0, progress: bool = False) -> dict[str, Measurement]:
    """Measures a model of a zoo on as many test images as its card says, within the card's ball.

    Attacks leave out the images that bounds certify, since no attack can turn them. Where there are
    more test images than the card says, the same are drawn each time.

    Args:
        card: of the model.
        seed: of the attacks, int >= 0 (default 0).
        progress: show a bar for each attack (bool, default False).

    Returns:
        By name (`clean`, `certified` for an L-infinity ball and layers that interval bounds know,
        `pgd100`, `autoattack`) the measurement: accuracy in [0, 1], the ends of its 95 % interval,
        and the images.

    Raises:
        InputError: the weights are not those of the card, or the images cannot be had.
    """
    model = load_pretrained(card.name, card.folder)
    return _measure(model, card, seed, progress)


@checked
def enter(
    model: Path | str,
    name: str,
    *,
    data: str,
    epsilon: float,
    norm: str = "inf",
    input_range: tuple[float, float] | None = None,
    skip_bad_images: bool = False,
    limit: PositiveInt | None = None,
    objective: str = "not told",
    command: str = "not told",
    machine: str = "not told",
    licence: str = "not told",
    folder: Path | str = "zoo",
    seed: NonNegativeInt = 0,
    progress: bool = False,
) -> Card:
    """Measures a model as those of the package are, and puts it into a zoo with its card.

    Args:
        model: a `.keras` file.
        name: what it is to be called; the name of a file.
        data: the images it was trained on, as for `robustcls.load`; those of the test split count.
        epsilon: radius of the ball, > 0, for images in [0, 1].
        norm: of the ball, "inf" or "2" (str, default "inf").
        input_range: what the model wants 0 and 1 to be, for example (0, 255) (default None).
        skip_bad_images: leave unreadable files of `data` out and name them in the card (bool,
            default False).
        limit: test images, drawn; None takes all (int >= 1 or None, default None).
        objective: what it was trained with, in words (str, default "not told").
        command: what made it (str, default "not told").
        machine: where, and how long it took (str, default "not told").
        licence: of the weights (str, default "not told").
        folder: of the zoo; made when it is not there (Path or str, default "zoo").
        seed: of the attacks (int >= 0, default 0).
        progress: show a bar for each attack (bool, default False).

    Returns:
        The card, written beside a copy of the model.

    Raises:
        InputError: an argument is unusable, the name is taken, or the model does not fit the
            images.
    """
    check_choice("norm", norm, ("inf", "2"))
    check_epsilon("epsilon", epsilon)
    if not re.fullmatch(r"[\w][\w.+-]{0,80}", name):
        raise InputError(
            f"name must be letters, digits and . _ + -, as in mnist_linf_0.3; received {name!r}."
        )
    place, path = Path(folder), Path(model)
    target = place / f"{name}.keras"
    if target.exists():
        raise InputError(f"name must be free; {target} exists. Give another name.")
    loaded, splits = load_classifier(path), load(data, skip_bad_images=skip_bad_images)
    card = Card(
        name=name,
        data=data,
        norm=norm,
        epsilon=epsilon,
        objective=objective,
        command=command,
        machine=machine,
        date=date.today().isoformat(),
        licence=licence,
        parameters=loaded.count_params(),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        results={},
        images=min(limit or len(splits.test), len(splits.test)),
        input_range=input_range,
        skipped=splits.skipped,
        folder=place,
    )
    found = _measure(loaded, card, seed, progress)
    card = dataclasses.replace(card, results={key: one.accuracy for key, one in found.items()})
    place.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
    card.write()
    return card


def _measure(model: Any, card: Card, seed: int, progress: bool) -> dict[str, Measurement]:
    test = load(card.data, skip_bad_images=bool(card.skipped)).test
    if card.images < len(test):
        drawn = np.random.default_rng(0).permutation(len(test))[: card.images]
        test = test.take(np.sort(drawn))
    images, labels = test.float_images(), test.labels
    classifier = adapt(model, input_range=card.input_range)
    count = classifier.prepare(images)
    if labels.max() >= count:
        raise InputError(
            f"data must be of the model's {count} classes; {card.data} has class {labels.max()}."
        )
    require_fitting_range(classifier, images, labels)
    batches = range(0, len(images), _BATCH)
    scores = np.concatenate([classifier.predict(images[at : at + _BATCH]) for at in batches])
    correct = scores.argmax(-1) == labels
    right = {"clean": int(correct.sum())}
    certified = np.zeros(len(test), bool)
    if card.norm == "inf":
        try:
            found = certify_by_bounds(
                classifier, images, labels, epsilon=card.epsilon, batch_size=_BATCH
            )
        except InputError:
            pass  # Layers that bounds do not know: nothing is certified.
        else:
            certified = found.certified
            right["certified"] = int(certified.sum())
    doubtful = np.flatnonzero(correct & ~certified)
    settings: dict[str, Any] = {"epsilon": card.epsilon, "norm": card.norm, "seed": seed}
    for attack in (PGD(steps=PGD_STEPS, **settings), AutoAttack(**settings)):
        standing = len(doubtful)
        if standing:
            result = attack(classifier, images[doubtful], labels[doubtful], progress=progress)
            standing -= int(result.success.sum())
        right[attack.name] = int(certified.sum()) + standing
    return {name: measurement(name, hits, len(test)) for name, hits in right.items()}
