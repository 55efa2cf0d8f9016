"""`Familiarity`: how like its training images a classifier finds an image, with a threshold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._notebook import Brief, Briefly
from robustcls._settings import PositiveInt, checked
from robustcls._user_code import called
from robustcls._validation import InputError, check_images
from robustcls.classifiers.classifier import Classifier
from robustcls.data.splits import Split
from robustcls.familiarity.features import Features, features_and_logits, logits_twice
from robustcls.familiarity.method import FamiliarityMethod
from robustcls.familiarity.neighbors import Neighbors, TrainingImages
from robustcls.runs import atomic

#: What a run keeps beside a model.
FILE = "familiarity.npz"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Familiarity(Briefly):
    """What `fit` returns.

    Attributes:
        method: how images are scored.
        threshold: an image is familiar from this score on.
        false_alarm_rate: the share of known images that may be taken for unfamiliar.
        spread: standard deviation of the held-out scores.
        held_out: the number of images that the threshold was taken from.
        of_layer: features are what goes into the last layer; else they are the logits, because
            the model does not show its layers.
        training: the training images that `nearest` looks among.
        classifier: the classifier that it was fitted to.
        extractor: its features, as they were then.
        state: what the method learnt, arrays by name.
    """

    method: FamiliarityMethod
    threshold: float
    false_alarm_rate: float
    spread: float
    held_out: int
    of_layer: bool
    training: TrainingImages
    classifier: Classifier
    extractor: Features
    state: Mapping[str, np.ndarray]

    def brief(self) -> Brief:
        name = self.method.registry_name
        return Brief(
            f"{name}, familiar from {self.threshold:.4g} on, "
            f"{100 * self.false_alarm_rate:g} % false alarms asked, {self.held_out:,} held-out "
            "images"
        )

    @checked
    def score(self, images: np.ndarray | Split, *, batch_size: PositiveInt = 128) -> np.ndarray:
        """Returns how familiar images are, float32 [N]; higher is more familiar.

        Args:
            images: float32 [N, H, W, C] in [0, 1], or a split.
            batch_size: images the model sees at a time (int >= 1, default 128).

        Raises:
            InputError: the images do not fit the model.
        """
        return self.score_features(*self.features(images, batch_size=batch_size))

    def is_familiar(
        self, images: np.ndarray | Split, *, batch_size: PositiveInt = 128
    ) -> np.ndarray:
        """Returns which images are familiar, bool [N].

        Args:
            images: float32 [N, H, W, C] in [0, 1], or a split.
            batch_size: images the model sees at a time (int >= 1, default 128).

        Raises:
            InputError: the images do not fit the model.
        """
        return self.score(images, batch_size=batch_size) >= self.threshold

    @checked
    def nearest(
        self, images: np.ndarray | Split, count: PositiveInt = 3, *, batch_size: PositiveInt = 128
    ) -> Neighbors:
        """Returns the training images whose features are nearest, by the cosine between them.

        Args:
            images: float32 [N, H, W, C] in [0, 1], or a split.
            count: training images for each (int >= 1, default 3).
            batch_size: images the model sees at a time (int >= 1, default 128).

        Raises:
            InputError: the images do not fit the model.
        """
        features, _ = self.features(images, batch_size=batch_size)
        return self.training.nearest(features, count)

    @checked
    def features(
        self, images: np.ndarray | Split, *, batch_size: PositiveInt = 128
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns what the scores are made of: features, float32 [N, D], and logits [N, K].

        Args:
            images: float32 [N, H, W, C] in [0, 1], or a split.
            batch_size: images the model sees at a time (int >= 1, default 128).

        Raises:
            InputError: the images do not fit the model.
        """
        arrays = images.images if isinstance(images, Split) else check_images(images)
        wanted = self.training.probes.shape[1:]
        if arrays.shape[1:] != wanted:
            raise InputError(
                f"images must be of the training images' shape {wanted}; received "
                f"{arrays.shape[1:]}."
            )
        return self.extractor.of(arrays, batch_size)

    def score_features(self, features: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """Returns the scores, float32 [N], of what `features` returned.

        Args:
            features: float32 [N, D].
            logits: float32 [N, K].
        """
        state = self._tensors()
        rows = range(0, len(features), 1024)
        return np.concatenate(
            [self._scored(features[n : n + 1024], logits[n : n + 1024], state) for n in rows]
        )

    def as_classifier(self) -> Classifier:
        """Returns the two classes 0, unfamiliar, and 1, familiar, as what attacks take.

        An attack on it moves images over the threshold: with labels of 0 it makes unfamiliar
        images pass.

            rc.attacks.PGD(epsilon=8 / 255)(fitted.as_classifier(), images, np.zeros(len(images)))
        """
        state = self._tensors()

        def function(images: Any) -> Any:
            scores = self._scored(*self.extractor.function(images), state)
            margins = (scores - np.float32(self.threshold)) / np.float32(self.spread)
            return tf.stack([-margins / 2, margins / 2], axis=1)

        plain = self.extractor.differentiable
        return Classifier(
            function if plain else lambda images: function(images).numpy(),
            name=f"familiarity of {self.classifier.name}",
            differentiable=plain,
            image_shape=self.classifier.image_shape,
            ending="linear",
            range_is_known=True,
        )

    def served(self, network: keras.Model) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
        """Returns the graph of an export: images to `logits`, `familiarity`, `familiar`.

        Args:
            network: the classifier as it is served: flat, functional, float32 images [N, H, W, C]
                in [0, 1] to logits [N, K].
        """
        # Variables are stored once, whatever the number of signatures.
        state = {
            name: tf.Variable(value, trainable=False) for name, value in self._tensors().items()
        }
        centre = self.classifier.outputs.are_probabilities
        both = features_and_logits(network) if self.of_layer else None

        def call(images: tf.Tensor) -> dict[str, tf.Tensor]:
            if both is None:
                logits = network(images, training=False)
                scores = self._scored(*logits_twice(logits, centre=centre), state)
            else:
                features, logits = both(images)
                scores = self._scored(features, logits, state)
            familiar = scores >= tf.constant(self.threshold, tf.float32)
            return {"logits": logits, "familiarity": scores, "familiar": familiar}

        return call

    def save(self, path: Path | str) -> None:
        """Writes it to a file, whole or not at all; `load` reads it.

        Args:
            path: of the file, `familiarity.npz` for example.

        Raises:
            InputError: it cannot be written.
        """
        words = {
            "method": self.method.registry_name,
            "settings": asdict(self.method),
            "threshold": self.threshold,
            "false_alarm_rate": self.false_alarm_rate,
            "spread": self.spread,
            "held_out": self.held_out,
            "of_layer": self.of_layer,
        }
        arrays = {f"state/{name}": value for name, value in self.state.items()}
        arrays |= {f"training/{name}": value for name, value in vars(self.training).items()}
        with atomic(path) as temporary, open(temporary, "wb") as stream:
            arrays["words"] = np.asarray(json.dumps(words))
            np.savez(stream, **arrays)  # type: ignore[arg-type]

    def _tensors(self) -> dict[str, tf.Tensor]:
        kinds = {"b": tf.bool}
        return {
            name: tf.constant(value, kinds.get(value.dtype.kind, tf.float32))
            for name, value in self.state.items()
        }

    def _scored(self, features: Any, logits: Any, state: Mapping[str, Any]) -> tf.Tensor:
        name = self.method.registry_name
        with called(f"familiarity method '{name}'", type(self.method)):
            scores = self.method.score(
                tf.convert_to_tensor(features), tf.convert_to_tensor(logits), state
            )
            scores = tf.cast(scores, tf.float32)
        if scores.shape.rank != 1 or scores.shape[0] not in (None, features.shape[0]):
            raise InputError(
                f"method must give one score an image; {name} gives shape {scores.shape} for "
                f"features {features.shape}."
            )
        return scores
