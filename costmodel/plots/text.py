"""Numbers and names as people read them; shared by figures and report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from costmodel.predict import Prediction
from costmodel.quantity import Quantity
from costmodel.units import MICRO, MILLI, format_seconds

__all__ = ["percent", "prediction_names", "probability", "seconds_interval", "short_names", "tokens_interval"]

_LONGEST_NAME = 36


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Names without their publisher, cut to a readable length; in full where that makes two of them equal."""
    full = list(dict.fromkeys(names))
    short = [name.rsplit("/", 1)[-1] or name for name in full]
    short = [name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…" for name in short]
    return dict(zip(full, short if len(set(short)) == len(full) else full, strict=True))


def prediction_names(predictions: Sequence[Prediction]) -> list[str]:
    """Name of each prediction: its model, and the rest of the configuration where models repeat."""
    short = short_names(p.model for p in predictions)
    if len(short) == len(predictions):
        return [short[p.model] for p in predictions]
    return [f"{short[p.model]}, {p.hardware}, {p.engine}, {p.dtype}" for p in predictions]


def seconds_interval(quantity: Quantity) -> str:
    """Value and interval in one unit.

    Examples
    --------
    >>> seconds_interval(Quantity(value=0.62, low=0.51, high=0.75))
    '620 ms [510, 750]'
    """
    if quantity.low == quantity.high:
        return format_seconds(quantity.value)
    scale, unit = 1.0, "s"
    for smaller, name in ((MILLI, "ms"), (MICRO, "µs")):
        if quantity.high < scale:
            scale, unit = smaller, name
    value, low, high = (_three_digits(part / scale) for part in (quantity.value, quantity.low, quantity.high))
    return f"{value} {unit} [{low}, {high}]"


def tokens_interval(quantity: Quantity) -> str:
    """Token count and interval; with a decimal only where it matters.

    Examples
    --------
    >>> tokens_interval(Quantity(value=47.3, low=40.6, high=55.2))
    '47 tokens [41, 55]'
    """
    digits = 0 if quantity.value >= 10 else 1
    value, low, high = (f"{part:.{digits}f}" for part in (quantity.value, quantity.low, quantity.high))
    return f"{value} tokens [{low}, {high}]"


def percent(share: float, *, signed: bool = False) -> str:
    """Write a share of one in percent.

    Examples
    --------
    >>> percent(0.0731), percent(-0.12, signed=True)
    ('7.3 %', '-12 %')
    """
    digits = 1 if abs(share) < 0.0995 else 0
    return f"{share * 100:{'+' if signed else ''}.{digits}f} %"


def probability(value: float) -> str:
    """Write a probability in percent; never a certainty.

    Examples
    --------
    >>> probability(0.9999), probability(0.73)
    ('> 99 %', '73 %')
    """
    if value > 0.99:
        return "> 99 %"
    return "< 1 %" if value < 0.01 else f"{value * 100:.0f} %"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
