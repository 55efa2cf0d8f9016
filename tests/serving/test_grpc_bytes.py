"""gRPC requests that are no requests, and tensors that are no tensors: a reason, never a trace."""

import itertools

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2

from robustcls.serving.errors import ServingError
from robustcls.serving.tensors import to_array

CALLS = {
    "PredictionService/Predict": "PredictRequest",
    "PredictionService/Classify": "ClassificationRequest",
    "PredictionService/GetModelMetadata": "GetModelMetadataRequest",
    "ModelService/GetModelStatus": "GetModelStatusRequest",
}
FIELDS = (
    "half_val",
    "float_val",
    "int_val",
    "bool_val",
    "string_val",
    "variant_val",
    "int64_val",
    "tensor_content",
    None,
)


def whole():
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "tiny"
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(np.zeros((1, 12, 16, 1), np.float32)))
    return request.SerializeToString()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "content",
    [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x03\x0a\x01\xff", whole()[:-5]],
    ids=["a tag", "a length", "no UTF-8", "cut off"],
)
def test_what_is_no_message_is_refused_with_a_reason(server, channel, call, content):
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(f"/tensorflow.serving.{call}")(content, timeout=10)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    message = f"request must be a tensorflow.serving.{CALLS[call]}; its bytes are none."
    assert refused.value.details() == message
    assert "Traceback" not in server.log.read_text()


def in_field(kind, field):
    """Two values of a type, put into one of the fields of a proto."""
    proto = tensor_pb2.TensorProto(dtype=kind)
    proto.tensor_shape.dim.add(size=2)
    if field == "tensor_content":
        proto.tensor_content = b"12345678" * 2
    elif field == "string_val":
        proto.string_val.extend([b"a", b"\xff"])
    elif field == "variant_val":
        proto.variant_val.add(type_name="x")
    elif field:
        getattr(proto, field).extend([1, 1])
    return proto


def test_tensors_of_every_type_and_field_are_read_or_refused():
    """Every number a type may have, and beyond; values in every field, and in bytes."""
    reasons = []
    for kind, field in itertools.product(range(140), FIELDS):
        try:
            assert to_array("images", in_field(kind, field), 1000).shape == (2,)
        except ServingError as error:
            reasons.append((error.code, error.message))
    assert {code for code, _ in reasons} == {grpc.StatusCode.INVALID_ARGUMENT}
    assert all("images must" in reason and "\n" not in reason for _, reason in reasons)
