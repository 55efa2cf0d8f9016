"""Deletion and insertion: whether what a map marks is what counts."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter

from robustcls._validation import check_images, check_labels
from robustcls.attacks import draws
from robustcls.evaluation.intervals import Estimate, estimate
from robustcls.explanation.explainer import Explainer
from robustcls.explanation.methods.maps import Maps, check_maps
from robustcls.explanation.methods.resampling import enlarge

# Steps of the deletion and insertion curves.
POINTS = 10
_WIDE = 16


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
    models", 2018, section 4.1. Deletion takes pixels away, the most important first; insertion
    begins with nothing and brings them back. What is important, and what nothing is, is what the
    maps say:

    - Maps that share out the difference from a black image (`Maps.attribution`) are ranked as they
      are, what speaks against the class last, and pixels turn black. Their sign says nothing of
      any other replacement.
    - The others, which tell where the logit is sensitive, are ranked by size. Pixels turn black,
      and blurred (standard deviation an eighth of the shorter side), and the probabilities are the
      mean of both: black does nothing to what is black already, a blur nothing to what is smooth.

    Random maps go through the same.

    Args:
        explainer: of the model.
        maps: of the images.
        images: float32 [N, H, W, C] in [0, 1].
        classes: int [N].
        random: what `random_curves` returned for these images and maps of this resolution and
            kind, when it is at hand (default None).
        seed: of random maps, ties and resampling (int, default 0).

    Raises:
        InputError: images or classes do not fit the model, or maps the images.
    """
    images = check_images(images)
    classes = check_labels(classes, len(images), explainer.prepare(images), "classes")
    check_maps("given", maps, images)
    if random is None:
        random = random_curves(
            explainer,
            images,
            classes,
            resolution=maps.resolution,
            attribution=maps.attribution,
            seed=seed,
        )
    return faithfulness_of(curves(explainer, maps, images, classes, seed=seed), random, seed)


