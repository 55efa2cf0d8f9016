"""Tiny ImageNet: 200 classes of ImageNet at 64×64."""

from robustcls.data.tfds.builders.tiny_imagenet.tiny_imagenet_dataset_builder import (
    Builder as TinyImagenet,
)

__all__ = ["TinyImagenet"]
