"""A signature of a loaded SavedModel, and the check of what comes in for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from robustcls._validation import InputError, check_images, nearest
from robustcls.serving.errors import ServingError, invalid

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Signature:
    """One signature.

    Attributes:
        name: its name.
        definition: what the SavedModel says of it.
        inputs, outputs: shape and type of each tensor by name.
        defaults: rows, [1, ...], of the inputs that a request may leave out.
        function: the loaded function.
    """

    name: str
    definition: meta_graph_pb2.SignatureDef
    inputs: Mapping[str, tf.TensorSpec]
    outputs: Mapping[str, tf.TensorSpec]
    defaults: Mapping[str, np.ndarray]
    function: Callable[..., dict[str, tf.Tensor]]

    @classmethod
    def of(cls, name: str, definition: meta_graph_pb2.SignatureDef, function: Any) -> Signature:
        """Makes one from a SavedModel's definition and its loaded function."""
        defaults = {key: tf.make_ndarray(value) for key, value in definition.defaults.items()}
        inputs, outputs = _specs(definition.inputs), _specs(definition.outputs)
        return cls(name, definition, inputs, outputs, defaults, function)

    @property
    def is_classify(self) -> bool:
        return self.definition.method_name == "tensorflow/serving/classify"

    @property
    def required(self) -> list[str]:
        """The inputs that a request must have."""
        return sorted(set(self.inputs) - set(self.defaults))

    @property
    def by_row(self) -> bool:
        """Whether all tensors have a first dimension that is free."""
        specs = [*self.inputs.values(), *self.outputs.values()]
        return all(spec.shape.rank and spec.shape[0] is None for spec in specs)

    def run(self, inputs: Arrays) -> Arrays:
        """Computes the outputs of checked inputs."""
        outputs = self.function(**{key: tf.constant(value) for key, value in inputs.items()})
        return {key: value.numpy() for key, value in outputs.items()}

    def unknown_input(self, name: str) -> ServingError:
        """Returns the error of an input that there is not."""
        return invalid(
            f"inputs of {self.name} must be among {', '.join(sorted(self.inputs))}; "
            f"received {name[:100]!r}.{nearest(name, self.inputs)}"
        )

    def check_outputs(self, argument: str, names: Sequence[str]) -> None:
        """Raises `ServingError` where `names` are not each an output, or name one twice."""
        for name in names:
            if name not in self.outputs:
                raise invalid(
                    f"{argument} must be among {', '.join(sorted(self.outputs))}; "
                    f"received {name[:100]!r}.{nearest(name, self.outputs)}"
                )
            if list(names).count(name) > 1:
                raise invalid(f"{argument} must name each output once; {name} comes twice.")

    def check(self, inputs: Mapping[str, np.ndarray], max_rows: int) -> Arrays:
        """Returns the inputs with defaults filled in.

        Raises:
            ServingError: unknown or missing names, wrong types or shapes, different numbers of
                rows, none or too many, values that are not finite, images outside [0, 1].
        """
        for name in inputs:
            if name not in self.inputs:
                raise self.unknown_input(name)
        missing = [name for name in self.required if name not in inputs]
        if missing:
            raise invalid(f"inputs of {self.name} must have {', '.join(missing)}; received none.")
        for name, array in inputs.items():
            _check_array(name, array, self.inputs[name])
        counts = {name: len(array) for name, array in inputs.items()}
        count = max(counts.values())
        if min(counts.values()) != count:
            raise invalid(f"inputs must have the same number of rows; received {counts}.")
        if not 1 <= count <= max_rows:
            raise invalid(f"inputs must have 1 to {max_rows} rows; received {count}.")
        filled = {
            name: np.repeat(row, count, axis=0)
            for name, row in self.defaults.items()
            if name not in inputs
        }
        return {**inputs, **filled}


def _specs(infos: Mapping[str, meta_graph_pb2.TensorInfo]) -> dict[str, tf.TensorSpec]:
    return {
        name: tf.TensorSpec(tf.TensorShape(info.tensor_shape), tf.as_dtype(info.dtype))
        for name, info in infos.items()
    }


def _check_array(name: str, array: np.ndarray, spec: tf.TensorSpec) -> None:
    if array.dtype != spec.dtype.as_numpy_dtype:
        received = "string" if array.dtype == object else array.dtype.name
        raise invalid(f"{name} must be {spec.dtype.name}; received {received}.")
    if not spec.shape.is_compatible_with(array.shape):
        expected = ", ".join("N" if size is None else str(size) for size in spec.shape)
        raise invalid(f"{name} must have shape [{expected}]; received {list(array.shape)}.")
    if not array.size:
        return  # The number of rows is wrong, which is said next.
    if name == "images" and array.dtype == np.float32:
        try:
            check_images(array)
        except InputError as error:
            raise invalid(str(error)) from None
