"""`Shared`: what several methods ask of a model for the same images, found out once."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

Found = TypeVar("Found")


class Shared:
    """Keeps what was found out for images and classes while it is open, and nothing else.

    So gradients serve `gradients` and `gradient_times_input`, and the feature maps of a layer all
    class activation maps. Who opens it sees to it that the model stays as it is.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bytes], Any] | None = None

    @property
    def is_open(self) -> bool:
        """Whether anything is kept; then the model stays as it is."""
        return self._kept is not None

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Keeps what is found out within the block, apart from what is kept around it."""
        outer, self._kept = self._kept, {}
        try:
            yield
        finally:
            self._kept = outer

    def once(
        self, name: str, images: np.ndarray, classes: np.ndarray, find: Callable[[], Found]
    ) -> Found:
        """Returns what `find` found for these images and classes, found once while this is open.

        Args:
            name: of what it finds.
            images: float32 [n, H, W, C].
            classes: int64 [n].
            find: finds it out.
        """
        if self._kept is None:
            return find()
        key = name, hashlib.blake2b(images.tobytes() + classes.tobytes()).digest()
        if key not in self._kept:
            self._kept[key] = find()
        found: Found = self._kept[key]
        return found
