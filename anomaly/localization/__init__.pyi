"""The public names, listed once. Each loads on first use."""

from .boxes import Box as Box
from .boxes import draw_boxes as draw_boxes
from .boxes import find_boxes as find_boxes
from .boxes import picture_of as picture_of
from .boxes import smooth as smooth

__all__ = [
    "Box",
    "draw_boxes",
    "find_boxes",
    "picture_of",
    "smooth",
]
