"""Measures devices and engines, fits their coefficients, and checks predictions against real runs."""
