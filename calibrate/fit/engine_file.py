"""An engine profile as the file that ships it."""

from __future__ import annotations

from calibrate.accuracy.rebuild import profile_text
from costmodel.profiles import EngineProfile

__all__ = ["engine_text"]


def engine_text(engine: EngineProfile) -> str:
    """JSON with six significant digits; what is as by default is left out."""
    content = {"schema_version": engine.schema_version, **engine.model_dump(mode="json", exclude_defaults=True)}
    return profile_text(content)
