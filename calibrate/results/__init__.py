"""Result files of load generators, read as cases: requests that ran alone, grouped by shape."""

from __future__ import annotations

from calibrate.results.read import Results, ServedAs, read_results

__all__ = ["Results", "ServedAs", "read_results"]
