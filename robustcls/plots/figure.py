"""`Plot`: a figure that a notebook shows, whether pyplot is imported or not."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.figure import Figure

#: Colours that colour-blind readers tell apart (Okabe and Ito, 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07800", "#56b4e9", "#444444")


class Plot(Figure):
    """A figure outside pyplot's list, so that it is neither kept alive nor shown twice.

    Args:
        width: in inches.
        height: in inches.
        dpi: dots an inch (default 120).
    """

    def __init__(self, width: float, height: float, *, dpi: int = 120, **settings: Any) -> None:
        super().__init__(figsize=(width, height), dpi=dpi, layout="constrained", **settings)

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png")
        return stream.getvalue()
