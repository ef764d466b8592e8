"""Compare a run of ``make bench`` with the stored one: ratios to the numpy kernel of the same run, never seconds.

``python benchmarks/compare.py RUN.json`` exits 1 where something takes more than LIMIT times its stored ratio;
``--store`` takes the run as the new baseline.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

BASELINE = Path(__file__).with_name("baseline.json")
KERNEL = "test_numpy_kernel"
# Machines differ in how numpy's overhead compares with its throughput, and shared ones in everything.
LIMIT = 2.0


def ratios(run: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Least seconds of every benchmark, and their ratios to the kernel's."""
    least = {entry["name"]: entry["stats"]["min"] for entry in json.loads(run.read_text())["benchmarks"]}
    return least, {name: seconds / least[KERNEL] for name, seconds in least.items()}


def main() -> int:
    """Print a table; say what got slower."""
    run = Path(sys.argv[1])
    seconds, found = ratios(run)
    if "--store" in sys.argv:
        BASELINE.write_text(json.dumps({name: round(ratio, 3) for name, ratio in found.items()}, indent=1) + "\n")
    stored = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    slower = []
    print("| benchmark | least, ms | kernels | stored | change |\n| --- | ---: | ---: | ---: | ---: |")
    for name, ratio in found.items():
        before = stored.get(name)
        change = f"{ratio / before - 1:+.0%}" if before else "new"
        print(f"| {name} | {seconds[name] * 1000:.3f} | {ratio:.2f} | {before or ''} | {change} |")
        if before and ratio > LIMIT * before:
            slower.append(f"{name}: {ratio / before:.1f} times its stored ratio")
    if slower:
        print("slower than the baseline allows:", *slower, sep="\n  ", file=sys.stderr)
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
