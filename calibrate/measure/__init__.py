"""Microbenchmarks of the device at hand: what is timed, how, and the journal that keeps every sample."""
