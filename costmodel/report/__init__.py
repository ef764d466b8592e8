"""A self-contained HTML report of a prediction, a break-even, a validation, and the profiles behind them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from costmodel.breakeven import BreakEven
from costmodel.errors import InputError
from costmodel.files import write_atomic
from costmodel.plots.text import short_names
from costmodel.policy.results import PolicyChoice
from costmodel.policy.surfaces import Surface
from costmodel.predict import Prediction
from costmodel.profiles import EngineProfile, HardwareProfile
from costmodel.report.comparisons import device_section, policy_section, roofline_section
from costmodel.report.markup import Html, element
from costmodel.report.page import FigureStore, render_page
from costmodel.report.provenance import assumption_section, command_section, engine_section, hardware_section
from costmodel.report.results import break_even_section, headline, prediction_section, validation_section
from costmodel.roofline import Roofline
from costmodel.validation import Validation

__all__ = ["write_report"]


def write_report(
    path: str | Path,
    *,
    predictions: Sequence[Prediction] = (),
    break_even: BreakEven | None = None,
    validation: Validation | None = None,
    surface: Surface | None = None,
    rooflines: Sequence[Roofline] = (),
    devices: Sequence[Prediction] = (),
    policy: PolicyChoice | None = None,
    hardware: HardwareProfile | None = None,
    engine: EngineProfile | None = None,
    commands: Sequence[str] = (),
) -> None:
    """Write one HTML file that needs nothing else; a section whose input is absent is left out.

    The file appears as a whole or not at all.

    Parameters
    ----------
    surface
        Goes with ``break_even``.
    devices
        The same request on several devices.
    commands
        Command lines that make these results again.

    Raises
    ------
    InputError
        If there is nothing to report, or the file can't be written.
    """
    if not (predictions or break_even or validation or policy or hardware):
        raise InputError("nothing to report: expected a prediction, a break-even, a validation, a policy or a device")
    figures = FigureStore()
    title = _title(predictions, break_even, validation, policy, hardware)
    sections = [_header(title), headline(predictions, break_even, validation)]
    if predictions:
        sections.append(prediction_section(predictions, figures))
    if break_even is not None:
        sections.append(break_even_section(break_even, figures, surface))
    sections += _comparisons(figures, rooflines, devices, policy)
    if validation is not None:
        sections.append(validation_section(validation, figures))
    sections += _origins(hardware, engine)
    sections.append(assumption_section(predictions, break_even, policy, hardware, engine))
    if commands:
        sections.append(command_section(commands))
    page = render_page(title, [section for section in sections if section is not None], figures)
    write_atomic(Path(path), page)


def _comparisons(
    figures: FigureStore, rooflines: Sequence[Roofline], devices: Sequence[Prediction], policy: PolicyChoice | None
) -> list[Html]:
    sections = [roofline_section(rooflines, figures)] if rooflines else []
    if devices:
        sections.append(device_section(devices, figures))
    if policy is not None:
        sections.append(policy_section(policy, figures))
    return sections


def _origins(hardware: HardwareProfile | None, engine: EngineProfile | None) -> list[Html]:
    sections = [hardware_section(hardware)] if hardware is not None else []
    return sections if engine is None else [*sections, engine_section(engine)]


def _title(
    predictions: Sequence[Prediction],
    break_even: BreakEven | None,
    validation: Validation | None,
    policy: PolicyChoice | None,
    hardware: HardwareProfile | None,
) -> str:
    device = next((r.hardware for r in (break_even, validation, policy, *predictions) if r is not None), "")
    if hardware is not None and device in ("", hardware.key):
        device = hardware.name
    if break_even is not None:
        names = short_names((break_even.small, break_even.large))
        return f"{names[break_even.small]} or {names[break_even.large]} on {device}"
    models = short_names(prediction.model for prediction in predictions).values()
    return f"{' and '.join(models)} on {device}" if models else f"Latency on {device}"


def _header(title: str) -> Html:
    try:
        made_by = f"costmodel {version('vlm-costmodel')}"
    except PackageNotFoundError:
        made_by = "costmodel"
    date = datetime.now(UTC).date().isoformat()
    return element("header", element("h1", title), element("p", f"{made_by}, {date}", class_="quiet"))
