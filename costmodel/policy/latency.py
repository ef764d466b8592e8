"""From tokens to predicted latency: every ask of a plan by :func:`costmodel.predict.estimate`, for all items at once.

What a prediction costs does not depend on the item but on its sizes, so few predictions serve many items: host and
encoder time once for each set of image sizes (or a spread of them, and interpolated in patches), prefill and decode
step at a spread of context lengths. Decode of N tokens from a context c is the integral of the step time from c + 1/2
over N - 1 steps, as :mod:`costmodel.predict` has it; exact where the step time is linear between the lengths priced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from costmodel import program
from costmodel.errors import PolicyError
from costmodel.estimate import Estimate, total
from costmodel.policy.interpolation import Table, broadcast, spread, whole_grid
from costmodel.policy.plan import Ask, Plan, Role, groups
from costmodel.policy.replay import Replay, Used
from costmodel.policy.serving import Served
from costmodel.predict import Forecast, estimate
from costmodel.specs.base import Flag, Frozen
from costmodel.specs.images import ImageSize
from costmodel.specs.workload import Workload
from costmodel.units import MEGA

__all__ = ["Deployment", "ModelClock", "PolicyClock", "PolicyTimes", "Scale", "ask_groups", "scaled_tokens"]

Floats = NDArray[np.float64]
Images = tuple[ImageSize, ...]

# Sizes that are priced one by one; more of them are spread over their range and interpolated.
_MOST_IMAGE_SETS = 48
_CONTEXTS = 40


class Deployment(Frozen):
    """How the two models are served.

    Attributes
    ----------
    devices
        1: both share one device, and what starts together runs in turn. 2: each has its own, and runs at the same time.
    reuse_prefix
        Whether the second request about an item finds image and prompt in the model's KV cache (two-stage decoding of
        arXiv 2604.04929), instead of encoding and prefilling them again.
    """

    devices: int = 1
    reuse_prefix: Flag = False

    def model_post_init(self, context: object) -> None:
        """Check the number of devices."""
        if self.devices not in (1, 2):
            raise PolicyError(f"devices is {self.devices}, expected 1 (shared) or 2 (one for each model)")


@dataclass(frozen=True, slots=True)
class Scale:
    """What if: factors on output lengths and on predicted times, by model."""

    output_tokens: Mapping[Role, float] = field(default_factory=dict)
    time: Mapping[Role, float] = field(default_factory=dict)


class ModelClock:
    """Predicted times of one model for requests of many sizes.

    Parameters
    ----------
    served
        The model, and how it is served.
    images
        Image sizes of every item.
    longest_context
        Most tokens that any request of this model holds at its end, visual tokens not included.
    """

    def __init__(self, served: Served, images: Sequence[Images], *, longest_context: int, dtype: str = "bf16") -> None:
        self.model, self._served, self._dtype = served.model, served, dtype
        model = served.model
        distinct = list(dict.fromkeys(images))
        number = {sizes: i for i, sizes in enumerate(distinct)}
        self._of_item = np.array([number[sizes] for sizes in images], dtype=np.int64)
        self._layouts = [program.image_layouts(model, sizes) for sizes in distinct]
        self._distinct = distinct
        self.image_tokens: Floats = np.array(
            [sum(x.visual_tokens + x.extra_text_tokens for x in found) for found in self._layouts], dtype=float
        )[self._of_item]
        self._longest = longest_context + int(self.image_tokens.max(initial=0.0)) + 2
        self.warnings: dict[str, None] = {}

    def _stages(
        self, images: Images, *, prompt_tokens: int, output_tokens: int = 2, cached: int = 0
    ) -> dict[str, Estimate]:
        workload = Workload(
            images=images, prompt_tokens=prompt_tokens, output_tokens=output_tokens, cached_prefix_tokens=cached
        )
        forecast = self._forecast(workload)
        self.warnings |= dict.fromkeys(forecast.pricer.warnings)
        return forecast.stages

    def _forecast(self, workload: Workload) -> Forecast:
        served = self._served
        return estimate(
            self.model,
            served.hardware,
            served.engine,
            workload,
            dtype=self._dtype,
            kv_dtype=served.kv_dtype,
            quantization=served.quantization,
            num_devices=served.num_devices,
        )

    @cached_property
    def _contexts(self) -> Floats:
        """Context lengths priced: close together where they are short."""
        grid = np.unique(np.round(np.geomspace(1, max(self._longest, 4), _CONTEXTS)))
        return np.asarray(grid, dtype=float)

    @cached_property
    def _by_context(self) -> tuple[Table, Table]:
        """Prefill and one decode step, by context length; neither depends on what is text and what is image."""
        longest = Workload(prompt_tokens=int(self._contexts[-1]), output_tokens=2)
        forecast = self._forecast(longest)
        pricer, options = forecast.pricer, forecast.options
        prefill = program.prefill(self.model, new_tokens=self._contexts, cached_tokens=0.0, batch=1, options=options)
        step = program.decode_step(self.model, context_tokens=self._contexts + 1, batch=1, options=options)
        tables = Table.over(self._contexts, pricer.stage(prefill)), Table.over(self._contexts + 1, pricer.stage(step))
        self.warnings |= dict.fromkeys(pricer.warnings)
        return tables

    @cached_property
    def _fronts(self) -> tuple[Estimate, Estimate]:
        """Host time with and without images, and encoder time, of every item."""
        alone = self._stages((), prompt_tokens=1)["preprocess"]
        if len(self._distinct) <= _MOST_IMAGE_SETS:
            fronts = [self._front(sizes) for sizes in self._distinct]
            table = Table.of(range(len(fronts)), fronts)
            return table.at(self._of_item.astype(float)), alone
        return self._interpolated_front(), alone

    def _front(self, sizes: Images) -> Estimate:
        stages = self._stages(sizes, prompt_tokens=1)
        return total([stages["preprocess"], stages["encode"]])

    def _interpolated_front(self) -> Estimate:
        """Interpolate in patches, between image sets of as many images; host time is linear in pixels."""
        counts = np.array([len(sizes) for sizes in self._distinct])
        patches = np.array([sum(x.patches for x in found) for found in self._layouts], dtype=float)
        pixels = np.array([sum(size.pixels for size in sizes) for sizes in self._distinct]) / MEGA
        tables: dict[int, tuple[Table, Floats]] = {}
        for count in np.unique(counts).tolist():
            chosen = spread(np.flatnonzero(counts == count), patches, _MOST_IMAGE_SETS)
            fronts = [self._front(self._distinct[i]) for i in chosen]
            tables[count] = Table.of(patches[chosen].tolist(), fronts), pixels[chosen]
        per_megapixel = self._served.engine.megapixel_s.value
        parts = np.zeros(len(counts))
        sources = dict.fromkeys(source for table, _ in tables.values() for source in table.sd_s)
        sds = {source: np.zeros(len(counts)) for source in sources}
        for count, (table, known) in tables.items():
            here = counts == count
            at = table.at(patches[here])
            # Images of equal patches may come from unlike originals: the host pays for the original's pixels.
            extra = pixels[here] - np.interp(patches[here], table.grid, known)
            parts[here] = np.maximum(at.value_s + per_megapixel * extra, 0.0)
            for source, sd in at.sd_s.items():
                sds[source][here] = sd
        return Estimate(parts[self._of_item], {source: sd[self._of_item] for source, sd in sds.items()})

    def ask(self, prompt_tokens: Floats, output_tokens: Floats, *, cached: Floats | None = None) -> Estimate:
        """Time of one request of every item.

        Parameters
        ----------
        cached
            Tokens of image and prompt that are in the KV cache already, by item; images are not read again then.
        """
        return total([self.before_decode(prompt_tokens, cached=cached), self.decode(prompt_tokens, output_tokens)])

    def before_decode(self, prompt_tokens: Floats, *, cached: Floats | None = None) -> Estimate:
        """Time to the first token of every item."""
        context = self.image_tokens + prompt_tokens
        front, alone = self._fronts
        if cached is None:
            return total([front, self._by_context[0].at(context)])
        known = np.minimum(cached, context - 1)
        return total([broadcast(alone, context.shape), self._suffix(context, known)])

    def decode(self, prompt_tokens: Floats, output_tokens: Floats) -> Estimate:
        """Time of the tokens after the first one (equation 83)."""
        start = self.image_tokens + prompt_tokens + 0.5
        return self._by_context[1].integral(start, start + np.maximum(output_tokens - 1, 0.0))

    def decode_s(self, prompt_tokens: Floats, output_tokens: Floats) -> Floats:
        """Value of :meth:`decode` alone, without its sources of error."""
        start, step = self.image_tokens + prompt_tokens + 0.5, self._by_context[1]
        bare = Table(step.grid, step.value_s, {})
        return np.asarray(bare.integral(start, start + np.maximum(output_tokens - 1, 0.0)).value_s)

    def _suffix(self, context: Floats, known: Floats) -> Estimate:
        """Prefill of the tokens behind a cached prefix: for each distinct pair of lengths, or a spread of them."""
        pairs, inverse = np.unique(np.stack([context, known]).astype(np.int64), axis=1, return_inverse=True)
        if pairs.shape[1] > _MOST_IMAGE_SETS:
            return self._interpolated_suffix(context, known)
        found = [
            self._stages((), prompt_tokens=int(whole), output_tokens=1, cached=int(prefix))["prefill"]
            for whole, prefix in pairs.T
        ]
        return Table.of(range(len(found)), found).at(inverse.astype(float))

    def _interpolated_suffix(self, context: Floats, known: Floats) -> Estimate:
        """Bilinear in prefix and new tokens."""
        prefixes = whole_grid(known, 6)
        lengths = whole_grid(context - known, 8)
        rows = [
            Table.of(
                lengths.tolist(),
                [
                    self._stages((), prompt_tokens=int(prefix + new), output_tokens=1, cached=int(prefix))["prefill"]
                    for new in lengths
                ],
            ).at(context - known)
            for prefix in prefixes
        ]
        cell = np.clip(np.searchsorted(prefixes, known, side="right") - 1, 0, len(prefixes) - 2)
        share = (known - prefixes[cell]) / (prefixes[cell + 1] - prefixes[cell])
        index = np.arange(len(known))

        def mix(values: Floats) -> Floats:
            return np.asarray(values[cell, index] * (1 - share) + values[cell + 1, index] * share)

        sources = dict.fromkeys(source for row in rows for source in row.sd_s)
        nothing = np.zeros(len(known))
        return Estimate(
            mix(np.stack([np.asarray(row.value_s) for row in rows])),
            {s: mix(np.stack([np.asarray(row.sd_s.get(s, nothing)) for row in rows])) for s in sources},
        )


@dataclass(frozen=True, slots=True)
class PolicyTimes:
    """Predicted times of one policy, by item.

    Attributes
    ----------
    latency
        From question to answer.
    busy_s
        Device time by model: what is paid for, and what heats.
    """

    latency: Estimate
    busy_s: dict[Role, Floats]


class PolicyClock:
    """Predicted latency of plans over one set of items."""

    def __init__(
        self,
        clocks: Mapping[Role, ModelClock],
        *,
        deployment: Deployment | None = None,
        run_log_sd: Mapping[Role, float] | None = None,
    ) -> None:
        self.clocks = clocks
        self.deployment = deployment or Deployment()
        self._run_log_sd = run_log_sd or {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the predictions warned of."""
        return tuple(dict.fromkeys(text for clock in self.clocks.values() for text in clock.warnings))

    def times(self, result: Replay, scale: Scale | None = None) -> PolicyTimes:
        """Latency of every item under a replayed plan (equation 81)."""
        factors = scale or Scale()
        by_name = {used.ask.name: used for used in result.used}
        first: dict[Role, Floats] = {}
        spans: list[Estimate] = []
        busy: dict[Role, Floats] = {}
        for asks in ask_groups(result.plan):
            together = []
            for ask in asks:
                used = by_name[ask.name]
                took = self._ask(used, first.get(ask.model), factors)
                first.setdefault(ask.model, used.prompt_tokens.astype(float) + self.clocks[ask.model].image_tokens)
                busy[ask.model] = busy.get(ask.model, np.zeros(len(result.route))) + np.asarray(took.value_s)
                together.append((ask.model, took))
            spans.append(self._span(together))
        return PolicyTimes(total(spans), busy)

    def _ask(self, used: Used, prefix: Floats | None, scale: Scale) -> Estimate:
        role = used.ask.model
        tokens = scaled_tokens(used, scale)
        cached = prefix if self.deployment.reuse_prefix else None
        took = self.clocks[role].ask(used.prompt_tokens.astype(float), tokens, cached=cached)
        noisy = took.with_shared_error(f"run {role}", self._run_log_sd.get(role, 0.0))
        return noisy.scaled(np.where(used.asked, scale.time.get(role, 1.0), 0.0))

    def _span(self, together: Sequence[tuple[Role, Estimate]]) -> Estimate:
        """Time until all of a group have answered: in turn on one device, at the same time on two."""
        by_role: dict[Role, list[Estimate]] = {}
        for role, took in together:
            by_role.setdefault(role, []).append(took)
        sums = [total(parts) for parts in by_role.values()]
        if self.deployment.devices == 1 or len(sums) == 1:
            return total(sums)
        one, other = sums
        later = np.where(one.value_s >= other.value_s, 1.0, 0.0)
        return total([one.scaled(later), other.scaled(1.0 - later)])


def scaled_tokens(used: Used, scale: Scale) -> Floats:
    """Output tokens of an ask under a what-if; a cap still holds."""
    tokens = used.output_tokens.astype(float)
    factor = scale.output_tokens.get(used.ask.model, 1.0)
    if factor == 1:
        return tokens
    tokens = np.maximum(tokens * factor, 1.0)
    return tokens if used.ask.max_output_tokens is None else np.minimum(tokens, used.ask.max_output_tokens)


def ask_groups(plan: Plan) -> list[tuple[Ask, ...]]:
    """Asks of a plan in order; those that start together come as one group."""
    found = (tuple(step for step in group if isinstance(step, Ask)) for group in groups(plan))
    return [asks for asks in found if asks]
