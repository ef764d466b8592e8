"""One model of every family on one device, side by side, with two ratios by which to read it with suspicion.

Run: python examples/families.py [HARDWARE [ENGINE]]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from costmodel import ImageSize, Workload, load_engine, load_hardware, load_model, predict, program
from costmodel.families.sources import preset_names
from costmodel.ops import Gemm, MoeExperts
from costmodel.profiles import EngineProfile, HardwareProfile
from costmodel.program import Options
from costmodel.render import Format, Table, emit
from costmodel.specs.model import ModelSpec
from costmodel.units import GIGA, format_bytes, format_seconds

_IMAGE = ImageSize(width=1024, height=768)
_PROMPT_TOKENS, _OUTPUT_TOKENS = 100, 200
_COLUMNS = (
    "model", "family", "params, 10⁹", "visual tokens", "preprocess", "encode", "prefill", "TPOT", "total", "memory",
    "prefill of peak", "step of bandwidth",
)  # fmt: skip


def one_of_each() -> tuple[str, ...]:
    """Smallest preset of every family."""
    smallest: dict[str, ModelSpec] = {}
    for name in preset_names():
        model = load_model(name)
        known = smallest.get(model.family)
        if known is None or model.parameters < known.parameters:
            smallest[model.family] = model
    return tuple(model.name for _, model in sorted(smallest.items()))


def side_by_side(hardware: HardwareProfile, engine: EngineProfile) -> Table:
    """Predicted times of one request, without and with an image where a model reads none or any."""
    rows = tuple(tuple(_row(load_model(name), hardware, engine)) for name in one_of_each())
    title = f"{_IMAGE}, {_PROMPT_TOKENS} prompt and {_OUTPUT_TOKENS} output tokens on {hardware.key}, {engine.key}"
    footer = (
        "prefill of peak: FLOPs of encoder and prefill over their time and the 16-bit peak",
        "step of bandwidth: weights that a decode step reads over its time and the datasheet's bandwidth",
    )
    return Table(title, _COLUMNS, rows, footer)


def _row(model: ModelSpec, hardware: HardwareProfile, engine: EngineProfile) -> Iterator[str]:
    images = (_IMAGE,) if model.image_rule is not None else ()
    workload = Workload(images=images, prompt_tokens=_PROMPT_TOKENS, output_tokens=_OUTPUT_TOKENS)
    found = predict(model, hardware, engine, workload)
    latency, sheet = found.latency, hardware.datasheet
    yield model.name
    yield model.family
    yield f"{model.parameters / GIGA:.2f}"
    yield str(sum(found.visual_tokens))
    for quantity in (latency.preprocess_s, latency.encode_s, latency.prefill_s, latency.tpot_s, latency.total_s):
        yield format_seconds(quantity.value)
    yield format_bytes(found.memory.total_bytes) + ("" if found.memory.fits else " (does not fit)")
    options = Options("bf16", "bf16", fused=engine.fused)
    layouts = program.image_layouts(model, images)
    cross = program.cross_tokens(layouts, options)
    encode = program.encode(model, layouts, batch=1, options=options)
    tokens = float(found.prompt_tokens_total)
    prefill = program.prefill(model, new_tokens=tokens, cached_tokens=0.0, batch=1, options=options, cross_tokens=cross)
    busy = latency.encode_s.value + latency.prefill_s.value
    yield f"{float(encode.flops() + prefill.flops()) / busy / sheet.flops_per_s('bf16'):.0%}"
    step = program.decode_step(model, context_tokens=tokens, batch=1, options=options, cross_tokens=cross)
    ops = [(op, component.count) for component in step.components for op in component.ops]
    read = sum(count * float(op.weight_bytes) for op, count in ops if isinstance(op, Gemm | MoeExperts))
    yield f"{read / latency.tpot_s.value / sheet.memory_bytes_per_s:.0%}"


def main() -> None:
    """Print the table as Markdown."""
    keys = (*sys.argv[1:], *("h100-sxm", "vllm-0.7.2")[len(sys.argv) - 1 :])
    emit([side_by_side(load_hardware(keys[0]), load_engine(keys[1]))], "", Format.MARKDOWN)


if __name__ == "__main__":
    main()
