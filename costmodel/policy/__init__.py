"""Policies of a small and a large model: described once as data, then expected, replayed, or run.

A :class:`~costmodel.policy.plan.Plan` says who is asked what and when to stop. Three interpreters read it:
:mod:`~costmodel.policy.expected` (from mean lengths and rates), :mod:`~costmodel.policy.replay` (over recorded answers)
and :mod:`~costmodel.policy.run` (with real engines).
"""

from __future__ import annotations
