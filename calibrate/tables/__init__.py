"""Recorded kernel timings: any source in, one validated table per operator and number format out."""
