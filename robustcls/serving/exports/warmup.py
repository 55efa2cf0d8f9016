"""Warm-up requests: what a server runs before it answers, so that no first caller waits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import prediction_log_pb2

from robustcls.serving.exports.endpoints import Endpoint

#: Where TensorFlow Serving looks, within a version.
WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"


def write_warmup(
    folder: Path,
    name: str,
    endpoints: Sequence[Endpoint],
    samples: Mapping[str, np.ndarray],
    batch_sizes: Sequence[int],
) -> None:
    """Writes a request for every signature and batch size.

    Args:
        folder: of the version.
        name: the model's name.
        endpoints: the signatures.
        samples: one row of each input by its name, [1, ...].
        batch_sizes: images a request.
    """
    path = folder / WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for endpoint in endpoints:
            for size in batch_sizes:
                log = prediction_log_pb2.PredictionLog()
                row = {spec.name: samples[spec.name] for spec in endpoint.inputs}
                if endpoint.is_classify:
                    request = log.classify_log.request
                    example = tf.train.Example.FromString(row["inputs"][0])
                    request.input.example_list.examples.extend([example] * size)
                else:
                    request = log.predict_log.request
                    for key, value in row.items():
                        request.inputs[key].CopyFrom(_repeated(value, size))
                request.model_spec.name = name
                request.model_spec.signature_name = endpoint.name
                writer.write(log.SerializeToString(deterministic=True))


def read_warmup(folder: Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yields the signature and the inputs of each warm-up request of a version.

    Raises:
        google.protobuf.message.DecodeError, tf.errors.DataLossError: a damaged file.
    """
    path = folder / WARMUP_FILE
    if not path.is_file():
        return
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.WhichOneof("log_type") == "classify_log":
            request = log.classify_log.request
            examples = request.input.example_list.examples
            rows = [example.SerializeToString() for example in examples]
            inputs = {"inputs": np.array(rows, object)}
        else:
            request = log.predict_log.request
            inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        yield request.model_spec.signature_name, inputs


def _repeated(row: np.ndarray, count: int) -> tensor_pb2.TensorProto:
    """One row `count` times; where all its values are the same, as a proto of a single value."""
    proto = tf.make_tensor_proto(row.ravel()[:1])
    if not (row == row.ravel()[0]).all():
        return tf.make_tensor_proto(np.repeat(row, count, axis=0))
    del proto.tensor_shape.dim[:]
    for size in (count, *row.shape[1:]):
        proto.tensor_shape.dim.add(size=size)
    return proto
