"""Scale factors and human-readable formatting; the only module with scale literals."""

from __future__ import annotations

__all__ = [
    "GIB",
    "GIGA",
    "KILO",
    "MEBI",
    "MEGA",
    "MICRO",
    "MILLI",
    "NANO",
    "PETA",
    "SECONDS_PER_HOUR",
    "TERA",
    "format_bytes",
    "format_rate",
    "format_seconds",
]

KILO = 1e3
MEGA = 1e6
GIGA = 1e9
TERA = 1e12
PETA = 1e15
MILLI = 1e-3
MICRO = 1e-6
NANO = 1e-9
MEBI = 1024**2
GIB = 1024**3
SECONDS_PER_HOUR = 3600.0


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
    return f"{value_bytes / MEBI:.3g} MiB"


def format_rate(value: float, unit: str) -> str:
    """Three digits with a decimal prefix.

    Examples
    --------
    >>> format_rate(3.35e12, "B/s")
    '3.35 TB/s'
    """
    for scale, prefix in ((PETA, "P"), (TERA, "T"), (GIGA, "G"), (MEGA, "M"), (KILO, "k")):
        if value >= scale:
            scaled = value / scale
            return f"{scaled:.0f} {prefix}{unit}" if scaled >= 100 else f"{scaled:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"
