"""The policies that come with the toolkit: one small file each. To add one, see docs/adding-a-policy.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from costmodel.errors import UnknownKeyError
from costmodel.policy.catalog.always_transfer import always_transfer
from costmodel.policy.catalog.budget_forcing import budget_forcing
from costmodel.policy.catalog.cascade import cascade
from costmodel.policy.catalog.escalate import escalate
from costmodel.policy.catalog.mutual_verification import mutual_verification
from costmodel.policy.catalog.self_consistency import self_consistency
from costmodel.policy.catalog.single import single
from costmodel.policy.plan import Plan

__all__ = [
    "CATALOG",
    "always_transfer",
    "budget_forcing",
    "cascade",
    "catalog",
    "escalate",
    "mutual_verification",
    "plan_named",
    "self_consistency",
    "single",
]

CATALOG: Mapping[str, Callable[[], Plan]] = {
    "small-short": lambda: single("small", "short"),
    "small-reason": lambda: single("small", "reason"),
    "large-short": lambda: single("large", "short"),
    "large-reason": lambda: single("large", "reason"),
    "cascade": cascade,
    "mutual-verification": mutual_verification,
    "always-transfer": always_transfer,
    "escalate": escalate,
    "small-budget": lambda: budget_forcing("small"),
    "large-budget": lambda: budget_forcing("large"),
    "self-consistency": self_consistency,
}
"""Policies by name, with their default options."""


def plan_named(name: str) -> Plan:
    """A policy of the catalogue.

    Raises
    ------
    UnknownKeyError
        If there is none of this name; names the nearest.
    """
    if name not in CATALOG:
        raise UnknownKeyError("policy", name, CATALOG)
    return CATALOG[name]()


def catalog() -> tuple[Plan, ...]:
    """Every policy, with its default options."""
    return tuple(make() for make in CATALOG.values())
