"""Priors of the datasheet tier: what calibrated devices say of one that nobody calibrated."""

from __future__ import annotations

import numpy as np
import pytest

from calibrate.fit.priors import Learned, learn_priors
from calibrate.tables.operators import OperatorTable, TableSet
from costmodel import load_hardware
from costmodel.laws.roofline import ROOFLINE
from costmodel.ops import AllGather, Gemm
from costmodel.priors import prior_laws
from costmodel.profiles import HardwareProfile, profile_keys

SHEET = load_hardware("h100-sxm").datasheet


def device(key: str, architecture: str | None) -> HardwareProfile:
    sheet = SHEET.model_copy(update={"architecture": architecture})
    return load_hardware("h100-sxm").model_copy(update={"key": key, "datasheet": sheet, "laws": {}})


def gemms(efficiency: float, seed: int) -> TableSet:
    draw = np.random.default_rng(seed)
    sizes = (
        np.round(np.exp(draw.uniform(np.log(low), np.log(high), 400))) for low, high in ((1, 8192), *[(256, 8192)] * 2)
    )
    op = Gemm("x", *sizes, "bf16")
    truth = {"fixed_s": 5e-6, "compute_efficiency": efficiency, "memory_efficiency": efficiency, "sharpness": 3.0}
    return TableSet({"gemm/bf16": OperatorTable(op, np.asarray(ROOFLINE.time_s(op, truth, SHEET)))})


DEVICES = {"a1": ("a", 0.8), "a2": ("a", 0.79), "a3": ("a", 0.81), "b": ("b", 0.5), "c": ("c", 0.3), "d": (None, 0.6)}


@pytest.fixture(scope="module")
def learned() -> Learned:
    tables = {key: gemms(efficiency, index) for index, (key, (_, efficiency)) in enumerate(DEVICES.items())}
    profiles = {key: device(key, architecture) for key, (architecture, _) in DEVICES.items()}
    return learn_priors(tables, profiles)


def test_a_known_architecture_predicts_its_members_closely(learned: Learned) -> None:
    scores = learned.left_out["gemm/bf16"]
    assert scores["a1"].siblings == 2
    assert scores["a1"].median_ape < 0.03
    assert scores["a1"].half_width < 0.2
    assert scores["b"].siblings == scores["d"].siblings == 0
    assert scores["c"].median_ape > 0.2
    general = learned.general["gemm/bf16"].residual_log_sd
    assert learned.architectures["a"]["gemm/bf16"].residual_log_sd < general / 3


def test_one_sibling_keeps_the_general_spread(learned: Learned) -> None:
    alone = learned.architectures["b"]["gemm/bf16"]
    assert alone.residual_log_sd == learned.general["gemm/bf16"].residual_log_sd


def test_a_device_without_a_name_is_its_own_architecture(learned: Learned) -> None:
    assert {"a", "b", "c", "d"} == set(learned.architectures)


def test_priors_are_those_of_the_architecture() -> None:
    general, hopper = prior_laws(None), prior_laws("hopper")
    assert set(general) <= set(hopper)
    assert hopper["gemm/bf16"] != general["gemm/bf16"]
    assert hopper["elementwise"] == general["elementwise"]
    assert prior_laws("none such") == general


def test_calibrated_devices_name_their_architecture() -> None:
    profiles = [load_hardware(key) for key in profile_keys("gpus")]
    named = {profile.datasheet.architecture for profile in profiles if profile.laws and profile.datasheet.kind != "cpu"}
    assert None not in named
    assert {load_hardware(key).datasheet.architecture for key in ("h100-pcie", "h20")} == {"hopper"}
    assert load_hardware("rtx-a6000").datasheet.architecture is None
    assert AllGather.kind in {name.partition("/")[0] for name in prior_laws("blackwell")}
