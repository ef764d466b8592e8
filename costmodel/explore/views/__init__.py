"""Views of the page, a file each, in the order in which they stand."""

from __future__ import annotations

from costmodel.explore.views.base import View
from costmodel.explore.views.devices import DEVICES
from costmodel.explore.views.latency import LATENCY
from costmodel.explore.views.policy import POLICY
from costmodel.explore.views.roofline import ROOFLINE
from costmodel.explore.views.share import SHARE

__all__ = ["ALL_VIEWS", "View"]

ALL_VIEWS = (LATENCY, ROOFLINE, DEVICES, POLICY, SHARE)
