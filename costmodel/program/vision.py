"""Encoding of images: vision tower and connector."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from costmodel.ops import Elementwise, EncoderAttention, Gemm, Num, Op
from costmodel.program.layers import attention_flops, group_suffix, layer_ops, matrix_flops
from costmodel.program.rows import Rows, elementwise, scores
from costmodel.program.stages import Component, Features, Options, Stage
from costmodel.specs.images import ImageLayout, TileGroup
from costmodel.specs.model import AttentionSpec, LayerGroup, ModelSpec, PoolingSpec, ProjectionSpec, VisionSpec

__all__ = ["encode"]

_Tiles = Mapping[TileGroup, Num]
"""Equal groups of tiles, and how many of them there are."""


def encode(model: ModelSpec, layouts: Iterable[ImageLayout], *, batch: Num, options: Options) -> Stage:
    """Vision tower and connector over all images of all requests of the batch."""
    images, tiles = tuple(layouts), dict[TileGroup, Num]()
    for layout in images:
        for group in layout.groups:
            tiles[group] = tiles.get(group, 0) + batch
    vision, connector = model.vision, model.connector
    if not tiles or vision is None or connector is None:
        return Stage("encode", ())
    patches = 1.0 * sum(group.patches * count for group, count in tiles.items())
    tokens = 1.0 * batch * sum(layout.connector_tokens for layout in images)
    first, *others = connector.projections
    shell = _stem(vision, patches, options)
    if connector.pooling is not None:
        shell += _pooling_ops(connector.pooling, tiles, patches, tokens, options)
    shell += _projection_ops(first, tokens, options)
    sizes: dict[str, Num] = {"requests": 1.0, "patches": patches}
    components = [Component("encode.shell", 1, tuple(shell), sizes)]
    components += [_block(vision, group, tiles, options) for group in vision.blocks]
    components += [
        Component(f"encode.{other.name}", other.count, tuple(_projection_ops(other, tokens, options)), sizes)
        for other in others
    ]
    return Stage("encode", tuple(components))


def _stem(vision: VisionSpec, patches: Num, options: Options) -> list[Op]:
    """Patch embedding and positions."""
    return [
        Gemm("patch_embedding", patches, vision.hidden_size, vision.patch_features, options.dtype),
        Elementwise("positions", patches * vision.hidden_size, options.dtype),
    ]


def _block(vision: VisionSpec, group: LayerGroup, tiles: _Tiles, options: Options) -> Component:
    spec = group.attention
    if not isinstance(spec, AttentionSpec):
        raise TypeError(f"vision attention of kind {spec.kind}")
    # A tower whose heads can't be shared out evenly is repeated on every device.
    devices = options.num_devices if spec.num_heads % options.num_devices == 0 else 1
    tokens = 1.0 * sum(group.tiles * group.tokens_per_tile * count for group, count in tiles.items())
    rows = Rows(tokens, vision.hidden_size, options.dtype, options, devices)
    heads = spec.num_heads // devices
    q_size = heads * spec.head_dim
    attention = rows.widen("qkv", q_size, q_size, q_size)
    if spec.qk_norm != "none":
        attention.append(rows.pass_over("qk_norm", group.norm, 2 * q_size))
    if spec.rotary:
        attention.append(rows.pass_over("rope", "rope", 2 * q_size))
    for length, count in sorted(_sequences(tiles, spec.window).items()):
        attention.append(EncoderAttention("attention", count, length, heads, spec.head_dim, options.dtype))
        attention += scores("encode", count * heads, length, length, options)
    ops = layer_ops(group, rows, [*attention, *rows.narrow("output", q_size)])
    features = Features(
        layers=lambda: 1.0, gemm_flops=lambda: matrix_flops(ops), attention_flops=lambda: attention_flops(ops)
    )
    return Component(f"encode.block{group_suffix(vision.blocks, group)}", group.count, ops, features)


def _sequences(tiles: _Tiles, window: int | None) -> dict[int, Num]:
    """Attention sequences: how many there are of each length. Windows at the edge of a tile are smaller."""
    sequences = defaultdict[int, Num](float)
    for group, count in tiles.items():
        if window is None:
            sequences[group.sequence_tokens] += group.sequences * count
            continue
        for rows, row_windows in _split(group.grid_height, window).items():
            for columns, column_windows in _split(group.grid_width, window).items():
                sequences[rows * columns] += row_windows * column_windows * group.tiles * count
    return sequences


def _split(length: int, window: int) -> dict[int, int]:
    whole, rest = divmod(length, window)
    return {size: count for size, count in ((window, whole), (rest, 1)) if size and count}


def _projection_ops(projection: ProjectionSpec, tokens: Num, options: Options) -> list[Op]:
    ops: list[Op] = []
    if projection.norm_size:
        width = max(projection.norm_size, projection.linears[0].in_features)
        ops.append(elementwise("norm", projection.norm, tokens * width, options))
    for index, linear in enumerate(projection.linears):
        if index:
            ops.append(elementwise("activation", "gelu", tokens * linear.in_features, options))
        ops.append(Gemm(f"{projection.name}_{index}", tokens, linear.out_features, linear.in_features, options.dtype))
    return ops


def _pooling_ops(pooling: PoolingSpec, tiles: _Tiles, patches: Num, tokens: Num, options: Options) -> list[Op]:
    """Keys and values of the patches, queries, attention of the queries to the patches of their tile."""
    dtype, width, ops = options.dtype, pooling.hidden_size, list[Op]()
    if pooling.key_map is not None:
        ops.append(Gemm("pooling_map", patches, pooling.key_map.out_features, pooling.key_map.in_features, dtype))
    ops += [Gemm("pooling_kv", patches, width, pooling.key_size, dtype) for _ in range(2)]
    ops.append(Gemm("pooling_q", tokens, width, pooling.query_size, dtype))
    head_dim = width / pooling.num_heads
    for group, count in sorted(tiles.items(), key=lambda entry: entry[0].patches):
        keys = group.patches / group.tiles
        queries = float(pooling.queries) if pooling.queries else 1.0
        # As many pairs as square attention over the geometric mean of queries and keys.
        length = (queries * keys) ** 0.5
        ops.append(EncoderAttention("pooling", group.tiles * count, length, pooling.num_heads, head_dim, dtype))
    ops.append(Gemm("pooling_output", tokens, width, width, dtype))
    return ops
