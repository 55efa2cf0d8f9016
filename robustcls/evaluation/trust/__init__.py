"""Whether to believe what an attack left standing."""

from robustcls.evaluation.trust.assessment import believable, check, summary

__all__ = ["believable", "check", "summary"]
