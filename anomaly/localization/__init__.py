"""From a map to boxes."""

from anomaly.localization.boxes import (
    Box,
    draw_boxes,
    find_boxes,
    picture_of,
    smooth,
)

__all__ = ["Box", "draw_boxes", "find_boxes", "picture_of", "smooth"]
