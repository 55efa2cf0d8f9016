"""`Explainer`: maps of what a classifier looks at, each method compiled once."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from robustcls._settings import NonNegativeInt, PositiveFloat, PositiveInt, checked
from robustcls._user_code import called
from robustcls._validation import InputError, check_images, check_labels
from robustcls.classifiers.adapters import classifier_of
from robustcls.classifiers.compiling import compile_once
from robustcls.classifiers.flattening import flat_logits
from robustcls.classifiers.loading import open_model
from robustcls.classifiers.ranges import InputRange, Preprocess
from robustcls.explanation.batching import in_batches
from robustcls.explanation.layers import choose_layer
from robustcls.explanation.methods.logits_model import LogitsModel
from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.methods.registry import METHODS

#: One of `METHODS`, or (images, classes) to maps.
Method = str | Callable[[np.ndarray, np.ndarray], Maps]


class Explainer:
    """Maps of a classifier, by methods of tf-keras-vis in compiled form and integrated gradients.

    The class explained is given with each image, and its logit, not its probability, is what
    the maps are about. A method is compiled when it is first used.

    - `gradients` (Simonyan et al., 2013): the largest gradient over the channels, of either sign.
    - `smoothgrad` (Smilkov et al., 2017): the same of the mean gradient of noisy copies.
    - `integrated_gradients` (Sundararajan et al., 2017): the difference of the logit from a
      black image's, shared out among the pixels.
    - `grad_cam` (Selvaraju et al., 2016), `grad_cam_plus_plus` (Chattopadhyay et al., 2017),
      `layer_cam` (Jiang et al., 2021), `score_cam` (Wang et al., 2020): feature maps of a layer,
      weighed and enlarged to the size of the image.

    Args:
        model: a Keras classifier of any form that `attacks.adapt` takes, a file or run of one, or
            what `attacks.adapt` returned of one. Class activation maps need a functional or
            sequential one; nested models, and a softmax or sigmoids at the end, are dealt with in
            a copy.
        layer: whose feature map class activation maps weigh; the last of at least 4x4 if None (str
            or None, default None).
        batch_size: images the model sees at a time (int >= 1, default 32).
        samples: noisy copies for `smoothgrad` (int >= 1, default 16).
        noise: their standard deviation, as a share of each image's range (float > 0, default 0.15).
        steps: of `integrated_gradients`, at the middles of equal intervals (int >= 1, default 32).
        seed: of the noise, the same for all images (int >= 0, default 0).
        preprocess: what the model wants done to images in [0, 1] first (default None).
        input_range: what the model wants 0 and 1 to be, for example (0, 255) or (-1, 1), instead of
            `preprocess` (default None).
        output: name or number of the output to explain, of a model with several (str, int or None,
            default None).

    Raises:
        InputError: the model is not of this kind, or a setting is unusable.
    """

    @checked
    def __init__(
        self,
        model: Any,
        *,
        layer: str | None = None,
        batch_size: PositiveInt = 32,
        samples: PositiveInt = 16,
        noise: PositiveFloat = 0.15,
        steps: PositiveInt = 32,
        seed: NonNegativeInt = 0,
        preprocess: Preprocess | None = None,
        input_range: InputRange | None = None,
        output: str | int | None = None,
    ) -> None:
        opened = open_model(model)
        self._given = dict[str, Any](preprocess=preprocess, input_range=input_range, output=output)
        given = opened if isinstance(model, str | Path) else model
        self.classifier = classifier_of(given, **self._given)
        if self.classifier.graph is None:
            raise InputError(
                f"model must be a Keras model; received {self.classifier.name}, of which only "
                "outputs can be had. Did you mean its .keras file?"
            )
        self.batch_size = batch_size
        self.samples = samples
        self.noise = noise
        self.steps = steps
        self.seed = seed
        self.model = opened if isinstance(opened, keras.Model) else self.classifier
        self._flat: keras.Model | None = None
        self._made_for: Any = None
        self._layer_name = layer
        self._made: dict[Any, Any] = {}
        if layer is not None and self.classifier.fixed_shape is not None:
            self.network_and_layer()  # a wrong name is better told now

    def __call__(
        self,
        method: Method,
        images: np.ndarray,
        classes: np.ndarray,
        *,
        progress: bool = False,
    ) -> Maps:
        """Returns the maps of a class for each image.

        Args:
            method: one of `METHODS`, or a function of images and classes to maps.
            images: float32 [N, H, W, C] in [0, 1].
            classes: int [N], the class to explain for each image.
            progress: show a bar (bool, default False).

        Raises:
            InputError: the images or classes do not fit the model, an unknown method, or a
                class activation map of a model that has no feature map to weigh.
        """
        images = check_images(images)
        classes = check_labels(classes, len(images), self.prepare(images), "classes")
        if callable(method):
            with called("explanation method", method):
                return method(images, classes)
        registered = METHODS.find(method, "method")
        kinds: list[Maps] = []

        def planes(images: np.ndarray, classes: np.ndarray) -> np.ndarray:
            with called(f"explanation method '{method}'", registered.function):
                maps = registered.function(self, images, classes)
            kinds.append(_checked(method, maps, images))
            return np.stack(kinds[-1].planes, axis=1)

        size = 1 if registered.one_by_one else self.batch_size
        words = method if progress else None
        found = in_batches(planes, images, classes, batch_size=size, progress=words)
        negative = found[:, 1] if found.shape[1] == 2 else None
        return dataclasses.replace(kinds[0], positive=found[:, 0], negative=negative)

    def prepare(self, images: np.ndarray) -> int:
        """Gets to know the model by a few images; returns the number of its classes.

        Args:
            images: float32 [N, H, W, C] in [0, 1].

        Raises:
            InputError: it does not take them.
        """
        count = self.classifier.prepare(images)
        if not self.classifier.is_graph and getattr(self.model, "inputs", None):
            # It was not built before it saw these images.
            self.classifier = classifier_of(self.model, **self._given)
            self.classifier.prepare(images)
        made_for = images.shape[1:], self.classifier.outputs
        if made_for != self._made_for:
            self._flat = flat_logits(self.classifier, images)
            self._made_for = made_for
            self._made.clear()
        return count

    @property
    def layer(self) -> str:
        """The name of the layer that class activation maps are drawn from.

        Raises:
            InputError: there is none.
        """
        return self.network_and_layer()[1].name

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Returns the probabilities, float32 [N, classes], of float32 `images` [N, H, W, C].

        Args:
            images: float32 [N, H, W, C] in [0, 1].
        """
        size = 4 * self.batch_size
        logits = [
            self.classifier.predict(images[start : start + size])
            for start in range(0, len(images), size)
        ]
        return self.classifier.outputs.probabilities(np.concatenate(logits)).numpy()

    @contextlib.contextmanager
    def random_weights(self, seed: int = 0) -> Iterator[None]:
        """Within the block the maps are those of the same network with random weights.

        The entries of every kernel are shuffled, which keeps their size and nothing else.
        Scales, biases and moving statistics stay. What `model` itself says may change too
        within the block; afterwards everything is as before.

        Args:
            seed: of everything random (int, default 0).
        """
        weights = [variable for variable in self._weights if len(variable.shape) > 1]
        kept = [np.array(variable) for variable in weights]
        try:
            for number, (variable, values) in enumerate(zip(weights, kept, strict=True)):
                generator = np.random.default_rng([seed, number])
                variable.assign(generator.permutation(values.ravel()).reshape(values.shape))
            yield
        finally:
            for variable, values in zip(weights, kept, strict=True):
                variable.assign(values)

    @property
    def _weights(self) -> list[Any]:
        if self._flat is not None:
            return self._flat.weights
        if isinstance(self.model, keras.Model):
            return self.model.weights
        graph = self.classifier.graph
        shape = self.classifier.fixed_shape if self._made_for is None else self._made_for[0]
        return graph(shape).weights if graph is not None and shape is not None else []

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the logits, float32 [N, classes], of float32 `images` [N, H, W, C].

        Args:
            images: float32 [N, H, W, C] in [0, 1].
        """
        if self._flat is None:
            return self.classifier.logits(images)
        return tf.cast(self._flat(images, training=False), tf.float32)

    def as_keras_model(self, image_shape: tuple[int, ...]) -> LogitsModel:
        """Returns the compiled logits of images (H, W, C) in the form tf-keras-vis calls.

        Args:
            image_shape: (H, W, C).
        """
        signature = [tf.TensorSpec([None, *image_shape], tf.float32)]
        compiled = self.remember(
            ("logits", image_shape),
            lambda: compile_once(self.logits, signature),
        )
        return LogitsModel(compiled, image_shape)

    def network_and_layer(self) -> tuple[keras.Model, keras.layers.Layer]:
        """Returns the model as a flat graph, and its layer that class activation maps weigh.

        Raises:
            InputError: the model is no graph, or has no such layer.
        """
        shape = self.classifier.fixed_shape
        if self._made_for is None and shape is not None:
            self.prepare(np.random.default_rng(0).random((2, *shape), np.float32))
        if self._flat is None:
            raise InputError(
                "model must be a functional or sequential Keras model for class activation maps; "
                f"the layers of '{self.classifier.name}' cannot be told apart. Did you mean "
                "methods=['gradients']?"
            )
        return self._flat, choose_layer(self._flat, self._layer_name)

    def compiled(
        self, name: str, function: Callable[..., tf.Tensor], images: np.ndarray
    ) -> Callable[..., tf.Tensor]:
        """Returns the compiled form of a function, traced once for any number of images.

        Args:
            name: of the function among those compiled for this model.
            function: (images float32 [n, H, W, C], classes int64 [n]) to a tensor.
            images: float32 [n, H, W, C], for their shape.
        """
        signature = [
            tf.TensorSpec([None, *images.shape[1:]], tf.float32),
            tf.TensorSpec([None], tf.int64),
        ]
        return self.remember(
            (name, images.shape[1:]),
            lambda: compile_once(function, signature),
        )

    def remember(self, key: Any, make: Callable[[], Any]) -> Any:
        """Returns what `make` returned when it was first called for `key`.

        Args:
            key: hashable; one for each thing that a method makes once.
            make: makes it.
        """
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def _checked(name: str, maps: Any, images: np.ndarray) -> Maps:
    """Returns what a method found when it is maps, one for each image."""
    shape = images.shape[:3]
    if not isinstance(maps, Maps) or any(plane.shape != shape for plane in maps.planes):
        came = [plane.shape for plane in maps.planes] if isinstance(maps, Maps) else type(maps)
        raise InputError(f"method '{name}' must return Maps of shape {shape}; received {came}.")
    if any(not (np.isfinite(plane).all() and plane.min() >= 0) for plane in maps.planes):
        raise InputError(f"method '{name}' must return Maps of finite values >= 0.")
    return maps
