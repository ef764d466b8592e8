"""Rebuild the engine profiles that were fitted on published runs.

Usage: python examples/engine_profiles.py ../shared/realdata hardware_profiles/engines [KEY...]
"""

from __future__ import annotations

import sys
from pathlib import Path

from calibrate.accuracy.published_runs import stage_cases
from calibrate.fit.engine import fit_engine
from calibrate.fit.engine_file import engine_text
from costmodel import load_engine, load_model
from costmodel.cases import Case, read_cases
from costmodel.files import write_atomic
from costmodel.profiles import EngineProfile, LawFit

V0, V1, EDGE = "vllm-0.7.2", "vllm", "tensorrt-edge-llm-0.9.0"


def fitted(key: str, data: Path) -> EngineProfile:
    """An engine fitted on its runs; the next version of vLLM takes over the kernels, as an assumption."""
    if key == V1:
        return _with_kernels_of(fitted(V0, data), load_engine(V1))
    return fit_engine(_runs(key, data), load_engine(key), hold_out="none", kernels=True, relearn=True).engine


def _runs(key: str, data: Path) -> list[Case]:
    if key == V0:
        return [case for name in ("llm", "vlm") for case in read_cases(data / f"{name}_single_stream.csv")]
    # The stages of VLMs are kept for the check.
    cases = stage_cases(data / "jetson_thor_stages.csv")
    return [case for case in cases if load_model(case.model).vision is None]


def _with_kernels_of(shown: EngineProfile, engine: EngineProfile) -> EngineProfile:
    own = shown.kernels
    devices = {
        device: {key: _assumed(law) for key, law in laws.items() if key in own}
        for device, laws in shown.device_kernels.items()
    }
    return engine.model_copy(
        update={"kernels": {key: _assumed(law) for key, law in own.items()}, "device_kernels": devices}
    )


def _assumed(law: LawFit) -> LawFit:
    coefficients = {
        name: coefficient.model_copy(update={"source": "assumed"}) for name, coefficient in law.coefficients.items()
    }
    return law.model_copy(update={"coefficients": coefficients})


def main(data: Path, out: Path, keys: list[str]) -> None:
    """Write the profiles asked for, or all of them."""
    for key in keys or [V0, V1, EDGE]:
        write_atomic(out / f"{key}.json", engine_text(fitted(key, data)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
