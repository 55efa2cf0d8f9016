"""`Explainer`: maps of what a classifier looks at, each method compiled once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import scipy.special
import tensorflow as tf

from robustcls._settings import NonNegativeInt, PositiveFloat, PositiveInt, checked
from robustcls._validation import InputError, check_choice, check_images, check_labels
from robustcls.attacks import draws
from robustcls.attacks.gradient import value_and_gradient
from robustcls.classifiers.adapters import classifier_of
from robustcls.explanation.batching import in_batches
from robustcls.explanation.flattening import flatten
from robustcls.explanation.layers import choose_layer
from robustcls.explanation.logits_model import LogitsModel
from robustcls.explanation.maps import Maps
from robustcls.explanation.methods._tf_keras_vis import Saliency
from robustcls.explanation.methods.activation_maps import GRADIENT_CAMS, compile_cam, score_cam
from robustcls.explanation.methods.resampling import enlarge

SENSITIVITIES = ("gradients", "smoothgrad")
METHODS = (*SENSITIVITIES, "integrated_gradients", *GRADIENT_CAMS, "score_cam")

#: A method of one's own: (images, classes) to maps.
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
        model: a Keras classifier, float32 images [N, H, W, C] in [0, 1] to logits or
            probabilities [N, classes]. Class activation maps need a functional or sequential
            one; nested models and a softmax at the end are dealt with in a copy.
        layer: whose feature map class activation maps weigh; the last of at least 4x4 if None.
        batch_size: images the model sees at a time.
        samples: noisy copies for `smoothgrad`.
        noise: their standard deviation, as a share of each image's range.
        steps: of `integrated_gradients`, at the middles of equal intervals.
        seed: of the noise, the same for all images.

    Raises:
        InputError: the model is not of this kind, or a setting is unusable.
    """

    @checked
    def __init__(
        self,
        model: keras.Model,
        *,
        layer: str | None = None,
        batch_size: PositiveInt = 32,
        samples: PositiveInt = 16,
        noise: PositiveFloat = 0.15,
        steps: PositiveInt = 32,
        seed: NonNegativeInt = 0,
    ) -> None:
        if not isinstance(model, keras.Model):
            raise InputError(f"model must be a Keras model; received {type(model).__name__}.")
        self.batch_size = batch_size
        self.samples = samples
        self.noise = noise
        self.steps = steps
        self.seed = seed
        self.model = model
        self.classifier = classifier_of(model)
        self._flat = flatten(model)
        self._layer_name = layer
        self._compiled: dict[Any, Callable[..., tf.Tensor]] = {}
        if layer is not None:
            self._network_and_layer()  # a wrong name is better told now

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
            progress: show a bar.

        Raises:
            InputError: the images or classes do not fit the model, an unknown method, or a
                class activation map of a model that has no feature map to weigh.
        """
        images = check_images(images)
        classes = check_labels(classes, len(images), self.classifier.prepare(images), "classes")
        if callable(method):
            return method(images, classes)
        check_choice("method", method, METHODS)
        words = method if progress else None
        if method in GRADIENT_CAMS or method == "score_cam":
            maps = self._cam(method, images, classes, words)
            return Maps(enlarge(maps, *images.shape[1:3]), resolution=maps.shape[1:])
        function = {
            "gradients": self._gradients,
            "smoothgrad": self._smoothgrad,
            "integrated_gradients": self._integrated_gradients,
        }[method]
        found = in_batches(function, images, classes, batch_size=self.batch_size, progress=words)
        if method in SENSITIVITIES:
            return Maps(np.maximum(found, 0).max(-1), np.maximum(-found, 0).max(-1))
        total = found.sum(-1)
        return Maps(np.maximum(total, 0), np.maximum(-total, 0), attribution=True)

    @property
    def layer(self) -> str:
        """The name of the layer that class activation maps are drawn from.

        Raises:
            InputError: there is none.
        """
        return self._network_and_layer()[1].name

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Returns the probabilities, float32 [N, classes], of float32 `images` [N, H, W, C]."""
        size = 4 * self.batch_size
        logits = [
            self.classifier.predict(images[start : start + size])
            for start in range(0, len(images), size)
        ]
        return scipy.special.softmax(np.concatenate(logits), axis=1)

    @contextlib.contextmanager
    def random_weights(self, seed: int = 0) -> Iterator[None]:
        """Within the block the maps are those of the same network with random weights.

        The entries of every kernel are shuffled, which keeps their size and nothing else.
        Scales, biases and moving statistics stay. What `model` itself says may change too
        within the block; afterwards everything is as before.
        """
        weights = [
            variable for variable in (self._flat or self.model).weights if len(variable.shape) > 1
        ]
        kept = [np.array(variable) for variable in weights]
        try:
            for number, (variable, values) in enumerate(zip(weights, kept, strict=True)):
                generator = np.random.default_rng([seed, number])
                variable.assign(generator.permutation(values.ravel()).reshape(values.shape))
            yield
        finally:
            for variable, values in zip(weights, kept, strict=True):
                variable.assign(values)

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the logits, float32 [N, classes], of float32 `images` [N, H, W, C]."""
        if self._flat is None:
            return self.classifier.logits(images)
        return tf.cast(self._flat(images, training=False), tf.float32)

    def as_keras_model(self, image_shape: tuple[int, ...]) -> LogitsModel:
        """Returns the compiled logits of images (H, W, C) in the form tf-keras-vis calls."""
        key = ("logits", image_shape)
        if key not in self._compiled:
            signature = [tf.TensorSpec([None, *image_shape], tf.float32)]
            self._compiled[key] = tf.function(
                self.logits, input_signature=signature, autograph=False
            )
        return LogitsModel(self._compiled[key], image_shape)

    def _network_and_layer(self) -> tuple[keras.Model, keras.layers.Layer]:
        if self._flat is None:
            raise InputError(
                "model must be a functional or sequential Keras model for class activation maps; "
                f"the layers of '{self.model.name}' cannot be told apart. Did you mean "
                "methods=['gradients']?"
            )
        return self._flat, choose_layer(self._flat, self._layer_name)

    def _gradients(self, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        saliency = Saliency(LogitsModel(self.logits, images.shape[1:]))

        def gradients(images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
            return saliency(
                lambda logits: tf.gather(logits, classes, batch_dims=1),
                images,
                keepdims=True,
                gradient_modifier=None,
                normalize_map=False,
            )

        return self._once("gradients", gradients, images)(images, classes).numpy()

    def _smoothgrad(self, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        # All images get the same noise, so that what differs between maps is not the draw.
        key = np.array([self.seed], np.uint64)
        axes = (1, 2, 3)
        spread = self.noise * (images.max(axes, keepdims=True) - images.min(axes, keepdims=True))
        total = np.zeros_like(images)
        for sample in range(self.samples):
            noise = draws.normal(draws.derive(key, sample), images.shape[1:])
            noisy = (images + spread * noise).astype(np.float32)
            total += self._gradients(noisy, classes)
        return total / self.samples

    def _integrated_gradients(self, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        def gradients(images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
            def score(points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                logits = self.logits(points)
                return tf.gather(logits, classes, batch_dims=1), logits

            return value_and_gradient(score, images)[2]

        compiled = self._once("path", gradients, images)
        total = np.zeros_like(images)
        for step in range(self.steps):
            share = np.float32((step + 0.5) / self.steps)
            total += compiled(share * images, classes).numpy()
        return images * total / self.steps

    def _cam(
        self, method: str, images: np.ndarray, classes: np.ndarray, words: str | None
    ) -> np.ndarray:
        network, layer = self._network_and_layer()
        key = (method, images.shape[1:])
        if method == "score_cam":
            lower = keras.Model(network.inputs, layer.output)

            def features(images: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
                return tf.cast(lower(images, training=False), tf.float32)

            compiled = self._once("features", features, images)
            logits = self.as_keras_model(images.shape[1:])

            def score(images: np.ndarray, classes: np.ndarray) -> np.ndarray:
                return score_cam(
                    images,
                    classes,
                    features=lambda images: compiled(images, classes),
                    predict=lambda images: logits([images])[0],
                    batch_size=4 * self.batch_size,
                )

            return in_batches(score, images, classes, batch_size=1, progress=words)
        if key not in self._compiled:
            self._compiled[key] = compile_cam(method, network, layer, self.batch_size)
        return in_batches(
            self._compiled[key], images, classes, batch_size=self.batch_size, progress=words
        )

    def _once(
        self, name: str, function: Callable[..., tf.Tensor], images: np.ndarray
    ) -> Callable[..., tf.Tensor]:
        """The compiled form of a function of images and classes, traced for any number of them."""
        key = (name, images.shape[1:])
        if key not in self._compiled:
            signature = [
                tf.TensorSpec([None, *images.shape[1:]], tf.float32),
                tf.TensorSpec([None], tf.int64),
            ]
            self._compiled[key] = tf.function(function, input_signature=signature, autograph=False)
        return self._compiled[key]
