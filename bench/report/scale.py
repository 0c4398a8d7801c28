"""Axes: which values get a tick, and where a value lies between two pixels. Pure arithmetic."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_LOG_STEPS: Final = (1.0, 2.0, 5.0)
_TIME_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
#: A logarithmic axis over more decades than this has ticks at powers of ten only.
_DECADES_FULL: Final = 2.2


@dataclass(frozen=True, slots=True)
class Axis:
    """Values from `low` to `high` on pixels from `start` to `end`, with the ticks to label."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    log: bool = False

    def pixel(self, value: float) -> float:
        """Where `value` lies, kept on the axis."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def linear(greatest: float, *, start: float, end: float, tick_count: int = 5) -> Axis:
    """From zero to the next round number at or above `greatest`."""
    step = _nice_step(max(greatest, 1e-9) / tick_count)
    count = max(1, math.ceil(greatest / step - 1e-9))
    ticks = tuple(round(step * position, 10) for position in range(count + 1))
    return Axis(0.0, ticks[-1], start, end, ticks)


def logarithmic(values: Sequence[float], *, start: float, end: float) -> Axis:
    """From the last of 1, 2, 5, 10, ... below all positive values to the first above."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = _log_step_below(min(positive)), _log_step_above(max(positive))
    decades = math.log10(high / low)
    steps = (1.0,) if decades > _DECADES_FULL else _LOG_STEPS
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = tuple(
        float(f"{step * 10.0**exponent:.6g}")
        for exponent in exponents
        for step in steps
        if low * 0.999 <= step * 10.0**exponent <= high * 1.001
    )
    return Axis(low, high, start, end, ticks, log=True)


def of_time(first_s: float, last_s: float, *, start: float, end: float, tick_count: int) -> Axis:
    """Seconds, with ticks at multiples of a step that people count in; one of them is zero."""
    span_s = max(last_s - first_s, 1e-3)
    step = next((step for step in _TIME_STEPS if span_s / step <= tick_count), _TIME_STEPS[-1])
    ticks = range(math.ceil(first_s / step) * step, math.floor(last_s) + 1, step)
    return Axis(first_s, first_s + span_s, start, end, tuple(float(tick) for tick in ticks))


def _nice_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step for step in _STEPS if step * power >= rough * (1 - 1e-9)) * power


def _log_step_below(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value) + 1e-9)
    return max(step for step in _LOG_STEPS if step * power <= value * (1 + 1e-9)) * power


def _log_step_above(value: float) -> float:
    """The first step strictly above `value`, so that an axis is never empty."""
    power = 10.0 ** math.floor(math.log10(value) + 1e-9)
    return next(step for step in (*_LOG_STEPS, 10.0, 20.0) if step * power > value * 1.001) * power
