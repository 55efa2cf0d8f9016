"""Where images come from and what happens to them before a model sees them."""

from robustcls.data.sources import load
from robustcls.data.splits import Split, Splits

__all__ = ["Split", "Splits", "load"]
