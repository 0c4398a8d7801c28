"""How a count, a rate, a duration, a size is written: everywhere the same, for eyes to compare.

Three significant digits at least, thousands separated by commas, units outside the number.
"""

import math
from typing import Final

#: What stands where there is nothing to say: no transaction completed, so no percentile.
NOTHING: Final = "–"

_SPARKS: Final = "▁▂▃▄▅▆▇█"
_SIZES: Final = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def count(value: float) -> str:
    """1,234,567"""
    return f"{value:,.0f}"


def decimal(value: float | None) -> str:
    """Three significant digits below a hundred, whole numbers from there: 7.42, 38.1, 1,240."""
    if value is None or not math.isfinite(value):
        return NOTHING
    size = abs(value)
    if isinstance(value, int) or size == 0:
        return count(value)
    if size < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if size < 99.95 else f"{value:,.0f}"


def size(value: float) -> str:
    """812 B, 1.50 KiB, 23.5 GiB"""
    for unit, name in _SIZES:
        if value >= unit:
            return f"{decimal(value / unit)} {name}"
    return f"{value:.0f} B"


def micros(value: float | None) -> str:
    """A latency with the unit that suits it: 840 ns, 7.42 µs, 1.30 ms, 2.00 s"""
    if value is None:
        return NOTHING
    if value < 1:
        return f"{value * 1e3:.0f} ns"
    if value < 999.5:
        return f"{decimal(value)} µs"
    if value < 999_500:
        return f"{decimal(value / 1e3)} ms"
    return f"{decimal(value / 1e6)} s"


def seconds(value: float) -> str:
    """12 s, 1 min 30 s, 2 h 5 min; tenths below ten seconds unless they are zero."""
    if value < 0:
        return f"−{seconds(-value)}"
    if value < 60:
        short = f"{value:.1f}" if value < 10 else f"{value:.0f}"
        return f"{short.removesuffix('.0')} s"
    whole = round(value)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    parts = ((hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{part} {unit}" for part, unit in parts if part)


def compact(value: float) -> str:
    """For axis labels: 0, 0.5, 20, 1.5k, 200k, 2M"""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.4g}{name}"
    return f"{value:.4g}"


def sparkline(values: list[float], width: int) -> str:
    """The last `width` values as bars from zero to the greatest of them."""
    shown = values[-width:]
    top = max(shown, default=0.0)
    if top <= 0:
        return _SPARKS[0] * len(shown)
    return "".join(_SPARKS[min(7, int(8 * max(0.0, value) / top))] for value in shown)
