"""Checkpoints: what their headers say of the weights, without reading any. Headers are untrusted input."""
