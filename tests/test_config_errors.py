"""Configs as untrusted input: whatever is in them gives a spec, or one line that names the field."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REALDATA, TINY_CONFIGS, TINY_IMAGE_SETTINGS

from costmodel import program
from costmodel.errors import ConfigError, InputError, UnsupportedArchitectureError
from costmodel.families import read_config
from costmodel.families.sources import load_model
from costmodel.specs.images import ImageSize
from costmodel.specs.model import ModelSpec

Path_ = tuple[str, ...]

MISSING = object()
VALUES = [
    MISSING, None, True, False, "", "64", "x", -1, 0, 1, 3, 7, 1000, 2**31, 10**12, 10**400, 0.5, 64.0,
    math.nan, math.inf, [], {}, [[1]], [1, "2"], [True], [-1], [None], {"value": 64}, {"a": {"b": 1}},
]  # fmt: skip


def _real_configs() -> dict[str, dict[str, Any]]:
    names = {"qwen3_vl": "Qwen--Qwen3-VL-2B-Instruct", "qwen2_5_vl": "Qwen--Qwen2.5-VL-7B-Instruct"}
    if not REALDATA.is_dir():
        return {}
    return {f"real-{family}": json.loads((REALDATA / "configs" / f"{name}.json").read_text())
            for family, name in names.items()}  # fmt: skip


CONFIGS = {f"tiny-{family}": config for family, config in TINY_CONFIGS.items()} | _real_configs()


def _items(node: Any) -> dict[str, Any]:
    if isinstance(node, list):
        return {str(index): value for index, value in enumerate(node)}
    return node if isinstance(node, dict) else {}


def _paths(node: Any, path: Path_ = ()) -> Iterator[Path_]:
    if path:
        yield path
    for key, value in _items(node).items():
        yield from _paths(value, (*path, key))


def _mutate(config: dict[str, Any], path: Path_, value: Any) -> None:
    """Put a value at a path, as far as the path still exists."""
    node: Any = config
    for key in path[:-1]:
        node = _items(node).get(key)
    if path[-1] not in _items(node):
        return
    key = int(path[-1]) if isinstance(node, list) else path[-1]
    if value is MISSING:
        del node[key]
    else:
        node[key] = copy.deepcopy(value)


def _read(config: dict[str, Any], settings: Any = None) -> ModelSpec | str:
    """Read a spec that works, or the path that the error names."""
    try:
        spec = read_config(config, name="mutant", image_settings=settings)
    except ConfigError as error:
        return _checked(error)
    _works(spec)
    return spec


def _checked(error: ConfigError) -> str:
    text = str(error)
    assert error.path
    assert f"config field {error.path}: got " in text
    assert ", expected " in text
    _is_one_line(error)
    return error.path


def _is_one_line(error: InputError) -> None:
    assert str(error).isprintable()
    assert len(str(error)) < 400


def _works(spec: ModelSpec) -> None:
    assert spec.parameters > 0
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
    options = program.Options("bf16", "bf16", fused=True)
    step = program.decode_step(spec, context_tokens=10, batch=1, options=options)
    assert np.isfinite(step.bytes())
    try:
        layouts = program.image_layouts(spec, [ImageSize(width=640, height=480)])
    except InputError:
        return
    assert np.isfinite(program.encode(spec, layouts, batch=1, options=options).flops())


def _related(named: str, changed: Path_) -> bool:
    """Whether an error names the changed field, or one beside it that it must agree with."""
    ours = ".".join(changed)
    beside = ".".join(changed[:-1])
    joined = {"hidden_size", "out_hidden_size", "text_config.hidden_size", "vision_config.out_hidden_size"}
    return (
        named.startswith(ours)
        or ours.startswith(named)
        or named.rpartition(".")[0] == beside
        or {named, ours} <= joined
    )


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_one_field_changed(name: str) -> None:
    config, outcomes = CONFIGS[name], {"spec": 0, "error": 0}
    for path in _paths(config):
        for value in VALUES:
            mutant = copy.deepcopy(config)
            _mutate(mutant, path, value)
            result = _read(mutant)
            outcomes["error" if isinstance(result, str) else "spec"] += 1
            if isinstance(result, str):
                assert _related(result, path), (path, value, result)
    assert min(outcomes.values()) > 100


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_several_fields_changed(name: str) -> None:
    rng = random.Random(7)
    paths = list(_paths(CONFIGS[name]))
    for _ in range(300):
        mutant = copy.deepcopy(CONFIGS[name])
        for path in rng.sample(paths, k=rng.randint(2, 5)):
            _mutate(mutant, path, rng.choice(VALUES))
        _read(mutant)


NEEDED_TEXT = [
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "vocab_size",
]
NEEDED_VISION = ["depth", "hidden_size", "intermediate_size", "num_heads", "out_hidden_size", "patch_size"]
NEEDED_BY_FAMILY = {
    "qwen3_vl": ["text_config.head_dim", "vision_config.num_position_embeddings"],
    "qwen2_5_vl": ["vision_config.window_size"],
}


def _needed(config: dict[str, Any]) -> list[Path_]:
    """Paths of the sizes that no config may lack."""
    text = "text_config." if "text_config" in config else ""
    names = [f"{text}{key}" for key in NEEDED_TEXT] + [f"vision_config.{key}" for key in NEEDED_VISION]
    return [tuple(name.split(".")) for name in names + NEEDED_BY_FAMILY[config["model_type"]]]


@pytest.mark.parametrize("value", [MISSING, None, True, "64", 64.0, -1, 0, 2**40, [64]])
@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_a_needed_size_is_never_made_up(name: str, value: Any) -> None:
    for path in _needed(CONFIGS[name]):
        mutant = copy.deepcopy(CONFIGS[name])
        _mutate(mutant, path, value)
        assert _read(mutant) == ".".join(path)


@pytest.mark.parametrize("family", sorted(TINY_CONFIGS))
@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("vision_config", "num_heads"), 5, "vision_config.hidden_size"),
        (("vision_config", "num_heads"), 1000, "vision_config.hidden_size"),
        (("vision_config", "out_hidden_size"), 65, "vision_config.out_hidden_size"),
        (("vision_config",), [], "vision_config"),
        (("vision_config", "patch_size"), [4, 4], "vision_config.patch_size"),
    ],
)
def test_sizes_that_contradict_each_other(family: str, path: Path_, value: Any, named: str) -> None:
    mutant = copy.deepcopy(TINY_CONFIGS[family])
    _mutate(mutant, path, value)
    assert _read(mutant) == named


def test_family_sizes_that_contradict_each_other() -> None:
    cases: list[tuple[str, Path_, Any, str]] = [
        ("qwen3_vl", ("text_config", "num_key_value_heads"), 4, "text_config.num_attention_heads"),
        ("qwen2_5_vl", ("num_key_value_heads",), 4, "num_attention_heads"),
        ("qwen2_5_vl", ("hidden_size",), 97, "hidden_size"),
        ("qwen2_5_vl", ("vision_config", "window_size"), 36, "vision_config.window_size"),
        (
            "qwen3_vl",
            ("vision_config", "deepstack_visual_indexes"),
            [0, 4],
            "vision_config.deepstack_visual_indexes",
        ),
        (
            "qwen3_vl",
            ("vision_config", "deepstack_visual_indexes"),
            [1, "2"],
            "vision_config.deepstack_visual_indexes.1",
        ),
    ]
    for family, path, value, named in cases:
        mutant = copy.deepcopy(TINY_CONFIGS[family])
        _mutate(mutant, path, value)
        assert _read(mutant) == named, (path, value)


@pytest.mark.parametrize("family", sorted(TINY_CONFIGS))
def test_image_settings_changed(family: str) -> None:
    nested = {"size": {"shortest_edge": 64, "longest_edge": 16384}, "patch_size": 4}
    for base in (TINY_IMAGE_SETTINGS, nested):
        for path in _paths(base):
            for value in VALUES:
                mutant: dict[str, Any] = copy.deepcopy(base)
                _mutate(mutant, path, value)
                result = _read(TINY_CONFIGS[family], mutant)
                if isinstance(result, str):
                    assert result.startswith("preprocessor_config."), (path, value, result)


@pytest.mark.parametrize("model_type", [MISSING, None, 3, "", "qwen9_vl", ["qwen3_vl"], {"a": 1}])
def test_model_type_decides_the_family(model_type: Any) -> None:
    mutant = copy.deepcopy(TINY_CONFIGS["qwen3_vl"])
    _mutate(mutant, ("model_type",), model_type)
    with pytest.raises(ConfigError, match="model_type") as caught:
        read_config(mutant, name="mutant")
    assert isinstance(caught.value, UnsupportedArchitectureError) == isinstance(model_type, str)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"null", b"[]", b"3", b'"text"', b"\xff\xfe\x00", b"{}", b'{"model_type": "qwen3_vl"',
        b"\x00" * 64, b"[" * 100_000, b'{"a":' * 100_000, b'{"hidden_size": 1' + b"0" * 5000 + b"}",
        b'{"family": 1, "decoder": 2}', b'{"family": "qwen3_vl", "decoder": {}}', b"<html>404</html>",
        b"version https://git-lfs.github.com/spec/v1\n", b'{"family": 1, "decoder": 2, "a\\nb": 3}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["config.json", "preprocessor_config.json"])
def test_files_of_any_content(content: bytes, place: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY_CONFIGS["qwen3_vl"]))
    (tmp_path / place).write_bytes(content)
    if content == b"{}" and place == "preprocessor_config.json":
        assert load_model(tmp_path).image_rule is not None
        return
    if place == "preprocessor_config.json" and content.startswith(b'{"family"'):
        assert load_model(tmp_path).family == "qwen3_vl"
        return
    with pytest.raises(InputError) as caught:
        load_model(tmp_path)
    _is_one_line(caught.value)


def test_a_folder_gives_the_model_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TINY_CONFIGS["qwen3_vl"]))
    (folder / "preprocessor_config.json").write_text(json.dumps(TINY_IMAGE_SETTINGS))
    by_folder, by_file = load_model(folder), load_model(str(folder / "config.json"))
    monkeypatch.chdir(folder)
    assert by_folder == by_file == load_model("config.json") == load_model(".")
    assert by_folder.name == "my-model"
    assert by_folder.image_rule.max_pixels == TINY_IMAGE_SETTINGS["max_pixels"]


def test_spec_file_changed(tmp_path: Path) -> None:
    spec = read_config(TINY_CONFIGS["qwen2_5_vl"], name="tiny", image_settings=TINY_IMAGE_SETTINGS)
    content = json.loads(spec.model_dump_json())
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps(content))
    assert load_model(file) == spec
    errors = 0
    for path in _paths(content):
        for value in VALUES:
            if path[0] in ("family", "decoder") and (value is MISSING and len(path) == 1):
                continue
            mutant = copy.deepcopy(content)
            _mutate(mutant, path, value)
            file.write_text(json.dumps(mutant))
            try:
                _works(load_model(file))
            except InputError as error:
                errors += 1
                _is_one_line(error)
    assert errors > 500


def test_spec_file_of_a_newer_schema_or_with_an_unknown_field(tmp_path: Path) -> None:
    spec = read_config(TINY_CONFIGS["qwen3_vl"], name="tiny")
    content = json.loads(spec.model_dump_json())
    for change, named in (({"schema_version": 2}, "schema_version"), ({"speed": 1}, "speed")):
        file = tmp_path / "spec.json"
        file.write_text(json.dumps(content | change))
        with pytest.raises(ConfigError, match=named):
            load_model(file)
