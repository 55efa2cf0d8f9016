"""`Trial`: the maps of one method, and what measures of them ask for, made once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from robustcls.attacks import draws
from robustcls.explanation.explainer import Explainer, Method
from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.quality.faithfulness import Curves, curves, random_curves

# Noisy neighbours of each image, and how far off they are, for images in [0, 1].
NEIGHBOURS = 2
RADIUS = 0.02
# Of the largest probability; a network that answers alike with its weights shuffled has none to
# shuffle that count.
_ALIKE = 1e-5


@dataclass
class Trial:
    """The maps of one method on a model.

    Attributes:
        explainer: of the model.
        method: one of `METHODS`, or a function of images and classes to maps.
        maps: of the method for the images.
        images: float32 [N, H, W, C] in [0, 1].
        classes: int [N].
        masks: bool [N, H, W], where what counts is; None where that is not known.
        seed: of everything random.
        shared: what the trials of all methods on the same images have in common.
    """

    explainer: Explainer
    method: Method
    maps: Maps
    images: np.ndarray
    classes: np.ndarray
    masks: np.ndarray | None = None
    seed: int = 0
    shared: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """Returns what `make` made when a trial first asked for `key`.

        Args:
            key: hashable.
            make: makes it; it must not depend on the method.
        """
        if key not in self.shared:
            self.shared[key] = make()
        return self.shared[key]

    @cached_property
    def curves(self) -> Curves:
        """Deletion and insertion."""
        return curves(self.explainer, self.maps, self.images, self.classes, seed=self.seed)

    @property
    def random_curves(self) -> Curves:
        """The same of random maps of this resolution and kind."""
        resolution, attribution = self.maps.resolution, self.maps.attribution
        return self.once(
            ("random curves", resolution, attribution),
            lambda: random_curves(
                self.explainer,
                self.images,
                self.classes,
                resolution=resolution,
                attribution=attribution,
                seed=self.seed,
            ),
        )

    @cached_property
    def under_random_weights(self) -> Maps | None:
        """The maps of the network with its weights shuffled; None where it answers as before."""
        if answers_alike(self.explainer, self.images, self.seed):
            return None
        with self.explainer.random_weights(self.seed):
            return self.explainer(self.method, self.images, self.classes)

    @cached_property
    def of_neighbours(self) -> list[Maps]:
        """The maps of `NEIGHBOURS` copies with uniform noise of at most `RADIUS`."""
        keys = draws.image_keys(self.images)
        found = []
        for number in range(NEIGHBOURS):
            noise = draws.uniform(draws.derive(keys, self.seed, number), self.images.shape[1:])
            near = np.clip(self.images + RADIUS * (2 * noise - 1), 0, 1).astype(np.float32)
            found.append(self.explainer(self.method, near, self.classes))
        return found


def answers_alike(explainer: Explainer, images: np.ndarray, seed: int) -> bool:
    """Returns whether a network answers the same with its weights shuffled.

    Args:
        explainer: of the model.
        images: float32 [N, H, W, C] in [0, 1].
        seed: of the shuffling.
    """
    explainer.prepare(images)
    before = explainer.predict(images)
    with explainer.random_weights(seed):
        after = explainer.predict(images)
    return bool(np.abs(after - before).max() <= _ALIKE)


def trials_of(
    explainer: Explainer,
    methods: Mapping[str, Method],
    images: np.ndarray,
    classes: np.ndarray,
    masks: np.ndarray | None,
    seed: int,
    has_weights: bool,
) -> dict[str, Trial]:
    """Returns the maps of all methods for a batch, by name, those of random weights among them.

    Args:
        explainer: of the model.
        methods: by name.
        images: float32 [n, H, W, C] in [0, 1].
        classes: int [n].
        masks: bool [n, H, W]; None where it is not known where what counts is.
        seed: of everything random.
        has_weights: the model does not answer alike with its weights shuffled.
    """
    shared: dict[Any, Any] = {}
    trials = {}
    for name, method in methods.items():
        maps = explainer(method, images, classes)
        trials[name] = Trial(explainer, method, maps, images, classes, masks, seed, shared)
    with explainer.random_weights(seed) if has_weights else contextlib.nullcontext():
        for name, method in methods.items():
            other = explainer(method, images, classes) if has_weights else None
            trials[name].under_random_weights = other
    return trials