def faithfulness_of(own: Curves, random: Curves, seed: int = 0) -> Faithfulness:
    """Returns what curves say; see `faithfulness`.

    Args:
        own: of the maps.
        random: of random maps, for the same images.
        seed: of resampling (int, default 0).
    """
    areas = {
        "deletion": area(own.deletion),
        "insertion": area(own.insertion),
        "random_deletion": area(random.deletion),
        "random_insertion": area(random.insertion),
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


def curves(
    explainer: Explainer, maps: Maps, images: np.ndarray, classes: np.ndarray, *, seed: int = 0
) -> Curves:
    """Returns the curves of maps, one for each image; see `faithfulness`.

    Args:
        explainer: of the model.
        maps: of the images.
        images: float32 [N, H, W, C] in [0, 1].
        classes: int [N].
        seed: of the order of ties (int, default 0).
    """
    return _curves(explainer, maps.relevance, images, classes, maps.attribution, seed)


def random_curves(
    explainer: Explainer,
    images: np.ndarray,
    classes: np.ndarray,
    *,
    resolution: tuple[int, int] | None = None,
    attribution: bool = False,
    seed: int = 0,
) -> Curves:
    """Returns the curves of random maps, one for each image.

    Coarse maps replace patches, which does other things to an image than replacing pixels here
    and there, wherever the patches are. So the random maps have the grain of those they are
    compared with.

    Args:
        explainer: of the model.
        images: float32 [N, H, W, C] in [0, 1].
        classes: int [N].
        resolution: (h, w) of uniform noise that is then enlarged; None for that of the images.
        attribution: as of the maps they are compared with; see `faithfulness` (bool, default
            False).
        seed: of the noise.
    """
    shape = images.shape[1:3]
    keys = draws.derive(draws.image_keys(images), seed, 1)
    noise = draws.uniform(keys, resolution or shape)
    return _curves(explainer, enlarge(noise, *shape), images, classes, attribution, seed)


def in_order(maps: Maps, images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Returns the rank of each pixel, int64 [N, H, W]: 0 for the most important of an image.

    Args:
        maps: of the images.
        images: float32 [N, H, W, C] in [0, 1], of which random order is made for ties.
        seed: of that order (int, default 0).
    """
    return _order(maps.relevance, draws.derive(draws.image_keys(images), seed))


def _order(relevance: np.ndarray, keys: np.ndarray) -> np.ndarray:
    flat = relevance.reshape(len(relevance), -1)
    order = np.lexsort((draws.uniform(keys, flat.shape[1:]), -flat), axis=1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(flat.shape[1])[None], axis=1)
    return ranks.reshape(relevance.shape)


def _curves(
    explainer: Explainer,
    relevance: np.ndarray,
    images: np.ndarray,
    classes: np.ndarray,
    attribution: bool,
    seed: int,
) -> Curves:
    order = _order(relevance, draws.derive(draws.image_keys(images), seed))
    pixels = images.shape[1] * images.shape[2]
    replacements = _replacements(explainer, images, classes, attribution)

    def heights(mixtures: list[np.ndarray]) -> np.ndarray:
        found = explainer.predict(np.concatenate(mixtures))
        labels = np.tile(classes, len(mixtures))[:, None]
        return np.take_along_axis(found, labels, 1).reshape(len(mixtures), -1).astype(np.float64)

    def height(end: np.ndarray) -> np.ndarray:
        return heights([end])[0]

    # Both curves have the same ends, in turn, and so have all maps; what is between goes through
    # the model together.
    whole, *nothings = (
        explainer.shared.once("heights", end, classes, functools.partial(height, end))
        for end in (images, *replacements)
    )
    nothing = np.mean(nothings, axis=0)
    between = [
        (name, point, replacement)
        for name in ("deletion", "insertion")
        for point in range(1, POINTS)
        for replacement in replacements
    ]
    curves = {name: np.zeros((len(images), POINTS + 1)) for name in ("deletion", "insertion")}
    some = max(1, explainer.passes_at_a_time(images) // len(images))
    for first in range(0, len(between), some):
        chosen = between[first : first + some]
        mixtures = []
        for name, point, replacement in chosen:
            replaced = (order < round(point / POINTS * pixels))[..., None]
            ends = (images, replacement) if name == "deletion" else (replacement, images)
            mixtures.append(np.where(replaced, ends[1], ends[0]))
        for (name, point, _), found in zip(chosen, heights(mixtures), strict=True):
            curves[name][:, point] += found / len(replacements)
    for name, ends in (("deletion", (whole, nothing)), ("insertion", (nothing, whole))):
        curves[name][:, 0], curves[name][:, -1] = ends
    return Curves(**curves)


def _replacements(
    explainer: Explainer, images: np.ndarray, classes: np.ndarray, attribution: bool
) -> list[np.ndarray]:
    """What pixels turn to, float32 [N, H, W, C] each; see `faithfulness`."""
    black = np.zeros_like(images)
    if attribution:
        return [black]
    return [black, explainer.shared.once("blurred", images, classes, lambda: _blurred(images))]


def _blurred(images: np.ndarray) -> np.ndarray:
    """By a normal bell; where that is wide by three boxes of its variance, in far less time."""
    sigma = min(images.shape[1:3]) / 8
    if sigma <= _WIDE:
        return gaussian_filter(images, (0, sigma, sigma, 0), mode="nearest")
    side = 2 * int(np.sqrt(sigma**2 + 0.25)) + 1  # odd, or the image would move
    for _ in range(3):
        images = uniform_filter(images, (1, side, side, 1), mode="nearest")
    return images


def _mean(curve: np.ndarray) -> tuple[float, ...]:
    return tuple(curve.mean(axis=0).tolist())


def area(curve: np.ndarray) -> np.ndarray:
    """Returns the area under each curve, float64 [N], by the trapezoidal rule.

    Args:
        curve: float [N, points], the points equally far apart between 0 and 1.
    """
    return (curve[:, :-1] + curve[:, 1:]).mean(axis=1) / 2
