"""Profiles are untrusted input: whatever is wrong with one is a typed error on one line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_profiles import SMALL, calibrated, engine, preset, request, slices_of

from costmodel.errors import CostModelError, InputError, ProfileError, UnknownKeyError
from costmodel.laws import law_named
from costmodel.predict import predict
from costmodel.profiles import EngineProfile, HardwareProfile, load_engine, load_hardware, profile_keys

Document = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Document:
    profile: Document = json.loads(calibrated(slices=[slices_of(preset(SMALL))]).model_dump_json())
    return profile


def _written(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def _set(content: Document, where: str, value: object) -> Document:
    """A copy of the document with one field replaced (or added)."""
    changed = copy.deepcopy(content)
    *parents, last = where.split(".")
    place: Any = changed
    for name in parents:
        place = place[int(name) if name.isdigit() else name]
    place[last] = value
    return changed


def _refusal(path: Path, load: Callable[[Path], object] = load_hardware) -> str:
    with pytest.raises(ProfileError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(path.name)
    assert len(message) < 300
    return message


@pytest.mark.parametrize("kind", ["gpus", "engines"])
def test_every_profile_shipped_loads_under_its_own_key(kind: Any) -> None:
    load = load_hardware if kind == "gpus" else load_engine
    assert profile_keys(kind)
    for key in profile_keys(kind):
        assert load(key).key == key


def test_a_profile_survives_a_round_trip(tmp_path: Path, document: Document) -> None:
    loaded = load_hardware(_written(tmp_path / "mine.json", document))
    assert json.loads(loaded.model_dump_json()) == document
    assert load_hardware(str(tmp_path / "mine.json")) == loaded


@pytest.mark.parametrize(
    ("got", "nearest"),
    [("h100", "h100-sxm"), ("H100-SXM", "h100-sxm"), ("l4o", "l40"), ("a100", "a100-sxm-80gb"), ("l40s ", "l40s")],
)
def test_unknown_device_names_the_nearest(got: str, nearest: str) -> None:
    with pytest.raises(UnknownKeyError) as caught:
        load_hardware(got)
    message = str(caught.value)
    assert nearest in message
    assert "unknown hardware" in message
    assert message.count(",") <= 2


def test_a_key_is_never_a_substring() -> None:
    assert load_hardware("l4").key == "l4"
    with pytest.raises(UnknownKeyError, match=r"unknown engine 'vllm-0'; nearest: vllm-0\.7\.2"):
        load_engine("vllm-0")


@pytest.mark.parametrize("got", ["", ".", "/", "no/such/file.json", "x" * 5000, "nul\0byte", "../gpus/h100-sxm"])
def test_what_is_no_file_is_an_unknown_key(got: str) -> None:
    with pytest.raises(UnknownKeyError) as caught:
        load_hardware(got)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "3", '"h100"', "{'key': 1}", "\x00\x01", "[" * 100_000, '{"a":' * 50_000, "1" * 10_000],
    ids=["empty", "open", "list", "null", "number", "text", "quotes", "binary", "deep", "deep objects", "digits"],
)
def test_malformed_files(tmp_path: Path, content: str) -> None:
    _refusal(_written(tmp_path / "p.json", content))
    _refusal(tmp_path / "p.json", load_engine)


def test_binary_files(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    for content in (b"\xff\xfe\x00", bytes(range(256)), b"\x80\x04\x95", '{"a": "é"}'.encode("latin-1")):
        path.write_bytes(content)
        _refusal(path)


def test_a_newer_schema_asks_to_upgrade(tmp_path: Path, document: Document) -> None:
    message = _refusal(_written(tmp_path / "p.json", {**document, "schema_version": 2, "new_field": 1}))
    assert "schema_version is 2" in message
    assert "upgrade" in message


@pytest.mark.parametrize("version", [None, "1", 1.5, True, 0, -1, [1]])
def test_a_schema_version_is_a_positive_integer(tmp_path: Path, document: Document, version: object) -> None:
    assert "schema_version" in _refusal(_written(tmp_path / "p.json", {**document, "schema_version": version}))


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("nickname", "hopper"),
        ("datasheet.boost_clock", 1),
        ("laws.gemm.note", "fast"),
        ("datasheet.kind", "tpu"),
        ("datasheet.memory_bytes_per_s", 0),
        ("datasheet.memory_bytes_per_s", -1),
        ("datasheet.memory_bytes_per_s", "fast"),
        ("datasheet.multiprocessors", 1.5),
        ("datasheet.peak_flops_per_s.bf16", None),
        ("laws.gemm.coefficients.sharpness.source", "guessed"),
        ("laws.gemm.coefficients.fixed_s.value", -1e-6),
        ("laws.gemm.residual_log_sd", -0.1),
        ("slices.0.components.head.rows", -1),
        ("slices.0.components.head.coefficients", {}),
        ("slices.0.components.head", {"covariance": [[1.0]]}),
        ("slices.0.components.head.covariance", [[1.0, 0.0], [0.0, 1.0]]),
        ("slices.0.components.head.covariance", []),
        ("slices.0.components.head.coefficients.rows.value", -1e-3),
        ("provenance", []),
        ("run_log_sd", None),
    ],
)
def test_a_field_that_is_wrong_is_named(tmp_path: Path, document: Document, where: str, value: object) -> None:
    message = _refusal(_written(tmp_path / "p.json", _set(document, where, value)))
    assert where.removesuffix(".covariance") in message


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize(
    "where",
    [
        "datasheet.memory_bytes_per_s",
        "datasheet.memory_bytes",
        "datasheet.peak_flops_per_s.bf16",
        "datasheet.host_link_bytes_per_s",
        "laws.gemm.residual_log_sd",
        "laws.gemm.coefficients.fixed_s.value",
        "laws.gemm.coefficients.fixed_s.stderr",
        "slices.0.components.head.residual_log_sd",
        "run_log_sd",
    ],
)
def test_numbers_are_finite(tmp_path: Path, document: Document, where: str, number: str) -> None:
    text = json.dumps(_set(document, where, "@")).replace('"@"', number)
    assert where in _refusal(_written(tmp_path / "p.json", text))


def test_an_engine_is_checked_as_strictly(tmp_path: Path) -> None:
    content = json.loads(engine().model_dump_json())
    assert load_engine(_written(tmp_path / "ok.json", content)) == engine()
    for where, value in (("overlap", 0.5), ("step_s.value", -1), ("fused", None), ("hooks", "rm -rf")):
        assert where in _refusal(_written(tmp_path / "p.json", _set(content, where, value)), load_engine)
    text = json.dumps(_set(content, "overlap", "@")).replace('"@"', "Infinity")
    assert "overlap" in _refusal(_written(tmp_path / "p.json", text), load_engine)


@pytest.mark.parametrize("name", ["schema_version", "key", "datasheet", "provenance"])
def test_a_missing_field_is_named(tmp_path: Path, document: Document, name: str) -> None:
    content = {field: value for field, value in document.items() if field != name}
    assert name in _refusal(_written(tmp_path / "p.json", content))


def _without(content: Document, *path: str) -> Document:
    changed = copy.deepcopy(content)
    place: Any = changed
    for name in path[:-1]:
        place = place[name]
    del place[path[-1]]
    return changed


def _unusable(content: Document) -> list[tuple[Document, str]]:
    """Profiles whose every field is well-formed, and which can't be used all the same."""
    laws = {**content, "slices": []}
    other = {"value": 1.0, "stderr": 0.0, "source": "fitted"}
    foreign = {parameter.name: other for parameter in law_named("collective").parameters}
    return [
        (_without(laws, "laws", "gemm", "coefficients", "sharpness"), "sharpness"),
        (_set(laws, "laws.gemm.coefficients.momentum", other), "momentum"),
        (_set(laws, "laws.gemm.coefficients.compute_efficiency.value", 0.0), "compute_efficiency"),
        (_set(laws, "laws.gemm.law", "rooflines"), "nearest: roofline"),
        (_set(_set(laws, "laws.gemm.law", "collective"), "laws.gemm.coefficients", foreign), "law of other operators"),
        (_set(content, "slices.0.components.head.coefficients", {"depth": other}), "depth"),
        (_set(content, "slices.0.components.head.highest.depth", 4.0), "depth"),
    ]


