"""Reads weights that PyTorch saved, without PyTorch and without running what is in the file."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Storage:
    """A flat buffer, filled after the objects that point into it were read."""

    def __init__(self, dtype: np.dtype, size: int):
        self.dtype = dtype
        self.size = size
        self.values = np.empty(0, dtype)


class _Tensor:
    def __init__(self, storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: Any):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def numpy(self) -> np.ndarray:
        values = self.storage.values[self.offset :]
        last = sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))
        if min((*self.shape, *self.strides, 1)) < 0 or self.offset < 0 or last >= len(values):
            raise pickle.UnpicklingError("a tensor reaches outside its storage")
        steps = [step * values.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(values, self.shape, steps).copy()


class _Unpickler(pickle.Unpickler):
    """Knows an ordered dictionary and a tensor; refuses every other name."""

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which weights have no use for")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, size, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"unknown storage {pid!r}")
        return self.storages.setdefault(key, _Storage(dtype, size))


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a dictionary of tensors in PyTorch's format before version 1.6.

    Args:
        path: A file written by `torch.save(module.state_dict(), path)`.

    Returns:
        Parameter names and arrays, float32 or int64, in the file's order.

    Raises:
        pickle.UnpicklingError: the file is none of these, is cut short, or asks for anything
            but tensors. Nothing in it is ever called.
    """
    with open(path, "rb") as file:
        try:
            return _read(file)
        except pickle.UnpicklingError:
            raise
        except Exception as error:
            # A damaged pickle fails wherever the damage leads.
            raise pickle.UnpicklingError(f"not a PyTorch weights file ({error})") from error


def _read(file: BinaryIO) -> dict[str, np.ndarray]:
    if _Unpickler(file).load() != MAGIC or _Unpickler(file).load() != PROTOCOL:
        raise pickle.UnpicklingError("not a PyTorch file of before version 1.6")
    _Unpickler(file).load()  # byte order and sizes of the writing machine; always little-endian
    reader = _Unpickler(file)
    tensors = reader.load()
    for key in _Unpickler(file).load():
        storage = reader.storages[key]
        size = int.from_bytes(file.read(8), "little")
        data = file.read(size * storage.dtype.itemsize)
        if size != storage.size or len(data) != size * storage.dtype.itemsize:
            raise pickle.UnpicklingError("the file is cut short")
        storage.values = np.frombuffer(data, storage.dtype)
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def convert_modules(
    arrays: Mapping[str, np.ndarray], names: Iterable[str]
) -> dict[str, list[np.ndarray]]:
    """Converts a network of convolutions and batch norms to Keras' layer names and axes.

    Args:
        arrays: Its state dictionary, in its order: a convolution, its batch norm, the next
            convolution, ..., the head.
        names: Of the layers that they become, in that order, `logits` for the head.

    Returns:
        Layer names and what each layer's `set_weights` takes.
    """
    modules: dict[str, dict[str, np.ndarray]] = {}
    for path, array in arrays.items():
        owner, _, parameter = path.rpartition(".")
        modules.setdefault(owner, {})[parameter] = array
    layers: dict[str, list[np.ndarray]] = {}
    for name, module in zip(names, modules.values(), strict=True):
        weight = module["weight"]
        if "running_mean" in module:
            layers[name] = [module[k] for k in ("weight", "bias", "running_mean", "running_var")]
        elif name == "logits":
            layers[name] = [weight.T, module["bias"]]
        elif name.endswith("depthwise"):
            layers[name] = [weight.transpose(2, 3, 0, 1)]
        else:
            layers[name] = [weight.transpose(2, 3, 1, 0)]
    return layers
