"""From a model and a workload to stages of components of operators: what runs, and how often.

A stage (encode, prefill, decode) is a list of components, a component is what a slice measures: one vision block, one
decoder layer, the head, or the shell around them. Token counts may be numpy arrays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from costmodel.errors import WorkloadError
from costmodel.ops import (
    ContextAttention,
    Elementwise,
    EncoderAttention,
    Gemm,
    GenerationAttention,
    Num,
    Op,
)
from costmodel.specs.images import ImageLayout, ImageSize
from costmodel.specs.model import LayerGroup, ModelSpec, ProjectionSpec, VisionSpec
from costmodel.units import MEGA

__all__ = ["Component", "Options", "Stage", "decode_step", "encode", "image_layouts", "prefill", "preprocess"]

# Passes over memory of an unfused implementation: kernels that transformers launches for each of these in eager mode.
_EAGER_PASSES = {"rms_norm": 6, "layer_norm": 1, "rope": 6, "swiglu": 2, "gelu": 1, "add": 1}


@dataclass(frozen=True, slots=True)
class Options:
    """How the layers are run.

    Attributes
    ----------
    dtype
        Number format of weights and activations.
    kv_dtype
        Number format of the KV cache.
    fused
        See :class:`~costmodel.profiles.EngineProfile`.
    """

    dtype: str
    kv_dtype: str
    fused: bool


@dataclass(frozen=True, slots=True)
class Component:
    """A piece that runs ``count`` times in a stage.

    Attributes
    ----------
    features
        The sizes that its time depends on; the coefficients of a slice are per unit of these (equation 13).
    """

    name: str
    count: int
    ops: tuple[Op, ...]
    features: Mapping[str, Num] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a request."""

    name: str
    components: tuple[Component, ...]

    def flops(self, *, dense: bool = False) -> Num:
        """FLOPs of the stage; ``dense`` counts masked pairs too, as ``torch.utils.flop_counter`` does."""
        return self._sum((op.dense_flops if dense else op.flops, c.count) for c in self.components for op in c.ops)

    def bytes(self) -> Num:
        """Bytes read and written by the stage's operators."""
        return self._sum((op.bytes, c.count) for c in self.components for op in c.ops)

    def launches(self) -> int:
        """Kernels launched."""
        return sum(c.count * op.launches for c in self.components for op in c.ops)

    @staticmethod
    def _sum(terms: Iterable[tuple[Num, int]]) -> Num:
        return sum((value * count for value, count in terms), start=np.float64(0.0))


def image_layouts(model: ModelSpec, images: Iterable[ImageSize]) -> tuple[ImageLayout, ...]:
    """Layout of every image.

    Raises
    ------
    WorkloadError
        If there are images and the model reads none: an image is never ignored.
    """
    sizes = tuple(images)
    if not sizes:
        return ()
    if model.image_rule is None:
        raise WorkloadError(f"{model.name} reads text only, got {len(sizes)} image(s)")
    return tuple(model.image_rule.layout(size) for size in sizes)


def preprocess(images: Iterable[ImageSize], layouts: Iterable[ImageLayout]) -> Stage:
    """Host work before the device starts; it has no operators, only sizes."""
    sizes, resized = tuple(images), tuple(layouts)
    features = {
        "requests": 1.0,
        "images": float(len(sizes)),
        "megapixels": sum(size.pixels for size in sizes) / MEGA,
        "resized_megapixels": sum(layout.resized_pixels for layout in resized) / MEGA,
    }
    return Stage("preprocess", (Component("preprocess", 1, (), features),))


def encode(model: ModelSpec, layouts: Iterable[ImageLayout], *, batch: int, options: Options) -> Stage:
    """Vision tower and connector over all images of all requests of the batch."""
    tiles: Counter[tuple[int, int]] = Counter()
    for layout in layouts:
        tiles[layout.grid_height, layout.grid_width] += layout.tiles * batch
    vision, connector = model.vision, model.connector
    if not tiles or vision is None or connector is None:
        return Stage("encode", ())
    patches = float(sum(height * width * count for (height, width), count in tiles.items()))
    tokens = patches / connector.patches_per_token
    merger, *others = connector.projections
    components = [_vision_shell(vision, merger, patches, tokens, options)]
    components += [_vision_block(vision, group, patches, tiles, options) for group in vision.blocks]
    sizes = {"requests": 1.0, "patches": patches}
    components += [
        Component(f"encode.{other.name}", other.count, _projection_ops(other, tokens, options), sizes)
        for other in others
    ]
    return Stage("encode", tuple(components))


