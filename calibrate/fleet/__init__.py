"""Calibration of every distinct accelerator of a cluster, and how far devices of one kind differ."""

from __future__ import annotations
