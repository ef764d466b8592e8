"""A latency over many items as one number with its sources of error: the mean, or a percentile."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from costmodel.estimate import Estimate, total
from costmodel.quantity import Quantity, normal_quantile

__all__ = ["at_percentile", "difference", "mean", "quantity"]

# Items around a percentile whose errors stand for it, as a share of all.
_WINDOW = 0.01


def mean(latency: Estimate) -> Estimate:
    """Mean over items: errors of one source are the same mistake on every item, and add up."""
    return Estimate(np.float64(np.mean(latency.value_s)), {s: np.float64(np.mean(sd)) for s, sd in _sds(latency)})


def at_percentile(latency: Estimate, percentile: float) -> Estimate:
    """Percentile over items, with the errors of the items around it.

    To first order: an error shared by all items moves the percentile as it moves the items that are there. How the
    percentile varies with the draw of the items is not in it.
    """
    values = np.asarray(latency.value_s)
    order = np.argsort(values, kind="stable")
    place = percentile / 100 * (len(order) - 1)
    half = _WINDOW * len(order) / 2
    near = order[int(np.floor(max(place - half, 0))) : int(np.ceil(place + half)) + 1]
    value = np.float64(np.percentile(values, percentile))
    scale = value / max(float(np.mean(values[near])), np.finfo(float).tiny)
    return Estimate(value, {s: np.float64(np.mean(sd[near]) * scale) for s, sd in _sds(latency)})


def quantity(latency: Estimate, interval: float) -> Quantity:
    """Value with its interval."""
    return Quantity.from_log_sd(float(latency.value_s), float(latency.log_sd()), interval=interval)


def difference(first: Estimate, second: Estimate, interval: float) -> Quantity:
    """First minus second: sources that both share cancel."""
    gap = total([first, second.scaled(-1.0)])
    half = normal_quantile(interval) * float(np.sqrt(sum(np.float64(sd) ** 2 for sd in gap.sd_s.values())))
    value = float(gap.value_s)
    return Quantity(value=value, low=value - half, high=value + half)


def _sds(latency: Estimate) -> list[tuple[str, NDArray[np.float64]]]:
    return [(source, np.asarray(sd)) for source, sd in latency.sd_s.items()]
