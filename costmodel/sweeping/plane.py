"""All requests to one model on one device: each stage on the axes that it depends on, then broadcast together.

Encoding depends on images and batch, prefill on the tokens of the prompt and batch, decoding on both and the output.
The slow reference is :func:`costmodel.predict`, one configuration at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from costmodel import program
from costmodel.errors import WorkloadError
from costmodel.estimate import Estimate, total
from costmodel.memory import memory_parts
from costmodel.ops import Num
from costmodel.predict import DECODE_NODES, PIXEL_BYTES, legendre
from costmodel.pricing import Pricer
from costmodel.program import Options
from costmodel.quantity import normal_quantile, widening
from costmodel.specs.images import ImageLayout
from costmodel.specs.model import ModelSpec
from costmodel.sweeping.axes import Axes, Block
from costmodel.sweeping.steps import StepTable, knots

__all__ = ["QUANTITIES", "Columns", "Plane"]

QUANTITIES = ("preprocess_s", "encode_s", "prefill_s", "decode_s", "ttft_s", "tpot_s", "total_s")

Floats = NDArray[np.float64]
Columns = dict[str, NDArray[np.generic]]
"""Arrays by name. Each has all axes of the sweep, of length 1 where it does not depend on one."""


@dataclass(frozen=True)
class Plane:
    """One model on one device under one engine, over all axes.

    Attributes
    ----------
    interval
        Probability that the intervals should hold; ``None``: values alone.
    exact
        Whether decode steps are priced at the contexts of every configuration, as ``predict`` does it.
    """

    model: ModelSpec
    pricer: Pricer
    options: Options
    axes: Axes
    interval: float | None
    exact: bool = False
    _tables: dict[tuple[float, int, int], StepTable] = field(default_factory=dict)
    _layouts: dict[object, tuple[ImageLayout, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what no block can.

        Raises
        ------
        WorkloadError
            If the interval is no probability, or a cached prefix leaves nothing of a prompt.
        """
        if self.interval is not None:
            normal_quantile(self.interval)

    @property
    def _errors(self) -> bool:
        return self.interval is not None

    def block(self, block: Block) -> Columns:
        """Latency and memory of a block of configurations.

        Raises
        ------
        WorkloadError
            If a request does not fit the model.
        """
        return _Block(self, block).columns()

    def layouts_of(self, images: object) -> tuple[ImageLayout, ...]:
        """Layouts of an entry of the image axis, each worked out once."""
        if images not in self._layouts:
            self._layouts[images] = program.image_layouts(self.model, images)  # type: ignore[arg-type]
        return self._layouts[images]


