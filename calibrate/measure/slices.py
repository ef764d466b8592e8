"""Slices of a model: one block, one layer, the head and the shell, real modules with random weights.

The modules are timed as the real model calls them: a short run of the model with few layers is watched, the arguments
of its first block and first layer are kept, and the modules are called again with them. So a slice needs nothing that
a family would have to tell. Layers that stream their weights are timed over several copies in turn, so that no cache
holds what a whole model would have to fetch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from calibrate.engines.local_transformers import LocalModel, random_image
from calibrate.measure.device import Device
from calibrate.measure.pool import Visit, WorkItem
from costmodel import program
from costmodel.ops import Num
from costmodel.program import Component, Options
from costmodel.specs.images import ImageSize
from costmodel.specs.model import AttentionSpec, LayerGroup, ModelSpec

__all__ = ["SliceGrid", "slice_items"]

# Weights that the copies of a layer hold together: more than caches keep between two uses.
_STREAMED_BYTES = 512 * 1024 * 1024
_SHELL_OUTPUT_TOKENS = 8
_DECODE_REPEATS = 3
# Copies of a module in turn where its weights are read once for many rows.
_COMPUTE_BOUND_COPIES = 2


@dataclass(frozen=True, slots=True)
class SliceGrid:
    """Sizes at which slices are measured.

    Attributes
    ----------
    images
        Sizes that need resizing: preprocessing of an image that fits as it is looks too cheap.
    text_tokens
        Prompt lengths without image; also the contexts of the decode steps.
    shell_requests
        (image, text tokens) of the runs of the shell.
    """

    images: tuple[ImageSize, ...]
    text_tokens: tuple[int, ...]
    shell_requests: tuple[tuple[ImageSize, int], ...]


@dataclass(frozen=True, slots=True)
class _Call:
    """Arguments that a module was called with; the cache as it was before the call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def again(self) -> _Call:
        """The same arguments with a cache that may be appended to."""
        cache = self.kwargs.get("past_key_values")
        return self if cache is None else _Call(self.args, {**self.kwargs, "past_key_values": _snapshot(cache)})


def _snapshot(cache: Any) -> Any:
    """A cache that shares the tensors: a dynamic cache replaces them on update, it does not write into them."""
    twin = copy.copy(cache)
    twin.layers = [copy.copy(layer) for layer in cache.layers]
    return twin


