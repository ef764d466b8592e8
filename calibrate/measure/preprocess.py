"""``calibrate preprocess``: time real image processors on this machine's CPU, and fit what an image costs.

A file is decoded by PIL, then goes through the processor. Both are linear in what the image has: itself, its pixels as
they come, its pixels after resizing, and its tiles (equation 13). Decoding is the same for all models.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from calibrate.engines.image_processors import processor_of
from calibrate.engines.pictures import random_picture
from calibrate.fit.slices import Point, fit_component
from calibrate.measure.device import CpuDevice, torch_threads
from calibrate.measure.journal import Journal, read_journal
from calibrate.measure.pool import StoppingRule, Visit, WorkItem, run_pool
from calibrate.measure.samples import locate, quiet_flags
from costmodel import program
from costmodel.pricing import component_time_s
from costmodel.profiles import DECODED, ComponentFit
from costmodel.specs.base import Frozen
from costmodel.specs.images import ImageSize
from costmodel.specs.model import ModelSpec
from costmodel.units import MEGA

__all__ = ["PreprocessPlan", "PreprocessResult", "ProcessorScore", "calibrate_preprocess", "fit_processors"]

Rows = Sequence[Mapping[str, Any]]

_FIT = ("200x150", "330x470", "640x480", "500x1100", "1024x768", "1500x700", "1280x1100", "1900x1400", "1300x2600")
_HELD_OUT = ("270x360", "800x600", "1200x500", "900x1300", "2100x1100")
_FEATURES = ("images", "megapixels", "resized_megapixels", "tiles")
_LEAST_QUIET = 3


@dataclass(frozen=True, slots=True)
class PreprocessPlan:
    """Which processors to run and for how long; one model stands for all with its image rule."""

    models: tuple[ModelSpec, ...]
    budget_s: float = 60.0
    seed: int = 0
    threads: int = 1


class ProcessorScore(Frozen):
    """Errors at image sizes that the fit did not see.

    Attributes
    ----------
    noise_floor
        Mean relative distance of a sample from the mean of the others.
    undisturbed
        Share of the samples that were.
    """

    rule: str
    n: int
    mape: float
    worst_ape: float
    bias: float
    noise_floor: float
    undisturbed: float


class PreprocessResult(Frozen):
    """Fits by image rule, ``jpeg`` for decoding, and their scores."""

    schema_version: int = 1
    fits: dict[str, ComponentFit]
    scores: tuple[ProcessorScore, ...]


def calibrate_preprocess(
    plan: PreprocessPlan, *, measurements: Path, progress: Callable[[float, str], None]
) -> PreprocessResult:
    """Measure into ``measurements`` (going on where it stopped), then fit and score.

    Raises
    ------
    DeviceError
        If a model's processor can't be run here.
    MeasurementError
        If the file holds measurements of another environment.
    """
    device = CpuDevice(threads=plan.threads)
    items = [_decoding(size) for size in (*_FIT, *_HELD_OUT)]
    for model in plan.models:
        items += [_processing(model, size) for size in (*_FIT, *_HELD_OUT)]
    rule = StoppingRule(relative_stderr=0.02, least_samples=3, most_sweeps=12, most_s=plan.budget_s)
    with torch_threads(device), Journal(measurements, device.describe()) as journal:
        run_pool(items, device, journal, rule=rule, seed=plan.seed, progress=progress)
    return fit_processors(read_journal(measurements)[1])


def _picture(size: str) -> tuple[ImageSize, bytes]:
    parsed = ImageSize.parse(size)
    return parsed, random_picture(parsed, seed=parsed.pixels)


def _decoded(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file)).convert("RGB")


def _decoding(text: str) -> WorkItem:
    size, file = _picture(text)
    features = {"images": 1.0, "megapixels": size.pixels / MEGA}
    return _item(DECODED, text, features, lambda: _decoded(file))


def _processing(model: ModelSpec, text: str) -> WorkItem:
    size, file = _picture(text)
    process, image = processor_of(model), _decoded(file)
    stage = program.preprocess([size], program.image_layouts(model, [size]))
    features = {name: float(stage.components[0].features[name]) for name in _FEATURES}
    return _item(getattr(model.image_rule, "rule", ""), text, features, lambda: process(image))


def _item(rule: str, size: str, features: Mapping[str, float], work: Callable[[], object]) -> WorkItem:
    device = CpuDevice(threads=1)

    def visit() -> Sequence[Visit]:
        start = device.mark()
        work()
        seconds = device.elapsed_s(start, device.mark())
        return (Visit(rule, (seconds,), {"features": dict(features)}),)

    return WorkItem(f"processor/{rule}/{size}", {"op": "processor", "held_out": size in _HELD_OUT}, visit)


def fit_processors(rows: Rows) -> PreprocessResult:
    """Fit every rule in the rows of a journal on the sizes that are not held out, and score it on those that are.

    Raises
    ------
    FitError
        If a processor was not measured at enough sizes.
    """
    found: dict[str, dict[bool, dict[str, Point]]] = defaultdict(lambda: {False: {}, True: {}})
    locations = locate(rows, least_quiet=_LEAST_QUIET)
    for row in rows:
        if row.get("op") == "processor":
            location = locations[row["item"], row["component"]]
            found[row["component"]][row["held_out"]][row["item"]] = Point(row["features"], location)
    fits = {rule: _fit(rule, list(parts[False].values())) for rule, parts in found.items()}
    scores = tuple(_score(rule, fits[rule], parts[True], rows) for rule, parts in found.items() if parts[True])
    return PreprocessResult(fits=fits, scores=scores)


def _fit(rule: str, points: Sequence[Point]) -> ComponentFit:
    fit = fit_component(f"processor {rule}", points)
    # Images and tiles are counted: any number of them is as good as one. Pixels have a range.
    pixels = {name: high for name, high in fit.highest.items() if name.endswith("megapixels")}
    return fit.model_copy(update={"lowest": {name: fit.lowest[name] for name in pixels}, "highest": pixels})


def _score(rule: str, fit: ComponentFit, points: Mapping[str, Point], rows: Rows) -> ProcessorScore:
    values = {name: coefficient.value for name, coefficient in fit.coefficients.items()}
    errors = np.array([float(component_time_s(values, p.features)) / p.location.value_s - 1 for p in points.values()])
    flags = quiet_flags(rows)
    own = [(row, flag) for row, flag in zip(rows, flags, strict=True) if row.get("component") == rule]
    return ProcessorScore(
        rule=rule,
        n=len(errors),
        mape=float(np.abs(errors).mean()),
        worst_ape=float(np.abs(errors).max()),
        bias=float(errors.mean()),
        noise_floor=_noise([[r["latency_s"] for r, _ in own if r["item"] == item] for item in points]),
        undisturbed=sum(flag for _, flag in own) / len(own),
    )


def _noise(samples: Sequence[Sequence[float]]) -> float:
    distances: list[float] = []
    for times in map(np.array, samples):
        if len(times) > 1:
            distances += list(np.abs(times / ((times.sum() - times) / (len(times) - 1)) - 1))
    return float(np.mean(distances)) if distances else 0.0
