"""Configs of every published checkpoint at hand and of every small model, changed: a spec, or an error with a path."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from conftest import REALDATA
from test_config_errors import MISSING, VALUES, _mutate, _paths, _read
from tiny_families import TINY

from costmodel.families import read_config, supported_model_types
from costmodel.families.sources import load_model, preset_names
from costmodel.specs.model import ModelSpec

FOLDER = REALDATA / "configs"
REAL = sorted(path.stem for path in FOLDER.glob("*.json") if "preprocessor" not in path.name)
SMALL = sorted(name for name in TINY if TINY[name].config["model_type"] in supported_model_types())

# What a corrupt file may hold, one value of each kind.
FEW_VALUES = [MISSING, None, True, "64", -1, 0, 2**31, 10**400, 0.5, [], {}, {"a": {"b": 1}}]
MUTANTS_OF_A_CONFIG = 40


def _config(stem: str, kind: str = "") -> Any:
    path = FOLDER / f"{stem}{kind}.json"
    return json.loads(path.read_text()) if path.is_file() else None


@pytest.mark.parametrize("name", SMALL)
def test_every_field_of_a_small_model(name: str) -> None:
    config = TINY[name].config
    outcomes = {"spec": 0, "error": 0}
    for path in _paths(config):
        for value in FEW_VALUES:
            mutant = copy.deepcopy(config)
            _mutate(mutant, path, value)
            outcomes["error" if isinstance(_read(mutant), str) else "spec"] += 1
    assert min(outcomes.values()) > 10


@pytest.mark.skipif(not REAL, reason="the folder of published data is absent (../shared/realdata)")
def test_published_configs_with_some_fields_changed() -> None:
    rng, tried = random.Random(11), 0
    for stem in REAL:
        config, settings = _config(stem), _config(stem, ".preprocessor_config")
        paths = list(_paths(config))
        for _ in range(MUTANTS_OF_A_CONFIG):
            mutant = copy.deepcopy(config)
            for path in rng.sample(paths, k=rng.randint(1, 4)):
                _mutate(mutant, path, rng.choice(VALUES))
            _read(mutant, settings)
            tried += 1
    assert tried >= 1000


@pytest.mark.skipif(not REAL, reason="the folder of published data is absent (../shared/realdata)")
@pytest.mark.parametrize("stem", REAL)
def test_published_image_settings_changed(stem: str) -> None:
    config, settings = _config(stem), _config(stem, ".preprocessor_config")
    if settings is None:
        assert isinstance(read_config(config, name="x"), ModelSpec)
        return
    rng, paths = random.Random(5), list(_paths(settings))
    for _ in range(MUTANTS_OF_A_CONFIG):
        mutant = copy.deepcopy(settings)
        _mutate(mutant, rng.choice(paths), rng.choice(VALUES))
        _read(config, mutant)


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_survives_a_round_trip(name: str) -> None:
    spec = load_model(name)
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.source == f"https://huggingface.co/{name}"
