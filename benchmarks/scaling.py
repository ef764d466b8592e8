"""Time of sweeps from 10³ to 10⁸ configurations, computed block by block: ``python benchmarks/scaling.py OUT.png``.

One model on one device, one core. Blocks are dropped once computed, as a writer would do; the plot says what writing
to Parquet adds up to 10⁶.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402

from costmodel import load_engine, load_hardware, load_model  # noqa: E402
from costmodel.predict import set_up  # noqa: E402
from costmodel.sweeping.axes import Axes, blocks  # noqa: E402
from costmodel.sweeping.plan import Job, SweepPlan  # noqa: E402
from costmodel.sweeping.plane import Plane  # noqa: E402
from costmodel.sweeping.result import BLOCK  # noqa: E402
from costmodel.sweeping.run import run_sweep  # noqa: E402

MODEL, DEVICE, ENGINE = "Qwen/Qwen3-VL-8B-Instruct", "h100-sxm", "vllm-0.7.2"
BATCHES = (1, 2, 4, 8, 16, 32, 64, 96, 128, 256)
# Images, prompts and outputs of each size; ten batches each.
SIZES = {10**3: (1, 10, 10), 10**4: (2, 20, 25), 10**5: (4, 50, 50), 10**6: (10, 100, 100)}
SIZES |= {10**7: (10, 500, 200), 10**8: (20, 1000, 500)}


def _axes(images: int, prompts: int, outputs: int) -> dict[str, object]:
    return {
        "images": tuple(f"{64 * k}x{48 * k}" for k in range(4, 4 + images)),
        "prompt_tokens": tuple(np.linspace(64, 8000, prompts).astype(int).tolist()),
        "output_tokens": tuple(np.linspace(1, 2000, outputs).astype(int).tolist()),
        "batch": BATCHES,
    }


def computed_s(size: int, interval: float | None) -> tuple[float, float]:
    """Wall-clock and processor seconds of a sweep whose blocks are dropped."""
    model, hardware, engine = load_model(MODEL), load_hardware(DEVICE), load_engine(ENGINE)
    chosen = _axes(*SIZES[size])
    started, cpu = time.perf_counter(), time.process_time()
    axes = Axes.of(chosen["images"], chosen["prompt_tokens"], 0, chosen["output_tokens"], chosen["batch"])  # type: ignore[arg-type]
    pricer, options = set_up(model, hardware, engine)
    plane = Plane(model, pricer, options, axes, interval)
    total = 0.0
    for block in blocks(axes.shape, BLOCK):
        total += float(plane.block(block)["total_s"].sum())
    if not np.isfinite(total) or axes.size != size:
        raise ValueError(f"{axes.size} configurations of {size}, sum {total}")
    return time.perf_counter() - started, time.process_time() - cpu


def written_s(size: int) -> float:
    """Seconds of a sweep written to a Parquet file."""
    plan = SweepPlan(model=(MODEL,), hardware=(DEVICE,), engine=(ENGINE,), **_axes(*SIZES[size]))  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        run_sweep(Job.load(plan), Path(folder) / "all.parquet", progress=lambda share, what: None)
        return time.perf_counter() - started


def main() -> None:
    """Print a table, and draw it."""
    out = Path(sys.argv[1])
    largest = int(float(sys.argv[2])) if len(sys.argv) > 2 else 10**8
    rows = []
    for size in (size for size in SIZES if size <= largest):
        wall_s, cpu_s = computed_s(size, None)
        interval_s = computed_s(size, 0.9)[1] if size <= 10**7 else None
        parquet_s = written_s(size) if size <= 10**6 else None
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append(
            {"size": size, "wall_s": wall_s, "cpu_s": cpu_s, "interval_cpu_s": interval_s, "parquet_s": parquet_s,
             "memory_mib": memory}
        )  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
    _draw(rows, out)


def _draw(rows: list[dict[str, float]], out: Path) -> None:
    import plotly.graph_objects as go

    series = {
        "values, processor time": "cpu_s",
        "values, wall clock": "wall_s",
        "with intervals, processor time": "interval_cpu_s",
        "values to Parquet, wall clock": "parquet_s",
    }
    figure = go.Figure()
    for (name, key), symbol in zip(series.items(), ("circle", "circle-open", "diamond", "square"), strict=True):
        points = [(row["size"], row[key]) for row in rows if row[key] is not None]
        figure.add_scatter(x=[p[0] for p in points], y=[p[1] for p in points], name=name, marker_symbol=symbol)
    sizes = [row["size"] for row in rows]
    figure.add_scatter(x=sizes, y=[size / 1e6 for size in sizes], name="10⁶ a second", line_dash="dot", mode="lines")
    figure.update_xaxes(type="log", title="configurations", exponentformat="power", dtick=1)
    figure.update_yaxes(type="log", title="seconds on one core", exponentformat="power", dtick=1)
    figure.update_layout(
        template="simple_white", width=760, height=460, legend={"x": 0.02, "y": 0.98}, margin={"t": 20, "r": 20}
    )
    figure.write_image(out, scale=2)


if __name__ == "__main__":
    main()
