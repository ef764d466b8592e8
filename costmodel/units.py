"""Scale factors and human-readable formatting; the only module with scale literals."""

from __future__ import annotations

__all__ = [
    "GIB",
    "GIGA",
    "KILO",
    "MEGA",
    "MICRO",
    "MILLI",
    "NANO",
    "SECONDS_PER_HOUR",
    "TERA",
    "format_bytes",
    "format_seconds",
]

KILO = 1e3
MEGA = 1e6
GIGA = 1e9
TERA = 1e12
MILLI = 1e-3
MICRO = 1e-6
NANO = 1e-9
GIB = 1024**3
SECONDS_PER_HOUR = 3600.0

_MIB = 1024**2


def format_seconds(value_s: float) -> str:
    """Three significant digits with the unit that reads best.

    Examples
    --------
    >>> format_seconds(0.01234)
    '12.3 ms'
    """
    if value_s == 0:
        return "0 s"
    if abs(value_s) >= 1:
        return f"{value_s:.4g} s" if abs(value_s) >= KILO else f"{value_s:.3g} s"
    if abs(value_s) >= MILLI:
        return f"{value_s / MILLI:.3g} ms"
    return f"{value_s / MICRO:.3g} µs"


def format_bytes(value_bytes: float) -> str:
    """Gibibytes or mebibytes, three significant digits.

    Examples
    --------
    >>> format_bytes(3 * 1024**3)
    '3 GiB'
    """
    if value_bytes >= GIB:
        return f"{value_bytes / GIB:.3g} GiB"
    return f"{value_bytes / _MIB:.3g} MiB"