def prefill(model: ModelSpec, *, new_tokens: Num, cached_tokens: Num, batch: int, options: Options) -> Stage:
    """The decoder reads ``new_tokens`` per request on top of ``cached_tokens``, and makes the first output token."""
    decoder = model.decoder
    context = cached_tokens + new_tokens
    components = [
        _decoder_layer(
            model,
            group,
            rows=batch * new_tokens,
            attention=ContextAttention(
                "attention",
                batch,
                new_tokens,
                context,
                group.attention.num_heads,
                group.attention.num_kv_heads,
                group.attention.head_dim,
                options.dtype,
                options.kv_dtype,
                group.attention.window,
            ),
            options=options,
            phase="prefill",
        )
        for group in decoder.layers
    ]
    shell_ops = (Elementwise("embedding", batch * new_tokens * decoder.hidden_size, options.dtype),)
    shell = Component("prefill.shell", 1, shell_ops, {"requests": 1.0, "tokens": batch * new_tokens})
    return Stage("prefill", (shell, *components, _head(model, batch, options)))


def decode_step(model: ModelSpec, *, context_tokens: Num, batch: int, options: Options) -> Stage:
    """One step: one new token a request, attending to ``context_tokens`` including itself."""
    decoder = model.decoder
    components = [
        _decoder_layer(
            model,
            group,
            rows=float(batch),
            attention=GenerationAttention(
                "attention",
                batch,
                context_tokens,
                group.attention.num_heads,
                group.attention.num_kv_heads,
                group.attention.head_dim,
                options.dtype,
                options.kv_dtype,
                group.attention.window,
            ),
            options=options,
            phase="decode",
        )
        for group in decoder.layers
    ]
    shell_ops = (Elementwise("embedding", float(batch * decoder.hidden_size), options.dtype),)
    shell = Component("decode.shell", 1, shell_ops, {"requests": 1.0, "context_tokens": context_tokens})
    return Stage("decode", (shell, *components, _head(model, batch, options)))


def _elementwise(name: str, kind: str, elements: Num, options: Options) -> Elementwise:
    passes = 1 if options.fused else _EAGER_PASSES[kind]
    return Elementwise(name, elements, options.dtype, passes)


def _layer_ops(
    group: LayerGroup, *, hidden: int, rows: Num, attention: tuple[Op, ...], options: Options
) -> tuple[Op, ...]:
    """Operators of one transformer layer around its attention."""
    spec, mlp, dtype = group.attention, group.mlp, options.dtype

    def joined(name: str, widths: tuple[int, ...]) -> list[Op]:
        if options.fused:
            return [Gemm(name, rows, sum(widths), hidden, dtype)]
        return [Gemm(name, rows, width, hidden, dtype) for width in widths]

    ops: list[Op] = [_elementwise("input_norm", group.norm, rows * hidden, options)]
    ops += joined("qkv", (spec.q_size, spec.kv_size, spec.kv_size))
    if spec.qk_norm:
        ops.append(_elementwise("qk_norm", group.norm, rows * (spec.q_size + spec.kv_size), options))
    ops.append(_elementwise("rope", "rope", rows * (spec.q_size + spec.kv_size), options))
    ops += attention
    ops.append(Gemm("output", rows, hidden, spec.q_size, dtype))
    ops.append(_elementwise("attention_add", "add", rows * hidden, options))
    ops.append(_elementwise("mlp_norm", group.norm, rows * hidden, options))
    ups = (mlp.intermediate_size,) * (2 if mlp.gated else 1)
    ops += joined("up", ups)
    activation = "swiglu" if mlp.gated else "gelu"
    ops.append(_elementwise("activation", activation, rows * mlp.intermediate_size, options))
    ops.append(Gemm("down", rows, hidden, mlp.intermediate_size, dtype))
    ops.append(_elementwise("mlp_add", "add", rows * hidden, options))
    return tuple(ops)


