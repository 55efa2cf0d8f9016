"""Whether a map deserves belief: three tests of a method on a model, with intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

from robustcls.attacks import draws
from robustcls.explanation.explainer import Explainer, Method
from robustcls.explanation.maps import Maps
from robustcls.explanation.resampling import enlarge
from robustcls.explanation.similarity import spearman

# A map that is nearer to the same than to another with the weights shuffled is not of the model.
SURVIVES = 0.5
# Steps of the deletion and insertion curves.
POINTS = 16
_RANDOM_MAPS = 2
_RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean over images and its 95 % interval, by the bootstrap over the images.

    Attributes:
        mean, low, high: the mean and the ends of the interval.
        count: the number of images.
    """

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, eq=False)
class Curves:
    """The probability of the class as pixels are replaced, the most relevant first.

    Attributes:
        deletion, insertion: float64 [N, `POINTS` + 1].
    """

    deletion: np.ndarray
    insertion: np.ndarray


@dataclass(frozen=True)
class Faithfulness:
    """Deletion and insertion curves of the maps of a method.

    Attributes:
        deletion, insertion: the area under each curve, in [0, 1]. Less is better for deletion,
            more for insertion.
        random_deletion, random_insertion: of random maps.
        gain: insertion minus deletion, less that of random maps. Above 0, the map finds what
            counts better than chance.
        share: of pixels replaced, at the points of the curves.
        curves: the mean probability of the class at these points, by the names above.
    """

    deletion: Estimate
    insertion: Estimate
    random_deletion: Estimate
    random_insertion: Estimate
    gain: Estimate
    share: tuple[float, ...]
    curves: dict[str, tuple[float, ...]]

    @property
    def beats_random(self) -> bool:
        """Whether the whole interval of `gain` is above 0."""
        return self.gain.low > 0


