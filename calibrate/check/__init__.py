"""Predictions against real runs of whole requests."""
