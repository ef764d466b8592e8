"""How well fitted profiles predict timings that they never saw."""
