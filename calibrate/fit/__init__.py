"""From timings to coefficients with uncertainty, and from coefficients to profiles."""
