"""Calibrate from live requests: ask an endpoint, fit, check on requests held out."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from calibrate.check.endpoint_runs import EndpointDesign, MeasuredCase, design_requests, measured_cases, run_design
from calibrate.commands.engine import engine_tables
from calibrate.engines.case_runs import CaseRequest, outcome_counts
from calibrate.engines.openai_endpoint import Endpoint, OpenAIEndpoint
from calibrate.fit.endpoint import check_endpoint, fit_endpoint, with_slice
from calibrate.fit.engine import EngineFit, fit_engine
from calibrate.measure.journal import Journal, read_journal
from costmodel.families.sources import load_model
from costmodel.files import write_atomic
from costmodel.profiles import HardwareProfile, load_engine, load_hardware
from costmodel.render import Table, note
from costmodel.specs.model import ModelSpec
from costmodel.tables import validation_tables
from costmodel.validation import Validation

__all__ = ["EndpointResult", "LiveEndpoint", "calibrate_endpoint"]


@dataclass(frozen=True, slots=True)
class LiveEndpoint:
    """What to ask, and what it runs on.

    Attributes
    ----------
    model, hardware, engine
        As :func:`~costmodel.load_model`, :func:`~costmodel.load_hardware` and :func:`~costmodel.load_engine` take them.
    """

    endpoint: Endpoint
    model: str
    hardware: str
    engine: str
    dtype: str
    design: EndpointDesign = field(default_factory=EndpointDesign)
    interval: float = 0.9


@dataclass(frozen=True, slots=True)
class EndpointResult:
    """A profile of the hardware with the model's law, or a profile of the engine; and the check."""

    hardware: HardwareProfile | None = None
    check: Validation | None = None
    fit: EngineFit | None = None

    def write(self, path: Path) -> None:
        """Write the profile."""
        profile = self.hardware or (self.fit.engine if self.fit else None)
        if profile is not None:
            write_atomic(path, profile.model_dump_json(indent=1) + "\n")

    def tables(self) -> tuple[Table, ...]:
        """For people."""
        checked = validation_tables(self.check) if self.check else ()
        return (*checked, *(engine_tables(self.fit) if self.fit else ()))

    def json_text(self) -> str:
        """For programs."""
        result = self.check or self.fit
        return result.model_dump_json(indent=1) if result else "{}"


def calibrate_endpoint(
    plan: LiveEndpoint, *, law: bool, runs: Path, progress: Callable[[float, str], None]
) -> EndpointResult:
    """Ask, fit and check; ``runs`` keeps every run and is resumed.

    Parameters
    ----------
    law
        Fit prefill and decode of this model on this device, not the host terms of the engine.

    Raises
    ------
    EndpointError
        If the endpoint does not answer, or no answer can be used.
    FitError
        If the answers do not determine what is asked for.
    """
    model, hardware, engine = load_model(plan.model), load_hardware(plan.hardware), load_engine(plan.engine)
    cases = asyncio.run(ask_design(plan, model, runs, progress))
    if law:
        profile = with_slice(hardware, fit_endpoint(cases, model, engine, dtype=plan.dtype))
        check = check_endpoint(cases, model, profile, engine, dtype=plan.dtype, interval=plan.interval)
        return EndpointResult(hardware=profile, check=check)
    table = [case.case(model=plan.model, hardware=plan.hardware, engine=engine.key, dtype=plan.dtype) for case in cases]
    return EndpointResult(fit=fit_engine(table, engine))


async def ask_design(
    plan: LiveEndpoint, model: ModelSpec, runs: Path, progress: Callable[[float, str], None]
) -> list[MeasuredCase]:
    """Make the requests that ``runs`` lacks; all of its good ones."""
    requests = design_requests(plan.design, model)
    client = OpenAIEndpoint(plan.endpoint)
    try:
        await client.connect()
        with Journal(runs, _environment(plan, client, requests)) as journal:
            await run_design(client, requests, journal, plan.design, progress)
    finally:
        await client.close()
    rows = read_journal(runs)[1]
    counts = outcome_counts(rows)
    if set(counts) != {"ok"}:
        note("requests: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    return measured_cases(rows, model)


def _environment(plan: LiveEndpoint, client: OpenAIEndpoint, requests: Sequence[CaseRequest]) -> dict[str, str]:
    """What runs must have in common to be mixed."""
    asked = repr([(case.case_id, case.request.prompt, dict(case.facts)) for case in requests])
    return {
        "name": client.name,
        "dialect": client.dialect,
        "model": plan.model,
        "design": hashlib.sha256(asked.encode()).hexdigest()[:16],
    }
