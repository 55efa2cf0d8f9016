"""What both forms of the protocol ask: what there is, whether it is ready, and an inference."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustcls.serving.errors import ServingError, invalid
from robustcls.serving.server.engine import Engine, Target, find_signature
from robustcls.serving.server.open_inference import tensors
from robustcls.serving.server.signature import Arrays

#: The request's parameter that names another signature than `serving_default`.
SIGNATURE = "signature_name"
_PLATFORM = "tensorflow_savedmodel"


@dataclass(frozen=True)
class Inference:
    """A request.

    Attributes:
        model: its name.
        version: a number, a label, or nothing for the newest.
        id: comes back with the answer.
        signature: empty for the default.
        inputs: arrays by name.
        outputs: names of those wanted; all when there are none.
    """

    model: str
    version: str
    id: str
    signature: str
    inputs: dict[str, np.ndarray]
    outputs: tuple[str, ...]

    async def answer(
        self, engine: Engine, api: str, timeout: float | None = None
    ) -> tuple[Arrays, int]:
        """Returns the outputs that are wanted, in that order, and the version that gave them.

        Args:
            engine: answers.
            api: grpc or rest, for the metrics.
            timeout: seconds left to the sender, if it said so.

        Raises:
            ServingError: as `Engine.predict`, or there is no such output.
        """
        target = target_of(self.model, self.version)
        with engine.registry.lease(target.model, target.version, target.label) as served:
            find_signature(served, self.signature).check_outputs("outputs", self.outputs)
        found, version = await engine.predict(
            target, self.signature, self.inputs, api=api, timeout=timeout
        )
        return {name: found[name] for name in self.outputs or found}, version


def target_of(model: str, version: str) -> Target:
    """Returns whom a request is for; a version that is no number is a label.

    Raises:
        ServingError: a number of more than 64 bits.
    """
    if not version:
        return Target(model)
    if not version.isdecimal():
        return Target(model, label=version)
    if int(version) >= 2**63:
        raise invalid("version must be a number of 64 bits, or a label.")
    return Target(model, int(version))


def is_ready(engine: Engine) -> bool:
    """Whether every model has a version that answers."""
    return all(model.versions for model in engine.registry.models.values())


def is_model_ready(engine: Engine, model: str, version: str) -> bool:
    """Whether a version of a model, or any, answers.

    Raises:
        ServingError: there is no such model.
    """
    engine.registry.model(model)
    target = target_of(model, version)
    try:
        with engine.registry.lease(target.model, target.version, target.label):
            return True
    except ServingError:
        return False


def server_metadata() -> dict[str, Any]:
    """Returns what the protocol says of the server."""
    return {
        "name": "robustcls",
        "version": importlib.metadata.version("robustcls"),
        "extensions": ["binary_tensor_data"],
    }


def model_metadata(engine: Engine, model: str, version: str) -> dict[str, Any]:
    """Returns what the protocol says of a model: its versions, and the default signature.

    Raises:
        ServingError: there is no such model or version.
    """
    target = target_of(model, version)
    with engine.registry.lease(target.model, target.version, target.label) as served:
        signature = find_signature(served, "")
    return {
        "name": model,
        "versions": [str(number) for number in sorted(engine.registry.model(model).versions)],
        "platform": _PLATFORM,
        "inputs": [tensors.metadata(name, spec) for name, spec in signature.inputs.items()],
        "outputs": [tensors.metadata(name, spec) for name, spec in signature.outputs.items()],
    }
