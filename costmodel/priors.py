"""What calibrated devices say of one that nobody calibrated: ``hardware_profiles/priors.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from costmodel.profiles import LawFit

__all__ = ["PRIORS_PATH", "prior_laws"]

PRIORS_PATH = Path(__file__).parent.parent / "hardware_profiles" / "priors.json"


@cache
def prior_laws(architecture: str | None) -> Mapping[str, LawFit]:
    """Laws of the datasheet tier by operator: of the device's architecture where one of it is known, else of all."""
    content = json.loads(PRIORS_PATH.read_bytes())
    chosen = {**content["laws"], **content.get("architectures", {}).get(architecture, {})}
    return {key: LawFit.model_validate(fit) for key, fit in chosen.items()}
