"""Results behind the page, each computed once for a state and kept while it is likely to be asked for again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar, cast

from costmodel.breakeven import BreakEven, break_even
from costmodel.errors import CostModelError
from costmodel.explore.catalogue import Catalogue
from costmodel.explore.state import State
from costmodel.explore.uploads import Uploads
from costmodel.policy.choose import choose_policy, policy_clock
from costmodel.policy.goals import Goal
from costmodel.policy.latency import PolicyClock
from costmodel.policy.results import PolicyChoice
from costmodel.policy.serving import Served
from costmodel.policy.surfaces import Surface, token_surface
from costmodel.policy.traces import TraceSet
from costmodel.predict import Forecast, Prediction, estimate, predict
from costmodel.roofline import Roofline, roofline_of

__all__ = ["Results"]

_KEPT = 256
_SURFACE_POINTS = 25
_T = TypeVar("_T")


@dataclass
class Results:
    """Every result that a view shows.

    One lock for all: the callbacks of one change run at the same time and want the same predictions.
    """

    catalogue: Catalogue = field(default_factory=Catalogue)
    uploads: Uploads = field(default_factory=Uploads)
    _kept: OrderedDict[Hashable, object] = field(default_factory=OrderedDict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def _once(self, key: Hashable, make: Callable[[], _T]) -> _T:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = make()
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return cast(_T, self._kept[key])

    def prediction(self, state: State, role: str, *, hardware: str | None = None) -> Prediction:
        """Prediction of one model on the chosen device, or on another."""
        model, device = getattr(state, role), hardware or state.hardware
        workload = state.workload(state.output_tokens(role))
        find = self.catalogue

        def make() -> Prediction:
            return predict(
                find.model(model),
                find.hardware(device),
                find.engine(state.engine),
                workload,
                quantization=state.quantization,
                num_devices=state.tp,
            )

        return self._once(("prediction", model, device, state.engine, state.quantization, state.tp, workload), make)

    def predictions(self, state: State) -> tuple[Prediction, Prediction]:
        """Both models on the chosen device."""
        return self.prediction(state, "small"), self.prediction(state, "large")

    def across_devices(self, state: State) -> tuple[list[Prediction], list[str]]:
        """Both models on every device of the comparison, and why some can't run them."""
        found: list[Prediction] = []
        problems: dict[str, None] = {}
        for device in dict.fromkeys((state.hardware, *state.devices)):
            for role in ("small", "large"):
                try:
                    found.append(self.prediction(state, role, hardware=device))
                except CostModelError as error:
                    problems[f"{device}: {error}"] = None
        return found, list(problems)

    def break_even(self, state: State) -> BreakEven:
        """Crossing of both models."""
        find = self.catalogue
        request = state.workload(1)
        lengths = state.large_output, state.small_output
        key = ("break-even", *_device(state), request, *lengths)
        return self._once(
            key,
            lambda: break_even(
                find.model(state.small),
                find.model(state.large),
                find.hardware(state.hardware),
                find.engine(state.engine),
                request,
                large_output_tokens=lengths[0],
                small_output_tokens=lengths[1],
                quantization=state.quantization,
                num_devices=state.tp,
            ),
        )

    def surface(self, state: State) -> Surface:
        """Which answer is faster, by both lengths."""
        request = state.workload(1)
        crossing = self.break_even(state).break_even_output_tokens
        small_end = 1.5 * max(state.small_output, crossing.value if crossing else 1, 8)
        large_end = 2.0 * max(state.large_output, 8)
        key = ("surface", *_device(state), request, small_end, large_end)
        return self._once(
            key,
            lambda: token_surface(
                self._served(state, "small"),
                self._served(state, "large"),
                images=request.images,
                prompt_tokens=request.prompt_tokens,
                small_tokens=_spread(small_end),
                large_tokens=_spread(large_end),
                batch=request.batch,
                quantization=state.quantization,
                num_devices=state.tp,
            ),
        )

    def roofline(self, state: State, role: str, stage: str) -> Roofline:
        """Operators of one stage of one model."""
        workload = state.workload(state.output_tokens(role))
        model = getattr(state, role)
        key = (model, state.hardware, state.engine, state.quantization, state.tp, workload)

        def make() -> Forecast:
            return estimate(
                self.catalogue.model(model),
                self.catalogue.hardware(state.hardware),
                self.catalogue.engine(state.engine),
                workload,
                quantization=state.quantization,
                num_devices=state.tp,
            )

        return self._once(("roofline", stage, *key), lambda: roofline_of(self._once(("forecast", *key), make), stage))

    def policy(self, state: State, token: str) -> PolicyChoice:
        """Policies on the traces that were loaded; batch, quantisation and devices a layer as recorded: 1, none, 1."""
        goal = Goal(budget_s=state.budget_s, percentile=state.percentile)
        pair = (token, state.small, state.large, state.hardware, state.engine)

        def make() -> PolicyChoice:
            return choose_policy(
                self.catalogue.model(state.small),
                self.catalogue.model(state.large),
                self._trace_set(state, token),
                self.catalogue.hardware(state.hardware),
                self.catalogue.engine(state.engine),
                goal=goal,
                clock=self._clock(state, token),
                with_sensitivity=False,
            )

        return self._once(("policy", goal, *pair), make)

    def _trace_set(self, state: State, token: str) -> TraceSet:
        traces = self.uploads.traces(token)
        key = ("traces", token, state.small, state.large)
        return self._once(key, lambda: TraceSet.of(traces, small=state.small, large=state.large, common_items=True))

    def _clock(self, state: State, token: str) -> PolicyClock:
        served = {role: self._served(state, role) for role in ("small", "large")}
        key = ("clock", token, state.small, state.large, state.hardware, state.engine)
        return self._once(key, lambda: policy_clock(served, self._trace_set(state, token)))  # type: ignore[arg-type]

    def _served(self, state: State, role: str) -> Served:
        find = self.catalogue
        return Served(find.model(getattr(state, role)), find.hardware(state.hardware), find.engine(state.engine))


def _device(state: State) -> tuple[Hashable, ...]:
    return state.small, state.large, state.hardware, state.engine, state.quantization, state.tp


def _spread(end: float) -> list[int]:
    """Whole lengths from 1 to a round end."""
    last = max(int(end), _SURFACE_POINTS)
    return sorted({1 + round(i * (last - 1) / (_SURFACE_POINTS - 1)) for i in range(_SURFACE_POINTS)})