@pytest.mark.parametrize("case", range(7))
def test_coefficients_that_fit_no_law(tmp_path: Path, document: Document, case: int) -> None:
    content, words = _unusable(document)[case]
    hardware = load_hardware(_written(tmp_path / "p.json", content))
    with pytest.raises(InputError) as caught:
        predict(preset(SMALL), hardware, engine(), request())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


_JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(-2.0, 2.0),
    st.text(max_size=4),
    st.just([]),
    st.just({}),
)


def _paths(content: object, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(content, dict):
        return [p for name, value in content.items() for p in ((*at, name), *_paths(value, (*at, name)))]
    if isinstance(content, list):
        return [p for index, value in enumerate(content) for p in ((*at, index), *_paths(value, (*at, index)))]
    return []


@settings(max_examples=150)
@given(data=st.data(), junk=_JUNK)
def test_one_field_of_junk_predicts_or_says_why(document: Document, data: st.DataObject, junk: object) -> None:
    where = data.draw(st.sampled_from(_paths(document)))
    content = copy.deepcopy(document)
    place: Any = content
    for name in where[:-1]:
        place = place[name]
    place[where[-1]] = junk
    try:
        hardware = HardwareProfile.model_validate_json(json.dumps(content))
    except ValueError:
        return
    with suppress(CostModelError):
        total = predict(preset(SMALL), hardware, engine(), request(), interval=0.5).latency.total_s
        assert 0 <= total.low <= total.value <= total.high < float("inf")


def test_slices_are_found_by_all_three_keys() -> None:
    entry = slices_of(preset(SMALL))
    hardware = calibrated(slices=[entry])
    assert hardware.slice_of(entry.fingerprint, engine=entry.engine, dtype=entry.dtype) is entry
    assert hardware.slice_of("0" * 16, engine=entry.engine, dtype=entry.dtype) is None
    assert hardware.slice_of(entry.fingerprint, engine="hf-eager", dtype=entry.dtype) is None
    assert hardware.slice_of(entry.fingerprint, engine=entry.engine, dtype="fp32") is None


def test_profiles_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_hardware("h100-sxm").key = "mine"  # type: ignore[misc]
    assert isinstance(engine(), EngineProfile)


def test_a_peak_is_never_made_up() -> None:
    with pytest.raises(ProfileError, match="no peak for dtype 'fp8'; it has"):
        load_hardware("a100-sxm-80gb").datasheet.flops_per_s("fp8")
