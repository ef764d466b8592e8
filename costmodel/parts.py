"""What a model consists of, part by part, and the work of its stages for one request."""

from __future__ import annotations

from collections.abc import Iterator

from costmodel import program
from costmodel.memory import memory_of
from costmodel.ops import Gemm, GenerationAttention, MoeExperts, dtype_of
from costmodel.program import Options, Stage
from costmodel.render import Table
from costmodel.specs.model import AnyMlp, AttentionSpec, LayerGroup, ModelSpec, MoeSpec, VisionSpec
from costmodel.specs.workload import Workload
from costmodel.units import GIGA, MEGA, format_bytes

__all__ = ["parts", "parts_table", "stored_table", "work_table"]


def parts(model: ModelSpec) -> Iterator[tuple[str, str, int]]:
    """Name, description and parameters of every part; they sum to the model's."""
    if model.vision is not None and model.connector is not None:
        yield from _vision_parts(model.vision)
        for projection in model.connector.projections:
            widths = [projection.linears[0].in_features, *(linear.out_features for linear in projection.linears)]
            text = f"{projection.count} of {' → '.join(map(str, widths))}"
            yield f"connector {projection.name}", text, projection.parameters
        if pooling := model.connector.pooling:
            yield "connector pooling", f"attention of {pooling.num_heads} heads", pooling.parameters
        if model.connector.other_parameters:
            yield "connector, other", "separators, norms", model.connector.other_parameters
    yield from _decoder_parts(model)
    if model.unused_parameters:
        yield "not run", "held by the checkpoint", model.unused_parameters


def _vision_parts(vision: VisionSpec) -> Iterator[tuple[str, str, int]]:
    stem = vision.hidden_size * (vision.patch_features + vision.patch_bias + vision.position_embeddings)
    yield "vision stem", f"patches of {vision.patch_size}, {vision.position_embeddings} positions", stem
    for group in vision.blocks:
        yield "vision blocks", _layer_text(group), group.parameters(vision.hidden_size)
    if rest := vision.other_parameters + vision.unused_parameters:
        yield "vision, other", "class tokens, norms, unused heads", rest


def _decoder_parts(model: ModelSpec) -> Iterator[tuple[str, str, int]]:
    decoder = model.decoder
    yield "embedding", f"{decoder.vocab_size} tokens of {decoder.hidden_size}", decoder.embedding_parameters
    for group in decoder.layers:
        yield "decoder layers", _layer_text(group), group.parameters(decoder.hidden_size)
    yield "head", "tied: the embedding, read in every step" if decoder.tied_embeddings else "", decoder.head_parameters
    counted = decoder.embedding_parameters + decoder.layer_parameters + decoder.head_parameters
    yield "decoder, other", "last norm, further tokens", decoder.parameters - counted


def _layer_text(group: LayerGroup) -> str:
    mlps = " + ".join(_mlp_text(mlp) for mlp in group.mlps)
    return f"{group.count} of {_attention_text(group)}; {mlps}"


def _attention_text(group: LayerGroup) -> str:
    spec = group.attention
    if not isinstance(spec, AttentionSpec):
        return f"{spec.kind} attention, {spec.query_heads} heads"
    window = "" if spec.window is None else f", window {spec.window}"
    return f"attention {spec.num_heads}/{spec.num_kv_heads} heads of {spec.head_dim}{window}"


def _mlp_text(mlp: AnyMlp) -> str:
    if not isinstance(mlp, MoeSpec):
        return f"MLP {mlp.intermediate_size}"
    shared = "" if mlp.shared is None else f" + shared {mlp.shared.intermediate_size}"
    return f"{mlp.top_k} of {mlp.num_experts} experts of {mlp.intermediate_size}{shared}"


def parts_table(model: ModelSpec) -> Table:
    """Parameters of every part."""
    rows = tuple(
        (name, text, f"{count / MEGA:.3f}", f"{count / model.parameters:.1%}") for name, text, count in parts(model)
    )
    return Table(model.name, ("part", "", "params, 10⁶", "share"), rows, (model.source,))


def stored_table(model: ModelSpec) -> Table:
    """True bytes of the checkpoint's tensors, by part; no rows where its files were not at hand."""
    parts = model.stored.parts() if model.stored else {}
    wide = dtype_of("bf16").weight_bytes
    rows = tuple(
        (name, str(part.tensors), part.format, f"{part.held_bytes(wide) / MEGA:.3f}")
        for name, part in parts.items()
        if part.tensors
    )
    return Table("", ("stored part", "tensors", "most in", "MB"), rows, (f"quantisation: {model.quantization}",))


def work_table(model: ModelSpec, workload: Workload, options: Options | None = None) -> Table:
    """FLOPs, bytes and kernels of each stage on one device; in 16 bits with fused kernels where not said otherwise."""
    options = program.as_stored(options or Options("bf16", "bf16", fused=True), model)
    layouts = program.image_layouts(model, workload.images, workload.videos)
    cross, batch = program.cross_tokens(layouts, options), workload.batch
    prompt = workload.prompt_tokens + sum(layout.visual_tokens + layout.extra_text_tokens for layout in layouts)
    stages = (
        program.encode(model, layouts, batch=batch, options=options),
        program.prefill(
            model, new_tokens=float(prompt), cached_tokens=0.0, batch=batch, options=options, cross_tokens=cross
        ),
        program.decode_step(model, context_tokens=prompt + 1.0, batch=batch, options=options, cross_tokens=cross),
    )
    names = ("encode", "prefill", "one decode step")
    rows = tuple(_work_row(name, stage) for name, stage in zip(names, stages, strict=True))
    visual = sum(layout.visual_tokens for layout in layouts)
    patches = sum(layout.patches for layout in layouts)
    columns = ("stage", "GFLOP", "GB", "of weights", "of KV cache", "FLOP a byte", "kernels")
    scheme = "" if options.quantization == "none" else f", {options.quantization}"
    footer = (
        f"{prompt} prompt tokens, {visual} of them visual ({patches} patches); batch {batch}; {options.dtype}{scheme}, "
        f"fused kernels; each of {options.num_devices} device(s)",
        _held(model, prompt, cross, batch, options),
    )
    return Table("", columns, rows, footer)


def _work_row(name: str, stage: Stage) -> tuple[str, ...]:
    flops, moved = float(stage.flops()), float(stage.bytes())
    ops = [(op, component.count) for component in stage.components for op in component.ops]
    weights = sum(count * float(op.weight_bytes) for op, count in ops if isinstance(op, Gemm | MoeExperts))
    cached = sum(count * float(op.kv_bytes) for op, count in ops if isinstance(op, GenerationAttention))
    figures = (flops / GIGA, moved / GIGA, weights / GIGA, cached / GIGA, flops / moved if moved else 0.0)
    return (name, *(f"{figure:.4g}" for figure in figures), str(stage.launches()))


def _held(model: ModelSpec, prompt: int, cross: int, batch: int, options: Options) -> str:
    """Bytes held at the end of the prompt, on each device."""
    memory = memory_of(
        model,
        context_tokens=prompt,
        largest_pass_tokens=prompt,
        patches=0,
        cross_tokens=cross,
        batch=batch,
        options=options,
        capacity_bytes=1.0,
    )
    return f"held: weights {format_bytes(memory.weights_bytes)}, KV cache {format_bytes(memory.kv_cache_bytes)}"
