"""Datasheet figures against arithmetic: units times rate times clock, bus width times data rate."""

from __future__ import annotations

import re

import pytest

from costmodel.errors import ProfileError, UnknownKeyError
from costmodel.profiles import Datasheet, HardwareProfile, load_hardware, profile_keys
from costmodel.units import GIB, GIGA, TERA

KEYS = profile_keys("gpus")

# Multiprocessors, dense 16-bit FLOPs per clock of one with fp32 accumulation, clock in GHz. From the makers'
# architecture papers: Volta and Turing 1024; GA100 2048, GA102 and Ada 1024 (GeForce and L40 half of it);
# Orin 2048; Hopper 4096; Thor 8192, GeForce Blackwell 512; CDNA 2 1024, CDNA 3 2048, CDNA 4 4096;
# Apple 128 lanes, fp16 as fp32.
RATES_16_BIT = {
    "h100-pcie": (114, 4096, 1.62),
    "a100-pcie-40gb": (108, 2048, 1.41),
    "a100-pcie-80gb": (108, 2048, 1.41),
    "a10": (72, 1024, 1.695),
    "a30": (56, 2048, 1.44),
    "a40": (84, 1024, 1.74),
    "l4": (58, 1024, 2.04),
    "l40": (142, 512, 2.49),
    "t4": (40, 1024, 1.59),
    "v100-sxm-16gb": (80, 1024, 1.53),
    "v100-sxm-32gb": (80, 1024, 1.53),
    "rtx-a5000": (64, 1024, 1.695),
    "rtx-a6000": (84, 1024, 1.8),
    "rtx-3090": (82, 512, 1.695),
    "rtx-4090": (128, 512, 2.52),
    "rtx-5090": (170, 512, 2.407),
    "jetson-agx-thor": (20, 8192, 1.575),
    "jetson-agx-orin": (16, 2048, 1.3),
    "jetson-orin-nx-16gb": (8, 2048, 0.918),
    "jetson-orin-nano-8gb": (8, 2048, 0.625),
    "mi250x": (220, 1024, 1.7),
    "mi300x": (304, 2048, 2.1),
    "mi325x": (304, 2048, 2.1),
    "mi355x": (256, 4096, 2.4),
    "apple-m1-max": (32, 256, 1.296),
    "apple-m2-ultra": (76, 256, 1.398),
    "apple-m3-max": (40, 256, 1.398),
    "apple-m4-max": (40, 256, 1.578),
}

# Memory bus in bits, data rate of a pin in Gbit/s (JEDEC speed grades as the makers name them).
BUSES = {
    "h100-pcie": (5120, 3.19),
    "a100-pcie-40gb": (5120, 2.43),
    "a100-pcie-80gb": (5120, 3.02),
    "a10": (384, 12.5),
    "a30": (3072, 2.43),
    "a40": (384, 14.5),
    "l4": (192, 12.5),
    "l40": (384, 18.0),
    "t4": (256, 10.0),
    "v100-sxm-16gb": (4096, 1.75),
    "v100-sxm-32gb": (4096, 1.75),
    "rtx-a5000": (384, 16.0),
    "rtx-a6000": (384, 16.0),
    "rtx-3090": (384, 19.5),
    "rtx-4090": (384, 21.0),
    "rtx-5090": (512, 28.0),
    "jetson-agx-thor": (256, 8.533),
    "jetson-agx-orin": (256, 6.4),
    "jetson-orin-nx-16gb": (128, 6.4),
    "jetson-orin-nano-8gb": (128, 4.25),
    "h20": (6144, 5.2),
    "mi250x": (8192, 3.2),
    "mi300x": (8192, 5.2),
    "mi325x": (8192, 6.0),
    "mi355x": (8192, 8.0),
    "gaudi2": (6144, 3.2),
    "gaudi3": (8192, 3.6),
    "apple-m1-max": (512, 6.4),
    "apple-m2-ultra": (1024, 6.4),
    "apple-m3-max": (512, 6.4),
    "apple-m4-max": (512, 8.533),
}

# Headline figures in the makers' own units (10¹² a second, GB/s, GB), from the sources that a profile cites.
PUBLISHED = [
    ("h100-pcie", "fp8", 1513, 2039, 80),
    ("a100-pcie-80gb", "int8", 624, 1935, 80),
    ("l4", "fp8", 485 / 2, 300, 24),
    ("t4", "int8", 130, 320, 16),
    ("rtx-4090", "fp8", 660.6 / 2, 1008, 24),
    ("rtx-5090", "nvfp4", 3352 / 2, 1792, 32),
    ("jetson-agx-thor", "nvfp4", 2070 / 2, 273, 128),
    ("jetson-agx-orin", "int8", 170 / 2, 204.8, 64),
    ("jetson-orin-nano-8gb", "int8", 40 / 2, 68, 8),
    ("h20", "bf16", 148, 4000, 96),
    ("mi300x", "fp8", 2614.9, 5300, 192),
    ("mi355x", "fp8", 5033.2, 8000, 288),
    ("gaudi2", "bf16", 432, 2460, 96),
    ("gaudi3", "bf16", 1835, 3670, 128),
    ("apple-m2-ultra", "fp32", 27.2, 800, 192),
]

# Blackwell Ultra gave most of its int8 rate up for fp4.
SLOW_INT8 = {"b300-sxm", "gb300"}

# Formats that come with a generation of tensor units, and who has them.
HAS_NVFP4 = r"b200-.*|b300-.*|gb200|gb300|rtx-pro-6000|rtx-5090|jetson-agx-thor"
HAS_FP8 = rf"{HAS_NVFP4}|h100-.*|h200-.*|h20|l4|l40|l40s|rtx-4090|mi300x|mi325x|mi355x|gaudi[23]"
LACKS_BF16 = r"t4|v100-.*|apple-.*"