class _Captured:
    """Keeps the arguments of every call of a module while a run goes on."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.calls: list[_Call] = []
        self._handle = module.register_forward_pre_hook(self._keep, with_kwargs=True)

    def _keep(self, _: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.calls.append(_Call(args, kwargs).again())

    def __enter__(self) -> list[_Call]:
        return self.calls

    def __exit__(self, *_: object) -> None:
        self._handle.remove()


def slice_items(
    spec: ModelSpec, device: Device, *, dtype: str, engine: str, grid: SliceGrid, seed: int
) -> list[WorkItem]:
    """Work items of one model size.

    Parameters
    ----------
    dtype
        Number format of weights and activations.
    engine
        Key of the engine profile that the slices stand for.
    """
    options = Options(dtype=dtype, kv_dtype=dtype, fused=False)
    builder = _Builder(spec, device, options, engine, seed)
    items = [builder.shell(size, text) for size, text in grid.shell_requests]
    items += builder.vision(grid.images)
    for tokens in grid.text_tokens:
        items += builder.decoder(tokens)
    return [*items, builder.head()]


class _Builder:
    def __init__(self, spec: ModelSpec, device: Device, options: Options, engine: str, seed: int) -> None:
        self.spec, self.device, self.options, self.seed = spec, device, options, seed
        self.fields = {
            "op": "slice",
            "model": spec.name,
            "fingerprint": spec.fingerprint(),
            "engine": engine,
            "dtype": options.dtype,
        }
        layer_bytes = 4 * spec.decoder.layers[0].parameters(spec.decoder.hidden_size)
        copies = _STREAMED_BYTES // max(layer_bytes // spec.decoder.layers[0].count, 1) + 1
        blocks = 4 if spec.vision is None else min(4, spec.vision.num_layers)
        self.shell_model = LocalModel(spec, device, dtype=options.dtype, text_layers=0, vision_blocks=0)
        self.model = LocalModel(
            spec,
            device,
            dtype=options.dtype,
            text_layers=int(min(spec.decoder.num_layers, copies)),
            vision_blocks=blocks,
            full_attention_blocks=blocks // 2,
        )

    def item(self, what: str, visit: Any) -> WorkItem:
        identity = f"{self.spec.fingerprint()}/{self.fields['engine']}/{self.options.dtype}"
        return WorkItem(f"slice/{self.spec.name}/{identity}/{what}", self.fields, visit)

    def shell(self, size: ImageSize, text_tokens: int) -> WorkItem:
        """The model without layers and blocks, through the whole of ``generate()``."""
        image = random_image(size, seed=self.seed)
        layouts = program.image_layouts(self.spec, [size])
        prompt = text_tokens + sum(x.visual_tokens + x.extra_text_tokens for x in layouts)
        encode = program.encode(self.spec, layouts, batch=1, options=self.options)
        prefill = program.prefill(self.spec, new_tokens=float(prompt), cached_tokens=0.0, batch=1, options=self.options)
        context = prompt + _SHELL_OUTPUT_TOKENS / 2
        step = program.decode_step(self.spec, context_tokens=context, batch=1, options=self.options)
        pre = program.preprocess([size], layouts)

        def visit() -> Sequence[Visit]:
            times = self.shell_model.run([image], prompt_tokens=text_tokens, output_tokens=_SHELL_OUTPUT_TOKENS)
            step_s = times.decode_s / (times.output_tokens - 1)
            return (
                _visit(pre.components[0], (times.preprocess_s,)),
                _visit(encode.components[0], (times.encode_s,)),
                _visit(prefill.components[0], (times.prefill_s - times.head_prefill_s,)),
                _visit(step.components[0], (step_s - times.head_step_s,)),
            )

        return self.item(f"shell/{size}/{text_tokens}", visit)

    def vision(self, sizes: Sequence[ImageSize]) -> Iterator[WorkItem]:
        """A vision block of every group, and the deepstack merger, at several image sizes."""
        tower = self.model.model.model.visual
        for size in sizes:
            layouts = program.image_layouts(self.spec, [size])
            stage = program.encode(self.spec, layouts, batch=1, options=self.options)
            pieces = [(c, self._vision_modules(c, tower)) for c in stage.components[1:]]
            with ExitStack() as stack:
                captured = [stack.enter_context(_Captured(modules[0])) for _, modules in pieces]
                self.model.run([random_image(size, seed=self.seed)], prompt_tokens=8, output_tokens=1)
            for (component, modules), calls in zip(pieces, captured, strict=True):
                replay = _Replay(self.device, component, modules[:_COMPUTE_BOUND_COPIES], calls[0])
                yield self.item(f"{component.name}/{size}", replay)

    def _vision_modules(self, component: Component, tower: Any) -> list[torch.nn.Module]:
        if not component.name.startswith("encode.block"):
            return list(tower.deepstack_merger_list)
        full = set(getattr(tower.config, "fullatt_block_indexes", ()))
        attention = self._vision_group(component).attention
        windowed = isinstance(attention, AttentionSpec) and attention.window is not None
        return [block for i, block in enumerate(tower.blocks) if not full or (i in full) != windowed]

    def _vision_group(self, component: Component) -> LayerGroup:
        if self.spec.vision is None:
            raise ValueError("no vision tower")
        suffix = component.name.rpartition("_")[2]
        return self.spec.vision.blocks[int(suffix) if suffix.isdigit() else 0]

    def decoder(self, tokens: int) -> list[WorkItem]:
        """A decoder layer: prefill of ``tokens``, and steps at a context of as many."""
        layers = list(self.model.model.model.language_model.layers)
        with _Captured(layers[0]) as calls:
            self.model.run([], prompt_tokens=tokens, output_tokens=2)
        prefill = program.prefill(self.spec, new_tokens=float(tokens), cached_tokens=0.0, batch=1, options=self.options)
        step = program.decode_step(self.spec, context_tokens=tokens + 1.0, batch=1, options=self.options)
        return [
            self.item(
                f"prefill/{tokens}",
                _Replay(self.device, prefill.components[1], layers[:_COMPUTE_BOUND_COPIES], calls[0]),
            ),
            self.item(
                f"decode/{tokens}",
                _Replay(self.device, step.components[1], layers, calls[1], _DECODE_REPEATS),
            ),
        ]

    def head(self) -> WorkItem:
        """The map to the vocabulary on copies of its weights in turn; prefill and decode use the same one."""
        head = self.model.model.lm_head
        copies = min(8, _STREAMED_BYTES // (head.weight.numel() * head.weight.element_size()) + 1)
        modules = [head, *(copy.deepcopy(head) for _ in range(copies - 1))]
        hidden = torch.randn(1, 1, head.in_features, dtype=head.weight.dtype, device=head.weight.device)
        step = program.decode_step(self.spec, context_tokens=1.0, batch=1, options=self.options)
        component = step.components[-1]
        return self.item("head", _Replay(self.device, component, modules, _Call((hidden,), {}), _DECODE_REPEATS))


class _Replay:
    """Calls modules in turn with kept arguments, and times each call."""

    def __init__(
        self,
        device: Device,
        component: Component,
        modules: Sequence[torch.nn.Module],
        call: _Call,
        repeats: int = 1,
    ) -> None:
        self._device, self._component, self._modules = device, component, modules
        self._call, self._repeats = call, repeats

    def __call__(self) -> Sequence[Visit]:
        raw: list[float] = []
        if self._repeats > 1:
            # What ran before took the caches; a decode loop finds them as its own last step left them.
            self._pass()
        for _ in range(self._repeats):
            raw += self._pass()
        return (_visit(self._component, tuple(raw)),)

    def _pass(self) -> list[float]:
        call = self._call.again()
        marks = [self._device.mark()]
        for module in self._modules:
            module(*call.args, **call.kwargs)
            marks.append(self._device.mark())
        return [self._device.elapsed_s(start, end) for start, end in pairwise(marks)]


def _visit(component: Component, raw_s: tuple[float, ...]) -> Visit:
    features: dict[str, Num] = {name: float(np.mean(value)) for name, value in component.features.items()}
    return Visit(component.name, raw_s, {"features": features})
