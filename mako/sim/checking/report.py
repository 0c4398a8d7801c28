"""What a checker says: ok, violation or unknown, and what it found.

ok          everything that was looked at can be explained
violation   something cannot; `findings` say what, in words
unknown     there was nothing to look at, or looking was given up
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from mako.sim.checkers import Violation

#: Findings of one rule that a report keeps; the others are only counted.
FINDINGS_MAX: Final = 10


class Verdict(StrEnum):
    OK = "ok"
    VIOLATION = "violation"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that cannot be: the rule that it breaks, and what happened."""

    rule: str
    text: str
    #: The steps of a cycle, one sentence each.
    steps: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"{self.rule}: {self.text}", *(f"    {step}" for step in self.steps)])


@dataclass(slots=True)
class Report:
    """The answer of one checker."""

    checker: str
    #: How many things were looked at: transactions, reads, facts.
    looked_at: int = 0
    findings: list[Finding] = field(default_factory=list)
    #: How many were found, kept or not.
    found: int = 0
    #: Why some of it was given up.
    gave_up: list[str] = field(default_factory=list)

    def add(self, rule: str, text: str, steps: Iterable[str] = ()) -> None:
        self.found += 1
        if sum(finding.rule == rule for finding in self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(rule, text, tuple(steps)))

    def give_up(self, why: str) -> None:
        self.gave_up.append(why)

    @property
    def verdict(self) -> Verdict:
        if self.findings:
            return Verdict.VIOLATION
        return Verdict.UNKNOWN if self.gave_up or not self.looked_at else Verdict.OK

    @property
    def rules(self) -> set[str]:
        """The rules that are broken."""
        return {finding.rule for finding in self.findings}

    def as_dict(self) -> dict[str, Any]:
        return {
            "checker": self.checker,
            "verdict": str(self.verdict),
            "looked_at": self.looked_at,
            "found": self.found,
            "findings": [
                {"rule": finding.rule, "text": finding.text, "steps": list(finding.steps)}
                for finding in self.findings
            ],
            "gave_up": list(self.gave_up),
        }

    def raise_first(self) -> None:
        """Violation, as the simulator raises it, if something was found."""
        for finding in self.findings:
            raise Violation(finding.rule, str(finding).partition(": ")[2])


def overall(reports: Iterable[Report]) -> Verdict:
    """A violation if there is one; ok if something was looked at and nothing was given up."""
    verdicts = [report.verdict for report in reports if report.looked_at or report.findings]
    if Verdict.VIOLATION in verdicts:
        return Verdict.VIOLATION
    return Verdict.UNKNOWN if Verdict.UNKNOWN in verdicts or not verdicts else Verdict.OK
