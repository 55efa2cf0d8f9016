"""Adversarial neighbours of any inputs, with the steps of Neural Structured Learning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from robustcls._settings import PositiveInt, check_settings
from robustcls._validation import InputError, check_choice
from robustcls.distribution.replicas import draw_for_replica, replica_count
from robustcls.training.adversarial._nsl import nsl
from robustcls.training.batches import named, packed
from robustcls.training.config import GradNorm, StepSize

Gradients = dict[Any, Any]
# What NSL calls the settings.
_OF_NSL = {
    "adv_step_size": "step_size",
    "adv_grad_norm": "grad_norm",
    "pgd_iterations": "iterations",
    "pgd_epsilon": "epsilon",
}


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """How far, and where, inputs are moved along the gradient of the loss.

    Args:
        step_size: length of each step, in units of the inputs' range (float in (0, 1], default
            8/255).
        grad_norm: "infinity", "l2" or "l1" ("infinity", "l2" or "l1", default "infinity").
        iterations: number of steps (int >= 1, default 1).
        epsilon: radius of the ball that each step is projected to; None does not project (float in
            (0, 1] or None, default None).
        random_start: begin at a random point of the ball of `epsilon` (bool, default False).
        feature_mask: in [0, 1], what each step is multiplied by, broadcast over the batch; a
            dictionary for some of several inputs (default None).
        clip_value_min: lowest value of a neighbour; a dictionary for some of several inputs, None
            for no bound (default None).
        clip_value_max: highest value, as `clip_value_min` (default None).
        width: of the inputs' range, the unit of `step_size` and `epsilon` (float, default 1.0).

    Raises:
        InputError: a setting is out of its range, or two contradict each other.
    """

    step_size: StepSize = 8 / 255
    grad_norm: GradNorm = "infinity"
    iterations: PositiveInt = 1
    epsilon: StepSize | None = None
    random_start: bool = False
    feature_mask: Any = None
    clip_value_min: Any = None
    clip_value_max: Any = None
    width: float = 1.0

    def __post_init__(self) -> None:
        check_settings(self)
        if self.grad_norm == "l1" and (self.epsilon is not None or self.random_start):
            raise InputError(
                "grad_norm must be 'infinity' or 'l2' with epsilon or random_start, since there "
                "is no projection to an L1 ball; received 'l1'."
            )
        if self.random_start and self.epsilon is None:
            raise InputError(
                "random_start must come with epsilon, the radius of its ball; received None. "
                f"Did you mean epsilon={self.step_size:.4g}, one step?"
            )
        for mask in named(self.feature_mask).values():
            values = np.asarray(0.0 if mask is None else mask)
            if values.dtype.kind not in "biuf":
                raise InputError(f"feature_mask must be numbers in [0, 1]; received {mask!r}.")
            if values.min() < 0 or values.max() > 1:
                raise InputError(
                    f"feature_mask must be numbers in [0, 1]; received values from {values.min()} "
                    f"to {values.max()}."
                )

    def changed(self, settings: Mapping[str, Any]) -> Neighbours:
        """Returns neighbours with other settings.

        Args:
            settings: by their names here or in NSL.

        Raises:
            InputError: there is no such setting, or one is out of its range.
        """
        known = [name for name in vars(self) if name != "width"]
        for name in settings:
            check_choice("setting", name, [*known, *_OF_NSL])
        return replace(self, **{_OF_NSL.get(name, name): v for name, v in settings.items()})

    def of(
        self,
        inputs: Any,
        gradients: Gradients | None,
        loss_of: Callable[[Any], tf.Tensor],
        draw: Callable[[], tf.Tensor],
    ) -> Any:
        """Returns the neighbours, in the form of `inputs`.

        Args:
            inputs: a tensor, a list of tensors or a dictionary; those that are no floats stay.
            gradients: of the loss with respect to the float ones, by name or position. They are
                the first step; not needed for a random start.
            loss_of: the loss of other inputs, a float scalar.
            draw: returns a new seed [2], for the random start.

        Raises:
            InputError: the loss has no gradient with respect to any input.
        """
        every = named(inputs)
        moving = floats(inputs)
        config = self._config(moving)
        for name, mask in config.feature_mask.items():
            _require_broadcast(mask, moving[name])

        def loss_at(tensors: Mapping[Any, Any]) -> tf.Tensor:
            return loss_of(packed({**every, **tensors}, inputs))

        if self.random_start:
            moved = self._from_random_start(moving, config, loss_at, draw)
        else:
            moved, _ = nsl.lib.gen_adv_neighbor(
                moving,
                None,
                config,
                gradient_tape=_Known(_found(gradients or {})),
                pgd_model_fn=loss_at,
                pgd_loss_fn=lambda labels, loss: loss,
                # Batch norm over several replicas cannot be in a loop of the graph.
                use_while_loop=replica_count() == 1,
            )
        moved = {key: tf.stop_gradient(tensor) for key, tensor in moved.items()}
        return packed({**every, **moved}, inputs)

    def _from_random_start(
        self,
        inputs: dict[Any, tf.Tensor],
        config: Any,
        loss_at: Callable[[Mapping[Any, Any]], tf.Tensor],
        draw: Callable[[], tf.Tensor],
    ) -> dict[Any, tf.Tensor]:
        # NSL draws its start from TensorFlow's global generator, which a resumed run cannot
        # restore; so the start is drawn here, and the steps are NSL's own.
        norm, step_size = config.adv_grad_norm, config.adv_step_size
        offsets = _random_in_ball(inputs, config.pgd_epsilon, norm, draw)
        offsets = _masked(offsets, config)
        for _ in range(config.pgd_iterations):
            points = _clipped({key: inputs[key] + offsets[key] for key in inputs}, config)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(points)
                loss = loss_at(points)
            gradients = _masked(_found(tape.gradient(loss, points)), config)
            gradients = {
                key: tf.where(tf.math.is_finite(gradient), gradient, 0.0)
                for key, gradient in gradients.items()
                if gradient is not None
            }
            directions = nsl.lib.maximize_within_unit_norm(gradients, norm)
            offsets = {
                key: points[key] - inputs[key] + step_size * directions.get(key, 0.0)
                for key in inputs
            }
            offsets = nsl.lib.project_to_ball(offsets, config.pgd_epsilon, norm)
        return _clipped({key: inputs[key] + offsets[key] for key in inputs}, config)

    def _config(self, inputs: Mapping[Any, tf.Tensor]) -> Any:
        """NSL's own settings, in which it looks masks and bounds up by name."""
        return nsl.configs.AdvNeighborConfig(
            feature_mask=_by_name(self.feature_mask, inputs, np.float32),
            adv_step_size=self.width * self.step_size,
            adv_grad_norm=self.grad_norm,
            clip_value_min=_by_name(self.clip_value_min, inputs),
            clip_value_max=_by_name(self.clip_value_max, inputs),
            pgd_iterations=int(self.iterations),
            pgd_epsilon=None if self.epsilon is None else self.width * self.epsilon,
        )


