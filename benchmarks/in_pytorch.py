"""A small Keras network as the same network in PyTorch."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import torch


class ChannelsLast(torch.nn.Module):
    """Flattens [N, C, H, W] in the order in which Keras flattens [N, H, W, C]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


def in_pytorch(model: keras.Model) -> torch.nn.Module:
    """The same network with the same weights, for images [N, C, H, W]."""
    parts: list[torch.nn.Module] = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.Flatten):
            parts.append(ChannelsLast())
            continue
        kernel, bias = (torch.from_numpy(np.array(w)) for w in layer.get_weights())
        if isinstance(layer, keras.layers.Conv2D):
            height, width, channels, filters = kernel.shape
            part: Any = torch.nn.Conv2d(channels, filters, (height, width), layer.strides)
            part.weight.data = kernel.permute(3, 2, 0, 1).contiguous()
        else:
            part = torch.nn.Linear(*kernel.shape)
            part.weight.data = kernel.T.contiguous()
        part.bias.data = bias
        parts.append(part)
        if layer.activation is keras.activations.relu:
            parts.append(torch.nn.ReLU())
    return torch.nn.Sequential(*parts).eval()


def to_torch(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
