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

from robustcls._notebook import Brief, Briefly
from robustcls._settings import NonNegativeInt, PositiveFloat, PositiveInt, checked
from robustcls._user_code import called
from robustcls._validation import InputError, check_images, check_labels
from robustcls.classifiers.adapters import classifier_of
from robustcls.classifiers.compiling import compile_once
from robustcls.classifiers.folded import weights_of
from robustcls.classifiers.loading import open_model
from robustcls.classifiers.ranges import InputRange, Preprocess
from robustcls.explanation.batching import in_batches
from robustcls.explanation.layers import choose_layer
from robustcls.explanation.methods.maps import Maps, check_maps
from robustcls.explanation.methods.registry import METHODS
from robustcls.explanation.network import Network
from robustcls.explanation.sharing import Shared

# Of the images that go forward at once, 32 MB; more are no quicker, and large ones fill memory.
_MOST_VALUES = 1 << 23
#: One of `METHODS`, or (images, classes) to maps.
Method = str | Callable[[np.ndarray, np.ndarray], Maps]


class Explainer(Briefly):
    """Maps of a classifier, by any of `METHODS`.

    The class explained is given with each image; maps are about its logit, those of `rise` and
    `score_cam` about its probability. A method is compiled when it is first used.

    Args:
        model: any classifier that `attacks.adapt` takes, or what that returned: a Keras model, a
            file or run of one, a SavedModel, which has gradients but no layers, or a function of
            images to scores, of which only outputs can be had. Class activation maps need a
            functional or sequential Keras model; nested models, and a softmax or sigmoids at the
            end, are dealt with in a copy.
        layer: whose feature map class activation maps weigh; the last of at least 4x4 if None (str
            or None, default None).
        batch_size: images the model sees at a time (int >= 1, default 32).
        samples: noisy copies for `smoothgrad` and `vargrad` (int >= 1, default 16).
        noise: their standard deviation, as a share of each image's range (float > 0, default 0.15).
        steps: of `integrated_gradients`, at the middles of equal intervals (int >= 1, default 32).
        masks: random masks of `rise`, coalitions of `kernel_shap` (int >= 1, default 512).
        window: side of the window of `occlusion` in pixels; an eighth of the shorter side if None
            (int >= 1 or None, default None).
        seed: of the noise and the masks, the same for all images (int >= 0, default 0).
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
        masks: PositiveInt = 512,
        window: PositiveInt | None = None,
        seed: NonNegativeInt = 0,
        preprocess: Preprocess | None = None,
        input_range: InputRange | None = None,
        output: str | int | None = None,
    ) -> None:
        opened = open_model(model)
        self._given = dict[str, Any](preprocess=preprocess, input_range=input_range, output=output)
        given = opened if isinstance(model, str | Path) else model
        self.classifier = classifier_of(given, **self._given)
        self.batch_size, self.samples, self.noise = batch_size, samples, noise
        self.steps, self.masks, self.window, self.seed = steps, masks, window, seed
        self.model = opened if isinstance(opened, keras.Model) else self.classifier
        self._network: Network | None = None
        self._state: tuple[Any, ...] | None = None
        self._is_shuffled = False
        self._layer_name = layer
        self._made: dict[Any, Any] = {}
        self.shared = Shared()
        if layer is not None and self.classifier.fixed_shape is not None:
            self.network_and_layer()  # a wrong name is better told now

    def brief(self) -> Brief:
        return Brief(f"of {self.classifier.brief().line}")

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
            images: float32 [N, H, W, C] in [0, 1], N >= 1.
            classes: int [N], the class to explain for each image.
            progress: show a bar (bool, default False).

        Raises:
            InputError: images or classes do not fit the model, or it lacks what the method needs.
        """
        images = check_images(images)
        classes = check_labels(classes, len(images), self.prepare(images), "classes")
        if callable(method):
            with called("explanation method", method):
                name = getattr(method, "__name__", "given")
                return check_maps(name, method(images, classes), images)
        registered = METHODS.find(method, "method")
        kinds: list[Maps] = []

        def planes(images: np.ndarray, classes: np.ndarray) -> np.ndarray:
            with called(f"explanation method '{method}'", registered.function):
                maps = registered.function(self, images, classes)
            kinds[:] = [check_maps(method, maps, images)]
            return np.stack(kinds[0].planes, axis=1)

        size = 1 if registered.one_by_one else min(self.batch_size, len(images))
        bar = method if progress else None
        found = in_batches(planes, images, classes, batch_size=size, progress=bar)
        negative = None if found.shape[1] == 1 else found[:, 1]
        return dataclasses.replace(kinds[0], positive=found[:, 0], negative=negative)

    def prepare(self, images: np.ndarray) -> int:
        """Gets to know the model by a few images; returns the number of its classes.

        Args:
            images: float32 [N, H, W, C] in [0, 1].

        Raises:
            InputError: it does not take them.
        """
        known, shape = self._state, images.shape[1:]
        # What is known of the model is not to be learnt of a random one.
        if self._is_shuffled or (known and known[0] == shape and self.shared.is_open):
            return self.classifier.num_classes
        if (now := self._present_state(images)) == known and now[-1] is not None:
            return self.classifier.num_classes
        count = self.classifier.prepare(images)
        if not self.classifier.is_graph and getattr(self.model, "inputs", None):
            # It was not built before it saw these images.
            self.classifier = classifier_of(self.model, **self._given)
            self.classifier.prepare(images)
        self._state = now = self._present_state(images)
        is_copy = self._network and self._network.is_copy
        if known is None or known[:2] != now[:2] or (is_copy and known != now):
            self._network = Network(self.classifier, self.model, images)
            self._made.clear()
        return count

    def _present_state(self, images: np.ndarray) -> tuple[Any, ...]:
        # What the network is made for, and the weights; None in their place if not known.
        return images.shape[1:], self.classifier.outputs, weights_of(self.model)

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
        return self.classifier.outputs.probabilities(self.scores(images)).numpy()

    def scores(self, images: np.ndarray) -> np.ndarray:
        """Returns the logits, float32 [N, classes], of float32 `images` [N, H, W, C].

        Args:
            images: float32 [N, H, W, C] in [0, 1].
        """
        known, size = self._network or self.classifier, self.passes_at_a_time(images)
        parts = np.split(images, range(size, len(images), size))
        return np.concatenate([known.predict(part) for part in parts])

    def passes_at_a_time(self, images: np.ndarray) -> int:
        """Returns how many images go forward at once, where no gradient is asked for.

        Args:
            images: float32 [N, H, W, C], for their shape.
        """
        return max(1, min(4 * self.batch_size, _MOST_VALUES // int(np.prod(images.shape[1:]))))

    @contextlib.contextmanager
    def random_weights(self, seed: int = 0) -> Iterator[None]:
        """Within the block the maps are those of the same network with random weights.

        The entries of every kernel are shuffled, which keeps their size and nothing else.
        Scales, biases and moving statistics stay. What `model` itself says may change too
        within the block; afterwards everything is as before.

        Args:
            seed: of everything random (int, default 0).

        Raises:
            InputError: the model takes images of any size, and has not seen any.
        """
        self._know()
        if self._network is None:
            raise InputError("images must be known first: call prepare(images); received none.")
        outer, self._is_shuffled = self._is_shuffled, True
        try:
            with self._network.random_weights(seed), self.shared.open():
                yield
        finally:
            self._is_shuffled = outer

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the logits, float32 [N, classes], of float32 `images` [N, H, W, C].

        Args:
            images: float32 [N, H, W, C] in [0, 1].
        """
        return (self._network or self.classifier).logits(images)

    def network(self, method: str = "class activation maps") -> keras.Model:
        """Returns the model as a flat functional graph, images to logits.

        Args:
            method: what needs it (str, default 'class activation maps').

        Raises:
            InputError: its layers cannot be told apart.
        """
        self._know()
        flat = self._network.flat if self._network else None
        if flat is None:
            instead = "gradients" if self.classifier.differentiable else "occlusion"
            raise InputError(
                f"model must be a functional or sequential Keras model for {method}; the layers of "
                f"'{self.classifier.name}' cannot be told apart. Did you mean "
                f"methods=['{instead}']?"
            )
        # A sequential model's graph is that of a functional one.
        return self.remember(
            "network", lambda: keras.Model(flat.inputs[0], flat.outputs[0], name=flat.name)
        )

    def _know(self) -> None:
        """Prepares for images of the model's one shape, where nothing was prepared for yet."""
        if self._network is None and (shape := self.classifier.fixed_shape) is not None:
            self.prepare(np.random.default_rng(0).random((2, *shape), np.float32))

    def network_and_layer(self) -> tuple[keras.Model, keras.layers.Layer]:
        """Returns `network()` and its layer that class activation maps weigh, or raises as it."""
        return (network := self.network()), choose_layer(network, self._layer_name)

    def compiled(
        self, name: str, function: Callable[..., tf.Tensor], images: np.ndarray
    ) -> Callable[..., tf.Tensor]:
        """Returns the compiled form of a function, traced once for any number of images.

        Args:
            name: of the function among those compiled for this model.
            function: (images float32 [n, H, W, C], classes int64 [n]) to a tensor.
            images: float32 [n, H, W, C], for their shape.
        """
        shape = images.shape[1:]
        signature = [tf.TensorSpec([None, *shape], tf.float32), tf.TensorSpec([None], tf.int64)]
        return self.remember((name, shape), lambda: compile_once(function, signature))

    def remember(self, key: Any, make: Callable[[], Any]) -> Any:
        """Returns what `make` returned when it was first called for `key`.

        Args:
            key: hashable; one for each thing that a method makes once.
            make: makes it.
        """
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]
