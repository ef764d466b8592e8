"""Latencies of many what-ifs: values without their errors, and nothing computed twice.

The same numbers as :meth:`costmodel.policy.latency.PolicyClock.times`, which stays the readable one: plans share most
of their asks, and of an ask only the decode time depends on the output length.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from costmodel.policy.latency import PolicyClock, Scale, ask_groups, scaled_tokens
from costmodel.policy.plan import Role
from costmodel.policy.replay import Replay, Used

__all__ = ["WhatIf"]

Floats = NDArray[np.float64]


class WhatIf:
    """Latency of plans under factors on output lengths and times."""

    def __init__(self, clock: PolicyClock) -> None:
        self._clock = clock
        self._before: dict[object, Floats] = {}
        self._decode: dict[object, Floats] = {}
        self._factors: object = None

    def percentile_s(self, result: Replay, scale: Scale, percentile: float) -> float:
        """Percentile over items."""
        return float(np.percentile(self.seconds(result, scale), percentile))

    def seconds(self, result: Replay, scale: Scale) -> Floats:
        """Latency of every item."""
        by_name = {used.ask.name: used for used in result.used}
        first: dict[Role, Used] = {}
        latency = np.zeros(len(result.route))
        for asks in ask_groups(result.plan):
            together: dict[Role, Floats] = {}
            for ask in asks:
                used = by_name[ask.name]
                took = self._ask(used, first.get(ask.model), scale)
                together[ask.model] = together.get(ask.model, np.zeros(len(latency))) + took
                first.setdefault(ask.model, used)
            parts = list(together.values())
            latency += np.sum(parts, axis=0) if self._clock.deployment.devices == 1 else np.max(parts, axis=0)
        return latency

    def _ask(self, used: Used, first: Used | None, scale: Scale) -> Floats:
        role = used.ask.model
        before = self._before_decode(used, first if self._clock.deployment.reuse_prefix else None)
        took = before + self._decode_s(used, scale)
        return np.asarray(np.where(used.asked, took * scale.time.get(role, 1.0), 0.0))

    def _before_decode(self, used: Used, first: Used | None) -> Floats:
        known = (used.key, None if first is None else first.key)
        if known not in self._before:
            clock = self._clock.clocks[used.ask.model]
            cached = None if first is None else first.prompt_tokens + clock.image_tokens
            before = clock.before_decode(used.prompt_tokens.astype(float), cached=cached)
            self._before[known] = np.asarray(before.value_s)
        return self._before[known]

    def _decode_s(self, used: Used, scale: Scale) -> Floats:
        """Kept for one set of factors at a time, so that memory stays small."""
        factors = tuple(sorted(scale.output_tokens.items()))
        if factors != self._factors:
            self._factors, self._decode = factors, {}
        known = (used.key, used.ask.max_output_tokens)
        if known not in self._decode:
            clock = self._clock.clocks[used.ask.model]
            self._decode[known] = clock.decode_s(used.prompt_tokens.astype(float), scaled_tokens(used, scale))
        return self._decode[known]
