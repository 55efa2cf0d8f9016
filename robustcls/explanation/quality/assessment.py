"""Whether a map deserves belief: three tests of a method on a model, with intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustcls._progress import tqdm
from robustcls._validation import as_names, check_images, check_labels
from robustcls.attacks import draws
from robustcls.evaluation.intervals import Estimate, estimate
from robustcls.explanation.explainer import Explainer, Method
from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.quality.believing import SURVIVES
from robustcls.explanation.quality.faithfulness import Curves, Faithfulness, faithfulness_of
from robustcls.explanation.quality.measures.trial import Trial, answers_alike, trials_of
from robustcls.explanation.quality.similarity import says_something, spearman

# The share of images whose maps must have something to compare.
_ENOUGH = 0.5


@dataclass(frozen=True)
class Quality:
    """What is known of one method on one model.

    Attributes:
        faithfulness: against random maps.
        randomization: rank correlation with the maps of the same network with random weights;
            None where that cannot be told, see `randomization` below.
        stability: rank correlation with the maps of slightly noisy copies of the images; None
            where fewer than half of the pairs have enough to compare.
        empty: how many of the maps say nothing at all (int, default 0).
    """

    faithfulness: Faithfulness
    randomization: Estimate | None
    stability: Estimate | None
    empty: int = 0

    @property
    def explains_this_model(self) -> bool:
        """False when the maps survive random weights: then they show the images alone."""
        return self.randomization is None or self.randomization.mean < SURVIVES

    @property
    def verdict(self) -> str:
        """One sentence."""
        count = self.faithfulness.gain.count
        if self.empty > (1 - _ENOUGH) * count:
            return f"Says nothing: {self.empty} of {count} maps are empty."
        if not self.explains_this_model:
            return "Does not explain this model: survives random weights."
        if not self.faithfulness.beats_random:
            return "Not shown to be better than random maps."
        if self.randomization is None:
            return "Finds what counts; random weights leave too little to compare."
        return "Finds what counts."

    def as_dict(self) -> dict[str, Any]:
        """All figures, JSON-serializable."""
        return {
            **dataclasses.asdict(self),
            "beats_random": self.faithfulness.beats_random,
            "explains_this_model": self.explains_this_model,
            "verdict": self.verdict,
        }


def assess(
    explainer: Explainer,
    methods: Mapping[str, Method] | Sequence[str],
    images: np.ndarray,
    classes: np.ndarray,
    *,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Quality]:
    """Runs the three tests on each method.

    Args:
        explainer: of the model.
        methods: names of `METHODS`, or methods of one's own by name: functions of images and
            classes to `Maps`.
        images: float32 [N, H, W, C] in [0, 1].
        classes: int [N], the class explained for each image.
        seed: of random maps, random weights, noise and resampling (int, default 0).
        progress: show a bar (bool, default False).

    Raises:
        InputError: as calling `explainer`.
    """
    if not isinstance(methods, Mapping):
        methods = {name: name for name in as_names(methods)}
    images = check_images(images)
    classes = check_labels(classes, len(images), explainer.prepare(images), "classes")
    has_weights = not answers_alike(explainer, images, seed)
    found: dict[str, list[_Part]] = {name: [] for name in methods}
    starts = range(0, len(images), explainer.batch_size)
    for start in tqdm(starts, desc="quality", unit="batch", disable=not progress, leave=False):
        part = slice(start, start + explainer.batch_size)
        given = images[part], classes[part]
        with explainer.shared.open():
            for name, trial in trials_of(
                explainer, methods, *given, None, seed, has_weights
            ).items():
                found[name].append(_part(trial))
    return {name: _joined(parts, seed) for name, parts in found.items()}


@dataclass(frozen=True, eq=False)
class _Part:
    """What a batch of images says of a method: curves, and similarities float64 [n]."""

    own: Curves
    random: Curves
    randomization: np.ndarray
    stability: np.ndarray
    empty: int


def _part(trial: Trial) -> _Part:
    maps, other = trial.maps, trial.under_random_weights
    near = trial.explainer(trial.method, noisy(trial.images, trial.seed), trial.classes)
    nothing = np.full(len(trial.images), np.nan)
    return _Part(
        trial.curves,
        trial.random_curves,
        nothing if other is None else spearman(maps.relevance, other.relevance),
        spearman(maps.relevance, near.relevance),
        int((~says_something(maps.relevance)).all(axis=(1, 2)).sum()),
    )


def _joined(parts: Sequence[_Part], seed: int) -> Quality:
    own, random = (
        Curves(*(np.concatenate(curves) for curves in zip(*pairs, strict=True)))
        for pairs in (
            [(part.own.deletion, part.own.insertion) for part in parts],
            [(part.random.deletion, part.random.insertion) for part in parts],
        )
    )
    randomization = np.concatenate([part.randomization for part in parts])
    return Quality(
        faithfulness_of(own, random, seed),
        _similarity(randomization, seed),
        _similarity(np.concatenate([part.stability for part in parts]), seed),
        empty=sum(part.empty for part in parts),
    )


def randomization(
    explainer: Explainer,
    method: Method,
    images: np.ndarray,
    classes: np.ndarray,
    *,
    maps: Maps | None = None,
    seed: int = 0,
) -> Estimate | None:
    """Compares maps with those of the same network with its weights shuffled.

    Source: Adebayo et al., "Sanity checks for saliency maps", 2018: a method whose maps stay as
    they are shows the image, not what the model has learnt.

    Args:
        explainer: of the model; see `Explainer.random_weights`.
        method: one of `METHODS`, or a function of images and classes to maps.
        images: float32 [N, H, W, C] in [0, 1].
        classes: int [N].
        maps: of the method for these images (default None).
        seed: of the shuffling and of resampling (int, default 0).

    Returns:
        Spearman's rank correlation of the relevance of pixels, where either map has something.
        None where fewer than half of the pairs have enough to compare (see `spearman`), or the
        network answers as before: then it has no weights that could be shuffled.
    """
    maps = explainer(method, images, classes) if maps is None else maps
    other = Trial(explainer, method, maps, images, classes, seed=seed).under_random_weights
    if other is None:
        return None
    return _similarity(spearman(maps.relevance, other.relevance), seed)


def stability(
    explainer: Explainer,
    method: Method,
    images: np.ndarray,
    classes: np.ndarray,
    *,
    maps: Maps | None = None,
    noise: float = 0.01,
    seed: int = 0,
) -> Estimate | None:
    """Compares maps with those of the images with Gaussian noise, for the same classes.

    Args:
        explainer: of the model.
        method: one of `METHODS`, or a function of images and classes to maps.
        images: float32 [N, H, W, C] in [0, 1].
        classes: int [N].
        maps: of the method for these images (default None).
        noise: standard deviation, for images in [0, 1] (float, default 0.01).
        seed: of the noise and of resampling (int, default 0).

    Returns:
        Spearman's rank correlation of the relevance of pixels, where either map has something.
        None where fewer than half of the pairs have enough to compare (see `spearman`).
    """
    maps = explainer(method, images, classes) if maps is None else maps
    other = explainer(method, noisy(images, seed, noise), classes)
    return _similarity(spearman(maps.relevance, other.relevance), seed)


def noisy(images: np.ndarray, seed: int = 0, noise: float = 0.01) -> np.ndarray:
    """Returns images with Gaussian noise, float32 in [0, 1].

    Args:
        images: float32 [N, H, W, C] in [0, 1].
        seed: of the noise (int, default 0).
        noise: standard deviation (float, default 0.01).
    """
    keys = draws.derive(draws.image_keys(images), seed)
    near = np.clip(images + noise * draws.normal(keys, images.shape[1:]), 0, 1)
    return near.astype(np.float32)


def _similarity(found: np.ndarray, seed: int) -> Estimate | None:
    compared = found[np.isfinite(found)]
    return None if len(compared) < _ENOUGH * len(found) else estimate(compared, seed)