def floats(inputs: Any) -> dict[Any, tf.Tensor]:
    """Returns those inputs that can be moved, by name or position.

    Args:
        inputs: a tensor, a list of tensors or a dictionary.
    """
    return {
        key: tensor
        for key, tensor in named(inputs).items()
        if isinstance(tensor, tf.Tensor) and tensor.dtype.is_floating
    }


class _Known:
    """Stands where NSL expects a tape, and hands it the gradients that are already computed."""

    def __init__(self, gradients: Gradients) -> None:
        self._gradients = gradients

    def gradient(self, loss: Any, sources: list[tf.Tensor]) -> list[tf.Tensor]:
        del loss, sources
        return list(self._gradients.values())


def _found(gradients: Gradients) -> Gradients:
    if all(gradient is None for gradient in gradients.values()):
        raise InputError(
            "base_model must be differentiable; its loss has no gradient with respect to the "
            "inputs."
        )
    return gradients


def _by_name(given: Any, inputs: Mapping[Any, tf.Tensor], dtype: Any = None) -> dict[Any, Any]:
    if given is None:
        return {}
    if isinstance(given, Mapping):
        if len(given) == len(inputs) == 1:
            given = dict(zip(inputs, given.values(), strict=True))
        for name in given:
            check_choice("inputs", name, map(str, inputs))
    elif isinstance(given, list | tuple) and len(inputs) > 1:
        given = dict(zip(inputs, given, strict=True))
    else:
        given = dict.fromkeys(inputs, given)
    return {
        name: None if value is None else np.asarray(value, dtype or inputs[name].dtype.name)
        for name, value in given.items()
    }


