"""Connectors of models whose code is beside their checkpoints, against modules of torch put together as published.

MiniCPM-V: a perceiver with one layer (``Resampler`` of its ``resampler.py``). Molmo: four patches attended to by their
mean, and a gated projector (``image_pooling_2d`` and ``image_projector`` of its ``modeling_molmo.py``).
"""

from __future__ import annotations

from typing import Any

import pytest
from tiny_families import layout
from torch_count import counted

from costmodel import program
from costmodel.families import read_config
from costmodel.program import Options
from costmodel.specs.model import ModelSpec

OPTIONS = Options("fp32", "fp32", fused=False)

TEXT = {
    "hidden_size": 256,
    "intermediate_size": 448,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 160,
    "max_position_embeddings": 4096,
}
VISION = {
    "hidden_size": 96,
    "image_size": 112,
    "intermediate_size": 160,
    "model_type": "siglip",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "patch_size": 14,
}
MINICPM = {
    **TEXT,
    "model_type": "minicpmv",
    "version": 2.6,
    "query_num": 16,
    "image_size": 112,
    "patch_size": 14,
    "slice_config": {"max_slice_nums": 9, "patch_size": 14, "model_type": "minicpmv"},
    "vision_config": VISION,
}
MOLMO = {**TEXT, "model_type": "molmo", "layer_norm_type": "rms", "qkv_bias": True, "embedding_size": 160}


def _connector_flops(spec: ModelSpec, tiles: int, side: int, tokens: int) -> float:
    """FLOPs of a stage without those of the tower."""
    assert spec.vision is not None
    stage = program.encode(spec, [layout(tiles, side, side, tokens)], batch=1, options=OPTIONS)
    shell = next(component for component in stage.components if component.name == "encode.shell")
    return float(sum(op.dense_flops for op in shell.ops if op.name != "patch_embedding"))


@pytest.mark.parametrize("tiles", [1, 3])
def test_the_resampler_of_minicpm_v(tiles: int, torch: Any) -> None:
    nn, width, queries, patches = torch.nn, 256, 16, 64
    key_map, attention = nn.Linear(96, width, bias=False), nn.MultiheadAttention(width, 2)
    norms = [nn.LayerNorm(width) for _ in range(3)]
    query, output = torch.randn(queries, width), torch.randn(width, width)

    def run() -> Any:
        keys = norms[0](key_map(torch.randn(tiles, patches, 96))).transpose(0, 1)
        asked = norms[1](query)[:, None].expand(-1, tiles, -1)
        # Positions are added to the keys and not to the values.
        found, _ = attention(asked, keys + 1.0, keys)
        return norms[2](found.transpose(0, 1)) @ output

    measured, result = counted(run)
    assert result.shape == (tiles, queries, width)
    expected = _connector_flops(read_config(MINICPM, name="tiny"), tiles, 8, tiles * queries)
    assert expected == pytest.approx(measured, rel=0.01)
    held = sum(p.numel() for module in (key_map, attention, *norms) for p in module.parameters())
    spec = read_config(MINICPM, name="tiny")
    assert spec.connector is not None
    assert spec.connector.parameters == held + query.numel() + output.numel()


@pytest.mark.parametrize("crops", [1, 5])
def test_the_pooling_and_projector_of_molmo(crops: int, torch: Any) -> None:
    nn, width, features, inner = torch.nn, 1024, 2048, 224
    maps = {name: nn.Linear(features, width) for name in ("query", "key", "value")}
    maps["output"] = nn.Linear(width, width)
    gate, up, down = (
        nn.Linear(width, inner, bias=False),
        nn.Linear(width, inner, bias=False),
        nn.Linear(inner, 256, bias=False),
    )

    def heads(rows: Any) -> Any:
        return rows.unflatten(-1, (16, 64)).transpose(1, 2)

    def run() -> Any:
        grid = torch.randn(crops, 24, 24, features)
        squares = grid.reshape(crops, 12, 2, 12, 2, features).transpose(2, 3).reshape(-1, 4, features)
        query = heads(maps["query"](squares.mean(1, keepdim=True)))
        weights = (query @ heads(maps["key"](squares)).transpose(-1, -2)).softmax(-1)
        pooled = maps["output"]((weights @ heads(maps["value"](squares))).transpose(1, 2).flatten(2))
        return down(nn.functional.silu(gate(pooled)) * up(pooled))

    measured, result = counted(run)
    assert result.shape == (crops * 144, 1, 256)
    spec = read_config(MOLMO, name="tiny")
    assert _connector_flops(spec, crops, 24, crops * 144) == pytest.approx(measured, rel=0.01)
    held = sum(p.numel() for module in (*maps.values(), gate, up, down) for p in module.parameters())
    assert spec.connector is not None
    # Beside them there are two embeddings of padding.
    assert spec.connector.parameters == held + 2 * features
