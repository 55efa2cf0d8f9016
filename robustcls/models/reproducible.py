"""What every built graph still needs to be the same on every machine and in every process."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from typing import Any

import keras

from robustcls.models.depthwise_convolution import FastDepthwiseConv2D
from robustcls.models.normalization import FusedBatchNormalization
from robustcls.models.pointwise_convolution import PointwiseConv2D

PREPROCESSING = "preprocess"
# Layers that do the same in less time where images are small.
FASTER: dict[type, Any] = {
    keras.layers.BatchNormalization: FusedBatchNormalization,
    keras.layers.Conv2D: PointwiseConv2D,
    keras.layers.DepthwiseConv2D: FastDepthwiseConv2D,
}
# Some networks come with 0.999 or 0.9997: averages that follow the data only after thousands
# of steps, when a fine-tuning here takes hundreds.
SLOWEST_MOMENTUM = 0.99


def finish(model: keras.Model, seed: int) -> keras.Model:
    """Copies `model` with faster layers, seeded layers and names that never vary.

    What `keras.applications` builds counts its unnamed layers over the whole process, draws
    from the global seed, and may bring scaling layers of its own.
    """
    counts: Counter[str] = Counter()

    def copy(layer: Any) -> Any:
        config = layer.get_config()
        kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__).lower()
        if re.fullmatch(rf"{kind}(_\d+)?", layer.name):
            counts[kind] += 1
            config["name"] = f"{kind}_{counts[kind]}"
        for key, value in config.items():
            own = zlib.crc32(f"{seed} {config['name']} {key}".encode()) & 0x7FFFFFFF
            if key == "seed":
                config[key] = own
            elif key.endswith("_initializer") and "seed" in (value or {}).get("config", {}):
                value["config"]["seed"] = own
        if isinstance(layer, keras.layers.BatchNormalization):
            config["momentum"] = min(config["momentum"], SLOWEST_MOMENTUM)
        return FASTER.get(type(layer), type(layer)).from_config(config)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        foreign = isinstance(layer, keras.layers.Normalization | keras.layers.Rescaling)
        if foreign and layer.name != PREPROCESSING:
            return args[0]
        return layer(*args, **kwargs)

    return keras.models.clone_model(model, clone_function=copy, call_function=call)
