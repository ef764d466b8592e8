"""What the page may ask for by name: presets and profiles, and files that were named when it was started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from costmodel.errors import UnknownKeyError
from costmodel.families.sources import load_model, preset_names
from costmodel.profiles import EngineProfile, HardwareProfile, load_engine, load_hardware, profile_keys
from costmodel.specs.model import ModelSpec

__all__ = ["Catalogue"]


@dataclass(frozen=True)
class Catalogue:
    """Everything by name; a name from the page is never taken for a path.

    Parameters
    ----------
    extra_models, extra_hardware, extra_engines
        Loaded when the page was started, beside what is shipped.
    """

    extra_models: tuple[ModelSpec, ...] = ()
    extra_hardware: tuple[HardwareProfile, ...] = ()
    extra_engines: tuple[EngineProfile, ...] = ()
    _models: dict[str, ModelSpec] = field(default_factory=dict)

    @classmethod
    def with_files(
        cls, *, models: Sequence[Path] = (), hardware: Sequence[Path] = (), engines: Sequence[Path] = ()
    ) -> Catalogue:
        """Load files named on the command line."""
        return cls(
            tuple(load_model(path) for path in models),
            tuple(load_hardware(path) for path in hardware),
            tuple(load_engine(path) for path in engines),
        )

    @cached_property
    def model_names(self) -> tuple[str, ...]:
        """Models, those from files first."""
        return tuple(dict.fromkeys((*(model.name for model in self.extra_models), *preset_names())))

    @cached_property
    def hardware_keys(self) -> tuple[str, ...]:
        """Devices, those from files first."""
        return tuple(dict.fromkeys((*(each.key for each in self.extra_hardware), *profile_keys("gpus"))))

    @cached_property
    def engine_keys(self) -> tuple[str, ...]:
        """Engines, those from files first."""
        return tuple(dict.fromkeys((*(each.key for each in self.extra_engines), *profile_keys("engines"))))

    def model(self, name: str) -> ModelSpec:
        """Model by its name."""
        _check("model", name, self.model_names)
        if name not in self._models:
            given = {model.name: model for model in self.extra_models}
            self._models[name] = given.get(name) or load_model(name)
        return self._models[name]

    def hardware(self, key: str) -> HardwareProfile:
        """Device by its key."""
        _check("hardware", key, self.hardware_keys)
        return self._hardware.get(key) or self._hardware.setdefault(key, load_hardware(key))

    def engine(self, key: str) -> EngineProfile:
        """Engine by its key."""
        _check("engine", key, self.engine_keys)
        return self._engines.get(key) or self._engines.setdefault(key, load_engine(key))

    @cached_property
    def _hardware(self) -> dict[str, HardwareProfile]:
        return {each.key: each for each in self.extra_hardware}

    @cached_property
    def _engines(self) -> dict[str, EngineProfile]:
        return {each.key: each for each in self.extra_engines}


def _check(kind: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise UnknownKeyError(kind, name, known)
