"""How each of the two models is served: device, engine, number formats, price; what is not said is common to both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from costmodel.errors import PolicyError
from costmodel.policy.plan import Role
from costmodel.profiles import EngineProfile, HardwareProfile
from costmodel.specs.model import ModelSpec
from costmodel.units import SECONDS_PER_HOUR

__all__ = ["Served", "Serving", "check_sharing", "cost_of", "device_seconds", "energy_at_most_j", "said_of", "serve"]

Busy = Mapping[Role, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Serving:
    """What one model has of its own.

    Attributes
    ----------
    hardware, engine
        ``None``: the common ones.
    kv_dtype, quantization, num_devices
        As :func:`costmodel.predict.predict` takes them.
    price_per_hour
        Of one device; ``None``: the common one.
    """

    hardware: HardwareProfile | None = None
    engine: EngineProfile | None = None
    kv_dtype: str | None = None
    quantization: str = "none"
    num_devices: int = 1
    price_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """A model, and what it runs on."""

    model: ModelSpec
    hardware: HardwareProfile
    engine: EngineProfile
    kv_dtype: str | None = None
    quantization: str = "none"
    num_devices: int = 1
    price_per_hour: float | None = None


def serve(models: Mapping[Role, ModelSpec], common: Serving, own: Mapping[Role, Serving]) -> dict[Role, Served]:
    """Both models with what they have of their own, and else what is common: device, engine and price.

    Raises
    ------
    PolicyError
        If a model has no device or engine, or a price is below 0.
    """
    served: dict[Role, Served] = {}
    for role, model in models.items():
        mine = own.get(role) or Serving()
        hardware, engine = mine.hardware or common.hardware, mine.engine or common.engine
        price = common.price_per_hour if mine.price_per_hour is None else mine.price_per_hour
        if hardware is None or engine is None:
            raise PolicyError(f"the {role} model has no {'hardware' if hardware is None else 'engine'}; name one")
        if price is not None and not 0 <= price < float("inf"):
            raise PolicyError(f"price_per_hour is {price:g}, expected 0 or more")
        served[role] = Served(
            model, hardware, engine, mine.kv_dtype, mine.quantization, mine.num_devices, price_per_hour=price
        )
    return served


def check_sharing(served: Mapping[Role, Served], devices: int) -> None:
    """Refuse that two models share a device which is not the same one.

    Raises
    ------
    PolicyError
        If they have unlike devices, or unlike numbers of them, and are said to share.
    """
    small, large = served["small"], served["large"]
    one, other = ((each.hardware.key, each.num_devices) for each in (small, large))
    if devices == 1 and one != other:
        raise PolicyError(
            f"the models run on {one[1]} x {one[0]} and {other[1]} x {other[0]}, so they share no device: use 2 devices"
        )


def said_of(served: Mapping[Role, Served], what: str) -> str:
    """A property of both models in one word, or small + large where they differ."""

    def of(each: Served) -> str:
        value = getattr(each, what)
        return str(getattr(value, "key", value))

    small, large = of(served["small"]), of(served["large"])
    return small if small == large else f"{small} + {large}"


def device_seconds(busy_s: Busy, served: Mapping[Role, Served]) -> float:
    """Mean device time of an answer; a model that is spread over several devices keeps all of them busy."""
    return float(sum(np.mean(busy) * served[role].num_devices for role, busy in busy_s.items()))


def cost_of(busy_s: Busy, served: Mapping[Role, Served]) -> float | None:
    """Mean cost of an answer: device time times price; ``None`` where a device in use has no price."""
    return _sum(busy_s, served, {role: each.price_per_hour for role, each in served.items()}, SECONDS_PER_HOUR)


def energy_at_most_j(busy_s: Busy, served: Mapping[Role, Served]) -> float | None:
    """Mean energy of an answer at rated power; ``None`` where that of a device in use is not known."""
    return _sum(busy_s, served, {role: each.hardware.datasheet.power_w for role, each in served.items()}, 1.0)


def _sum(busy_s: Busy, served: Mapping[Role, Served], rates: Mapping[Role, float | None], per_s: float) -> float | None:
    total = 0.0
    for role, busy in busy_s.items():
        rate = rates[role]
        if rate is None:
            return None
        total += float(np.mean(busy)) * served[role].num_devices * rate / per_s
    return total
