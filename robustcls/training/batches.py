"""The forms of a batch: (inputs, labels, weights), or one dictionary that holds all three."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from robustcls._validation import InputError, nearest


@dataclass(frozen=True)
class BatchForm:
    """Takes batches apart.

    Args:
        label_keys: names of the labels in dictionaries, one for each output.
        sample_weight_key: name of the weights in dictionaries.
    """

    label_keys: tuple[str, ...] = ("label",)
    sample_weight_key: str = "sample_weight"

    def unpack(self, data: Any) -> tuple[Any, Any, Any]:
        """Returns inputs, labels and sample weights of a batch; None for what it lacks.

        Args:
            data: what Keras hands to a step.

        Raises:
            InputError: a dictionary without labels.
        """
        inputs, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        if isinstance(inputs, Mapping):
            found = [inputs[key] for key in self.label_keys if key in inputs]
            if len(found) == len(self.label_keys):
                labels = found[0] if len(found) == 1 else tuple(found)
            weights = inputs.get(self.sample_weight_key, weights)
            if labels is None:
                names = " and ".join(f"'{key}'" for key in self.label_keys)
                raise InputError(
                    f"a dictionary batch must hold {names} beside the images; received the keys "
                    f"{sorted(inputs)}. Did you mean label_key=...?"
                )
        elif labels is None:
            raise InputError("batches must be (images, labels); received images alone.")
        return self.inputs(inputs), labels, weights

    def inputs(self, inputs: Any) -> Any:
        """Returns what of a batch's first part is for the model: no labels, no weights.

        Args:
            inputs: a tensor, a list of tensors or a dictionary.
        """
        if not isinstance(inputs, Mapping):
            return inputs
        beside = (*self.label_keys, self.sample_weight_key)
        return {key: value for key, value in inputs.items() if key not in beside}

    def call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Calls Keras' `fit` or a sibling with labels and weights taken out of dictionaries.

        So they are arguments of their own, as `class_weight`, `sample_weight` and distribution
        need them.

        Args:
            method: of a Keras model.
            *args: of the method.
            **kwargs: of the method.

        Raises:
            InputError: weights are given twice, or class weights for what cannot be weighted.
        """
        given = dict(inspect.signature(method).bind(*args, **kwargs).arguments)
        given |= given.pop("kwargs", {})
        parts = [given.pop(name, None) for name in ("x", "y", "sample_weight")]
        dataset = isinstance(parts[0], keras.utils.PyDataset)
        if dataset and given.get("class_weight") and isinstance(parts[0][0], Mapping):
            raise InputError(
                "class_weight must come with batches (images, labels); received a PyDataset of "
                "dictionaries."
            )
        names = ("x", "y", "sample_weight")
        given |= dict(zip(names, self._apart(*parts), strict=True))
        if given.get("validation_data") is not None:
            parts = keras.utils.unpack_x_y_sample_weight(given["validation_data"])
            given["validation_data"] = self._apart(*parts)
        return method(**given)

    def _apart(self, x: Any, y: Any, sample_weight: Any) -> Sequence[Any]:
        if isinstance(x, Mapping) and y is None and self._has_labels(x):
            if sample_weight is not None and self.sample_weight_key in x:
                raise InputError(
                    "sample_weight must be given once; received an argument and "
                    f"'{self.sample_weight_key}' in the batch."
                )
            inputs, labels, weights = self.unpack((x, None, sample_weight))
            return inputs, labels, weights
        if isinstance(x, tf.data.Dataset) and self._has_labels(x.element_spec):
            return x.map(self._tuple), y, sample_weight
        if isinstance(x, types.GeneratorType):
            batches = (self._tuple(batch) if self._has_labels(batch) else batch for batch in x)
            return batches, y, sample_weight
        return x, y, sample_weight

    def _has_labels(self, batch: Any) -> bool:
        return isinstance(batch, Mapping) and all(key in batch for key in self.label_keys)

    def _tuple(self, batch: Any) -> tuple[Any, ...]:
        inputs, labels, weights = self.unpack(batch)
        return (inputs, labels) if weights is None else (inputs, labels, weights)


