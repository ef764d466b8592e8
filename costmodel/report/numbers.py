"""Numbers of a report with their units."""

from __future__ import annotations

from costmodel.plots.text import percent
from costmodel.profiles import Coefficient
from costmodel.units import format_rate

__all__ = ["FEATURE_UNITS", "coefficient_text", "rate_text"]

FEATURE_UNITS = {
    "requests": "s per request",
    "images": "s per image",
    "megapixels": "s per 10⁶ pixels",
    "resized_megapixels": "s per 10⁶ resized pixels",
    "patches": "s per patch",
    "tokens": "s per token",
    "context_tokens": "s per context token",
    "layers": "s per layer",
    "rows": "s per row",
    "gemm_flops": "s per FLOP",
    "attention_flops": "s per FLOP",
    "kv_bytes": "s per byte",
}
"""Unit of the coefficient of each feature of a slice (equation 13)."""

_RATE_UNITS = {"gemm_flops": "FLOP/s", "attention_flops": "FLOP/s", "kv_bytes": "B/s"}


def coefficient_text(coefficient: Coefficient) -> tuple[str, str, str]:
    """Value, relative standard error, source."""
    value, stderr = coefficient.value, coefficient.stderr
    relative = "" if stderr == 0 else f"{stderr:.2g}" if value == 0 else percent(stderr / abs(value))
    return f"{value:.4g}", relative, coefficient.source


def rate_text(feature: str, coefficient: Coefficient) -> str:
    """Rate that a coefficient amounts to, where it is a time per FLOP or byte."""
    if feature not in _RATE_UNITS or coefficient.value <= 0:
        return ""
    return format_rate(1 / coefficient.value, _RATE_UNITS[feature])