def _decoder_layer(
    model: ModelSpec,
    group: LayerGroup,
    *,
    rows: Num,
    attention: ContextAttention | GenerationAttention,
    options: Options,
    phase: str,
) -> Component:
    hidden = model.decoder.hidden_size
    ops = _layer_ops(group, hidden=hidden, rows=rows, attention=(attention,), options=options)
    gemm_flops = sum((op.flops for op in ops if isinstance(op, Gemm)), start=np.float64(0.0))
    features: dict[str, Num] = {"layers": 1.0, "gemm_flops": gemm_flops}
    if phase == "prefill":
        features["attention_flops"] = attention.flops
    else:
        features["kv_bytes"] = attention.kv_bytes
    name = f"{phase}.decoder_layer{_group_suffix(model.decoder.layers, group)}"
    return Component(name, group.count, ops, features)


def _group_suffix(groups: tuple[LayerGroup, ...], group: LayerGroup) -> str:
    return "" if len(groups) == 1 else f"_{groups.index(group)}"


def _head(model: ModelSpec, batch: int, options: Options) -> Component:
    """Final norm and the map to the vocabulary, for the last token of each request only."""
    decoder = model.decoder
    ops = (
        _elementwise("final_norm", decoder.final_norm, float(batch * decoder.hidden_size), options),
        Gemm("lm_head", float(batch), decoder.vocab_size, decoder.hidden_size, options.dtype),
    )
    return Component("head", 1, ops, {"rows": float(batch)})


def _vision_shell(
    vision: VisionSpec, merger: ProjectionSpec, patches: float, tokens: float, options: Options
) -> Component:
    """What a tower without blocks still does: patch embedding, positions, merger."""
    ops = (
        Gemm("patch_embedding", patches, vision.hidden_size, vision.patch_features, options.dtype),
        Elementwise("positions", patches * vision.hidden_size, options.dtype),
        *_projection_ops(merger, tokens, options),
    )
    return Component("encode.shell", 1, ops, {"requests": 1.0, "patches": patches})


def _vision_block(
    vision: VisionSpec,
    group: LayerGroup,
    patches: float,
    tiles: Mapping[tuple[int, int], int],
    options: Options,
) -> Component:
    spec = group.attention
    sequences = Counter[int]()
    for (height, width), count in tiles.items():
        for length, windows in _windows(height, width, spec.window).items():
            sequences[length] += windows * count
    attention = tuple(
        EncoderAttention("attention", batch, length, spec.num_heads, spec.head_dim, options.dtype)
        for length, batch in sorted(sequences.items())
    )
    ops = _layer_ops(group, hidden=vision.hidden_size, rows=patches, attention=attention, options=options)
    gemm_flops = sum((op.flops for op in ops if isinstance(op, Gemm)), start=np.float64(0.0))
    features: dict[str, Num] = {
        "layers": 1.0,
        "gemm_flops": gemm_flops,
        "attention_flops": sum((op.flops for op in attention), start=np.float64(0.0)),
    }
    return Component(f"encode.block{_group_suffix(vision.blocks, group)}", group.count, ops, features)


def _windows(height: int, width: int, window: int | None) -> Counter[int]:
    """Attention sequences of one tile: how many there are of each length. Windows at the edge are smaller."""
    if window is None:
        return Counter({height * width: 1})
    sequences = Counter[int]()
    for rows, row_windows in _split(height, window).items():
        for columns, column_windows in _split(width, window).items():
            sequences[rows * columns] += row_windows * column_windows
    return sequences


def _split(length: int, window: int) -> dict[int, int]:
    whole, rest = divmod(length, window)
    return {size: count for size, count in ((window, whole), (rest, 1)) if size and count}


def _projection_ops(projection: ProjectionSpec, tokens: float, options: Options) -> tuple[Op, ...]:
    norm_elements = tokens * projection.linears[0].in_features
    ops: list[Op] = [_elementwise("norm", projection.norm, norm_elements, options)]
    for index, linear in enumerate(projection.linears):
        if index:
            ops.append(_elementwise("activation", "gelu", tokens * linear.in_features, options))
        ops.append(Gemm(f"{projection.name}_{index}", tokens, linear.out_features, linear.in_features, options.dtype))
    return tuple(ops)
