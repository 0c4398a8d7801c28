"""Shares of the input that shall be what was asked for, but for chance."""

from math import sqrt
from typing import Final

from bench.workload import AuditResult, Status

SAMPLES_MIN: Final = 10_000
#: Standard deviations of chance that a share may be off by: one correct run in two million fails.
SIGMAS: Final = 5


def share_audit(name: str, title: str, count: int, samples: int, share: float) -> AuditResult:
    """`count` of `samples`, in per cent, which shall be `share`, from 0 to 1."""
    chance = 100 * SIGMAS * sqrt(share * (1 - share) / max(samples, 1))
    low, high = 100 * share - chance, 100 * share + chance
    value = 100 * count / max(samples, 1)
    status = Status.PASS if low <= value <= high else Status.FAIL
    if samples < SAMPLES_MIN:
        status = Status.SKIP
    return AuditResult(name, title, round(value, 4), low, high, status, samples)