@dataclass(frozen=True)
class Quality:
    """What is known of one method on one model.

    Attributes:
        faithfulness: against random maps.
        randomization: rank correlation with the maps of the same network with random weights.
        stability: rank correlation with the maps of slightly noisy copies of the images.
    """

    faithfulness: Faithfulness
    randomization: Estimate
    stability: Estimate

    @property
    def explains_this_model(self) -> bool:
        """False when the maps survive random weights: then they show the images alone."""
        return self.randomization.mean < SURVIVES

    @property
    def verdict(self) -> str:
        """One sentence."""
        if not self.explains_this_model:
            return "Does not explain this model: survives random weights."
        if not self.faithfulness.beats_random:
            return "Not shown to be better than random maps."
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
        seed: of random maps, random weights, noise and resampling.
        progress: show a bar.

    Raises:
        InputError: as calling `explainer`.
    """
    if not isinstance(methods, Mapping):
        methods = {name: name for name in methods}
    found = {}
    random: dict[Any, Curves] = {}
    for name, method in tqdm(
        methods.items(), desc="quality", unit="method", disable=not progress, leave=False
    ):
        maps = explainer(method, images, classes)
        if maps.resolution not in random:
            random[maps.resolution] = random_curves(
                explainer, images, classes, resolution=maps.resolution, seed=seed
            )
        found[name] = Quality(
            faithfulness(
                explainer, maps, images, classes, random=random[maps.resolution], seed=seed
            ),
            randomization(explainer, method, images, classes, maps=maps, seed=seed),
            stability(explainer, method, images, classes, maps=maps, seed=seed),
        )
    return found


def faithfulness(
    explainer: Explainer,
    maps: Maps,
    images: np.ndarray,
    classes: np.ndarray,
    *,
    random: Curves | None = None,
    seed: int = 0,
) -> Faithfulness:
    """Measures deletion and insertion against random maps.

    Source: Petsiuk et al., "RISE: randomized input sampling for explanation of black-box
    models", 2018, section 4.1. Deletion blurs pixels, the most relevant first; insertion begins
    with the blurred image and restores them. The blur has a standard deviation of an eighth of
    the shorter side, for both, so that neither adds edges of its own.

    Args:
        explainer: of the model.
        maps: of the images.
        images: float32 [N, H, W, C] in [0, 1].
        classes: int [N].
        random: what `random_curves` returned for these images at the maps' resolution, when it
            is at hand.
        seed: of random maps, ties and resampling.
    """
    if random is None:
        random = random_curves(explainer, images, classes, resolution=maps.resolution, seed=seed)
    own = _curves(explainer, maps.relevance, images, classes, seed)
    areas = {
        "deletion": _area(own.deletion),
        "insertion": _area(own.insertion),
        "random_deletion": _area(random.deletion),
        "random_insertion": _area(random.insertion),
    }
    gain = (areas["insertion"] - areas["deletion"]) - (
        areas["random_insertion"] - areas["random_deletion"]
    )
    return Faithfulness(
        **{name: estimate(area, seed) for name, area in areas.items()},
        gain=estimate(gain, seed),
        share=tuple(np.linspace(0, 1, POINTS + 1).tolist()),
        curves={
            "deletion": _mean(own.deletion),
            "insertion": _mean(own.insertion),
            "random_deletion": _mean(random.deletion),
            "random_insertion": _mean(random.insertion),
        },
    )


def random_curves(
    explainer: Explainer,
    images: np.ndarray,
    classes: np.ndarray,
    *,
    resolution: tuple[int, int] | None = None,
    seed: int = 0,
) -> Curves:
    """Returns the curves of random maps, the mean of two draws for each image.

    Coarse maps replace patches, which does other things to an image than replacing pixels here
    and there, wherever the patches are. So the random maps have the grain of those they are
    compared with.

    Args:
        explainer: of the model.
        images: float32 [N, H, W, C] in [0, 1].
        classes: int [N].
        resolution: (h, w) of uniform noise that is then enlarged; None for that of the images.
        seed: of the noise.
    """
    shape = images.shape[1:3]
    keys = draws.derive(draws.image_keys(images), seed)
    drawn = []
    for number in range(_RANDOM_MAPS):
        noise = draws.uniform(draws.derive(keys, number + 1), resolution or shape)
        drawn.append(_curves(explainer, enlarge(noise, *shape), images, classes, seed))
    return Curves(
        np.mean([curves.deletion for curves in drawn], axis=0),
        np.mean([curves.insertion for curves in drawn], axis=0),
    )


def randomization(
    explainer: Explainer,
    method: Method,
    images: np.ndarray,
    classes: np.ndarray,
    *,
    maps: Maps | None = None,
    seed: int = 0,
) -> Estimate:
    """Compares maps with those of the same network with its weights shuffled.

    Source: Adebayo et al., "Sanity checks for saliency maps", 2018: a method whose maps stay as
    they are shows the image, not what the model has learnt.

    Args:
        explainer: of the model; see `Explainer.random_weights`.
        method: one of `METHODS`, or a function of images and classes to maps.
        images: float32 [N, H, W, C] in [0, 1].
        classes: int [N].
        maps: of the method for these images.
        seed: of the shuffling and of resampling.

    Returns:
        Spearman's rank correlation of the relevance of pixels.
    """
    maps = explainer(method, images, classes) if maps is None else maps
    with explainer.random_weights(seed):
        other = explainer(method, images, classes)
    return estimate(spearman(maps.relevance, other.relevance), seed)


def stability(
    explainer: Explainer,
    method: Method,
    images: np.ndarray,
    classes: np.ndarray,
    *,
    maps: Maps | None = None,
    noise: float = 0.01,
    seed: int = 0,
) -> Estimate:
    """Compares maps with those of the images with Gaussian noise, for the same classes.

    Args:
        explainer: of the model.
        method: one of `METHODS`, or a function of images and classes to maps.
        images: float32 [N, H, W, C] in [0, 1].
        classes: int [N].
        maps: of the method for these images.
        noise: standard deviation, for images in [0, 1].
        seed: of the noise and of resampling.

    Returns:
        Spearman's rank correlation of the relevance of pixels.
    """
    maps = explainer(method, images, classes) if maps is None else maps
    keys = draws.derive(draws.image_keys(images), seed)
    noisy = np.clip(images + noise * draws.normal(keys, images.shape[1:]), 0, 1)
    other = explainer(method, noisy.astype(np.float32), classes)
    return estimate(spearman(maps.relevance, other.relevance), seed)


def estimate(values: np.ndarray, seed: int = 0) -> Estimate:
    """Returns the mean of a figure of each image, float [N], with its bootstrap interval."""
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), (0.025, 0.975))
    return Estimate(float(values.mean()), float(low), float(high), len(values))


def _order(relevance: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """int64 [N, H, W]: 0 for the most relevant pixel of an image; ties in random order."""
    flat = relevance.reshape(len(relevance), -1)
    order = np.lexsort((draws.uniform(keys, flat.shape[1:]), -flat), axis=1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(flat.shape[1])[None], axis=1)
    return ranks.reshape(relevance.shape)


def _curves(
    explainer: Explainer, relevance: np.ndarray, images: np.ndarray, classes: np.ndarray, seed: int
) -> Curves:
    sigma = min(images.shape[1:3]) / 8
    blurred = gaussian_filter(images, (0, sigma, sigma, 0), mode="nearest")
    order = _order(relevance, draws.derive(draws.image_keys(images), seed))
    pixels = images.shape[1] * images.shape[2]
    ends = {"deletion": (images, blurred), "insertion": (blurred, images)}
    curves: dict[str, list[np.ndarray]] = {name: [] for name in ends}
    for point in range(POINTS + 1):
        replaced = (order < round(point / POINTS * pixels))[..., None]
        for name, (before, after) in ends.items():
            mixed = np.where(replaced, after, before)
            curves[name].append(_probability(explainer, mixed, classes))
    return Curves(**{name: np.stack(values, axis=1) for name, values in curves.items()})


def _probability(explainer: Explainer, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    found = []
    for start in range(0, len(images), 4 * explainer.batch_size):
        chosen = slice(start, start + 4 * explainer.batch_size)
        probabilities = tf.nn.softmax(explainer.classifier.predict(images[chosen])).numpy()
        found.append(np.take_along_axis(probabilities, classes[chosen, None], 1)[:, 0])
    return np.concatenate(found).astype(np.float64)


def _mean(curve: np.ndarray) -> tuple[float, ...]:
    return tuple(curve.mean(axis=0).tolist())


def _area(curve: np.ndarray) -> np.ndarray:
    return (curve[:, :-1] + curve[:, 1:]).mean(axis=1) / 2
