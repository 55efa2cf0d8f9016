"""The public names, listed once. Each loads on first use."""

from .assessment import Check as Check
from .assessment import Verdict as Verdict
from .assessment import believable as believable
from .assessment import check as check
from .assessment import summary as summary

__all__ = [
    "Check",
    "Verdict",
    "believable",
    "check",
    "summary",
]