def _sheet(key: str) -> Datasheet:
    return load_hardware(key).datasheet


def _peak_16_bit(sheet: Datasheet) -> float:
    return sheet.flops_per_s("fp16" if "fp16" in sheet.peak_flops_per_s else "bf16")


@pytest.mark.parametrize("key", KEYS)
def test_profile_loads_under_its_own_key(key: str) -> None:
    profile = load_hardware(key)
    assert profile.key == key
    assert HardwareProfile.model_validate_json(profile.model_dump_json()) == profile
    assert profile.datasheet.references
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", profile.provenance.date)


def test_every_device_of_the_tables_has_a_profile() -> None:
    assert set(RATES_16_BIT) | set(BUSES) | {row[0] for row in PUBLISHED} <= set(KEYS)


@pytest.mark.parametrize("key", sorted(BUSES))
def test_datasheet_only_profiles_claim_no_measurement(key: str) -> None:
    profile = load_hardware(key)
    assert profile.provenance.measured_by == "datasheet"
    assert (profile.laws, profile.slices) == ({}, ())


@pytest.mark.parametrize("key", sorted(RATES_16_BIT))
def test_16_bit_peak_is_units_times_rate_times_clock(key: str) -> None:
    units, flops_per_clock, clock_ghz = RATES_16_BIT[key]
    sheet = _sheet(key)
    assert sheet.multiprocessors == units
    assert _peak_16_bit(sheet) == pytest.approx(units * flops_per_clock * clock_ghz * GIGA, rel=0.025)


@pytest.mark.parametrize("key", sorted(BUSES))
def test_bandwidth_is_bus_times_data_rate(key: str) -> None:
    bits, gbit_per_s = BUSES[key]
    assert _sheet(key).memory_bytes_per_s == pytest.approx(bits / 8 * gbit_per_s * GIGA, rel=0.03)


@pytest.mark.parametrize(("key", "dtype", "peak", "bandwidth", "memory"), PUBLISHED)
def test_published_figures(key: str, dtype: str, peak: float, bandwidth: float, memory: int) -> None:
    sheet = _sheet(key)
    assert sheet.flops_per_s(dtype) == pytest.approx(peak * TERA, rel=0.005)
    assert sheet.memory_bytes_per_s == pytest.approx(bandwidth * GIGA, rel=0.005)
    assert sheet.memory_bytes == memory * GIB


@pytest.mark.parametrize("key", KEYS)
def test_narrower_formats_are_not_slower(key: str) -> None:
    peaks = _sheet(key).peak_flops_per_s
    assert set(peaks) <= {"fp32", "bf16", "fp16", "fp8", "int8", "nvfp4"}
    for narrow, wide in (
        ("nvfp4", "fp8"),
        ("fp8", "bf16"),
        ("int8", "fp16"),
        ("fp16", "fp32"),
        ("bf16", "fp32"),
    ):
        if narrow in peaks and wide in peaks and not (narrow == "int8" and key in SLOW_INT8):
            assert peaks[narrow] >= peaks[wide], (narrow, wide)
    if {"bf16", "fp16"} <= set(peaks):
        assert peaks["bf16"] == peaks["fp16"]


@pytest.mark.parametrize("key", [key for key in KEYS if load_hardware(key).datasheet.kind != "cpu"])
def test_formats_are_those_of_the_generation(key: str) -> None:
    peaks = _sheet(key).peak_flops_per_s
    assert ("nvfp4" in peaks) == bool(re.fullmatch(HAS_NVFP4, key))
    assert ("fp8" in peaks) == bool(re.fullmatch(HAS_FP8, key))
    assert ("bf16" not in peaks) == bool(re.fullmatch(LACKS_BF16, key))


@pytest.mark.parametrize("key", KEYS)
def test_magnitudes_are_in_si_units(key: str) -> None:
    sheet = _sheet(key)
    assert all(0.05 * TERA < peak < 20_000 * TERA for peak in sheet.peak_flops_per_s.values())
    assert 5 * GIGA < sheet.memory_bytes_per_s < 20_000 * GIGA
    assert 1 * GIB <= sheet.memory_bytes <= 2048 * GIB
    assert GIB / 1024 <= sheet.cache_bytes <= GIB
    assert sheet.host_link_bytes_per_s is None or 4 * GIGA < sheet.host_link_bytes_per_s < 1000 * GIGA
    assert sheet.link_bytes_per_s is None or 10 * GIGA < sheet.link_bytes_per_s < 2000 * GIGA
    assert sheet.power_w is None or 5 <= sheet.power_w <= 2000


@pytest.mark.parametrize("key", [key for key in KEYS if re.search(r"-\d+gb$", key)])
def test_memory_is_that_of_the_key(key: str) -> None:
    assert _sheet(key).memory_bytes == int(key.rpartition("-")[2].removesuffix("gb")) * GIB


def test_a_peak_that_the_device_lacks_is_never_made_up() -> None:
    with pytest.raises(ProfileError, match="no peak for dtype 'bf16'; it has fp16, fp32, int8"):
        _sheet("t4").flops_per_s("bf16")


@pytest.mark.parametrize(("asked", "meant"), [("h100", "h100-sxm"), ("rtx4090", "rtx-4090"), ("mi300", "mi300x")])
def test_unknown_hardware_names_the_nearest(asked: str, meant: str) -> None:
    with pytest.raises(UnknownKeyError, match=rf"unknown hardware '{asked}'; nearest: .*{meant}"):
        load_hardware(asked)


@pytest.mark.parametrize("part", ["l4", "l40", "l40s", "a10", "a100-pcie-40gb"])
def test_keys_match_exactly_and_never_by_substring(part: str) -> None:
    assert load_hardware(part).key == part