def _require_broadcast(mask: Any, tensor: tf.Tensor) -> None:
    """Refuses a mask that has more values than one example, or others."""
    own, shape = (() if mask is None else mask.shape), tensor.shape[1:].as_list()
    inner = own[-len(shape) :] if shape else ()
    fits = all(
        one in (1, side) or side is None
        for one, side in zip(reversed(inner), reversed(shape), strict=False)
    )
    if not fits or len(own) > len(shape) + 1:
        raise InputError(
            f"feature_mask must be of the shape of an input, {tuple(shape)}; received {own}."
        )


def _masked(tensors: Gradients, config: Any) -> Gradients:
    return {
        key: tensor
        if tensor is None or config.feature_mask.get(key) is None
        else tensor * tf.cast(config.feature_mask[key], tensor.dtype)
        for key, tensor in tensors.items()
    }


def _clipped(tensors: dict[Any, tf.Tensor], config: Any) -> dict[Any, tf.Tensor]:
    clipped = {}
    for key, tensor in tensors.items():
        low, high = config.clip_value_min.get(key), config.clip_value_max.get(key)
        tensor = tensor if low is None else tf.maximum(tensor, tf.cast(low, tensor.dtype))
        clipped[key] = tensor if high is None else tf.minimum(tensor, tf.cast(high, tensor.dtype))
    return clipped


def _random_in_ball(
    inputs: dict[Any, tf.Tensor], radius: float, norm: Any, draw: Callable[[], tf.Tensor]
) -> dict[Any, tf.Tensor]:
    """A uniform draw from the L-infinity or L2 ball for each example, over all its inputs."""
    seed = tf.cast(draw(), tf.int32)
    drawn = {}
    for number, (key, tensor) in enumerate(inputs.items()):
        own, shape = seed + 2 * number, tf.shape(tensor)
        if norm == nsl.configs.NormType.INFINITY:
            draw = partial(
                tf.random.stateless_uniform,
                seed=own,
                minval=-radius,
                maxval=radius,
                dtype=tensor.dtype,
            )
        else:
            draw = partial(tf.random.stateless_normal, seed=own, dtype=tensor.dtype)
        drawn[key] = draw_for_replica(draw, shape)
    if norm == nsl.configs.NormType.INFINITY:
        return drawn
    flat = [tf.reshape(tensor, [tf.shape(tensor)[0], -1]) for tensor in drawn.values()]
    length = tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(tensor), -1) for tensor in flat]))
    count = tf.add_n([tf.shape(tensor)[1] for tensor in flat])
    draw = partial(tf.random.stateless_uniform, seed=seed + 1, dtype=length.dtype)
    quantile = draw_for_replica(draw, tf.shape(length))
    scale = radius * quantile ** (1.0 / tf.cast(count, length.dtype)) / length
    return {
        key: tensor * tf.reshape(scale, [-1, *[1] * (tensor.shape.rank - 1)])
        for key, tensor in drawn.items()
    }