class _Block:
    """Sizes of a block. Arrays have the axes images, prompt, prefix (flattened to requests), output, batch."""

    def __init__(self, plane: Plane, block: Block) -> None:
        self.plane, axes = plane, plane.axes
        self.sets = axes.images[block[0]]
        self.layouts = [plane.layouts_of(images) for images in self.sets]
        self.batches = block[4]
        self.batch = axes.batch[block[4]].astype(float)
        self.output = axes.output_tokens[block[3]].astype(float)
        prompts, cached = axes.prompt_tokens[block[1]], axes.cached_prefix_tokens[block[2]]
        visual = np.array([sum(x.visual_tokens + x.extra_text_tokens for x in found) for found in self.layouts])
        cross = np.array([program.cross_tokens(found, plane.options) for found in self.layouts])
        self.grid = (len(self.sets), len(prompts), len(cached))
        grid = np.broadcast_arrays(
            np.arange(len(self.sets))[:, None, None],
            visual[:, None, None] + prompts[:, None],
            cached,
            cross[:, None, None],
        )
        self.image, prompt, prefix, cross = (part.reshape(-1) for part in grid)
        self.prompt, self.prefix, self.cross = prompt.astype(float), prefix.astype(float), cross.astype(float)
        self._check(prompts, cached)

    def _check(self, prompts: NDArray[np.int64], cached: NDArray[np.int64]) -> None:
        if prompts.min() == 0 and not all(self.sets):
            raise WorkloadError("prompt_tokens is 0 and there is no image: the request is empty")
        if (self.prefix >= self.prompt).any():
            least = int(self.prompt.min())
            raise WorkloadError(
                f"cached_prefix_tokens is {int(cached.max())}, expected fewer than the prompt's {least}"
            )

    def columns(self) -> Columns:
        """Values, intervals where asked for, and memory."""
        stages = {
            "preprocess": self._preprocess(),
            "encode": self._encode(),
            "prefill": self._prefill(),
            "decode": self._decode(),
        }
        before = total(stages[name] for name in ("preprocess", "encode", "prefill"))
        estimates = {f"{name}_s": stage for name, stage in stages.items()}
        estimates["ttft_s"] = before
        steps = np.maximum(self.output[:, None] - 1, 1)
        estimates["tpot_s"] = stages["decode"].scaled(1 / steps)
        estimates["total_s"] = total([before, stages["decode"]])
        found: Columns = {}
        for name in QUANTITIES:
            found |= self._quantity(name, estimates[name])
        found |= self._memory()
        return {name: self._with_axes(values) for name, values in found.items()}

    def _with_axes(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """From (requests, output, batch) to all five axes."""
        requests, outputs, batches = (1,) * (3 - values.ndim) + values.shape
        return values.reshape(*(self.grid if requests > 1 else (1, 1, 1)), outputs, batches)

    def _quantity(self, name: str, estimate: Estimate) -> Columns:
        value = np.asarray(estimate.value_s)
        interval = self.plane.interval
        if interval is None:
            return {name: value}
        hardware = self.plane.pricer.hardware
        noisy = estimate.on_device(hardware.run_log_sd, hardware.device_log_sd)
        factor = widening(noisy.log_sd(), interval=interval)
        return {name: value, f"{name}_low": value / factor, f"{name}_high": value * factor}

    def _preprocess(self) -> Estimate:
        counts = np.array([len(images) for images in self.sets], dtype=float)
        pixels = np.array([sum(size.pixels for size in images) for images in self.sets], dtype=float)
        resized = np.array([sum(x.resized_pixels for x in found) for found in self.layouts], dtype=float)
        tiles = np.array([sum(x.tiles for x in found) for found in self.layouts], dtype=float)
        sizes = (each[:, None] for each in (counts, pixels, resized, tiles))
        work = program.host_work(*sizes, batch=self.batch)
        copied = resized[:, None] * self.batch * PIXEL_BYTES
        rule = getattr(self.plane.model.image_rule, "rule", "")
        by_set = self.plane.pricer.preprocess(work, copied, image_rule=rule, errors=self.plane._errors)
        return self._of_requests(by_set, (len(self.sets), len(self.batch)), self.image)

    def _encode(self) -> Estimate:
        """Vision tower and connector, once for each way to lay images out."""
        distinct = list(dict.fromkeys(self.layouts))
        stages = [
            program.encode(self.plane.model, found, batch=self.batch, options=self.plane.options) for found in distinct
        ]
        priced = self.plane.pricer.stages(stages, errors=self.plane._errors)
        shape = (len(self.batch),)
        sources = dict.fromkeys(source for each in priced for source in each.estimate.sd_s)
        by_layout = Estimate(
            np.stack([np.broadcast_to(each.estimate.value_s, shape) for each in priced]),
            {s: np.stack([np.broadcast_to(each.estimate.sd_s.get(s, 0.0), shape) for each in priced]) for s in sources},
        )
        number = {found: i for i, found in enumerate(distinct)}
        row = np.array([number[found] for found in self.layouts])
        return self._of_requests(by_layout, (len(distinct), len(self.batch)), row[self.image])

    def _prefill(self) -> Estimate:
        """Prefill in passes; passes of equal sizes are priced once."""
        new = self.prompt - self.prefix
        length = np.full_like(new, self.plane.options.chunk_tokens) if self.plane.options.chunk_tokens else new
        passes = np.ceil(new / length).astype(np.int64)
        first = np.concatenate([[0], np.cumsum(passes)[:-1]])
        request = np.repeat(np.arange(len(new)), passes)
        start = (np.arange(len(request)) - first[request]) * length[request]
        tokens = np.minimum(length[request], new[request] - start)
        last = np.append(request[1:] != request[:-1], True)
        rows = np.stack([tokens, self.prefix[request] + start, self.cross[request], start == 0, last], axis=1)
        distinct, row = np.unique(rows, axis=0, return_inverse=True)
        priced = self._alike(distinct, (distinct[:, 2] > 0) + 2 * distinct[:, 4], self._passes)
        shape = (len(distinct), len(self.batch))

        def summed(part: Num) -> Num:
            whole = np.broadcast_to(part, shape)[row.reshape(-1)]
            return np.add.reduceat(whole, first, axis=0)[:, None, :]

        return priced.mapped(summed)

    def _passes(self, rows: Floats) -> Estimate:
        """Passes of the prefill that all make the output token or all don't."""
        tokens, past, cross, is_first = (column[:, None] for column in rows[:, :4].T)
        stage = program.prefill(
            self.plane.model,
            new_tokens=tokens,
            cached_tokens=past,
            batch=self.batch,
            options=self.plane.options,
            cross_tokens=cross if cross.any() else 0,
            first_chunk=is_first,
            makes_token=bool(rows[0, 4]),
        )
        return self.plane.pricer.stages([stage], errors=self.plane._errors)[0].estimate

    def _decode(self) -> Estimate:
        return self._decode_exactly() if self.plane.exact else self._decode_by_table()

    def _decode_by_table(self) -> Estimate:
        """Sums of steps from a table over contexts, one for each number of vision states beside the text."""
        rows = np.stack([self.cross, self.prompt], axis=1)
        first = self.prompt + 0.5
        last = first[:, None] + self.output - 1

        def summed(here: Floats) -> Estimate:
            of_cross = self.cross == here[0, 0]
            return self._table(float(here[0, 0])).summed(first[of_cross], last[of_cross])

        return self._alike(rows, self.cross, summed, (len(rows), len(self.output), len(self.batch)))

    def _table(self, cross: float) -> StepTable:
        """Steps at any context that a request of the sweep has; shared by its blocks."""
        plane, axes, place = self.plane, self.plane.axes, (cross, self.batches.start, self.batches.stop)
        if place not in plane._tables:
            visual = [sum(x.visual_tokens + x.extra_text_tokens for x in plane.layouts_of(i)) for i in axes.images]
            grid = knots(
                float(axes.prompt_tokens.min() + min(visual)),
                float(axes.prompt_tokens.max() + max(visual) + axes.output_tokens.max()),
            )
            plane._tables[place] = StepTable.of(
                grid, len(self.batch), lambda context: self._step(context, cross, self.batch)
            )
        return plane._tables[place]

    def _step(self, context: Num, cross: Num, batch: Num) -> Estimate:
        stage = program.decode_step(
            self.plane.model,
            context_tokens=context,
            batch=batch,
            options=self.plane.options,
            cross_tokens=cross if np.any(cross) else 0,
        )
        return self.plane.pricer.stages([stage], errors=self.plane._errors)[0].estimate

    def _decode_exactly(self) -> Estimate:
        """Decode steps at the nodes of the quadrature over the context, once for each prompt length."""
        rows = np.stack([self.prompt, self.cross], axis=1)
        distinct, row = np.unique(rows, axis=0, return_inverse=True)
        shape = (len(distinct), len(self.output), len(self.batch))
        steps = self._alike(distinct, distinct[:, 1] > 0, self._steps, shape)
        places = row.reshape(-1)
        if np.array_equal(places, np.arange(len(distinct))):
            return steps
        return steps.mapped(lambda part: np.broadcast_to(part, shape)[places])

    def _steps(self, rows: Floats) -> Estimate:
        nodes, weights = legendre(DECODE_NODES)
        prompt, cross = (column[:, None, None, None] for column in rows.T)
        steps = self.output[:, None] - 1
        step = self._step(prompt + 0.5 + steps[:, :, None] * nodes, cross, self.batch[:, None])
        return step.averaged(weights).scaled(steps)

    def _alike(
        self,
        rows: Floats,
        kinds: NDArray[Any],
        price: Callable[[Floats], Estimate],
        shape: tuple[int, ...] | None = None,
    ) -> Estimate:
        """Price rows of different ``kinds`` (a number each) apart: their stages have different operators."""
        found = np.unique(kinds)
        if len(found) == 1:
            return price(rows)
        shape = shape or (len(rows), len(self.batch))
        places = [kinds == kind for kind in found]
        parts = [(here, price(rows[here])) for here in places]
        sources = dict.fromkeys(source for _, part in parts for source in part.sd_s)

        def joined(chosen: list[tuple[NDArray[np.bool_], Num]]) -> Floats:
            whole = np.zeros(shape)
            for here, part in chosen:
                whole[here] = part
            return whole

        return Estimate(
            joined([(here, part.value_s) for here, part in parts]),
            {s: joined([(here, part.sd_s.get(s, 0.0)) for here, part in parts]) for s in sources},
        )

    def _of_requests(self, estimate: Estimate, shape: tuple[int, ...], rows: NDArray[np.int64]) -> Estimate:
        """Spread a table over the requests."""
        return estimate.mapped(lambda part: np.broadcast_to(part, shape)[rows][:, None, :])

    def _memory(self) -> Columns:
        options, model = self.plane.options, self.plane.model
        context = self.prompt[:, None] + self.output
        largest = np.minimum(self.prompt - self.prefix, options.chunk_tokens or np.inf)
        patches = np.array([sum(x.patches for x in found) for found in self.layouts], dtype=float)[self.image]
        weights, kv_cache, activations = memory_parts(
            model,
            context_tokens=context[:, :, None],
            largest_pass_tokens=largest[:, None, None],
            patches=patches[:, None, None],
            batch=self.batch,
            options=options,
            cross_tokens=self.cross[:, None, None],
        )
        needed = np.asarray(weights + kv_cache + activations)
        return {
            "memory_bytes": needed,
            "fits": needed <= self.plane.pricer.hardware.datasheet.memory_bytes,
            "within_context": context[:, :, None] <= model.decoder.max_context_tokens,
        }
