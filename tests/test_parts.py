"""Parts of models: they sum to the whole, and the table of work says what the stages say."""

from __future__ import annotations

import pytest

from costmodel import Workload
from costmodel.families.sources import load_model, preset_names
from costmodel.parts import parts, parts_table, stored_table, work_table
from costmodel.program import Options
from costmodel.specs.images import ImageSize
from costmodel.specs.stored import StoredPart, StoredWeights


@pytest.mark.parametrize("name", preset_names())
def test_parts_sum_to_the_whole(name: str) -> None:
    model = load_model(name)
    rows = list(parts(model))
    assert sum(count for _, _, count in rows) == model.parameters
    assert all(count >= 0 for _, _, count in rows)
    vision = sum(count for part, _, count in rows if part.startswith("vision"))
    assert vision == (model.vision.parameters if model.vision else 0)


def test_table_of_parts_names_what_differs() -> None:
    text = "\n".join(" ".join(row) for row in parts_table(load_model("Qwen/Qwen3.5-35B-A3B")).rows)
    assert "30 of linear attention, 32 heads; 8 of 256 experts of 512 + shared 512" in text
    assert "10 of attention 16/2 heads of 256; 8 of 256 experts" in text


def test_work_of_a_request() -> None:
    model = load_model("Qwen/Qwen2.5-VL-7B-Instruct")
    workload = Workload(images=(ImageSize(width=640, height=480),), prompt_tokens=100, output_tokens=1)
    table = work_table(model, workload)
    rows = {row[0]: [float(cell) for cell in row[1:]] for row in table.rows}
    # Two FLOPs a parameter and token, the vocabulary map once; attention adds a few percent.
    layers = 2 * model.decoder.layer_parameters * (391 + 2 + 100) / 10.0**9
    assert layers < rows["prefill"][0] < 1.05 * layers
    assert rows["one decode step"][1] == pytest.approx(2 * 7.07, rel=0.03)
    assert "493 prompt tokens, 391 of them visual (1564 patches)" in table.footer[0]
    flops, moved, weights, cached, intensity = rows["one decode step"][:5]
    assert weights == pytest.approx(2 * 7.07, rel=0.01)
    assert cached == pytest.approx(494 * 2 * 28 * 4 * 128 * 2 / 10.0**9, rel=0.01)
    assert weights + cached < moved < 1.01 * (weights + cached)
    assert intensity == pytest.approx(flops / moved, rel=1e-3)


def test_work_follows_batch_devices_and_scheme() -> None:
    model = load_model("Qwen/Qwen3-8B")

    def row(options: Options, batch: int = 1) -> list[float]:
        workload = Workload(prompt_tokens=100, output_tokens=1, batch=batch)
        return [float(cell) for cell in work_table(model, workload, options).rows[2][1:]]

    plain = row(Options("bf16", "bf16", fused=True))
    assert row(Options("bf16", "bf16", fused=True), 8)[0] == pytest.approx(8 * plain[0], rel=1e-3)
    assert row(Options("bf16", "bf16", fused=True), 8)[2] == plain[2]
    assert row(Options("bf16", "bf16", fused=True, num_devices=2))[2] == pytest.approx(plain[2] / 2, rel=1e-3)
    assert row(Options("bf16", "bf16", fused=True, quantization="w8a8-fp8"))[2] < 0.6 * plain[2]


def test_stored_parts_are_a_table() -> None:
    part = StoredPart(tensors=3, wide_elements=10**6, packed_bytes=5 * 10**6, format="I32")
    model = load_model("Qwen/Qwen3-8B").model_copy(
        update={"quantization": "w4a16", "stored": StoredWeights(layers=part)}
    )
    table = stored_table(model)
    assert table.rows == (("layers", "3", "I32", "7.000"),)
    assert table.footer == ("quantisation: w4a16",)