def named(inputs: Any) -> dict[Any, Any]:
    """Returns the tensors of a model's inputs by name or position.

    Args:
        inputs: a tensor, a list of tensors or a dictionary.
    """
    if isinstance(inputs, Mapping):
        return dict(inputs)
    return dict(enumerate(inputs)) if isinstance(inputs, list | tuple) else {"": inputs}


def packed(tensors: Mapping[Any, Any], like: Any) -> Any:
    """Returns inputs of the form of `like`, the inverse of `named`.

    Args:
        tensors: by name or position.
        like: a tensor, a list of tensors or a dictionary.
    """
    if isinstance(like, Mapping):
        return dict(tensors)
    if isinstance(like, list | tuple):
        return [tensors[position] for position in range(len(like))]
    return tensors[""]


def arranged(model: Any, inputs: Any) -> Any:
    """Returns the inputs of a functional or sequential model in the form that it takes.

    Args:
        model: of inputs that have names; others get theirs as they are.
        inputs: a tensor, a list of tensors or a dictionary by name, of which a single one may have
            any, and what the model does not take is left out.

    Raises:
        InputError: one is missing or of another shape, or they are in another form.
    """
    graph = getattr(model, "inputs", None)
    if not graph:
        return inputs
    structure: Any = getattr(model, "input", None)
    in_dictionary = isinstance(structure, Mapping)
    names = list(structure) if in_dictionary else [tensor.name for tensor in graph]
    by_name = isinstance(inputs, Mapping)
    if not by_name:
        parts = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        # Keras would take a list for a dictionary in the order of its names.
        if len(parts) != len(names) or (in_dictionary and len(names) > 1):
            raise InputError(
                f"inputs must be {_form(names, in_dictionary)} for the model {model.name}; "
                f"received {_received(inputs)}."
            )
        inputs = dict(zip(names, parts, strict=True))
    elif len(names) == len(inputs) == 1:
        inputs = dict(zip(names, inputs.values(), strict=True))
    lacking = [name for name in names if name not in inputs]
    if lacking:
        raise InputError(
            f"a dictionary batch must hold the inputs of {model.name}, {', '.join(names)}; "
            f"received {', '.join(sorted(map(str, inputs)))}."
            + nearest(lacking[0], map(str, inputs))
        )
    # Keras sorts the inputs of a dictionary, and takes dictionaries of lists.
    wanted = structure if in_dictionary else dict(zip(names, graph, strict=True))
    for name, tensor in wanted.items():
        _check_shape(model, name, inputs[name], getattr(tensor, "shape", None))
    if len(names) == 1 and not in_dictionary:
        return inputs[names[0]]
    found = {name: inputs[name] for name in names}
    return found if in_dictionary or by_name else list(found.values())


def _check_shape(model: Any, name: str, given: Any, wanted: Sequence[int | None] | None) -> None:
    """Refuses what Keras does not take, which adds or drops a last side of 1 by itself."""
    shape = getattr(given, "shape", None)
    if wanted is None or shape is None or getattr(shape, "rank", 0) is None:
        return
    sides, expected = list(shape), list(wanted)
    if len(sides) == len(expected) - 1 and expected[-1] == 1:
        sides.append(1)
    elif len(sides) == len(expected) + 1 and sides[-1] in (None, 1):
        sides.pop()
    pairs = zip(sides[1:], expected[1:], strict=False)
    fits = all(None in pair or pair[0] == pair[1] for pair in pairs)
    if len(sides) != len(expected) or not fits:
        raise InputError(
            f"input {name} of the model {model.name} must have the shape {_sides(wanted)}; "
            f"received {_sides(shape)}."
        )


def _sides(shape: Iterable[int | None]) -> str:
    return f"({', '.join('N' if side is None else str(side) for side in shape)})"


def _form(names: Sequence[str], in_dictionary: bool) -> str:
    listed = ", ".join(names)
    if in_dictionary:
        return f"a dictionary of {listed}"
    return f"a list of {len(names)}, {listed}," if len(names) > 1 else "one array"


def _received(inputs: Any) -> str:
    if isinstance(inputs, list | tuple):
        return f"a {type(inputs).__name__} of {len(inputs)}"
    return "one array" if hasattr(inputs, "shape") else type(inputs).__name__
