"""Collectives between the devices of one node: one shot for small messages, a ring for large ones (equation 53)."""

from __future__ import annotations

from collections.abc import Mapping

from costmodel.errors import ProfileError
from costmodel.laws.base import Law, Parameter, Peaks, Terms
from costmodel.ops import AllGather, AllReduce, Op
from costmodel.units import MICRO

__all__ = ["COLLECTIVE"]

_SHARPNESS = 4.0


def _link(peaks: Peaks) -> float:
    rate = peaks.link_bytes_per_s or peaks.host_link_bytes_per_s
    if rate is None:
        raise ProfileError("this device has no link_bytes_per_s; add it to the datasheet to price collectives")
    return rate


def _terms(op: Op, coefficients: Mapping[str, float], peaks: Peaks) -> Terms:
    if not isinstance(op, AllReduce | AllGather):
        raise TypeError(f"a collective law got {op.kind}")
    link = _link(peaks)
    crowding = (op.num_devices / 2.0) ** coefficients["crowding"]
    one_shot_s = op.bytes * crowding / (coefficients["one_shot_efficiency"] * link)
    # Two devices share one path; more of them keep more links, or the switch, busy.
    ring_rate = coefficients["ring_efficiency"] * link * (op.num_devices / 2.0) ** coefficients["ring_scaling"]
    ring_s = coefficients["ring_s"] + op.bytes / ring_rate
    moved_s = (one_shot_s**-_SHARPNESS + ring_s**-_SHARPNESS) ** (-1.0 / _SHARPNESS)
    fixed_s = coefficients["fixed_s"] + coefficients["device_s"] * (op.num_devices - 2.0)
    return Terms(fixed_s + moved_s, 0.0 * moved_s, moved_s)


COLLECTIVE = Law(
    name="collective",
    equation="53",
    parameters=(
        Parameter("fixed_s", "s", start=4 * MICRO, low=1 * MICRO, high=500 * MICRO, prior_sd=0.7),
        Parameter("device_s", "s", start=1 * MICRO, low=0.01 * MICRO, high=100 * MICRO, prior_sd=1.0),
        Parameter("one_shot_efficiency", "1", start=0.1, low=0.001, high=1.0, prior_sd=1.0),
        Parameter("ring_efficiency", "1", start=0.6, low=0.01, high=1.0, prior_sd=0.5),
        Parameter("ring_s", "s", start=10 * MICRO, low=0.1 * MICRO, high=1000 * MICRO, prior_sd=1.0),
        Parameter("crowding", "1", start=0.2, low=0.0, high=3.0, log=False, prior_sd=1.0),
        Parameter("ring_scaling", "1", start=0.2, low=0.0, high=2.0, log=False, prior_sd=0.5),
    ),
    terms=_terms,
)
