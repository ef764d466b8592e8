"""Calibrate from live requests, or check against them: ask an endpoint, fit, compare."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from calibrate.check.endpoint_guard import open_guard, undisturbed
from calibrate.check.endpoint_load import (
    Batch,
    design_bursts,
    design_loops,
    measured_bursts,
    measured_loops,
    run_batches,
    share_of_quiet_loops,
)
from calibrate.check.endpoint_runs import EndpointDesign, design_requests, measured_cases, run_design
from calibrate.check.endpoint_verdict import Against, check_endpoint, check_loops
from calibrate.commands.engine import engine_tables, law_table
from calibrate.engines.case_runs import CaseRequest, outcome_counts
from calibrate.engines.openai_endpoint import Endpoint, OpenAIEndpoint
from calibrate.fit.endpoint import fit_endpoint, with_slice
from calibrate.fit.engine import EngineFit, fit_engine
from calibrate.measure.journal import Journal, read_journal
from costmodel.families.sources import load_model
from costmodel.files import write_atomic
from costmodel.profiles import HardwareProfile, SliceProfile, load_engine, load_hardware
from costmodel.render import Table, note
from costmodel.tables import validation_tables
from costmodel.validation import Validation

__all__ = ["EndpointResult", "LiveEndpoint", "calibrate_endpoint", "validate_endpoint"]

# Added to the seed: the lengths and words of a check are not those that a calibration holds out.
_OTHER_LENGTHS = 1000


@dataclass(frozen=True, slots=True)
class LiveEndpoint:
    """What to ask, and what it runs on.

    Attributes
    ----------
    model, hardware, engine
        As :func:`~costmodel.load_model`, :func:`~costmodel.load_hardware` and :func:`~costmodel.load_engine` take them.
    concurrency
        Calibration: requests sent together, to learn the cost of a step of several. Check: clients.
    slots
        Requests that the server runs together, where not as the engine's profile says.
    """

    endpoint: Endpoint
    model: str
    hardware: str
    engine: str
    dtype: str
    design: EndpointDesign = field(default_factory=EndpointDesign)
    interval: float = 0.9
    concurrency: tuple[int, ...] = ()
    slots: int | None = None


@dataclass(frozen=True, slots=True)
class EndpointResult:
    """A profile of the hardware with the model's law, or a profile of the engine; and the check."""

    hardware: HardwareProfile | None = None
    law: SliceProfile | None = None
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
        laws = (law_table(self.law),) if self.law else ()
        return (*laws, *checked, *(engine_tables(self.fit) if self.fit else ()))

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
    against = _against(plan)
    requests = design_requests(plan.design, against.model)
    bursts = design_bursts(plan.concurrency, plan.design) if law else []
    rows = asyncio.run(_ask(plan, requests, bursts, runs, progress))
    kept = undisturbed(rows)
    cases = measured_cases(kept.rows, against.model)
    if not law:
        names = {"model": plan.model, "hardware": plan.hardware, "engine": against.engine.key, "dtype": plan.dtype}
        return EndpointResult(fit=fit_engine([case.case(**names) for case in cases], against.engine))
    fitted = fit_endpoint([*cases, *measured_bursts(rows)], against.model, against.engine, dtype=plan.dtype)
    profile = with_slice(against.hardware, fitted)
    against = replace(
        against, hardware=profile, share_undisturbed=kept.share, enough_undisturbed=kept.enough, max_error=None
    )
    return EndpointResult(hardware=profile, law=fitted, check=check_endpoint(cases, against))


def validate_endpoint(
    plan: LiveEndpoint, *, runs: Path, max_error: float | None, progress: Callable[[float, str], None]
) -> Validation:
    """Ask for lengths that no calibration asks for, one request at a time; or keep ``plan.concurrency`` clients busy.

    Raises
    ------
    EndpointError
        If the endpoint does not answer, or no answer can be used.
    """
    against = replace(_against(plan), max_error=max_error)
    if plan.concurrency:
        batches = design_loops(plan.concurrency, plan.design)
        rows = asyncio.run(_ask(plan, [], batches, runs, progress))
        return check_loops(
            measured_loops(rows), replace(against, share_undisturbed=share_of_quiet_loops(rows)), slots=plan.slots
        )
    design = replace(plan.design, fit=False, seed=plan.design.seed + _OTHER_LENGTHS)
    requests = design_requests(design, against.model)
    kept = undisturbed(asyncio.run(_ask(plan, requests, [], runs, progress)))
    judged = replace(against, share_undisturbed=kept.share, enough_undisturbed=kept.enough)
    return check_endpoint(measured_cases(kept.rows, against.model), judged)


def _against(plan: LiveEndpoint) -> Against:
    model, hardware, engine = load_model(plan.model), load_hardware(plan.hardware), load_engine(plan.engine)
    return Against(model, hardware, engine, plan.dtype, plan.interval)


async def _ask(
    plan: LiveEndpoint,
    requests: Sequence[CaseRequest],
    batches: Sequence[Batch],
    runs: Path,
    progress: Callable[[float, str], None],
) -> list[dict[str, Any]]:
    """Make the requests that ``runs`` lacks; all of its rows."""
    client, guard = OpenAIEndpoint(plan.endpoint), open_guard(plan.endpoint.url)
    asked = [*requests, *(case for batch in batches for case in batch.requests)]
    try:
        await client.connect()
        with Journal(runs, _environment(plan, client, asked)) as journal:
            if requests:
                await run_design(client, requests, journal, plan.design, progress, guard)
            await run_batches(client, batches, journal, progress=progress, guard=guard, seed=plan.design.seed)
    finally:
        await client.close()
    rows = read_journal(runs)[1]
    counts = outcome_counts(rows)
    if set(counts) != {"ok"}:
        note("requests: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    return rows


def _environment(plan: LiveEndpoint, client: OpenAIEndpoint, requests: Sequence[CaseRequest]) -> dict[str, str]:
    """What runs must have in common to be mixed."""
    asked = repr([(case.case_id, case.request.prompt, dict(case.facts)) for case in requests])
    return {
        "name": client.name,
        "dialect": client.dialect,
        "model": plan.model,
        "design": hashlib.sha256(asked.encode()).hexdigest()[:16],
    }
