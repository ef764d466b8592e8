"""Measured latency of a plan, where the recorded answers were timed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from costmodel.policy.latency import Deployment, ask_groups
from costmodel.policy.plan import Role
from costmodel.policy.replay import Replay
from costmodel.policy.traces import TraceSet

__all__ = ["measured_seconds"]

Floats = NDArray[np.float64]


def measured_seconds(result: Replay, traces: TraceSet, deployment: Deployment) -> Floats | None:
    """Latency of every item, from the time of each answer as it was recorded.

    Returns
    -------
    array or None
        Nothing where an answer that the plan asks for was not timed, where a cap cuts one short, or where a prefix is
        reused: the time of such an answer was not measured.
    """
    if deployment.reuse_prefix:
        return None
    by_name = {used.ask.name: used for used in result.used}
    latency = np.zeros(len(result.route))
    for asks in ask_groups(result.plan):
        together: dict[Role, Floats] = {}
        for ask in asks:
            used = by_name[ask.name]
            column = traces.columns[used.key]
            whole = used.output_tokens == column.output_tokens
            took = np.where(used.asked, np.where(whole, column.total_s, np.nan), 0.0)
            together[ask.model] = together.get(ask.model, np.zeros(len(latency))) + took
        parts = list(together.values())
        latency += np.sum(parts, axis=0) if deployment.devices == 1 else np.max(parts, axis=0)
    return None if np.isnan(latency).any() else latency
