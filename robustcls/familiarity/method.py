"""The contract of a method that says how familiar an image is to a classifier."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import tensorflow as tf

from robustcls._settings import check_settings
from robustcls._validation import InputError
from robustcls.familiarity.registry import METHODS


@dataclass(frozen=True, eq=False, kw_only=True)
class Known:
    """What a classifier makes of its training images: what a method is fitted to.

    Attributes:
        features: float32 [N, D], what goes into the last layer; the logits where a model does not
            say what its last layer is.
        logits: float32 [N, K].
        labels: int64 [N].
        weights: float32 [D, K] of the last layer: logits = features · weights + bias. One for each
            logit itself where the features are the logits.
        bias: float32 [K].
        independent: every class has a sigmoid of its own in place of a softmax over all.
    """

    features: np.ndarray
    logits: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    independent: bool


@dataclass(frozen=True, kw_only=True)
class FamiliarityMethod(abc.ABC):
    """A rule that gives an image a score, higher for what is more like the training images.

    A subclass defines `score`, and `fit` where it has something to learn. It is then a method like
    every other: in `METHODS` under its name in lower case, in `robustcls familiarity`, in exports
    and in the contract tests. Its settings are fields: then it is decorated with
    `@dataclass(frozen=True, kw_only=True)`.

        class Margin(rc.familiarity.FamiliarityMethod, name="margin"):
            def score(self, features, logits, state):
                best = tf.math.top_k(logits, 2).values
                return best[:, 0] - best[:, 1]

    Raises:
        InputError: a setting is out of range, or the name of a subclass is taken.
    """

    registry_name: ClassVar[str] = "method"

    def __init_subclass__(cls, *, name: str | None = None) -> None:
        """Registers the subclass.

        Args:
            name: in `METHODS`; the class's in lower case when None.
        """
        super().__init_subclass__()
        cls.registry_name = cls.__name__.lower() if name is None else name
        if cls.score is FamiliarityMethod.score:
            raise InputError(
                f"familiarity method {cls.__name__} must define score; see "
                "help(robustcls.familiarity.FamiliarityMethod)."
            )
        METHODS.add(cls.registry_name, cls)

    def __post_init__(self) -> None:
        check_settings(self)

    def fit(self, known: Known) -> dict[str, np.ndarray]:
        """Returns what `score` needs, arrays by name; nothing by default.

        Args:
            known: what the classifier makes of its training images.
        """
        del known
        return {}

    @abc.abstractmethod
    def score(
        self, features: tf.Tensor, logits: tf.Tensor, state: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        """Returns how familiar images are, float32 [N]; higher is more familiar.

        It becomes part of the served graph, and attacks take its gradient: TensorFlow operations
        alone, nothing random, each image by itself.

        Args:
            features: float32 [N, D].
            logits: float32 [N, K].
            state: what `fit` returned, as tensors.
        """
