"""Sections about where the numbers come from: device, engine, sources, assumptions, commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from costmodel.breakeven import BreakEven
from costmodel.laws import LAWS
from costmodel.plots.text import percent, prediction_names
from costmodel.policy.results import PolicyChoice
from costmodel.predict import Prediction
from costmodel.profiles import EngineProfile, HardwareProfile, LawFit, SliceProfile
from costmodel.report.markup import Html, bullets, element, facts, folded, table
from costmodel.report.numbers import FEATURE_UNITS, coefficient_text, rate_text
from costmodel.units import format_bytes, format_rate

__all__ = ["assumption_section", "command_section", "engine_section", "hardware_section"]

_ASSUMPTIONS = (
    "One request at a time on an otherwise idle device; no queueing and no other batch beside it.",
    "Greedy decoding of exactly the stated number of tokens, one decode step each.",
    "Break-even compares latency alone: it does not tell whether both answers are equally good.",
)
_COEFFICIENT_HEADER = ("coefficient", "value", "unit", "standard error", "source")
_SLICE_HEADER = (
    *("component", "feature", "value", "unit", "as a rate", "standard error"),
    *("calibrated over", "residual", "samples"),
)


def hardware_section(hardware: HardwareProfile) -> Html:
    """Datasheet, law coefficients and slices of the device, and who measured them."""
    parts: list[Html] = [
        element("h2", "Device"),
        element("p", element("strong", hardware.name), f" ({hardware.key})"),
        facts("Provenance", _provenance_rows(hardware)),
        facts("Datasheet", _datasheet_rows(hardware)),
        bullets(hardware.datasheet.references),
    ]
    for key, fit in hardware.laws.items():
        summary = f"{key}: law {fit.law}, {fit.rows} rows, residual spread {percent(fit.residual_log_sd)}"
        parts.append(folded(summary, _law_table(key, fit)))
    parts += [_slice_block(entry) for entry in hardware.slices]
    if not hardware.laws and not hardware.slices:
        text = "Not calibrated: predictions rest on the datasheet and on the efficiency of other devices."
        parts.append(element("p", text))
    return element("section", *parts)


def engine_section(engine: EngineProfile) -> Html:
    """Tell what the host costs under this engine."""
    units = {
        "request_s": "s per request",
        "image_s": "s per image",
        "megapixel_s": "s per 10⁶ pixels",
        "step_s": "s per forward pass",
        "launch_s": "s per kernel launch",
    }
    rows = []
    for name, unit in units.items():
        value, stderr, source = coefficient_text(getattr(engine, name))
        rows.append([name, value, unit, stderr, source])
    return element(
        "section",
        element("h2", "Engine"),
        element("p", element("strong", engine.name), f" ({engine.key})"),
        table("Host costs", _COEFFICIENT_HEADER, rows),
        bullets(engine.references),
    )


def assumption_section(
    predictions: Sequence[Prediction],
    break_even: BreakEven | None,
    policy: PolicyChoice | None,
    hardware: HardwareProfile | None,
    engine: EngineProfile | None,
) -> Html:
    """Assumptions, warnings, and the calibration tier behind every coefficient group."""
    assumed = _assumed(hardware, engine)
    warnings = dict.fromkeys(warning for prediction in predictions for warning in prediction.warnings)
    for result in (break_even, policy):
        warnings |= dict.fromkeys(result.warnings if result is not None else ())
    parts: list[Html] = [element("h2", "Assumptions and warnings"), bullets(_ASSUMPTIONS)]
    if assumed:
        parts += [element("h3", "Assumed, not measured"), bullets(assumed)]
    if warnings:
        parts += [element("h3", "Warnings"), bullets(warnings)]
    if predictions:
        parts += [element("h3", "Sources"), _source_table(predictions)]
    return element("section", *parts)


def command_section(commands: Sequence[str]) -> Html:
    """Commands that make this report again."""
    text = element("code", "\n".join(commands))
    return element("section", element("h2", "Commands"), element("pre", text))


def _provenance_rows(hardware: HardwareProfile) -> list[tuple[str, str]]:
    origin = hardware.provenance
    rows: list[tuple[str, str]] = [("measured by", origin.measured_by), ("date", origin.date)]
    if origin.driver:
        rows.append(("driver", origin.driver))
    rows += [(name, version) for name, version in origin.software.items()]
    rows += [("note", text) for text in origin.notes]
    if hardware.run_log_sd:
        rows.append(("spread from run to run", percent(hardware.run_log_sd)))
    return rows


def _datasheet_rows(hardware: HardwareProfile) -> list[tuple[str, str]]:
    sheet = hardware.datasheet
    rows: list[tuple[str, str]] = [("kind", sheet.kind)]
    rows += [(f"dense peak, {dtype}", format_rate(peak, "FLOP/s")) for dtype, peak in sheet.peak_flops_per_s.items()]
    rows += [
        ("memory bandwidth", format_rate(sheet.memory_bytes_per_s, "B/s")),
        ("memory", format_bytes(sheet.memory_bytes)),
        ("last-level cache", format_bytes(sheet.cache_bytes)),
        ("multiprocessors or cores", str(sheet.multiprocessors)),
    ]
    for name, rate in (
        ("host link", sheet.host_link_bytes_per_s),
        ("link to peers, one way", sheet.link_bytes_per_s),
    ):
        if rate is not None:
            rows.append((name, format_rate(rate, "B/s")))
    if sheet.power_w is not None:
        rows.append(("power limit", f"{sheet.power_w:.0f} W"))
    return rows


def _law_table(key: str, fit: LawFit) -> Html:
    law = LAWS.get(fit.law)
    units = {parameter.name: parameter.unit for parameter in law.parameters} if law else {}
    rows = []
    for name, coefficient in fit.coefficients.items():
        value, stderr, source = coefficient_text(coefficient)
        rows.append([name, value, units.get(name, ""), stderr, source])
    ranges = [f"{name} {fit.lowest[name]:.4g} to {fit.highest[name]:.4g}" for name in fit.lowest]
    caption = f"{key}; fitted over {', '.join(ranges)}" if ranges else key
    return table(caption, _COEFFICIENT_HEADER, rows)


def _slice_block(entry: SliceProfile) -> Html:
    """Components of one model size; open, since these decide the prediction."""
    rows = []
    for name, fit in entry.components.items():
        for index, (feature, coefficient) in enumerate(fit.coefficients.items()):
            value, stderr, _ = coefficient_text(coefficient)
            unit = FEATURE_UNITS.get(feature, f"s per unit of {feature}")
            span = f"{fit.lowest[feature]:.4g} to {fit.highest[feature]:.4g}" if feature in fit.lowest else ""
            quality = [percent(fit.residual_log_sd), str(fit.rows)] if index == 0 else ["", ""]
            rows.append([name if index == 0 else "", feature, value, unit, rate_text(feature, coefficient)])
            rows[-1] += [stderr, span, *quality]
    caption = f"Slices of {entry.model} under {entry.engine}, {entry.dtype}: time is the sum of value times feature"
    return table(caption, _SLICE_HEADER, rows)


def _source_table(predictions: Sequence[Prediction]) -> Html:
    groups = dict.fromkeys(group for prediction in predictions for group in prediction.sources)
    rows = [[group, *(p.sources.get(group, "not used") for p in predictions)] for group in groups]
    header = ["coefficient group", *prediction_names(predictions)]
    return table("Where each group of coefficients comes from, best tier available", header, rows)


def _assumed(hardware: HardwareProfile | None, engine: EngineProfile | None) -> list[str]:
    found = []
    if engine is not None:
        names = ("request_s", "image_s", "megapixel_s", "step_s", "launch_s")
        held = [name for name in names if getattr(engine, name).source == "assumed"]
        found += [f"engine {engine.key}: {', '.join(held)}"] if held else []
    laws: Mapping[str, LawFit] = hardware.laws if hardware is not None else {}
    for key, fit in laws.items():
        held = [name for name, coefficient in fit.coefficients.items() if coefficient.source == "assumed"]
        found += [f"law {key}: {', '.join(held)}"] if held else []
    return found
