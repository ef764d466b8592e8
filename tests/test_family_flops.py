"""FLOPs of every family that transformers builds, against torch's count on small real models."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from tiny_families import TINY, Tiny
from torch_count import counted

from costmodel import program
from costmodel.families import read_config
from costmodel.families.kimi_vl import read_deepseek
from costmodel.families.reader import ConfigReader
from costmodel.ops import LinearAttention, MoeExperts
from costmodel.specs.model import LinearAttentionSpec, ModelSpec, MoeSpec

OPTIONS = program.Options("fp32", "fp32", fused=False)
TOLERANCE = 0.01
NAMES = sorted(TINY)
SEEING = [name for name in NAMES if TINY[name].encode is not None]


def _spec(tiny: Tiny) -> ModelSpec:
    if tiny.config["model_type"] == "deepseek_v3":
        # Kimi-VL's decoder; the whole model is remote code.
        reader = ConfigReader(tiny.config)
        return ModelSpec(name="tiny", family="kimi_vl", source="", decoder=read_deepseek(reader, reader))
    return read_config(tiny.config, name="tiny")


@pytest.fixture(scope="module")
def real(torch: Any, transformers: Any, hf_class: Any) -> Callable[[str], Any]:
    """The real model of an entry, with every product written out: eager attention, experts one by one."""
    built: dict[str, Any] = {}

    def build(name: str) -> Any:
        if name not in built:
            torch.manual_seed(0)
            cls = hf_class(TINY[name].config["model_type"])
            config = cls.config_class(**copy.deepcopy(TINY[name].config))
            config._experts_implementation = "eager"
            built[name] = cls._from_config(config, attn_implementation="eager").eval()
        return built[name]

    return build


def _expected(stage: program.Stage, spec: ModelSpec, tiny: Tiny, *, step: bool = False) -> float:
    """FLOPs of a stage as torch counts them, which differs in three places.

    The state update of a step of linear attention is elementwise there, and not counted. The depthwise convolution
    before it is counted, and a step runs it twice as often as needed. Experts that no token chose may be computed.
    """
    total = float(stage.flops(dense=True))
    for component in stage.components:
        for op in component.ops:
            if isinstance(op, LinearAttention) and step:
                total -= component.count * float(op.dense_flops)
            if isinstance(op, MoeExperts) and tiny.every_expert:
                total += component.count * float(op.flops) * (op.num_experts / op.top_k - 1)
    batch = next(op.batch for c in stage.components for op in c.ops if hasattr(op, "batch"))
    for group in spec.decoder.layers if step else ():
        if isinstance(group.attention, LinearAttentionSpec):
            window = group.attention.mixed_size * group.attention.convolution
            total += 2 * 2 * group.count * batch * window
    return total


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_those_of_the_real_model(name: str, real: Any) -> None:
    spec, model = _spec(TINY[name]), real(name)
    audio = sum(p.numel() for key, p in model.named_parameters() if "audio" in key)
    held = sum(parameter.numel() for parameter in model.parameters()) - audio
    biases = sum(
        group.count * mlp.num_experts * mlp.router_bias
        for group in spec.decoder.layers
        for mlp in group.mlps
        if isinstance(mlp, MoeSpec)
    )
    # The bias of DeepSeek's router is a buffer there.
    assert spec.parameters - spec.unused_parameters - biases == held


@pytest.mark.parametrize("name", SEEING)
def test_encode(name: str, torch: Any, real: Any) -> None:
    tiny, model = TINY[name], real(name)
    assert tiny.encode is not None
    assert tiny.layout is not None
    encode = tiny.encode
    measured, _ = counted(lambda: encode(torch, model))
    stage = program.encode(_spec(tiny), [tiny.layout], batch=1, options=OPTIONS)
    assert float(stage.flops(dense=True)) + tiny.encode_more == pytest.approx(measured, rel=TOLERANCE)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_prefill_and_decode_of_text(name: str, batch: int, torch: Any, real: Any) -> None:
    tiny, model, tokens = TINY[name], real(name), 12
    spec = _spec(tiny)
    ids = torch.randint(3, 140, (batch, tokens))
    measured, out = counted(lambda: model(input_ids=ids, use_cache=True, logits_to_keep=1))
    stage = program.prefill(spec, new_tokens=tokens, cached_tokens=0, batch=batch, options=OPTIONS)
    assert _expected(stage, spec, tiny) == pytest.approx(measured, rel=TOLERANCE)
    cache = out.past_key_values
    for context in (tokens + 1, tokens + 2):
        measured, _ = counted(
            lambda: model(input_ids=ids[:, :1], past_key_values=cache, use_cache=True, logits_to_keep=1)
        )
        step = program.decode_step(spec, context_tokens=context, batch=batch, options=OPTIONS)
        assert _expected(step, spec, tiny, step=True) == pytest.approx(measured, rel=TOLERANCE)


def test_cross_attention_of_a_request_with_an_image(torch: Any, real: Any) -> None:
    tiny, model = TINY["mllama"], real("mllama")
    spec, states = _spec(tiny), 148
    ids = torch.randint(3, 140, (1, 12))
    vision = torch.randn(1, states, 64)
    measured, out = counted(
        lambda: model.model.language_model(
            input_ids=ids, cross_attention_states=vision, cross_attention_mask=None, use_cache=True
        )
    )
    head = 2 * 64 * 160
    stage = program.prefill(spec, new_tokens=12, cached_tokens=0, batch=1, options=OPTIONS, cross_tokens=states)
    assert float(stage.flops(dense=True)) - head == pytest.approx(measured, rel=TOLERANCE)
    measured, _ = counted(
        lambda: model.model.language_model(input_ids=ids[:, :1], past_key_values=out.past_key_values, use_cache=True)
    )
    step = program.decode_step(spec, context_tokens=13, batch=1, options=OPTIONS, cross_tokens=states)
    assert float(step.flops(dense=True)) - head == pytest.approx(measured, rel=TOLERANCE)
