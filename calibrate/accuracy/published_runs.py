"""Published runs that are not case tables: stages on a Jetson, and a vision encoder."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from costmodel import load_engine, load_hardware, load_model, program
from costmodel.cases import Case
from costmodel.errors import MeasurementError
from costmodel.pricing import Pricer
from costmodel.program import Options, Stage
from costmodel.specs.base import Frozen
from costmodel.specs.images import ImageLayout, ImageSize, TileGroup
from costmodel.specs.layers import LayerGroup
from costmodel.specs.model import ModelSpec
from costmodel.specs.workload import Workload

__all__ = ["EncoderRun", "Slope", "encoder_runs", "encoder_slopes", "stage_cases"]

# The Jetson's means over data sets name no image size and no answer length: one that gives their 265 visual tokens,
# and answers so short that their length does not matter.
_JETSON_IMAGE = ImageSize(width=608, height=448)
_ANSWER_TOKENS = 128
_STAGES = ("encode", "prefill", "tpot")

_PATCH = 16
# Layers, width, heads.
_TOWERS = {"ViT-B/16": (12, 768, 12), "ViT-L/16": (24, 1024, 16)}
_TOWER_ENGINE = "fastertransformer-5.1"
# A preset whose tower has the same layers as a plain vision transformer.
_LIKE = "llava-hf/llava-1.5-7b-hf"


class Slope(Frozen):
    """Exponent of time over batch or tokens, measured and predicted.

    Attributes
    ----------
    over
        ``batch`` or ``resolution``.
    at
        What stays the same.
    """

    model: str
    over: str
    at: str
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        """Predicted / measured - 1."""
        return self.predicted / self.measured - 1


@dataclass(frozen=True, slots=True)
class EncoderRun:
    """One run of an encoder of ``tokens`` tokens an image, the class token included."""

    model: str
    tokens: int
    batch: int
    measured_s: float


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise MeasurementError(f"{path.name}: missing column(s) {', '.join(missing)}")
        return list(reader)


def stage_cases(path: Path) -> tuple[Case, ...]:
    """Runs of ``jetson_thor_stages.csv``: encode, prefill and decode apart."""
    return tuple(_stage_case(row) for row in _rows(path, ("bench", "visual_tokens", "prompt_tokens_total")))


def _stage_case(row: Mapping[str, str]) -> Case:
    images = (_JETSON_IMAGE,) if row["visual_tokens"] else ()
    layouts = program.image_layouts(load_model(row["model"]), images)
    visual = sum(layout.visual_tokens + layout.extra_text_tokens for layout in layouts)
    synthetic = row["bench"] == "llm_bench"
    return Case(
        case_id=row["case_id"],
        model=row["model"],
        hardware=row["hardware"],
        engine=row["engine"],
        dtype=row["dtype"],
        quantization=row["quantization"],
        num_devices=int(row["num_devices"]),
        workload=Workload(
            images=images,
            prompt_tokens=int(row["prompt_tokens_total"]) - visual,
            # The synthetic bench decodes one token at the context that it was filled to.
            output_tokens=2 if synthetic else _ANSWER_TOKENS,
            batch=int(row["batch"]),
        ),
        measured_s={stage: float(row[f"{stage}_s"]) for stage in _STAGES if row[f"{stage}_s"]},
    )


def encoder_runs(path: Path) -> list[EncoderRun]:
    """Mean of the C++ runs in half precision of ``vit_a100.csv``."""
    times: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    for row in _rows(path, ("model", "precision", "implementation", "batch", "num_tokens", "latency_s")):
        if (row["precision"], row["implementation"]) == ("FP16", "FT cpp"):
            times[row["model"], int(row["num_tokens"]), int(row["batch"])].append(float(row["latency_s"]))
    return [EncoderRun(*key, float(np.mean(values))) for key, values in sorted(times.items())]


def encoder_slopes(runs: Sequence[EncoderRun], hardware: str = "a100-sxm-80gb") -> list[Slope]:
    """Exponents over batch (least squares over all batches) and over resolution (between the two)."""
    predicted = {(run.model, run.tokens, run.batch): _encoder_s(run, hardware) for run in runs}
    slopes = []
    for model, tokens in sorted({(run.model, run.tokens) for run in runs}):
        some = [run for run in runs if (run.model, run.tokens) == (model, tokens)]
        sizes = [float(run.batch) for run in some]
        times = [predicted[model, tokens, run.batch] for run in some]
        found = _exponent(sizes, [run.measured_s for run in some]), _exponent(sizes, times)
        slopes.append(Slope(model=model, over="batch", at=f"{tokens} tokens", measured=found[0], predicted=found[1]))
    for model, batch in sorted({(run.model, run.batch) for run in runs}):
        some = [run for run in runs if (run.model, run.batch) == (model, batch)]
        sizes = [float(run.tokens) for run in some]
        times = [predicted[model, run.tokens, batch] for run in some]
        found = _exponent(sizes, [run.measured_s for run in some]), _exponent(sizes, times)
        slopes.append(Slope(model=model, over="resolution", at=f"batch {batch}", measured=found[0], predicted=found[1]))
    return slopes


def _exponent(sizes: Sequence[float], times: Sequence[float]) -> float:
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def _encoder_s(run: EncoderRun, hardware: str) -> float:
    """The blocks alone: neither stem nor head was published with a share of its own."""
    engine = load_engine(_TOWER_ENGINE)
    model = _tower(run.model)
    side = math.isqrt(run.tokens - 1)
    layout = ImageLayout(
        groups=(TileGroup(tiles=1, grid_height=side, grid_width=side, class_tokens=1),),
        visual_tokens=run.tokens - 1,
        connector_tokens=1,
        extra_text_tokens=0,
        resized_pixels=(side * _PATCH) ** 2,
    )
    limits = {str(stage): tokens for stage, tokens in engine.fused_attention_tokens.items()}
    options = Options("fp16", "fp16", engine.fused, fused_attention_tokens=limits)
    stage = program.encode(model, [layout], batch=run.batch, options=options)
    blocks = tuple(component for component in stage.components if component.name.startswith("encode.block"))
    return float(Pricer(load_hardware(hardware), engine, None).stage(Stage("encode", blocks)).value_s)


def _tower(name: str) -> ModelSpec:
    like = load_model(_LIKE)
    if name not in _TOWERS or like.vision is None:
        raise MeasurementError(f"encoder {name!r} is not known; expected one of {', '.join(_TOWERS)}")
    count, hidden, heads = _TOWERS[name]
    block = like.vision.blocks[0]
    attention = block.attention.model_copy(update={"num_heads": heads, "num_kv_heads": heads})
    mlp = block.mlp.model_copy(update={"intermediate_size": 4 * hidden})
    group: LayerGroup = block.model_copy(update={"count": count, "attention": attention, "mlp": mlp})
    vision = like.vision.model_copy(update={"hidden_size": hidden, "patch_size": _PATCH, "blocks": (group,)})
    return like.model_copy(update={"vision": vision})
