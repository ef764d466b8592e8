"""Run every policy on the trained pair, measure it, predict it, choose, and compare: four minutes on a quiet machine.

Usage: python examples/experiment/evaluate.py build/experiment [--items 600] [--timed 120] [--seed 2]

Half of the items ask for a colour, which both models can see; half for a mark, whose finer half the small model can't.
Everything is kept in the folder: a run that is killed goes on where it stopped. Delete the folder to measure again.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from compare import checks, policy_rows, selector_rows, write_figures
from measure import ENGINE, calibrate, measure_policies, record
from questions import write_items

from costmodel import load_engine, load_model
from costmodel.policy.choose import choose_policy
from costmodel.policy.goals import Goal
from costmodel.policy.traces import TraceSet, read_traces
from costmodel.render import Format, Table, emit

HERE = Path(__file__).parent


def main() -> None:
    """Measure, then print."""
    parser = argparse.ArgumentParser(description="Evaluate the policies on the trained pair.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path, default=HERE / "weights")
    parser.add_argument("--items", type=int, default=600, help="for accuracies")
    parser.add_argument("--timed", type=int, default=120, help="for latencies")
    parser.add_argument("--seed", type=int, default=2, help="of the items")
    parser.add_argument("--calibration-s", type=float, default=40.0)
    parser.add_argument("--images", type=Path, help="write the figures as PNG to this folder")
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    profile = calibrate(options.weights, out, budget_s=options.calibration_s)
    items = out / "items.jsonl"
    if not items.exists():
        write_items(out, options.items, seed=options.seed)
    traces = read_traces(record(options.weights, items, out / "traces.jsonl"))
    runs = measure_policies(options.weights, items, out / "runs.jsonl", count=options.timed)
    small, large = (load_model(str(options.weights / name)) for name in ("small", "large"))
    engine = load_engine(ENGINE)
    summary: dict[str, Any] = {}
    figures = {}
    for kind in ("colour", "mark"):
        recorded = TraceSet.of([t for t in traces if t.item_id.startswith(kind)], small="small", large="large")
        choice = choose_policy(small, large, recorded, profile, engine, goal=Goal(percentile=50), dtype="fp32")
        here = [row for row in runs if row["item_id"].startswith(kind)]
        timed = {item for row in here if (item := row["item_id"])}
        rows = policy_rows(choice, recorded, here, (small, large), profile, engine)
        emit([_table(kind, rows, len(recorded), len(timed))], "", Format.TABLE)
        emit([_selectors(kind, selector_rows(recorded, choice))], "", Format.TABLE)
        verdict = checks(rows, here)
        print("\n".join(verdict["lines"]) + "\n")
        summary[kind] = {"policies": rows, "verdict": verdict}
        figures[kind] = rows
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    if options.images:
        write_figures(figures, options.images)


def _table(kind: str, rows: list[dict[str, Any]], items: int, timed: int) -> Table:
    return Table(
        title=f"{kind} questions: {items} items, {timed} of them timed",
        columns=("policy", "accuracy", "low", "high", "small tok", "large tok", "measured", "predicted", "error"),
        rows=tuple(
            (
                row["policy"],
                *(f"{100 * row[name]:.1f} %" for name in ("accuracy", "low", "high")),
                f"{row['small_tokens']:.1f}",
                f"{row['large_tokens']:.1f}",
                f"{1000 * row['measured_s']:.1f} ms",
                f"{1000 * row['predicted_s']:.1f} ms",
                f"{100 * row['error']:+.1f} %",
            )
            for row in rows
        ),
        footer=(
            "accuracy with 90 % interval over items; latency and its error: medians over the timed items",
            *(f"routes of {row['policy']}: {_routes(row)}" for row in rows if len(row["routes"]) > 1),
        ),
    )


def _routes(row: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {100 * route['share']:.1f} %"
        + ("" if route["accuracy"] is None else f" (right {100 * route['accuracy']:.1f} %)")
        for name, route in row["routes"].items()
    )


def _selectors(kind: str, rows: list[dict[str, Any]]) -> Table:
    return Table(
        title=f"{kind} questions: what of the reasoning is handed over, always-transfer",
        columns=("selector", "share", "accuracy", "low", "high", "against all", "low", "high", "prompt tok", "answer"),
        rows=tuple(
            (
                row["selector"],
                f"{row['keep_fraction']:g}",
                *(f"{100 * row[name]:.1f} %" for name in ("accuracy", "low", "high")),
                *(f"{100 * row[name]:+.1f}" for name in ("difference", "difference_low", "difference_high")),
                f"{row['transferred_tokens']:.1f}",
                f"{1000 * row['prefill_s']:.2f} ms",
            )
            for row in rows
        ),
        footer=("differences in points, paired by item; answer: predicted time of the large model's answer",),
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
