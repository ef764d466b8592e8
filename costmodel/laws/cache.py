"""Memory time with a cache in front (equation 41)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from costmodel.laws.base import Parameter, Peaks
from costmodel.ops import Num

__all__ = ["CACHE_PARAMETERS", "MEMORY", "memory_s", "seconds_per_byte"]

# How sharply hits turn into misses around the effective size; the same on every device tried.
_STEEPNESS = 8.0

MEMORY = Parameter("memory_efficiency", "1", start=0.85, low=0.4, high=1.0, prior_sd=0.2)
CACHE_PARAMETERS = (
    MEMORY,
    Parameter("cache_speedup", "1", start=2.0, low=1.02, high=10.0, prior_sd=0.5),
    Parameter("cache_share", "1", start=0.8, low=0.1, high=1.2, prior_sd=0.5),
)


def seconds_per_byte(footprint_bytes: Num, coefficients: Mapping[str, float], peaks: Peaks) -> Num:
    """Inverse bandwidth of data whose repeated use touches ``footprint_bytes`` (equation 41).

    A footprint well below ``cache_share`` of the cache moves at ``cache_speedup`` times the memory's rate.
    """
    slow = 1.0 / (coefficients["memory_efficiency"] * peaks.memory_bytes_per_s)
    fast = slow / coefficients["cache_speedup"]
    size = coefficients["cache_share"] * peaks.cache_bytes
    miss = 1.0 / (1.0 + (size / np.maximum(footprint_bytes, 1.0)) ** _STEEPNESS)
    return fast + miss * (slow - fast)


def memory_s(num_bytes: Num, footprint_bytes: Num, coefficients: Mapping[str, float], peaks: Peaks) -> Num:
    """Time to move ``num_bytes`` (equation 41)."""
    return num_bytes * seconds_per_byte(footprint_bytes, coefficients, peaks)
