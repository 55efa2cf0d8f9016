"""Randomized smoothing: radii within which no attack of norm 2 can turn the prediction."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from robustcls._notebook import Brief, Briefly
from robustcls._progress import tqdm
from robustcls._validation import InputError
from robustcls.classifiers.classifier import Classifier
from robustcls.classifiers.ranges import InputRange, Preprocess
from robustcls.data import noise
from robustcls.data.splits import Split
from robustcls.evaluation.intervals import lower_bound
from robustcls.evaluation.prediction import floats, prepared, subset
from robustcls.evaluation.smoothing.config import SmoothingConfig
from robustcls.runs import read_json, write_json

ABSTAINED = -1
_SAVE_SECONDS = 20.0


@dataclass(frozen=True, eq=False, repr=False)
class Certification(Briefly):
    """What smoothing certifies for each image.

    Attributes:
        labels: int64 [N].
        predicted: int64 [N], the smoothed classifier's class; -1 where it abstains.
        radius: float64 [N], L2 radius for images in [0, 1] within which the prediction holds;
            0 where it abstains.
    """

    labels: np.ndarray
    predicted: np.ndarray
    radius: np.ndarray

    def brief(self) -> Brief:
        radii = np.linspace(0, float(self.radius.max(initial=0)), 5)
        rows = [[f"{radius:.3f}", f"{100 * self.accuracy(radius):.1f}"] for radius in radii]
        line = f"{len(self.labels):,} images, right {100 * self.accuracy():.1f} %, abstained"
        line += f" {100 * self.abstained:.1f} %"
        return Brief(line, ("L2 radius", "certified accuracy in %"), rows)

    @property
    def abstained(self) -> float:
        """The share of images without a prediction."""
        return float((self.predicted == ABSTAINED).mean())

    def accuracy(self, radius: float = 0.0) -> float:
        """Returns certified accuracy: the share that is right and certified for `radius`.

        An abstention is not right.

        Args:
            radius: within which the class must be certified (float, default 0.0).
        """
        return float(((self.predicted == self.labels) & (self.radius >= radius)).mean())


def certify(
    model: Any,
    data: Split | tuple[np.ndarray, np.ndarray],
    config: SmoothingConfig | None = None,
    *,
    part: slice | None = None,
    checkpoint: Path | str | None = None,
    preprocess: Preprocess | None = None,
    input_range: InputRange | None = None,
    output: str | int | None = None,
    progress: bool = False,
) -> Certification:
    """Certifies the smoothed classifier, which takes the vote of the model over Gaussian noise.

    For each image the class is chosen with `selection` draws; `samples` fresh ones give a lower
    bound p of its probability (Clopper-Pearson, one-sided, confidence 1 - alpha). The radius is
    sigma · Φ⁻¹(p), and the classifier abstains unless p > 1/2. Each image's certificate is wrong
    with probability alpha at most.

    Noisy values are clipped to [0, 1], as in training: the clipping counts as the model's first
    layer, so the certificates hold. They mean little unless the model was trained with Gaussian
    noise of about `sigma`.

    Source: Cohen et al., "Certified adversarial robustness via randomized smoothing", 2019,
    section 3.2.2.

    Args:
        model: a Keras classifier, float32 images [N, H, W, C] in [0, 1] to
            logits [N, classes], or what `attacks.adapt` takes or returns.
        data: a split, or (images float32 [N, H, W, C] in [0, 1], labels int [N]).
        config: sigma, draws and so on; the defaults if None (default None).
        part: which of the images that `config.limit` chooses; None takes all. Parts joined are
            what all at once give (slice or None, default None).
        checkpoint: a JSON file that keeps what was found, written about every 20 seconds. A call
            with the same arguments goes on from there (default None).
        preprocess: what the model wants done to images in [0, 1] first; radii stay in units of
            [0, 1] (default None).
        input_range: what the model wants 0 and 1 to be, for example (0, 255) or (-1, 1), instead of
            `preprocess` (default None).
        output: name or number of the output to certify, of a model with several (str, int or None,
            default None).
        progress: show a bar (bool, default False).

    Raises:
        InputError: the model or the data is unusable.
    """
    config = config or SmoothingConfig()
    classifier, images, labels = prepared(
        model, data, preprocess=preprocess, input_range=input_range, output=output
    )
    places = subset(len(images), config.limit, config.seed)
    places = places if part is None else places[part]
    found = _restore(checkpoint, len(places))
    saved = time.monotonic()
    with tqdm(
        total=len(places), initial=len(found), desc="certify", unit="image", disable=not progress
    ) as bar:
        for place in places[len(found) :]:
            votes = _votes(classifier, floats(images[place : place + 1]), int(place), config)
            found.append(_judge(votes, config))
            bar.update()
            due = time.monotonic() - saved >= _SAVE_SECONDS or len(found) == len(places)
            if checkpoint is not None and due:
                write_json(checkpoint, found)
                saved = time.monotonic()
    predicted, radius = zip(*found, strict=True)
    return Certification(labels[places], np.array(predicted, np.int64), np.array(radius))


def radius_of(votes: int, samples: int, sigma: float, alpha: float) -> float:
    """Returns the certified radius of a class with `votes` of `samples`; 0 when there is none.

    Args:
        votes: noisy copies that the model gave the class.
        samples: noisy copies in all.
        sigma: standard deviation of the noise, > 0.
        alpha: chance that the radius is wrong, in (0, 1).
    """
    bound = lower_bound(votes, samples, alpha)
    return float(sigma * norm.ppf(bound)) if bound > 0.5 else 0.0


def _votes(
    classifier: Classifier, image: np.ndarray, place: int, config: SmoothingConfig
) -> np.ndarray:
    """Returns the classes that the model gives noisy copies, int64 [selection + samples]."""
    total = config.selection + config.samples
    votes = np.empty(total, np.int64)
    for number, start in enumerate(range(0, total, config.batch_size)):
        size = min(config.batch_size, total - start)
        # A seed of the image's own: neither the subset nor an interruption matters.
        parts = np.random.SeedSequence([config.seed, place, number])
        seed = parts.generate_state(2).view(np.int32)
        noisy = noise.gaussian(np.repeat(image, size, axis=0), config.sigma, seed)
        votes[start : start + size] = classifier.predict(noisy.numpy()).argmax(axis=1)
    return votes


def _judge(votes: np.ndarray, config: SmoothingConfig) -> tuple[int, float]:
    chosen = int(np.bincount(votes[: config.selection]).argmax())
    count = int((votes[config.selection :] == chosen).sum())
    radius = radius_of(count, config.samples, config.sigma, config.alpha)
    return (chosen, radius) if radius > 0 else (ABSTAINED, 0.0)


def _restore(checkpoint: Path | str | None, count: int) -> list[tuple[int, float]]:
    if checkpoint is None or not Path(checkpoint).is_file():
        return []
    try:
        found = [(int(predicted), float(radius)) for predicted, radius in read_json(checkpoint)]
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"checkpoint must be a list of classes and radii; {checkpoint} is damaged. Delete it "
            "to start again."
        ) from None
    if len(found) > count:
        raise InputError(
            f"checkpoint must be of the same images; {checkpoint} holds {len(found)} of {count}."
        )
    return found
