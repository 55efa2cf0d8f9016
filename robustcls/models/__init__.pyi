"""The public names, listed once. Each loads on first use."""

from .backbones import Backbone as Backbone
from .backbones import register_backbone as register_backbone
from .backbones import unfreezing_blocks as unfreezing_blocks
from .building import build_classifier as build_classifier
from .building import load_classifier as load_classifier
from .depthwise_convolution import FastDepthwiseConv2D as FastDepthwiseConv2D
from .folding import fold_batch_norm as fold_batch_norm
from .grouped_convolution import GroupedConv2D as GroupedConv2D
from .normalization import FusedBatchNormalization as FusedBatchNormalization
from .pointwise_convolution import PointwiseConv2D as PointwiseConv2D
from .pretrained import fetch_imagenet_weights as fetch_imagenet_weights
from .registry import BACKBONES as BACKBONES
from .stock import save_classifier as save_classifier

__all__ = [
    "BACKBONES",
    "Backbone",
    "FastDepthwiseConv2D",
    "FusedBatchNormalization",
    "GroupedConv2D",
    "PointwiseConv2D",
    "build_classifier",
    "fetch_imagenet_weights",
    "fold_batch_norm",
    "load_classifier",
    "register_backbone",
    "save_classifier",
    "unfreezing_blocks",
]
