"""A file as torchvision's, with random weights."""

import hashlib
import pickle
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest

from robustcls.models import pretrained


@pytest.fixture(scope="session")
def state_dict():
    """MobileNetV2's parameters by torchvision's names, in its order."""
    rng = np.random.default_rng(0)
    arrays = {}

    def convolution(name, outputs, inputs, size):
        scale = np.sqrt(2 / (inputs * size * size))
        arrays[f"{name}.weight"] = rng.normal(0, scale, (outputs, inputs, size, size))

    def norm(name, channels):
        arrays[f"{name}.weight"] = rng.uniform(0.8, 1.2, channels)
        arrays[f"{name}.bias"] = rng.normal(0, 0.1, channels)
        arrays[f"{name}.running_mean"] = rng.normal(0, 0.1, channels)
        # Smaller variances would amplify rounding from layer to layer.
        arrays[f"{name}.running_var"] = rng.uniform(1.0, 3.0, channels)
        arrays[f"{name}.num_batches_tracked"] = np.array(7, np.int64)

    convolution("features.0.0", 32, 3, 3)
    norm("features.0.1", 32)
    inputs, index = 32, 1
    for expansion, channels, blocks in (
        (1, 16, 1),
        (6, 24, 2),
        (6, 32, 3),
        (6, 64, 4),
        (6, 96, 3),
        (6, 160, 3),
        (6, 320, 1),
    ):
        for _ in range(blocks):
            prefix, hidden, part = f"features.{index}.conv", inputs * expansion, 0
            if expansion > 1:
                convolution(f"{prefix}.0.0", hidden, inputs, 1)
                norm(f"{prefix}.0.1", hidden)
                part = 1
            convolution(f"{prefix}.{part}.0", hidden, 1, 3)
            norm(f"{prefix}.{part}.1", hidden)
            convolution(f"{prefix}.{part + 1}", channels, hidden, 1)
            norm(f"{prefix}.{part + 2}", channels)
            inputs, index = channels, index + 1
    convolution("features.18.0", 1280, 320, 1)
    norm("features.18.1", 1280)
    arrays["classifier.1.weight"] = rng.normal(0, 0.05, (1000, 1280))
    arrays["classifier.1.bias"] = rng.normal(0, 0.1, 1000)
    return {
        name: array if array.dtype == np.int64 else array.astype(np.float32)
        for name, array in arrays.items()
    }


@pytest.fixture
def save_torch(monkeypatch):
    """`save(arrays, path)` in PyTorch's format before version 1.6, without PyTorch."""

    def rebuild(storage, offset, shape, strides, requires_grad, hooks):
        raise AssertionError("only its name is written")

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    names = {"torch": types.ModuleType("torch"), "torch._utils": types.ModuleType("torch._utils")}
    names["torch._utils"]._rebuild_tensor_v2 = rebuild
    for kind in ("FloatStorage", "LongStorage"):
        setattr(names["torch"], kind, type(kind, (), {"__module__": "torch"}))

    class Storage:
        def __init__(self, key, array):
            self.key, self.array = key, array

    class Tensor:
        def __init__(self, key, array):
            self.storage, self.array = Storage(key, array), array

        def __reduce__(self):
            strides = tuple(step // self.array.itemsize for step in self.array.strides)
            return rebuild, (self.storage, 0, self.array.shape, strides, False, OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            if not isinstance(thing, Storage):
                return None
            kind = {"f": "FloatStorage", "i": "LongStorage"}[thing.array.dtype.kind]
            return (
                "storage",
                getattr(names["torch"], kind),
                thing.key,
                "cpu",
                thing.array.size,
                None,
            )

    def save(arrays, path):
        with monkeypatch.context() as patch, open(path, "wb") as file:
            for name, module in names.items():
                patch.setitem(sys.modules, name, module)
            for header in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
                pickle.dump(header, file, protocol=2)
            tensors = OrderedDict(
                (name, Tensor(str(key), array)) for key, (name, array) in enumerate(arrays.items())
            )
            Pickler(file, protocol=2).dump(tensors)
            # PyTorch writes the data in another order than the tensors.
            keys = sorted(str(key) for key in range(len(arrays)))
            pickle.dump(keys, file, protocol=2)
            for key in keys:
                array = list(arrays.values())[int(key)]
                file.write(array.size.to_bytes(8, "little") + array.tobytes("A"))

    return save


@pytest.fixture
def cached_weights(tmp_path, monkeypatch, state_dict, save_torch):
    """An empty home with `state_dict` in its cache as if it were the published file."""
    monkeypatch.setenv("ROBUSTCLS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "cache").mkdir()
    path = tmp_path / "cache" / pretrained.FILE
    save_torch(state_dict, path)
    monkeypatch.setattr(pretrained, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path
