"""What one check of an attack evaluation found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Verdict:
    """The verdict of one check.

    Attributes:
        name: what is checked, in a few words.
        passed: the check was made and found nothing wrong.
        evidence: the figures behind the verdict, or why the check could not be made.
        advice: what a failure means and what to do about it.
        number: 1 to 15, its place in the list.
        severity: what not passing amounts to: "fail", the figures of the attacks are not to be
            believed; "warning", look twice; "skipped", the check could not be made (default
            "fail").
    """

    name: str
    passed: bool
    evidence: str
    advice: str
    number: int
    severity: Literal["fail", "warning", "skipped"] = "fail"

    @property
    def status(self) -> Literal["pass", "fail", "warning", "skipped"]:
        """One word for a list of verdicts."""
        return "pass" if self.passed else self.severity
